"""Tiers through the API: made, changed field by field, given to members by hand."""

from typing import Any

import pytest

from tests.api.client import CREATE_TIER, Api, World, make_world
from tests.api.statements import counting
from tests.helpers import set_now

ALL = "id name rank threshold multiplier benefits"
UPDATE = f"""mutation ($id: ID!, $input: TierInput!) {{ updateTier(id: $id, input: $input) {{
    tier {{ {ALL} }} userErrors {{ code field message }}
}} }}"""
SET = """mutation ($input: SetMemberTierInput!) { setMemberTier(input: $input) {
    member { id tier { id name } } userErrors { code field message }
} }"""
TIERS = f"{{ tiers {{ {ALL} }} }}"
MINE = "{ viewer { tier { id } } }"
TIER_OF = "query ($id: ID!) { member(by: {id: $id}) { tier { id } } }"
GOLD: dict[str, Any] = {
    "name": "Gold", "threshold": "1000.50", "multiplier": "1.5", "benefits": ["Free delivery", "Coffee"],
}  # fmt: skip
BASE = {"name": "Gold", "threshold": "1000.50"}


async def update(world: World, tier: str, **changes: Any) -> Any:
    return (await world.call(UPDATE, {"id": tier, "input": BASE | changes}))["updateTier"]


async def give(world: World, tier: str | None, **fields: Any) -> Any:
    """Give the world's member a tier, and return the tier that they then have."""
    base = {"member": {"id": world.member}, "tierId": tier, "reason": "Goodwill"}
    return (await world.done(SET, **(base | fields)))["member"]["tier"]


def problems(payload: Any) -> list[tuple[str, list[str] | None]]:
    return [(error["code"], error["field"]) for error in payload["userErrors"]]


async def test_tier_comes_back_as_it_was_given(world: World) -> None:
    tier = (await world.done(CREATE_TIER, **GOLD))["tier"]
    assert tier == GOLD | {"id": tier["id"], "rank": 1}
    assert (await world.call(TIERS))["tiers"] == [tier]
    query = f"query ($id: ID!) {{ node(id: $id) {{ ... on Tier {{ {ALL} }} }} }}"
    assert (await world.call(query, {"id": tier["id"]}))["node"] == tier


async def test_tier_that_says_little_multiplies_by_one_and_brings_nothing_else(world: World) -> None:
    for threshold, more in (("1", {}), ("2", {"benefits": None})):
        tier = (await world.done(CREATE_TIER, name="Plain", threshold=threshold, **more))["tier"]
        assert (tier["multiplier"], tier["benefits"]) == ("1", [])


async def test_tiers_are_listed_by_rank_from_where_everybody_starts(world: World) -> None:
    for threshold in ("1000", "500", "0"):
        await world.tier(threshold)
    tiers = (await world.call(TIERS))["tiers"]
    assert [(tier["rank"], tier["threshold"]) for tier in tiers] == [(0, "0"), (1, "500"), (2, "1000")]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, ["name"]),
        ({"name": "a\0b"}, ["name"]),
        ({"threshold": "-1"}, ["threshold"]),
        ({"threshold": "1000000000001"}, ["threshold"]),
        ({"multiplier": "0"}, ["multiplier"]),
        ({"multiplier": "1001"}, ["multiplier"]),
        ({"multiplier": None}, ["multiplier"]),
        ({"benefits": ["x"] * 51}, ["benefits"]),
        ({"benefits": ["fine", "x" * 201]}, ["benefits", "1"]),
    ],
)
async def test_tier_that_cannot_be_is_refused_by_field(world: World, wrong: Any, field: list[str]) -> None:
    assert await world.refused(CREATE_TIER, **(GOLD | wrong)) == [("INVALID", field)]
    tier = (await world.done(CREATE_TIER, **GOLD))["tier"]
    payload = await update(world, tier["id"], **wrong)
    assert (payload["tier"], problems(payload)) == (None, [("INVALID", field)])
    assert (await world.call(TIERS))["tiers"] == [tier]


async def test_threshold_is_taken_once(world: World) -> None:
    first = await world.done(CREATE_TIER, **GOLD)
    assert await world.done(CREATE_TIER, **GOLD) == first
    other = await world.tier("5")
    same = GOLD | {"name": "Another"}
    assert await world.refused(CREATE_TIER, **same) == [("ALREADY_EXISTS", ["threshold"])]
    assert problems(await update(world, other["id"])) == [("ALREADY_EXISTS", ["threshold"])]


async def test_field_that_is_left_out_of_an_update_stays(world: World) -> None:
    tier = (await world.done(CREATE_TIER, **GOLD))["tier"]
    for change in (
        {"multiplier": "2"}, {"benefits": ["Tea"]}, {"name": "Golden"},
        {"name": "Golden", "threshold": "7"}, {"name": "Golden", "threshold": "7", "benefits": None},
    ):  # fmt: skip
        tier |= BASE | change | ({"benefits": []} if change.get("benefits", "") is None else {})
        assert (await update(world, tier["id"], **change))["tier"] == tier
    assert (await world.call(TIERS))["tiers"] == [tier]


@pytest.mark.parametrize("tier_id", ["", "none", "\0", "VGllcjo", "x" * 500])
async def test_unknown_tier_is_not_found(world: World, tier_id: str) -> None:
    assert problems(await update(world, tier_id)) == [("NOT_FOUND", ["id"])]
    given = {"member": {"id": world.member}, "tierId": tier_id, "reason": "x"}
    assert await world.refused(SET, **given) == [("NOT_FOUND", ["tierId"])]


async def test_tier_of_another_program_is_not_found(world: World, api: Api) -> None:
    theirs = await (await make_world(api)).tier()
    assert problems(await update(world, theirs["id"])) == [("NOT_FOUND", ["id"])]
    given = {"member": {"id": world.member}, "tierId": theirs["id"], "reason": "x"}
    assert await world.refused(SET, **given) == [("NOT_FOUND", ["tierId"])]
    assert (await world.call(TIERS))["tiers"] == []


async def test_member_has_no_tier_where_there_is_none_to_start_in(world: World) -> None:
    assert (await world.call(TIER_OF, {"id": world.member}))["member"]["tier"] is None
    await world.tier("500")
    assert (await world.call(TIER_OF, {"id": world.member}))["member"]["tier"] is None


async def test_member_starts_in_the_tier_of_rank_zero_and_comes_back_to_it(world: World) -> None:
    start, gold = await world.tier("0"), await world.tier("1000")
    assert (await world.api.call(MINE, token=world.token))["viewer"]["tier"] == {"id": start["id"]}
    assert (await give(world, gold["id"]))["id"] == gold["id"]
    assert (await world.api.call(MINE, token=world.token))["viewer"]["tier"] == {"id": gold["id"]}
    assert (await give(world, None))["id"] == start["id"]


async def test_tier_that_is_left_out_is_taken_away(world: World) -> None:
    gold = await world.tier("1000")
    await give(world, gold["id"])
    done = await world.done(SET, member={"externalId": world.external_id}, reason="Mistake")
    assert done["member"] == {"id": world.member, "tier": None}


async def test_tier_counts_from_since_until_before_until(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold = await world.tier("1000")
    times = {"since": "2030-01-01T00:00:00Z", "until": "2031-01-01T00:00:00+01:00"}
    assert await give(world, gold["id"], **times) is None
    for moment, tier in (
        ((2029, 12, 31, 23, 59, 59), None),
        ((2030, 1, 1), {"id": gold["id"]}),
        ((2030, 12, 31, 22, 59, 59), {"id": gold["id"]}),
        ((2030, 12, 31, 23), None),
    ):
        set_now(monkeypatch, *moment)
        assert (await world.call(TIER_OF, {"id": world.member}))["member"]["tier"] == tier


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"reason": " "}, ["reason"]),
        ({"reason": "x" * 501}, ["reason"]),
        ({"until": "2020-01-01T00:00:00Z"}, ["until"]),
        ({"since": "2020-01-01T00:00:00Z", "until": "2020-01-01T00:00:00Z"}, ["until"]),
    ],
)
async def test_tier_that_cannot_be_given_so_is_refused_by_field(
    world: World, wrong: Any, field: list[str]
) -> None:
    gold = await world.tier("1000")
    given = {"member": {"id": world.member}, "tierId": gold["id"], "reason": "x"}
    assert await world.refused(SET, **(given | wrong)) == [("INVALID", field)]


@pytest.mark.parametrize("how", ["id", "externalId", "email"])
async def test_member_who_is_not_there_is_told_by_how_they_were_named(world: World, how: str) -> None:
    refused = await world.refused(SET, member={how: "nobody"}, reason="x")
    assert refused == [("NOT_FOUND", ["member", how])]


async def test_each_of_several_mutations_answers_with_the_tier_after_it(world: World) -> None:
    silver, gold = await world.tier("500"), await world.tier("1000")
    query = """mutation ($a: SetMemberTierInput!, $b: SetMemberTierInput!) {
        a: setMemberTier(input: $a) { member { tier { id } } }
        b: setMemberTier(input: $b) { member { tier { id } } }
    }"""
    base = {"member": {"id": world.member}, "reason": "x"}
    data = await world.call(query, {"a": base | {"tierId": silver["id"]}, "b": base | {"tierId": gold["id"]}})
    assert [data[each]["member"]["tier"]["id"] for each in "ab"] == [silver["id"], gold["id"]]


async def test_tiers_of_a_page_of_members_cost_two_statements(world: World) -> None:
    await world.tier("0")
    gold = await world.tier("1000")
    for _ in range(9):
        await world.enrol()
    await give(world, gold["id"])
    query = "query ($first: Int!) { members(first: $first) { nodes { name %s } } }"

    async def cost(selected: str, first: int) -> int:
        costs = []
        for _ in range(3):
            async with counting() as counted:
                await world.call(query % selected, {"first": first})
            costs.append(len(counted.statements))
        return min(costs)

    without = await cost("", 10)
    assert [await cost("tier { name rank }", first) for first in (2, 10)] == [without + 2] * 2


async def test_key_needs_the_scopes_of_members_and_of_rules_to_see_whose_tier_is_what(world: World) -> None:
    await world.tier()
    query = "{ members { nodes { tier { id } } } }"
    for scopes in ({"members:read"}, {"rules:read"}):
        answer = await world.api.post(query, token=await world.scoped_key(frozenset(scopes)))
        assert answer.codes == ["FORBIDDEN"]
    token = await world.scoped_key(frozenset({"members:read", "rules:read"}))
    assert len((await world.api.call(query, token=token))["members"]["nodes"]) == 1
