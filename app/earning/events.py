"""Events as callers send them and as they are kept: checking, normalising, comparing. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, cast, overload
from uuid import UUID

import asyncpg
import msgspec
import orjson

from app.earning.exact import micros
from app.earning.rule_checks import check_action
from app.earning.rules import MAX_AMOUNT, MAX_DECIMALS, Action, EventKind
from app.earning.ruleset import FactLine, Facts
from app.errors import UserError
from app.members.reads import MemberRef
from app.programs.policy import ProgramPolicy
from app.stores.reads import StoreRef
from app.text import holds_nul, is_line
from app.validation import Problems

MAX_EVENTS = 1000
MAX_LINES = 2000
MAX_DATA_BYTES = 16 * 1024
MAX_FUTURE = timedelta(minutes=5)
_EARLIEST_YEAR = 1970

OWN_PREFIX = "laurel:"
"""How the external ids begin of events that Laurel finds out by itself; nobody else's may."""


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


class Deed(Protocol):
    """An action as it comes in: what was done, by its name."""

    @property
    def external_id(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def occurred_at(self) -> datetime | None: ...
    @property
    def data(self) -> Any: ...


class OwnDeed(msgspec.Struct, frozen=True):
    """An action or a visit that Laurel records by itself."""

    external_id: str
    action: str | None
    occurred_at: datetime
    data: Any = None


class Incoming(NamedTuple):
    """An event on its way in: what it says, whom it is about, and where it happened."""

    content: Purchase | Deed | OwnDeed
    member: MemberRef
    store: StoreRef | None = None
    kind: EventKind = EventKind.PURCHASE


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
    action: str | None = None


class Prepared(msgspec.Struct):
    """An event that has been checked, whom it is about, and where it happened."""

    id: UUID
    kind: EventKind
    external_id: str
    occurred_at: datetime
    amount: Decimal | None
    body: Body
    encoded: bytes
    member: MemberRef
    store: StoreRef | None = None
    member_id: UUID | None = None
    store_id: UUID | None = None


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
    store_id: UUID | None = None
    points: int = 0
    rejection: str | None = None
    processed_at: datetime | None = None

    def facts(self) -> Facts:
        """Return what the engine looks at."""
        return facts(self.kind, self.occurred_at, self.amount, self.body, self.store_id)


def facts(
    kind: EventKind,
    occurred_at: datetime,
    amount: Decimal | None,
    body: Body | None,
    store_id: UUID | None,
) -> Facts:
    """Return what the engine looks at; without a body nothing that it holds."""
    return Facts(
        kind,
        occurred_at,
        micros(amount) if amount is not None else 0,
        () if body is None else FactLines(body.lines),
        store_id,
        None if body is None else body.action,
    )


class FactLines(Sequence[FactLine]):
    """Lines of a purchase as the engine looks at them, made when it does: most rules never ask."""

    __slots__ = ("_lines", "_made")

    def __init__(self, lines: Sequence[PurchaseLine]) -> None:
        self._lines = lines
        self._made: list[FactLine] | None = None

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[FactLine]:
        return iter(self._all())

    @overload
    def __getitem__(self, index: int) -> FactLine: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FactLine]: ...
    def __getitem__(self, index: int | slice) -> FactLine | Sequence[FactLine]:
        return self._all()[index]

    def _all(self) -> list[FactLine]:
        if self._made is None:
            self._made = [
                FactLine(line.sku, line.category, line.brand, micros(line.amount)) for line in self._lines
            ]
        return self._made


EVENT_COLUMNS = """
e.id, e.member_id, e.external_id, e.kind, e.occurred_at, e.recorded_at, e.amount, e.body, e.store_id,
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
        row["store_id"],
        row["points"] or 0,
        row["rejection"],
        row["processed_at"],
    )


def same_content(event: Event, prepared: Prepared) -> bool:
    """Tell whether an event that is kept says the same as one that came in under its id."""
    return (
        event.kind is prepared.kind
        and event.member_id == prepared.member_id
        and event.store_id == prepared.store_id
        and event.body.action == prepared.body.action
        and event.amount == prepared.amount
        and event.body.timed == prepared.body.timed
        and (not prepared.body.timed or event.occurred_at == prepared.occurred_at)
        and event.body.lines == prepared.body.lines
        and (event.body.data or None) == (prepared.body.data or None)
    )


def check_id(value: str, what: str, problems: Problems, *field: str) -> None:
    """Note what is wrong with an id that stands for itself; `what` is how a sentence calls it."""
    if not 1 <= len(value) <= 255 or not value.isprintable() or value != value.strip():
        problems.add(f"{what} has 1 to 255 printable characters, without spaces around them.", *field)


def check_number(value: Decimal, what: str, problems: Problems, *field: str, positive: bool = False) -> bool:
    """Note what is wrong with an amount or a quantity; return whether it can be counted.

    Args:
        what: how a sentence that starts with it calls it.
        positive: 0 is wrong, too.
    """
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -MAX_DECIMALS or abs(value) > MAX_AMOUNT:
        problems.add(f"{what} has at most {MAX_DECIMALS} decimals and is at most {MAX_AMOUNT:,f}.", *field)
    elif value < 0 or (positive and not value):
        problems.add(f"{what} must be more than 0." if positive else f"{what} must not be negative.", *field)
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


def _check_line(n: int, line: Line, quantity: Decimal, problems: Problems) -> bool:
    """Note what is wrong with a line; return whether its amount can be counted."""
    check_id(line.sku, "An SKU", problems, "lines", str(n), "sku")
    for name in ("name", "category", "brand"):
        value = getattr(line, name)
        if value is not None and (len(value) > 1000 or not is_line(value)):
            problems.add(f"A {name} has at most 1,000 printable characters.", "lines", str(n), name)
    check_number(quantity, "A quantity", problems, "lines", str(n), "quantity", positive=True)
    return check_number(line.amount, "A line's amount", problems, "lines", str(n), "amount")


def _lines(purchase: Purchase, problems: Problems) -> tuple[tuple[PurchaseLine, ...], Decimal]:
    lines, total = [], _ZERO
    for n, line in enumerate(purchase.lines or ()):
        quantity = _ONE if line.quantity is None else line.quantity
        if _is_common(line, quantity) or _check_line(n, line, quantity, problems):
            total += line.amount
        lines.append(PurchaseLine(line.sku, line.amount, quantity, line.name, line.category, line.brand))
    return tuple(lines), total


def prepare(
    incoming: Incoming, policy: ProgramPolicy, now: datetime, event_id: UUID
) -> Prepared | Sequence[UserError]:
    """Check an event, and bring it into the form in which it is kept.

    Args:
        now: the time of recording (UTC); at most five minutes later may it have happened.

    Returns:
        The event, or everything that is wrong with it, fields below the event's input.
    """
    problems = Problems()
    content = incoming.content
    if not isinstance(content, OwnDeed):
        check_external_id(content.external_id, problems)
    occurred_at = check_occurred_at(content.occurred_at, _WHAT[incoming.kind], now, problems)
    if incoming.kind is EventKind.PURCHASE:
        purchase = cast("Purchase", content)
        amount, body = _purchase(purchase, policy, problems)
    else:
        amount, body = None, _deed(cast("Deed | OwnDeed", content), problems)
    encoded = b"" if problems.errors else _encode(body, problems)
    if body is None or problems.errors:
        return problems.errors
    return Prepared(
        event_id,
        incoming.kind,
        content.external_id,
        occurred_at,
        amount,
        body,
        encoded,
        incoming.member,
        incoming.store,
    )


_WHAT = {
    EventKind.PURCHASE: "The purchase",
    EventKind.ACTION: "The action",
    EventKind.CHECK_IN: "The visit",
    EventKind.REFERRAL: "The referral",
}


def check_external_id(value: str, problems: Problems) -> None:
    """Note what is wrong with the id that a caller chose."""
    check_id(value, "An external id", problems, "external_id")
    if value.startswith(OWN_PREFIX):
        message = f"Ids that begin with {OWN_PREFIX} are Laurel's own; choose another."
        problems.add(message, "external_id")


def check_occurred_at(value: datetime | None, what: str, now: datetime, problems: Problems) -> datetime:
    """Return when something happened, which is now unless it is said; note it when that cannot be."""
    if value is None:
        return now
    if value > now + MAX_FUTURE:
        message = f"{what} lies in the future, by more than the 5 minutes that clocks may differ."
        problems.add(message, "occurred_at")
    elif value.year < _EARLIEST_YEAR:
        problems.add(f"{what} lies before {_EARLIEST_YEAR}.", "occurred_at")
    return value


def _purchase(
    purchase: Purchase, policy: ProgramPolicy, problems: Problems
) -> tuple[Decimal | None, Body | None]:
    if purchase.currency is not None and purchase.currency != policy.currency:
        message = f"The program counts in {policy.currency}: convert the purchase before it is recorded."
        problems.add(message, "currency")
    if purchase.lines and len(purchase.lines) > MAX_LINES:
        problems.add(f"A purchase has at most {MAX_LINES:,} lines.", "lines")
        return None, None
    lines, total = _lines(purchase, problems)
    amount = total if purchase.amount is None else purchase.amount
    if purchase.amount is None and not lines:
        problems.add("A purchase needs an amount, or lines that have one.", "amount")
    elif (
        check_number(amount, "The amount", problems, "amount")
        and lines
        and amount != total
        and not problems.errors
    ):
        problems.add(f"The amount is {amount:f}, and the lines come to {total:f}.", "amount")
    return amount, Body(lines, purchase.data, purchase.occurred_at is not None)


def _deed(deed: Deed | OwnDeed, problems: Problems) -> Body:
    if not isinstance(deed, OwnDeed):
        check_action(deed.action, problems)
        if deed.action in tuple(Action):
            message = (
                f"{deed.action} is recorded by Laurel itself, when it happens; choose a name of your own."
            )
            problems.add(message, "action")
    return Body((), deed.data, deed.occurred_at is not None, deed.action)


def _encode(body: Body | None, problems: Problems) -> bytes:
    if body is None:
        return b""
    if body.data is not None:
        if not isinstance(body.data, dict):
            problems.add("Data is a JSON object.", "data")
            return b""
        try:
            data = orjson.dumps(body.data)
        except TypeError:
            problems.add("Data holds text that is not valid Unicode, or is nested too deeply.", "data")
            return b""
        if len(data) > MAX_DATA_BYTES or holds_nul(data):
            problems.add("Data has at most 16 KiB of JSON, without NUL characters.", "data")
            return b""
    return msgspec.json.encode(body)
