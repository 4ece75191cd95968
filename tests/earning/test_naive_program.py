"""The naive program itself, in examples from the design that can be worked out by hand."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from app.earning.rules import EventKind, Frequency, Period, Rule, RuleLimits
from tests.earning.making import NOON, POLICY, campaign, goods, rule, tier
from tests.earning.naive import NaiveProgram
from tests.earning.naive_rules import NaiveEvent, NaiveLine

DAY = timedelta(days=1)


def bought(number: int, *amounts: str, days: int = 0, member: str = "member", pieces: int = 1) -> NaiveEvent:
    """Make a purchase with a line for each amount, each of so many pieces."""
    lines = tuple(
        NaiveLine(Fraction(amount), f"sku-{n}", quantity=Fraction(pieces))
        for n, amount in enumerate(amounts, start=1)
    )
    total = sum((line.amount for line in lines), Fraction(0))
    return NaiveEvent(number, EventKind.PURCHASE, NOON + days * DAY, member, total, lines)


def program(*rules: Rule, **more: Any) -> NaiveProgram:
    return NaiveProgram(POLICY, rules, **more)


def test_who_earns_10_earns_30_in_a_campaign_and_60_as_a_member_of_a_tier() -> None:
    gold = tier("2", threshold="5")
    some = program(rule(), tiers=[tier("1", "Start"), gold], campaigns=[campaign("3")])
    some.given_tiers["gold"] = [(NOON, gold.id)]
    for number, (member, days, points) in enumerate([("plain", 9, 10), ("plain", 0, 30), ("gold", 0, 60)]):
        (award,) = some.record(bought(number, "10", days=days, member=member)).awards
        assert award.points == points


def test_after_a_refund_it_is_what_the_rest_would_have_earned() -> None:
    some = program(rule(minimum_amount=Decimal(50)), rule("3", products=goods("sku-2")), rule(fixed=7))
    some.record(bought(1, "40", "20", "5"))
    assert some.points("member") == 45 + 60 + 7
    # Without the second line there are 45 left, which is less than the first rule asks for.
    assert some.refund(1, [(2, 1)]) == 105
    assert some.points("member") == 7
    assert some.refund(1) == 7
    assert some.points("member") == 0


def test_a_purchase_as_a_whole_keeps_no_more_than_was_granted() -> None:
    # What the dearer rule no longer pays for the other one pays now.
    rules = [rule("3", products=goods("sku-1"), minimum_amount=Decimal(20)), rule("1")]
    some = program(*rules)
    some.record(bought(1, "20", "10", pieces=2))
    assert some.points("member") == 60 + 10
    assert some.refund(1, [(1, 1)]) == 50
    kept = {award.rule.id: award.remaining for award in some.kept[1].awards}
    assert kept == {rules[0].id: 10, rules[1].id: 10}


@pytest.mark.parametrize("pieces", [[7], [1, 6], [1] * 7, [2, 2, 3]])
def test_many_small_refunds_equal_one_big_one(pieces: list[int]) -> None:
    some = program(rule("10"))
    some.record(bought(1, "10", "10", pieces=9))
    for quantity in pieces:
        some.refund(1, [(1, quantity)])
    # 10.00 x 7 / 9 is 7.78: 2.22 and 10.00 are left.
    assert some.points("member") == 122


def test_todays_rules_play_no_part_in_a_refund() -> None:
    some = program(rule("2"))
    some.record(bought(1, "10", "30"))
    some.rules = [rule("5")]
    assert some.refund(1, [(1, 1)]) == 20


def test_room_comes_back_in_its_own_period_only() -> None:
    limits = RuleLimits(max_points_per_day=10, frequency=Frequency(1, Period.DAY), budget=30)
    some = program(rule(limits=limits))
    some.record(bought(1, "10"))
    some.record(bought(2, "10", days=1))
    assert some.record(bought(3, "10")).awards == []
    some.refund(1)
    assert some.record(bought(4, "10", days=1)).awards == []
    (award,) = some.record(bought(5, "10")).awards
    assert award.points == 10


def test_an_award_trimmed_to_nothing_uses_up_no_frequency() -> None:
    often = rule(fixed=5, priority=-1, limits=RuleLimits(frequency=Frequency(1, Period.WEEK)))
    some = NaiveProgram(replace(POLICY, max_points_per_day=10), [rule(), often])
    assert [award.points for award in some.record(bought(1, "10")).awards] == [10, 0]
    assert [award.points for award in some.record(bought(2, "4", days=1)).awards] == [4, 5]
    assert [award.points for award in some.record(bought(3, "4", days=2)).awards] == [4]
