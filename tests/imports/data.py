"""A real retailer's purchases, where they are at hand; they are not part of the repository."""

import csv
import lzma
import os
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


def retail_file() -> Path:
    """Return the file "Online Retail" (UCI Machine Learning Repository, CC BY 4.0), or skip the test.

    It is looked for at LAUREL_RETAIL_FILE, else in a folder `shared/data` beside the checkout.
    """
    beside = Path(__file__).parents[3] / "shared" / "data" / "online-retail.csv.xz"
    path = Path(os.environ.get("LAUREL_RETAIL_FILE", beside))
    if not path.exists():
        pytest.skip("the retailer's file is not here: set LAUREL_RETAIL_FILE to online-retail.csv.xz")
    return path


def first_days(source: Path, target: Path, before: str) -> None:
    """Write the lines of a file that happened before a day (YYYY-MM-DD) into a plain CSV file."""
    with lzma.open(source, "rt", newline="", encoding="utf-8") as lines, target.open("w", newline="") as out:
        rows = csv.reader(lines)
        writer = csv.writer(out)
        header = next(rows)
        writer.writerow(header)
        day = header.index("InvoiceDate")
        writer.writerows(row for row in rows if row[day] < before)
