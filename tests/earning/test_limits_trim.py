"""Limits trim what rules give, in the order of the rules, and never more than they have to."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.earning.compiled import CompiledRule
from app.earning.engine import evaluate
from app.earning.outcomes import Reason, Room, StepKind
from app.earning.rules import Frequency, Period, Rule, RuleLimits
from app.programs.policy import Rounding
from tests.earning.making import (
    NOBODY,
    NOON,
    closed,
    earn,
    goods,
    line,
    points,
    purchase,
    rooms,
    rule,
    rule_set,
    standing,
    visit,
    visit_rule,
)


def limited(fixed: int, name: str = "Rule", **limits: Any) -> Rule:
    return rule(fixed=fixed, name=name, limits=RuleLimits(**limits))


class Asked:
    """Room without end, that remembers for which rules it was asked."""

    program_day = None

    def __init__(self) -> None:
        self.names: list[str] = []

    def of(self, some: CompiledRule) -> Room:
        self.names.append(some.name)
        return Room()


@pytest.mark.parametrize(
    ("limits", "room", "kind"),
    [
        ({"max_points_per_transaction": 30}, Room(), StepKind.TRANSACTION_LIMIT),
        ({"max_points_per_day": 100}, Room(day=30), StepKind.DAY_LIMIT),
        ({"budget": 1000}, Room(budget=30), StepKind.BUDGET),
    ],
)
def test_a_limit_leaves_what_it_has_room_for(limits: dict[str, Any], room: Room, kind: StepKind) -> None:
    for fixed, expected in ((29, 29), (30, 30), (31, 30), (5000, 30)):
        some = limited(fixed, **limits)
        (award,) = earn(some, "1", NOBODY, rooms({some: room}))
        assert (award.desired, award.points) == (fixed, expected)
        assert [step.kind for step in award.steps[1:]] == [kind] * (fixed > 30)


def test_the_limit_per_transaction_counts_for_each_event_alone() -> None:
    some = visit_rule(40, limits=RuleLimits(max_points_per_transaction=30))
    assert points(some, visit()) == points(some, visit()) == [30]


@pytest.mark.parametrize("room", [Room(day=0), Room(budget=0)])
def test_an_award_can_be_trimmed_to_nothing_and_is_still_told(room: Room) -> None:
    some = limited(10, max_points_per_day=30, budget=30)
    (award,) = earn(some, "1", NOBODY, rooms({some: room}))
    assert (award.desired, award.points) == (10, 0)


def test_limits_trim_one_after_the_other_in_their_order() -> None:
    some = limited(100, max_points_per_transaction=80, max_points_per_day=200, budget=1000)
    (award,) = earn(
        some, "1", NOBODY, rooms({some: Room(day=60, budget=20)}, program_day=40), max_points_per_day=300
    )
    assert [(step.kind, int(step.after)) for step in award.steps] == [
        (StepKind.BASE, 100),
        (StepKind.TRANSACTION_LIMIT, 80),
        (StepKind.DAY_LIMIT, 60),
        (StepKind.PROGRAM_DAY_LIMIT, 40),
        (StepKind.BUDGET, 20),
    ]


def test_a_limit_that_takes_nothing_is_no_step() -> None:
    some = limited(100, max_points_per_transaction=50, max_points_per_day=50, budget=70)
    (award,) = earn(
        some, "1", NOBODY, rooms({some: Room(day=50, budget=70)}, program_day=50), max_points_per_day=50
    )
    assert [step.kind for step in award.steps] == [StepKind.BASE, StepKind.TRANSACTION_LIMIT]


def test_limits_count_whole_points_after_factors_and_rounding() -> None:
    some = rule(limits=RuleLimits(max_points_per_transaction=20))
    assert points(some, "9.99", standing("2")) == [19]
    assert points(some, "9.99", standing("2"), rounding=Rounding.CEILING) == [20]
    assert points(some, "10.50", standing("2"), rounding=Rounding.CEILING) == [20]


def test_the_programs_cap_is_spent_by_priority_and_then_by_age() -> None:
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
        left = rooms(program_day=room)
        awards = earn([last, old, urgent, oldest], "1", NOBODY, left, max_points_per_day=1000)
        assert [award.rule_name for award in awards] == ["urgent", "oldest", "old", "last"]
        assert [award.points for award in awards] == expected
        assert [award.desired for award in awards] == [40] * 4


def test_the_cap_is_spent_in_the_rules_order_whether_they_have_a_filter_or_not() -> None:
    rules = [
        rule(fixed=40, name="last", priority=1),
        rule(fixed=40, name="first", priority=3, products=goods(without=["cup"])),
        rule(fixed=40, name="second", priority=2, products=goods("tea")),
    ]
    awards = earn(rules, purchase(line("1", "tea")), NOBODY, rooms(program_day=50), max_points_per_day=50)
    assert [(each.rule_name, each.points) for each in awards] == [("first", 40), ("second", 10), ("last", 0)]


def test_of_two_rules_of_one_moment_the_smaller_id_is_the_older() -> None:
    rules = sorted((rule(fixed=10) for _ in range(5)), key=lambda each: each.id)
    awards = earn(rules[::-1], "1", NOBODY, rooms(program_day=10), max_points_per_day=10)
    assert [award.rule_id for award in awards] == [each.id for each in rules]
    assert [award.points for award in awards] == [10, 0, 0, 0, 0]


def test_the_cap_is_not_spent_by_what_a_rules_own_limits_take_away() -> None:
    poor = limited(40, budget=100)
    rules = [poor, rule(fixed=40, created_at=NOON + timedelta(days=1))]
    left = rooms({poor: Room(budget=5)}, program_day=40)
    assert points(rules, "1", NOBODY, left, max_points_per_day=40) == [5, 35]


def test_the_room_of_one_rule_is_not_that_of_another() -> None:
    one, other = limited(40, "one", max_points_per_day=50), limited(40, "other", max_points_per_day=50)
    assert points([one, other], "1", NOBODY, rooms({one: Room(day=10), other: Room(day=20)})) == [10, 20]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"frequency": Frequency(1, Period.WEEK)}, Reason.FREQUENCY_REACHED),
        ({"cooldown_minutes": 5}, Reason.COOLING_DOWN),
        ({"max_times_per_member": 1}, Reason.MEMBER_LIMIT_REACHED),
    ],
)
def test_a_limit_on_how_often_turns_the_rule_away_as_a_whole(limits: dict[str, Any], reason: Reason) -> None:
    some = limited(10, **limits)
    assert earn(some, "1", NOBODY, rooms({some: closed(reason)})) == []
    assert points(some, "1", NOBODY, rooms({some: Room()})) == [10]


def test_rules_without_limits_are_not_asked_for_their_room() -> None:
    asked = Asked()
    rules = [
        rule(name="plain"),
        limited(1, "transaction", max_points_per_transaction=1),
        limited(1, "day", max_points_per_day=1),
        limited(1, "budget", budget=1),
        limited(1, "often", frequency=Frequency(1, Period.DAY)),
        rule(name="not reached", limits=RuleLimits(budget=1), minimum_amount=Decimal(99)),
        rule(name="not there", limits=RuleLimits(budget=1), ends_at=NOON),
    ]
    evaluate(rule_set(*rules), purchase(amount="1"), NOBODY, asked)
    assert asked.names == ["day", "budget", "often"]
