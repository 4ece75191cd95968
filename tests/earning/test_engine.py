"""What a purchase earns, against a second calculation that is plain, slow and exact."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from app.earning.engine import Award, RuleSet, StepKind, TooManyPoints, evaluate, round_ratio, shown
from app.earning.rules import EventKind, PointsPerAmount, Rule, RuleDefinition, RuleStatus
from app.ids import new_id
from app.ledger.expiry import ExpiryPolicy
from app.ledger.operations import MAX_POINTS
from app.programs.policy import MultiplierStacking, ProgramPolicy, Rounding

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)

POLICY = ProgramPolicy(
    program_id=new_id(),
    version=1,
    currency="EUR",
    timezone="UTC",
    rounding=Rounding.FLOOR,
    multiplier_stacking=MultiplierStacking.MULTIPLY,
    max_points_per_day=None,
    pending_days=0,
    expiry=ExpiryPolicy(),
    expiry_changed_at=NOON,
    debt_limit=0,
)


def rule(
    points: str = "1", per: str = "1", *, fixed: int | None = None, created_at: datetime = NOON, **fields: Any
) -> Rule:
    rate = PointsPerAmount(Decimal(points), Decimal(per)) if fixed is None else None
    definition = RuleDefinition(
        **({"name": "Rule"} | fields), trigger=EventKind.PURCHASE, points_per_amount=rate, fixed_points=fixed
    )
    return Rule(new_id(), 1, RuleStatus.ACTIVE, definition, created_at, created_at)


def earn(
    *rules: Rule, amount: str, at: datetime = NOON, room: int | None = None, **policy: Any
) -> list[Award]:
    if room is not None:
        policy.setdefault("max_points_per_day", 1000)
    return list(evaluate(RuleSet(replace(POLICY, **policy), rules), at, Decimal(amount), room))


def points(*rules: Rule, amount: str, **arguments: Any) -> list[int]:
    return [award.points for award in earn(*rules, amount=amount, **arguments)]


# Rates and rounding


@pytest.mark.parametrize(
    ("rate", "amount", "floor", "half_up", "ceiling"),
    [
        (("1", "1"), "19.99", 19, 20, 20),
        (("1", "1"), "19.50", 19, 20, 20),
        (("1", "1"), "19.49", 19, 19, 20),
        (("1", "1"), "20.00", 20, 20, 20),
        (("1", "3.00"), "10", 3, 3, 4),
        (("1", "3.00"), "10.50", 3, 4, 4),
        (("1", "3.00"), "8.999999", 2, 3, 3),
        (("1", "3.00"), "9", 3, 3, 3),
        (("2.5", "1"), "0.99", 2, 2, 3),
        (("0.1", "1"), "30", 3, 3, 3),  # three tenths are 0.30000000000000004 in floats
        (("1.1", "1"), "1.1", 1, 1, 2),
        (("0.000001", "1"), "1000000", 1, 1, 1),
        (("0.000001", "1"), "999999.999999", 0, 1, 1),
        (("1", "0.01"), "1000000000000", 10**14, 10**14, 10**14),
    ],
)
def test_points_for_an_amount_are_exact_until_they_are_rounded_once(
    rate: tuple[str, str], amount: str, floor: int, half_up: int, ceiling: int
) -> None:
    for rounding, expected in zip(Rounding, (floor, half_up, ceiling), strict=True):
        assert sum(points(rule(*rate), amount=amount, rounding=rounding)) == expected


def test_a_purchase_of_nothing_earns_fixed_points_and_nothing_by_amount() -> None:
    assert points(rule(), rule(fixed=50), amount="0", rounding=Rounding.CEILING) == [50]


def test_an_award_that_rounds_to_nothing_is_none() -> None:
    assert earn(rule("1", "100"), amount="99.99") == []
    assert points(rule("1", "100"), amount="99.99", rounding=Rounding.CEILING) == [1]


def test_more_points_than_can_be_counted_are_refused() -> None:
    assert points(rule("1000000", "0.01"), amount="90071992.54740991") == [MAX_POINTS]
    with pytest.raises(TooManyPoints):
        earn(rule("1000000", "0.01"), amount="90071992.54740992")
    with pytest.raises(TooManyPoints):
        earn(rule("1000000", "0.01"), amount="1000000000000", room=5)
    assert points(rule(fixed=MAX_POINTS), amount="1") == [MAX_POINTS]


# Which rules


def test_a_minimum_is_reached_by_exactly_that_much() -> None:
    some = rule(minimum_amount=Decimal("50.00"))
    assert points(some, amount="49.99") == []
    assert points(some, amount="49.999999") == []
    assert points(some, amount="50") == [50]
    assert points(rule(fixed=5, minimum_amount=Decimal(0)), amount="0") == [5]


def test_a_window_has_its_start_and_not_its_end() -> None:
    some = rule(starts_at=NOON, ends_at=NOON + timedelta(hours=1))
    for at, counts in (
        (NOON - TICK, False),
        (NOON, True),
        (NOON + timedelta(hours=1) - TICK, True),
        (NOON + timedelta(hours=1), False),
        # The same instants, told in another zone.
        (NOON.astimezone(timezone(timedelta(hours=14))), True),
        ((NOON + timedelta(hours=1)).astimezone(timezone(-timedelta(hours=11))), False),
    ):
        assert (points(some, amount="10", at=at) == [10]) is counts, at


@pytest.mark.parametrize(
    ("window", "before", "after"),
    [({"starts_at": NOON}, False, True), ({"ends_at": NOON}, True, False), ({}, True, True)],
)
def test_a_window_can_be_open_at_either_side(window: dict[str, datetime], before: bool, after: bool) -> None:
    some = rule(**window)
    assert bool(points(some, amount="1", at=NOON - timedelta(days=3650))) is before
    assert bool(points(some, amount="1", at=NOON + timedelta(days=3650))) is after


def test_fixed_points_and_points_by_amount_add_up() -> None:
    assert points(rule(fixed=50), rule("2"), amount="10.99") == [50, 21]


def test_rules_for_other_events_do_not_count() -> None:
    check_in = RuleDefinition(name="Check-in", trigger=EventKind.CHECK_IN, fixed_points=50)
    other = Rule(new_id(), 1, RuleStatus.ACTIVE, check_in, NOON, NOON)
    assert points(other, rule(), amount="1") == [1]


# The program's daily cap


def test_the_cap_is_spent_by_priority_and_then_by_age() -> None:
    oldest = rule(fixed=40, name="oldest", created_at=NOON - timedelta(days=2))
    old = rule(fixed=40, name="old", created_at=NOON - timedelta(days=1))
    urgent = rule(fixed=40, name="urgent", priority=1)
    last = rule(fixed=40, name="last", priority=-1, created_at=NOON - timedelta(days=9))
    for room, expected in (
        (160, [40, 40, 40, 40]),
        (100, [40, 40, 20, 0]),
        (80, [40, 40, 0, 0]),
        (39, [39, 0, 0, 0]),
        (0, [0, 0, 0, 0]),
    ):
        awards = earn(last, old, urgent, oldest, amount="1", room=room)
        assert [award.rule_name for award in awards] == ["urgent", "oldest", "old", "last"]
        assert [award.points for award in awards] == expected
        assert [award.desired for award in awards] == [40] * 4


def test_of_two_rules_of_one_moment_the_smaller_id_is_the_older() -> None:
    rules = sorted((rule(fixed=10) for _ in range(5)), key=lambda each: each.id)
    awards = earn(*rules[::-1], amount="1", room=10)
    assert [award.rule_id for award in awards] == [each.id for each in rules]
    assert [award.points for award in awards] == [10, 0, 0, 0, 0]


# Receipts


def receipt(award: Award) -> list[str]:
    return [f"{step.kind}: {step.label} [{step.before} -> {step.after}]" for step in award.steps]


def test_a_receipt_reads_like_what_happened() -> None:
    (award,) = earn(rule("1", "3"), amount="1000", room=100)
    assert receipt(award) == [
        "BASE: 1 point per 3.00 EUR on 1000.00 EUR [0 -> 333.333333]",
        "ROUNDING: Rounded down to whole points [333.333333 -> 333]",
        "PROGRAM_DAY_LIMIT: At most 1000 points a day in the whole program, of which 100 were left"
        " [333 -> 100]",
    ]
    assert (award.desired, award.points) == (333, 100)


@pytest.mark.parametrize(
    ("some", "amount", "currency", "expected"),
    [
        (rule("2.50", "1"), "19.99", "EUR", "2.5 points per 1.00 EUR on 19.99 EUR"),
        (rule("100", "1"), "5", "EUR", "100 points per 1.00 EUR on 5.00 EUR"),
        (rule("1E+2", "1"), "5", "EUR", "100 points per 1.00 EUR on 5.00 EUR"),
        (rule("1.0", "100"), "1234", "JPY", "1 point per 100 JPY on 1234 JPY"),
        (rule("1", "0.5"), "1.2345", "KWD", "1 point per 0.500 KWD on 1.2345 KWD"),
        (rule(fixed=1), "5", "EUR", "1 point for the purchase"),
        (rule(fixed=50), "5", "EUR", "50 points for the purchase"),
    ],
)
def test_labels_name_the_rate_and_the_amount(some: Rule, amount: str, currency: str, expected: str) -> None:
    (award,) = earn(some, amount=amount, currency=currency)
    assert award.steps[0].label == expected


@pytest.mark.parametrize(
    ("rounding", "label"),
    [
        (Rounding.FLOOR, "Rounded down to whole points"),
        (Rounding.HALF_UP, "Rounded to the nearest whole point"),
        (Rounding.CEILING, "Rounded up to whole points"),
    ],
)
def test_rounding_is_told_only_where_something_was_rounded(rounding: Rounding, label: str) -> None:
    (rounded,) = earn(rule(), amount="1.5", rounding=rounding)
    (exact,) = earn(rule(), amount="2.00", rounding=rounding)
    assert [step.label for step in rounded.steps][1:] == [label]
    assert [step.kind for step in exact.steps] == [StepKind.BASE]


@pytest.mark.parametrize(
    ("room", "cap", "label"),
    [
        (0, 1, "At most 1 point a day in the whole program, of which 0 were left"),
        (1, 30, "At most 30 points a day in the whole program, of which 1 was left"),
        (7, 30, "At most 30 points a day in the whole program, of which 7 were left"),
    ],
)
def test_the_cap_is_told_with_what_it_left(room: int, cap: int, label: str) -> None:
    (award,) = earn(rule(fixed=20), amount="1", room=room, max_points_per_day=cap)
    assert award.steps[-1].label == label


def test_ratios_are_shown_in_full_where_they_end_and_else_to_six_decimals() -> None:
    assert str(shown(5, 2)) == "2.5"
    assert str(shown(7, 7)) == "1"
    assert str(shown(1, 3)) == "0.333333"
    assert str(shown(2, 3)) == "0.666667"
    assert f"{shown(10**30, 3):f}" == "3" * 30 + ".333333"


# Against the second calculation

money = st.decimals(0, 10_000, places=2) | st.decimals(0, 10**12, places=6) | st.integers(0, 300).map(Decimal)
rates = st.tuples(
    st.sampled_from(["1", "2", "0.5", "2.5", "0.000001", "1000000", "3.333333"])
    | st.decimals("0.000001", 100, places=6).map(str),
    st.sampled_from(["1", "3.00", "0.01", "7", "1000000", "0.333333"])
    | st.decimals("0.01", 1000, places=2).map(str),
)
instants = st.sampled_from([NOON + n * TICK for n in (-2, -1, 0, 1, 2)])


@st.composite
def rules_of_a_program(draw: st.DrawFn) -> list[Rule]:
    rules = []
    for _ in range(draw(st.integers(0, 6))):
        starts_at, ends_at = draw(st.none() | instants), draw(st.none() | instants)
        fields: dict[str, Any] = {
            "minimum_amount": draw(st.none() | money),
            "starts_at": starts_at,
            "ends_at": ends_at,
            "priority": draw(st.integers(-2, 2)),
            "created_at": draw(instants),
        }
        if draw(st.booleans()):
            fields["fixed"] = draw(st.sampled_from([1, 10, 500]) | st.integers(1, MAX_POINTS))
            rules.append(rule(**fields))
        else:
            rules.append(rule(*draw(rates), **fields))
    return rules


def naive(
    rules: list[Rule], at: datetime, amount: Decimal, room: int | None, rounding: Rounding
) -> list[tuple[UUID, int, int]] | None:
    """Return each award's rule, desired and granted points; None for more than can be counted."""
    left = math.inf if room is None else room
    awards = []
    for each in sorted(
        rules, key=lambda one: (-one.definition.priority, one.created_at.timestamp(), one.id.int)
    ):
        some = each.definition
        if some.starts_at is not None and at < some.starts_at:
            continue
        if some.ends_at is not None and at >= some.ends_at:
            continue
        if some.minimum_amount is not None and Fraction(amount) < Fraction(some.minimum_amount):
            continue
        if some.fixed_points is not None:
            desired = some.fixed_points
        else:
            assert some.points_per_amount
            exact = (
                Fraction(amount)
                * Fraction(some.points_per_amount.points)
                / Fraction(some.points_per_amount.amount)
            )
            desired = {
                Rounding.FLOOR: math.floor(exact),
                Rounding.HALF_UP: math.floor(exact + Fraction(1, 2)),
                Rounding.CEILING: math.ceil(exact),
            }[rounding]
        if desired > MAX_POINTS:
            return None
        if desired:
            got = int(min(desired, left))
            left -= got
            awards.append((each.id, desired, got))
    return awards


@profile(max_examples=600, deadline=None)
@given(rules_of_a_program(), instants, money, st.none() | st.integers(0, 2000), st.sampled_from(Rounding))
def test_the_engine_agrees_with_the_second_calculation(
    rules: list[Rule], at: datetime, amount: Decimal, room: int | None, rounding: Rounding
) -> None:
    rule_set = RuleSet(replace(POLICY, rounding=rounding, max_points_per_day=2000), rules)
    expected = naive(rules, at, amount, room, rounding)
    if expected is None:
        with pytest.raises(TooManyPoints):
            evaluate(rule_set, at, amount, room)
        return
    awards = evaluate(rule_set, at, amount, room)
    assert [(award.rule_id, award.desired, award.points) for award in awards] == expected
    for award in awards:
        assert 0 <= award.points <= award.desired
        steps = award.steps
        assert steps[0].before == 0
        assert all(one.after == other.before for one, other in pairwise(steps))
        assert steps[-1].after == award.points
        assert all(step.after >= 0 and step.label for step in steps)
        assert award.desired in [step.after for step in steps]


@profile(max_examples=200, deadline=None)
@given(rules_of_a_program(), money, st.integers(0, 2000), st.integers(0, 2000))
def test_more_room_never_gives_fewer_points(rules: list[Rule], amount: Decimal, room: int, more: int) -> None:
    rule_set = RuleSet(replace(POLICY, max_points_per_day=4000), rules)
    if naive(rules, NOON, amount, None, Rounding.FLOOR) is None:
        return
    tight, wide = (evaluate(rule_set, NOON, amount, each) for each in (room, room + more))
    assert all(one.points <= other.points for one, other in zip(tight, wide, strict=True))
    assert sum(award.points for award in tight) <= room


@profile(max_examples=200, deadline=None)
@given(rates, money, st.integers(0, 10**6), st.sampled_from(Rounding))
def test_a_larger_purchase_never_earns_less(
    rate: tuple[str, str], amount: Decimal, more: int, rounding: Rounding
) -> None:
    rule_set = RuleSet(replace(POLICY, rounding=rounding), [rule(*rate)])
    try:
        small, large = (
            sum(award.points for award in evaluate(rule_set, NOON, each, None))
            for each in (amount, amount + more)
        )
    except TooManyPoints:
        return
    assert small <= large


@profile(max_examples=300, deadline=None)
@given(st.integers(0, 10**30), st.integers(1, 10**12))
def test_rounding_of_ratios_agrees_with_fractions(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    assert round_ratio(numerator, denominator, Rounding.FLOOR) == math.floor(exact)
    assert round_ratio(numerator, denominator, Rounding.CEILING) == math.ceil(exact)
    assert round_ratio(numerator, denominator, Rounding.HALF_UP) == math.floor(exact + Fraction(1, 2))
