"""What receipts say: every line as a support person would send it to a customer."""

from decimal import Decimal
from typing import Any

import pytest

from app.earning.outcomes import Room, StepKind
from app.earning.rules import EventKind, Rule, RuleLimits
from app.earning.ruleset import Facts
from app.programs.policy import MultiplierStacking, Rounding
from tests.earning.making import (
    NOBODY,
    action,
    action_rule,
    earn,
    goods,
    line,
    purchase,
    receipt,
    rooms,
    rule,
    standing,
    visit,
    visit_rule,
)

MULTIPLY, ADD, BEST = MultiplierStacking
TEA = line("12", "tea")


def test_a_receipt_reads_like_what_happened() -> None:
    some = rule("1", "3", name="Base", limits=RuleLimits(1500, 1200, budget=50_000))
    double = rule(multiplier="2", name="Tea week", products=goods("tea"))
    (award,) = earn(
        [some, double],
        purchase(line("1000", "tea"), line("234.50")),
        standing("1.5", "2"),
        rooms({some: Room(day=900, budget=1)}, program_day=500),
        max_points_per_day=2000,
    )
    assert receipt(award) == [
        "BASE: 1 point per 3.00 EUR on 1234.50 EUR [0 -> 411.5]",
        "PRODUCT_MULTIPLIER: Tea week: 2 times the points on 1000.00 EUR [411.5 -> 744.833333]",
        "TIER_MULTIPLIER: Tier Gold: 1.5 times the points [744.833333 -> 1117.25]",
        "CAMPAIGN_MULTIPLIER: Campaign A: 2 times the points [1117.25 -> 2234.5]",
        "ROUNDING: Rounded down to whole points [2234.5 -> 2234]",
        "TRANSACTION_LIMIT: At most 1,500 points for one purchase by this rule [2234 -> 1500]",
        "DAY_LIMIT: At most 1,200 points a day by this rule, of which 900 were left [1500 -> 900]",
        "PROGRAM_DAY_LIMIT: At most 2,000 points a day in the whole program, of which 500 were left"
        " [900 -> 500]",
        "BUDGET: The rule's budget is 50,000 points, of which 1 was left [500 -> 1]",
    ]
    assert {step.kind for step in award.steps} == set(StepKind) - {StepKind.MEMBER_LIMIT}


@pytest.mark.parametrize(
    ("some", "amount", "currency", "expected"),
    [
        (rule(), "42.10", "EUR", "1 point per 1.00 EUR on 42.10 EUR"),
        (rule("2.50", "1"), "19.99", "EUR", "2.5 points per 1.00 EUR on 19.99 EUR"),
        (rule("0.000001", "1"), "1000000", "EUR", "0.000001 points per 1.00 EUR on 1000000.00 EUR"),
        (rule("100", "1"), "5", "EUR", "100 points per 1.00 EUR on 5.00 EUR"),
        (rule("1E+2", "1"), "5", "EUR", "100 points per 1.00 EUR on 5.00 EUR"),
        (rule("1000", "1"), "5", "EUR", "1,000 points per 1.00 EUR on 5.00 EUR"),
        (rule("1.0", "100"), "1234", "JPY", "1 point per 100 JPY on 1234 JPY"),
        (rule("1", "0.5"), "1.2345", "KWD", "1 point per 0.500 KWD on 1.2345 KWD"),
        (rule(fixed=1), "5", "EUR", "1 point for the purchase"),
        (rule(fixed=50), "5", "EUR", "50 points for the purchase"),
        (rule(fixed=5000), "5", "EUR", "5,000 points for the purchase"),
    ],
)
def test_labels_name_the_rate_and_the_amount(some: Rule, amount: str, currency: str, expected: str) -> None:
    (award,) = earn(some, amount, currency=currency, rounding=Rounding.CEILING)
    assert award.steps[0].label == expected


@pytest.mark.parametrize(
    ("some", "event", "expected"),
    [
        (visit_rule(1), visit(), "1 point for the visit"),
        (visit_rule(20), visit(), "20 points for the visit"),
        (action_rule("quiz", 5), action("quiz"), "5 points for the action quiz"),
        (action_rule("REGISTRATION", 5), action("REGISTRATION"), "5 points for joining"),
        (
            action_rule("PROFILE_COMPLETED", 5),
            action("PROFILE_COMPLETED"),
            "5 points for completing the profile",
        ),
        (action_rule("BIRTHDAY", 5), action("BIRTHDAY"), "5 points for the birthday"),
        (action_rule("ANNIVERSARY", 5), action("ANNIVERSARY"), "5 points for another year as a member"),
        (rule(fixed=5, products=goods("tea")), purchase(TEA), "5 points for buying these goods"),
        (rule(fixed=5, products=goods(without=["cup"])), purchase(TEA), "5 points for buying these goods"),
    ],
)
def test_fixed_points_say_what_they_are_for(some: Rule, event: Facts, expected: str) -> None:
    (award,) = earn(some, event)
    assert award.steps[0].label == expected


def test_a_part_of_the_purchase_is_told_with_the_whole() -> None:
    what = purchase(TEA, line("30.10"))
    part, whole = rule(products=goods("tea")), rule(products=goods("tea", "other"))
    assert earn(part, what)[0].steps[0].label == "1 point per 1.00 EUR on 12.00 EUR of 42.10 EUR"
    assert earn(whole, what)[0].steps[0].label == "1 point per 1.00 EUR on 42.10 EUR"
    assert earn(rule(), what)[0].steps[0].label == "1 point per 1.00 EUR on 42.10 EUR"
    rest, _ = earn([rule(), rule("2", products=goods("tea"))], what)
    assert rest.steps[0].label == "1 point per 1.00 EUR on 30.10 EUR of 42.10 EUR"


@pytest.mark.parametrize(
    ("multiplier", "says"),
    [
        ("2", "2 times the points on 12.00 EUR"),
        ("1.50", "1.5 times the points on 12.00 EUR"),
        ("0.5", "0.5 times the points on 12.00 EUR"),
        ("10", "10 times the points on 12.00 EUR"),
        ("1", "no extra points on 12.00 EUR"),
        ("1.00", "no extra points on 12.00 EUR"),
    ],
)
def test_a_multiplier_says_what_it_multiplied(multiplier: str, says: str) -> None:
    raised = rule(multiplier=multiplier, name="Tea week", products=goods("tea"))
    (award,) = earn([rule(), raised], purchase(TEA, line("30")))
    assert award.steps[1].label == f"Tea week: {says}"
    assert award.steps[1].factor == Decimal(multiplier)


def test_a_multiplier_that_had_nothing_to_multiply_is_not_told() -> None:
    raised = rule(multiplier="2", products=goods("gift"))
    (award,) = earn([rule(), raised], purchase(TEA, line("0", "gift")))
    assert [step.kind for step in award.steps] == [StepKind.BASE]


@pytest.mark.parametrize(
    ("stacking", "own", "campaigns", "labels"),
    [
        (MULTIPLY, "2", ["3"], ["Tier Gold: 2 times the points", "Campaign A: 3 times the points"]),
        (
            MULTIPLY,
            None,
            ["3", "1.50"],
            ["Campaign A: 3 times the points", "Campaign B: 1.5 times the points"],
        ),
        (MULTIPLY, "1", ["1"], []),
        (
            ADD,
            "2",
            ["3", "1.5"],
            [
                "Tier Gold: 2 times the points",
                "Campaign A: 3 times the points, which adds 2 times the points from before all factors",
                "Campaign B: 1.5 times the points, which adds 0.5 times the points from before all factors",
            ],
        ),
        # With one factor there is nothing to add, and nothing to choose from.
        (ADD, "1", ["3"], ["Campaign A: 3 times the points"]),
        (BEST, "1", ["3"], ["Campaign A: 3 times the points"]),
        (BEST, "2", [], ["Tier Gold: 2 times the points"]),
        (BEST, "2", ["3"], ["Campaign A: 3 times the points, the best of several factors"]),
        (BEST, "3", ["3"], ["Tier Gold: 3 times the points, the best of several factors"]),
        (BEST, "1", ["0.5"], []),
    ],
)
def test_factors_are_told_as_the_program_combines_them(
    stacking: MultiplierStacking, own: str | None, campaigns: list[str], labels: list[str]
) -> None:
    (award,) = earn(rule(fixed=10), "1", standing(own, *campaigns), multiplier_stacking=stacking)
    assert [step.label for step in award.steps[1:]] == labels


@pytest.mark.parametrize(
    ("rounding", "label"),
    [
        (Rounding.FLOOR, "Rounded down to whole points"),
        (Rounding.HALF_UP, "Rounded to the nearest whole point"),
        (Rounding.CEILING, "Rounded up to whole points"),
    ],
)
def test_rounding_is_told_only_where_something_was_rounded(rounding: Rounding, label: str) -> None:
    (rounded,) = earn(rule(), "1.5", rounding=rounding)
    (exact,) = earn(rule(), "2.00", rounding=rounding)
    assert [step.label for step in rounded.steps][1:] == [label]
    assert [step.kind for step in exact.steps] == [StepKind.BASE]


@pytest.mark.parametrize(
    ("room", "cap", "label"),
    [
        (0, 1, "At most 1 point a day in the whole program, and none was left"),
        (1, 1, "At most 1 point a day in the whole program"),
        (1, 30, "At most 30 points a day in the whole program, of which 1 was left"),
        (7, 30, "At most 30 points a day in the whole program, of which 7 were left"),
        (15, 15, "At most 15 points a day in the whole program"),
        (1200, 3000, "At most 3,000 points a day in the whole program, of which 1,200 were left"),
    ],
)
def test_the_cap_is_told_with_what_it_left(room: int, cap: int, label: str) -> None:
    (award,) = earn(rule(fixed=2000), "1", NOBODY, rooms(program_day=room), max_points_per_day=cap)
    assert award.steps[-1].label == label


@pytest.mark.parametrize(
    ("limits", "room", "label"),
    [
        ({"max_points_per_day": 9}, Room(day=9), "At most 9 points a day by this rule"),
        ({"max_points_per_day": 9}, Room(day=1), "At most 9 points a day by this rule, of which 1 was left"),
        ({"max_points_per_day": 9}, Room(day=0), "At most 9 points a day by this rule, and none was left"),
        ({"budget": 1}, Room(budget=1), "The rule's budget is 1 point"),
        ({"budget": 5000}, Room(budget=2), "The rule's budget is 5,000 points, of which 2 were left"),
        ({"budget": 5000}, Room(budget=0), "The rule's budget is 5,000 points, and none was left"),
    ],
)
def test_the_limits_of_a_rule_are_told_with_what_they_left(
    limits: dict[str, Any], room: Room, label: str
) -> None:
    some = rule(fixed=50, limits=RuleLimits(**limits))
    (award,) = earn(some, "1", NOBODY, rooms({some: room}))
    assert award.steps[-1].label == label


@pytest.mark.parametrize(
    ("kind", "event", "word"),
    [
        (EventKind.PURCHASE, purchase(amount="1"), "purchase"),
        (EventKind.ACTION, action("quiz"), "action"),
        (EventKind.CHECK_IN, visit(), "visit"),
    ],
)
def test_the_limit_for_one_event_calls_it_what_it_is(kind: EventKind, event: Facts, word: str) -> None:
    name = "quiz" if kind is EventKind.ACTION else None
    some = rule(fixed=5, trigger=kind, action=name, limits=RuleLimits(max_points_per_transaction=1))
    (award,) = earn(some, event)
    assert award.steps[-1].label == f"At most 1 point for one {word} by this rule"
