"""Reading a file of purchase lines: columns, values, orders. Nothing here knows of a database."""

import csv
import gc
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, NamedTuple, cast
from zoneinfo import ZoneInfo

import msgspec

from app.imports.errors import ImportFileError
from app.imports.values import Amounts, Ids, Texts, Times

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
_ESCAPED = re.compile("[\udc80-\udcff]")
"""What stands for a byte that is not UTF-8, as errors="surrogateescape" puts it."""


class OrderLine(msgspec.Struct, gc=False):
    """One line of an order, as the recording of events takes it."""

    sku: str
    name: str | None
    category: str | None
    brand: str | None
    quantity: Decimal | None
    amount: Decimal


class Order(msgspec.Struct):
    """The lines of one order; a purchase as the recording of events takes it."""

    external_id: str
    member_id: str
    occurred_at: datetime | None
    lines: list[OrderLine]
    rows: list[int]
    """The numbers of the rows that its lines come from."""
    amount: Decimal | None = None
    currency: str | None = None
    data: None = None


class Reject(NamedTuple):
    """A row that was not imported, and why."""

    number: int
    row: Sequence[str]
    reason: str


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


def open_text(path: Path, errors: str = "surrogateescape") -> tuple[io.TextIOWrapper, IO[bytes]]:
    """Open a CSV file that may be packed with gzip or xz, whatever its name says.

    Args:
        errors: what becomes of bytes that are not UTF-8, as `open` takes it.

    Returns:
        The text to read, and the file below it, whose position tells the progress.

    Raises:
        OSError: it cannot be opened.
    """
    raw = path.open("rb")
    magic = raw.read(6)
    raw.seek(0)
    stream: IO[bytes] = raw
    if magic.startswith(b"\x1f\x8b"):
        stream = cast("IO[bytes]", gzip.open(raw))  # noqa: SIM115 - closed by whoever reads the text
    elif magic == b"\xfd7zXZ\x00":
        stream = lzma.open(raw)  # noqa: SIM115
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors=errors, newline=""), raw


class _Reader:
    """Turns rows into lines of orders; which column holds what was settled from the header."""

    def __init__(self, header: Sequence[str], columns: dict[str, str], times: Times, digits: int) -> None:
        at = self._positions(header, columns)
        self.order, self._member, self._time, self._sku = (at[name] for name in _REQUIRED)
        self._quantity = at.get("quantity")
        self._money = at["amount"] if "amount" in at else at["unit_price"]
        self._name, self._category, self._brand = (at.get(name) for name in ("name", "category", "brand"))
        self._needed, self._width = max(at.values()) + 1, len(header)
        self._amounts = Amounts("amount" in at, digits)
        self._times = times
        self.ids = Ids()
        self._texts = Texts()

    @staticmethod
    def _positions(header: Sequence[str], columns: dict[str, str]) -> dict[str, int]:
        names = [name.strip() for name in header]
        if _is_escaped(names):
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

    def line(self, row: Sequence[str]) -> tuple[str, str, OrderLine]:
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
        quantity, amount = self._amounts[pieces, row[self._money]]
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

    def __init__(self, contents: Contents, reader: _Reader) -> None:
        self._contents = contents
        self._reader = reader
        self._orders: dict[str, Order] = {}
        self._bad: dict[str, int] = {}

    def add(self, number: int, order_id: str, row: Sequence[str]) -> None:
        try:
            if not order_id:
                raise ValueError("The row names no order.")
            member, time, line = self._reader.line(row)
            order = self._orders.get(order_id)
            if order is None:
                order = self._orders[order_id] = Order(order_id, member, self._reader.time(time), [], [])
            elif member != order.member_id:
                raise ValueError(f"The order belongs to member {order.member_id} on its first line.")
        except ValueError as error:
            self._reject(number, order_id, row, str(error))
            return
        order.lines.append(line)
        order.rows.append(number)

    def add_if_utf8(self, number: int, order_id: str, row: Sequence[str]) -> None:
        """Add a line of a file that was found to hold bytes that are not UTF-8."""
        if _is_escaped(row):
            self._reject(number, order_id, row, "The row is not UTF-8.")
        else:
            self.add(number, order_id, row)

    def _reject(self, number: int, order_id: str, row: Sequence[str], reason: str) -> None:
        self._contents.rejects.append(Reject(number, row, reason))
        if order_id:
            self._bad.setdefault(order_id, number)

    def finish(self) -> dict[int, str]:
        """Hand over the good orders by time; return the rows of spoiled ones, with the reason."""
        spoiled: dict[int, str] = {}
        for order_id, bad_row in self._bad.items():
            reason = f"Row {bad_row} of the same order is bad, and half an order would be a wrong amount."
            order = self._orders.pop(order_id, None)
            spoiled |= dict.fromkeys(order.rows if order else (), reason)
        self._contents.orders = sorted(self._orders.values(), key=_time_of)
        return spoiled


def _is_escaped(row: Sequence[str]) -> bool:
    return _ESCAPED.search("".join(row)) is not None


def _time_of(order: Order) -> datetime:
    assert order.occurred_at
    return order.occurred_at


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from going through ever more rows, none of which is garbage.

    It would take half of the time, then and whenever it comes by later.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def read_purchases(
    path: Path,
    columns: dict[str, str],
    zone: ZoneInfo,
    digits: int,
    skip_prefixes: Sequence[str] = (),
    time_format: str | None = None,
    advance: Callable[[int], object] = lambda position: None,
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

    Raises:
        ImportFileError: the file is empty, lacks a column, or is not what it seems to be.
        OSError: it cannot be read.
    """
    times = Times(zone, time_format)

    def read(errors: str) -> tuple[Contents, _Orders]:
        text, raw = open_text(path, errors)
        with raw, text, _uncollected():
            return _read(text, raw.tell, columns, times, digits, tuple(skip_prefixes), advance)

    try:
        contents, orders = read("strict")
    except UnicodeDecodeError:
        # From the start, with a look at every row, which is too dear for files that do not need it.
        contents, orders = read("surrogateescape")
    contents.rejects += rejected_rows(path, orders.finish())
    contents.rejects.sort(key=lambda reject: reject.number)
    return contents


def _read(
    text: io.TextIOWrapper,
    position: Callable[[], int],
    columns: dict[str, str],
    times: Times,
    digits: int,
    prefixes: tuple[str, ...],
    advance: Callable[[int], object],
) -> tuple[Contents, _Orders]:
    rows = csv.reader(text)
    number = 0
    try:
        header = next(rows, None)
        if header is None:
            raise ImportFileError("The file is empty.")
        number = 1
        contents = Contents(header)
        reader = _Reader(header, columns, times, digits)
        orders = _Orders(contents, reader)
        skipped: set[str] = set()
        order_at, ids = reader.order, reader.ids
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
    except csv.Error as error:
        # The reader could go on, but not say what it has swallowed: mostly a quote is not closed.
        raise ImportFileError(f"Row {number + 1} cannot be read as CSV: {error}.") from error
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise ImportFileError(f"After row {number} the file cannot be read: {error}") from error
    contents.skipped_orders = len(skipped)
    return contents, orders


def rejected_rows(path: Path, reasons: Mapping[int, str]) -> list[Reject]:
    """Return rows of a file that are turned away after all: they are few, and not kept until then.

    Args:
        reasons: why, by number of row.

    Raises:
        OSError: the file cannot be read any more.
    """
    if not reasons:
        return []
    text, raw = open_text(path)
    with raw, text:
        rows = enumerate(csv.reader(text), start=1)
        return [Reject(number, row, reasons[number]) for number, row in rows if number in reasons]
