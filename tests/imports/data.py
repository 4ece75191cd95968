"""A real retailer's orders, where they are at hand; they are not part of the repository."""

import csv
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

COLUMNS = {
    "order_id": "InvoiceNo",
    "member_id": "CustomerID",
    "occurred_at": "InvoiceDate",
    "sku": "StockCode",
    "name": "Description",
    "quantity": "Quantity",
    "unit_price": "UnitPrice",
}
RICH_COLUMNS = COLUMNS | {"brand": "Description", "category": "Country"}
"""The same; rules can look at what goods are called, and at the country of the order, too."""


def retail_file() -> Path:
    """Return the file "Online Retail" (UCI Machine Learning Repository, CC BY 4.0), or skip the test.

    It is looked for at LAUREL_RETAIL_FILE, else in a folder `shared/data` beside the checkout.
    """
    beside = Path(__file__).parents[3] / "shared" / "data" / "online-retail.csv.xz"
    path = Path(os.environ.get("LAUREL_RETAIL_FILE", beside))
    if not path.exists():
        pytest.skip("the retailer's file is not here: set LAUREL_RETAIL_FILE to online-retail.csv.xz")
    return path


def slice_of(source: Path, target: Path, wanted: Callable[[dict[str, str]], bool]) -> Path:
    """Write the wanted rows of a file into a plain CSV file, and return it."""
    with lzma.open(source, "rt", newline="", encoding="utf-8") as lines, target.open("w", newline="") as out:
        rows = csv.DictReader(lines)
        writer = csv.DictWriter(out, rows.fieldnames or ())
        writer.writeheader()
        writer.writerows(row for row in rows if wanted(row))
    return target
