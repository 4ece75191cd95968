"""Recording purchases, now and for later: what comes in, how often, and in what order."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from app import clock
from app.coalescing import Coalescer
from app.database import connection
from app.earning import batch as batches
from app.earning import recording
from app.earning.events import MAX_DATA_BYTES, MAX_LINES, Event, Incoming
from app.earning.processing import earn_batch
from app.earning.reads import AwardRecord, get_awards, get_events
from app.earning.recording import Recorded, record_now, store
from app.earning.ruleset import Facts
from app.errors import ErrorCode, Unavailable
from app.jobs.failed import list_failed, retry_failed
from app.jobs.jobs import JobStatus, get_jobs
from app.ledger.expiry import NEVER
from app.ledger.operations import MAX_POINTS, EntryKind
from app.ledger.reads import get_balances
from app.members.inputs import MemberStatus
from app.members.reads import MemberRef, MemberRow
from app.members.service import update_member
from app.outbox.service import MAX_FAILURES
from app.paging import Page
from app.programs.models import Program
from app.programs.service import update_program
from tests.helpers import (
    Line,
    Purchase,
    by_id,
    earn_all,
    find_differences,
    inactivity,
    new_member,
    new_program,
    new_rule,
    policy_of,
    post,
    purchase,
    rolling,
    set_now,
    stamp_all,
    work_all,
)

Record = Callable[..., Awaitable[list[Recorded]]]
both_ways = pytest.mark.parametrize("record", [record_now, store])

NOON = (2026, 3, 2, 12)


async def one(program: Program, member: MemberRow, event: Purchase, record: Record = record_now) -> Recorded:
    (recorded,) = await record(program.id, [Incoming(event, by_id(member))])
    return recorded


def event_of(recorded: Recorded) -> Event:
    assert recorded.event is not None, recorded.errors
    return recorded.event


def problem_of(recorded: Recorded) -> tuple[ErrorCode, tuple[str, ...] | None]:
    """Return the one error that there is: its code and its field."""
    assert recorded.event is None
    (error,) = recorded.errors
    assert error.message.endswith(".")
    return error.code, error.field


async def balance(program: Program, member: MemberRow) -> tuple[int, int]:
    (found,) = await get_balances(await policy_of(program), [member.id])
    assert found
    return found.available, found.pending


async def events_kept(program: Program) -> list[str]:
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT external_id FROM event WHERE program_id = $1 ORDER BY external_id", program.id
        )
    return [row[0] for row in rows]


async def awards_of(program: Program, recorded: Recorded) -> list[AwardRecord]:
    (awards,) = await get_awards(program.id, [event_of(recorded).id])
    return awards


async def as_now(program: Program, recorded: Recorded) -> Event:
    (event,) = await get_events(program.id, [event_of(recorded).id])
    assert event
    return event


# Errors that a caller can put right


def lines(*amounts: str) -> list[Line]:
    return [Line(f"SKU-{n}", Decimal(amount)) for n, amount in enumerate(amounts)]


WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "an amount that disagrees with its lines": ({"amount": "10", "lines": lines("4", "5.99")}, ("amount",)),
    "a foreign currency": ({"currency": "USD"}, ("currency",)),
    "a currency in small letters": ({"currency": "eur"}, ("currency",)),
    "a negative amount": ({"amount": "-0.01"}, ("amount",)),
    "a negative line": ({"amount": None, "lines": lines("5", "-1")}, ("lines", "1", "amount")),
    "an amount beyond all bounds": ({"amount": "1000000000000.01"}, ("amount",)),
    "too many decimals": ({"amount": "0.0000001"}, ("amount",)),
    "not a number": ({"amount": "NaN"}, ("amount",)),
    "a signalling not a number": ({"amount": "sNaN"}, ("amount",)),
    "infinity": ({"amount": "Infinity"}, ("amount",)),
    "minus infinity": ({"amount": "-Infinity"}, ("amount",)),
    "a huge exponent": ({"amount": "1E+400000"}, ("amount",)),
    "a tiny exponent": ({"amount": "1E-400000"}, ("amount",)),
    "a line that is not a number": ({"amount": None, "lines": lines("NaN")}, ("lines", "0", "amount")),
    "neither amount nor lines": ({"amount": None}, ("amount",)),
    "an empty list of lines and no amount": ({"amount": None, "lines": []}, ("amount",)),
    "a quantity of nothing": (
        {"amount": None, "lines": [Line("A", Decimal(1), Decimal(0))]}, ("lines", "0", "quantity"),
    ),
    "an infinite quantity": (
        {"amount": None, "lines": [Line("A", Decimal(1), Decimal("Infinity"))]}, ("lines", "0", "quantity"),
    ),
    "too many lines": ({"amount": None, "lines": lines(*["1"] * (MAX_LINES + 1))}, ("lines",)),
    "a time before all times": ({"occurred_at": datetime(1969, 12, 31, tzinfo=UTC)}, ("occurred_at",)),
    "no external id": ({"external_id": ""}, ("external_id",)),
    "an external id of spaces": ({"external_id": "  "}, ("external_id",)),
    "an external id that is too long": ({"external_id": "x" * 256}, ("external_id",)),
    "an external id with a NUL": ({"external_id": "a\0b"}, ("external_id",)),
    "an external id with half a character": ({"external_id": "a\ud800b"}, ("external_id",)),
    "an external id with a line end": ({"external_id": "a\nb"}, ("external_id",)),
    "an SKU of 10,000 characters": (
        {"amount": None, "lines": [Line("x" * 10_000, Decimal(1))]}, ("lines", "0", "sku"),
    ),
    "an SKU with a NUL": ({"amount": None, "lines": [Line("\0", Decimal(1))]}, ("lines", "0", "sku")),
    "a name with half a character": (
        {"amount": None, "lines": [Line("A", Decimal(1), name="\udfff")]}, ("lines", "0", "name"),
    ),
    "a brand with a NUL": (
        {"amount": None, "lines": [Line("A", Decimal(1), brand="a\0")]}, ("lines", "0", "brand"),
    ),
    "data that is a list": ({"data": [1]}, ("data",)),
    "data that is a text": ({"data": "x"}, ("data",)),
    "data with a NUL": ({"data": {"a": ["\0"]}}, ("data",)),
    "data with a NUL in a key": ({"data": {"\0": 1}}, ("data",)),
    "data with half a character": ({"data": {"a": "\ud800"}}, ("data",)),
    "data that is too large": ({"data": {"a": "x" * MAX_DATA_BYTES}}, ("data",)),
    "data with a number beyond 64 bits": ({"data": {"a": 2**70}}, ("data",)),
}  # fmt: skip


@both_ways
@pytest.mark.parametrize("what", WRONG)
async def test_what_is_wrong_with_a_purchase_is_told_by_field(record: Record, what: str) -> None:
    fields, field = WRONG[what]
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    right, also_right = purchase(1), purchase(2)
    recorded = await record(
        program.id,
        [Incoming(each, by_id(member)) for each in (right, purchase(**fields), also_right)],
    )
    assert problem_of(recorded[1]) == (ErrorCode.INVALID, field)
    # One that is bad does not harm the others.
    assert [event_of(recorded[n]).external_id for n in (0, 2)] == [right.external_id, also_right.external_id]
    assert await events_kept(program) == sorted([right.external_id, also_right.external_id])


@both_ways
async def test_a_purchase_may_lie_five_minutes_ahead_and_not_more(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = set_now(monkeypatch, *NOON)
    program = await new_program()
    member = await new_member(program)
    limit = now + timedelta(minutes=5)
    east = ZoneInfo("Pacific/Kiritimati")
    assert event_of(await one(program, member, purchase(occurred_at=limit.astimezone(east)), record))
    late = await one(program, member, purchase(occurred_at=limit + timedelta(microseconds=1)), record)
    assert problem_of(late) == (ErrorCode.INVALID, ("occurred_at",))


@both_ways
async def test_everything_that_is_wrong_is_told_at_once(record: Record) -> None:
    program = await new_program()
    member = await new_member(program)
    bad = purchase("-1", " x", currency="USD", lines=[Line("", Decimal(1)), Line("B", Decimal("NaN"))])
    recorded = await one(program, member, bad, record)
    assert [error.field for error in recorded.errors] == [
        ("external_id",), ("currency",), ("lines", "0", "sku"), ("lines", "1", "amount"), ("amount",),
    ]  # fmt: skip


@both_ways
@pytest.mark.parametrize(
    ("ref", "field"),
    [
        (MemberRef(external_id="nobody"), "external_id"),
        (MemberRef(email="nobody@example.com"), "email"),
        (MemberRef(id=UUID(int=1)), "id"),
        (MemberRef(external_id="\0"), "external_id"),
        (MemberRef(external_id="\ud800"), "external_id"),
    ],
)
async def test_an_unknown_member_is_told_by_what_named_them(
    record: Record, ref: MemberRef, field: str
) -> None:
    program = await new_program()
    (recorded,) = await record(program.id, [Incoming(purchase(), ref)])
    assert problem_of(recorded) == (ErrorCode.NOT_FOUND, ("member", field))
    assert await events_kept(program) == []


@both_ways
async def test_a_member_of_another_program_is_unknown(record: Record) -> None:
    program, stranger = await new_program(), await new_member(await new_program(), email="ada@example.com")
    for ref in (
        by_id(stranger),
        MemberRef(external_id=stranger.external_id),
        MemberRef(email="ada@example.com"),
    ):
        (recorded,) = await record(program.id, [Incoming(purchase(), ref)])
        assert problem_of(recorded)[0] is ErrorCode.NOT_FOUND


@both_ways
@pytest.mark.parametrize("status", [MemberStatus.SUSPENDED, MemberStatus.CLOSED])
async def test_a_member_who_is_suspended_or_closed_earns_nothing(
    record: Record, status: MemberStatus
) -> None:
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    before = purchase(10)
    await one(program, member, before, record)
    await update_member(program.id, by_id(member), {"status": status})
    assert problem_of(await one(program, member, purchase(), record)) == (ErrorCode.NOT_ELIGIBLE, ("member",))
    # A retry of what was recorded in time is answered as the first time.
    assert (await one(program, member, before, record)).replayed
    assert await events_kept(program) == [before.external_id]


# Once


@both_ways
async def test_an_event_that_comes_five_times_is_earned_once(record: Record) -> None:
    program = await new_program()
    await new_rule(program, 2)
    member = await new_member(program)
    event = purchase("12.50")
    first = await one(program, member, event, record)
    second, third = await asyncio.gather(*(one(program, member, event, record) for _ in range(2)))
    other = await one(program, member, purchase("12.51", event.external_id), record)
    await earn_all(program)
    last = await one(program, member, event, record)
    assert [each.replayed for each in (first, second, third, last)] == [False, True, True, True]
    assert problem_of(other) == (ErrorCode.IDEMPOTENCY_CONFLICT, ("external_id",))
    assert len({event_of(each).id for each in (first, second, third, last)}) == 1
    assert event_of(last).points == 25
    assert await balance(program, member) == (25, 0)
    assert not await find_differences(program.id)


@both_ways
async def test_of_twenty_twins_at_once_one_is_recorded(record: Record) -> None:
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    event = purchase(10)
    recorded = await asyncio.gather(*(one(program, member, event, record) for _ in range(20)))
    assert Counter(each.replayed for each in recorded) == {False: 1, True: 19}
    await earn_all(program)
    assert await balance(program, member) == (10, 0)


SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "zeros at the end": ({"amount": "12.5"}, {"amount": "12.50"}),
    "an exponent": ({"amount": "100"}, {"amount": "1E+2"}),
    "the currency told, or left out": ({"amount": "5"}, {"amount": "5", "currency": "EUR"}),
    "the amount told, or left to the lines": (
        {"amount": "9.99", "lines": lines("4", "5.99")}, {"amount": None, "lines": lines("4.00", "5.990")},
    ),
    "a quantity of one told, or left out": (
        {"lines": [Line("A", Decimal(10))]}, {"lines": [Line("A", Decimal("10.0"), Decimal("1.00"))]},
    ),
    "no lines, or an empty list": ({"lines": None}, {"lines": []}),
    "the same instant in another zone": (
        {"occurred_at": datetime(2026, 3, 1, 12, tzinfo=UTC)},
        {"occurred_at": datetime(2026, 3, 1, 13, tzinfo=ZoneInfo("Europe/Berlin"))},
    ),
    "the keys of data in another order": (
        {"data": {"a": 1, "b": [0.1, None]}}, {"data": {"b": [0.1, None], "a": 1}},
    ),
    "a text that spells an escape": ({"data": {"a": "\\u0000"}}, {"data": {"a": "\\u0000"}}),
    "a text of many scripts": ({"data": {"é": "日本 🎉"}}, {"data": {"é": "日本 🎉"}}),
}  # fmt: skip


@both_ways
@pytest.mark.parametrize("what", SAME)
async def test_the_same_content_told_differently_is_a_replay(
    record: Record, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, *NOON)
    program = await new_program()
    member = await new_member(program)
    first, again = SAME[what]
    original = await one(program, member, purchase(external_id="e", **first), record)
    set_now(monkeypatch, 2026, 3, 3)
    recorded = await one(program, member, purchase(external_id="e", **again), record)
    assert recorded.replayed
    assert event_of(recorded).id == event_of(original).id


OTHER: dict[str, dict[str, Any]] = {
    "another amount": {"amount": "10.01"},
    "lines where there were none": {"lines": lines("10")},
    "data where there was none": {"data": {"till": 7}},
    "a time where there was none": {"occurred_at": datetime(2026, 3, 2, 12, tzinfo=UTC)},
}


@both_ways
@pytest.mark.parametrize("what", OTHER)
async def test_other_content_under_a_known_id_is_a_conflict_and_changes_nothing(
    record: Record, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, *NOON)
    program = await new_program()
    member = await new_member(program)
    original = await one(program, member, purchase(10, "e"), record)
    recorded = await one(program, member, purchase(external_id="e", **OTHER[what]), record)
    assert problem_of(recorded) == (ErrorCode.IDEMPOTENCY_CONFLICT, ("external_id",))
    kept = await as_now(program, original)
    assert (kept.amount, kept.body) == (Decimal(10), event_of(original).body)


@both_ways
async def test_a_time_that_was_told_must_be_told_again(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = set_now(monkeypatch, *NOON)
    program = await new_program()
    member = await new_member(program)
    await one(program, member, purchase(10, "e", occurred_at=now), record)
    assert (await one(program, member, purchase(10, "e", occurred_at=now), record)).replayed
    for other in (purchase(10, "e"), purchase(10, "e", occurred_at=now + timedelta(microseconds=1))):
        assert problem_of(await one(program, member, other, record))[0] is ErrorCode.IDEMPOTENCY_CONFLICT


@both_ways
async def test_a_member_may_be_named_in_any_way_in_a_replay(record: Record) -> None:
    program = await new_program()
    member = await new_member(program, email="Ada@Example.com")
    other = await new_member(program)
    event = purchase()
    for n, ref in enumerate(
        (MemberRef(external_id=member.external_id), MemberRef(email="ada@example.COM"), by_id(member))
    ):
        (recorded,) = await record(program.id, [Incoming(event, ref)])
        assert recorded.replayed == (n > 0)
    assert problem_of(await one(program, other, event, record))[0] is ErrorCode.IDEMPOTENCY_CONFLICT


@both_ways
async def test_an_event_may_stand_twice_in_one_batch(record: Record) -> None:
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    recorded = await record(
        program.id,
        [Incoming(purchase(amount, "e"), by_id(member)) for amount in ("10", "10.0", "11")]
        + [Incoming(purchase(5, "f"), by_id(member))],
    )
    assert [each.replayed for each in recorded[:2]] == [False, True]
    assert problem_of(recorded[2])[0] is ErrorCode.IDEMPOTENCY_CONFLICT
    assert event_of(recorded[1]).points == event_of(recorded[0]).points
    await earn_all(program)
    assert await balance(program, member) == (15, 0)
    assert not await find_differences(program.id)


async def test_two_programs_may_use_the_same_id() -> None:
    for _ in range(2):
        program = await new_program()
        member = await new_member(program)
        assert not (await one(program, member, purchase(10, "the-same"))).replayed


async def test_an_event_sent_both_for_now_and_for_later_is_earned_once() -> None:
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    expected = 0
    for n in range(10):
        event = purchase(7, f"e{n}")
        expected += 7
        recorded = await asyncio.gather(
            *(one(program, member, event, record) for record in (record_now, store, record_now, store))
        )
        assert Counter(each.replayed for each in recorded) == {False: 1, True: 3}
        assert len({event_of(each).id for each in recorded}) == 1
    await earn_all(program)
    assert await balance(program, member) == (expected, 0)
    assert not await find_differences(program.id)


@both_ways
async def test_batches_of_the_same_events_in_opposite_orders_do_not_wait_for_each_other(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once(work: Callable[[], Awaitable[Any]]) -> Any:
        return await work()

    # A deadlock would be an error here: nothing is tried again.
    monkeypatch.setattr(recording, "retrying", once)
    program = await new_program()
    await new_rule(program)
    members = [await new_member(program) for _ in range(20)]
    for round_ in range(4):
        events = [
            Incoming(purchase(1, f"{round_}-{n}"), by_id(member)) for n, member in enumerate(members * 5)
        ]
        async with asyncio.timeout(30):
            results = await asyncio.gather(
                *(record(program.id, order) for order in (events, events[::-1]) * 3)
            )
        fresh = [each for result in results for each in result if not each.replayed]
        assert len(fresh) == len(events)
    await earn_all(program)
    assert await balance(program, members[0]) == (20, 0)
    assert not await find_differences(program.id)


# When, and in which order


async def test_points_are_told_with_the_recording() -> None:
    program = await new_program()
    rule = await new_rule(program, 2, name="Double")
    member = await new_member(program)
    recorded = await one(program, member, purchase("19.99"))
    event = event_of(recorded)
    assert (event.points, event.rejection) == (39, None)
    assert event.processed_at is not None
    (award,) = await awards_of(program, recorded)
    assert (award.rule_id, award.rule_version, award.desired, award.points) == (rule.id, 1, 39, 39)
    assert award.expires_at is None
    assert [step.after for step in award.steps] == [Decimal("39.98"), Decimal(39)]
    assert await as_now(program, recorded) == event


async def test_a_stored_event_earns_nothing_until_a_worker_comes() -> None:
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    recorded = await one(program, member, purchase(10), store)
    assert event_of(recorded).processed_at is None
    assert await balance(program, member) == (0, 0)
    assert not await find_differences(program.id)
    assert await earn_all(program) == 1
    assert (await as_now(program, recorded)).points == 10
    assert await balance(program, member) == (10, 0)
    assert await earn_all(program) == 0


async def test_an_event_of_now_does_not_wait_for_those_of_later() -> None:
    program = await new_program(max_points_per_day=15)
    await new_rule(program)
    member = await new_member(program)
    stored = await one(program, member, purchase(10), store)
    assert event_of(await one(program, member, purchase(10))).points == 10
    await earn_all(program)
    assert (await as_now(program, stored)).points == 5


async def test_points_mature_and_expire_by_the_days_of_the_programs_zone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zone = ZoneInfo("America/New_York")
    now = set_now(monkeypatch, 2026, 1, 29, 23, 30, tz=zone)  # in UTC it is the 30th already
    program = await new_program(timezone="America/New_York", pending_days=2, expiry=rolling(1))
    await new_rule(program)
    member = await new_member(program)
    recorded = await one(program, member, purchase(10, occurred_at=now - timedelta(days=5)))
    (award,) = await awards_of(program, recorded)
    assert award.available_at == datetime(2026, 1, 31, tzinfo=zone)
    assert award.expires_at == datetime(2026, 2, 28, 23, 59, 59, tzinfo=zone)
    assert await balance(program, member) == (0, 10)
    monkeypatch.setattr(clock, "now", lambda: award.available_at - timedelta(seconds=1))
    assert await balance(program, member) == (0, 10)
    monkeypatch.setattr(clock, "now", lambda: award.available_at)
    assert await balance(program, member) == (10, 0)
    monkeypatch.setattr(clock, "now", lambda: award.expires_at)
    assert await balance(program, member) == (10, 0)
    monkeypatch.setattr(clock, "now", lambda: award.expires_at + timedelta(seconds=1))
    assert await balance(program, member) == (0, 0)


async def test_points_that_wait_for_nothing_are_available_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = set_now(monkeypatch, *NOON)
    program = await new_program()
    await new_rule(program)
    recorded = await one(program, await new_member(program), purchase())
    (award,) = await awards_of(program, recorded)
    assert (award.available_at, award.expires_at) == (now, None)


async def test_rules_go_by_when_it_happened_and_the_ledger_by_when_it_was_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 20)
    program = await new_program(expiry=rolling(1))
    await new_rule(program, 5, name="February", ends_at=datetime(2026, 3, 1, tzinfo=UTC),
                   starts_at=datetime(2026, 2, 1, tzinfo=UTC))  # fmt: skip
    now = set_now(monkeypatch, *NOON)
    member = await new_member(program)
    last_month = await one(program, member, purchase(10, occurred_at=datetime(2026, 2, 10, tzinfo=UTC)))
    assert event_of(last_month).points == 50
    assert event_of(await one(program, member, purchase(10))).points == 0
    (award,) = await awards_of(program, last_month)
    assert award.available_at == now
    assert award.expires_at == datetime(2026, 4, 2, 23, 59, 59, tzinfo=UTC)


@both_ways
async def test_the_purchase_that_happened_first_is_served_first(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, 2026, 3, 2, 20)
    program = await new_program(max_points_per_day=120)
    await new_rule(program)
    member = await new_member(program)
    hours = [15, 9, 18, 12]
    events = [
        purchase(50, f"at-{hour}", occurred_at=datetime(2026, 3, 2, hour, tzinfo=UTC)) for hour in hours
    ]
    if record is record_now:
        recorded = await record(program.id, [Incoming(each, by_id(member)) for each in events])
    else:
        recorded = [await one(program, member, each, store) for each in events]
        await earn_all(program)
    points = {
        (await as_now(program, each)).external_id: (await as_now(program, each)).points for each in recorded
    }
    assert points == {"at-9": 50, "at-12": 50, "at-15": 20, "at-18": 0}
    assert not await find_differences(program.id)


# The program's daily cap


async def test_the_cap_counts_the_days_of_the_programs_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    zone = ZoneInfo("Asia/Tokyo")
    set_now(monkeypatch, 2026, 3, 5, tz=zone)
    program = await new_program(timezone="Asia/Tokyo", max_points_per_day=10)
    await new_rule(program)
    member = await new_member(program)
    for day, hour, minute, expected in (
        (2, 23, 59, 8),
        (3, 0, 0, 8),
        (2, 0, 0, 2),
        (3, 23, 59, 2),
        (2, 12, 0, 0),
    ):
        at = datetime(2026, 3, day, hour, minute, tzinfo=zone)
        assert event_of(await one(program, member, purchase(8, occurred_at=at))).points == expected
    assert await balance(program, member) == (20, 0)


async def test_the_cap_is_each_members_own() -> None:
    program = await new_program(max_points_per_day=10)
    await new_rule(program)
    members = [await new_member(program) for _ in range(3)]
    recorded = await record_now(program.id, [Incoming(purchase(8), by_id(each)) for each in members * 2])
    assert [event_of(each).points for each in recorded] == [8, 8, 8, 2, 2, 2]


@pytest.mark.parametrize("way", ["now", "coalesced", "mixed"])
async def test_the_cap_is_exact_under_many_clients_at_once(way: str) -> None:
    program = await new_program(max_points_per_day=100)
    await new_rule(program)
    await new_rule(program, fixed=2)
    member = await new_member(program)
    coalescer = Coalescer(record_now, "recording")
    await coalescer.start()

    async def client(n: int) -> None:
        event = purchase(5 + n % 3)
        if way == "coalesced":
            await coalescer.do(program.id, Incoming(event, by_id(member)))
        else:
            await one(program, member, event, store if way == "mixed" and n % 2 else record_now)

    async with asyncio.timeout(60):
        await asyncio.gather(*(client(n) for n in range(32)))
        await asyncio.gather(*(earn_batch(each) for each in await stamp_all(program)))
        await coalescer.stop()
    assert await balance(program, member) == (100, 0)
    async with connection() as sql:
        counted = await sql.fetch("SELECT points FROM earning_counter WHERE member_id = $1", member.id)
    assert [row[0] for row in counted] == [100]
    assert not await find_differences(program.id)


async def test_more_points_than_can_be_counted_are_refused_cleanly() -> None:
    program = await new_program()
    await new_rule(program)
    member, other = await new_member(program), await new_member(program)
    await post(program, member, EntryKind.ADJUST, MAX_POINTS - 15)
    wishes = [(10, member), (10, member), (5, other), (5, member)]
    recorded = await record_now(
        program.id, [Incoming(purchase(amount), by_id(each)) for amount, each in wishes]
    )
    assert [event_of(each).points for each in recorded] == [10, 0, 5, 5]
    assert "more points than can be counted" in (event_of(recorded[1]).rejection or "")
    assert await balance(program, member) == (MAX_POINTS, 0)
    assert not await find_differences(program.id)


# Workers


async def test_a_member_suspended_meanwhile_is_rejected_with_the_reason() -> None:
    program = await new_program()
    await new_rule(program)
    member, other = await new_member(program), await new_member(program)
    stored = await store(
        program.id, [Incoming(purchase(10), by_id(member)), Incoming(purchase(10), by_id(other))]
    )
    await update_member(program.id, by_id(member), {"status": MemberStatus.SUSPENDED})
    assert await earn_all(program) == 2
    rejected = await as_now(program, stored[0])
    assert (rejected.points, rejected.rejection) == (0, "The member is suspended and earns nothing.")
    assert rejected.processed_at is not None
    assert (await as_now(program, stored[1])).points == 10
    assert await balance(program, member) == (0, 0)
    assert not await find_differences(program.id)


async def test_an_event_that_the_engine_cannot_digest_is_rejected_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluate = batches.evaluate

    def choke(rule_set: Any, facts: Facts, *rest: Any, **more: Any) -> Any:
        if facts.micros == 13_000_000:
            raise ZeroDivisionError
        return evaluate(rule_set, facts, *rest, **more)

    monkeypatch.setattr(batches, "evaluate", choke)
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    stored = await store(program.id, [Incoming(purchase(n), by_id(member)) for n in (12, 13, 14)])
    assert await earn_all(program) == 3
    events = [await as_now(program, each) for each in stored]
    assert [event.points for event in events] == [12, 0, 14]
    assert str(events[1].id) in (events[1].rejection or "")
    assert events[0].rejection is events[2].rejection is None
    assert not await find_differences(program.id)


async def break_books(member: MemberRow) -> None:
    """Give an account points that no lot holds; they are due to expire, and cannot."""
    async with connection() as sql:
        await sql.execute(
            "UPDATE account SET available = 5, lifetime_earned = 5, next_due = '2026-02-02' WHERE id = $1",
            member.id,
        )


async def mend_books(member: MemberRow) -> None:
    async with connection() as sql:
        await sql.execute(
            "UPDATE account SET available = 0, lifetime_earned = 0, next_due = $2 WHERE id = $1",
            member.id,
            NEVER,
        )


async def waiting_members(program: Program) -> list[UUID]:
    """Return who has work waiting in the outbox."""
    async with connection() as sql:
        rows = await sql.fetch("SELECT members FROM outbox WHERE program_id = $1", program.id)
    return [member for row in rows for member in row["members"]]


async def test_a_member_whose_books_disagree_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 1)
    program = await new_program(expiry=inactivity(1))
    await new_rule(program)
    members = [await new_member(program) for _ in range(3)]
    set_now(monkeypatch, *NOON)
    stored = await store(program.id, [Incoming(purchase(10), by_id(each)) for each in members])
    await break_books(members[1])
    with pytest.raises(asyncpg.PostgresError, match="nothing is due") as error:
        await one(program, members[1], purchase(1))
    assert error.value.sqlstate == "LP500"
    assert await earn_all(program) == 2
    assert [(await as_now(program, each)).points for each in stored] == [10, 0, 10]
    assert await waiting_members(program) == [members[1].id]
    await mend_books(members[1])
    set_now(monkeypatch, *NOON[:-1], NOON[-1] + 1)
    assert await earn_all(program) == 1
    assert (await as_now(program, stored[1])).points == 10
    assert not await find_differences(program.id)


async def test_a_member_whose_books_disagree_for_long_is_put_aside_and_earns_when_they_are_mended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 1)
    program = await new_program(expiry=inactivity(1))
    await new_rule(program)
    member = await new_member(program)
    set_now(monkeypatch, *NOON)
    stored = await store(program.id, [Incoming(purchase(n), by_id(member)) for n in (10, 20)])
    await break_books(member)
    for hours in range(MAX_FAILURES):
        set_now(monkeypatch, *NOON[:-1], NOON[-1] + hours)
        assert await waiting_members(program) == [member.id]
        assert await earn_all(program) == 0
    assert await waiting_members(program) == []
    (failed,) = (await list_failed(program.id, Page(10))).items
    assert (failed.queue, failed.subject, failed.attempts) == ("earning", member.id, MAX_FAILURES)
    assert "nothing is due" in failed.error
    await retry_failed(program.id, failed.id)
    await work_all(program)
    (failed,) = (await list_failed(program.id, Page(10))).items
    assert failed.attempts == MAX_FAILURES + 1, "it has failed once more"
    await mend_books(member)
    assert not await find_differences(program.id), "what failed is no difference"
    job = await retry_failed(program.id, failed.id)
    await work_all(program)
    (job,) = await get_jobs(program.id, [job.id])
    assert job.status is JobStatus.SUCCEEDED
    assert [(await as_now(program, each)).points for each in stored] == [10, 20]
    assert not (await list_failed(program.id, Page(10))).items
    assert not await find_differences(program.id)


async def test_a_batch_that_two_workers_take_is_earned_once() -> None:
    program = await new_program(max_points_per_day=1000)
    await new_rule(program)
    members = [await new_member(program) for _ in range(10)]
    await store(program.id, [Incoming(purchase(3), by_id(each)) for each in members * 5])
    (batch,) = await stamp_all(program)
    async with asyncio.timeout(30):
        counts = await asyncio.gather(*(earn_batch(batch) for _ in range(4)))
    assert sum(counts) == 50
    assert [await balance(program, each) for each in members] == [(15, 0)] * 10
    assert not await find_differences(program.id)


async def test_more_events_than_one_transaction_takes_are_all_earned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.earning.processing.CHUNK", 7)
    program = await new_program()
    await new_rule(program)
    members = [await new_member(program) for _ in range(3)]
    await store(program.id, [Incoming(purchase(1), by_id(members[n % 3])) for n in range(28)])
    (batch,) = await stamp_all(program)
    assert await earn_batch(batch) == 28
    assert await earn_batch(batch) == 0
    assert [await balance(program, each) for each in members] == [(10, 0), (9, 0), (9, 0)]
    assert not await find_differences(program.id)


async def test_the_database_coming_and_going_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    stored = await one(program, member, purchase(10), store)
    (batch,) = await stamp_all(program)
    keep = batches._KEEP
    monkeypatch.setattr(batches, "_KEEP", "SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(Unavailable):
        await earn_batch(batch)
    monkeypatch.setattr(batches, "_KEEP", keep)
    assert (await as_now(program, stored)).processed_at is None
    assert await balance(program, member) == (0, 0)
    assert await earn_batch(batch) == 1
    assert await balance(program, member) == (10, 0)
    assert not await find_differences(program.id)


# Recording what arrives at the same moment together


async def test_what_was_taken_is_finished_when_the_process_stops() -> None:
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    coalescer = Coalescer(record_now, "recording")
    await coalescer.start()
    waiting = [
        asyncio.create_task(coalescer.do(program.id, Incoming(purchase(1), by_id(member))))
        for _ in range(150)
    ]
    await asyncio.sleep(0.005)  # the first are under way, the others wait
    async with asyncio.timeout(30):
        await coalescer.stop()
        recorded = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(each) for each in recorded} == {Recorded}
    assert await balance(program, member) == (150, 0)
    with pytest.raises(Unavailable):
        await coalescer.do(program.id, Incoming(purchase(1), by_id(member)))


async def test_one_request_that_fails_does_not_harm_those_recorded_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 1)
    program = await new_program(expiry=inactivity(1))
    await new_rule(program)
    members = [await new_member(program) for _ in range(5)]
    set_now(monkeypatch, *NOON)
    await break_books(members[2])
    coalescer = Coalescer(record_now, "recording")
    await coalescer.start()
    async with asyncio.timeout(30):
        recorded = await asyncio.gather(
            *(coalescer.do(program.id, Incoming(purchase(4), by_id(each))) for each in members),
            return_exceptions=True,
        )
        await coalescer.stop()
    assert [isinstance(each, asyncpg.PostgresError) for each in recorded] == [n == 2 for n in range(5)]
    for member in (*members[:2], *members[3:]):
        assert await balance(program, member) == (4, 0)


async def test_requests_of_several_programs_are_kept_apart() -> None:
    programs = [await new_program() for _ in range(3)]
    members = []
    for n, program in enumerate(programs, start=1):
        await new_rule(program, n)
        members.append(await new_member(program))
    coalescer = Coalescer(record_now, "recording")
    await coalescer.start()
    async with asyncio.timeout(30):
        recorded = await asyncio.gather(
            *(
                coalescer.do(program.id, Incoming(purchase(10, f"e{n}"), by_id(member)))
                for n in range(10)
                for program, member in zip(programs, members, strict=True)
            )
        )
        await coalescer.stop()
    assert [event_of(each).points for each in recorded[:3]] == [10, 20, 30]
    assert [await balance(*each) for each in zip(programs, members, strict=True)] == [
        (100, 0), (200, 0), (300, 0),
    ]  # fmt: skip


async def test_a_caller_who_goes_away_does_not_harm_the_others() -> None:
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    coalescer = Coalescer(record_now, "recording")
    await coalescer.start()
    tasks = [
        asyncio.create_task(coalescer.do(program.id, Incoming(purchase(2), by_id(member)))) for _ in range(20)
    ]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    async with asyncio.timeout(30):
        recorded = await asyncio.gather(*tasks[1::2])
        await coalescer.stop()
    assert all(event_of(each).points == 2 for each in recorded)
    # What had been handed in is recorded, whether somebody still waits for the answer or not.
    assert (await balance(program, member))[0] == 40


async def test_too_many_waiting_requests_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.coalescing._MAX_WAITING", 5)
    program = await new_program()
    member = await new_member(program)
    coalescer = Coalescer(record_now, "recording")
    tasks = [
        asyncio.create_task(coalescer.do(program.id, Incoming(purchase(2), by_id(member)))) for _ in range(8)
    ]
    await asyncio.sleep(0)
    await coalescer.start()
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await coalescer.stop()
    assert [type(each) for each in outcomes] == [Recorded] * 5 + [Unavailable] * 3


async def test_a_cap_that_is_set_in_the_middle_of_a_day_counts_what_was_earned_before_it():
    program = await new_program()
    member = await new_member(program)
    await new_rule(program)
    await record_now(program.id, [Incoming(purchase(50), by_id(member))])
    await update_program(program.id, {"max_points_per_day": 60})
    (recorded,) = await record_now(program.id, [Incoming(purchase(50), by_id(member))])
    assert recorded.event.points == 10
