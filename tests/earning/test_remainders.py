"""What is left of a purchase, and what awards come to: by calculation alone."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.earning.events import Body, Event, PurchaseLine
from app.earning.remainders import Back, Remainder, Wish, targets
from app.earning.rules import EventKind
from app.ids import new_id
from app.money import MINOR_DIGITS
from app.validation import Problems
from tests.earning.making import NO_LIMITS, NOBODY, NOON, goods, rule, rule_set
from tests.earning.shop import part


def bought(*lines: tuple[str, str] | tuple[str, str, str], amount: str | None = None) -> Event:
    """Make a purchase of lines, given as amount, quantity and perhaps an SKU."""
    made = tuple(
        PurchaseLine(each[2] if len(each) > 2 else f"sku-{n}", Decimal(each[0]), Decimal(each[1]))
        for n, each in enumerate(lines, start=1)
    )
    total = sum((each.amount for each in made), Decimal(0)) if amount is None else Decimal(amount)
    return Event(new_id(), new_id(), "sale", EventKind.PURCHASE, NOON, NOON, total, Body(made))


def rest_of(event: Event, currency: str = "EUR") -> Remainder:
    return Remainder(event, MINOR_DIGITS[currency])


def back(rest: Remainder, *parts: Wish, amount: str | None = None, currency: str = "EUR") -> Back:
    """Refund parts and an amount, which nothing must be wrong with, and return what went back."""
    problems = Problems()
    refund = rest.part(parts, None if amount is None else Decimal(amount), currency, problems)
    problems.refuse_any()
    rest.add(refund)
    return refund


def wrong(rest: Remainder, *parts: Wish, amount: str | None = None) -> list[tuple[str, str]]:
    """Return what is wrong with a refund, as messages and fields."""
    problems = Problems()
    rest.part(parts, None if amount is None else Decimal(amount), "EUR", problems)
    return [(error.message, ".".join(error.field or ())) for error in problems.errors]


# By currency: an amount, a number of pieces, and what each piece is worth when they come back one by one.
SHARES = [
    ("EUR", "10.00", "3", ["3.33", "3.34", "3.33"]),
    ("EUR", "0.01", "2", ["0.01", "0.00"]),
    ("EUR", "0.05", "4", ["0.01", "0.02", "0.01", "0.01"]),
    ("JPY", "100", "3", ["33", "34", "33"]),
    ("JPY", "1", "2", ["1", "0"]),
    ("KWD", "1.000", "3", ["0.333", "0.334", "0.333"]),
    ("KWD", "0.001", "2", ["0.001", "0.000"]),
]


@pytest.mark.parametrize(("currency", "amount", "quantity", "shares"), SHARES)
def test_pieces_are_worth_their_share_half_up_to_the_smallest_unit(
    currency: str, amount: str, quantity: str, shares: Sequence[str]
) -> None:
    rest = rest_of(bought((amount, quantity)), currency)
    for share in shares:
        assert back(rest, part(1), currency=currency).amount == Decimal(share)
    assert rest.amount == 0
    assert rest.is_nothing


@pytest.mark.parametrize(
    ("amount", "quantity", "back_again", "share"),
    [("3.50", "0.350", "0.100", "1.00"), ("2.99", "0.350", "0.117", "1.00"), ("1", "1.5", "0.75", "0.50")],
)
def test_quantities_may_be_fractions(amount: str, quantity: str, back_again: str, share: str) -> None:
    assert back(rest_of(bought((amount, quantity))), part(1, back_again)).amount == Decimal(share)


def test_amounts_with_more_digits_than_the_currency_lose_nothing() -> None:
    rest = rest_of(bought(("1.000001", "3")))
    assert [back(rest, part(1)).amount for _ in range(3)] == [
        Decimal("0.33"),
        Decimal("0.34"),
        Decimal("0.330001"),
    ]


def test_halves_of_the_widest_numbers_stay_halves() -> None:
    event = bought(("999999999999.99", "999999999999.999998"))
    half = back(rest_of(event), part(1, "499999999999.999999"))
    assert half.amount == Decimal("500000000000.00")


@given(
    amount=st.decimals("0", "1000", places=2),
    steps=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    more=st.integers(0, 5),
    currency=st.sampled_from(["EUR", "JPY", "KWD"]),
)
def test_many_small_refunds_come_to_the_amount_of_one(
    amount: Decimal, steps: list[int], more: int, currency: str
) -> None:
    event = bought((str(amount), str(sum(steps) + more)))
    many, one = rest_of(event, currency), rest_of(event, currency)
    for step in steps:
        assert back(many, part(1, str(step)), currency=currency).amount >= 0
    back(one, part(1, str(sum(steps))), currency=currency)
    assert (many.amount, many.left(0), many.is_nothing) == (one.amount, one.left(0), one.is_nothing)


def test_a_line_may_be_refunded_for_another_amount() -> None:
    rest = rest_of(bought(("100", "2"), ("50", "1")))
    assert back(rest, part(1, "1", "30")).amount == 30
    # The last piece takes what has not been refunded of the line.
    assert back(rest, part(1)).amount == 70
    assert (rest.amount, rest.left(0), rest.left(1)) == (50, 0, 1)


def test_an_amount_comes_on_top_of_lines() -> None:
    rest = rest_of(bought(("100", "2"), ("50", "1")))
    assert back(rest, part(2), amount="20").amount == 70
    assert rest.amount == 80
    assert rest.left(0) == 2


def test_what_was_refunded_of_no_line_is_not_refunded_again_with_the_lines() -> None:
    rest = rest_of(bought(("50", "1"), ("50", "1")))
    back(rest, amount="60")
    last = back(rest, part(1), part(2))
    assert last.amount == 40
    assert [each.amount for each in last.lines] == [40, 0]
    assert rest.is_nothing


def test_all_that_is_left_is_every_piece_and_what_is_left_of_the_amount() -> None:
    rest = rest_of(bought(("60", "3"), ("40", "1")))
    back(rest, part(1), amount="30")
    everything = rest.everything()
    assert (everything.amount, everything.whole) == (50, True)
    assert [(each.number, each.quantity, each.amount) for each in everything.lines] == [
        (1, 2, 40),
        (2, 1, 10),
    ]
    rest.add(everything)
    assert (rest.amount, rest.is_nothing, rest.left(0), rest.left(1)) == (0, True, 0, 0)


@pytest.mark.parametrize(
    ("refunds", "nothing"),
    [
        ([], False),
        ([{"parts": [part(1, "2")]}], False),
        ([{"parts": [part(1, "2"), part(2)]}], True),
        ([{"amount": "99.99"}], False),
        ([{"amount": "100"}], True),
        ([{"parts": [part(1, "2", "0"), part(2, "1", "0")]}], False),
    ],
)
def test_nothing_is_left_when_all_of_the_amount_is_back(refunds: list[dict[str, Any]], nothing: bool) -> None:
    rest = rest_of(bought(("60", "2"), ("40", "1")))
    for refund in refunds:
        back(rest, *refund.get("parts", ()), amount=refund.get("amount"))
    assert rest.is_nothing is nothing


def test_goods_that_cost_nothing_are_left_until_they_are_given_back() -> None:
    rest = rest_of(bought(("60", "1"), ("0", "2")))
    back(rest, part(1))
    assert (rest.amount, rest.is_nothing) == (0, False)
    assert back(rest, part(2)).amount == 0
    assert not rest.is_nothing
    back(rest, part(2))
    assert rest.is_nothing


def test_a_purchase_that_cost_nothing_is_there_until_it_is_given_back() -> None:
    rest = rest_of(bought(amount="0"))
    assert not rest.is_nothing
    rest.add(rest.everything())
    assert rest.is_nothing


MANY = "The purchase has lines 1 to 2; there is no line {}."


@pytest.mark.parametrize(
    ("parts", "amount", "message", "field"),
    [
        ([part(0)], None, MANY.format(0), "lines.0.number"),
        ([part(1), part(3)], None, MANY.format(3), "lines.1.number"),
        ([part(-1)], None, MANY.format(-1), "lines.0.number"),
        ([part(1, "2.5")], None, "Of line 1 only 2 of 2 is left to refund.", "lines.0.quantity"),
        ([part(1), part(1, "1.5")], None, "Of line 1 only 1 of 2 is left to refund.", "lines.1.quantity"),
        ([part(2), part(2)], None, "All of line 2 has been refunded already.", "lines.1.quantity"),
        ([part(1, "0")], None, "A quantity must be more than 0.", "lines.0.quantity"),
        ([part(1, "-1")], None, "A quantity must be more than 0.", "lines.0.quantity"),
        (
            [part(1, "1.0000001")],
            None,
            "A quantity has at most 6 decimals and is at most 1,000,000,000,000.",
            "lines.0.quantity",
        ),
        ([part(1, "1", "60.01")], None, "Of line 1 only 60.00 EUR is left to refund.", "lines.0.amount"),
        ([part(1, "1", "-1")], None, "A line's amount must not be negative.", "lines.0.amount"),
        ([], "100.01", "Only 100.00 EUR of the purchase is left to refund.", "amount"),
        (
            [part(2)],
            "60.01",
            "Beside these lines only 60.00 EUR of the purchase is left to refund.",
            "amount",
        ),
        ([], "0", "The amount must be more than 0.", "amount"),
        ([], "-1", "The amount must be more than 0.", "amount"),
    ],
)
def test_what_is_too_much_is_told_in_a_sentence_with_its_field(
    parts: list[Wish], amount: str | None, message: str, field: str
) -> None:
    rest = rest_of(bought(("60", "2"), ("40", "1")))
    assert wrong(rest, *parts, amount=amount) == [(message, field)]
    assert (rest.amount, rest.left(0), rest.left(1)) == (100, 2, 1)


def test_a_line_is_refunded_for_no_more_than_is_left_of_the_purchase() -> None:
    rest = rest_of(bought(("60", "1"), ("40", "1")))
    back(rest, amount="50")
    assert wrong(rest, part(1, "1", "50.01")) == [
        ("Only 50.00 EUR of the purchase is left to refund.", "lines.0.amount")
    ]


def test_purchases_without_lines_have_none_to_refund() -> None:
    assert wrong(rest_of(bought(amount="10")), part(1)) == [
        ("The purchase has no lines; there is no line 1.", "lines.0.number")
    ]
    assert wrong(rest_of(bought(("10", "1"))), part(2)) == [
        ("The purchase has one line; there is no line 2.", "lines.0.number")
    ]


def test_more_lines_than_a_purchase_can_have_are_turned_away() -> None:
    assert wrong(rest_of(bought(("10", "1"))), *[part(1)] * 2001) == [
        ("A refund has at most 2,000 lines.", "lines")
    ]


def test_the_rest_earns_by_the_lines_that_are_left() -> None:
    shoes, base = rule("5", products=goods("shoes")), rule("1")
    rest = rest_of(bought(("60", "2", "shoes"), ("40", "1", "socks")))
    rules = rule_set(shoes, base)
    assert rest.would_earn(rules, NOBODY, NO_LIMITS) == {shoes.id: 300, base.id: 40}
    back(rest, part(1))
    assert rest.would_earn(rules, NOBODY, NO_LIMITS) == {shoes.id: 150, base.id: 40}
    back(rest, part(1))
    assert rest.would_earn(rules, NOBODY, NO_LIMITS) == {base.id: 40}
    back(rest, part(2))
    assert rest.would_earn(rules, NOBODY, NO_LIMITS) == {}


def test_goods_that_are_all_back_earn_no_fixed_points_any_more() -> None:
    gift, base = rule(fixed=10, products=goods("shoes")), rule("1")
    rest = rest_of(bought(("60", "2", "shoes"), ("40", "1", "socks")))
    back(rest, part(1, "1", "1"))
    assert rest.would_earn(rule_set(gift, base), NOBODY, NO_LIMITS) == {gift.id: 10, base.id: 99}
    # Even where less was refunded than was paid.
    back(rest, part(1, "1", "1"))
    assert rest.would_earn(rule_set(gift, base), NOBODY, NO_LIMITS) == {base.id: 98}


def test_the_rest_earns_nothing_for_an_amount_that_went_back_for_no_line() -> None:
    base = rule("1")
    rest = rest_of(bought(("60", "1"), ("40", "1")))
    back(rest, amount="25")
    assert rest.would_earn(rule_set(base), NOBODY, NO_LIMITS) == {base.id: 75}


A, B, C = (UUID(int=n) for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("granted", "earned", "kept"),
    [
        ({A: 300, B: 200}, {A: 300, B: 200}, {A: 300, B: 200}),
        ({A: 300, B: 200}, {A: 100, B: 200}, {A: 100, B: 200}),
        ({A: 300, B: 200}, {}, {A: 0, B: 0}),
        # Under a cap of 500 B would have had 400: it makes up for what A gave.
        ({A: 300, B: 200}, {B: 400}, {A: 200, B: 200}),
        ({A: 300, B: 200}, {B: 600}, {A: 300, B: 200}),
        # A rule that gave nothing, because another one replaced it, would now.
        ({A: 50}, {B: 80}, {A: 50}),
        ({A: 50}, {B: 30}, {A: 30}),
        # In their order: the first awards keep what makes up for others.
        ({A: 10, B: 10, C: 10}, {C: 25}, {A: 10, B: 5, C: 10}),
        ({}, {A: 5}, {}),
    ],
)
def test_awards_keep_together_what_the_rest_earns_and_never_more_than_was_granted(
    granted: dict[UUID, int], earned: dict[UUID, int], kept: dict[UUID, int]
) -> None:
    assert targets(granted, earned) == kept


SOME = st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 20))


@given(granted=SOME, earned=SOME)
def test_targets_hold_for_the_purchase_as_a_whole(granted: dict[UUID, int], earned: dict[UUID, int]) -> None:
    kept = targets(granted, earned)
    assert sum(kept.values()) == min(sum(granted.values()), sum(earned.values()))
    assert kept.keys() == granted.keys()
    assert all(0 <= kept[each] <= granted[each] for each in granted)
    assert all(kept[each] >= min(granted[each], earned.get(each, 0)) for each in granted)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_order_of_refunds_does_not_matter(order: Sequence[int]) -> None:
    refunds: list[dict[str, Any]] = [
        {"parts": [part(1)]},
        {"parts": [part(1), part(2)]},
        {"amount": "7.77"},
        {"parts": [part(3, "1", "1")]},
    ]
    rest = rest_of(bought(("10", "3"), ("5.55", "1"), ("20", "2")))
    for n in order:
        back(rest, *refunds[n].get("parts", ()), amount=refunds[n].get("amount"))
    assert (rest.amount, [rest.left(n) for n in range(3)]) == (Decimal("14.56"), [1, 0, 1])
