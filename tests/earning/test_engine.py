"""What one rule gives: rates and rounding, windows, minimums, audiences, kinds of event."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from app.campaigns.audience import Audience
from app.earning.engine import evaluate
from app.earning.outcomes import TooManyPoints
from app.earning.rules import EventKind, ReferralTrigger, RuleStatus
from app.earning.ruleset import Facts, Standing
from app.ids import new_id
from app.ledger.operations import MAX_POINTS
from app.programs.policy import Rounding
from tests.earning.making import (
    NO_LIMITS,
    NOBODY,
    NOON,
    TICK,
    action,
    action_rule,
    earn,
    goods,
    line,
    points,
    purchase,
    rooms,
    rule,
    rule_set,
    visit,
    visit_rule,
)

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
        assert sum(points(rule(*rate), amount, rounding=rounding)) == expected


def test_lines_are_summed_before_anything_is_rounded() -> None:
    lines = [line("0.40") for _ in range(10)]
    assert points(rule(), purchase(*lines)) == [4]
    assert points(rule("1", "3"), purchase(*[line("1")] * 3)) == [1]


def test_each_award_is_rounded_for_itself() -> None:
    assert points([rule(), rule()], "1.50") == [1, 1]
    assert points([rule(), rule()], "1.50", rounding=Rounding.HALF_UP) == [2, 2]


def test_a_purchase_of_nothing_earns_fixed_points_and_nothing_by_amount() -> None:
    assert points([rule(), rule(fixed=50)], "0", rounding=Rounding.CEILING) == [50]


def test_an_award_that_rounds_to_nothing_is_none() -> None:
    assert earn(rule("1", "100"), "99.99") == []
    assert points(rule("1", "100"), "99.99", rounding=Rounding.CEILING) == [1]


def test_more_points_than_can_be_counted_are_refused() -> None:
    assert points(rule("1000", "0.01"), "90071992547.40991") == [MAX_POINTS]
    for left in (NO_LIMITS, rooms(program_day=5)):
        with pytest.raises(TooManyPoints):
            earn(rule("1000", "0.01"), "90071992547.40992", NOBODY, left, max_points_per_day=5)
    assert points(rule(fixed=MAX_POINTS), "1") == [MAX_POINTS]


# Which rules


def test_fixed_points_and_points_by_amount_add_up() -> None:
    assert points([rule(fixed=50), rule("2")], "10.99") == [50, 21]


def test_a_minimum_is_reached_by_exactly_that_much() -> None:
    some = rule(minimum_amount=Decimal("50.00"))
    assert points(some, "49.99") == []
    assert points(some, "49.999999") == []
    assert points(some, "50") == [50]
    assert points(rule(fixed=5, minimum_amount=Decimal(0)), "0") == [5]


def test_a_minimum_finer_than_amounts_can_be_is_not_reached_by_what_is_just_below() -> None:
    # Rules of old versions may have more decimals than are taken today.
    some = rule(minimum_amount=Decimal("50.0000001"))
    assert points(some, "50") == []
    assert points(some, "50.000001") == [50]


def test_a_rule_with_a_filter_asks_for_its_minimum_in_the_lines_that_match() -> None:
    tea, cup = line("30", "tea"), line("40", "cup")
    for products, expected in (
        (goods("tea"), []),
        (goods("cup"), [40]),
        (None, [70]),
        (goods("tea", "cup"), [70]),
    ):
        some = rule(products=products, minimum_amount=Decimal(40))
        assert points(some, purchase(tea, cup)) == expected


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
        assert (points(some, purchase(amount="10", at=at)) == [10]) is counts, at


@pytest.mark.parametrize(
    ("window", "before", "after"),
    [({"starts_at": NOON}, False, True), ({"ends_at": NOON}, True, False), ({}, True, True)],
)
def test_a_window_can_be_open_at_either_side(window: dict[str, Any], before: bool, after: bool) -> None:
    some = rule(**window)
    for year, counts in ((1971, before), (2100, after)):
        assert bool(points(some, purchase(amount="1", at=datetime(year, 1, 1, tzinfo=UTC)))) is counts


@pytest.mark.parametrize("status", [RuleStatus.DRAFT, RuleStatus.PAUSED, RuleStatus.ARCHIVED])
def test_rules_that_are_not_active_give_nothing(status: RuleStatus) -> None:
    assert points([rule(status=status), rule(fixed=3, status=status), rule(fixed=4)], "10") == [4]


def test_a_rule_for_tiers_is_for_their_members_alone() -> None:
    gold, silver = new_id(), new_id()
    some = rule(audience=Audience(tiers=(gold,)))
    for tier, expected in ((gold, [10]), (silver, []), (None, [])):
        assert points(some, "10", Standing(tier)) == expected
    either = rule(audience=Audience(tiers=(gold, silver)))
    assert points(either, "10", Standing(silver)) == [10]


def test_a_rule_for_stores_is_for_what_happens_in_them() -> None:
    here, there = new_id(), new_id()
    for some, event in (
        (rule(audience=Audience(stores=(here,))), lambda store: purchase(amount="10", store=store)),
        (visit_rule(10, audience=Audience(stores=(here,))), visit),
    ):
        assert points(some, event(here)) == [10]
        assert points(some, event(there)) == []
        assert points(some, event(None)) == []


def test_a_rule_for_tiers_and_stores_wants_both() -> None:
    gold, here = new_id(), new_id()
    some = rule(audience=Audience((gold,), (here,)))
    assert points(some, purchase(amount="5", store=here), Standing(gold)) == [5]
    assert points(some, purchase(amount="5", store=here)) == []
    assert points(some, "5", Standing(gold)) == []


# Other kinds of event


def test_each_kind_of_event_is_paid_by_rules_for_it() -> None:
    rules = [rule(fixed=1), action_rule("quiz", 2), action_rule("review", 3), visit_rule(4)]
    assert points(rules, "10") == [1]
    assert points(rules, action("quiz")) == [2]
    assert points(rules, action("review")) == [3]
    assert points(rules, action("Quiz")) == []
    assert points(rules, visit()) == [4]


def test_several_rules_pay_for_one_action() -> None:
    rules = [action_rule("quiz", 2), action_rule("quiz", 3, priority=1)]
    assert points(rules, action("quiz")) == [3, 2]


def test_a_referral_is_paid_by_no_rule_for_purchases() -> None:
    friend = rule(fixed=9, trigger=EventKind.REFERRAL, referral_trigger=ReferralTrigger.REGISTRATION)
    found = rule_set(rule(fixed=1), friend)
    assert evaluate(found, Facts(EventKind.REFERRAL, NOON), NOBODY, NO_LIMITS) == []
