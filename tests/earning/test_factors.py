"""Factors of tiers and campaigns: which are in force, whom they concern, how they come together."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.campaigns.audience import Audience
from app.earning.outcomes import StepKind
from app.earning.rules import EventKind
from app.earning.ruleset import Facts
from app.ids import new_id
from app.programs.policy import MultiplierStacking, Rounding
from app.tiers.tiers import Factor as FactorSince
from tests.earning.making import (
    LONG_AGO,
    NOON,
    TICK,
    action,
    action_rule,
    campaign,
    earn,
    points,
    purchase,
    rule,
    rule_set,
    standing,
    tier,
    visit,
    visit_rule,
)

MULTIPLY, ADD, BEST = MultiplierStacking
DAY = timedelta(days=1)


def test_who_earns_10_earns_30_in_a_campaign_and_60_as_a_member_of_a_tier() -> None:
    assert points(rule(), "10", standing()) == [10]
    assert points(rule(), "10", standing(None, "3")) == [30]
    assert points(rule(), "10", standing("2", "3")) == [60]


@pytest.mark.parametrize(
    ("own", "campaigns", "multiplied", "added", "best"),
    [
        (None, [], 100, 100, 100),
        ("2", [], 200, 200, 200),
        (None, ["3"], 300, 300, 300),
        ("2", ["3"], 600, 400, 300),
        ("3", ["2"], 600, 400, 300),
        ("1", ["3"], 300, 300, 300),
        ("2", ["3", "1.5"], 900, 450, 300),
        ("1.25", ["1.5"], 187, 175, 150),
        # Factors below 1 take something away, but never more than there is.
        ("0.5", [], 50, 50, 50),
        ("2", ["0.5"], 100, 150, 200),
        ("1", ["0.5"], 50, 50, 100),
        ("0.5", ["0.5", "0.5"], 12, 0, 50),
        ("0.2", ["0.3"], 6, 0, 30),
        ("0.2", ["0.1", "3"], 6, 130, 300),
        (None, ["0.000001"], 0, 0, 0),
    ],
)
def test_factors_are_multiplied_added_or_the_best_counts(
    own: str | None, campaigns: list[str], multiplied: int, added: int, best: int
) -> None:
    for stacking, expected in ((MULTIPLY, multiplied), (ADD, added), (BEST, best)):
        assert sum(points(rule(), "100", standing(own, *campaigns), multiplier_stacking=stacking)) == expected
        # Fixed points are no different.
        assert (
            sum(points(rule(fixed=100), "1", standing(own, *campaigns), multiplier_stacking=stacking))
            == expected
        )


def test_factors_count_before_rounding() -> None:
    assert points(rule("0.1"), "4", standing("5")) == [2]
    assert points(rule(), "0.99", standing("1.5"), rounding=Rounding.CEILING) == [2]


@pytest.mark.parametrize(
    ("applies", "purchase_", "visit_"),
    [(None, 20, 10), (True, 20, 20), (False, 10, 10)],
)
def test_tier_factors_count_for_purchases_unless_the_rule_says_otherwise(
    applies: bool | None, purchase_: int, visit_: int
) -> None:
    said: dict[str, Any] = {"tier_multiplier_applies": applies}
    for some, event, expected in (
        (rule(**said), purchase(amount="10"), purchase_),
        (rule(fixed=10, **said), purchase(amount="1"), purchase_),
        (visit_rule(10, **said), visit(), visit_),
        (action_rule("quiz", 10, **said), action("quiz"), visit_),
    ):
        assert points(some, event, standing("2")) == [expected]


@pytest.mark.parametrize(("applies", "expected"), [(None, 30), (True, 30), (False, 10)])
def test_campaign_factors_count_for_everything_unless_the_rule_says_otherwise(
    applies: bool | None, expected: int
) -> None:
    said: dict[str, Any] = {"campaign_multiplier_applies": applies}
    for some, event in (
        (rule(**said), purchase(amount="10")),
        (rule(fixed=10, **said), purchase(amount="1")),
        (visit_rule(10, **said), visit()),
        (action_rule("quiz", 10, **said), action("quiz")),
    ):
        assert points(some, event, standing(None, "3")) == [expected]


@pytest.mark.parametrize("stacking", MultiplierStacking)
def test_a_factor_that_a_rule_does_not_take_is_not_among_those_that_come_together(
    stacking: MultiplierStacking,
) -> None:
    rules = [
        rule(tier_multiplier_applies=False, campaign_multiplier_applies=False),
        rule(tier_multiplier_applies=False),
        rule(campaign_multiplier_applies=False),
    ]
    assert points(rules, "10", standing("4", "3"), multiplier_stacking=stacking) == [10, 30, 40]


# Which are in force


def met(facts: Facts, **programs: Any) -> tuple[str | None, list[str]]:
    """Return the names of the tier and the campaigns that an event meets."""
    found = rule_set(tiers=programs.get("tiers", ()), campaigns=programs.get("campaigns", ()))
    stands = found.standing(facts, programs.get("given"))
    tier_, campaigns = stands.tier, stands.campaigns
    return None if tier_ is None else tier_.name, [each.name for each in campaigns]


def test_a_campaign_counts_from_its_start_until_before_its_end() -> None:
    easter = campaign("3", starts_at=NOON, ends_at=NOON + DAY)
    for at, expected in (
        (NOON - TICK, []),
        (NOON, ["Easter"]),
        (NOON + DAY - TICK, ["Easter"]),
        (NOON + DAY, []),
    ):
        assert met(purchase(amount="1", at=at), campaigns=[easter])[1] == expected


def test_a_campaign_that_was_ended_before_it_began_never_counts() -> None:
    assert met(purchase(amount="1"), campaigns=[campaign("3", starts_at=NOON, ends_at=NOON)])[1] == []


def test_a_campaign_counts_for_the_kinds_that_it_lists() -> None:
    kinds = (EventKind.PURCHASE, EventKind.CHECK_IN)
    some = [campaign("3", applies_to=kinds)]
    assert met(purchase(amount="1"), campaigns=some)[1] == ["Easter"]
    assert met(visit(), campaigns=some)[1] == ["Easter"]
    assert met(action("quiz"), campaigns=some)[1] == []


def test_a_campaign_counts_for_the_tiers_and_stores_that_it_is_meant_for() -> None:
    gold, here = tier("2", threshold="10"), new_id()
    start = tier("1", "Start")
    some: dict[str, Any] = {
        "tiers": [start, gold],
        "campaigns": [
            campaign("3", "gold", audience=Audience(tiers=(gold.id,))),
            campaign("3", "here", audience=Audience(stores=(here,))),
            campaign("3", "start", audience=Audience(tiers=(start.id,), stores=(here,))),
        ],
    }
    assert met(purchase(amount="1"), **some) == ("Start", [])
    assert met(purchase(amount="1", store=new_id()), **some) == ("Start", [])
    assert met(purchase(amount="1", store=here), **some) == ("Start", ["here", "start"])
    assert met(purchase(amount="1", store=here), given=gold.id, **some) == ("Gold", ["gold", "here"])


def test_everybody_is_in_the_tier_of_rank_0_and_in_none_where_there_is_no_such_tier() -> None:
    start, gold = tier("1", "Start"), tier("2", threshold="10")
    assert met(purchase(amount="1"), tiers=[gold, start])[0] == "Start"
    assert met(purchase(amount="1"), tiers=[gold])[0] is None
    assert met(purchase(amount="1"), tiers=[gold], given=gold.id)[0] == "Gold"
    # A tier that was made after the rules were read is not known yet.
    assert met(purchase(amount="1"), tiers=[gold, start], given=new_id())[0] == "Start"


def test_a_factor_is_the_one_in_force_at_the_time_of_the_event() -> None:
    factors = (
        FactorSince(NOON - DAY, "Bronze", Decimal(2)),
        FactorSince(NOON, "Silver", Decimal(3)),
        FactorSince(NOON + DAY, "Gold", Decimal(4)),
    )
    changing = tier("4", factors=factors)
    rising = campaign("4", factors=factors, starts_at=LONG_AGO, ends_at=NOON + 9 * DAY)
    for at, expected in (
        # The first one counts for the time before it, too.
        (NOON - 2 * DAY, "Bronze"),
        (NOON - TICK, "Bronze"),
        (NOON, "Silver"),
        (NOON + DAY - TICK, "Silver"),
        (NOON + DAY, "Gold"),
    ):
        what = purchase(amount="1", at=at)
        assert met(what, tiers=[changing], campaigns=[rising]) == (expected, [expected])


def test_each_factor_is_a_step_of_the_receipt_and_a_factor_of_1_is_none() -> None:
    (award,) = earn(rule(), "10", standing("1", "3", "1", "1.5"))
    assert [(step.kind, str(step.factor), int(step.before), int(step.after)) for step in award.steps] == [
        (StepKind.BASE, "None", 0, 10),
        (StepKind.CAMPAIGN_MULTIPLIER, "3", 10, 30),
        (StepKind.CAMPAIGN_MULTIPLIER, "1.5", 30, 45),
    ]


def test_a_step_never_goes_below_nothing_and_comes_back_from_there() -> None:
    (award,) = earn(rule(), "10", standing("0.2", "0.1", "3"), multiplier_stacking=ADD)
    assert [step.after for step in award.steps] == [10, 2, 0, 13]
