"""Reading a file of purchases and returns: columns, values, orders. Nothing here knows of a database."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from app.imports.errors import ImportFileError
from app.imports.rows import (
    BROKEN,
    Reject,
    is_escaped,
    open_text,
    rejected_rows,
    uncollected,
    unreadable,
)
from app.imports.values import Amounts, Ids, ReturnedAmounts, Texts, Times

COLUMNS = (
    "order_id",
    "member_id",
    "occurred_at",
    "sku",
    "quantity",
    "unit_price",
    "amount",
    "name",
    "category",
    "brand",
)
"""What a line can have. `amount` stands for the whole line, in place of `quantity` times `unit_price`."""

_REQUIRED = ("order_id", "member_id", "occurred_at", "sku")


class OrderLine(msgspec.Struct, gc=False):
    """One line of an order, as the recording of events takes it."""

    sku: str
    name: str | None
    category: str | None
    brand: str | None
    quantity: Decimal | None
    amount: Decimal


class Order(msgspec.Struct):
    """The lines of one order; a purchase as the recording of events takes it, or a return.

    A return's quantities and amounts are those that came back, and not negative here.
    """

    external_id: str
    member_id: str
    occurred_at: datetime | None
    lines: list[OrderLine]
    rows: list[int]
    """The numbers of the rows that its lines come from."""
    amount: Decimal | None = None
    currency: str | None = None
    data: None = None
    is_return: bool = False


@dataclass
class Contents:
    """What a file holds: its good orders by time, its bad rows, and what was left out on purpose."""

    header: list[str]
    # Not in the repr, which asyncio makes of a task's result when it puts SIGINT back.
    orders: list[Order] = field(default_factory=list, repr=False)
    rejects: list[Reject] = field(default_factory=list, repr=False)
    lines_read: int = 0
    skipped_orders: int = 0
    skipped_lines: int = 0


class _Reader:
    """Turns rows into lines of orders; which column holds what was settled from the header."""

    def __init__(self, header: Sequence[str], columns: dict[str, str], times: Times, digits: int) -> None:
        at = self._positions(header, columns)
        self.order, self._member, self._time, self._sku = (at[name] for name in _REQUIRED)
        self._quantity = at.get("quantity")
        self._money = at["amount"] if "amount" in at else at["unit_price"]
        self._name, self._category, self._brand = (at.get(name) for name in ("name", "category", "brand"))
        self._needed, self._width = max(at.values()) + 1, len(header)
        self._bought = Amounts("amount" in at, digits)
        self._returned = ReturnedAmounts("amount" in at, digits)
        self._times = times
        self.ids = Ids()
        self._texts = Texts()

    @staticmethod
    def _positions(header: Sequence[str], columns: dict[str, str]) -> dict[str, int]:
        names = [name.strip() for name in header]
        if is_escaped(names):
            raise ImportFileError("The first row is not UTF-8: save the file as CSV in UTF-8.")
        at = {}
        for logical in COLUMNS:
            name = columns.get(logical, logical)
            if names.count(name) > 1:
                raise ImportFileError(f"The file has more than one column {name!r}.")
            if name in names:
                at[logical] = names.index(name)
            elif logical in columns:
                raise ImportFileError(f"The file has no column {name!r}; it has: {', '.join(names)}.")
        missing = [name for name in _REQUIRED if name not in at]
        if missing:
            raise ImportFileError(
                f"Say with --columns which columns hold: {', '.join(missing)}."
                f" The file has: {', '.join(names)}."
            )
        if "amount" not in at and not {"quantity", "unit_price"} <= at.keys():
            raise ImportFileError(
                "Say with --columns which columns hold quantity and unit_price, or the line's amount."
            )
        return at

    def line(self, row: Sequence[str], is_return: bool) -> tuple[str, str, OrderLine]:
        """Return the member, the time as it stands there, and the line.

        Raises:
            ValueError: the row is bad; the message says why.
        """
        if not self._needed <= len(row) <= self._width:
            if len(row) > self._width:
                raise ValueError(f"The row has {len(row)} columns, and the header has {self._width}.")
            raise ValueError(f"The row has {len(row)} columns, and {self._needed} are needed.")
        ids, texts = self.ids, self._texts
        member = ids[row[self._member]]
        if not member:
            raise ValueError("The row names no member.")
        sku = ids[row[self._sku]]
        if not sku:
            raise ValueError("The row names no SKU.")
        pieces = None if self._quantity is None else row[self._quantity]
        amounts = self._returned if is_return else self._bought
        quantity, amount = amounts[pieces, row[self._money]]
        name, category, brand = self._name, self._category, self._brand
        line = OrderLine(
            sku,
            None if name is None else texts[row[name]],
            None if category is None else texts[row[category]],
            None if brand is None else texts[row[brand]],
            quantity,
            amount,
        )
        return member, row[self._time], line

    def time(self, text: str) -> datetime:
        return self._times[text]


class _Orders:
    """Orders as they grow. One bad line spoils its whole order: half an order would be a wrong amount."""

    def __init__(self, contents: Contents, reader: _Reader, return_prefixes: tuple[str, ...]) -> None:
        self.contents = contents
        self.reader = reader
        self._return_prefixes = return_prefixes
        self._orders: dict[str, Order] = {}
        self._bad: dict[str, int] = {}

    def add(self, number: int, order_id: str, row: Sequence[str]) -> None:
        prefixes = self._return_prefixes
        is_return = bool(prefixes) and order_id.startswith(prefixes)
        try:
            if not order_id:
                raise ValueError("The row names no order.")
            member, time, line = self.reader.line(row, is_return)
            order = self._orders.get(order_id)
            if order is None:
                order = Order(order_id, member, self.reader.time(time), [], [], is_return=is_return)
                self._orders[order_id] = order
            elif member != order.member_id:
                raise ValueError(f"The order belongs to member {order.member_id} on its first line.")
        except ValueError as error:
            self._reject(number, order_id, row, str(error))
            return
        order.lines.append(line)
        order.rows.append(number)

    def add_if_utf8(self, number: int, order_id: str, row: Sequence[str]) -> None:
        """Add a line of a file that was found to hold bytes that are not UTF-8."""
        if is_escaped(row):
            self._reject(number, order_id, row, "The row is not UTF-8.")
        else:
            self.add(number, order_id, row)

    def _reject(self, number: int, order_id: str, row: Sequence[str], reason: str) -> None:
        self.contents.rejects.append(Reject(number, row, reason))
        if order_id:
            self._bad.setdefault(order_id, number)

    def finish(self) -> dict[int, str]:
        """Hand over the good orders by time; return the rows of spoiled ones, with the reason.

        Orders of the same time stay in the order in which the file begins them.
        """
        spoiled: dict[int, str] = {}
        for order_id, bad_row in self._bad.items():
            reason = f"Row {bad_row} of the same order is bad, and half an order would be a wrong amount."
            order = self._orders.pop(order_id, None)
            spoiled |= dict.fromkeys(order.rows if order else (), reason)
        self.contents.orders = sorted(self._orders.values(), key=_time_of)
        return spoiled


def _time_of(order: Order) -> datetime:
    assert order.occurred_at
    return order.occurred_at


def read_purchases(
    path: Path,
    columns: dict[str, str],
    zone: ZoneInfo,
    digits: int,
    skip_prefixes: Sequence[str] = (),
    time_format: str | None = None,
    advance: Callable[[int], object] = lambda position: None,
    return_prefixes: Sequence[str] = (),
) -> Contents:
    """Read a whole file, and group its lines into orders; an order's lines need not stand together.

    Takes about half a KB of memory for each line.

    Args:
        columns: the file's name for each of COLUMNS that goes by another name there.
        zone: of times without an offset.
        digits: decimal places to which quantity times unit price is rounded, half up.
        skip_prefixes: orders whose id starts with one of these are left out.
        time_format: how times are written, as strptime takes it; ISO 8601 without it.
        advance: is told the position in the file, in bytes of the file as it lies on disk.
        return_prefixes: orders whose id starts with one of these, and is not left out, are returns: all
            of their quantities are negative in the file.

    Raises:
        ImportFileError: the file is empty, lacks a column, or is not what it seems to be.
        OSError: it cannot be read.
    """
    times = Times(zone, time_format)

    def begin(header: list[str]) -> _Orders:
        reader = _Reader(header, columns, times, digits)
        return _Orders(Contents(header), reader, tuple(return_prefixes))

    def read(errors: str) -> _Orders:
        text, raw = open_text(path, errors)
        with raw, text, uncollected():
            return _read(text, raw.tell, begin, tuple(skip_prefixes), advance)

    try:
        orders = read("strict")
    except UnicodeDecodeError:
        # From the start, with a look at every row, which is too dear for files that do not need it.
        orders = read("surrogateescape")
    contents = orders.contents
    contents.rejects += rejected_rows(path, orders.finish())
    contents.rejects.sort(key=lambda reject: reject.number)
    return contents


def _read(
    text: io.TextIOWrapper,
    position: Callable[[], int],
    begin: Callable[[list[str]], _Orders],
    prefixes: tuple[str, ...],
    advance: Callable[[int], object],
) -> _Orders:
    rows = csv.reader(text)
    number = 0
    try:
        header = next(rows, None)
        if header is None:
            raise ImportFileError("The file is empty.")
        number = 1
        orders = begin(header)
        contents, skipped = orders.contents, set[str]()
        order_at, ids = orders.reader.order, orders.reader.ids
        add = orders.add if text.errors == "strict" else orders.add_if_utf8
        for number, row in enumerate(rows, start=2):
            if not row:
                continue
            contents.lines_read += 1
            if not number % 5000:
                advance(position())
            order_id = ids[row[order_at]] if len(row) > order_at else ""
            if prefixes and order_id.startswith(prefixes):
                skipped.add(order_id)
                contents.skipped_lines += 1
            else:
                add(number, order_id, row)
    except BROKEN as error:
        raise unreadable(number, error) from error
    contents.skipped_orders = len(skipped)
    return orders
