"""Events, as they are read: what was told, and what became of it."""

import re
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.earning import events, reads, refunding
from app.earning.rules import EventKind
from app.ids import to_global_id
from app.paging import Page, PageResult
from app.text import is_line
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.earning import Award, RuleOutcome, load_awards, load_explanations
from graphql_schema.enums import enum_type
from graphql_schema.members import Member, load_members
from graphql_schema.nodes import Info, Node, finds, key_of, program_of
from graphql_schema.pagination import Connection, by_page, connection, page_of
from graphql_schema.refunds import Refund, load_refunds
from graphql_schema.scalars import JSON, Points
from graphql_schema.stores import Store, load_stores

READ = (Scope.MEMBERS_READ, Scope.EVENTS_WRITE)

_AWARD_KEY = re.compile(r"[0-9a-f]{32}:[0-9a-f]{32}", re.ASCII)


class EventStatus(StrEnum):
    QUEUED = "QUEUED"
    PROCESSED = "PROCESSED"
    REJECTED = "REJECTED"


enum_type(
    EventStatus,
    description="What has become of an event.",
    values={
        "QUEUED": "Stored, and waiting for a worker.",
        "PROCESSED": "Its points are earned.",
        "REJECTED": "Could not be processed; see rejection.",
    },
)


@object_type(description="One line of a purchase.", access=INHERITED)
class PurchaseLine:
    number: int = strawberry.field(description="Its place, from 1 on.")
    sku: str = strawberry.field(description="What was bought.")
    name: str | None = strawberry.field(description="What people call it.")
    category: str | None = strawberry.field(description="What kind of goods it is.")
    brand: str | None = strawberry.field(description="Whose it is.")
    quantity: Decimal = strawberry.field(description="How many, or how much.")
    amount: Decimal = strawberry.field(description="Of the whole line, tax included, discounts taken off.")


@object_type(description="Something that a member did.", scope=READ, member=True)
class Event(Node):
    external_id: str = strawberry.field(
        description="The caller's own id, unique within the program; recording it again earns nothing more."
    )
    kind: EventKind = strawberry.field(description="What kind of thing it was.")
    action: str | None = strawberry.field(
        description="Of an ACTION, what was done: REGISTRATION, PROFILE_COMPLETED, BIRTHDAY, ANNIVERSARY, or"
        " a name of the caller's own."
    )
    status: EventStatus = strawberry.field(description="What has become of it.")
    rejection: str | None = strawberry.field(description="Why it could not be processed.")
    occurred_at: datetime = strawberry.field(description="When it happened; rules and limits go by it.")
    recorded_at: datetime = strawberry.field(description="When it came in; the ledger goes by it.")
    amount: Decimal | None = strawberry.field(description="Of a purchase, in the program's currency.")
    points: Points = strawberry.field(description="Points granted, pending ones included.")
    event: strawberry.Private[events.Event]

    @classmethod
    def of(cls, event: events.Event) -> "Event":
        """Return an event as the API gives it."""
        status = EventStatus.QUEUED
        if event.processed_at is not None:
            status = EventStatus.PROCESSED if event.rejection is None else EventStatus.REJECTED
        return cls(
            id=strawberry.ID(to_global_id("Event", event.id)),
            external_id=event.external_id,
            kind=event.kind,
            action=event.body.action,
            status=status,
            rejection=event.rejection,
            occurred_at=event.occurred_at,
            recorded_at=event.recorded_at,
            amount=event.amount,
            points=Points(event.points),
            event=event,
        )

    @resolver(description="Who did it.", scope=Scope.MEMBERS_READ, member=True)
    async def member(self, info: Info) -> Member:
        member = await info.context.loader(load_members).load(self.event.member_id)
        assert member, "members are never deleted"
        return member

    @resolver(description="Where it happened; null where that was not said.")
    async def store(self, info: Info) -> Store | None:
        store_id = self.event.store_id
        return None if store_id is None else await info.context.loader(load_stores).load(store_id)

    @resolver(description="What was bought.")
    def lines(self) -> list[PurchaseLine]:
        return [
            PurchaseLine(
                number=number,
                sku=line.sku,
                name=line.name,
                category=line.category,
                brand=line.brand,
                quantity=line.quantity,
                amount=line.amount,
            )
            for number, line in enumerate(self.event.body.lines, start=1)
        ]

    @resolver(description="What else the caller sent: a JSON object.")
    def data(self) -> JSON:
        return JSON({} if self.event.body.data is None else self.event.body.data)

    @resolver(description="What the rules gave for it, the largest first.")
    async def awards(self, info: Info) -> list[Award]:
        return await info.context.loader(load_awards).load(self.event.id)

    @resolver(
        description="Every rule for events of its kind that there was when the points were earned, but for"
        " archived ones, and why it paid or did not: the highest priority first, then the oldest. It stays as"
        " it was, whatever becomes of the rules. Empty for what is QUEUED or REJECTED. A member's token sees"
        " only the rules that are active now and have started, and those that paid."
    )
    async def explanation(self, info: Info) -> list[RuleOutcome]:
        return await info.context.loader(load_explanations).load(self.event.id)

    @resolver(description="Of a purchase: what was given back of it, the first to be recorded first.")
    async def refunds(self, info: Info) -> list[Refund]:
        return await self._refunds(info)

    @resolver(description="Part of the amount that has been refunded.")
    async def refunded_amount(self, info: Info) -> Decimal:
        return sum((refund.amount for refund in await self._refunds(info)), Decimal(0))

    async def _refunds(self, info: Info) -> list[Refund]:
        if self.kind is not EventKind.PURCHASE:
            return []
        return await info.context.loader(load_refunds).load(self.event.id)


async def load_events(context: Context, keys: list[UUID]) -> list[Event | None]:
    """Load events of the caller's program; for a member's token nobody else's."""
    program_id, own = context.principal.program_id, context.principal.member_id
    assert program_id
    found = await reads.get_events(program_id, keys)
    return [Event.of(event) if event and own in (None, event.member_id) else None for event in found]


async def load_pages(context: Context, keys: list[tuple[UUID, Page]]) -> list[PageResult[events.Event]]:
    """Load pages of the events of members whom the caller may read: one statement for each kind of page."""
    assert context.principal.program_id
    return await by_page(keys, partial(reads.list_events, context.principal.program_id))


async def events_of(
    context: Context,
    member_id: UUID,
    *,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
) -> Connection[Event]:
    """Return a page of the events of a member whom the caller may read."""
    page = page_of("events", (datetime, UUID), first=first, after=after, last=last, before=before)
    result = await context.loader(load_pages).load((member_id, page))
    return connection("events", result, Event.of, lambda event: (event.occurred_at, event.id))


@finds("Event")
async def _find_event(context: Context, key: UUID | str) -> Event | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    return await context.loader(load_events).load(key)


@finds("Award")
async def _find_award(context: Context, key: UUID | str) -> Award | None:
    if context.principal.program_id is None or not isinstance(key, str) or not _AWARD_KEY.fullmatch(key):
        return None
    event_id = UUID(hex=key[:32])
    if await context.loader(load_events).load(event_id) is None:
        return None
    wanted = to_global_id("Award", key)
    awards = await context.loader(load_awards).load(event_id)
    return next((award for award in awards if award.id == wanted), None)


@strawberry.input(one_of=True, description="Names an event in one way.")
class EventRef:
    id: strawberry.ID | None = strawberry.field(description="The event's id here.", default=strawberry.UNSET)
    external_id: str | None = strawberry.field(
        description="The id under which it was recorded.", default=strawberry.UNSET
    )

    def value(self) -> refunding.EventRef:
        """Return the reference for services; an id that is none of an event names nothing."""
        if self.external_id is not strawberry.UNSET:
            return refunding.EventRef(external_id=self.external_id)
        return refunding.EventRef(id=key_of(self.id or "", "Event"))


@object_type(description="")
class EventQueries:
    @resolver(description="An event; null when there is none.", scope=READ, member=True)
    async def event(
        self, info: Info, by: Annotated[EventRef, strawberry.argument(description="Which event.")]
    ) -> Event | None:
        if by.external_id is strawberry.UNSET:
            return await _find_event(info.context, key_of(by.id or "", "Event"))
        external_id = by.external_id or ""
        # PostgreSQL cannot even ask for a NUL; nothing was recorded under such an id.
        event = await reads.find_event(program_of(info), external_id) if is_line(external_id) else None
        own = info.context.principal.member_id
        return Event.of(event) if event and own in (None, event.member_id) else None
