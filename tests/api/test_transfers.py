"""Sending points through the API, as a key and as a member; what is on its way can be seen."""

from typing import Any

import pytest

from app.outbox.service import Queue
from app.transfers.arriving import arrive_members
from tests.api.client import Api, World, make_world, unique, uuid_of
from tests.api.statements import counting
from tests.helpers import find_differences, stamp_all

TRANSFER = """mutation ($input: TransferPointsInput!) { transferPoints(input: $input) {
    entry { id sequence kind points availableAfter reason redemption { id } event { id } }
    replayed userErrors { code field message }
} }"""
BALANCE = """query ($id: ID!) { member(by: {id: $id}) {
    balance { available pending reserved inTransit lifetimeEarned lifetimeSpent }
    ledger(first: 5) { nodes { kind points reason expiresAt redemption { id } event { id } } }
} }"""
MEMBERS = "query ($first: Int!) { members(first: $first) { nodes { balance { available inTransit } } } }"
UPDATE = "mutation ($input: UpdateMemberInput!) { updateMember(input: $input) { userErrors { code } } }"


async def work(world: World) -> None:
    """Do what a worker does about transfers."""
    for batch in await stamp_all(world, Queue.TRANSFERS):  # type: ignore[arg-type] # anything with an id
        await arrive_members(world.program_id, [uuid_of(world.member)], batch)


async def as_member(world: World, token: str, **input: Any) -> Any:
    """Send with a member's own token, and return the payload."""
    input = {"to": {"id": world.member}, "points": 1, "idempotencyKey": unique("key")} | input
    return (await world.api.call(TRANSFER, {"input": input}, token))["transferPoints"]


def errors(payload: Any) -> list[tuple[str, list[str]]]:
    assert payload["entry"] is None
    return [(error["code"], error["field"]) for error in payload["userErrors"]]


@pytest.fixture
async def world(api: Api) -> World:
    return await make_world(api)


async def test_a_key_sends_the_points_of_a_member_whoever_they_are_named_by(world: World) -> None:
    bob = await world.enrol(email=f"{unique('bob')}@example.com")
    await world.adjust(100, member={"id": bob["id"]})
    key = unique("key")
    said = {"from": {"email": bob["email"].upper()}, "to": {"externalId": world.external_id}, "points": 60}
    done = await world.done(TRANSFER, **said, idempotencyKey=key)
    entry = done["entry"]
    assert (entry["kind"], entry["points"], entry["availableAfter"]) == ("REDEEM", -60, 40)
    assert (entry["reason"], entry["redemption"], entry["event"]) == (f"To {world.external_id}", None, None)
    assert not done["replayed"]
    again = await world.done(TRANSFER, **said, idempotencyKey=key)
    assert again == {"entry": entry, "replayed": True, "userErrors": []}
    balance = (await world.call(BALANCE, {"id": world.member}))["member"]["balance"]
    assert (balance["available"], balance["inTransit"], balance["lifetimeEarned"]) == (0, 60, 0)
    await work(world)
    ada = (await world.call(BALANCE, {"id": world.member}))["member"]
    assert ada["balance"] == {
        "available": 60, "pending": 0, "reserved": 0, "inTransit": 0,
        "lifetimeEarned": 60, "lifetimeSpent": 0,
    }  # fmt: skip
    assert ada["ledger"]["nodes"] == [
        {
            "kind": "EARN", "points": 60, "reason": f"From {bob['externalId']}", "expiresAt": None,
            "redemption": None, "event": None,
        }
    ]  # fmt: skip
    assert not await find_differences(world.program_id)


async def test_what_is_wrong_is_told_of_each_field(world: World) -> None:
    bob = await world.enrol()
    await world.adjust(10)
    good = {"from": {"id": world.member}, "to": {"id": bob["id"]}, "points": 5, "idempotencyKey": "key"}
    for change, expected in (
        ({"from": None}, [("INVALID", ["from"])]),
        ({"points": 0, "idempotencyKey": ""}, [("INVALID", ["points"]), ("INVALID", ["idempotencyKey"])]),
        (
            {"from": {"externalId": "nobody"}, "to": {"email": "no@b.dy"}},
            [("NOT_FOUND", ["from", "externalId"]), ("NOT_FOUND", ["to", "email"])],
        ),
        ({"to": {"externalId": world.external_id}}, [("INVALID", ["to"])]),
        ({"points": 11}, [("INSUFFICIENT_POINTS", ["points"])]),
    ):
        assert await world.refused(TRANSFER, **(good | change)) == expected
    without = {name: value for name, value in good.items() if name != "from"}
    assert await world.refused(TRANSFER, **without) == [("INVALID", ["from"])]
    await world.done(TRANSFER, **good)
    assert await world.refused(TRANSFER, **(good | {"points": 4})) == [
        ("IDEMPOTENCY_CONFLICT", ["idempotencyKey"])
    ]
    await world.done(UPDATE, member={"id": bob["id"]}, status="SUSPENDED")
    more = good | {"idempotencyKey": "more"}
    assert await world.refused(TRANSFER, **more) == [("NOT_ELIGIBLE", ["to"])]
    for scopes, codes in ((("redemptions:write",), ["FORBIDDEN"]), (("ledger:adjust",), [])):
        key = await world.scoped_key(frozenset(scopes))
        answer = await world.api.post(
            "mutation ($input: TransferPointsInput!) { transferPoints(input: $input) { replayed } }",
            {"input": good},
            key,
        )
        assert answer.codes == codes


async def test_a_member_sends_their_own_points_and_learns_nothing_of_others(world: World) -> None:
    bob = await world.enrol(email=f"{unique('bob')}@example.com")
    token = await world.token_for(bob["id"])
    await world.adjust(100, member={"id": bob["id"]})
    for who in ({}, {"from": {"id": bob["id"]}}, {"from": {"email": bob["email"]}}):
        done = await as_member(world, token, **who)
        assert (done["entry"]["points"], done["userErrors"]) == (-1, [])
    for other in ({"id": world.member}, {"externalId": world.external_id}, {"externalId": "nobody"}):
        (field,) = other
        assert errors(await as_member(world, token, **{"from": other})) == [("NOT_FOUND", ["from", field])]
    assert errors(await as_member(world, token, to={"id": bob["id"]})) == [("INVALID", ["to"])]
    # A key stands in the member's own books.
    for sender in (None, {"id": bob["id"]}):
        done = await as_member(world, token, idempotencyKey="mine", **{"from": sender})
        assert done["replayed"] == (sender is not None)
    await world.done(
        TRANSFER, **{"from": {"id": bob["id"]}}, to={"id": world.member}, points=9, idempotencyKey="mine"
    )
    refusals = []
    for status in ("SUSPENDED", "CLOSED", None):
        if status is None:
            to = "nobody@example.com"
        else:
            to = f"{unique('eve')}@example.com"
            eve = await world.enrol(email=to)
            await world.done(UPDATE, member={"id": eve["id"]}, status=status)
        said = {"to": {"email": to}}
        refusals += [await as_member(world, token, **said, idempotencyKey=key) for key in ("mine", "new")]
    assert errors(refusals[0]) == [("IDEMPOTENCY_CONFLICT", ["idempotencyKey"])]
    assert errors(refusals[1]) == [("NOT_FOUND", ["to", "email"])]
    assert refusals == refusals[:2] * 3
    await world.done(UPDATE, member={"id": bob["id"]}, status="SUSPENDED")
    assert errors(await as_member(world, token)) == [("NOT_ELIGIBLE", ["from"])]
    assert not await find_differences(world.program_id)


async def test_what_is_on_its_way_to_a_page_of_members_costs_nothing_more(world: World) -> None:
    others = [await world.enrol() for _ in range(12)]
    await world.adjust(100)
    for other in others:
        said = {"from": {"id": world.member}, "to": {"id": other["id"]}, "points": 2}
        await world.done(TRANSFER, **said, idempotencyKey=unique("key"))
    costs = set()
    for first in (2, 13):
        await world.call(MEMBERS, {"first": first})
        async with counting() as counted:
            nodes = (await world.call(MEMBERS, {"first": first}))["members"]["nodes"]
        costs.add(counted.numbers)
        assert [node["balance"]["inTransit"] for node in nodes] == [0, *[2] * (first - 1)]
    assert len(costs) == 1, costs
