"""What an import must come to, worked out a second time: one row after the other, in fractions."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from math import ceil, floor


def cents(quantity: str, price: str) -> Fraction:
    """Return quantity times price, rounded half up to the cent."""
    return Fraction(floor(Fraction(quantity) * Fraction(price) * 100 + Fraction(1, 2)), 100)


def rounded(points: Fraction, rounding: str) -> int:
    """Return points as whole ones, as the program's rounding says."""
    return {"FLOOR": floor(points), "CEILING": ceil(points), "HALF_UP": floor(points + Fraction(1, 2))}[
        rounding
    ]


def amounts_of(lines: Iterable[str]) -> dict[str, dict[str, Fraction]]:
    """Return the amount of every order, by member and order, of the purchases in a retailer's file."""
    orders: dict[str, dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    for row in csv.DictReader(lines):
        if row["InvoiceNo"].startswith("C") or not row["CustomerID"]:
            continue
        member = str(int(float(row["CustomerID"])))
        orders[member][row["InvoiceNo"]] += cents(row["Quantity"], row["UnitPrice"])
    return orders


def points_of(orders: dict[str, dict[str, Fraction]], rate: Fraction, rounding: str) -> dict[str, int]:
    """Return every member's points."""
    return {
        member: sum(rounded(amount * rate, rounding) for amount in amounts.values())
        for member, amounts in orders.items()
    }
