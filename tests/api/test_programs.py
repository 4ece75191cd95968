"""Programs through the API: made by the platform, read by everybody in them, changed field by field."""

from typing import Any

import pytest

from tests.api.client import CREATE_PROGRAM, Api, World, make_world, unique

PROGRAM = """{ program {
    id slug name currency timezone rounding multiplierStacking maxPointsPerDay pendingDays
    expiry { kind months } debtLimit pointCost earnOnPointsPayments createdAt
} }"""
UPDATE = """mutation ($input: UpdateProgramInput!) { updateProgram(input: $input) {
    program { name rounding multiplierStacking maxPointsPerDay pendingDays expiry { kind months } debtLimit
        pointCost earnOnPointsPayments }
    userErrors { code field message }
} }"""
NEW = {"name": "Harbour Coffee", "currency": "EUR", "timezone": "Europe/Berlin"}
EVERY_SCOPE = {
    "program:read", "program:write", "members:read", "members:write", "rules:read", "rules:write",
    "events:write", "ledger:adjust", "keys:admin", "catalog:read", "catalog:write", "redemptions:read",
    "redemptions:write", "messages:read", "webhooks:admin", "jobs:admin",
}  # fmt: skip


async def create(api: Api, **program: Any) -> Any:
    variables = {"input": NEW | {"slug": unique("harbour")} | program}
    return (await api.call(CREATE_PROGRAM, variables, api.admin))["createProgram"]


async def test_new_program_has_the_defaults_that_the_schema_promises(api: Api) -> None:
    made = await create(api)
    assert made["userErrors"] == []
    program = (await api.call(PROGRAM, token=made["secret"]))["program"]
    assert program.pop("createdAt").endswith("Z")
    assert program == made["program"] | NEW | {
        "rounding": "FLOOR",
        "multiplierStacking": "MULTIPLY",
        "maxPointsPerDay": None,
        "pendingDays": 0,
        "expiry": {"kind": "NEVER", "months": None},
        "debtLimit": 0,
        "pointCost": "0.01",
        "earnOnPointsPayments": False,
    }


async def test_null_in_a_new_program_means_the_default(api: Api) -> None:
    optional = ("rounding", "multiplierStacking", "maxPointsPerDay", "pendingDays", "expiry", "debtLimit")
    made = await create(api, pointCost=None, earnOnPointsPayments=None, **dict.fromkeys(optional))
    program = (await api.call(PROGRAM, token=made["secret"]))["program"]
    assert (program["rounding"], program["pendingDays"], program["pointCost"]) == ("FLOOR", 0, "0.01")


async def test_first_key_of_a_new_program_has_every_scope(api: Api) -> None:
    made = await create(api)
    keys = (await api.call("{ apiKeys { nodes { scopes } } }", token=made["secret"]))["apiKeys"]["nodes"]
    assert [set(key["scopes"]) for key in keys] == [EVERY_SCOPE]


async def test_slug_is_taken_once(api: Api) -> None:
    slug = unique("harbour")
    assert (await create(api, slug=slug))["userErrors"] == []
    again = await create(api, slug=slug)
    assert (again["program"], again["secret"]) == (None, None)
    assert [(e["code"], e["field"]) for e in again["userErrors"]] == [("ALREADY_EXISTS", ["slug"])]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"slug": "Harbour"}, ["slug"]),
        ({"slug": ""}, ["slug"]),
        ({"slug": "a--b"}, ["slug"]),
        ({"slug": "a\0"}, ["slug"]),
        ({"slug": "x" * 65}, ["slug"]),
        ({"name": ""}, ["name"]),
        ({"name": "x" * 201}, ["name"]),
        ({"name": "a\nb"}, ["name"]),
        ({"currency": "eur"}, ["currency"]),
        ({"currency": "EURO"}, ["currency"]),
        ({"timezone": "Mars/Olympus"}, ["timezone"]),
        ({"timezone": "../../etc/passwd"}, ["timezone"]),
        ({"pendingDays": -1}, ["pendingDays"]),
        ({"pendingDays": 3651}, ["pendingDays"]),
        ({"debtLimit": -1}, ["debtLimit"]),
        ({"maxPointsPerDay": 0}, ["maxPointsPerDay"]),
        ({"pointCost": "-0.01"}, ["pointCost"]),
        ({"pointCost": "1000001"}, ["pointCost"]),
        ({"expiry": {"kind": "ROLLING_MONTHS"}}, ["expiry", "months"]),
        ({"expiry": {"kind": "ROLLING_MONTHS", "months": 0}}, ["expiry", "months"]),
        ({"expiry": {"kind": "INACTIVITY_MONTHS", "months": 1201}}, ["expiry", "months"]),
        ({"expiry": {"kind": "NEVER", "months": 3}}, ["expiry", "months"]),
    ],
)  # fmt: skip
async def test_wrong_setting_is_refused_by_its_name(
    api: Api, wrong: dict[str, Any], field: list[str]
) -> None:
    made = await create(api, **wrong)
    assert [(e["code"], e["field"]) for e in made["userErrors"]] == [("INVALID", field)]
    assert made["program"] is None


async def test_everything_that_is_wrong_is_told_at_once(api: Api) -> None:
    made = await create(api, slug="NO", name="", currency="?", timezone="?", debtLimit=-5)
    assert {e["field"][0] for e in made["userErrors"]} == {
        "slug",
        "name",
        "currency",
        "timezone",
        "debtLimit",
    }


async def test_field_that_is_left_out_of_an_update_stays(api: Api) -> None:
    settings = {
        "name": "Before", "rounding": "CEILING", "multiplierStacking": "BEST", "maxPointsPerDay": 500,
        "pendingDays": 3, "expiry": {"kind": "ROLLING_MONTHS", "months": 12}, "debtLimit": 40,
        "pointCost": "0.005", "earnOnPointsPayments": True,
    }  # fmt: skip
    world = await make_world(api, **settings)
    changes = {
        "name": "After", "rounding": "HALF_UP", "multiplierStacking": "ADD", "maxPointsPerDay": 7,
        "pendingDays": 0, "expiry": {"kind": "END_OF_YEAR", "months": None}, "debtLimit": 0,
        "pointCost": "1.25", "earnOnPointsPayments": False,
    }  # fmt: skip
    expected = dict(settings)
    assert (await world.done(UPDATE))["program"] == expected
    for name, value in changes.items():
        expected[name] = value
        assert (await world.done(UPDATE, **{name: value}))["program"] == expected, name


async def test_null_clears_what_can_be_empty(api: Api) -> None:
    world = await make_world(api, maxPointsPerDay=5, expiry={"kind": "INACTIVITY_MONTHS", "months": 6})
    program = (await world.done(UPDATE, maxPointsPerDay=None))["program"]
    assert (program["maxPointsPerDay"], program["expiry"]["months"]) == (None, 6)
    program = (await world.done(UPDATE, expiry=None))["program"]
    assert program["expiry"] == {"kind": "NEVER", "months": None}


@pytest.mark.parametrize(
    "name",
    [
        *("name", "rounding", "multiplierStacking", "pendingDays", "debtLimit", "pointCost"),
        "earnOnPointsPayments",
    ],
)
async def test_null_is_refused_where_there_must_be_something(world: World, name: str) -> None:
    assert await world.refused(UPDATE, **{name: None}) == [("INVALID", [name])]


async def test_wrong_update_changes_nothing(world: World) -> None:
    before = await world.call(PROGRAM)
    assert await world.refused(UPDATE, name="Other", pendingDays=-1) == [("INVALID", ["pendingDays"])]
    assert await world.call(PROGRAM) == before


async def test_member_reads_the_program_but_for_its_costs(world: World) -> None:
    member = await world.api.call("{ program { id name currency expiry { kind } } }", token=world.token)
    assert member["program"]["id"] == world.program
    for secret in ("debtLimit", "pointCost"):
        answer = await world.api.post(f"{{ program {{ {secret} }} }}", token=world.token)
        assert answer.codes == ["FORBIDDEN"]


async def test_point_cost_comes_back_as_it_was_given(world: World) -> None:
    for given, shown in (("0.010000", "0.01"), ("100", "100"), ("0", "0"), ("0.000001", "0.000001")):
        assert (await world.done(UPDATE, pointCost=given))["program"]["pointCost"] == shown
