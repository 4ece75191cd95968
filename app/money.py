"""Amounts of money: which currencies there are, how they are rounded, and how they are shown."""

from decimal import ROUND_HALF_UP, Context, Decimal

# Enough for every product of two numbers that the API takes; the default of 28 digits is not.
_CONTEXT = Context(prec=100)

_TWO_DIGITS = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF "
    "CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD "
    "GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL "
    "MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR "
    "PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP "
    "TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)
_NO_DIGITS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DIGITS = "BHD IQD JOD KWD LYD OMR TND"
_FOUR_DIGITS = "CLF UYW"

MINOR_DIGITS: dict[str, int] = {
    code: digits
    for digits, codes in ((0, _NO_DIGITS), (2, _TWO_DIGITS), (3, _THREE_DIGITS), (4, _FOUR_DIGITS))
    for code in codes.split()
}
"""Digits after the point of every currency of ISO 4217 that has a minor unit or is known to have none.

Metals, baskets and test codes are not there: nothing is sold in them.
"""


def trim(amount: Decimal, digits: int = 0) -> Decimal:
    """Return the same amount without the zeros that end it, but with at least `digits` decimal places.

    The result has no exponent above zero: a hundred is 100, never 1E+2.
    """
    exponent = amount.normalize(_CONTEXT).as_tuple().exponent
    assert isinstance(exponent, int), "amounts are finite"
    return amount.quantize(Decimal(1).scaleb(-max(digits, -exponent)), context=_CONTEXT)


def round_half_up(amount: Decimal, digits: int) -> Decimal:
    """Return an amount rounded to so many decimal places; halves go away from zero, and -0 is 0."""
    rounded = amount.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP, context=_CONTEXT)
    return rounded or abs(rounded)


def format_money(amount: Decimal, currency: str) -> str:
    """Return an amount for people, "1.00 EUR": with the currency's digits, and more where it has more.

    Raises:
        KeyError: the currency is not in MINOR_DIGITS.
    """
    return f"{trim(amount, MINOR_DIGITS[currency]):f} {currency}"
