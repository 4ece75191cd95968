"""The feed of messages through the API: every topic with what it says, filters, cursors, and whose it is."""

from typing import Any

import pytest

from app.ledger.noticing import tell_program
from app.ledger.sweep import sweep_program
from app.messages.topics import Topic
from app.programs.service import update_program
from tests.api.burning import called, done, pass_by
from tests.api.client import CANCEL, CAPTURE, FULFIL, REFUND, USE_CODE, Api, World, make_world, unique
from tests.api.statements import counting
from tests.helpers import rolling, set_now

MESSAGES = """query ($first: Int, $after: String, $topics: [String!], $member: MemberRef) {
    messages(first: $first, after: $after, topics: $topics, member: $member) {
        nodes { id topic payload createdAt cursor member { id externalId } }
        edges { cursor } pageInfo { hasNextPage endCursor }
    }
}"""


async def messages(world: World, token: str | None = None, **asked: Any) -> list[dict[str, Any]]:
    """Return a page of messages; 100 of them unless told otherwise."""
    data = await world.api.call(MESSAGES, {"first": 100} | asked, token or world.key)
    found = data["messages"]
    assert [each["cursor"] for each in found["nodes"]] == [each["cursor"] for each in found["edges"]]
    nodes: list[dict[str, Any]] = found["nodes"]
    return nodes


async def told(world: World, *topics: str) -> list[dict[str, Any]]:
    """Return the payloads of some topics, in their order."""
    return [each["payload"] for each in await messages(world, topics=list(topics))]


async def test_every_step_of_a_redemption_is_told_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.adjust(10_000, reason="Start")
    reward = await world.reward("VOUCHER", generateCodes=True, points=10, name="Cup")
    product = (await world.reward("PRODUCT", points=5))["id"]
    key = unique("key")
    redeemed = await world.redeem(reward["id"], quantity=2, orderId="o-1", idempotencyKey=key)
    await world.redeem(reward["id"], quantity=2, orderId="o-1", idempotencyKey=key)
    for code in redeemed["redemption"]["codes"]:
        done(await called(world, USE_CODE, code=code, key=unique("key")))
    held = (await world.reserve(product, quantity=2))["redemption"]["id"]
    captured = await world.done(CAPTURE, redemptionId=held, idempotencyKey=unique("key"))
    done(await called(world, FULFIL, id=captured["redemption"]["id"], note="Parcel 7"))
    gone = (await world.redeem(product))["redemption"]["id"]
    await world.done(CANCEL, redemptionId=gone, reason="Broken", idempotencyKey=unique("key"))
    await world.reserve(product, holdSeconds=60)
    pass_by(monkeypatch, seconds=61)
    await world.call("{ redemptions { nodes { id } } }")
    found = await messages(world, topics=["redemption.*"])
    assert [each["topic"].partition(".")[2] for each in found] == [
        "confirmed", "used", "reserved", "confirmed", "fulfilled", "confirmed", "cancelled", "reserved",
        "expired",
    ]  # fmt: skip
    assert {each["member"]["id"] for each in found} == {world.member}
    first, used, reserved, _, fulfilled, _, cancelled, _, expired = (each["payload"] for each in found)
    assert first == {
        "redemptionId": redeemed["redemption"]["id"],
        "rewardId": reward["id"],
        "rewardName": "Cup",
        "status": "CONFIRMED",
        "quantity": 2,
        "points": 20,
        "amount": None,
        "orderId": "o-1",
        "reservedUntil": None,
        "note": None,
        "reason": None,
    }
    assert used == first | {"status": "USED"}
    assert (reserved["redemptionId"], reserved["points"], reserved["reservedUntil"][-1]) == (held, 10, "Z")
    assert (fulfilled["redemptionId"], fulfilled["note"]) == (held, "Parcel 7")
    assert (cancelled["redemptionId"], cancelled["reason"]) == (gone, "Broken")
    assert expired["status"] == "EXPIRED"
    (adjusted,) = await told(world, "points.adjusted")
    assert adjusted == {"points": 10_000, "reason": "Start", "available": 10_000}


async def test_points_are_told_from_earning_to_expiring(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, 2026, 3, 1, 12)
    await update_program(world.program_id, {"expiry": rolling(3)})
    await tell_program(world.program_id)
    rule = await world.rule(name="One a euro", pendingDays=5)
    sale = await world.purchase("40", externalId="sale-1")
    await world.purchase("0.50")
    refunded = await world.done(REFUND, purchase={"externalId": "sale-1"}, externalId="back-1", amount="10")
    set_now(monkeypatch, 2026, 3, 6, 12)
    await sweep_program(world.program_id)
    await world.done(REFUND, purchase={"externalId": "sale-1"}, externalId="back-2", amount="5")
    # The sixth of June is the last day.
    for month, day in ((5, 7), (5, 30), (6, 7)):
        set_now(monkeypatch, 2026, month, day, 12)
        await tell_program(world.program_id)
    await sweep_program(world.program_id)
    found = await messages(world)
    assert [each["topic"] for each in found] == [
        "points.earned", "points.taken_back", "points.matured", "points.taken_back", "points.expiring",
        "points.expiring", "points.expired",
    ]  # fmt: skip
    earned, back, matured, _, month, week, expired = (each["payload"] for each in found)
    assert earned == {
        "eventId": sale["event"]["id"],
        "externalId": "sale-1",
        "kind": "PURCHASE",
        "points": 40,
        "awards": [
            {
                "ruleId": rule["id"],
                "rule": "One a euro",
                "points": 40,
                "availableAt": "2026-03-05T23:00:00Z",
                "expiresAt": "2026-06-06T21:59:59Z",
            }
        ],
    }
    assert back == {
        "refundId": refunded["refunds"][0]["id"],
        "refundExternalId": "back-1",
        "eventId": sale["event"]["id"],
        "externalId": "sale-1",
        "points": 10,
        "debt": 0,
        "writtenOff": 0,
        "restored": 0,
    }
    assert matured == {"points": 30, "available": 30, "pending": 0, "day": "2026-03-06"}
    assert month == {"points": 25, "expiresAt": "2026-06-06T21:59:59Z", "days": 30}
    assert week == month | {"days": 7}
    assert expired == {"points": 25, "available": 0, "pending": 0, "day": "2026-06-07"}


async def test_messages_are_read_on_from_any_cursor_by_topic_and_by_member(world: World) -> None:
    friend = await world.enrol()
    reward = (await world.reward(points=1, stock=6, limits={"maxTotal": 6}))["id"]
    for points in (5, 6, 7):
        await world.adjust(points)
        await world.adjust(points, member={"id": friend["id"]})
    await world.redeem(reward, quantity=3)
    found = await messages(world)
    assert found[0]["topic"] == "points.adjusted"
    for n, each in enumerate(found):
        assert await messages(world, after=each["cursor"]) == found[n + 1 :]
    assert await messages(world, topics=[]) == await messages(world, topics=["*"]) == found
    for topics in (["redemption.*"], ["points.adjusted"], ["points.*", "reward.stock_low"], ["tier.up"]):
        kinds = {topic.partition("*")[0] for topic in topics}
        assert await messages(world, topics=topics) == [
            each for each in found if any(each["topic"].startswith(kind) for kind in kinds)
        ]
    mine = await messages(world, member={"externalId": friend["externalId"]})
    assert [each["payload"]["points"] for each in mine] == [5, 6, 7]
    assert {each["member"]["id"] for each in mine} == {friend["id"]}
    assert await messages(world, member={"id": friend["id"]}, after=mine[0]["cursor"]) == mine[1:]
    node = "query ($id: ID!) { node(id: $id) { id ... on Message { topic payload } } }"
    assert (await world.call(node, {"id": found[2]["id"]}))["node"]["payload"] == found[2]["payload"]
    async with counting() as once:
        await messages(world, first=1)
    async with counting() as many:
        assert await messages(world) == found
    assert many.numbers == once.numbers


async def test_what_cannot_be_asked_for_is_refused(world: World, api: Api) -> None:
    await world.adjust(5)
    for variables, path in (
        ({"topics": ["points.lost"]}, "topics"),
        ({"topics": ["points.earned", "poin*"]}, "topics"),
        ({"member": {"externalId": "nobody"}}, "member"),
        ({"first": 101}, "first"),
        ({"after": "x"}, "after"),
    ):
        answer = await api.post(MESSAGES, variables, world.key)
        assert answer.errors, variables
        assert path in str(answer.errors[0]), answer.errors
    for token in (world.token, await world.scoped_key(frozenset({"members:read"}))):
        assert (await api.post(MESSAGES, {}, token)).codes == ["FORBIDDEN"]
    reader = await world.scoped_key(frozenset({"messages:read", "members:read"}))
    assert len(await messages(world, reader)) == 1
    other = await make_world(api)
    assert await messages(other) == []


async def test_every_topic_is_described(world: World) -> None:
    asked = """{ __type(name: "Query") { fields { name args { name description } } } }"""
    fields = (await world.call(asked))["__type"]["fields"]
    (arguments,) = (each["args"] for each in fields if each["name"] == "messages")
    (description,) = (each["description"] for each in arguments if each["name"] == "topics")
    assert all(f"`{topic}`: {topic.description}" in description for topic in Topic)
