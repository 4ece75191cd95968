"""Balances, entries and adjustments through the API."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.api.client import ADJUST, Api, World, make_world, unique

BALANCE = """query ($id: ID!, $days: Int) { member(by: {id: $id}) { balance {
    available pending reserved debt lifetimeEarned lifetimeSpent lifetimeExpired
    expiring(withinDays: $days) { points expiresAt }
} } }"""
ENTRIES = """query ($id: ID!) { member(by: {id: $id}) { ledger(first: 100) { nodes {
    id sequence kind points pendingChange reservedChange availableAfter reason
    event { externalId } occurredAt recordedAt expiresAt
} } } }"""
UPDATE = """mutation ($input: UpdateMemberInput!) {
    updateMember(input: $input) { member { id } userErrors { code } }
}"""
MOST = 2**53 - 1


def adjustment(world: World, **changes: Any) -> dict[str, Any]:
    base = {"member": {"id": world.member}, "points": 5, "reason": "Sorry", "idempotencyKey": unique("key")}
    return base | changes


async def balance(world: World, days: int | None = 30) -> Any:
    return (await world.call(BALANCE, {"id": world.member, "days": days}))["member"]["balance"]


async def entries(world: World) -> Any:
    return (await world.call(ENTRIES, {"id": world.member}))["member"]["ledger"]["nodes"]


async def test_adjustment_answers_with_its_entry_and_the_new_balance(world: World) -> None:
    done = await world.done(ADJUST, **adjustment(world, points=50))
    entry = done["entry"]
    assert (entry["sequence"], entry["kind"], entry["points"], entry["availableAfter"]) == (
        1,
        "ADJUST",
        50,
        50,
    )
    assert (entry["reason"], done["replayed"]) == ("Sorry", False)
    assert done["member"] == {"id": world.member, "balance": {"available": 50}}
    taken = await world.done(ADJUST, **adjustment(world, points=-20, member={"email": world.email}))
    assert (taken["entry"]["points"], taken["entry"]["availableAfter"]) == (-20, 30)
    assert (await world.call("query ($id: ID!) { node(id: $id) { id } }", {"id": entry["id"]}))["node"]


async def test_balance_adds_up(world: World) -> None:
    await world.rule()
    await world.purchase("10")
    await world.adjust(5)
    await world.adjust(-3)
    assert await balance(world) == {
        "available": 12, "pending": 0, "reserved": 0, "debt": 0, "lifetimeEarned": 12, "lifetimeSpent": 0,
        "lifetimeExpired": 0, "expiring": [],
    }  # fmt: skip


async def test_entries_are_numbered_without_a_gap_and_say_where_they_come_from(world: World) -> None:
    await world.rule(name="Welcome")
    event = (await world.purchase("10", occurredAt="2026-03-01T09:30:00Z"))["event"]
    await world.adjust(-4, reason="Taken back")
    adjusted, earned = await entries(world)
    assert (adjusted["sequence"], earned["sequence"]) == (2, 1)
    assert (adjusted["kind"], adjusted["points"], adjusted["reason"]) == ("ADJUST", -4, "Taken back")
    assert adjusted["event"] is None
    assert (earned["kind"], earned["points"], earned["reason"]) == ("EARN", 10, "Welcome")
    assert earned["event"] == {"externalId": event["externalId"]}
    assert earned["occurredAt"] == "2026-03-01T09:30:00Z" < earned["recordedAt"]
    assert (earned["availableAfter"], adjusted["availableAfter"]) == (10, 6)


async def test_same_key_adjusts_once(world: World) -> None:
    sent = adjustment(world)
    first = await world.done(ADJUST, **sent)
    await world.adjust(100)
    again = await world.done(ADJUST, **sent)
    assert again["replayed"] is True
    assert again["entry"] == first["entry"]
    assert again["member"]["balance"]["available"] == 105


@pytest.mark.parametrize("other", [{"points": 6}, {"points": -5}, {"reason": "Another"}])
async def test_same_key_with_other_content_is_a_conflict(world: World, other: dict[str, Any]) -> None:
    sent = adjustment(world)
    await world.done(ADJUST, **sent)
    assert await world.refused(ADJUST, **(sent | other)) == [("IDEMPOTENCY_CONFLICT", ["idempotencyKey"])]
    assert (await balance(world))["available"] == 5


async def test_same_key_for_another_member_is_a_conflict(world: World) -> None:
    sent = adjustment(world)
    await world.done(ADJUST, **sent)
    other = await world.enrol()
    for ref in ({"id": other["id"]}, {"externalId": other["externalId"]}):
        refused = await world.refused(ADJUST, **(sent | {"member": ref}))
        assert refused == [("IDEMPOTENCY_CONFLICT", ["idempotencyKey"])]


async def test_same_key_by_another_name_of_the_member_is_a_replay(world: World) -> None:
    sent = adjustment(world)
    await world.done(ADJUST, **sent)
    for ref in ({"externalId": world.external_id}, {"email": world.email.upper()}):
        assert (await world.done(ADJUST, **(sent | {"member": ref})))["replayed"] is True


async def test_same_key_many_times_at_once_adjusts_once(world: World) -> None:
    sent = adjustment(world)
    answers = await asyncio.gather(*(world.done(ADJUST, **sent) for _ in range(20)))
    assert len({answer["entry"]["id"] for answer in answers}) == 1
    assert sorted(answer["replayed"] for answer in answers) == [False] + [True] * 19
    assert (await balance(world))["available"] == 5


async def test_same_key_for_two_members_at_once_serves_one(world: World) -> None:
    other = await world.enrol()
    key = unique("key")
    wanted = [
        adjustment(world, idempotencyKey=key, member={"id": who}) for who in (world.member, other["id"]) * 5
    ]
    answers = await asyncio.gather(*(world.do(ADJUST, **each) for each in wanted))
    assert len({answer["entry"]["id"] for answer in answers if answer["entry"]}) == 1
    assert [e["code"] for answer in answers for e in answer["userErrors"]] == ["IDEMPOTENCY_CONFLICT"] * 5


async def test_refused_adjustment_leaves_its_key_free(world: World) -> None:
    sent = adjustment(world, points=-5)
    assert await world.refused(ADJUST, **sent) == [("INSUFFICIENT_POINTS", ["points"])]
    await world.adjust(5)
    assert (await world.done(ADJUST, **sent))["replayed"] is False


@pytest.mark.parametrize(
    ("wrong", "code", "field"),
    [
        ({"points": 0}, "INVALID", ["points"]),
        ({"points": -1}, "INSUFFICIENT_POINTS", ["points"]),
        ({"points": -MOST}, "INSUFFICIENT_POINTS", ["points"]),
        ({"reason": ""}, "INVALID", ["reason"]),
        ({"reason": " "}, "INVALID", ["reason"]),
        ({"reason": "x" * 501}, "INVALID", ["reason"]),
        ({"reason": "a\0"}, "INVALID", ["reason"]),
        ({"idempotencyKey": ""}, "INVALID", ["idempotencyKey"]),
        ({"idempotencyKey": "x" * 256}, "INVALID", ["idempotencyKey"]),
        ({"idempotencyKey": "a\0"}, "INVALID", ["idempotencyKey"]),
        ({"member": {"id": "none"}}, "NOT_FOUND", ["member", "id"]),
        ({"member": {"externalId": "nobody"}}, "NOT_FOUND", ["member", "externalId"]),
        ({"member": {"email": "\0"}}, "NOT_FOUND", ["member", "email"]),
    ],
)
async def test_wrong_adjustment_is_refused_by_field(
    world: World, wrong: dict[str, Any], code: str, field: list[str]
) -> None:
    assert await world.refused(ADJUST, **adjustment(world, **wrong)) == [(code, field)]


async def test_balance_never_passes_what_json_can_count(world: World) -> None:
    await world.adjust(MOST)
    assert await world.refused(ADJUST, **adjustment(world, points=1)) == [("LIMIT_REACHED", ["points"])]
    assert (await balance(world))["available"] == MOST
    await world.adjust(-MOST)
    assert (await balance(world))["available"] == 0


@pytest.mark.parametrize("points", [2**53, -(2**53), 10**30, 1.5, "5", True, None])
async def test_points_that_are_no_points_never_reach_the_ledger(world: World, points: Any) -> None:
    answer = await world.post(ADJUST, {"input": adjustment(world, points=points)})
    assert answer.codes == ["BAD_USER_INPUT"]
    assert "INTERNAL" not in str(answer.body)


async def test_suspended_member_can_be_adjusted_and_a_closed_one_not(world: World) -> None:
    await world.done(UPDATE, member={"id": world.member}, status="SUSPENDED")
    sent = adjustment(world)
    await world.done(ADJUST, **sent)
    await world.done(UPDATE, member={"id": world.member}, status="CLOSED")
    assert await world.refused(ADJUST, **adjustment(world)) == [("WRONG_STATE", ["member"])]
    assert (await world.done(ADJUST, **sent))["replayed"] is True


async def test_expiring_points_are_told_soonest_first(api: Api) -> None:
    world = await make_world(api, expiry={"kind": "ROLLING_MONTHS", "months": 1})
    await world.adjust(10)
    zone = ZoneInfo("Europe/Berlin")
    (told,) = (await balance(world, 40))["expiring"]
    assert told["points"] == 10
    last = datetime.fromisoformat(told["expiresAt"]).astimezone(zone)
    assert (last.hour, last.minute, last.second) == (23, 59, 59)
    assert 27 <= (last.date() - datetime.now(zone).date()).days <= 31
    assert (await balance(world, 5))["expiring"] == []
    assert (await balance(world, 0))["expiring"] == []


async def test_expiring_counts_from_today_and_thirty_days_when_it_is_not_said(api: Api) -> None:
    world = await make_world(api, expiry={"kind": "END_OF_YEAR"})
    await world.adjust(10)
    today = datetime.now(ZoneInfo("Europe/Berlin")).date()
    left = (today.replace(month=12, day=31) - today).days
    assert [each["points"] for each in (await balance(world, left))["expiring"]] == [10]
    assert (await balance(world, left - 1))["expiring"] == [] if left else True
    query = "query ($id: ID!) { member(by: {id: $id}) { balance { expiring { points } } } }"
    found = await world.call(query, {"id": world.member})
    assert (found["member"]["balance"]["expiring"] != []) is (left <= 30)
    assert (await balance(world, None))["expiring"] == (await balance(world, 30))["expiring"]


async def test_idle_points_are_told_as_expiring_together(api: Api) -> None:
    world = await make_world(api, expiry={"kind": "INACTIVITY_MONTHS", "months": 1})
    await world.adjust(10)
    await world.adjust(5)
    assert [each["points"] for each in (await balance(world, 40))["expiring"]] == [15]


@pytest.mark.parametrize("days", [-1, 3661, 2**31 - 1])
async def test_expiring_looks_no_further_than_ten_years(world: World, days: int) -> None:
    answer = await world.post(BALANCE, {"id": world.member, "days": days})
    assert answer.codes == ["BAD_USER_INPUT"]
    assert answer.error["extensions"]["field"] == ["withinDays"]
    assert "3660" in answer.error["message"]


async def test_member_reads_their_own_balance_and_entries(world: World) -> None:
    await world.adjust(5, reason="For the queue")
    query = "{ viewer { balance { available } ledger { nodes { points reason } } } }"
    assert (await world.api.call(query, token=world.token))["viewer"] == {
        "balance": {"available": 5},
        "ledger": {"nodes": [{"points": 5, "reason": "For the queue"}]},
    }


async def test_dates_of_an_adjustment_are_now(world: World) -> None:
    await world.adjust(5)
    (entry,) = await entries(world)
    assert abs((datetime.fromisoformat(entry["recordedAt"]) - datetime.now(UTC)).total_seconds()) < 30
    assert entry["occurredAt"] == entry["recordedAt"]
