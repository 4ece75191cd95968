"""Events as callers send them and as they are kept: checking, normalising, comparing. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import asyncpg
import msgspec
import orjson

from app.earning.rules import MAX_AMOUNT, MAX_DECIMALS, EventKind
from app.errors import ErrorCode, UserError
from app.members.reads import MemberRef
from app.programs.policy import ProgramPolicy
from app.text import holds_nul, is_line

MAX_EVENTS = 1000
MAX_LINES = 2000
MAX_DATA_BYTES = 16 * 1024
MAX_FUTURE = timedelta(minutes=5)
_EARLIEST_YEAR = 1970


class Line(Protocol):
    """One line of a purchase as it comes in; `amount` is of the whole line, `quantity` None is 1."""

    @property
    def sku(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def category(self) -> str | None: ...
    @property
    def brand(self) -> str | None: ...
    @property
    def quantity(self) -> Decimal | None: ...
    @property
    def amount(self) -> Decimal: ...


class Purchase(Protocol):
    """A purchase as it comes in, from whatever door."""

    @property
    def external_id(self) -> str: ...
    @property
    def occurred_at(self) -> datetime | None: ...
    @property
    def amount(self) -> Decimal | None: ...
    @property
    def currency(self) -> str | None: ...
    @property
    def lines(self) -> Sequence[Line] | None: ...
    @property
    def data(self) -> Any: ...


class PurchaseLine(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One line of a purchase as it is kept."""

    sku: str
    amount: Decimal
    quantity: Decimal = Decimal(1)
    name: str | None = None
    category: str | None = None
    brand: str | None = None


class Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of an event beside its columns."""

    lines: tuple[PurchaseLine, ...] = ()
    data: Any = None
    timed: bool = True
    """False where the caller left the time out, and it became the time of recording."""


class Prepared(msgspec.Struct):
    """A purchase that has been checked, and for whom it is."""

    id: UUID
    external_id: str
    occurred_at: datetime
    amount: Decimal
    body: Body
    encoded: bytes
    member: MemberRef
    member_id: UUID | None = None


class Event(msgspec.Struct):
    """An event as it is read: what was told, and what became of it. `points` include pending ones."""

    id: UUID
    member_id: UUID
    external_id: str
    kind: EventKind
    occurred_at: datetime
    recorded_at: datetime
    amount: Decimal | None
    body: Body
    points: int = 0
    rejection: str | None = None
    processed_at: datetime | None = None


EVENT_COLUMNS = """
e.id, e.member_id, e.external_id, e.kind, e.occurred_at, e.recorded_at, e.amount, e.body,
o.points, o.rejection, o.processed_at
"""
EVENT_TABLES = "event e LEFT JOIN event_outcome o ON o.event_id = e.id /* scoped by: event */"


def event_from_row(row: asyncpg.Record) -> Event:
    """Return an event from a row with EVENT_COLUMNS."""
    return Event(
        row["id"],
        row["member_id"],
        row["external_id"],
        EventKind(row["kind"]),
        row["occurred_at"],
        row["recorded_at"],
        row["amount"],
        msgspec.convert(row["body"], Body),
        row["points"] or 0,
        row["rejection"],
        row["processed_at"],
    )


def same_content(event: Event, prepared: Prepared) -> bool:
    """Tell whether an event that is kept says the same as one that came in under its id."""
    return (
        event.kind is EventKind.PURCHASE
        and event.member_id == prepared.member_id
        and event.amount == prepared.amount
        and event.body.timed == prepared.body.timed
        and (not prepared.body.timed or event.occurred_at == prepared.occurred_at)
        and event.body.lines == prepared.body.lines
        and (event.body.data or None) == (prepared.body.data or None)
    )


class _Checks:
    """Collects what is wrong with one event; messages are complete sentences for the caller."""

    def __init__(self) -> None:
        self.errors: list[UserError] = []

    def invalid(self, message: str, *field: str) -> None:
        self.errors.append(UserError(ErrorCode.INVALID, message, field))

    def text(self, value: str, what: str, *field: str) -> None:
        if not 1 <= len(value) <= 255 or not value.isprintable() or value != value.strip():
            self.invalid(f"{what} has 1 to 255 printable characters, without spaces around them.", *field)

    def number(self, value: Decimal, what: str, *field: str, positive: bool = False) -> bool:
        exponent = value.as_tuple().exponent
        if not isinstance(exponent, int) or exponent < -MAX_DECIMALS or abs(value) > MAX_AMOUNT:
            self.invalid(f"{what} has at most {MAX_DECIMALS} decimals and is at most {MAX_AMOUNT}.", *field)
        elif value < 0 or (positive and not value):
            self.invalid(
                f"{what} must be more than 0." if positive else f"{what} must not be negative.", *field
            )
        else:
            return True
        return False


_ZERO, _ONE, _CENT = Decimal(0), Decimal(1), Decimal("0.01")


def _is_common(line: Line, quantity: Decimal) -> bool:
    """Tell quickly that nothing is wrong with a line; False means that it needs a closer look."""
    sku, name, category, brand, amount = line.sku, line.name, line.category, line.brand, line.amount
    return (
        0 < len(sku) <= 255
        and sku.isprintable()
        and sku == sku.strip()
        and (name is None or (len(name) <= 1000 and name.isprintable()))
        and (category is None or (len(category) <= 1000 and category.isprintable()))
        and (brand is None or (len(brand) <= 1000 and brand.isprintable()))
        # Whole numbers and cents; NaN has no exponent to compare.
        and (quantity.same_quantum(_ONE) or quantity.same_quantum(_CENT))
        and (amount.same_quantum(_CENT) or amount.same_quantum(_ONE))
        and _ZERO < quantity <= MAX_AMOUNT
        and _ZERO <= amount <= MAX_AMOUNT
    )


def _check_line(n: int, line: Line, quantity: Decimal, checks: _Checks) -> bool:
    """Note what is wrong with a line; return whether its amount can be counted."""
    checks.text(line.sku, "An SKU", "lines", str(n), "sku")
    for name in ("name", "category", "brand"):
        value = getattr(line, name)
        if value is not None and (len(value) > 1000 or not is_line(value)):
            checks.invalid(f"A {name} has at most 1,000 printable characters.", "lines", str(n), name)
    checks.number(quantity, "A quantity", "lines", str(n), "quantity", positive=True)
    return checks.number(line.amount, "A line's amount", "lines", str(n), "amount")


def _lines(purchase: Purchase, checks: _Checks) -> tuple[tuple[PurchaseLine, ...], Decimal]:
    lines, total = [], _ZERO
    for n, line in enumerate(purchase.lines or ()):
        quantity = _ONE if line.quantity is None else line.quantity
        if _is_common(line, quantity) or _check_line(n, line, quantity, checks):
            total += line.amount
        lines.append(PurchaseLine(line.sku, line.amount, quantity, line.name, line.category, line.brand))
    return tuple(lines), total


def prepare(
    purchase: Purchase, member: MemberRef, policy: ProgramPolicy, now: datetime, event_id: UUID
) -> Prepared | list[UserError]:
    """Check a purchase, and bring it into the form in which it is kept.

    Args:
        now: the time of recording (UTC); at most five minutes later may it have happened.

    Returns:
        The purchase, or everything that is wrong with it, fields below the purchase's input.
    """
    checks = _Checks()
    checks.text(purchase.external_id, "An external id", "external_id")
    occurred_at = now if purchase.occurred_at is None else purchase.occurred_at
    if occurred_at > now + MAX_FUTURE:
        checks.invalid(
            "The purchase lies in the future, by more than the 5 minutes that clocks may differ.",
            "occurred_at",
        )
    elif occurred_at.year < _EARLIEST_YEAR:
        checks.invalid(f"The purchase lies before {_EARLIEST_YEAR}.", "occurred_at")
    if purchase.currency is not None and purchase.currency != policy.currency:
        checks.invalid(
            f"The program counts in {policy.currency}: convert the purchase before it is recorded.",
            "currency",
        )
    if purchase.lines and len(purchase.lines) > MAX_LINES:
        checks.invalid(f"A purchase has at most {MAX_LINES:,} lines.", "lines")
        return checks.errors
    lines, total = _lines(purchase, checks)
    amount = total if purchase.amount is None else purchase.amount
    if purchase.amount is None and not lines:
        checks.invalid("A purchase needs an amount, or lines that have one.", "amount")
    elif checks.number(amount, "The amount", "amount") and lines and amount != total and not checks.errors:
        checks.invalid(f"The amount is {amount:f}, and the lines come to {total:f}.", "amount")
    body = Body(lines, purchase.data, purchase.occurred_at is not None)
    encoded = b""
    if not checks.errors:
        encoded = _encode(body, checks)
    if checks.errors:
        return checks.errors
    return Prepared(event_id, purchase.external_id, occurred_at, amount, body, encoded, member)


def _encode(body: Body, checks: _Checks) -> bytes:
    if body.data is not None:
        if not isinstance(body.data, dict):
            checks.invalid("Data is a JSON object.", "data")
            return b""
        try:
            data = orjson.dumps(body.data)
        except TypeError:
            checks.invalid("Data holds text that is not valid Unicode, or is nested too deeply.", "data")
            return b""
        if len(data) > MAX_DATA_BYTES or holds_nul(data):
            checks.invalid("Data has at most 16 KiB of JSON, without NUL characters.", "data")
            return b""
    return msgspec.json.encode(body)
