"""Check-ins: spent once, in time, from near enough, and as often as rules pay; days are the store's."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from app import clock
from app.campaigns.audience import Audience
from app.database import connection
from app.earning.events import Event, Incoming
from app.earning.outcomes import Reason
from app.earning.reads import get_awards, get_explanations, list_events
from app.earning.recording import record_now
from app.earning.rules import EventKind, Frequency, Period, Rule, RuleLimits
from app.errors import ErrorCode, Refused
from app.ledger.operations import MAX_POINTS
from app.ledger.reads import get_balances
from app.members.inputs import MemberStatus
from app.members.reads import MemberRef, MemberRow
from app.members.service import update_member
from app.paging import make_page
from app.programs.models import Program
from app.stores.check_in import CheckedIn, check_in
from app.stores.codes import CheckInCodes
from app.stores.reads import StoreRef
from app.stores.service import update_store
from app.stores.stores import Store
from tests.campaigns.making import make_campaign
from tests.helpers import (
    by_id,
    find_differences,
    new_member,
    new_program,
    new_rule,
    policy_of,
    purchase,
    set_now,
)
from tests.stores.making import make_store

CODES = CheckInCodes("a secret of the tests")
BERLIN = ZoneInfo("Europe/Berlin")
HERE = (52.52, 13.405)
DEGREE_METERS = 111_195.08
"""Along a meridian of a ball of the Earth's mean radius."""
NOON = (2026, 3, 3, 12, 0)
DAILY = RuleLimits(frequency=Frequency(1, Period.DAY))


@dataclass
class Place:
    """A program with a member and a store in Berlin; the program's own zone is another one."""

    program: Program
    member: MemberRow
    store: Store

    async def rule(self, points: int = 10, **definition: Any) -> Rule:
        return await new_rule(self.program, fixed=points, trigger=EventKind.CHECK_IN, **definition)

    def screen(self, store: Store | None = None, seconds: int = 30) -> str:
        """Return a code that nobody has scanned yet."""
        return CODES.make(self.program.id, (store or self.store).id, seconds, clock.now()).text

    def printed(self, store: Store | None = None) -> str:
        return CODES.make(self.program.id, (store or self.store).id, None, clock.now()).text

    async def scan(
        self, code: str | None = None, member: MemberRow | None = None, **position: float | None
    ) -> CheckedIn:
        """Scan a code, or the one that the screen has just shown."""
        who = by_id(member or self.member)
        text = self.screen() if code is None else code
        return await check_in(self.program.id, who, text, CODES, **position)

    async def pays(self, points: int = 10, code: str | None = None, **position: float) -> Event:
        """Check in with a new code, and get so many points for it."""
        event, replayed = await self.scan(code, **position)
        assert (event.points, event.rejection, replayed) == (points, None, False)
        return event

    async def turned_away(self, code: str | None = None, **position: float | None) -> str:
        """Check in as often as no rule pays for, and return what the member is told."""
        error_code, field, message = await refusal(self.scan(code, **position))
        assert (error_code, field) == (ErrorCode.LIMIT_REACHED, ("code",))
        return message

    async def visits(self, member: MemberRow | None = None) -> list[Event]:
        (page,) = await list_events(self.program.id, [(member or self.member).id], make_page(first=100))
        return page.items

    async def balance(self) -> int:
        (balance,) = await get_balances(await policy_of(self.program), [self.member.id])
        assert balance
        return balance.available


async def refusal(work: Any) -> tuple[ErrorCode, tuple[str, ...] | None, str]:
    """Return the only thing that is wrong with what is refused."""
    with pytest.raises(Refused) as caught:
        await work
    (error,) = caught.value.errors
    assert error.message.endswith(".")
    return error.code, error.field, error.message


def local(monkeypatch: pytest.MonkeyPatch, *moment: int, zone: ZoneInfo = BERLIN) -> datetime:
    """Set the clock to what clocks of a zone show."""
    return set_now(monkeypatch, *moment, tz=zone)


@pytest.fixture(params=["America/New_York"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    program = await new_program(timezone=request.param)
    store = await make_store(program.id, name="Nordhaus Mitte", timezone="Europe/Berlin")
    yield Place(program, await new_member(program), store)
    assert await find_differences(program.id) == []


everywhere = pytest.mark.parametrize("place", ["America/New_York", "Asia/Tokyo"], indirect=True)


# --- what is recorded ---------------------------------------------------------


async def test_visit_is_an_event_of_the_store_that_earns_what_the_rules_give(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = local(monkeypatch, *NOON)
    await place.rule(10)
    await new_rule(place.program, fixed=99)
    event, replayed = await place.scan(place.screen())

    assert not replayed
    assert (event.kind, event.member_id, event.store_id) == (
        EventKind.CHECK_IN, place.member.id, place.store.id,
    )  # fmt: skip
    assert (event.occurred_at, event.recorded_at, event.amount) == (now, now, None)
    assert event.external_id.startswith("laurel:check-in:")
    assert (event.points, event.rejection, event.processed_at) == (10, None, now)
    assert await place.visits() == [event]
    assert await place.balance() == 10


async def test_visit_that_no_rule_is_for_is_recorded_without_points(place: Place) -> None:
    elsewhere = await make_store(place.program.id)
    await place.pays(0)
    await place.rule(audience=Audience(stores=(elsewhere.id,)))
    event = await place.pays(0)
    ((outcome,),) = await get_explanations(place.program.id, [event.id])
    assert outcome.reason is Reason.NOT_IN_AUDIENCE
    assert len(await place.visits()) == 2


async def test_rule_for_certain_stores_pays_there(place: Place) -> None:
    elsewhere = await make_store(place.program.id)
    await place.rule(7, audience=Audience(stores=(place.store.id,)))
    await place.pays(7)
    await place.pays(0, place.screen(elsewhere))


async def test_campaign_multiplies_what_a_visit_earns(place: Place) -> None:
    await place.rule(10)
    await doubled(place)
    await place.pays(20)


async def test_explanation_of_a_visit_tells_of_every_rule_as_it_was_decided(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(monkeypatch, *NOON)
    daily = await place.rule(10, name="Daily", limits=DAILY)
    always = await place.rule(1, name="Always")
    first = await place.pays(11)
    local(monkeypatch, *NOON[:3], 13, 0)
    second = await place.pays(1)

    told = await get_explanations(place.program.id, [first.id, second.id])
    assert [{each.rule_id: each.reason for each in outcomes} for outcomes in told] == [
        {daily.id: Reason.PAID, always.id: Reason.PAID},
        {daily.id: Reason.FREQUENCY_REACHED, always.id: Reason.PAID},
    ]
    (closed,) = (each.message for each in told[1] if each.rule_id == daily.id)
    assert closed == (
        "The rule pays once a day, and has done so."
        " The next time is possible from 4 March 2026, 00:00 (Europe/Berlin) on."
    )


async def doubled(place: Place) -> None:
    """Have visits give twice the points, yesterday until tomorrow."""
    now, day = clock.now(), timedelta(days=1)
    window = {"starts_at": now - day, "ends_at": now + day}
    await make_campaign(place.program.id, applies_to=(EventKind.CHECK_IN,), **window)


# --- codes and repeats --------------------------------------------------------


async def test_code_of_a_screen_is_spent_once_by_each_member(place: Place) -> None:
    await place.rule()
    other = await new_member(place.program)
    code = place.screen()
    first = await place.scan(code)
    again = await place.scan(code)
    theirs = await place.scan(code, other)

    assert (again.event, again.replayed) == (first.event, True)
    assert (theirs.replayed, theirs.event.member_id, theirs.event.points) == (False, other.id, 10)
    assert await place.balance() == 10
    assert (await place.scan(place.screen())).event.id != first.event.id


async def test_retry_is_answered_when_the_code_is_over_the_member_suspended_and_the_store_moved(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(monkeypatch, *NOON)
    await place.rule(limits=DAILY)
    code, late = place.screen(), await new_member(place.program)
    first = await place.scan(code)
    local(monkeypatch, *NOON[:3], 12, 1)
    await update_member(place.program.id, by_id(place.member), {"status": MemberStatus.SUSPENDED})
    changes = {"latitude": HERE[0], "longitude": HERE[1], "radius_meters": 100}
    await update_store(place.program.id, place.store.id, changes)

    assert await place.scan(code) == (first.event, True)
    error_code, field, message = await refusal(place.scan(code, late))
    assert (error_code, field) == (ErrorCode.NOT_ELIGIBLE, ("code",))
    assert message == "The code was valid until 3 March 2026, 12:00:30 (Europe/Berlin); scan a fresh one."
    assert await place.visits(late) == []


async def test_last_microsecond_of_a_code_is_in_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    now = local(monkeypatch, *NOON)
    code = place.screen(seconds=5)
    end = now + timedelta(seconds=5)
    monkeypatch.setattr(clock, "now", lambda: end)
    assert (await refusal(place.scan(code)))[0] is ErrorCode.NOT_ELIGIBLE
    monkeypatch.setattr(clock, "now", lambda: end - timedelta(microseconds=1))
    await place.pays(0, code)


async def test_printed_code_within_a_minute_is_a_retry_and_later_another_visit(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = local(monkeypatch, *NOON)
    await place.rule()
    code, other_poster = place.printed(), place.printed()
    first = await place.scan(code)
    for after in (0, 1, 59.999999, -2):
        moment = now + timedelta(seconds=after)
        monkeypatch.setattr(clock, "now", lambda moment=moment: moment)
        assert await place.scan(code) == (first.event, True)
        assert await place.scan(other_poster) == (first.event, True)
    moment = now + timedelta(seconds=60)
    monkeypatch.setattr(clock, "now", lambda: moment)
    second = await place.pays(10, code)
    assert (await place.scan(code)).event == second
    assert await place.balance() == 20


async def test_printed_code_of_another_store_or_member_is_another_visit_at_once(place: Place) -> None:
    await place.rule()
    elsewhere, other = await make_store(place.program.id), await new_member(place.program)
    code = place.printed()
    events = [
        (await place.scan(code)).event,
        (await place.scan(place.printed(elsewhere))).event,
        (await place.scan(code, other)).event,
    ]
    assert len({event.id for event in events}) == 3
    assert [event.points for event in events] == [10, 10, 10]


async def test_poster_beside_a_screen_gives_no_second_visit_within_the_minute(place: Place) -> None:
    await place.rule()
    first = await place.pays()
    assert await place.scan(place.printed()) == (first, True)


async def test_purchase_in_the_store_is_no_visit_that_a_scan_would_repeat(place: Place) -> None:
    await place.rule()
    incoming = Incoming(purchase(5), by_id(place.member), StoreRef(id=place.store.id))
    await record_now(place.program.id, [incoming])
    await place.pays(10, place.printed())


async def test_codes_of_others_are_refused_and_tell_nothing(place: Place) -> None:
    other = await new_program()
    theirs = await make_store(other.id)
    now = clock.now()
    known = CODES.make(place.program.id, place.store.id, 30, now).text
    for code in (
        "",
        "LC1-",
        known[:-1],
        known[:-1] + ("A" if known[-1] != "A" else "B"),
        known.lower(),
        CODES.make(other.id, theirs.id, 30, now).text,
        CODES.make(other.id, place.store.id, 30, now).text,
        CheckInCodes("another installation").make(place.program.id, place.store.id, None, now).text,
    ):
        told = (ErrorCode.INVALID, ("code",), "This is not a code of ours, or it was altered.")
        assert await refusal(place.scan(code)) == told
    # Only its own installation could have signed it.
    for store_id in (theirs.id, uuid4()):
        signed = CODES.make(place.program.id, store_id, 30, now).text
        told = (ErrorCode.INVALID, ("code",), "The store that the code was made for is not there.")
        assert await refusal(place.scan(signed)) == told
    assert await place.visits() == []


async def test_everything_wrong_with_a_scan_is_told_at_once(place: Place) -> None:
    with pytest.raises(Refused) as caught:
        await place.scan("nothing", latitude=91, longitude=math.nan)
    assert [(error.code, error.field) for error in caught.value.errors] == [
        (ErrorCode.INVALID, ("code",)),
        (ErrorCode.INVALID, ("latitude",)),
        (ErrorCode.INVALID, ("longitude",)),
    ]


# --- members ------------------------------------------------------------------


@pytest.mark.parametrize(
    "ref",
    [
        MemberRef(id=uuid4()),
        MemberRef(external_id="nobody"),
        MemberRef(email="no@b.dy"),
        MemberRef(email="\0"),
    ],
)
async def test_member_that_there_is_not_is_not_found(place: Place, ref: MemberRef) -> None:
    told = await refusal(check_in(place.program.id, ref, place.screen(), CODES))
    assert told == (ErrorCode.NOT_FOUND, ("member", ref.field), "There is no such member.")


async def test_member_of_another_program_is_not_found(place: Place) -> None:
    stranger = await new_member(await new_program())
    assert (await refusal(place.scan(member=stranger)))[:2] == (ErrorCode.NOT_FOUND, ("member", "id"))


@pytest.mark.parametrize("status", [MemberStatus.SUSPENDED, MemberStatus.CLOSED])
async def test_member_who_cannot_earn_cannot_check_in(place: Place, status: MemberStatus) -> None:
    await place.rule()
    await update_member(place.program.id, by_id(place.member), {"status": status})
    told = (ErrorCode.NOT_ELIGIBLE, ("member",), f"The member is {status.lower()} and earns nothing.")
    for code in (place.screen(), place.printed()):
        assert await refusal(place.scan(code)) == told
    assert await place.visits() == []


# --- distance -----------------------------------------------------------------


async def placed(place: Place, radius_meters: int | None, here: tuple[float, float] = HERE) -> None:
    changes = {"latitude": here[0], "longitude": here[1], "radius_meters": radius_meters}
    place.store = await update_store(place.program.id, place.store.id, changes)


def north(meters: float) -> dict[str, float]:
    return {"latitude": HERE[0] + meters / DEGREE_METERS, "longitude": HERE[1]}


@pytest.mark.parametrize("meters", [0, 50, -99.9, 99.9])
async def test_member_within_the_radius_checks_in(place: Place, meters: float) -> None:
    await placed(place, 100)
    await place.rule()
    await place.pays(10, **north(meters))


@pytest.mark.parametrize(
    ("meters", "radius", "about", "within"),
    [
        (345, 100, "350 m", "100 m"),
        (100.5, 100, "110 m", "100 m"),
        (-345, 100, "350 m", "100 m"),
        (1.5, 1, "10 m", "1 m"),
        (985, 100, "990 m", "100 m"),
        (999, 100, "1.0 km", "100 m"),
        (1000.5, 1000, "1.1 km", "1,000 m"),
        (9_850, 100, "9.9 km", "100 m"),
        (12_345, 100, "13 km", "100 m"),
        (100_001, 100_000, "101 km", "100,000 m"),
        (2_500_500, 100, "2,501 km", "100 m"),
    ],
)
async def test_member_too_far_away_is_told_how_far(
    place: Place, meters: float, radius: int, about: str, within: str
) -> None:
    await placed(place, radius)
    told = await refusal(place.scan(**north(meters)))
    message = f"You are about {about} away from Nordhaus Mitte; check-ins count within {within}."
    assert told == (ErrorCode.NOT_ELIGIBLE, ("latitude",), message)
    assert await place.visits() == []


async def test_distance_is_measured_across_the_date_line_and_at_a_pole(place: Place) -> None:
    await placed(place, 50, (0.0, 179.9999))
    await place.pays(0, latitude=0.0, longitude=-179.9999)
    await placed(place, 50, (90.0, 0.0))
    await place.pays(0, latitude=90.0, longitude=-123.0)
    assert "about 20,016 km away" in (await refusal(place.scan(latitude=-90.0, longitude=0.0)))[2]


async def test_store_with_a_radius_asks_for_a_position(place: Place) -> None:
    await placed(place, 100)
    assert await refusal(place.scan()) == (
        ErrorCode.INVALID,
        ("latitude",),
        "Nordhaus Mitte asks for your position: it takes check-ins within 100 m.",
    )


@pytest.mark.parametrize("radius", [None, 100])
@pytest.mark.parametrize(
    ("latitude", "longitude", "field"),
    [
        (HERE[0], None, "longitude"),
        (None, HERE[1], "latitude"),
        (90.0001, 0, "latitude"),
        (-math.inf, 0, "latitude"),
        (math.nan, 0, "latitude"),
        (0, 180.0001, "longitude"),
        (0, math.inf, "longitude"),
        (0, math.nan, "longitude"),
    ],
)
async def test_position_that_cannot_be_is_refused_wherever_the_store_is(
    place: Place, radius: int | None, latitude: float | None, longitude: float | None, field: str
) -> None:
    await placed(place, radius)
    told = await refusal(place.scan(latitude=latitude, longitude=longitude))
    assert told[:2] == (ErrorCode.INVALID, (field,))


async def test_store_without_a_radius_does_not_care_where_the_member_is(place: Place) -> None:
    await place.pays(0, latitude=-90.0, longitude=180.0)
    await placed(place, None)
    await place.pays(0, latitude=-90.0, longitude=180.0)


async def test_position_is_kept_nowhere(place: Place) -> None:
    await placed(place, 100)
    await place.rule(limits=DAILY)
    event = await place.pays(10, latitude=52.5201234, longitude=13.4051234)
    async with connection() as sql:
        kept = await sql.fetchrow(
            "SELECT e::text, o::text, array_agg(a::text) FROM event e"
            " JOIN event_outcome o ON o.event_id = e.id JOIN award a ON a.event_id = e.id"
            " WHERE e.id = $1 GROUP BY 1, 2",
            event.id,
        )
    assert str(event.id) in str(kept)
    assert "5201234" not in str(kept)
    assert "4051234" not in str(kept)


# --- limits, days and weeks ---------------------------------------------------

NIGHTS = [
    (date(2026, 3, 3), "an ordinary night"),
    (date(2026, 3, 28), "the night into the day on which clocks go forward"),
    (date(2026, 3, 29), "the night after it"),
    (date(2026, 10, 24), "the night into the day on which clocks go back"),
    (date(2026, 10, 25), "the night after it"),
]
CHANGES = [date(2026, 3, 29), date(2026, 10, 25)]


def day_of(day: date) -> tuple[int, int, int]:
    return day.year, day.month, day.day


def midnight(day: date) -> str:
    """Return how a message tells the first minute of a day."""
    return f"{day.day} {day:%B %Y}, 00:00 (Europe/Berlin)"


def already(until: str) -> str:
    return f"You have checked in already: the next time is possible from {until} on."


@everywhere
@pytest.mark.parametrize("night", [night for night, _ in NIGHTS], ids=[f"{n} {what}" for n, what in NIGHTS])
async def test_visits_at_23_59_and_00_01_are_of_two_days_of_the_store(
    place: Place, monkeypatch: pytest.MonkeyPatch, night: date
) -> None:
    await place.rule(limits=DAILY)
    following = night + timedelta(days=1)
    local(monkeypatch, *day_of(night), 23, 59)
    evening = await place.pays()
    assert await place.turned_away() == already(midnight(following))
    local(monkeypatch, *day_of(night), 23, 59, 59)
    assert await place.turned_away() == already(midnight(following))
    local(monkeypatch, *day_of(following), 0, 1)
    morning = await place.pays()
    local(monkeypatch, *day_of(following), 0, 2)
    assert await place.turned_away() == already(midnight(following + timedelta(days=1)))

    assert len(await place.visits()) == 2
    assert await place.balance() == 20
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT event_id, day FROM award WHERE event_id = ANY($1::uuid[])", [evening.id, morning.id]
        )
    assert dict(map(tuple, rows)) == {evening.id: night, morning.id: following}


@everywhere
@pytest.mark.parametrize("day", [date(2026, 3, 3), *CHANGES], ids=str)
async def test_visits_at_00_01_and_23_59_are_of_one_day_however_long_it_is(
    place: Place, monkeypatch: pytest.MonkeyPatch, day: date
) -> None:
    await place.rule(limits=DAILY)
    following = day + timedelta(days=1)
    local(monkeypatch, *day_of(day), 0, 1)
    await place.pays()
    for hour in (1, 2, 3, 12, 23):
        local(monkeypatch, *day_of(day), hour, 59)
        assert await place.turned_away() == already(midnight(following))
    local(monkeypatch, *day_of(following), 0, 0)
    await place.pays()


async def test_hour_that_comes_twice_is_of_one_day(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.rule(limits=DAILY)
    set_now(monkeypatch, 2026, 10, 25, 0, 30)
    await place.pays()
    set_now(monkeypatch, 2026, 10, 25, 1, 30)
    assert await place.turned_away() == already(midnight(date(2026, 10, 26)))


@everywhere
async def test_daily_cap_of_the_program_counts_visits_on_the_days_of_the_store(
    monkeypatch: pytest.MonkeyPatch, place: Place
) -> None:
    program = await new_program(timezone=place.program.timezone, max_points_per_day=15)
    store = await make_store(program.id, timezone="Europe/Berlin")
    capped = Place(program, await new_member(program), store)
    await capped.rule(10)
    await new_rule(program, 1)
    for day in CHANGES:
        for moment, points in (
            ((0, 1), 10), ((12, 0), 5), ((23, 59), 0),
        ):  # fmt: skip
            local(monkeypatch, *day_of(day), *moment)
            await capped.pays(points)
        local(monkeypatch, *day_of(day + timedelta(days=1)), 0, 1)
        await capped.pays(10)
    assert await find_differences(program.id) == []


async def test_rule_with_points_per_day_counts_days_of_the_store(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.rule(10, limits=RuleLimits(max_points_per_day=15))
    for moment, points in (
        ((2026, 3, 28, 23, 59), 10), ((2026, 3, 29, 0, 1), 10), ((2026, 3, 29, 12, 0), 5),
        ((2026, 3, 29, 23, 59), 0), ((2026, 3, 30, 0, 0), 10),
    ):  # fmt: skip
        local(monkeypatch, *moment)
        await place.pays(points)


@everywhere
@pytest.mark.parametrize("sunday", [date(2026, 3, 8), *CHANGES], ids=str)
async def test_week_begins_with_the_monday_of_the_store(
    place: Place, monkeypatch: pytest.MonkeyPatch, sunday: date
) -> None:
    assert sunday.weekday() == 6
    await place.rule(limits=RuleLimits(frequency=Frequency(2, Period.WEEK)))
    monday = sunday + timedelta(days=1)
    local(monkeypatch, *day_of(sunday - timedelta(days=6)), 0, 0)
    await place.pays()
    local(monkeypatch, *day_of(sunday), 23, 58)
    await place.pays()
    local(monkeypatch, *day_of(sunday), 23, 59)
    assert await place.turned_away() == already(midnight(monday))
    for minute in (0, 1):
        local(monkeypatch, *day_of(monday), 0, minute)
        await place.pays()
    local(monkeypatch, *day_of(monday), 0, 2)
    assert await place.turned_away() == already(midnight(monday + timedelta(days=7)))


@pytest.mark.parametrize("moment", [NOON, (2026, 3, 29, 1, 30), (2026, 10, 25, 1, 30)], ids=str)
async def test_cooldown_is_over_exactly_at_its_end(
    place: Place, monkeypatch: pytest.MonkeyPatch, moment: tuple[int, ...]
) -> None:
    await place.rule(limits=RuleLimits(cooldown_minutes=90))
    now = local(monkeypatch, *moment)
    await place.pays()
    end = now + timedelta(minutes=90)
    monkeypatch.setattr(clock, "now", lambda: end - timedelta(microseconds=1))
    shown = end.astimezone(BERLIN)
    until = f"{shown.day} {shown:%B %Y, %H:%M} (Europe/Berlin)"
    assert await place.turned_away() == already(until)
    code = place.screen()
    monkeypatch.setattr(clock, "now", lambda: end)
    await place.pays(10, code)
    assert len(await place.visits()) == 2


async def test_printed_code_is_turned_away_within_the_cooldown_from_the_first_second_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.rule(limits=RuleLimits(cooldown_minutes=240))
    now = local(monkeypatch, *NOON)
    code = place.printed()
    first = await place.pays(10, code)
    for seconds in (1, 59, 60):
        monkeypatch.setattr(clock, "now", lambda later=now + timedelta(seconds=seconds): later)
        assert await place.turned_away(code) == already("3 March 2026, 16:00 (Europe/Berlin)")
    assert await place.visits() == [first]


async def test_printed_code_without_limits_is_replayed_within_a_minute(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.rule()
    now = local(monkeypatch, *NOON)
    code = place.printed()
    first = await place.pays(10, code)
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(seconds=59))
    assert await place.scan(code) == (first, True)
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(seconds=60))
    await place.pays(10, code)
    assert len(await place.visits()) == 2


async def test_each_store_counts_by_its_own_day(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the 3rd in Berlin and the 4th in Tokyo: one visit for each of the two days."""
    tokyo = await make_store(place.program.id, timezone="Asia/Tokyo")
    await place.rule(limits=DAILY)
    set_now(monkeypatch, 2026, 3, 3, 16, 30)
    await place.pays()
    await place.pays(10, place.screen(tokyo))
    # The 4th is used up, too: told in Berlin, on whose clocks it has not begun.
    assert await place.turned_away() == already(midnight(date(2026, 3, 5)))
    told = await place.turned_away(place.screen(tokyo))
    assert told == already("5 March 2026, 00:00 (Asia/Tokyo)")
    set_now(monkeypatch, 2026, 3, 4, 14, 59)
    assert await place.turned_away() == already(midnight(date(2026, 3, 5)))
    set_now(monkeypatch, 2026, 3, 4, 15, 0)
    await place.pays(10, place.screen(tokyo))
    set_now(monkeypatch, 2026, 3, 4, 23, 0)
    assert await place.turned_away() == already(midnight(date(2026, 3, 6)))


async def test_days_that_were_counted_stay_when_the_store_moves_to_another_zone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.rule(limits=DAILY)
    set_now(monkeypatch, 2026, 3, 3, 16, 30)
    await place.pays()
    await update_store(place.program.id, place.store.id, {"timezone": "Asia/Tokyo"})
    await place.pays()
    assert await place.turned_away() == already("5 March 2026, 00:00 (Asia/Tokyo)")


async def test_cooldown_that_ends_on_a_day_that_is_used_up_is_not_the_next_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokyo = await make_store(place.program.id, timezone="Asia/Tokyo")
    await place.rule(limits=RuleLimits(frequency=Frequency(1, Period.DAY), cooldown_minutes=60))
    # Half past eleven in the evening of the 3rd in Berlin; in Tokyo it is the morning of the 4th.
    local(monkeypatch, 2026, 3, 3, 23, 30)
    await place.pays(10, place.screen(tokyo))
    assert await place.turned_away() == already(midnight(date(2026, 3, 5)))


async def test_earliest_time_of_several_rules_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.rule(1, limits=RuleLimits(max_times_per_member=1))
    await place.rule(2, limits=RuleLimits(frequency=Frequency(1, Period.MONTH)))
    await place.rule(4, limits=DAILY)
    await place.rule(8, limits=RuleLimits(cooldown_minutes=60))
    local(monkeypatch, 2026, 3, 3, 9, 0)
    await place.pays(15)
    assert await place.turned_away() == already("3 March 2026, 10:00 (Europe/Berlin)")
    local(monkeypatch, 2026, 3, 3, 23, 30)
    await place.pays(8)
    assert await place.turned_away() == already(midnight(date(2026, 3, 4)))
    local(monkeypatch, 2026, 3, 4, 0, 0)
    await place.pays(4)


async def test_member_who_was_paid_as_often_as_the_rule_pays_anybody_is_told_no_time(place: Place) -> None:
    await place.rule(limits=RuleLimits(max_times_per_member=2))
    await place.pays()
    await place.pays()
    assert await place.turned_away() == "You have checked in as often as is possible."
    assert len(await place.visits()) == 2


async def test_time_at_which_the_rule_has_ended_is_not_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(monkeypatch, *NOON)
    await place.rule(limits=DAILY, ends_at=datetime(2026, 3, 4, tzinfo=BERLIN).astimezone(UTC))
    await place.pays()
    assert await place.turned_away() == "You have checked in as often as is possible."
    local(monkeypatch, 2026, 3, 4, 0, 0)
    await place.pays(0)


async def test_rule_that_is_not_meant_for_the_visit_does_not_let_it_in(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(monkeypatch, *NOON)
    elsewhere = await make_store(place.program.id)
    await place.rule(limits=DAILY)
    await place.rule(audience=Audience(stores=(elsewhere.id,)))
    await place.pays()
    assert await place.turned_away() == already(midnight(date(2026, 3, 4)))
    await place.pays(10, place.screen(elsewhere))


async def test_rule_whose_budget_is_spent_neither_lets_in_nor_turns_away(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(monkeypatch, *NOON)
    await place.rule(10, limits=RuleLimits(frequency=Frequency(1, Period.DAY), budget=10))
    await place.pays(10)
    await place.pays(0)
    await place.rule(1, limits=DAILY)
    await place.pays(1)
    assert await place.turned_away() == already(midnight(date(2026, 3, 4)))


async def test_visit_that_limits_left_nothing_of_uses_up_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(monkeypatch, *NOON)
    await place.rule(10, limits=RuleLimits(frequency=Frequency(2, Period.DAY), max_points_per_day=10))
    await place.pays(10)
    await place.pays(0)
    await place.pays(0)


async def test_visit_that_would_earn_more_than_can_be_counted_is_recorded_and_says_so(place: Place) -> None:
    await place.rule(MAX_POINTS, limits=DAILY)
    await doubled(place)
    event, _ = await place.scan()
    assert event.points == 0
    assert "more points than can be counted" in (event.rejection or "")


# --- many at once -------------------------------------------------------------

CLIENTS = 32


async def outcomes(work: list[Any]) -> Counter[str]:
    """Return how often a check-in was new, a replay, or refused for which reason."""
    found: Counter[str] = Counter()
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, CheckedIn):
            found["replayed" if result.replayed else "new"] += 1
        else:
            assert isinstance(result, Refused), result
            found[result.errors[0].code] += 1
    return found


@pytest.mark.parametrize("limits", [RuleLimits(), DAILY], ids=["unlimited", "daily"])
@pytest.mark.parametrize("kind", ["screen", "printed"])
async def test_one_code_scanned_by_many_clients_at_once_is_one_visit_and_one_payment(
    place: Place, kind: str, limits: RuleLimits
) -> None:
    await place.rule(limits=limits)
    code = place.screen() if kind == "screen" else place.printed()
    found = await outcomes([place.scan(code) for _ in range(CLIENTS)])
    # Whoever scans a printed code too often is told when the next time is.
    told = "LIMIT_REACHED" if kind == "printed" and limits == DAILY else "replayed"
    assert found == {"new": 1, told: CLIENTS - 1}
    (event,) = await place.visits()
    ((award,),) = await get_awards(place.program.id, [event.id])
    assert award.points == 10
    assert await place.balance() == 10


async def test_many_codes_at_once_under_a_daily_rule_are_one_visit(place: Place) -> None:
    await place.rule(limits=DAILY)
    found = await outcomes([place.scan(place.screen()) for _ in range(CLIENTS)])
    assert found == {"new": 1, "LIMIT_REACHED": CLIENTS - 1}
    assert len(await place.visits()) == 1
    assert await place.balance() == 10


async def test_many_members_spend_one_code_and_share_a_budget_exactly(place: Place) -> None:
    await place.rule(10, limits=RuleLimits(frequency=Frequency(1, Period.DAY), budget=105))
    members = [await new_member(place.program) for _ in range(CLIENTS)]
    code = place.screen()
    found = await outcomes([place.scan(code, member) for member in members for _ in range(2)])
    assert found == {"new": CLIENTS, "replayed": CLIENTS}
    points = [event.points for member in members for event in await place.visits(member)]
    assert sorted(points, reverse=True)[:12] == [10] * 10 + [5, 0]
    assert len(points) == CLIENTS
