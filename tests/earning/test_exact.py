"""Exact numbers: whole millionths, ratios of integers, and how they are shown."""

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from app.earning.exact import Ratio, amount_of, micros, money, plural
from app.money import format_money
from app.programs.policy import Rounding

numerators, denominators = st.integers(0, 10**30), st.integers(1, 10**12)
ratios = st.builds(Ratio, numerators, denominators)


def fraction(ratio: Ratio) -> Fraction:
    return Fraction(ratio.numerator, ratio.denominator)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("0", 0),
        ("0.000001", 1),
        ("19.99", 19_990_000),
        ("1E+2", 100_000_000),
        ("1.2300", 1_230_000),
        ("1000000000000", 10**18),
        ("999999999999.999999", 10**18 - 1),
    ],
)
def test_amounts_are_whole_millionths_and_back(amount: str, expected: int) -> None:
    assert micros(Decimal(amount)) == expected
    assert amount_of(expected) == Decimal(amount)


@profile(max_examples=300, deadline=None)
@given(
    st.integers(0, 10**18) | st.integers(0, 10**8).map(lambda cents: cents * 10_000),
    st.sampled_from(["EUR", "JPY", "KWD", "CLF"]),
)
def test_money_is_told_as_everywhere_else(amount: int, currency: str) -> None:
    assert money(amount, currency) == format_money(amount_of(amount), currency)


@profile(max_examples=200, deadline=None)
@given(numerators, denominators)
def test_rounding_agrees_with_fractions(numerator: int, denominator: int) -> None:
    exact, ratio = Fraction(numerator, denominator), Ratio(numerator, denominator)
    assert ratio.rounded(Rounding.FLOOR) == math.floor(exact)
    assert ratio.rounded(Rounding.CEILING) == math.ceil(exact)
    assert ratio.rounded(Rounding.HALF_UP) == math.floor(exact + Fraction(1, 2))
    assert ratio.is_whole() == (exact.denominator == 1)


@profile(max_examples=200, deadline=None)
@given(ratios, ratios)
def test_arithmetic_agrees_with_fractions(one: Ratio, other: Ratio) -> None:
    assert fraction(one.times(other)) == fraction(one) * fraction(other)
    assert fraction(one.plus(other)) == fraction(one) + fraction(other)


@profile(max_examples=100, deadline=None)
@given(st.decimals(0, 10**6, places=6))
def test_a_decimal_is_the_ratio_that_it_is(value: Decimal) -> None:
    assert fraction(Ratio.of(value)) == Fraction(value)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (Ratio(5, 2), "2.5"),
        (Ratio(7, 7), "1"),
        (Ratio(0), "0"),
        (Ratio(1, 3), "0.333333"),
        (Ratio(2, 3), "0.666667"),
        (Ratio(1, 10**6), "0.000001"),
        (Ratio(999_999_999, 10**9), "1"),
        (Ratio(10**30, 3), "3" * 30 + ".333333"),
        (Ratio(100), "100"),
    ],
)
def test_ratios_are_shown_in_full_where_they_end_and_else_to_six_decimals(
    ratio: Ratio, expected: str
) -> None:
    assert f"{ratio.shown():f}" == expected


@profile(max_examples=200, deadline=None)
@given(ratios)
def test_what_is_shown_is_the_nearest_of_six_decimals(ratio: Ratio) -> None:
    assert abs(Fraction(ratio.shown()) - fraction(ratio)) * 2 <= Fraction(1, 10**6)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (0, "0 points"),
        (1, "1 point"),
        (2, "2 points"),
        (1234567, "1,234,567 points"),
        (Decimal("1.0"), "1.0 point"),
        (Decimal("0.5"), "0.5 points"),
        (Decimal("2.5"), "2.5 points"),
    ],
)
def test_points_are_told_with_their_noun(points: int | Decimal, expected: str) -> None:
    assert plural(points) == expected
