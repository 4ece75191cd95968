"""Giveaways through the API: anybody who reads it can repeat the draw."""

import hashlib
import logging
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.api.client import CANCEL, Api, World, make_world, unique, uuid_of

DRAW = """mutation ($reward: ID!, $key: String!) { drawGiveaway(rewardId: $reward, idempotencyKey: $key) {
    winner { id won drawEntry { key } member { id } reward { drawSeed drawnAt } }
    replayed userErrors { code field message }
} }"""
SEEN = """query ($id: ID!, $first: Int, $after: String) { reward(id: $id) {
    drawSeedHash drawSeed drawnAt winningEntry { key tickets enteredAt }
    entries(first: $first, after: $after) {
        nodes { key tickets enteredAt } edges { cursor } pageInfo { hasNextPage endCursor }
    }
} }"""
OWN = "query ($id: ID!) { redemption(id: $id) { won drawEntry { key tickets enteredAt } } }"


async def draw(world: World, reward: str, key: str | None = None, token: str | None = None) -> Any:
    variables = {"reward": reward, "key": key or unique("key")}
    return (await world.api.call(DRAW, variables, token or world.key))["drawGiveaway"]


async def seen(world: World, token: str, reward: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what a credential sees of a giveaway, and all of its entries, page by page."""
    entries: list[dict[str, Any]] = []
    after = None
    while True:
        shown = (await world.api.call(SEEN, {"id": reward, "first": 2, "after": after}, token))["reward"]
        page = shown.pop("entries")
        entries += page["nodes"]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return shown, entries


def repeated(seed: str, entries: list[dict[str, Any]]) -> str:
    """Repeat a draw by the rule that the API describes."""

    def number(key: str, n: int) -> int:
        return int.from_bytes(hashlib.sha256(f"{seed}:{key}:{n}".encode()).digest())

    return min((number(each["key"], n + 1), each["key"]) for each in entries for n in range(each["tickets"]))[
        1
    ]


async def giveaway(world: World, entries: int = 5) -> tuple[str, list[dict[str, Any]]]:
    """Set up a giveaway, in which several take part, the world's member first."""
    reward = (await world.reward("GIVEAWAY", points=10))["id"]
    made = []
    for n in range(entries):
        member = world.member if n == 0 else (await world.enrol())["id"]
        await world.adjust(1000, member={"id": member})
        done = await world.redeem(reward, member={"id": member}, quantity=n + 1)
        made.append({"member": member, **done["redemption"]})
    return reward, made


async def test_member_repeats_the_draw_from_what_the_api_gives(world: World) -> None:
    for _ in range(3):
        reward, made = await giveaway(world)
        before, entries = await seen(world, world.token, reward)
        assert (before["drawSeed"], before["drawnAt"], before["winningEntry"]) == (None, None, None)
        assert [each["tickets"] for each in entries] == [1, 2, 3, 4, 5]
        drawn = await draw(world, reward)
        after, still = await seen(world, world.token, reward)
        assert still == entries
        assert after["drawSeedHash"] == before["drawSeedHash"]
        assert hashlib.sha256(bytes.fromhex(after["drawSeed"])).hexdigest() == before["drawSeedHash"]
        winner = repeated(after["drawSeed"], entries)
        assert after["winningEntry"] in entries
        assert after["winningEntry"]["key"] == winner == drawn["winner"]["drawEntry"]["key"]
        assert uuid_of(drawn["winner"]["id"]).hex == winner
        assert drawn["winner"]["won"] is True
        assert drawn["winner"]["reward"] == {name: after[name] for name in ("drawSeed", "drawnAt")}
        (won,) = [each for each in made if each["id"] == drawn["winner"]["id"]]
        assert won["member"] == drawn["winner"]["member"]["id"]
        for each in made:
            own = (await world.call(OWN, {"id": each["id"]}))["redemption"]
            assert own["won"] is (each is won)
            assert own["drawEntry"] in entries
        own = (await world.api.call(OWN, {"id": made[0]["id"]}, world.token))["redemption"]
        assert own == {"won": made[0] is won, "drawEntry": entries[0]}


async def test_draw_is_answered_again_and_refused_under_another_key(world: World) -> None:
    reward, _ = await giveaway(world, 2)
    first = await draw(world, reward, "spring")
    again = await draw(world, reward, "spring")
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert again["winner"] == first["winner"]
    refused = await draw(world, reward, "summer")
    assert (refused["winner"], refused["replayed"]) == (None, False)
    (error,) = refused["userErrors"]
    assert (error["code"], error["field"]) == ("WRONG_STATE", ["rewardId"])
    assert error["message"].startswith("The giveaway was drawn on 20")
    other, _ = await giveaway(world, 1)
    (error,) = (await draw(world, other, "spring"))["userErrors"]
    assert (error["code"], error["field"]) == ("IDEMPOTENCY_CONFLICT", ["idempotencyKey"])


async def test_what_is_no_giveaway_or_nobody_entered_is_not_drawn(api: Api, world: World) -> None:
    stranger = await make_world(api)
    theirs, _ = await giveaway(stranger, 1)
    wrong = {
        theirs: "NOT_FOUND",
        world.member: "NOT_FOUND",
        "nonsense": "NOT_FOUND",
        (await world.reward())["id"]: "INVALID",
        (await world.reward("GIVEAWAY"))["id"]: "WRONG_STATE",
        (await world.reward("GIVEAWAY", status="DRAFT"))["id"]: "WRONG_STATE",
    }
    for reward, code in wrong.items():
        (error,) = (await draw(world, reward))["userErrors"]
        assert (error["code"], error["field"]) == (code, ["rewardId"])
    (error,) = (await draw(world, theirs, "x" * 256))["userErrors"]
    assert (error["code"], error["field"]) == ("INVALID", ["idempotencyKey"])


async def test_keys_that_may_redeem_draw_and_nobody_else(world: World) -> None:
    query = """mutation ($reward: ID!, $key: String!) {
        drawGiveaway(rewardId: $reward, idempotencyKey: $key) { replayed userErrors { code } }
    }"""
    reward, _ = await giveaway(world, 1)
    variables = {"reward": reward, "key": "key"}
    for scope, allowed in [
        ("redemptions:write", True),
        ("catalog:write", False),
        ("redemptions:read", False),
        ("catalog:read", False),
    ]:
        key = await world.scoped_key(frozenset({scope}))
        answer = await world.api.post(query, variables, key)
        assert (answer.codes == []) is allowed, scope
    assert (await world.api.post(query, variables, world.token)).codes == ["FORBIDDEN"]


async def test_entries_show_nobody_and_other_rewards_have_none(world: World) -> None:
    reward, made = await giveaway(world, 3)
    product = (await world.reward(points=10))["id"]
    done = (await world.redeem(product))["redemption"]
    await world.done(CANCEL, redemptionId=made[1]["id"], reason="No", idempotencyKey=unique("key"))
    for token in (world.key, world.token):
        _, entries = await seen(world, token, reward)
        assert [set(each) for each in entries] == [{"key", "tickets", "enteredAt"}] * 2
        assert [each["tickets"] for each in entries] == [1, 3]
        assert (await seen(world, token, product))[1] == []
        own = (await world.api.call(OWN, {"id": done["id"]}, token))["redemption"]
        assert own == {"won": None, "drawEntry": None}
        assert (await world.api.call(OWN, {"id": made[0]["id"]}, token))["redemption"]["won"] is None
    assert (await world.api.call(OWN, {"id": made[2]["id"]}, world.token))["redemption"] is None
    both = "query ($a: String) { catalog { nodes { entries(last: 1, before: $a) { nodes { tickets } } } } }"
    assert (await world.call(both))["catalog"]["nodes"] == [
        {"entries": {"nodes": [{"tickets": 3}]}},
        {"entries": {"nodes": []}},
    ]
    answer = await world.post(SEEN, {"id": reward, "after": "bm9uc2Vuc2U"})
    assert answer.codes == ["BAD_USER_INPUT"]


async def test_seed_is_in_no_answer_and_no_log_before_the_draw(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logs, caplog.at_level(logging.DEBUG):
        reward, _ = await giveaway(world, 2)
        answers = [str(await seen(world, token, reward)) for token in (world.key, world.token)]
        everything = "{ catalog { nodes { id drawSeed drawSeedHash } } redemptions { nodes { id codes } } }"
        answers.append(str(await world.call(everything)))
    await draw(world, reward)
    (shown, _) = await seen(world, world.token, reward)
    for text in (*answers, str(logs), caplog.text):
        assert shown["drawSeed"] not in text
