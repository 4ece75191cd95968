from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.money import MINOR_DIGITS, format_money, round_half_up, trim


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        ("1", "EUR", "1.00 EUR"),
        ("1.0000", "EUR", "1.00 EUR"),
        ("1.005", "EUR", "1.005 EUR"),
        ("-12.5", "EUR", "-12.50 EUR"),
        ("1000", "JPY", "1000 JPY"),
        ("1E+3", "JPY", "1000 JPY"),
        ("0", "KWD", "0.000 KWD"),
        ("99999999999999999999.999999", "EUR", "99999999999999999999.999999 EUR"),
    ],
)
def test_money_shows_the_currencys_digits_and_more_where_there_are_more(
    amount: str, currency: str, shown: str
) -> None:
    assert format_money(Decimal(amount), currency) == shown


@pytest.mark.parametrize(
    ("amount", "digits", "rounded"),
    [
        ("0.005", 2, "0.01"),
        ("0.0049", 2, "0.00"),
        ("-0.005", 2, "-0.01"),
        ("2.5", 0, "3"),
        ("-0.004", 2, "0.00"),
    ],
)
def test_halves_are_rounded_away_from_zero(amount: str, digits: int, rounded: str) -> None:
    assert str(round_half_up(Decimal(amount), digits)) == rounded


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20))
def test_trimming_changes_no_value(amount: Decimal) -> None:
    assert trim(amount) == amount
    assert "E" not in str(trim(amount, 2)) or trim(amount) == 0


def test_every_currency_is_there_once() -> None:
    assert len(MINOR_DIGITS) == 164
    assert (MINOR_DIGITS["EUR"], MINOR_DIGITS["JPY"], MINOR_DIGITS["TND"], MINOR_DIGITS["CLF"]) == (
        2,
        0,
        3,
        4,
    )
    assert not {"XXX", "XTS", "XAU", "DEM"} & MINOR_DIGITS.keys()
