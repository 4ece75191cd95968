"""Birthdays and anniversaries: on their day in the program's zone, late rather than never, once a year."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import structlog

from app import clock, days
from app.database import connection
from app.earning import calendar
from app.earning.calendar import MAX_DAYS, days_around, days_kept, sweep, sweep_program
from app.earning.events import Incoming
from app.earning.outcomes import Reason
from app.earning.processing import earn_batch, earn_members
from app.earning.reads import get_explanations
from app.earning.recording import Recorded
from app.earning.rule_service import set_rule_status, update_rule
from app.earning.rules import Action, EventKind, RuleStatus
from app.errors import Unavailable
from app.ledger.adjusting import adjust_points
from app.members.inputs import MemberStatus, NewMember
from app.members.reads import MemberRow
from app.members.service import enroll_members, update_member
from app.metrics import ERRORS
from app.programs.models import Program
from tests.api.statements import counting
from tests.campaigns.making import make_campaign
from tests.earning.celebrating import (
    Told,
    action_rule,
    break_books,
    mend_books,
    own_events,
    points_of,
    told,
)
from tests.helpers import by_id, find_differences, inactivity, new_member, new_program, set_now, stamp_all
from tests.tiers.making import make_tier
from workers.calendar import sweep_forever

BORN = date(1985, 3, 3)
BOTH = (Action.BIRTHDAY, Action.ANNIVERSARY)
POINTS = dict(zip(BOTH, (10, 5), strict=True))
ONE_DAY = timedelta(days=1)
_serial = count(1)


class Place:
    """A program that pays for birthdays, or anniversaries, or both, and its clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, program: Program) -> None:
        self._monkeypatch = monkeypatch
        self.program = program
        self.zone = ZoneInfo(program.timezone)

    def at(self, *moment: int) -> datetime:
        """Set the clock to a local time."""
        return set_now(self._monkeypatch, *moment, tz=self.zone)

    async def sweep(self, *moment: int) -> int:
        """Sweep at a local time; return how many occasions were recorded."""
        self.at(*moment)
        return await sweep_program(self.program.id)

    async def born(self, birthday: date = BORN, **profile: Any) -> MemberRow:
        """Enrol a member by their birthday."""
        return await new_member(self.program, **({"birthday": birthday} | profile))

    async def joined(self, *moment: int) -> MemberRow:
        """Enrol a member who joined at a local time."""
        return await new_member(self.program, joined_at=datetime(*moment, tzinfo=self.zone))  # type: ignore[misc,arg-type]

    async def told(self, member: MemberRow) -> list[Told]:
        return await told(self.program, member)

    async def change(self, member: MemberRow, **changes: Any) -> None:
        await update_member(self.program.id, by_id(member), changes)

    async def done_until(self) -> date | None:
        async with connection() as sql:
            return await sql.fetchval(
                "SELECT done_until FROM calendar_sweep WHERE program_id = $1", self.program.id
            )


async def make_place(
    monkeypatch: pytest.MonkeyPatch,
    *moment: int,
    rules: Sequence[Action] = (Action.BIRTHDAY,),
    **settings: Any,
) -> Place:
    """Make a program at a local time."""
    zone = settings.setdefault("timezone", "UTC")
    set_now(monkeypatch, *moment, tz=ZoneInfo(zone))
    place = Place(monkeypatch, await new_program(**settings))
    for action in rules:
        await action_rule(place.program, action, POINTS[action])
    return place


def birthday(year: int, points: int = 10) -> Told:
    return Told(f"birthday:{year}", points)


def anniversary(year: int, points: int = 5) -> Told:
    return Told(f"anniversary:{year}", points)


# The day itself


async def test_a_birthday_pays_on_the_day_itself_once(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 12)
    member, other = await place.born(), await place.born(date(1985, 3, 4))
    assert await place.sweep(2026, 3, 1, 12) == 0
    assert await place.sweep(2026, 3, 2, 23, 59) == 0
    assert await place.sweep(2026, 3, 3, 0, 0) == 1
    assert await place.sweep(2026, 3, 3, 0, 1) == 0
    assert await place.told(member) == [birthday(2026)]
    assert await place.told(other) == []
    assert await points_of(place.program, member) == 10
    (event,) = await own_events(place.program, member)
    assert event.occurred_at == datetime(2026, 3, 3, tzinfo=UTC)
    assert not await find_differences(place.program.id)


async def test_an_anniversary_pays_from_the_first_year_on(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 3, 12, rules=BOTH)
    today, last_year = await place.joined(2026, 3, 3, 11), await place.joined(2025, 3, 3, 23, 59, 59)
    long_ago, tomorrow = await place.joined(1999, 3, 3), await place.joined(2025, 3, 4)
    members = (today, last_year, long_ago, tomorrow)
    assert await place.sweep(2026, 3, 3, 12) == 2
    assert [await place.told(each) for each in members] == [[], [anniversary(2026)], [anniversary(2026)], []]
    await place.sweep(2026, 3, 4)
    await place.sweep(2027, 3, 3)
    assert await place.told(today) == [anniversary(2027)]
    assert await place.told(last_year) == [anniversary(2026), anniversary(2027)]
    assert not await find_differences(place.program.id)


async def test_a_birthday_and_an_anniversary_on_one_day_pay_both(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 3, 12, rules=BOTH)
    joined_at = datetime(2020, 3, 3, 9, tzinfo=UTC)
    member = await place.born(joined_at=joined_at)
    assert await place.sweep(2026, 3, 3, 12) == 2
    assert sorted(await place.told(member)) == [anniversary(2026), birthday(2026)]


async def test_every_year_pays_again(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2024, 3, 1)
    member = await place.born()
    for year in (2024, 2025, 2026):
        for day in (2, 3, 4):
            await place.sweep(year, 3, day, 6)
    assert await place.told(member) == [birthday(2024), birthday(2025), birthday(2026)]


ZONES = ["Asia/Tokyo", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kolkata"]


@pytest.mark.parametrize("timezone", ZONES)
async def test_the_day_is_that_of_the_program(monkeypatch: pytest.MonkeyPatch, timezone: str) -> None:
    place = await make_place(monkeypatch, 2026, 3, 2, 12, timezone=timezone, rules=BOTH)
    born = await place.born()
    # The first and the last moment of the day on which they joined, and those just outside.
    joined = [
        await place.joined(2025, 3, *moment)
        for moment in ((2, 23, 59, 59), (3, 0, 0), (3, 23, 59, 59), (4, 0, 0))
    ]
    assert await place.sweep(2026, 3, 2, 23, 59) == 1
    assert await place.told(born) == []
    assert await place.sweep(2026, 3, 3, 0, 0) == 3
    assert await place.told(born) == [birthday(2026)]
    (event,) = await own_events(place.program, born)
    assert event.occurred_at == datetime(2026, 3, 3, tzinfo=place.zone)
    assert [len(await place.told(each)) for each in joined] == [1, 1, 1, 0]
    assert await place.sweep(2026, 3, 3, 23, 59) == 0
    assert await place.sweep(2026, 3, 4, 0, 0) == 1
    assert await place.done_until() == date(2026, 3, 3)


async def test_days_on_which_clocks_change_are_days_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # In Santiago midnight is skipped on 6 September 2026, and comes twice on 4 April 2027.
    place = await make_place(monkeypatch, 2026, 9, 5, 12, timezone="America/Santiago")
    spring, autumn = await place.born(date(1990, 9, 6)), await place.born(date(1990, 4, 4))
    eve = await place.born(date(1990, 4, 3))
    assert await place.sweep(2026, 9, 5, 23, 59) == 0
    assert await place.sweep(2026, 9, 6, 1, 0) == 1
    (event,) = await own_events(place.program, spring)
    assert event.occurred_at == datetime(2026, 9, 6, 4, tzinfo=UTC)
    await place.sweep(2027, 4, 2, 12)
    assert await place.sweep(2027, 4, 3, 23, 30) == 1
    # An hour later it is the same time of the same day once more.
    set_now(monkeypatch, 2027, 4, 4, 3, 30)
    assert days.local_date(clock.now(), place.zone) == date(2027, 4, 3)
    assert await sweep_program(place.program.id) == 0
    set_now(monkeypatch, 2027, 4, 4, 4, 0)
    assert await sweep_program(place.program.id) == 1
    assert [await place.told(each) for each in (eve, autumn)] == [[birthday(2027)], [birthday(2027)]]


# 29 February


async def test_a_birthday_on_29_february(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 2, 27)
    leap, eve, first = [await place.born(date(2000, *day)) for day in ((2, 29), (2, 28), (3, 1))]
    days: dict[UUID, list[date]] = {leap.id: [], eve.id: [], first.id: []}
    for year in (2026, 2027, 2028, 2029):
        for day in sorted(
            {date(year, 2, 27), date(year, 2, 28), date(year, 3, 1) - ONE_DAY, date(year, 3, 1)}
        ):
            before = [len(await place.told(member)) for member in (leap, eve, first)]
            await place.sweep(day.year, day.month, day.day, 9)
            for member, known in zip((leap, eve, first), before, strict=True):
                if len(await place.told(member)) > known:
                    days[member.id].append(day)
    assert days[leap.id] == [date(2026, 2, 28), date(2027, 2, 28), date(2028, 2, 29), date(2029, 2, 28)]
    assert days[eve.id] == [date(year, 2, 28) for year in (2026, 2027, 2028, 2029)]
    assert days[first.id] == [date(year, 3, 1) for year in (2026, 2027, 2028, 2029)]
    assert not await find_differences(place.program.id)


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Tokyo", "America/New_York"])
async def test_who_joined_on_29_february(monkeypatch: pytest.MonkeyPatch, timezone: str) -> None:
    place = await make_place(monkeypatch, 2027, 2, 26, timezone=timezone, rules=BOTH)
    moments = ((2024, 2, 29, 0, 0), (2024, 2, 29, 23, 59), (2024, 2, 28, 23, 59), (2024, 3, 1, 0, 0))
    members = [await place.joined(*moment) for moment in moments]
    for year, leap in ((2027, False), (2028, True)):
        paid = []
        for month, day in ((2, 27), (2, 28), (2, 29), (3, 1)):
            if (month, day) != (2, 29) or leap:
                await place.sweep(year, month, day, 12)
            paid.append([anniversary(year) in await place.told(each) for each in members])
        on_28, on_29 = paid[1], paid[2]
        assert paid[0] == [False] * 4
        assert on_28 == ([False, False, True, False] if leap else [True, True, True, False])
        assert on_29 == [True, True, True, False]
        assert paid[3] == [True] * 4


def test_29_february_is_kept_on_the_28th_where_there_is_none() -> None:
    assert days_kept(date(2026, 2, 28)) == [228, 229]
    assert days_kept(date(2028, 2, 28)) == [228]
    assert days_kept(date(2028, 2, 29)) == [229]
    assert days_kept(date(2100, 2, 28)) == [228, 229]
    assert days_kept(date(2026, 12, 28)) == [1228]


def test_days_around_one_are_those_that_it_can_be_elsewhere() -> None:
    assert days_around([1231]) == [101, 1230, 1231]
    assert days_around([101]) == [101, 102, 1231]
    assert days_around([301]) == [228, 229, 301, 302]
    assert days_around([228, 229]) == [227, 228, 229, 301]
    for each in (date(2024, 1, 1) + timedelta(days=n) for n in range(2 * 366)):
        around = days_around([each.month * 100 + each.day])
        assert {day.month * 100 + day.day for day in (each + timedelta(days=n) for n in (-1, 0, 1))} <= set(
            around
        )


# Days that were missed


async def test_two_days_that_were_missed_are_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 12)
    members = [await place.born(date(1990, 3, day)) for day in (1, 2, 3, 4)]
    assert await place.sweep(2026, 3, 1, 12) == 1
    assert await place.sweep(2026, 3, 4, 8) == 3
    occurred = [(await own_events(place.program, each))[0].occurred_at for each in members]
    assert occurred == [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3, 4)]
    assert not await find_differences(place.program.id)


async def test_three_weeks_without_workers_are_made_up_for_over_new_year(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = await make_place(monkeypatch, 2025, 12, 20, 12, timezone="America/New_York", rules=BOTH)
    days = [date(2025, 12, 20) + timedelta(days=n) for n in range(24)]
    members = [await place.born(day.replace(year=1990)) for day in days]
    joined = await place.joined(2023, 12, 31, 23, 30)
    await place.sweep(2025, 12, 20, 12)
    assert await place.sweep(2026, 1, 11, 12) == 23
    expected = [[birthday(day.year)] if day <= date(2026, 1, 11) else [] for day in days]
    assert [await place.told(each) for each in members] == expected
    assert await place.told(joined) == [anniversary(2025)]
    assert await place.done_until() == date(2026, 1, 10)


async def test_more_than_a_year_without_workers_is_made_up_for_as_far_as_a_year(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = await make_place(monkeypatch, 2024, 6, 1)
    early, late = await place.born(date(1990, 6, 10)), await place.born(date(1990, 8, 10))
    last = await place.born(date(1990, 8, 9))
    await place.sweep(2024, 6, 1)
    today = date(2026, 8, 10)
    assert today - timedelta(days=MAX_DAYS) == date(2025, 8, 9)
    assert await place.sweep(2026, 8, 10) == 5
    assert await place.told(early) == [birthday(2026)]
    assert await place.told(late) == [birthday(2025), birthday(2026)]
    assert await place.told(last) == [birthday(2025), birthday(2026)]
    assert await place.sweep(2026, 8, 11) == 0


async def test_the_first_sweep_begins_with_today(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1)
    yesterday, today = await place.born(date(1990, 3, 9)), await place.born(date(1990, 3, 10))
    assert await place.sweep(2026, 3, 10, 12) == 1
    assert await place.sweep(2026, 3, 11, 12) == 0
    assert (await place.told(yesterday), await place.told(today)) == ([], [birthday(2026)])


async def test_who_was_enrolled_after_a_missed_day_had_no_part_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 12)
    await place.sweep(2026, 3, 1, 12)
    place.at(2026, 3, 3, 23, 59, 59)
    in_time = await place.born()
    place.at(2026, 3, 4, 0, 0)
    too_late = await place.born()
    assert await place.sweep(2026, 3, 6, 12) == 1
    assert (await place.told(in_time), await place.told(too_late)) == ([birthday(2026)], [])


async def test_a_day_is_done_when_it_was_looked_at_after_it_was_over(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 3, 8, timezone="Asia/Tokyo")
    await place.sweep(2026, 3, 3, 23, 58)
    assert await place.done_until() == date(2026, 3, 2)
    place.at(2026, 3, 3, 23, 59)
    member = await place.born()
    assert await place.sweep(2026, 3, 4, 0, 0) == 1
    assert await place.done_until() == date(2026, 3, 3)
    assert await place.told(member) == [birthday(2026)]


async def test_the_day_may_end_while_it_is_being_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 3, 8)
    member, tomorrow = await place.born(), await place.born(date(1990, 3, 4))
    record = calendar.record_now

    async def slowly(program_id: UUID, events: Sequence[Incoming]) -> list[Recorded]:
        results = await record(program_id, events)
        place.at(2026, 3, 4, 0, 0, 1)
        return results

    monkeypatch.setattr(calendar, "record_now", slowly)
    assert await place.sweep(2026, 3, 3, 23, 59, 59) == 1
    # Somebody may have come in after the look, and before midnight.
    assert await place.done_until() == date(2026, 3, 2)
    assert await sweep_program(place.program.id) == 1
    assert await place.done_until() == date(2026, 3, 3)
    assert [await place.told(each) for each in (member, tomorrow)] == [[birthday(2026)]] * 2


async def test_a_clock_that_was_ahead_does_not_keep_today_from_being_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = await make_place(monkeypatch, 2026, 3, 3, 12)
    member = await place.born(date(1990, 3, 4))
    await place.sweep(2026, 4, 20, 12)
    assert await place.sweep(2026, 3, 4, 12) == 1
    assert await place.told(member) == [birthday(2026)]
    assert await place.done_until() == date(2026, 4, 19)


# Who takes part, and what changes meanwhile


async def test_a_member_enrolled_on_their_birthday_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 3, 8)
    assert await place.sweep(2026, 3, 3, 8) == 0
    place.at(2026, 3, 3, 12)
    member = await place.born()
    assert await place.sweep(2026, 3, 3, 12, 1) == 1
    assert await place.told(member) == [birthday(2026)]


async def test_a_birthday_that_is_entered_today_pays_today(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1)
    member = await new_member(place.program, joined_at=clock.now())
    assert await place.sweep(2026, 3, 3, 8) == 0
    await place.change(member, birthday=BORN)
    assert await place.sweep(2026, 3, 3, 8, 1) == 1
    assert await place.told(member) == [birthday(2026)]


async def test_a_birthday_that_is_moved_pays_once_a_year(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1)
    member = await place.born()
    await place.sweep(2026, 3, 3, 8)
    for moved in (date(1985, 3, 4), date(1985, 5, 5)):
        await place.change(member, birthday=moved)
        assert await place.sweep(2026, moved.month, moved.day, 8) == 0
    assert await place.told(member) == [birthday(2026)]
    assert await place.sweep(2027, 5, 5, 8) == 1
    assert await place.told(member) == [birthday(2026), birthday(2027)]


async def test_nobody_has_a_birthday_before_they_are_born(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 12)
    await place.sweep(2026, 3, 1, 12)
    child = await place.born(date(2026, 3, 1))
    await place.change(child, birthday=date(2026, 3, 2))
    assert await place.sweep(2026, 3, 1, 13) == 0
    assert await place.sweep(2026, 3, 2) == 1


async def test_who_is_suspended_or_closed_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1)
    suspended, closed, back = [await place.born() for _ in range(3)]
    for member, status in (
        (suspended, MemberStatus.SUSPENDED),
        (closed, MemberStatus.CLOSED),
        (back, MemberStatus.SUSPENDED),
    ):
        await place.change(member, status=status)
    assert await place.sweep(2026, 3, 3, 8) == 0
    await place.change(back, status=MemberStatus.ACTIVE)
    assert await place.sweep(2026, 3, 3, 9) == 1
    assert [await place.told(each) for each in (suspended, closed, back)] == [[], [], [birthday(2026)]]


async def test_who_is_suspended_between_the_look_and_the_recording_keeps_the_chance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1)
    member, other = await place.born(), await place.born()
    record = calendar.record_now

    async def after_suspension(program_id: UUID, events: Sequence[Incoming]) -> list[Recorded]:
        await place.change(member, status=MemberStatus.SUSPENDED)
        return await record(program_id, events)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(calendar, "record_now", after_suspension)
        assert await place.sweep(2026, 3, 3, 8) == 1
    await place.change(member, status=MemberStatus.ACTIVE)
    assert await place.sweep(2026, 3, 3, 9) == 1
    assert [await place.told(each) for each in (member, other)] == [[birthday(2026)]] * 2


async def test_programs_share_no_birthdays(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 3)
    other = await make_place(monkeypatch, 2026, 3, 3)
    member, stranger = await place.born(), await other.born()
    assert await place.sweep(2026, 3, 3, 8) == 1
    assert (await place.told(member), await other.told(stranger)) == ([birthday(2026)], [])


# Rules that come and go


async def test_a_rule_made_in_the_middle_of_the_year_pays_from_that_day_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = await make_place(monkeypatch, 2026, 1, 1, rules=())
    days = (date(1990, 3, 3), date(1990, 7, 1), date(1990, 7, 2), date(1990, 7, 3))
    members = [await place.born(day) for day in days]
    for month in range(1, 8):
        assert await place.sweep(2026, month, 1, 6) == 0
    assert await place.done_until() == date(2026, 6, 30)
    place.at(2026, 7, 2, 15)
    await action_rule(place.program, Action.BIRTHDAY, 10)
    assert await place.sweep(2026, 7, 2, 16) == 1
    assert await place.sweep(2026, 7, 3, 6) == 1
    assert [await place.told(each) for each in members] == [[], [], [birthday(2026)], [birthday(2026)]]


async def test_a_rule_made_while_no_worker_ran_pays_for_the_days_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 12, rules=())
    members = [await place.born(date(1990, 3, day)) for day in range(1, 8)]
    await place.sweep(2026, 3, 1, 12)
    place.at(2026, 3, 4, 23, 30)
    await action_rule(place.program, Action.BIRTHDAY, 10)
    assert await place.sweep(2026, 3, 6, 12) == 3
    assert [len(await place.told(each)) for each in members] == [0, 0, 0, 1, 1, 1, 0]


async def test_days_on_which_the_rule_was_paused_are_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 12, rules=())
    rule = await action_rule(place.program, Action.BIRTHDAY, 10)
    members = [await place.born(date(1990, 3, day)) for day in range(1, 10)]
    await place.sweep(2026, 3, 1, 12)
    # Nobody sweeps while the rule is paused, and active again.
    place.at(2026, 3, 3, 12)
    await set_rule_status(place.program.id, rule.id, RuleStatus.PAUSED)
    place.at(2026, 3, 5, 23, 59)
    await update_rule(place.program.id, rule.id, {"name": "Still paused"})
    place.at(2026, 3, 7, 0, 0)
    await set_rule_status(place.program.id, rule.id, RuleStatus.ACTIVE)
    assert await place.sweep(2026, 3, 8, 12) == 4
    assert [len(await place.told(each)) for each in members] == [1, 1, 1, 0, 0, 0, 1, 1, 0]


async def test_a_paused_rule_pays_nothing_and_days_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 12, rules=())
    rule = await action_rule(place.program, Action.BIRTHDAY, 10, status=RuleStatus.PAUSED)
    member, later = await place.born(), await place.born(date(1990, 3, 10))
    for day in range(1, 10):
        assert await place.sweep(2026, 3, day, 12) == 0
        assert await place.done_until() == date(2026, 3, day) - timedelta(days=1)
    await set_rule_status(place.program.id, rule.id, RuleStatus.ACTIVE)
    assert await place.sweep(2026, 3, 10, 12) == 1
    assert (await place.told(member), await place.told(later)) == ([], [birthday(2026)])


async def test_an_action_that_a_rule_took_up_later_is_not_made_up_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 12, rules=())
    rule = await action_rule(place.program, Action.ANNIVERSARY, 10)
    member = await place.born()
    await place.sweep(2026, 3, 1, 12)
    place.at(2026, 3, 4, 12)
    await update_rule(place.program.id, rule.id, {"action": Action.BIRTHDAY.value})
    assert await place.sweep(2026, 3, 5, 12) == 0
    assert await place.told(member) == []


async def test_a_rule_pays_for_days_within_its_window_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 12, rules=(), timezone="Asia/Tokyo")
    await action_rule(
        place.program,
        Action.BIRTHDAY,
        10,
        starts_at=datetime(2026, 3, 3, tzinfo=place.zone),
        ends_at=datetime(2026, 3, 5, tzinfo=place.zone),
    )
    members = [await place.born(date(1990, 3, day)) for day in range(1, 7)]
    for day in (1, 2, 3):
        await place.sweep(2026, 3, day, 12)
    assert await place.sweep(2026, 3, 7, 12) == 1
    assert [len(await place.told(each)) for each in members] == [0, 0, 1, 1, 0, 0]


# Twice, at once, and in pieces


async def many(place: Place, size: int) -> list[MemberRow]:
    results = await enroll_members(
        place.program.id,
        [
            NewMember(
                external_id=f"many-{next(_serial)}", birthday=BORN, joined_at=datetime(2020, 3, 3, tzinfo=UTC)
            )
            for _ in range(size)
        ],
    )
    return [result.member for result in results if result.member]


async def all_points(place: Place) -> list[int]:
    async with connection() as sql:
        rows = await sql.fetch("SELECT available FROM account WHERE program_id = $1", place.program.id)
    return [row["available"] for row in rows]


async def test_many_members_are_paid_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 3, 8, rules=BOTH)
    monkeypatch.setattr(calendar, "_BATCH", 7)
    await many(place, 28)
    await many(place, 2)
    assert await place.sweep(2026, 3, 3, 8) == 60
    assert await place.sweep(2026, 3, 3, 9) == 0
    assert await all_points(place) == [15] * 30
    assert not await find_differences(place.program.id)


async def test_two_workers_at_once_pay_everybody_once(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 8, rules=BOTH)
    monkeypatch.setattr(calendar, "_BATCH", 10)
    await many(place, 60)
    await place.sweep(2026, 3, 1, 8)
    place.at(2026, 3, 5, 8)
    counts = await asyncio.gather(*(sweep_program(place.program.id) for _ in range(4)))
    assert sum(counts) == 120
    assert await all_points(place) == [15] * 60
    assert await place.done_until() == date(2026, 3, 4)
    assert not await find_differences(place.program.id)


@pytest.mark.parametrize("batches", [0, 1, 2, 4, 5])
async def test_a_worker_that_dies_between_batches_leaves_nothing_undone_and_nothing_twice(
    monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 8, rules=BOTH)
    monkeypatch.setattr(calendar, "_BATCH", 10)
    await many(place, 30)
    await place.sweep(2026, 3, 1, 8)
    record = calendar.record_now
    turns = count()

    async def until_killed(program_id: UUID, events: Sequence[Incoming]) -> list[Recorded]:
        if next(turns) == batches:
            raise asyncio.CancelledError
        return await record(program_id, events)

    with monkeypatch.context() as dying:
        dying.setattr(calendar, "record_now", until_killed)
        with pytest.raises(asyncio.CancelledError):
            await place.sweep(2026, 3, 4, 8)
    assert await place.done_until() == date(2026, 3, 2)
    assert sum(await all_points(place)) == sum([10, 10, 10, 5, 5, 5][:batches]) * 10
    assert await place.sweep(2026, 3, 4, 8, 1) == 60 - 10 * batches
    assert await all_points(place) == [15] * 30
    assert not await find_differences(place.program.id)


async def test_a_member_whose_books_disagree_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = await make_place(monkeypatch, 2025, 6, 1, rules=BOTH, expiry=inactivity(1))
    members = await many(place, 9)
    await place.sweep(2026, 3, 1, 8)
    await break_books(members[4])
    with structlog.testing.capture_logs() as logged:
        assert await place.sweep(2026, 3, 5, 8) == 18
    assert [each["external_id"] for each in logged] == [
        f"laurel:{action}:2026:{members[4].id.hex}" for action in ("birthday", "anniversary")
    ]
    assert await place.done_until() == date(2026, 3, 4)
    assert sorted(await all_points(place)) == [5] + [15] * 8
    # It waits for the workers, and for whoever puts the books right.
    assert await place.told(members[4]) == [birthday(2026, 0), anniversary(2026, 0)]
    assert await place.sweep(2026, 3, 6, 8) == 0
    batches = await stamp_all(place.program)
    assert sum([await earn_batch(batch) for batch in batches]) == 0
    await mend_books(members[4])
    assert await earn_members(place.program.id, [members[4].id], None) == 2
    assert await all_points(place) == [15] * 9
    assert sorted(await place.told(members[4])) == [anniversary(2026), birthday(2026)]
    assert not await find_differences(place.program.id)


# Every program: in a year before those of other tests, whose programs have nothing to make up for then


async def test_every_program_is_swept_and_those_without_a_rule_cost_next_to_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = await make_place(monkeypatch, 2019, 3, 3, 8, timezone="Asia/Tokyo")
    quiet = [
        await make_place(monkeypatch, 2019, 3, 3, 8, rules=(), timezone=timezone)
        for timezone in ("Asia/Tokyo", "America/New_York")
    ]
    member = await place.born()
    place.at(2019, 3, 3, 9)
    await sweep()
    assert await place.told(member) == [birthday(2019)]
    # In New York it is still the day before.
    assert [await each.done_until() for each in quiet] == [date(2019, 3, 2), date(2019, 3, 1)]
    async with connection() as sql:
        programs = await sql.fetchval("SELECT count(*) FROM program")
        celebrating = await sql.fetchval(
            "SELECT count(DISTINCT program_id) FROM earning_rule WHERE trigger = 'ACTION'"
            " AND status = 'ACTIVE' AND definition->>'action' IN ('BIRTHDAY', 'ANNIVERSARY')"
        )
    place.at(2019, 3, 3, 9, 1)
    async with counting() as counted:
        assert await sweep() == 0
    assert len(counted.statements) <= programs // 100 + 1 + 3 * celebrating
    assert not any(each.startswith("INSERT") for each in counted.statements)
    place.at(2019, 3, 4, 9)
    await sweep()
    assert [await each.done_until() for each in quiet] == [date(2019, 3, 3), date(2019, 3, 2)]


async def test_a_rule_for_a_program_that_was_quiet_pays_from_its_first_day_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = await make_place(monkeypatch, 2018, 3, 1, 8, rules=())
    member = await place.born()
    await sweep()
    place.at(2018, 3, 3, 8)
    await action_rule(place.program, Action.BIRTHDAY, 10)
    place.at(2018, 3, 5, 8)
    await sweep()
    assert await place.told(member) == [birthday(2018)]


async def test_what_is_wrong_with_one_program_keeps_no_other_from_its_birthdays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = [await make_place(monkeypatch, 2016, 3, 3, 8) for _ in range(3)]
    members = [await place.born() for place in places]
    broken = places[1].program.id
    sweep_one = calendar.sweep_program

    async def failing(program_id: UUID) -> int:
        if program_id == broken:
            raise ValueError("a rule that nobody thought of")
        return await sweep_one(program_id)

    errors = ERRORS.labels("calendar")._value.get()
    with monkeypatch.context() as meanwhile, structlog.testing.capture_logs() as logged:
        meanwhile.setattr(calendar, "sweep_program", failing)
        await sweep()
    assert [await place.told(each) for place, each in zip(places, members, strict=True)] == [
        [birthday(2016)],
        [],
        [birthday(2016)],
    ]
    (entry,) = [each for each in logged if each["event"] == "program_not_swept"]
    assert (entry["log_level"], entry["program_id"]) == ("error", str(broken))
    assert ERRORS.labels("calendar")._value.get() == errors + 1
    # It is looked at again in the next sweep.
    await sweep()
    assert await places[1].told(members[1]) == [birthday(2016)]


async def test_a_database_that_is_away_ends_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other programs would fare no better, and the next sweep goes on where this one ended."""
    await make_place(monkeypatch, 2016, 3, 3, 8)

    async def away(_program_id: UUID) -> int:
        raise Unavailable("The database is busy.")

    errors = ERRORS.labels("calendar")._value.get()
    monkeypatch.setattr(calendar, "sweep_program", away)
    with pytest.raises(Unavailable):
        await sweep()
    assert ERRORS.labels("calendar")._value.get() == errors


async def test_the_workers_look_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2017, 3, 3, 8)
    member = await place.born()
    swept = asyncio.Event()

    async def once() -> int:
        found = await sweep()
        swept.set()
        return found

    monkeypatch.setattr("workers.calendar.sweep", once)
    looking = asyncio.create_task(sweep_forever())
    try:
        await asyncio.wait_for(swept.wait(), 10)
    finally:
        looking.cancel()
    assert await place.told(member) == [birthday(2017)]


# Factors and explanations


async def test_campaigns_count_for_birthdays_where_they_list_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 8)
    await make_campaign(
        place.program.id,
        applies_to=(EventKind.ACTION,),
        starts_at=datetime(2026, 3, 3, tzinfo=UTC),
        ends_at=datetime(2026, 3, 4, tzinfo=UTC),
        multiplier=Decimal(3),
    )
    await make_campaign(
        place.program.id,
        applies_to=(EventKind.PURCHASE,),
        starts_at=datetime(2026, 3, 1, tzinfo=UTC),
        ends_at=datetime(2026, 4, 1, tzinfo=UTC),
        multiplier=Decimal(7),
    )
    members = [await place.born(date(1990, 3, day)) for day in (2, 3, 4)]
    await place.sweep(2026, 3, 1, 8)
    # Late, and by the day itself all the same.
    await place.sweep(2026, 3, 8, 8)
    assert [await points_of(place.program, each) for each in members] == [10, 30, 10]


async def test_tiers_count_for_birthdays_where_the_rule_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 8)
    await make_tier(place.program.id, multiplier=Decimal(2))
    await action_rule(place.program, Action.BIRTHDAY, 7, tier_multiplier_applies=True)
    member = await place.born()
    await place.sweep(2026, 3, 3, 8)
    assert await place.told(member) == [birthday(2026, 10 + 14)]


async def test_a_birthday_is_explained_like_any_other_event(monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(monkeypatch, 2026, 3, 1, 8, rules=BOTH)
    member = await place.born()
    await adjust_points(place.program.id, by_id(member), 3, "Welcome", "welcome")
    await place.sweep(2026, 3, 3, 8)
    (event,) = await own_events(place.program, member)
    (outcomes,) = await get_explanations(place.program.id, [event.id])
    assert [outcome.reason for outcome in outcomes] == [Reason.PAID, Reason.OTHER_ACTION]
    assert await points_of(place.program, member) == 13
    assert not await find_differences(place.program.id)
