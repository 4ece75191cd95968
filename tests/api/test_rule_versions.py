"""What a rule said before, through the API: each change is kept as a version, and told in full."""

import base64
from typing import Any

import pytest

from app.earning.rule_versions import list_versions
from app.paging import Page
from tests.api.client import Api, World, make_world, uuid_of
from tests.api.statements import counting
from tests.api.test_rules import ALL, BASE, CREATE, FULL, KINDS, SET, UPDATE

SAID = ALL.removeprefix("id ").replace("updatedAt", "")
PAGE = "nodes { version } edges { cursor } pageInfo { hasNextPage hasPreviousPage endCursor startCursor }"
VERSIONS = f"query ($id: ID!) {{ earningRule(id: $id) {{ {ALL} versions {{ nodes {{ {SAID} }} }} }} }}"
PAGES = f"""query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String) {{
    earningRule(id: $id) {{
        versions(first: $first, after: $after, last: $last, before: $before) {{ {PAGE} }}
    }}
}}"""
MANY = "{ earningRules(first: 50) { nodes { name versions(first: 2) { nodes { version name } } } } }"


async def create(world: World, **rule: Any) -> dict[str, Any]:
    return (await world.done(CREATE, **(BASE | rule)))["earningRule"]


async def change(world: World, rule: str, **changes: Any) -> dict[str, Any]:
    payload = (await world.call(UPDATE, {"id": rule, "input": BASE | changes}))["updateEarningRule"]
    assert payload["userErrors"] == []
    return payload["earningRule"]


async def changed_often(world: World, times: int) -> str:
    """Return a rule with so many versions."""
    rule = (await create(world, fixedPoints=1))["id"]
    for fixed in range(2, times + 1):
        await change(world, rule, fixedPoints=fixed)
    return rule


async def pages(world: World, rule: str, **arguments: Any) -> Any:
    return (await world.call(PAGES, {"id": rule} | arguments))["earningRule"]["versions"]


def numbers(page: Any) -> list[int]:
    return [each["version"] for each in page["nodes"]]


def said(rule: dict[str, Any]) -> dict[str, Any]:
    """Return what a version tells of a rule that was answered with right after the change."""
    told = {name: value for name, value in rule.items() if name not in ("id", "updatedAt")}
    return told | {"createdAt": rule["updatedAt"]}


async def test_every_change_can_be_read_later_in_full_the_latest_first(world: World) -> None:
    tier, store = await world.tier(), await world.store()
    states = [await create(world, **FULL)]
    rule = states[0]["id"]
    audience = {"tierIds": [tier["id"]], "storeIds": [store["id"]]}
    states.append(await change(world, rule, **KINDS[0], audience=audience))
    states.append(await change(world, rule, name="Other", description=None))
    paused = (await world.call(SET, {"id": rule, "status": "PAUSED"}))["setEarningRuleStatus"]
    states.append(paused["earningRule"])
    # Nothing changes, and so nothing is kept.
    await change(world, rule, name="Other")
    read = (await world.call(VERSIONS, {"id": rule}))["earningRule"]
    versions = read.pop("versions")["nodes"]
    assert read == states[-1]
    assert [each["version"] for each in versions] == [4, 3, 2, 1]
    assert versions == [said(each) for each in reversed(states)]
    assert versions[-1]["createdAt"] == read["createdAt"]


@pytest.mark.parametrize("given", KINDS, ids=lambda rule: rule["trigger"])
async def test_version_of_a_rule_of_every_kind_says_what_the_rule_does(world: World, given: Any) -> None:
    rule = await create(world, **given)
    read = (await world.call(VERSIONS, {"id": rule["id"]}))["earningRule"]
    assert read["versions"]["nodes"] == [said(rule)]


async def test_award_is_understood_by_the_version_that_gave_it(world: World) -> None:
    rule = await create(world, fixedPoints=5, description="Five for everybody")
    event = (await world.purchase("1"))["event"]["id"]
    await change(world, rule["id"], fixedPoints=9, description="Now nine")
    query = """query ($id: ID!) { event(by: {id: $id}) { awards {
        ruleVersion points rule { fixedPoints versions { nodes { version fixedPoints description } } }
    } } }"""
    (award,) = (await world.call(query, {"id": event}))["event"]["awards"]
    (then,) = [each for each in award["rule"]["versions"]["nodes"] if each["version"] == award["ruleVersion"]]
    assert (award["points"], award["rule"]["fixedPoints"]) == (5, 9)
    assert then == {"version": 1, "fixedPoints": 5, "description": "Five for everybody"}


async def test_versions_are_read_in_pages_forward_and_backward(world: World) -> None:
    rule = await changed_often(world, 7)
    first = await pages(world, rule, first=3)
    assert numbers(first) == [7, 6, 5]
    assert (first["pageInfo"]["hasNextPage"], first["pageInfo"]["hasPreviousPage"]) == (True, False)
    await change(world, rule, fixedPoints=100)
    rest = await pages(world, rule, first=10, after=first["pageInfo"]["endCursor"])
    assert numbers(rest) == [4, 3, 2, 1]
    oldest = await pages(world, rule, last=2)
    assert numbers(oldest) == [2, 1]
    before = await pages(world, rule, last=2, before=oldest["pageInfo"]["startCursor"])
    assert numbers(before) == [4, 3]
    cursors = [edge["cursor"] for edge in (await pages(world, rule, first=8))["edges"]]
    assert numbers(await pages(world, rule, first=8, after=cursors[1], before=cursors[4])) == [6, 5]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"first": 0}, "first"),
        ({"last": 101}, "last"),
        ({"first": 1, "last": 1}, "last"),
        ({"after": "garbage"}, "after"),
        ({"before": base64.urlsafe_b64encode(b'["ledger",1]').decode().rstrip("=")}, "before"),
    ],
)
async def test_page_of_versions_that_cannot_be_is_refused(
    world: World, arguments: dict[str, Any], field: str
) -> None:
    rule = await create(world, fixedPoints=1)
    answer = await world.post(PAGES, {"id": rule["id"]} | arguments)
    assert (answer.codes, answer.error["extensions"]["field"]) == (["BAD_USER_INPUT"], [field])


@pytest.mark.parametrize("number", [2**31, 2**63 - 1])
async def test_cursor_that_somebody_made_up_is_beyond_all_versions(world: World, number: int) -> None:
    rule = await create(world, fixedPoints=1)
    cursor = base64.urlsafe_b64encode(f'["versions",{number}]'.encode()).decode().rstrip("=")
    assert numbers(await pages(world, rule["id"], after=cursor)) == [1]
    assert numbers(await pages(world, rule["id"], before=cursor)) == []


@pytest.mark.parametrize("rules", [1, 12])
async def test_versions_of_many_rules_are_read_at_once(world: World, rules: int) -> None:
    for n in range(rules):
        made = await world.rule(name=f"Rule {n}", fixedPoints=1)
        for fixed in (2, 3):
            await change(world, made["id"], name=f"Rule {n}", fixedPoints=fixed)
    costs = []
    # The least of three: a key's last use may be written in the middle of one.
    for _ in range(3):
        async with counting() as counted:
            listed = (await world.call(MANY))["earningRules"]["nodes"]
        costs.append(counted.numbers)
    assert min(costs) == (2, 0)
    assert [each["versions"]["nodes"] for each in listed] == [
        [{"version": version, "name": f"Rule {n}"} for version in (3, 2)] for n in range(rules)
    ]


async def test_member_reads_no_versions_not_even_of_a_rule_that_paid(world: World) -> None:
    await world.rule()
    event = (await world.purchase())["event"]["id"]
    query = "query ($id: ID!) { event(by: {id: $id}) { awards { rule { versions { nodes { name } } } } } }"
    answer = await world.api.post(query, {"id": event}, world.token)
    assert answer.codes == ["FORBIDDEN"]


async def test_versions_of_another_programs_rule_are_like_none(api: Api) -> None:
    ours, theirs = await make_world(api), await make_world(api)
    own, foreign = uuid_of((await ours.rule())["id"]), uuid_of((await theirs.rule())["id"])
    found = await list_versions(ours.program_id, [foreign, own], Page())
    assert [[rule.id for rule in page.items] for page in found] == [[], [own]]
