"""Members through the API: enrolled once, found three ways, changed field by field, closed for good."""

import asyncio
from typing import Any

import pytest

from tests.api.client import ENROL, World, unique

ALL = "id externalId email phone name birthday locale attributes status joinedAt"
CREATE = f"""mutation ($input: EnrollMemberInput!) {{ enrollMember(input: $input) {{
    member {{ {ALL} }} replayed userErrors {{ code field message }}
}} }}"""
UPDATE = f"""mutation ($input: UpdateMemberInput!) {{ updateMember(input: $input) {{
    member {{ {ALL} }} userErrors {{ code field message }}
}} }}"""
MEMBER = f"query ($by: MemberRef!) {{ member(by: $by) {{ {ALL} }} }}"
SEARCH = "query ($search: String) { members(search: $search) { nodes { id } } }"
PROFILE: dict[str, Any] = {
    "email": "Ada@Example.com", "phone": "+49 (30) 123-45", "name": "Ada Lovelace", "birthday": "1990-02-28",
    "locale": "de-AT", "attributes": {"shoe": 38, "likes": ["tea", None], "__proto__": {"a": True}},
}  # fmt: skip
EMPTY = dict.fromkeys(PROFILE) | {"attributes": {}}


async def test_member_is_enrolled_with_everything_and_an_empty_balance(world: World) -> None:
    profile = PROFILE | {"email": f"{unique('ada')}@example.com"}
    sent = profile | {"externalId": unique("member"), "joinedAt": "2020-05-01T12:00:00.5+02:00"}
    member = (await world.done(CREATE, **sent))["member"]
    assert member == sent | {
        "id": member["id"], "status": "ACTIVE", "joinedAt": "2020-05-01T10:00:00.500000Z",
    }  # fmt: skip
    query = """query ($by: MemberRef!) { member(by: $by) {
        balance { available pending reserved debt lifetimeEarned lifetimeSpent lifetimeExpired
            expiring { points } }
        ledger { nodes { id } } events { nodes { id } }
    } }"""
    found = (await world.call(query, {"by": {"id": member["id"]}}))["member"]
    assert set(found["balance"].values() if "expiring" not in found["balance"] else []) <= {0}
    assert found["balance"].pop("expiring") == []
    assert set(found["balance"].values()) == {0}
    assert (found["ledger"], found["events"]) == ({"nodes": []}, {"nodes": []})


async def test_external_id_alone_is_enough_and_null_is_nothing(world: World) -> None:
    for given in ({}, dict.fromkeys((*PROFILE, "joinedAt"))):
        member = (await world.done(CREATE, externalId=unique("m"), **given))["member"]
        assert {name: member[name] for name in EMPTY} == EMPTY


async def test_enrolling_again_answers_with_who_is_there_and_changes_nothing(world: World) -> None:
    first = await world.done(CREATE, externalId=world.external_id)
    assert (first["replayed"], first["member"]["id"]) == (True, world.member)
    again = await world.done(CREATE, externalId=world.external_id, name="Other", email="other@example.com")
    assert again == first


async def test_many_enrolments_at_once_make_one_member(world: World) -> None:
    external_id = unique("member")
    answers = await asyncio.gather(*(world.done(ENROL, externalId=external_id) for _ in range(10)))
    assert len({answer["member"]["id"] for answer in answers}) == 1
    assert sorted(answer["replayed"] for answer in answers) == [False] + [True] * 9


async def test_address_belongs_to_one_member_whatever_its_case(world: World) -> None:
    wrong = {"externalId": unique("m"), "email": world.email.upper()}
    assert await world.refused(CREATE, **wrong) == [("ALREADY_EXISTS", ["email"])]
    other = await world.enrol()
    change = {"member": {"id": other["id"]}, "email": world.email.title()}
    assert await world.refused(UPDATE, **change) == [("ALREADY_EXISTS", ["email"])]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"externalId": ""}, "externalId"),
        ({"externalId": " a"}, "externalId"),
        ({"externalId": "a\0b"}, "externalId"),
        ({"externalId": "x" * 256}, "externalId"),
        ({"email": "ada"}, "email"),
        ({"email": "a@b@c"}, "email"),
        ({"email": "x" * 320 + "@x"}, "email"),
        ({"email": ""}, "email"),
        ({"phone": "call me"}, "phone"),
        ({"phone": "+" * 41}, "phone"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"birthday": "1899-12-31"}, "birthday"),
        ({"birthday": "2999-01-01"}, "birthday"),
        ({"locale": "de_AT"}, "locale"),
        ({"attributes": []}, "attributes"),
        ({"attributes": "text"}, "attributes"),
        ({"attributes": {"a": "\0"}}, "attributes"),
        ({"attributes": {"a": "x" * 16_400}}, "attributes"),
        ({"joinedAt": "2999-01-01T00:00:00Z"}, "joinedAt"),
        ({"joinedAt": "1800-01-01T00:00:00Z"}, "joinedAt"),
    ],
)  # fmt: skip
async def test_wrong_profile_is_refused_by_field(world: World, wrong: dict[str, Any], field: str) -> None:
    assert await world.refused(CREATE, **({"externalId": unique("m")} | wrong)) == [("INVALID", [field])]
    if field not in ("externalId", "joinedAt"):
        assert await world.refused(UPDATE, member={"id": world.member}, **wrong) == [("INVALID", [field])]


async def test_json_that_is_too_deep_is_refused_before_anything_runs(world: World) -> None:
    deep: Any = "end"
    for _ in range(30):
        deep = {"a": deep}
    answer = await world.post(CREATE, {"input": {"externalId": unique("m"), "attributes": deep}})
    assert answer.codes == ["BAD_USER_INPUT"]
    assert "nested" in answer.error["message"]


async def test_field_that_is_left_out_of_an_update_stays(world: World) -> None:
    profile = PROFILE | {"email": f"{unique('ada')}@example.com"}
    sent = {"externalId": unique("m")} | profile
    expected = (await world.done(CREATE, **sent))["member"]
    ref = {"member": {"externalId": sent["externalId"]}}
    assert (await world.done(UPDATE, **ref))["member"] == expected
    changes = {
        "email": f"{unique('bob')}@example.com", "phone": "112", "name": "Bob", "birthday": "2000-02-29",
        "locale": "en", "attributes": {"new": 1}, "status": "SUSPENDED",
    }  # fmt: skip
    for name, value in changes.items():
        expected[name] = value
        assert (await world.done(UPDATE, **ref, **{name: value}))["member"] == expected, name


async def test_null_clears_each_field_by_itself(world: World) -> None:
    sent = {"externalId": unique("m")} | PROFILE | {"email": f"{unique('ada')}@example.com"}
    expected = (await world.done(CREATE, **sent))["member"]
    for name in PROFILE:
        expected[name] = EMPTY[name]
        changed = (await world.done(UPDATE, member={"id": expected["id"]}, **{name: None}))["member"]
        assert changed == expected, name


async def test_null_is_no_status(world: World) -> None:
    assert await world.refused(UPDATE, member={"id": world.member}, status=None) == [("INVALID", ["status"])]


async def test_closed_membership_stays_closed(world: World) -> None:
    for status in ("SUSPENDED", "ACTIVE", "CLOSED", "CLOSED"):
        changed = await world.done(UPDATE, member={"id": world.member}, status=status)
        assert changed["member"]["status"] == status
    wrong = {"member": {"id": world.member}, "status": "ACTIVE"}
    assert await world.refused(UPDATE, **wrong) == [("WRONG_STATE", ["status"])]


async def test_nobody_cannot_be_changed(world: World) -> None:
    for ref in ({"id": "none"}, {"externalId": "nobody"}, {"email": "nobody@example.com"}, {"id": ""}):
        ((code, field),) = await world.refused(UPDATE, member=ref, name="X")
        assert (code, field[0]) == ("NOT_FOUND", "member")


async def test_member_is_found_by_id_by_external_id_and_by_address(world: World) -> None:
    for ref in ({"id": world.member}, {"externalId": world.external_id}, {"email": world.email.upper()}):
        assert (await world.call(MEMBER, {"by": ref}))["member"]["id"] == world.member


@pytest.mark.parametrize(
    "ref",
    [
        {"id": ""}, {"id": "none"}, {"id": "\0"}, {"id": "x" * 10_000}, {"externalId": ""},
        {"externalId": "a\0"}, {"externalId": "x" * 10_000}, {"email": "\0@x"}, {"email": ""},
        {"externalId": "' OR true --"}, {"externalId": "%"}, {"id": "UHJvZ3JhbTo"}, {"id": "TWVtYmVyOj0"},
    ],
)  # fmt: skip
async def test_reference_to_nobody_finds_nobody(world: World, ref: dict[str, str]) -> None:
    assert await world.call(MEMBER, {"by": ref}) == {"member": None}


@pytest.mark.parametrize(
    "ref", [{}, {"id": None}, {"id": "a", "email": "b"}, {"id": "a", "email": None}, {"phone": "1"}, None]
)
async def test_reference_names_exactly_one_thing(world: World, ref: Any) -> None:
    answer = await world.post(MEMBER, {"by": ref})
    assert answer.codes
    assert set(answer.codes) <= {"BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"}


async def test_external_id_in_any_script_is_kept_as_it_is(world: World) -> None:
    for external_id in (
        "Ωmega-é-你好-👩",
        "__proto__",
        "a/b?c#d%00",
        "x" * 255,
        "'; DROP TABLE member; --",
    ):
        member = await world.enrol(externalId=external_id)
        assert member["externalId"] == external_id
        found = await world.call(MEMBER, {"by": {"externalId": external_id}})
        assert found["member"]["id"] == member["id"]


async def test_search_finds_by_how_a_name_an_address_a_phone_or_an_id_begins(world: World) -> None:
    name = unique("Zoë")
    member = await world.enrol(name=name, email=f"{unique('zoe')}@example.com", phone="0800 555")
    for search in (
        name[:5],
        name.upper()[:2],
        member["email"][:6].upper(),
        "0800",
        member["externalId"],
        f" {name} ",
    ):
        found = (await world.call(SEARCH, {"search": search}))["members"]["nodes"]
        assert {"id": member["id"]} in found, search
    for search in ("%", "_", "\\", "no such", "555"):
        assert (await world.call(SEARCH, {"search": search}))["members"]["nodes"] == [], search


async def test_search_that_is_no_line_of_text_is_refused(world: World) -> None:
    for search in ("a\0b", "x" * 321):
        answer = await world.post(SEARCH, {"search": search})
        assert (answer.codes, answer.error["extensions"]["field"]) == (["BAD_USER_INPUT"], ["search"])


async def test_member_sees_their_own_profile(world: World) -> None:
    found = (await world.api.call(f"{{ viewer {{ {ALL} }} }}", token=world.token))["viewer"]
    assert (found["id"], found["email"], found["name"]) == (world.member, world.email, "Ada")


async def test_suspended_member_still_reads(world: World) -> None:
    await world.done(UPDATE, member={"id": world.member}, status="SUSPENDED")
    assert (await world.api.call("{ viewer { status } }", token=world.token))["viewer"][
        "status"
    ] == "SUSPENDED"
