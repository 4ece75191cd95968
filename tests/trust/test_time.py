"""Time goes on while it is being looked at, and while nobody looks: days are neither lost nor doubled."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app import clock
from app.database import connection
from app.earning import calendar
from app.earning.rules import Action, EventKind
from app.ledger import sweep as ledger_sweep
from app.ledger.operations import EntryKind
from app.members.reads import MemberRow
from app.programs.models import Program
from tests.helpers import find_differences, inactivity, new_member, new_program, new_rule, post

DAY = date(2026, 3, 10)
BEFORE_MIDNIGHT = datetime(2026, 3, 10, 23, 59, 59, tzinfo=UTC)
AFTER_MIDNIGHT = datetime(2026, 3, 11, 0, 0, 1, tzinfo=UTC)
ONE_DAY = timedelta(days=1)
MEMBERS = 9

_ENTRIES = """
SELECT m.external_id, l.sequence, l.kind, l.amount, l.occurred_at FROM ledger_entry l
JOIN account a ON a.id = l.account_id JOIN member m ON m.id = a.member_id
WHERE a.program_id = $1 ORDER BY m.external_id, l.sequence
"""


class Clock:
    """A clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
        self.moment = moment
        monkeypatch.setattr(clock, "now", lambda: self.moment)


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch, datetime(2026, 2, 1, 12, tzinfo=UTC))


async def entries(program: Program) -> list[tuple[Any, ...]]:
    """Return all that the ledger says of a program's members, but for what differs between programs."""
    async with connection() as sql:
        return [tuple(row) for row in await sql.fetch(_ENTRIES, program.id)]


async def with_points_that_mature(moving: Clock, days: Sequence[date]) -> Program:
    """Make a program with members whose points mature on days, and expire a month after they rest."""
    moving.moment = datetime(2026, 2, 1, 12, tzinfo=UTC)
    program = await new_program(expiry=inactivity(1))
    for n in range(MEMBERS):
        member = await new_member(program, external_id=f"m{n}")
        await post(program, member, EntryKind.EARN, 10 + n, available_on=days[n % len(days)])
    return program


async def test_the_clocks_day_changes_while_the_ledger_is_swept(
    moving: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = await with_points_that_mature(moving, [DAY, DAY + ONE_DAY])
    other = await with_points_that_mature(moving, [DAY, DAY + ONE_DAY])
    settle = ledger_sweep.settle_accounts
    chunks = []

    async def midnight_comes(*args: Any) -> list[UUID]:
        moving.moment = AFTER_MIDNIGHT if chunks else BEFORE_MIDNIGHT
        chunks.append(len(args[1]))
        return await settle(*args)

    monkeypatch.setattr(ledger_sweep, "settle_accounts", midnight_comes)
    monkeypatch.setattr(ledger_sweep, "MAX_BATCH", 2)
    moving.moment = BEFORE_MIDNIGHT
    # One worker's day is over while the other's look began before.
    await asyncio.gather(*(ledger_sweep.sweep_program(program.id) for _ in range(2)))
    await ledger_sweep.sweep_program(program.id)
    assert len(chunks) > 3
    monkeypatch.undo()
    Clock(monkeypatch, AFTER_MIDNIGHT)
    await ledger_sweep.sweep_program(other.id)
    found = await entries(program)
    assert sum(1 for each in found if each[2] == "RELEASE") == MEMBERS
    assert found == await entries(other), "as if it had been looked at once, on the second day"
    assert not await find_differences(program.id)


async def test_the_nightly_sweep_of_the_ledger_was_missed_for_two_days(moving: Clock) -> None:
    days = [DAY + n * ONE_DAY for n in range(3)]
    nightly, missed = [await with_points_that_mature(moving, days) for _ in range(2)]
    for day in days:
        moving.moment = datetime(day.year, day.month, day.day, 3, tzinfo=UTC)
        await ledger_sweep.sweep_program(nightly.id)
    assert await ledger_sweep.sweep_program(missed.id) == MEMBERS
    assert await entries(missed) == await entries(nightly), "each on its own day"
    # A month later all of it expires, on three days again.
    for day in days:
        moving.moment = datetime(day.year, day.month + 1, day.day + 1, 3, tzinfo=UTC)
        await ledger_sweep.sweep_program(nightly.id)
    await ledger_sweep.sweep_program(missed.id)
    found = await entries(missed)
    assert found == await entries(nightly)
    assert sum(1 for each in found if each[2] == "EXPIRE") == MEMBERS
    for program in (nightly, missed):
        assert not await find_differences(program.id)


async def with_birthdays(moving: Clock, days: Sequence[date]) -> tuple[Program, list[MemberRow]]:
    """Make a program that pays for birthdays, with members who have theirs on days of the year."""
    moving.moment = datetime(2026, 2, 1, 12, tzinfo=UTC)
    program = await new_program()
    await new_rule(program, fixed=50, trigger=EventKind.ACTION, action=Action.BIRTHDAY)
    members = [
        await new_member(program, external_id=f"m{n}", birthday=days[n % len(days)].replace(year=1990))
        for n in range(MEMBERS)
    ]
    return program, members


async def birthdays(program: Program) -> list[tuple[Any, ...]]:
    """Return whose birthday was paid for, with its day."""
    return [(each[0], each[3], each[4].date()) for each in await entries(program) if each[2] == "EARN"]


async def test_the_clocks_day_changes_while_birthdays_are_looked_for(
    moving: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [DAY, DAY + ONE_DAY]
    program, _ = await with_birthdays(moving, days)
    moving.moment = BEFORE_MIDNIGHT - ONE_DAY
    await calendar.sweep_program(program.id)
    record = calendar._record

    async def midnight_comes(*args: Any) -> int:
        moving.moment = AFTER_MIDNIGHT
        return await record(*args)

    monkeypatch.setattr(calendar, "_record", midnight_comes)
    monkeypatch.setattr(calendar, "_BATCH", 2)
    moving.moment = BEFORE_MIDNIGHT
    await asyncio.gather(*(calendar.sweep_program(program.id) for _ in range(2)))
    await calendar.sweep_program(program.id)
    assert await birthdays(program) == [(f"m{n}", 50, days[n % 2]) for n in range(MEMBERS)]
    assert not await find_differences(program.id)


async def test_the_nightly_look_for_birthdays_was_missed_for_two_days(moving: Clock) -> None:
    days = [DAY + n * ONE_DAY for n in range(3)]
    program, members = await with_birthdays(moving, days)
    moving.moment = BEFORE_MIDNIGHT - ONE_DAY
    await calendar.sweep_program(program.id)
    moving.moment = datetime(2026, 3, 12, 3, tzinfo=UTC)
    assert await calendar.sweep_program(program.id) == len(members)
    assert await birthdays(program) == [(f"m{n}", 50, days[n % 3]) for n in range(MEMBERS)]
    assert await calendar.sweep_program(program.id) == 0
    assert not await find_differences(program.id)
