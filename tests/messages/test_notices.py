"""Notices of points that expire: 30 and 7 days ahead, each day once, whatever became of the workers."""

import asyncio
from datetime import date
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from app import clock, days
from app.database import connection, transaction
from app.ids import new_id
from app.ledger import noticing
from app.ledger.noticing import tell_expiring, tell_program
from app.ledger.operations import EntryKind, Operation
from app.ledger.service import apply, terms
from app.members.reads import MemberRow
from app.messages.feed import list_messages
from app.paging import make_page
from app.programs.models import Program
from app.programs.service import update_program
from tests.helpers import inactivity, new_member, new_program, policy_of, post, rolling, set_now

Notice = tuple[int, str, int]


async def give(
    program: Program, member: MemberRow, points: int, expires_on: date, matures_on: date | None = None
) -> None:
    """Give points that expire on a day of our choice."""
    policy, now = await policy_of(program), clock.now()
    operation = Operation(
        account_id=member.id,
        kind=EntryKind.EARN,
        amount=points,
        key=new_id(),
        request_hash=points,
        occurred_at=now,
        matures_on=matures_on or days.local_date(now, policy.zone),
        expires_on=expires_on,
    )
    async with transaction() as sql:
        await apply(sql, terms(policy, now), [operation])


async def notices(program: Program, member: MemberRow | None = None) -> list[Notice]:
    """Return what was told: points, the last second of their use, and the days until then."""
    page = await list_messages(
        program.id, make_page(100), ["points.expiring"], None if member is None else member.id
    )
    return [(each.payload["points"], each.payload["expiresAt"], each.payload["days"]) for each in page.items]


async def test_points_are_told_30_and_7_days_before_their_last_day(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await new_program()
    member, poor = await new_member(program), await new_member(program)
    set_now(monkeypatch, 2026, 3, 1, 12)
    await tell_program(program.id)
    await give(program, member, 10, date(2026, 4, 15))
    await give(program, member, 5, date(2026, 4, 15), matures_on=date(2026, 3, 20))
    await give(program, member, 7, date(2026, 4, 15), matures_on=date(2026, 4, 1))
    await give(program, member, 20, date(2026, 4, 16))
    await give(program, poor, 3, date(2026, 4, 15))
    await post(program, poor, EntryKind.REDEEM, 3)
    set_now(monkeypatch, 2026, 3, 15, 12)
    assert await tell_program(program.id) == 0
    # What is pending is not told; what has matured is, though nobody has settled it.
    set_now(monkeypatch, 2026, 3, 16, 0)
    assert await tell_program(program.id) == 1 + await tell_program(program.id)
    assert await notices(program) == [(10, "2026-04-15T23:59:59Z", 30)]
    set_now(monkeypatch, 2026, 3, 17, 12)
    assert await tell_program(program.id) == 1
    await post(program, member, EntryKind.REDEEM, 4)
    set_now(monkeypatch, 2026, 4, 8, 23)
    assert await tell_program(program.id) == 1
    assert await notices(program, member) == [
        (10, "2026-04-15T23:59:59Z", 30),
        (20, "2026-04-16T23:59:59Z", 30),
        (18, "2026-04-15T23:59:59Z", 7),
    ]
    assert await notices(program, poor) == []


async def test_days_begin_in_the_zone_of_each_program(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 3, 31, 12)
    tokyo, lima = await new_program(timezone="Asia/Tokyo"), await new_program(timezone="America/Lima")
    # Programs that other tests have left come before these, and are none of our business.
    monkeypatch.setattr(noticing, "_NOBODY", UUID(int=tokyo.id.int - 1))
    for program in (tokyo, lima):
        await tell_expiring()
        await give(program, await new_member(program), 10, date(2026, 5, 1))
    set_now(monkeypatch, 2026, 3, 31, 15, 30)
    await tell_expiring()
    assert [len(await notices(program)) for program in (tokyo, lima)] == [1, 0]
    set_now(monkeypatch, 2026, 4, 1, 0, 1, tz=ZoneInfo("America/Lima"))
    await tell_expiring()
    assert await notices(tokyo) == [(10, "2026-05-01T14:59:59Z", 30)]
    assert await notices(lima) == [(10, "2026-05-02T04:59:59Z", 30)]


async def test_missed_days_are_told_late_and_never_after_they_are_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 1, 12)
    program = await new_program()
    member = await new_member(program)
    # A new program does not begin with the past.
    await give(program, member, 1, date(2026, 3, 3))
    await give(program, member, 2, date(2026, 3, 20))
    assert await tell_program(program.id) == 0
    for points, day in ((3, 8), (4, 9), (5, 12), (6, 14), (7, 15), (8, 30)):
        await give(program, member, points, date(2026, 4, day))
    # For 39 days nobody worked.
    set_now(monkeypatch, 2026, 4, 9, 12)
    assert await tell_program(program.id) == 5
    assert sorted(await notices(program), key=lambda each: each[2]) == [
        (4, "2026-04-09T23:59:59Z", 0),
        (5, "2026-04-12T23:59:59Z", 3),
        (6, "2026-04-14T23:59:59Z", 5),
        (7, "2026-04-15T23:59:59Z", 6),
        (8, "2026-04-30T23:59:59Z", 21),
    ]
    assert await tell_program(program.id) == 0
    set_now(monkeypatch, 2026, 4, 23, 12)
    assert await tell_program(program.id) == 1
    assert (await notices(program))[-1] == (8, "2026-04-30T23:59:59Z", 7)


async def test_who_falls_idle_is_told_once_for_each_idle_day(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 10, 12)
    program = await new_program(expiry=inactivity(3))
    await tell_program(program.id)
    idle, active = await new_member(program), await new_member(program)
    await give(program, idle, 50, date(2026, 12, 31))
    await give(program, idle, 3, date(2026, 4, 9))
    await post(program, active, EntryKind.EARN, 60)
    # The tenth of April is the last day of both, of three points the ninth.
    set_now(monkeypatch, 2026, 3, 11, 12)
    assert await tell_program(program.id) == 3
    assert sorted(await notices(program)) == [
        (3, "2026-04-09T23:59:59Z", 29),
        (50, "2026-04-10T23:59:59Z", 30),
        (60, "2026-04-10T23:59:59Z", 30),
    ]
    await post(program, active, EntryKind.REDEEM, 10)
    set_now(monkeypatch, 2026, 4, 3, 12)
    assert await tell_program(program.id) == 2
    assert await notices(program, active) == [(60, "2026-04-10T23:59:59Z", 30)]
    set_now(monkeypatch, 2026, 5, 12, 12)
    assert await tell_program(program.id) == 1
    assert (await notices(program, active))[-1] == (50, "2026-06-11T23:59:59Z", 30)
    # Another policy: what has no day of its own expires no more.
    await update_program(program.id, {"expiry": rolling(12)})
    set_now(monkeypatch, 2026, 6, 4, 12)
    assert await tell_program(program.id) == 0


async def test_a_sweep_that_is_ended_or_shared_tells_everybody_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noticing, "_SLICE", 3)
    set_now(monkeypatch, 2026, 3, 1, 12)
    program = await new_program()
    await tell_program(program.id)
    members = [await new_member(program) for _ in range(20)]
    for member in members:
        for day in (10, 11):
            await give(program, member, day, date(2026, 4, day))
    set_now(monkeypatch, 2026, 3, 12, 12)
    leave, left = noticing.leave, 0

    async def killed(*args: object) -> None:
        nonlocal left
        left += 1
        await leave(*args)  # type: ignore[arg-type]
        if left == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(noticing, "leave", killed)
    with pytest.raises(asyncio.CancelledError):
        await _cancelled_by(KeyboardInterrupt, program)
    assert len(await notices(program)) == 9
    monkeypatch.setattr(noticing, "leave", leave)
    told = await asyncio.gather(*(tell_program(program.id) for _ in range(3)))
    while more := await tell_program(program.id):
        told.append(more)
    assert sum(told) == 31
    for member in members:
        assert await notices(program, member) == [
            (10, "2026-04-10T23:59:59Z", 29),
            (11, "2026-04-11T23:59:59Z", 30),
        ]
    async with connection() as sql:
        rows = await sql.fetch("SELECT * FROM expiry_notice WHERE program_id = $1", program.id)
    assert {row["days"]: row["done_until"] for row in rows} == {30: date(2026, 4, 11), 7: date(2026, 3, 19)}


async def _cancelled_by(error: type[BaseException], program: Program) -> None:
    """Sweep until an error ends it, as one ends a process: nothing catches it on its way."""
    try:
        await tell_program(program.id)
    except error:
        raise asyncio.CancelledError from None
