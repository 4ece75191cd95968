"""What members have earned: held against a count by hand, day by day, and against what the words mean."""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from app.days import local_date, start_of_day
from app.ids import new_id
from app.tiers.policy import TierBasis, TierDowngrade, TierPolicy, TierWindow
from app.tiers.qualification import Climb, Counted, Rung, climb
from tests.tiers import naive

BERLIN = ZoneInfo("Europe/Berlin")
AUCKLAND = ZoneInfo("Pacific/Auckland")
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def ladder(*thresholds: int) -> list[Rung]:
    return [Rung(new_id(), [(ALWAYS, Decimal(threshold))]) for threshold in thresholds]


def at(*moment: int, zone: ZoneInfo = BERLIN) -> datetime:
    return datetime(*moment, tzinfo=zone).astimezone(UTC)  # type: ignore[arg-type,misc]


def bought(*things: tuple[datetime, int]) -> list[Counted]:
    return sorted(Counted(moment, Decimal(value)) for moment, value in things)


def rolling(months: int, **fields: object) -> TierPolicy:
    return TierPolicy(TierBasis.AMOUNT_SPENT, TierWindow.ROLLING_MONTHS, months)._replace(**fields)


def yearly(**fields: object) -> TierPolicy:
    return TierPolicy(TierBasis.AMOUNT_SPENT, TierWindow.CALENDAR_YEAR)._replace(**fields)


def changes(found: Climb) -> list[tuple[datetime, int]]:
    return [(stretch.since, stretch.rank) for stretch in found.stretches if stretch.since is not None]


def test_the_threshold_of_a_tier_is_met_exactly() -> None:
    rungs = ladder(100, 200)
    for value, rank in ((99, 0), (100, 1), (101, 1), (199, 1), (200, 2)):
        found = climb(TierPolicy(), BERLIN, rungs, bought((at(2026, 1, 1, 12), value)), at(2026, 6, 1))
        assert found.rank == rank, value
    cents = [Counted(at(2026, 1, n), Decimal("0.1")) for n in range(1, 11)]
    assert climb(TierPolicy(), BERLIN, ladder(1), cents, at(2026, 6, 1)).stretches[-1].since == at(
        2026, 1, 10
    )


def test_a_tier_is_reached_at_the_very_moment_and_not_before() -> None:
    moment = at(2026, 3, 1, 12)
    things = bought((at(2026, 2, 1), 60), (moment, 40))
    assert climb(TierPolicy(), BERLIN, ladder(100), things, moment - timedelta(microseconds=1)).rank == 0
    assert changes(climb(TierPolicy(), BERLIN, ladder(100), things, moment)) == [(moment, 1)]


def test_a_lifetime_has_no_end() -> None:
    found = climb(TierPolicy(), BERLIN, ladder(100), bought((at(2006, 1, 1), 100)), at(2026, 1, 1))
    assert (found.rank, found.keeps_until, found.qualifying) == (1, None, 100)


def test_what_has_left_the_window_counts_up_to_the_same_day_of_the_later_month() -> None:
    things = bought((at(2025, 3, 10, 15), 100))
    lost = at(2026, 3, 11)
    before = climb(rolling(12), BERLIN, ladder(100), things, lost - DAY)
    assert (before.rank, before.keeps_until, before.qualifying) == (1, lost, 100)
    after = climb(rolling(12), BERLIN, ladder(100), things, lost)
    assert (after.rank, after.keeps_until, after.qualifying) == (0, None, 0)
    assert changes(after) == [(at(2025, 3, 10, 15), 1), (lost, 0)]


def test_the_window_of_the_month_s_last_day_ends_with_a_shorter_month() -> None:
    found = climb(rolling(1), BERLIN, ladder(1), bought((at(2026, 1, 31, 9), 1)), at(2026, 2, 1))
    assert found.keeps_until == at(2026, 3, 1)


def test_a_calendar_year_ends_in_the_program_s_zone_and_grace_comes_after_it() -> None:
    things = bought((at(2025, 12, 31, 23, zone=AUCKLAND), 100))
    found = climb(
        yearly(grace_days=31), AUCKLAND, ladder(100), things, at(2025, 12, 31, 23, 30, zone=AUCKLAND)
    )
    assert found.keeps_until == at(2026, 2, 1, zone=AUCKLAND)
    in_grace = climb(yearly(grace_days=31), AUCKLAND, ladder(100), things, at(2026, 1, 15, zone=AUCKLAND))
    assert (in_grace.rank, in_grace.qualifying) == (1, 0)


def test_whoever_qualifies_for_less_in_the_grace_has_that_afterwards() -> None:
    things = bought((at(2025, 6, 1), 200), (at(2026, 1, 20), 100))
    policy = yearly(grace_days=90)
    assert climb(policy, BERLIN, ladder(100, 200), things, at(2026, 3, 1)).rank == 2
    assert climb(policy, BERLIN, ladder(100, 200), things, at(2026, 4, 1)).rank == 1


def test_one_step_goes_down_by_one_tier_and_by_the_next_after_another_window_and_its_grace() -> None:
    policy = rolling(12, downgrade=TierDowngrade.ONE_STEP, grace_days=10)
    found = climb(policy, BERLIN, ladder(100, 200, 300), bought((at(2020, 5, 5), 300)), at(2026, 1, 1))
    assert changes(found) == [
        (at(2020, 5, 5), 3),
        (at(2021, 5, 16), 2),
        (at(2022, 5, 27), 1),
        (at(2023, 6, 7), 0),
    ]


def test_never_goes_down_never() -> None:
    policy = rolling(1, downgrade=TierDowngrade.NEVER)
    found = climb(policy, BERLIN, ladder(100, 200), bought((at(2020, 5, 5), 150)), at(2026, 1, 1))
    assert (found.rank, found.keeps_until, found.qualifying) == (1, None, 0)


def test_a_threshold_that_is_raised_demotes_nobody_before_the_term_ends() -> None:
    raised = at(2026, 6, 1)
    rungs = [Rung(new_id(), [(ALWAYS, Decimal(100)), (raised, Decimal(150))])]
    things = bought((at(2026, 3, 10), 120))
    found = climb(rolling(12), BERLIN, rungs, things, at(2026, 12, 1))
    assert (found.rank, found.keeps_until) == (1, at(2027, 3, 11))
    # More, but not enough for the threshold of today, makes the term no longer.
    more = bought((at(2026, 3, 10), 120), (at(2026, 8, 1), 20))
    assert climb(rolling(12), BERLIN, rungs, more, at(2026, 12, 1)).keeps_until == at(2027, 3, 11)
    enough = bought((at(2026, 3, 10), 120), (at(2026, 8, 1), 30))
    assert climb(rolling(12), BERLIN, rungs, enough, at(2026, 12, 1)).keeps_until == at(2027, 3, 11)
    whole = bought((at(2026, 3, 10), 120), (at(2026, 8, 1), 150))
    assert climb(rolling(12), BERLIN, rungs, whole, at(2026, 12, 1)).keeps_until == at(2027, 8, 2)


def test_a_threshold_that_is_lowered_lifts_from_that_moment_on() -> None:
    lowered = at(2026, 6, 1)
    rungs = [Rung(new_id(), [(ALWAYS, Decimal(100)), (lowered, Decimal(50))])]
    found = climb(TierPolicy(), BERLIN, rungs, bought((at(2026, 3, 10), 60)), at(2026, 12, 1))
    assert changes(found) == [(lowered, 1)]


def random_policy(chance: random.Random) -> TierPolicy:
    window = chance.choice(list(TierWindow))
    months = chance.choice([1, 2, 3, 6]) if window is TierWindow.ROLLING_MONTHS else None
    grace = chance.choice([0, 0, 1, 7, 40])
    return TierPolicy(TierBasis.PURCHASES, window, months, chance.choice(list(TierDowngrade)), grace)


def random_things(chance: random.Random, begin: datetime, days: int) -> list[Counted]:
    return sorted(
        Counted(begin + timedelta(seconds=chance.randrange(days * 86_400)), Decimal(chance.randrange(1, 60)))
        for _ in range(chance.randrange(1, 9))
    )


def random_ladder(chance: random.Random, begin: datetime, days: int) -> list[Rung]:
    rungs, threshold = [], 0
    for _ in range(chance.randrange(1, 4)):
        threshold += chance.randrange(20, 60)
        history = [(ALWAYS, Decimal(threshold))]
        if chance.random() < 0.3:
            changed = begin + timedelta(seconds=chance.randrange(days * 86_400))
            history.append((changed, Decimal(threshold + chance.randrange(-15, 15))))
        rungs.append(Rung(new_id(), history))
    return rungs


def seeds(count: int) -> Sequence[int]:
    return range(count)


@pytest.mark.parametrize("seed", seeds(60))
def test_it_agrees_with_a_count_by_hand(seed: int) -> None:
    chance = random.Random(seed)
    zone = chance.choice([BERLIN, AUCKLAND])
    begin, days = at(2025, 9, 1, zone=zone), 240
    policy = random_policy(chance)
    things, rungs = random_things(chance, begin, days), random_ladder(chance, begin, days)
    now = begin + timedelta(seconds=chance.randrange(days * 86_400))
    by_hand = naive.ranks(policy, zone, [rung.thresholds for rung in rungs], things, begin, now)
    found = climb(policy, zone, rungs, things, now)
    assert changes(found) == by_hand
    past = [each for each in things if each.occurred_at <= now]
    assert found.qualifying == naive.sum_on(policy, zone, past, now, local_date(now, zone))


@pytest.mark.parametrize("seed", seeds(60))
def test_the_rank_is_the_best_of_the_days_of_grace(seed: int) -> None:
    """Without changes of thresholds, going down to what is qualified for means just that."""
    chance = random.Random(1000 + seed)
    begin, days = at(2025, 9, 1), 300
    policy = random_policy(chance)._replace(downgrade=TierDowngrade.TO_QUALIFIED)
    thresholds = sorted(chance.sample(range(20, 150), 3))
    things = random_things(chance, begin, days)
    now = begin + timedelta(seconds=chance.randrange(days * 86_400))
    today = local_date(now, BERLIN)

    def qualified(day: date) -> int:
        end = min(now, start_of_day(day + DAY, BERLIN) - timedelta(microseconds=1))
        counted = naive.sum_on(policy, BERLIN, things, end, day)
        return sum(1 for threshold in thresholds if counted >= threshold)

    best = max(qualified(today - n * DAY) for n in range(policy.grace_days + 1))
    found = climb(policy, BERLIN, ladder(*thresholds), things, now)
    assert found.rank == best
    if found.keeps_until is not None:
        assert climb(policy, BERLIN, ladder(*thresholds), things, found.keeps_until - DAY).rank >= 0
        last = [each for each in things if each.occurred_at <= now]
        assert climb(policy, BERLIN, ladder(*thresholds), last, found.keeps_until).rank < found.rank
        almost = found.keeps_until - timedelta(microseconds=1)
        assert climb(policy, BERLIN, ladder(*thresholds), last, almost).rank == found.rank
