"""What a customer is told when a rule pays only so often, and when it will be there again."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.earning.engine import evaluate
from app.earning.limit_messages import closed_message
from app.earning.limits import Book, Waiting
from app.earning.outcomes import Reason
from app.earning.rules import Frequency, Period, RuleLimits
from app.ids import new_id
from tests.earning.making import NOBODY, TICK, NothingYet, purchase, rule, rule_set

DAY, WEEK, MONTH, YEAR = Period
# A Monday, and the same day in the zones of these tests.
PAID = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)


async def told(
    limits: RuleLimits, *paid_and_asked: datetime, zone: str = "UTC", ends_at: datetime | None = None
) -> tuple[Reason, str] | None:
    """Return why the last of several events is turned away, after all before it were earned."""
    rules = rule_set(rule(fixed=5, limits=limits, ends_at=ends_at), timezone=zone)
    member = new_id()
    events = [Waiting(new_id(), member, purchase(amount="1", at=at)) for at in paid_and_asked]
    book = Book(rules.policy)
    await book.read(NothingYet(), [(event, rules.candidates(event.facts)) for event in events])
    for event in events[:-1]:
        book.take(
            book.place(event),
            event.facts.occurred_at,
            evaluate(rules, event.facts, NOBODY, book.rooms(event)),
        )
    (compiled,) = rules.compiled.values()
    found = book.rooms(events[-1]).of(compiled).closed
    return None if found is None else (found.reason, closed_message(compiled, found))


@pytest.mark.parametrize(
    ("frequency", "often", "again"),
    [
        (Frequency(1, DAY), "once a day", "3 March 2026, 00:00"),
        (Frequency(2, DAY), "twice a day", "3 March 2026, 00:00"),
        (Frequency(3, WEEK), "3 times a week", "9 March 2026, 00:00"),
        (Frequency(1, MONTH), "once a month", "1 April 2026, 00:00"),
        (Frequency(1, YEAR), "once a year", "1 January 2027, 00:00"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
async def test_a_frequency_is_told_with_the_next_period(
    frequency: Frequency, often: str, again: str, zone: str
) -> None:
    earlier = [PAID + timedelta(minutes=n) for n in range(frequency.times)]
    asked = PAID + timedelta(hours=1)
    assert await told(RuleLimits(frequency=frequency), *earlier, asked, zone=zone) == (
        Reason.FREQUENCY_REACHED,
        f"The rule pays {often}, and has done so. The next time is possible from {again} ({zone}) on.",
    )
    begins = datetime.strptime(again, "%d %B %Y, %H:%M").replace(tzinfo=ZoneInfo(zone))
    assert await told(RuleLimits(frequency=frequency), *earlier, begins, zone=zone) is None
    assert (
        await told(RuleLimits(frequency=frequency), *earlier, begins - timedelta(minutes=1), zone=zone)
        is not None
    )


@pytest.mark.parametrize(
    ("minutes", "waits"),
    [
        (1, "1 minute"),
        (45, "45 minutes"),
        (60, "1 hour"),
        (90, "90 minutes"),
        (120, "2 hours"),
        (1440, "24 hours"),
        (1500, "25 hours"),
        (2880, "2 days"),
        (7 * 1440, "7 days"),
        (366 * 1440, "366 days"),
    ],
)
async def test_a_pause_is_told_with_its_end(minutes: int, waits: str) -> None:
    limits = RuleLimits(cooldown_minutes=minutes)
    reason, message = await told(limits, PAID, PAID + timedelta(seconds=30)) or (None, "")
    again = PAID + timedelta(minutes=minutes)
    assert reason is Reason.COOLING_DOWN
    assert message == (
        f"The rule paid on 2 March 2026, 12:30 (UTC), and waits {waits}."
        f" The next time is possible from {again.day} {again:%B %Y, %H:%M} (UTC) on."
    )
    assert await told(limits, PAID, again) is None


async def test_a_time_that_is_told_does_not_come_too_early() -> None:
    limits = RuleLimits(cooldown_minutes=10)
    for second, again in ((0, "12:40"), (1, "12:41"), (59, "12:41")):
        paid = PAID + timedelta(seconds=second)
        _, message = await told(limits, paid, paid + timedelta(minutes=1)) or (None, "")
        assert message.endswith(f"from 2 March 2026, {again} (UTC) on.")


async def test_what_happened_earlier_and_comes_in_late_waits_for_what_was_paid_after_it() -> None:
    limits = RuleLimits(cooldown_minutes=60)
    assert await told(limits, PAID, PAID - timedelta(minutes=59)) == (
        Reason.COOLING_DOWN,
        "The rule paid on 2 March 2026, 12:30 (UTC), and waits 1 hour."
        " The next time is possible from 2 March 2026, 13:30 (UTC) on.",
    )
    assert await told(limits, PAID, PAID - timedelta(minutes=60)) is None


async def test_of_a_pause_and_a_frequency_the_later_end_is_told() -> None:
    limits = RuleLimits(cooldown_minutes=60, frequency=Frequency(1, DAY))
    assert await told(limits, PAID, PAID + timedelta(minutes=5)) == (
        Reason.COOLING_DOWN,
        "The rule paid on 2 March 2026, 12:30 (UTC), and waits 1 hour."
        " The next time is possible from 3 March 2026, 00:00 (UTC) on.",
    )


ONCE_A_DAY = (RuleLimits(frequency=Frequency(1, DAY)), "The rule pays once a day, and has done so.")
ONE_DAY_BETWEEN = (
    RuleLimits(cooldown_minutes=24 * 60),
    "The rule paid on 2 March 2026, 12:30 (UTC), and waits 24 hours.",
)


@pytest.mark.parametrize(
    ("limits", "message", "again"),
    [
        (*ONCE_A_DAY, datetime(2026, 3, 3, tzinfo=UTC)),
        (*ONE_DAY_BETWEEN, datetime(2026, 3, 3, 12, 30, tzinfo=UTC)),
    ],
)
async def test_of_a_rule_that_ends_first_no_next_time_is_promised(
    limits: RuleLimits, message: str, again: datetime
) -> None:
    asked = PAID + timedelta(hours=1)
    # A window does not include its end.
    for ends_at in (asked + TICK, again):
        _, said = await told(limits, PAID, asked, ends_at=ends_at) or (None, "")
        assert said == f"{message} It ends before the next time."
    _, said = await told(limits, PAID, asked, ends_at=again + TICK) or (None, "")
    assert said == (f"{message} The next time is possible from {again.day} {again:%B %Y, %H:%M} (UTC) on.")


@pytest.mark.parametrize(("most", "often"), [(1, "once"), (2, "twice"), (3, "3 times")])
async def test_a_members_limit_is_told_without_a_next_time(most: int, often: str) -> None:
    limits = RuleLimits(max_times_per_member=most, cooldown_minutes=1)
    days = [PAID + timedelta(days=n) for n in range(most + 1)]
    assert await told(limits, *days) == (
        Reason.MEMBER_LIMIT_REACHED,
        f"The rule pays each member {often} in all, and has done so.",
    )
    assert await told(limits, *days[1:]) is None
