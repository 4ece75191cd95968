"""What was paid with points earns nothing, unless the program lets it: exactly, and told on the receipt."""

from decimal import Decimal

import pytest

from app.earning.exact import Ratio, share_of
from app.earning.outcomes import Reason
from app.earning.rules import Rule
from app.earning.ruleset import FactLine, Facts
from app.programs.policy import Rounding
from tests.earning.making import earn, goods, line, outcomes, points, purchase, receipt, rule


def paid(facts: Facts, with_points: str) -> Facts:
    """Return a purchase of which an amount was paid with points."""
    whole = Decimal(facts.micros).scaleb(-6)
    return facts._replace(points_share=share_of(Decimal(with_points), whole))


def bought(amount: str, with_points: str, *lines: FactLine) -> Facts:
    return paid(purchase(*lines, amount=amount), with_points)


@pytest.mark.parametrize(
    ("part", "whole", "share"),
    [
        ("20", "100", Ratio(1, 5)),
        ("0.01", "0.03", Ratio(1, 3)),
        ("100.00", "100", Ratio(1, 1)),
        ("0", "100", None),
        ("0", "0", None),
        (None, "100", None),
        (None, None, None),
    ],
)
def test_a_share_is_the_exact_part_of_the_amount(part: str, whole: str, share: Ratio | None) -> None:
    got = share_of(None if part is None else Decimal(part), None if whole is None else Decimal(whole))
    if share is None:
        assert got is None
    else:
        assert got is not None
        assert got.numerator * share.denominator == share.numerator * got.denominator


def test_only_what_was_paid_with_money_earns() -> None:
    (award,) = earn(rule(), bought("100", "20"))
    assert award.points == 80
    assert receipt(award) == [
        "BASE: 1 point per 1.00 EUR on 80.00 EUR of 100.00 EUR, without what was paid with points [0 -> 80]"
    ]


def test_when_points_payments_earn_nothing_changes() -> None:
    everything = earn(rule(), "100")
    assert [
        (award.points, receipt(award))
        for award in earn(rule(), bought("100", "20"), earn_on_points_payments=True)
    ] == [(award.points, receipt(award)) for award in everything]
    assert points(rule(fixed=5), bought("100", "100"), earn_on_points_payments=True) == [5]


def test_each_line_counts_by_the_same_share_and_nothing_is_rounded_between() -> None:
    # A third was paid with points: 6.666… of each line, and 20 together.
    facts = bought("30", "10", line("10", "a"), line("10", "b"), line("10", "c"))
    tea, rest = earn([rule("3", products=goods("a")), rule("1.5")], facts)
    assert (tea.points, rest.points) == (20, 20)
    label = "BASE: 3 points per 1.00 EUR on 6.666667 EUR of 30.00 EUR, without what was paid with points"
    assert receipt(tea) == [f"{label} [0 -> 20]"]


@pytest.mark.parametrize("rounding", list(Rounding))
def test_a_whole_number_is_not_missed_by_a_rounded_share(rounding: Rounding) -> None:
    facts = bought("0.07", "0.03", line("0.01", "a"), line("0.06"))
    # 0.01 x 4/7 x 175 is one point, exactly.
    assert points(rule("175", products=goods("a")), facts, rounding=rounding) == [1]


@pytest.mark.parametrize(("minimum", "pays"), [("80", True), ("80.000001", False), ("100", False)])
def test_a_minimum_is_compared_with_what_was_paid_with_money(minimum: str, pays: bool) -> None:
    some = rule(minimum_amount=Decimal(minimum))
    assert points(some, bought("100", "20")) == ([80] if pays else [])
    (outcome,) = outcomes(some, bought("100", "20"))
    if not pays:
        assert outcome.reason is Reason.BELOW_MINIMUM
        assert outcome.message.startswith(
            "The purchase came to 80.00 EUR, without what was paid with points; the rule asks for at least "
        )


def test_a_minimum_that_is_just_reached_is_reached_whatever_the_share() -> None:
    facts = bought("30", "10", line("10", "a"), line("20"))
    least = Decimal("6.666666")
    assert points(rule("100", products=goods("a"), minimum_amount=least), facts) == [666]
    more = Decimal("6.666667")
    assert points(rule("100", products=goods("a"), minimum_amount=more), facts) == []


def test_fixed_points_are_given_once_as_ever() -> None:
    assert points(rule(fixed=25), bought("100", "99.99")) == [25]


@pytest.mark.parametrize("some", [rule(), rule(fixed=25), rule("9", products=goods("tea"))])
def test_what_was_wholly_paid_with_points_earns_nothing_at_all(some: Rule) -> None:
    facts = bought("100", "100", line("100", "tea"))
    assert points(some, facts) == []
    (outcome,) = outcomes(some, facts)
    assert outcome.reason is Reason.ROUNDED_TO_ZERO
    assert outcome.message == "All of the purchase was paid with points, which earn nothing here."


def test_a_multiplier_multiplies_the_share_that_was_paid_with_money() -> None:
    rules = [rule(), rule(multiplier="2", name="Tea week", products=goods("tea"))]
    (award,) = earn(rules, bought("100", "25", line("60", "tea"), line("40")))
    assert award.points == 75 + 45
    hint = "without what was paid with points"
    assert receipt(award) == [
        f"BASE: 1 point per 1.00 EUR on 75.00 EUR of 100.00 EUR, {hint} [0 -> 75]",
        "PRODUCT_MULTIPLIER: Tea week: 2 times the points on 45.00 EUR [75 -> 120]",
    ]


def test_a_rule_that_counts_instead_keeps_its_goods_from_the_others_as_ever() -> None:
    rules = [rule("1"), rule("2", products=goods("tea"))]
    assert points(rules, bought("100", "50", line("60", "tea"), line("40"))) == [20, 60]
