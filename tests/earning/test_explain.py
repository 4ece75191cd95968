"""Why a rule paid, or did not: every reason, and its sentence for the customer."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.campaigns.audience import Audience
from app.earning.explain import RuleOutcome
from app.earning.outcomes import Reason, Room
from app.earning.rules import EventKind, Frequency, Period, Rule, RuleLimits, RuleStacking, RuleStatus
from app.earning.ruleset import Facts
from app.ids import new_id
from app.programs.policy import Rounding
from tests.earning.making import (
    NOBODY,
    NOON,
    TICK,
    action,
    action_rule,
    closed,
    goods,
    line,
    outcomes,
    purchase,
    rooms,
    rule,
    visit,
    visit_rule,
)

GREEN, CUP = line("10", "green"), line("40", "cup")
TEA = goods("green", "black")


def only(some: Rule, facts: Facts | str, *rest: Any, **policy: Any) -> tuple[Reason, str]:
    (outcome,) = outcomes(some, facts, *rest, **policy)
    assert (outcome.rule_id, outcome.rule_version) == (some.id, some.version)
    return outcome.reason, outcome.message


def by_name(rules: list[Rule], facts: Facts | str, *rest: Any, **policy: Any) -> dict[str, RuleOutcome]:
    names = {each.id: each.definition.name for each in rules}
    return {names[each.rule_id]: each for each in outcomes(rules, facts, *rest, **policy)}


STORES = Audience(stores=(new_id(),))
TIERS = Audience(tiers=(new_id(),))


@pytest.mark.parametrize(
    ("some", "facts", "reason", "message"),
    [
        (rule(), "1", Reason.PAID, "Gives 1 point."),
        (rule(), "1200", Reason.PAID, "Gives 1,200 points."),
        (
            rule(fixed=500, limits=RuleLimits(max_points_per_transaction=1)),
            "1",
            Reason.PAID,
            "Gives 1 point; without limits it would be 500.",
        ),
        (
            rule(status=RuleStatus.DRAFT),
            "1",
            Reason.NOT_ACTIVE,
            "The rule is not switched on: it is a draft.",
        ),
        (
            rule(status=RuleStatus.PAUSED),
            "1",
            Reason.NOT_ACTIVE,
            "The rule is not switched on: it is paused.",
        ),
        (rule(starts_at=NOON + TICK), "1", Reason.NOT_STARTED, "It happened before the rule starts."),
        (rule(ends_at=NOON), "1", Reason.ENDED, "It happened after the rule ends."),
        (
            action_rule("review", 5),
            action("quiz"),
            Reason.OTHER_ACTION,
            "The rule is for the action review.",
        ),
        (
            rule(minimum_amount=Decimal(50)),
            "49.99",
            Reason.BELOW_MINIMUM,
            "The purchase came to 49.99 EUR; the rule asks for at least 50.00 EUR.",
        ),
        (
            rule(minimum_amount=Decimal("12.5"), products=TEA),
            purchase(GREEN, CUP),
            Reason.BELOW_MINIMUM,
            "The goods that the rule is for came to 10.00 EUR; the rule asks for at least 12.50 EUR.",
        ),
        (
            rule(products=TEA),
            purchase(CUP),
            Reason.NO_MATCHING_PRODUCT,
            "Nothing that the rule is for was bought.",
        ),
        (
            rule(products=TEA),
            "50",
            Reason.NO_MATCHING_PRODUCT,
            "The rule is for certain goods, and the purchase does not say what was bought.",
        ),
        (rule(audience=TIERS), "1", Reason.NOT_IN_AUDIENCE, "The rule is for members of other tiers."),
        (
            rule(audience=STORES),
            "1",
            Reason.NOT_IN_AUDIENCE,
            "The rule is for certain stores, and this happened in no store that is known.",
        ),
        (
            visit_rule(5, audience=STORES),
            visit(new_id()),
            Reason.NOT_IN_AUDIENCE,
            "The rule is for certain stores, and this happened in another store.",
        ),
        (rule(), "0.99", Reason.ROUNDED_TO_ZERO, "It comes to less than one point."),
        (rule(), "0", Reason.ROUNDED_TO_ZERO, "It comes to less than one point."),
        (
            rule(multiplier="2"),
            "50",
            Reason.ROUNDED_TO_ZERO,
            "Nothing to multiply: no rule gives points for the amount that it is for.",
        ),
    ],
)
def test_a_rule_says_why_it_paid_or_did_not(
    some: Rule, facts: Facts | str, reason: Reason, message: str
) -> None:
    assert only(some, facts) == (reason, message)


@pytest.mark.parametrize(
    ("limits", "room", "reason", "message"),
    [
        (
            {"max_points_per_day": 30},
            Room(day=0),
            Reason.DAY_LIMIT_REACHED,
            "At most 30 points a day by this rule, and none was left.",
        ),
        (
            {"budget": 1},
            Room(budget=0),
            Reason.BUDGET_SPENT,
            "The rule's budget is 1 point, and none was left.",
        ),
        (
            {"max_points_per_day": 30, "budget": 30},
            Room(day=0, budget=0),
            Reason.DAY_LIMIT_REACHED,
            "At most 30 points a day by this rule, and none was left.",
        ),
        (
            {"max_points_per_day": 30, "budget": 30},
            Room(day=10, budget=20),
            Reason.PAID,
            "Gives 10 points; without limits it would be 40.",
        ),
        *(
            ({name: value}, closed(reason), reason, message)
            for name, value, reason, message in (
                (
                    "frequency",
                    Frequency(1, Period.DAY),
                    Reason.FREQUENCY_REACHED,
                    "The rule pays once a day, and has done so.",
                ),
                (
                    "cooldown_minutes",
                    5,
                    Reason.COOLING_DOWN,
                    "The rule paid on 2 March 2026, 12:00 (UTC), and waits 5 minutes.",
                ),
                (
                    "max_times_per_member",
                    1,
                    Reason.MEMBER_LIMIT_REACHED,
                    "The rule pays each member once in all, and has done so.",
                ),
            )
        ),
    ],
)
def test_a_rule_says_which_limit_left_nothing(
    limits: dict[str, Any], room: Room, reason: Reason, message: str
) -> None:
    some = rule(fixed=40, limits=RuleLimits(**limits))
    assert only(some, "1", NOBODY, rooms({some: room})) == (reason, message)


def test_the_programs_cap_is_a_day_limit_too() -> None:
    rules = [rule(fixed=40, name="first", priority=1), rule(fixed=40, name="second")]
    found = by_name(rules, "1", NOBODY, rooms(program_day=40), max_points_per_day=50)
    assert found["first"].reason is Reason.PAID
    assert found["second"].reason is Reason.DAY_LIMIT_REACHED
    assert found["second"].message == "At most 50 points a day in the whole program, and none was left."


def test_every_reason_is_tested_here() -> None:
    tables: list[Any] = [test_a_rule_says_why_it_paid_or_did_not, test_a_rule_says_which_limit_left_nothing]
    told = {case[2] for table in tables for mark in table.pytestmark for case in mark.args[1]}
    # REPLACED has tests of its own below.
    assert told == set(Reason) - {Reason.REPLACED}


# REPLACED


def test_a_rule_that_is_replaced_on_all_its_lines_says_by_which() -> None:
    rules = [
        rule(name="Base"),
        rule("2", products=goods("green"), name="Green tea"),
        rule("3", products=goods("cup"), name="Cups"),
        rule("4", products=goods("pot"), name="Pots"),
        rule("5", products=goods("pot"), name="More pots"),
    ]
    found = by_name(rules, purchase(GREEN, CUP))
    assert found["Base"].reason is Reason.REPLACED
    assert found["Base"].message == "Another rule counts instead: Green tea and Cups."
    found = by_name(rules, purchase(GREEN, CUP, line("5", "pot"), GREEN))
    assert found["Base"].message == "Another rule counts instead: Green tea, Cups and More pots."
    assert found["Pots"].message == "Another rule counts instead: More pots."
    assert found["More pots"].message == "Gives 25 points."


def test_a_rule_that_is_replaced_on_some_lines_is_paid_for_the_others() -> None:
    rules = [rule(name="Base"), rule("2", products=goods("green"), name="Green tea")]
    found = by_name(rules, purchase(GREEN, CUP))
    assert found["Base"].message == "Gives 40 points."


def test_a_rule_is_replaced_on_a_purchase_without_lines_as_well() -> None:
    rules = [rule(name="Base"), rule("2", stacking=RuleStacking.REPLACE, name="Double")]
    assert by_name(rules, "10")["Base"].message == "Another rule counts instead: Double."


def test_a_rule_can_be_replaced_by_one_that_came_to_nothing() -> None:
    rules = [rule(name="Base"), rule("1", "100", products=goods("green"), name="Green tea")]
    found = by_name(rules, purchase(GREEN))
    assert (found["Base"].reason, found["Green tea"].reason) == (Reason.REPLACED, Reason.ROUNDED_TO_ZERO)


# Multipliers


def test_a_multiplier_is_paid_when_points_came_of_what_it_multiplied() -> None:
    rules = [rule(name="Base"), rule(multiplier="2", products=TEA, name="Tea week")]
    found = by_name(rules, purchase(GREEN, CUP))["Tea week"]
    assert (found.reason, found.message) == (Reason.PAID, "Multiplies what other rules give.")
    assert by_name(rules, purchase(CUP))["Tea week"].reason is Reason.NO_MATCHING_PRODUCT


@pytest.mark.parametrize(
    ("base", "facts"),
    [
        (rule(name="Base"), purchase(line("0.40", "green"))),
        (rule(name="Base"), purchase(line("0", "green"), CUP)),
        (rule(fixed=50, name="Base"), purchase(GREEN)),
        (rule(name="Base", minimum_amount=Decimal(11)), purchase(GREEN)),
        (rule(name="Base", products=goods("cup")), purchase(GREEN, CUP)),
    ],
)
def test_a_multiplier_without_points_to_multiply_is_not_paid(base: Rule, facts: Facts) -> None:
    rules = [base, rule(multiplier="2", products=TEA, name="Tea week")]
    found = by_name(rules, facts)["Tea week"]
    assert found.reason is Reason.ROUNDED_TO_ZERO
    assert found.message.startswith("Nothing to multiply")


def test_a_multiplier_of_points_that_a_limit_took_away_is_not_paid() -> None:
    some = rule(name="Base", limits=RuleLimits(budget=5))
    rules = [some, rule(multiplier="2", name="Double")]
    spent = by_name(rules, "10", NOBODY, rooms({some: Room(budget=0)}))
    assert (spent["Base"].reason, spent["Double"].reason) == (Reason.BUDGET_SPENT, Reason.ROUNDED_TO_ZERO)
    some_left = by_name(rules, "10", NOBODY, rooms({some: Room(budget=1)}))
    assert (some_left["Base"].reason, some_left["Double"].reason) == (Reason.PAID, Reason.PAID)


def test_a_multiplier_that_another_one_stands_before_says_which() -> None:
    rules = [
        rule(name="Base"),
        rule(multiplier="2", name="Double"),
        rule(multiplier="3", products=goods("green"), name="Green week"),
        rule(multiplier="3", products=goods("cup"), name="Cup week"),
    ]
    found = by_name(rules, purchase(GREEN, CUP))["Double"]
    assert found.reason is Reason.REPLACED
    assert found.message == "Another multiplier counts instead: Green week and Cup week."
    assert by_name(rules, purchase(GREEN, line("1", "pot")))["Double"].reason is Reason.PAID


# Which rules are told, and in which order


def test_every_rule_for_events_of_the_kind_is_told_in_the_rules_order() -> None:
    rules = [
        rule(name="late", created_at=NOON + timedelta(days=1)),
        rule(name="early", status=RuleStatus.DRAFT),
        rule(name="goods", products=TEA, priority=1),
        rule(name="urgent", multiplier="2", priority=2),
        rule(name="archived", status=RuleStatus.ARCHIVED, priority=3),
        visit_rule(5, name="visit"),
        action_rule("quiz", 5, name="quiz"),
        action_rule("review", 5, name="review", status=RuleStatus.PAUSED),
        rule(fixed=5, trigger=EventKind.REFERRAL, name="friend"),
    ]
    assert list(by_name(rules, "10")) == ["urgent", "goods", "early", "late"]
    assert list(by_name(rules, visit())) == ["visit"]
    assert list(by_name(rules, action("quiz"))) == ["quiz", "review"]


def test_what_cannot_have_been_meant_is_told_before_what_was_not_bought() -> None:
    cases: list[tuple[dict[str, Any], Reason]] = [
        ({"status": RuleStatus.PAUSED, "ends_at": NOON}, Reason.NOT_ACTIVE),
        ({"ends_at": NOON, "audience": STORES}, Reason.ENDED),
        ({"audience": STORES, "minimum_amount": Decimal(99)}, Reason.NOT_IN_AUDIENCE),
        ({"minimum_amount": Decimal(99)}, Reason.NO_MATCHING_PRODUCT),
    ]
    for fields, reason in cases:
        assert only(rule(products=TEA, **fields), purchase(CUP))[0] is reason


def test_an_outcome_has_the_points_of_its_rule() -> None:
    rules = [rule(name="Base"), rule(multiplier="2", name="Double"), rule(fixed=5, name="Fixed")]
    assert {name: each.points for name, each in by_name(rules, "10").items()} == {
        "Base": 20,
        "Double": 0,
        "Fixed": 5,
    }


def test_paid_is_what_gave_points() -> None:
    assert outcomes(rule(), "0.5", rounding=Rounding.CEILING)[0].paid
    assert not outcomes(rule(), "0.5")[0].paid
