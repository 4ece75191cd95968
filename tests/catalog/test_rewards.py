"""Rewards by themselves: what is left of them, and what a discount takes off at the most."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.rewards import RewardLimits, Stock, money_for
from tests.redemptions.making import reward_like


@pytest.mark.parametrize(
    ("stock", "left"),
    [
        (Stock(), None),
        (Stock(taken=7), None),
        (Stock(taken=7, capacity=10), 3),
        (Stock(taken=7, capacity=7), 0),
        (Stock(taken=7, codes=2), 2),
        (Stock(taken=7, capacity=10, codes=2), 2),
        (Stock(taken=7, capacity=8, codes=2), 1),
        (Stock(taken=7, capacity=8, codes=0), 0),
    ],
    ids=str,
)
def test_left_is_what_stock_and_pool_both_have(stock: Stock, left: int | None) -> None:
    assert stock.left == left


@given(
    st.builds(Stock, st.integers(0, 100), st.none() | st.integers(100, 200), st.none() | st.integers(50, 99)),
    st.integers(1, 50),
)
def test_what_is_taken_is_left_no_more(before: Stock, pieces: int) -> None:
    codes = before.codes
    after = before.after(pieces, 0 if codes is None else pieces)
    if before.left is None:
        assert after.left is None
    else:
        assert after.left == before.left - pieces
    assert after.after(-pieces, 0 if codes is None else -pieces) == before


@pytest.mark.parametrize(
    ("kind", "made", "pool"),
    [
        ("VOUCHER", False, True),
        ("GIFT_CARD", False, True),
        ("VOUCHER", True, False),
        ("GIFT_CARD", True, False),
        ("PRODUCT", False, False),
        ("DISCOUNT", False, False),
        ("GIVEAWAY", False, False),
    ],
)
def test_a_pool_belongs_to_what_comes_as_codes_that_are_loaded(kind: str, made: bool, pool: bool) -> None:
    assert reward_like(kind, generate_codes=made).has_pool is pool


orders = st.integers(0, 10**18).map(lambda n: Decimal(n).scaleb(-6))
shares = st.one_of(st.none(), st.integers(1, 10**6).map(lambda n: Decimal(n).scaleb(-6)))
rates = st.integers(1, 10**15).map(lambda n: Decimal(n).scaleb(-6))


@given(orders, shares, rates, st.sampled_from((0, 2, 3, 4)))
def test_the_most_of_an_order_is_its_share_in_whole_units_and_the_most_points_pay_all_of_it(
    order: Decimal, share: Decimal | None, rate: Decimal, digits: int
) -> None:
    limits = RewardLimits(max_share_of_order=share)
    reward = reward_like("DISCOUNT", points=None, points_per_currency_unit=rate, limits=limits)
    money, points = reward.most_money(order, digits), reward.most_points(order, digits)
    unit = Fraction(1, 10**digits)
    bound = Fraction(order) * (1 if share is None else Fraction(share))
    assert 0 <= bound - Fraction(money) < unit
    assert Fraction(money) % unit == 0
    # The last point may be worth more than is left to pay; none is there for nothing.
    assert abs(points - Fraction(money) * Fraction(rate)) < 1
    assert money_for(points, rate, digits, money) == money
