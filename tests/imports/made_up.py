"""A made-up shop's orders, in which everything happens often that happens seldom in a real one.

A few goods of a few cents, bought by the piece and by the dozen, several orders of a member in one minute,
orders around midnight and on the days when clocks change, the same goods twice in an order, goods that
cost nothing, and many returns: of parts, of too much, and of what was never bought.
"""

import csv
import random
from pathlib import Path

_HEADER = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
_DAYS = ("2010-12-31", "2011-01-01", "2011-03-12", "2011-03-13", "2011-03-26", "2011-03-27", "2011-06-05",
         "2011-06-06", "2011-10-29", "2011-10-30", "2011-11-05", "2011-11-06")  # fmt: skip
_TIMES = ("00:00:00", "00:30:00", "01:30:00", "02:30:00", "09:00:00", "12:00:00", "12:01:00", "23:59:00")
_PRICES = ("0", "0.01", "0.02", "0.05", "0.335", "1.99", "12.5", "80")
_GOODS = [(f"{n}", f"Thing {n % 7}") for n in range(1, 13)]


def made_up_file(path: Path, seed: int, orders: int = 400, members: int = 12) -> Path:
    """Write a file in the shape of the real one, and return it; the same seed makes the same file."""
    chance = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_HEADER)
        for number in range(orders):
            is_return = chance.random() < 0.3
            name = f"{'C' if is_return else ''}{number}"
            day = chance.choice(_DAYS)
            moment = f"{day} {chance.choice(_TIMES)}"
            member = f"{100 + chance.randrange(members)}.0"
            country = chance.choice(["France", "United Kingdom"])
            for _ in range(chance.randrange(1, 7)):
                sku, description = chance.choice(_GOODS)
                pieces = chance.choice([1, 1, 2, 3, 7, 12]) * (-1 if is_return else 1)
                writer.writerow(
                    (name, sku, description, pieces, moment, chance.choice(_PRICES), member, country)
                )
    return path
