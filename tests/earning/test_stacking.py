"""Which rules pay for which lines: filters, REPLACE and ADD, product multipliers."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.earning.outcomes import Reason, Room, StepKind
from app.earning.rules import Frequency, Period, ProductFilter, Rule, RuleLimits, RuleStacking
from app.earning.ruleset import FactLine
from app.programs.policy import Rounding
from tests.earning.making import (
    NOBODY,
    NOON,
    TICK,
    closed,
    earn,
    goods,
    line,
    points,
    purchase,
    rooms,
    rule,
    standing,
)

ADD, REPLACE = RuleStacking.ADD, RuleStacking.REPLACE
GREEN = line("10", "green", "Tea", "Acme")
BLACK = line("20", "black", "Tea", "Best")
CUP = line("40", "cup", "Cups", "Acme")
BAG = line("80", "bag")
ALL = (GREEN, BLACK, CUP, BAG)


def named(rules: list[Rule], *lines: FactLine) -> dict[str, int]:
    return {award.rule_name: award.points for award in earn(rules, purchase(*lines))}


# Filters


@pytest.mark.parametrize(
    ("products", "expected"),
    [
        (goods("green"), 10),
        (goods("green", "bag"), 90),
        (goods(categories=["Tea"]), 30),
        (goods(brands=["Acme"]), 50),
        # In any of the lists, and counted once however often it is named.
        (goods("green", categories=["Tea"]), 30),
        (goods("green", "green", categories=["Tea", "Tea"], brands=["Acme", "Best"]), 70),
        (goods("bag", brands=["Acme"]), 130),
        # What is excluded is excluded, whatever else includes it.
        (goods(categories=["Tea"], without=["black"]), 10),
        (goods(brands=["Acme"], without_categories=["Tea"]), 40),
        (goods("green", brands=["Best"], without_categories=["Cups"], without=["black"]), 10),
        # Nothing but exclusions: all goods but these, those without a category, too.
        (goods(without=["bag"]), 70),
        (goods(without_categories=["Tea"]), 120),
        (goods(without=["cup"], without_categories=["Tea"]), 80),
        (ProductFilter(), 150),
        (None, 150),
    ],
)
def test_a_filter_takes_the_lines_that_it_names(products: ProductFilter | None, expected: int) -> None:
    assert points(rule(products=products), purchase(*ALL)) == [expected]


@pytest.mark.parametrize(
    "products",
    [
        goods("GREEN"),
        goods(categories=["tea"]),
        goods("Tea"),
        goods(categories=["green"]),
        goods(brands=["Tea"]),
        goods(without=["green", "bag"], without_categories=["Tea", "Cups"]),
    ],
)
def test_names_are_compared_as_they_are_each_in_its_own_list(products: ProductFilter) -> None:
    assert earn(rule(products=products), purchase(*ALL)) == []


@pytest.mark.parametrize("products", [goods("green"), goods(without=["black"])])
@pytest.mark.parametrize("fields", [{}, {"fixed": 5}])
def test_a_purchase_without_lines_is_matched_by_rules_without_a_filter_alone(
    products: ProductFilter, fields: dict[str, Any]
) -> None:
    assert points([rule(**fields, products=products), rule(fixed=7)], "100") == [7]


def test_fixed_points_for_goods_are_given_once_however_many_lines_match() -> None:
    assert points(rule(fixed=5, products=goods(categories=["Tea"])), purchase(*ALL)) == [5]


def test_lines_of_the_same_goods_are_summed() -> None:
    some = rule("1", "3", products=goods("green"))
    assert points(some, purchase(GREEN, BAG, line("11", "green"))) == [7]


# REPLACE and ADD


def test_a_rule_for_goods_pays_instead_of_the_others_on_its_lines_and_only_there() -> None:
    rules = [rule(name="all"), rule("3", products=goods("green"), name="green")]
    assert named(rules, *ALL) == {"all": 140, "green": 30}


def test_a_rule_for_goods_that_adds_pays_beside_the_others() -> None:
    rules = [rule(name="all"), rule("3", products=goods("green"), stacking=ADD, name="green")]
    assert named(rules, *ALL) == {"all": 150, "green": 30}


def test_a_rule_without_a_filter_can_pay_instead_of_all_others() -> None:
    rules = [
        rule(name="all"),
        rule("2", stacking=REPLACE, name="instead"),
        rule("3", products=goods("green"), stacking=ADD, name="green"),
    ]
    assert named(rules, *ALL) == {"instead": 300}


def test_replacing_on_a_purchase_without_lines_is_between_rules_without_a_filter() -> None:
    rules = [rule(name="all"), rule("2", stacking=REPLACE), rule("9", products=goods("green"))]
    assert points(rules, "10") == [20]


def test_fixed_points_are_neither_replaced_nor_replace() -> None:
    rules = [rule(name="all"), rule("2", products=goods("green"), name="green"), rule(fixed=5, name="fixed")]
    assert named(rules, GREEN) == {"green": 20, "fixed": 5}
    assert named([rule(name="all"), rule(fixed=5, products=goods("green"), name="fixed")], GREEN) == {
        "all": 10,
        "fixed": 5,
    }


@pytest.mark.parametrize(
    ("one", "other", "winner"),
    [
        ({"priority": 1}, {"points": "9"}, "one"),
        ({"points": "2"}, {"points": "1"}, "one"),
        ({"points": "1"}, {"points": "1.000001"}, "other"),
        # What counts is the rate, not how it is written.
        ({"points": "3", "per": "2"}, {"points": "1", "per": "1"}, "one"),
        ({"points": "100", "per": "100"}, {"points": "2", "per": "1.5"}, "other"),
        ({"points": "1", "per": "3"}, {"points": "0.333333", "per": "1"}, "one"),
        ({"created_at": NOON}, {"created_at": NOON - TICK}, "other"),
        ({"points": "2", "per": "6"}, {"points": "1", "per": "3", "created_at": NOON - TICK}, "other"),
        ({"priority": -1, "points": "9"}, {"points": "1"}, "other"),
    ],
)
def test_of_rules_that_replace_the_first_then_the_most_generous_then_the_oldest_wins(
    one: dict[str, Any], other: dict[str, Any], winner: str
) -> None:
    both = [
        rule(**({"created_at": NOON} | one), name="one", products=goods("green")),
        rule(**({"created_at": NOON} | other), name="other", products=goods("green")),
    ]
    for rules in (both, both[::-1]):
        assert list(named(rules, line("60", "green"))) == [winner]


def test_each_line_goes_to_its_own_winner() -> None:
    rules = [
        rule(name="all"),
        rule("2", products=goods(categories=["Tea"]), name="tea"),
        rule("3", products=goods(brands=["Acme"]), name="acme"),
    ]
    assert named(rules, *ALL) == {"all": 80, "tea": 40, "acme": 150}


@pytest.mark.parametrize(
    "fields",
    [
        {"minimum_amount": Decimal("10.01")},
        {"starts_at": NOON + TICK},
        {"ends_at": NOON},
        {"products": goods("black")},
    ],
)
def test_a_rule_that_is_not_there_for_the_event_replaces_nothing(fields: dict[str, Any]) -> None:
    instead = rule("3", name="instead", **({"products": goods("green")} | fields))
    assert named([rule(name="all"), instead], GREEN) == {"all": 10}


def test_a_rule_whose_frequency_is_used_up_replaces_nothing_and_one_without_room_for_points_does() -> None:
    limits = RuleLimits(max_points_per_day=100, frequency=Frequency(1, Period.DAY))
    instead = rule("3", products=goods("green"), limits=limits)
    rules, what = [instead, rule()], purchase(GREEN, BAG)
    for room, expected in (
        (Room(day=100), [30, 80]),
        (closed(Reason.FREQUENCY_REACHED), [90]),
        (Room(day=0), [0, 80]),
    ):
        assert points(rules, what, NOBODY, rooms({instead: room})) == expected


def test_the_minimum_of_a_rule_that_replaces_counts_the_lines_that_another_wins() -> None:
    rules = [
        rule("2", products=goods(categories=["Tea"]), minimum_amount=Decimal(30), name="tea"),
        rule("3", products=goods("green"), name="green"),
    ]
    assert named(rules, *ALL) == {"tea": 40, "green": 30}


# Product multipliers


def test_a_multiplier_raises_what_rules_by_amount_give_for_its_lines() -> None:
    rules = [rule(), rule("2", products=goods("green"), stacking=ADD), rule(fixed=5)]
    double = rule(multiplier="2", products=goods("green"))
    assert points(rules, purchase(*ALL)) == [150, 20, 5]
    assert points([*rules, double], purchase(*ALL)) == [160, 40, 5]


def test_a_multiplier_gives_nothing_of_its_own() -> None:
    double = rule(multiplier="2")
    assert earn(double, "100") == []
    assert points([double, rule(fixed=5)], "100") == [5]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"multiplier": "2"}, {"multiplier": "3"}, 30),
        ({"multiplier": "2", "priority": 1}, {"multiplier": "3"}, 20),
        ({"multiplier": "0.5", "priority": 1}, {"multiplier": "3"}, 5),
        ({"multiplier": "1", "priority": 1}, {"multiplier": "3"}, 10),
        ({"multiplier": "2"}, {"multiplier": "3", "products": goods("black")}, 20),
        ({"multiplier": "2"}, {"multiplier": "3", "ends_at": NOON}, 20),
        ({"multiplier": "2"}, {"multiplier": "3", "minimum_amount": Decimal(11)}, 20),
    ],
)
def test_one_multiplier_counts_for_a_line_the_first_then_the_greatest(
    one: dict[str, Any], other: dict[str, Any], expected: int
) -> None:
    both = [rule(**one), rule(**other)]
    assert points([rule(), *both], purchase(GREEN)) == [expected]
    assert points([*both[::-1], rule()], purchase(GREEN)) == [expected]


def test_of_multipliers_that_are_alike_the_oldest_is_the_one_on_the_receipt() -> None:
    young = rule(multiplier="2", name="young")
    old = rule(multiplier="2", name="old", created_at=NOON - timedelta(days=1))
    (award,) = earn([rule(), young, old], purchase(GREEN))
    assert award.steps[1].label == "old: 2 times the points on 10.00 EUR"


def test_different_multipliers_count_for_different_lines_of_one_award() -> None:
    rules = [
        rule("1", "4"),
        rule(multiplier="3", products=goods(categories=["Tea"]), name="Tea time"),
        rule(multiplier="1.5", products=goods("cup"), name="Cups"),
    ]
    (award,) = earn(rules, purchase(*ALL))
    # (30 * 3 + 40 * 1.5 + 80) / 4
    assert award.points == 57
    assert [(step.kind, step.factor, step.after) for step in award.steps] == [
        (StepKind.BASE, None, Decimal("37.5")),
        (StepKind.PRODUCT_MULTIPLIER, Decimal(3), Decimal("52.5")),
        (StepKind.PRODUCT_MULTIPLIER, Decimal("1.5"), Decimal("57.5")),
        (StepKind.ROUNDING, None, Decimal(57)),
    ]


def test_a_multiplier_counts_whichever_rule_pays_the_line() -> None:
    rules = [rule(), rule("3", products=goods("green")), rule(multiplier="2")]
    assert points(rules, purchase(GREEN, BAG)) == [160, 60]
    assert points(rules, "10") == [20]


def test_what_is_multiplied_is_rounded_once_with_tier_and_campaign() -> None:
    rules = [rule("0.1"), rule(multiplier="1.5", products=goods("green"))]
    what = purchase(line("3", "green"), line("4"))
    # (4.5 + 4) / 10 is 0.85; times 2 times 3 is 5.1
    assert points(rules, what, standing("2", "3")) == [5]
    assert points(rules, what, standing("2", "3"), rounding=Rounding.CEILING) == [6]
    assert points(rules, what, standing("2"), rounding=Rounding.HALF_UP) == [2]


# What was refunded of no line in particular


@pytest.mark.parametrize(
    ("amount", "everything", "tea"),
    [("50", 20, 90), ("35", 5, 90), ("30", 0, 90), ("20", 0, 60), ("0", 0, 0)],
)
def test_what_is_missing_from_the_amount_is_missing_first_where_no_line_is_replaced(
    amount: str, everything: int, tea: int
) -> None:
    rules = [rule(name="all"), rule("3", products=goods(categories=["Tea"]), name="tea")]
    what = purchase(GREEN, BLACK, line("20", "plate"), amount=amount)
    awards = {award.rule_name: award.points for award in earn(rules, what)}
    assert (awards.get("all", 0), awards.get("tea", 0)) == (everything, tea)


def test_a_multiplier_multiplies_no_more_than_there_is() -> None:
    rules = [rule(), rule(multiplier="2", products=goods("green"))]
    for amount, expected in (("30", 40), ("25", 35), ("10", 20), ("4", 8), ("0", 0)):
        assert sum(points(rules, purchase(GREEN, BLACK, amount=amount))) == expected
