"""Events as callers send them and as they are kept. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, overload
from uuid import UUID

import asyncpg
import msgspec

from app.earning.exact import Ratio, micros, share_of
from app.earning.rules import Brought, EventKind
from app.earning.ruleset import FactLine, Facts
from app.members.reads import MemberRef
from app.stores.reads import StoreRef

MAX_EVENTS = 1000
MAX_LINES = 2000
MAX_DATA_BYTES = 16 * 1024
MAX_FUTURE = timedelta(minutes=5)

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
    """An action, a visit or a referral that Laurel records by itself."""

    external_id: str
    action: str | None
    occurred_at: datetime
    data: Any = None
    brought: Brought | None = None


class Incoming(NamedTuple):
    """An event on its way in: what it says, whom it is about, where it happened, and what paid for it.

    `redemption_id` names the points payment that covered a part of a purchase.
    """

    content: Purchase | Deed | OwnDeed
    member: MemberRef
    store: StoreRef | None = None
    kind: EventKind = EventKind.PURCHASE
    redemption_id: UUID | None = None


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
    brought: Brought | None = None


class Prepared(msgspec.Struct):
    """An event that has been checked, whom it is about, where it happened, and what was paid with points."""

    id: UUID
    kind: EventKind
    external_id: str
    occurred_at: datetime
    amount: Decimal | None
    body: Body
    encoded: bytes
    member: MemberRef
    store: StoreRef | None = None
    redemption_id: UUID | None = None
    member_id: UUID | None = None
    store_id: UUID | None = None
    points_amount: Decimal | None = None


class Event(msgspec.Struct):
    """An event as it is read: what was told, and what became of it. `points` include pending ones.

    `points_amount` is the part of the amount that a redemption paid.
    """

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
    redemption_id: UUID | None = None
    points_amount: Decimal | None = None

    @property
    def points_share(self) -> Ratio | None:
        """The part of the amount that was paid with points, as the engine looks at it; None for nothing."""
        return share_of(self.points_amount, self.amount)

    def facts(self) -> Facts:
        """Return what the engine looks at."""
        return facts(self.kind, self.occurred_at, self.amount, self.body, self.store_id, self.points_share)


def facts(
    kind: EventKind,
    occurred_at: datetime,
    amount: Decimal | None,
    body: Body | None,
    store_id: UUID | None,
    points_share: Ratio | None = None,
) -> Facts:
    """Return what the engine looks at; without a body nothing that it holds."""
    return Facts(
        kind,
        occurred_at,
        micros(amount) if amount is not None else 0,
        () if body is None else FactLines(body.lines),
        store_id,
        None if body is None else body.action,
        points_share,
        None if body is None else body.brought,
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
o.points, o.rejection, o.processed_at, e.redemption_id, e.points_amount
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
        row["redemption_id"],
        row["points_amount"],
    )


def same_content(event: Event, prepared: Prepared) -> bool:
    """Tell whether an event that is kept says the same as one that came in under its id."""
    return (
        event.kind is prepared.kind
        and event.member_id == prepared.member_id
        and event.store_id == prepared.store_id
        and event.redemption_id == prepared.redemption_id
        and event.body.action == prepared.body.action
        and event.amount == prepared.amount
        and event.body.timed == prepared.body.timed
        and (not prepared.body.timed or event.occurred_at == prepared.occurred_at)
        and event.body.lines == prepared.body.lines
        and (event.body.data or None) == (prepared.body.data or None)
    )
