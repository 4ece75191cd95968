"""When points die: the four kinds of expiry, in the program's local days, swept or not."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app import clock, days
from app.database import connection
from app.ledger import sweep as sweeping
from app.ledger.adjusting import adjust_points
from app.ledger.expiry import NEVER, ExpiryKind, ExpiryPolicy, add_months
from app.ledger.operations import EntryKind, Status
from app.ledger.reads import Balance, ExpiringPoints, get_balances, list_entries, list_expiring
from app.ledger.sweep import sweep, sweep_program
from app.members.reads import MemberRow
from app.paging import Page
from app.programs.models import Program
from app.programs.service import update_program
from tests.helpers import (
    END_OF_YEAR,
    by_id,
    find_differences,
    inactivity,
    new_member,
    new_program,
    policy_of,
    post,
    rolling,
    set_now,
)


async def read(program: Program, member: MemberRow) -> Balance:
    (balance,) = await get_balances(await policy_of(program), [member.id])
    assert balance
    return balance


async def available(program: Program, member: MemberRow) -> int:
    return (await read(program, member)).available


async def kept(member: MemberRow) -> tuple[int, int]:
    """Return what the account's row says, without settling anything: available, and its sequence."""
    async with connection() as sql:
        return tuple(await sql.fetchrow("SELECT available, sequence FROM account WHERE id = $1", member.id))


async def story(member: MemberRow) -> list[tuple[str, int, datetime]]:
    """Return an account's entries, oldest first: kind, what changed, and when it happened."""
    (result,) = await list_entries([member.id], Page(size=50))
    return [
        (entry.kind, entry.available_change or entry.pending_change, entry.occurred_at)
        for entry in reversed(result.items)
    ]


# Pure calendar arithmetic


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        (date(2026, 1, 31), 1, date(2026, 2, 28)),
        (date(2028, 1, 31), 1, date(2028, 2, 29)),
        (date(2028, 2, 29), 12, date(2029, 2, 28)),
        (date(2028, 2, 29), 48, date(2032, 2, 29)),
        (date(2026, 12, 31), 2, date(2027, 2, 28)),
        (date(2026, 8, 31), 1, date(2026, 9, 30)),
        (date(2026, 11, 15), 1, date(2026, 12, 15)),
        (date(2026, 12, 15), 1, date(2027, 1, 15)),
        (date(2026, 3, 2), 1200, date(2126, 3, 2)),
        (date(9998, 12, 31), 1, NEVER),
    ],
)
def test_the_same_day_of_a_later_month_is_its_last_where_it_is_shorter(
    day: date, months: int, expected: date
) -> None:
    assert add_months(day, months) == expected


async def test_months_are_counted_as_postgresql_counts_them() -> None:
    days = [date(2027, 12, 25) + timedelta(days=n) for n in range(440)]
    async with connection() as sql:
        for months in (1, 2, 6, 11, 12, 13, 25):
            theirs = await sql.fetch(
                "SELECT (day + make_interval(months => $2))::date FROM unnest($1::date[]) AS day",
                days,
                months,
            )
            assert [add_months(day, months) for day in days] == [row[0] for row in theirs]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (ExpiryPolicy(), NEVER),
        (rolling(12), date(2027, 3, 2)),
        (END_OF_YEAR, date(2026, 12, 31)),
        (inactivity(12), NEVER),
    ],
)
def test_last_day_of_each_kind(policy: ExpiryPolicy, expected: date) -> None:
    assert policy.last_day(date(2026, 3, 2)) == expected
    assert policy.inactive_months == (12 if policy.kind is ExpiryKind.INACTIVITY_MONTHS else None)


# The last second of the last day

ZONES = ("UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/Los_Angeles", "Asia/Kathmandu")


@pytest.mark.parametrize("zone", ZONES)
async def test_points_live_until_the_last_second_of_their_local_day(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tz = ZoneInfo(zone)
    set_now(monkeypatch, 2026, 1, 31, 15, tz=tz)
    program = await new_program(expiry=rolling(1), timezone=zone)
    member, idler = await new_member(program), await new_member(program)
    for each in (member, idler):
        await post(program, each, EntryKind.EARN, 100)
    last = set_now(monkeypatch, 2026, 2, 28, 23, 59, 59, tz=tz)
    balance = await read(program, idler)
    assert balance.available == 100
    assert await list_expiring(await policy_of(program), [balance], 0) == [[ExpiringPoints(100, last)]]
    assert (await post(program, member, EntryKind.REDEEM, 40)).status is Status.APPLIED
    set_now(monkeypatch, 2026, 3, 1, tz=tz)
    assert (await post(program, member, EntryKind.REDEEM, 1)).status is Status.INSUFFICIENT
    assert await available(program, idler) == 0
    assert (await story(idler))[-1] == ("EXPIRE", -100, datetime(2026, 3, 1, tzinfo=tz))
    assert not await find_differences(program.id)


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Europe/Berlin", date(2026, 3, 29)),  # 23 hours
        ("Europe/Berlin", date(2026, 10, 25)),  # 25 hours
        ("Africa/Cairo", date(2026, 4, 23)),  # the next day has no midnight
        ("America/Havana", date(2026, 10, 31)),  # the next day has two of them
        ("America/Santiago", date(2026, 4, 4)),  # its last hour comes twice
        ("Asia/Beirut", date(2026, 3, 28)),
        ("Australia/Lord_Howe", date(2026, 10, 3)),  # by half an hour
    ],
)
async def test_days_on_which_clocks_change_end_at_their_own_midnight(
    zone: str, day: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    tz = ZoneInfo(zone)
    set_now(monkeypatch, 2026, 1, 5, 12, tz=tz)
    program = await new_program(timezone=zone)
    member = await new_member(program)
    policy = await policy_of(program)
    # A lot for the day before, the day itself and the day after.
    for n in (-1, 0, 1):
        monkeypatch.setattr(ExpiryPolicy, "last_day", lambda self, first, n=n: day + timedelta(days=n))
        await post(program, member, EntryKind.EARN, 10 ** (n + 1))
    midnight = days.start_of_day(day + timedelta(days=1), tz)
    assert midnight.astimezone(tz).date() == day + timedelta(days=1)
    for instant, expected in ((midnight - timedelta(seconds=1), 110), (midnight, 100)):
        monkeypatch.setattr(clock, "now", lambda instant=instant: instant)
        assert await available(program, member) == expected
    assert (await story(member))[-1] == ("EXPIRE", -10, midnight)
    monkeypatch.setattr(clock, "now", lambda: midnight - timedelta(seconds=1))
    assert days.end_of_day(day, policy.zone) == midnight - timedelta(seconds=1)


async def test_two_programs_see_the_same_instant_on_different_days(monkeypatch: pytest.MonkeyPatch) -> None:
    # At this moment it is 1 March in Auckland, and still 28 February in Honolulu.
    for zone, left in (("Pacific/Auckland", 0), ("Pacific/Honolulu", 50)):
        set_now(monkeypatch, 2026, 1, 31, 12, tz=ZoneInfo(zone))
        program = await new_program(expiry=rolling(1), timezone=zone)
        member = await new_member(program)
        await post(program, member, EntryKind.EARN, 50)
        set_now(monkeypatch, 2026, 2, 28, 12)
        assert await available(program, member) == left


# The kinds


async def test_points_that_never_expire_are_there_after_a_century(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 3, 2)
    program = await new_program()
    member = await new_member(program)
    await post(program, member, EntryKind.EARN, 5)
    set_now(monkeypatch, 2126, 3, 2)
    balance = await read(program, member)
    assert (balance.available, balance.next_due) == (5, NEVER)
    assert await list_expiring(await policy_of(program), [balance], 3660) == [[]]
    assert await sweep_program(program.id, idle=True) == 0


async def test_rolling_months_count_from_the_day_on_which_points_can_be_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2028, 1, 15)
    program = await new_program(expiry=rolling(1))
    member = await new_member(program)
    await post(program, member, EntryKind.EARN, 7, available_on=date(2028, 1, 31))
    set_now(monkeypatch, 2028, 1, 30, 23)
    assert (await read(program, member))[1:3] == (0, 7)
    set_now(monkeypatch, 2028, 1, 31)
    assert (await read(program, member))[1:3] == (7, 0)
    set_now(monkeypatch, 2028, 2, 29, 23)
    assert await available(program, member) == 7
    set_now(monkeypatch, 2028, 3, 1)
    assert await available(program, member) == 0


async def test_points_that_mature_in_the_next_year_live_until_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 12, 20, 10)
    program = await new_program(expiry=END_OF_YEAR, pending_days=14)
    member = await new_member(program)
    await post(program, member, EntryKind.EARN, 10, available_on=date(2026, 12, 31))
    await post(program, member, EntryKind.EARN, 20, available_on=date(2027, 1, 3))
    set_now(monkeypatch, 2026, 12, 31, 23, 59, 59)
    assert (await read(program, member))[1:3] == (10, 20)
    set_now(monkeypatch, 2027, 1, 1)
    assert (await read(program, member))[1:3] == (0, 20)
    set_now(monkeypatch, 2027, 12, 31, 23, 59, 59)
    assert await available(program, member) == 20
    set_now(monkeypatch, 2028, 1, 1)
    assert await available(program, member) == 0
    assert [each[:2] for each in await story(member)] == [
        ("EARN", 10), ("EARN", 20), ("RELEASE", 10), ("EXPIRE", -10), ("RELEASE", 20), ("EXPIRE", -20),
    ]  # fmt: skip


async def test_everything_expires_when_an_account_was_idle_for_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 31, 12)
    program = await new_program(expiry=inactivity(1))
    member = await new_member(program)
    await post(program, member, EntryKind.EARN, 30)
    end = set_now(monkeypatch, 2026, 2, 28, 23, 59, 59)
    balance = await read(program, member)
    assert await list_expiring(await policy_of(program), [balance], 0) == [[ExpiringPoints(30, end)]]
    assert (await post(program, member, EntryKind.REDEEM, 10)).status is Status.APPLIED
    # Spending has started the month anew: until 28 March.
    set_now(monkeypatch, 2026, 3, 28, 23, 59, 59)
    assert await available(program, member) == 20
    set_now(monkeypatch, 2026, 3, 29)
    assert await available(program, member) == 0
    assert (await story(member))[-1] == ("EXPIRE", -20, datetime(2026, 3, 29, tzinfo=UTC))


@pytest.mark.parametrize(
    ("kind", "amount", "counts"),
    [
        (EntryKind.EARN, 1, True),
        (EntryKind.ADJUST, 1, True),
        (EntryKind.RESERVE, 1, True),
        (EntryKind.REDEEM, 1, True),
        (EntryKind.ADJUST, -1, False),
        (EntryKind.CLAWBACK, 1, False),
        (EntryKind.RESTORE, 1, False),
    ],
)
async def test_what_counts_as_activity(
    kind: EntryKind, amount: int, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, 2026, 5, 1, 12)
    program = await new_program(expiry=inactivity(2))
    member = await new_member(program)
    await post(program, member, EntryKind.EARN, 30)
    await post(program, member, EntryKind.REDEEM, 5)
    set_now(monkeypatch, 2026, 6, 20, 12)
    reference = {EntryKind.CLAWBACK: 1, EntryKind.RESTORE: 2}.get(kind)
    assert (await post(program, member, kind, amount, reference=reference)).status is Status.APPLIED
    set_now(monkeypatch, 2026, 7, 2, 12)
    assert (await available(program, member) > 0) is counts
    set_now(monkeypatch, 2026, 8, 21, 12)
    assert await available(program, member) == 0


async def test_pending_points_do_not_fall_idle_and_their_release_starts_the_months_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 10, 12)
    program = await new_program(expiry=inactivity(1))
    member = await new_member(program)
    await post(program, member, EntryKind.EARN, 5)
    await post(program, member, EntryKind.EARN, 50, available_on=date(2026, 3, 20))
    set_now(monkeypatch, 2026, 2, 11)
    assert (await read(program, member))[1:3] == (0, 50)
    set_now(monkeypatch, 2026, 4, 20, 23, 59, 59)
    assert await available(program, member) == 50
    set_now(monkeypatch, 2026, 4, 21)
    assert await available(program, member) == 0


async def test_a_new_policy_gives_everybody_one_full_period(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2024, 1, 10, 12)
    program = await new_program()
    member = await new_member(program)
    await post(program, member, EntryKind.EARN, 5)
    set_now(monkeypatch, 2026, 1, 31, 12)
    await update_program(program.id, {"expiry": inactivity(1)})
    end = datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)
    balance = await read(program, member)
    assert await list_expiring(await policy_of(program), [balance], 30) == [[ExpiringPoints(5, end)]]
    set_now(monkeypatch, 2026, 2, 28, 23, 59, 59)
    assert await available(program, member) == 5
    set_now(monkeypatch, 2026, 3, 1)
    # The account has not met the policy yet: only the thorough sweep, or a reader, finds it.
    assert await sweep_program(program.id) == 0
    assert await kept(member) == (5, 1)
    assert await sweep_program(program.id, idle=True) == 1
    assert await kept(member) == (0, 2)
    assert not await find_differences(program.id)


# Given back


async def test_what_would_have_expired_meanwhile_comes_back_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 10, 12)
    program = await new_program(expiry=rolling(1))
    member = await new_member(program)
    await post(program, member, EntryKind.EARN, 10)
    set_now(monkeypatch, 2026, 1, 20, 12)
    await post(program, member, EntryKind.EARN, 20)
    reserved = await post(program, member, EntryKind.RESERVE, 25)
    now = set_now(monkeypatch, 2026, 2, 15, 12)
    outcome = await post(program, member, EntryKind.RESTORE, 25, reference=reserved.sequence)
    # The later lot lent 15, the one that is dead by now 10.
    assert outcome.available == 30
    assert await kept(member) == (20, 5)
    assert (await story(member))[-2:] == [("RESTORE", 25, now), ("EXPIRE", -10, now)]
    set_now(monkeypatch, 2026, 2, 21)
    assert await available(program, member) == 0
    assert not await find_differences(program.id)


async def test_a_part_given_back_goes_to_the_lot_that_lives_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 10, 12)
    program = await new_program(expiry=rolling(1))
    member = await new_member(program)
    await post(program, member, EntryKind.EARN, 10)
    set_now(monkeypatch, 2026, 1, 20, 12)
    await post(program, member, EntryKind.EARN, 20)
    redeemed = await post(program, member, EntryKind.REDEEM, 30)
    await post(program, member, EntryKind.RESTORE, 12, reference=redeemed.sequence)
    set_now(monkeypatch, 2026, 2, 11)
    assert await available(program, member) == 12
    set_now(monkeypatch, 2026, 2, 21)
    assert await available(program, member) == 0


async def test_reserved_points_do_not_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 10, 12)
    program = await new_program(expiry=rolling(1))
    member = await new_member(program)
    await post(program, member, EntryKind.EARN, 10)
    reserved = await post(program, member, EntryKind.RESERVE, 10)
    set_now(monkeypatch, 2026, 6, 1)
    assert (await read(program, member)).reserved == 10
    captured = await post(program, member, EntryKind.REDEEM, 10, reference=reserved.sequence)
    assert captured.status is Status.APPLIED
    assert (await read(program, member)).lifetime_spent == 10


# Swept or not


async def _some_accounts(program: Program, count: int) -> list[MemberRow]:
    members = [await new_member(program) for _ in range(count)]
    for n, member in enumerate(members):
        await post(program, member, EntryKind.EARN, 10 + n)
        await post(program, member, EntryKind.EARN, 5, available_on=clock.now().date() + timedelta(days=40))
    return members


async def test_a_second_sweep_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 10, 12)
    program = await new_program(expiry=rolling(1))
    members = await _some_accounts(program, 6)
    assert await sweep_program(program.id) == 0
    set_now(monkeypatch, 2026, 3, 1)
    assert await sweep_program(program.id) == 6
    after = [await kept(member) for member in members]
    assert after == [(5, 4)] * 6
    assert await sweep_program(program.id) == 0
    assert await sweep_program(program.id, idle=True) == 0
    assert [await kept(member) for member in members] == after


async def test_two_sweeps_at_once_do_the_work_once(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 10, 12)
    program = await new_program(expiry=rolling(1))
    members = await _some_accounts(program, 20)
    set_now(monkeypatch, 2026, 3, 1)
    monkeypatch.setattr(sweeping, "MAX_BATCH", 7)
    await asyncio.wait_for(asyncio.gather(*(sweep_program(program.id) for _ in range(4))), 60)
    assert [await kept(member) for member in members] == [(5, 4)] * 20
    assert not await find_differences(program.id)


async def test_a_sweep_of_everything_visits_each_program_on_its_own_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 31, 20)
    east = await new_program(expiry=rolling(1), timezone="Asia/Tokyo")
    west = await new_program(expiry=rolling(1), timezone="America/New_York")
    members = [await new_member(east), await new_member(west)]
    await post(east, members[0], EntryKind.EARN, 10)
    await post(west, members[1], EntryKind.EARN, 10)
    set_now(monkeypatch, 2026, 2, 28, 18)
    await sweep()
    # In Tokyo it was 1 February when the points were earned: their last day is 1 March, which has begun.
    assert [await kept(member) for member in members] == [(10, 1), (10, 1)]
    set_now(monkeypatch, 2026, 3, 1, 18)
    await sweep()
    assert [await kept(member) for member in members] == [(0, 2), (0, 2)]


async def test_an_account_whose_books_disagree_does_not_keep_the_sweep_from_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 10, 12)
    program, later = await new_program(expiry=rolling(1)), await new_program(expiry=rolling(1))
    members = [await new_member(program) for _ in range(3)]
    other = await new_member(later)
    for member in members:
        await post(program, member, EntryKind.EARN, 10)
    await post(later, other, EntryKind.EARN, 10)
    async with connection() as sql:
        # Its lots hold more than its balance: expiring them would make pending points out of nothing.
        await sql.execute(
            "UPDATE lot SET pending = true, matures_on = '2026-02-01' WHERE account_id = $1", members[1].id
        )
    set_now(monkeypatch, 2026, 3, 1)
    await sweep()
    assert [(await kept(member))[0] for member in members] == [0, 10, 0]
    assert (await kept(other))[0] == 0
    async with connection() as sql:
        await sql.execute("UPDATE lot SET pending = false WHERE account_id = $1", members[1].id)
    await sweep()
    assert (await kept(members[1]))[0] == 0


async def test_late_books_read_like_punctual_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """One account is settled every day, its twin only at the end; their stories are the same."""
    set_now(monkeypatch, 2026, 1, 10, 12)
    program = await new_program(expiry=inactivity(2))
    punctual, late = await new_member(program), await new_member(program)
    for member in (punctual, late):
        await post(program, member, EntryKind.EARN, 10)
        await post(program, member, EntryKind.EARN, 20, available_on=date(2026, 2, 28))
        await post(program, member, EntryKind.EARN, 30, available_on=date(2026, 6, 15))
    for day in range(300):
        now = datetime(2026, 1, 11, 6, tzinfo=UTC) + timedelta(days=day)
        monkeypatch.setattr(clock, "now", lambda now=now: now)
        await read(program, punctual)
    await read(program, late)
    stories = [await story(punctual), await story(late)]
    assert stories[0] == stories[1]
    assert [each[0] for each in stories[0]] == ["EARN"] * 3 + ["RELEASE", "EXPIRE"] * 2
    assert not await find_differences(program.id)


async def test_reads_are_right_without_any_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 10, 12)
    program = await new_program(expiry=rolling(1))
    members = [await new_member(program) for _ in range(3)]
    await post(program, members[0], EntryKind.EARN, 10)
    await post(program, members[2], EntryKind.EARN, 20, available_on=date(2026, 1, 25))
    set_now(monkeypatch, 2026, 2, 20, 12)
    policy = await policy_of(program)
    stranger = (await new_member(await new_program())).id
    asked = [members[2].id, stranger, members[0].id, members[1].id, members[2].id]
    balances = await get_balances(policy, asked)
    assert [each and (each.available, each.pending) for each in balances] == [
        (20, 0), None, (0, 0), (0, 0), (20, 0),
    ]  # fmt: skip
    assert balances[2]
    assert balances[2].lifetime_expired == 10
    assert balances[0]
    end = datetime(2026, 2, 25, 23, 59, 59, tzinfo=UTC)
    assert await list_expiring(policy, [balances[0]], 4) == [[]]
    assert await list_expiring(policy, [balances[0]], 5) == [[ExpiringPoints(20, end)]]


async def test_points_that_expire_are_told_by_day_soonest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 10, 12)
    program = await new_program(expiry=rolling(1))
    member = await new_member(program)
    for day, points in ((12, 3), (10, 1), (12, 4), (11, 2)):
        set_now(monkeypatch, 2026, 1, day, 12)
        await post(program, member, EntryKind.EARN, points)
    await post(program, member, EntryKind.EARN, 50, available_on=date(2026, 1, 20))
    await post(program, member, EntryKind.REDEEM, 1)
    set_now(monkeypatch, 2026, 1, 13, 12)
    (expiring,) = await list_expiring(await policy_of(program), [await read(program, member)], 60)
    assert [(each.points, each.expires_at.day) for each in expiring] == [(2, 11), (7, 12)]


async def test_after_a_change_of_kind_the_old_lots_keep_their_day_and_the_rest_falls_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 10, 12)
    program = await new_program(expiry=rolling(1))
    member = await new_member(program)
    await post(program, member, EntryKind.EARN, 10)
    set_now(monkeypatch, 2026, 1, 20, 12)
    await update_program(program.id, {"expiry": inactivity(3)})
    await post(program, member, EntryKind.EARN, 5)
    (expiring,) = await list_expiring(await policy_of(program), [await read(program, member)], 365)
    assert [(each.points, each.expires_at.date()) for each in expiring] == [
        (10, date(2026, 2, 10)), (5, date(2026, 4, 20)),
    ]  # fmt: skip
    set_now(monkeypatch, 2026, 2, 11)
    assert await available(program, member) == 5
    set_now(monkeypatch, 2026, 4, 21)
    assert await available(program, member) == 0


async def test_an_adjustment_lives_as_long_as_points_earned_on_its_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 31, 23, tz=ZoneInfo("America/New_York"))
    program: Any = await new_program(expiry=rolling(1), timezone="America/New_York")
    member = await new_member(program)
    await adjust_points(program.id, by_id(member), 15, "Goodwill", "a-key")
    set_now(monkeypatch, 2026, 2, 28, 23, 59, 59, tz=ZoneInfo("America/New_York"))
    assert await available(program, member) == 15
    set_now(monkeypatch, 2026, 3, 1, tz=ZoneInfo("America/New_York"))
    assert await available(program, member) == 0
