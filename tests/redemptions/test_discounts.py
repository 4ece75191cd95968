"""DISCOUNT: what points take off an order, exactly, in currencies with any number of digits."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from app.catalog.inputs import MAX_RATE
from app.catalog.rewards import Reward, RewardLimits, money_for
from app.errors import ErrorCode, Refused
from app.ids import new_id
from app.ledger.operations import MAX_POINTS
from app.members.reads import MemberRef
from app.money import MINOR_DIGITS
from app.redemptions.inputs import MAX_ORDER, Wanted
from app.redemptions.pricing import price
from app.redemptions.steps import cancel, capture
from app.redemptions.taking import take
from app.validation import Problems
from tests.helpers import new_program
from tests.redemptions.making import (
    VAULT,
    ask,
    check_books,
    codes_of,
    new_reward,
    redeemed,
    reward_like,
    rich_member,
    wanted,
)

CURRENCIES = ("EUR", "JPY", "KWD")


def discount(
    rate: Decimal | str, share: Decimal | str | None = None, min_points: int | None = None
) -> Reward:
    limits = RewardLimits(max_share_of_order=None if share is None else Decimal(share), min_points=min_points)
    return reward_like("DISCOUNT", points=None, points_per_currency_unit=Decimal(rate), limits=limits)


def request(points: int | None, order: Decimal | None, **said: Any) -> Wanted:
    return Wanted(MemberRef(id=new_id()), new_id(), "key", points=points, order_amount=order, **said)


def decimals(most: Decimal, places: int) -> st.SearchStrategy[Decimal]:
    """Return numbers above zero, small ones and round ones among them."""
    wide = st.integers(1, int(most * 10**places))
    return st.one_of(
        st.integers(1, 1000), wide, wide.map(lambda n: max(1, n // 10**places) * 10**places)
    ).map(lambda n: Decimal(n).scaleb(-places))


@profile(max_examples=400, deadline=None)
@given(
    st.integers(1, MAX_POINTS),
    decimals(MAX_RATE, 6),
    st.sampled_from(CURRENCIES),
    st.one_of(st.none(), decimals(MAX_ORDER, 6), st.just(Decimal(0))),
    st.one_of(st.none(), decimals(Decimal(1), 6)),
)
@example(1, Decimal(100), "EUR", Decimal("0.01"), None)
@example(1, Decimal("0.000001"), "KWD", None, None)
@example(MAX_POINTS, MAX_RATE, "JPY", MAX_ORDER, Decimal("0.333333"))
@example(MAX_POINTS, Decimal("0.000001"), "EUR", None, None)
@example(150, Decimal(100), "JPY", Decimal("2"), Decimal("0.999999"))
def test_money_is_what_points_are_worth_rounded_up_and_never_beyond_the_order_or_its_share(
    points: int, rate: Decimal, currency: str, order: Decimal | None, share: Decimal | None
) -> None:
    reward, problems = discount(rate, share), Problems()
    cost = price(reward, request(points, order), currency, problems)
    unit = Fraction(1, 10 ** MINOR_DIGITS[currency])
    exact = Fraction(points) / Fraction(rate)
    if order is None:
        assert [error.field for error in problems.errors] == (
            [("order_amount",)] if share is not None else []
        )
    else:
        bound = Fraction(order) * (1 if share is None else Fraction(share))
        bound = bound // unit * unit
        if problems.errors:
            (error,) = problems.errors
            assert (error.code, error.field) == (ErrorCode.LIMIT_REACHED, ("points",))
            assert points > bound * Fraction(rate)
        else:
            assert points < bound * Fraction(rate) + 1
            assert cost.amount is not None
            assert cost.amount <= bound <= order
    assert cost.points == points
    if not problems.errors:
        assert cost.amount is not None
        money = Fraction(cost.amount)
        assert min(exact, money if order is None else bound) <= money < exact + unit
        assert money % unit == 0


@profile(max_examples=200, deadline=None)
@given(st.integers(1, 10**9), decimals(Decimal(10**6), 6), st.sampled_from(CURRENCIES), st.data())
def test_fewer_points_are_never_worth_more(
    points: int, rate: Decimal, currency: str, data: st.DataObject
) -> None:
    digits = MINOR_DIGITS[currency]
    whole = money_for(points, rate, digits, None)
    fewer = data.draw(st.integers(1, points))
    part = money_for(fewer, rate, digits, whole)
    assert 0 < part <= whole
    # Cut into two they lose nothing, and win less than two smallest units.
    if points > fewer:
        both = part + money_for(points - fewer, rate, digits, whole)
        assert whole <= both < whole + 2 * Decimal(1).scaleb(-digits)


@pytest.mark.parametrize(
    ("rate", "currency", "points", "money"),
    [
        ("100", "EUR", 1, "0.01"),
        ("100", "EUR", 100, "1.00"),
        ("300", "EUR", 100, "0.34"),
        ("1000", "EUR", 1, "0.01"),
        ("0.5", "EUR", 3, "6.00"),
        ("3", "JPY", 10, "4"),
        ("0.01", "JPY", 1, "100"),
        ("7", "KWD", 1, "0.143"),
        ("0.000001", "EUR", 1, "1000000.00"),
    ],
)
def test_what_points_are_worth(rate: str, currency: str, points: int, money: str) -> None:
    cost = price(discount(rate), request(points, None), currency, Problems())
    assert str(cost.amount) == money


@pytest.mark.parametrize(
    ("said", "errors"),
    [
        ({"points": 100, "order": "10"}, []),
        ({"points": None, "order": "10"}, ["points"]),
        ({"points": 49, "order": "10"}, ["points"]),
        ({"points": 50, "order": "10"}, []),
        ({"points": 500, "order": "10"}, []),
        ({"points": 501, "order": "10"}, ["points"]),
        ({"points": 500, "order": "9.99"}, ["points"]),
        ({"points": 499, "order": "9.99"}, []),
        ({"points": 100, "order": None}, ["order_amount"]),
        ({"points": 100, "order": "10", "quantity": 2}, ["quantity"]),
        ({"points": 1, "order": "0", "quantity": 2}, ["quantity", "points", "points"]),
    ],
    ids=str,
)
def test_what_can_be_asked_of_a_discount_of_half_an_order(said: dict[str, Any], errors: list[str]) -> None:
    reward, problems = discount("100", "0.5", 50), Problems()
    order = None if said["order"] is None else Decimal(said["order"])
    price(reward, request(said["points"], order, quantity=said.get("quantity", 1)), "EUR", problems)
    assert [error.field for error in problems.errors] == [(name,) for name in errors]


async def test_a_discount_takes_money_off_an_order() -> None:
    program = await new_program()
    member = await rich_member(program, 1000)
    limits = RewardLimits(max_share_of_order=Decimal("0.5"))
    reward = await new_reward(program, "DISCOUNT", limits=limits)
    redemption = await redeemed(
        program, member, reward, points=500, order_amount=Decimal("10.00"), order_id="17"
    )
    assert (redemption.points, redemption.amount, redemption.rate) == (500, Decimal("5.00"), Decimal(100))
    assert (redemption.order_amount, redemption.order_id) == (Decimal("10.00"), "17")
    refused = await ask(program, member, reward, points=501, order_amount=Decimal("10.00"))
    assert codes_of(refused) == ["LIMIT_REACHED", "INSUFFICIENT_POINTS"]
    assert refused.errors[0].message == (
        "At most 500 points can be spent on this order: 5.00 EUR of it can be paid so."
    )
    await check_books(program)


async def test_of_a_discount_that_is_captured_in_part_the_money_shrinks_with_the_points() -> None:
    program = await new_program()
    member = await rich_member(program, 1000)
    reward = await new_reward(program, "DISCOUNT", points_per_currency_unit=300)
    reserved = await redeemed(program, member, reward, points=1000, order_amount=Decimal(4), hold_seconds=60)
    assert reserved.amount == Decimal("3.34")
    done = (await capture(program.id, reserved.id, "key", 100)).redemption
    assert (done.points, done.amount) == (100, Decimal("0.34"))
    await check_books(program)


async def test_points_are_named_for_a_discount_alone() -> None:
    program = await new_program()
    member, reward = await rich_member(program), await new_reward(program)
    refused = await ask(program, member, reward, points=100)
    assert [(str(each.code), each.field) for each in refused.errors] == [("INVALID", ("points",))]


async def test_several_payments_take_no_more_off_an_order_than_its_share() -> None:
    program = await new_program()
    half = await new_reward(program, "DISCOUNT", limits=RewardLimits(max_share_of_order=Decimal("0.5")))
    whole = await new_reward(program, "DISCOUNT")
    member, other = await rich_member(program, 5000), await rich_member(program, 5000)
    order = {"order_amount": Decimal(10), "order_id": "O1"}
    first = await redeemed(program, member, half, points=300, **order)
    assert codes_of(await ask(program, member, half, points=201, **order)) == ["LIMIT_REACHED"]
    await redeemed(program, member, half, points=200, hold_seconds=60, **order)
    assert codes_of(await ask(program, member, half, points=1, **order)) == ["LIMIT_REACHED"]
    # What another reward allows is another matter; no two of them pay more than the order.
    assert codes_of(await ask(program, member, whole, points=501, **order)) == ["LIMIT_REACHED"]
    await redeemed(program, member, whole, points=500, **order)
    await redeemed(program, other, half, points=500, **order)
    await redeemed(program, member, half, points=500, **(order | {"order_id": "O2"}))
    await cancel(program.id, first.id, "Never mind", "key")
    await redeemed(program, member, whole, points=300, **order)
    # What the order comes to is known, whether or not it is said again.
    assert codes_of(await ask(program, member, whole, points=1, order_id="O1")) == ["LIMIT_REACHED"]
    asked = [wanted(member, half, points=300, order_amount=Decimal(10), order_id="O3") for _ in range(3)]
    results = await take(program.id, asked, VAULT)
    assert [each.redemption is not None for each in results] == [True, False, False]


async def test_fewer_points_are_captured_than_were_reserved_but_not_fewer_than_can_be_spent() -> None:
    program = await new_program()
    reward = await new_reward(program, "DISCOUNT", limits=RewardLimits(min_points=500))
    member = await rich_member(program, 5000)
    held = await redeemed(program, member, reward, points=1000, hold_seconds=60)
    with pytest.raises(Refused) as refused:
        await capture(program.id, held.id, "few", 499)
    assert [error.field for error in refused.value.errors] == [("points",)]
    assert (await capture(program.id, held.id, "enough", 500)).redemption.amount == Decimal("5.00")
