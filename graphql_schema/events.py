"""Events: recording them, and reading what became of them."""

import re
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.earning import events, reads, recording
from app.earning.rules import EventKind
from app.ids import to_global_id
from app.paging import Page, PageResult
from app.text import is_line
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.earning import Award
from graphql_schema.enums import enum_type
from graphql_schema.errors import UserError, UserErrorCode, user_errors
from graphql_schema.inputs import MemberRef, planned
from graphql_schema.members import Member, load_members
from graphql_schema.nodes import Info, Node, finds, key_of, program_of
from graphql_schema.pagination import Connection, by_page, connection, page_of
from graphql_schema.scalars import JSON, Points

READ = (Scope.MEMBERS_READ, Scope.EVENTS_WRITE)

_AWARD_KEY = re.compile(r"[0-9a-f]{32}:[0-9a-f]{32}", re.ASCII)


class EventStatus(StrEnum):
    QUEUED = "QUEUED"
    PROCESSED = "PROCESSED"
    REJECTED = "REJECTED"


class Processing(StrEnum):
    NOW = "NOW"
    DEFERRED = "DEFERRED"


enum_type(
    EventStatus,
    description="What has become of an event.",
    values={
        "QUEUED": "Stored, and waiting for a worker.",
        "PROCESSED": "Its points are earned.",
        "REJECTED": "Could not be processed; see rejection.",
    },
)
enum_type(
    Processing,
    description="When points are earned.",
    values={
        "NOW": "Before the answer.",
        "DEFERRED": "The event is stored before the answer; a worker earns the points, within seconds.",
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


async def load_events(context: Context, keys: list[UUID]) -> list[Event | None]:
    """Load events of the caller's program; for a member's token nobody else's."""
    program_id, own = context.principal.program_id, context.principal.member_id
    assert program_id
    found = await reads.get_events(program_id, keys)
    return [Event.of(event) if event and own in (None, event.member_id) else None for event in found]


async def load_awards(context: Context, keys: list[UUID]) -> list[list[Award]]:
    """Load the awards of events that the caller may read."""
    assert context.principal.program_id
    found = await reads.get_awards(context.principal.program_id, keys)
    return [[Award.of(record) for record in records] for records in found]


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


@planned
@strawberry.input(description="One line of a purchase.")
class PurchaseLineInput:
    sku: str = strawberry.field(description="What was bought; 1 to 255 characters.")
    name: str | None = strawberry.field(description="What people call it.", default=None)
    category: str | None = strawberry.field(description="What kind of goods it is.", default=None)
    brand: str | None = strawberry.field(description="Whose it is.", default=None)
    quantity: Decimal | None = strawberry.field(description="More than 0.", default=Decimal(1))
    amount: Decimal = strawberry.field(
        description="Of the whole line, tax included, discounts taken off; not negative."
    )


@planned
@strawberry.input(description="A purchase.")
class PurchaseInput:
    member: MemberRef = strawberry.field(description="Who bought.")
    external_id: str = strawberry.field(
        description="Your own id of it, unique within the program: the same id is recorded once, for good."
    )
    occurred_at: datetime | None = strawberry.field(
        description="When it happened; now, when left out. At most 5 minutes in the future.", default=None
    )
    amount: Decimal | None = strawberry.field(
        description="Must equal the sum of the lines where lines are given.", default=None
    )
    currency: str | None = strawberry.field(
        description="Must be the program's, where it is given.", default=None
    )
    lines: list[PurchaseLineInput] | None = strawberry.field(
        description="What was bought; at most 2,000.", default_factory=list
    )
    data: JSON | None = strawberry.field(
        description="What else you want to find here: a JSON object of at most 16 KiB.", default=None
    )
    processing: Processing | None = strawberry.field(
        description="When the points are earned; recordEvents always defers.", default=Processing.NOW
    )


@planned
@strawberry.input(one_of=True, description="An event of one kind.")
class EventInput:
    purchase: PurchaseInput | None = strawberry.field(description="A purchase.", default=strawberry.UNSET)


@object_type(description="The event that was recorded.", access=INHERITED)
class EventPayload:
    event: Event | None = strawberry.field(description="Null when nothing was recorded.", default=None)
    replayed: bool = strawberry.field(description="Whether it was recorded before.", default=False)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )
    member_id: strawberry.Private[UUID | None] = None

    @resolver(description="Whose event it is, with the new balance.", access=INHERITED)
    async def member(self, info: Info) -> Member | None:
        return (
            None if self.member_id is None else await info.context.loader(load_members).load(self.member_id)
        )


@object_type(description="What became of a batch of events.", access=INHERITED)
class RecordEventsPayload:
    accepted: int = strawberry.field(description="Stored now; workers earn their points.")
    replayed: int = strawberry.field(description="Stored before, with the same content.")
    user_errors: list[UserError] = strawberry.field(
        description="One for each thing that is wrong with an event that was turned away; field starts with"
        " the event's position, from 0 on."
    )


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


@object_type(description="")
class EventMutations:
    @resolver(
        description="Records a purchase. The same externalId with the same content answers with what happened"
        " the first time; with other content it is IDEMPOTENCY_CONFLICT.",
        scope=Scope.EVENTS_WRITE,
    )
    async def record_purchase(
        self, info: Info, input: Annotated[PurchaseInput, strawberry.argument(description="The purchase.")]
    ) -> EventPayload:
        incoming = events.Incoming(input, input.member.value())
        if input.processing is Processing.DEFERRED:
            (recorded,) = await recording.store(program_of(info), [incoming])
        else:
            recorded = await info.context.services.coalescer.record(program_of(info), incoming)
        if recorded.event is None:
            return EventPayload(user_errors=user_errors(recorded.errors))
        return EventPayload(
            event=Event.of(recorded.event),
            replayed=recorded.replayed,
            user_errors=[],
            member_id=recorded.event.member_id,
        )

    @resolver(
        description="Stores up to 1,000 events durably and answers at once; workers earn the points. An event"
        " that is turned away does not harm the others.",
        scope=Scope.EVENTS_WRITE,
    )
    async def record_events(
        self, info: Info, input: Annotated[list[EventInput], strawberry.argument(description="The events.")]
    ) -> RecordEventsPayload:
        if len(input) > events.MAX_EVENTS:
            message = f"At most {events.MAX_EVENTS:,} events can be recorded at once; nothing was stored."
            error = UserError(code=UserErrorCode.INVALID, message=message, field=["input"])
            return RecordEventsPayload(accepted=0, replayed=0, user_errors=[error])
        purchases = [each.purchase for each in input if each.purchase]
        recorded = await recording.store(
            program_of(info), [events.Incoming(each, each.member.value()) for each in purchases]
        )
        return RecordEventsPayload(
            accepted=sum(1 for each in recorded if each.event and not each.replayed),
            replayed=sum(1 for each in recorded if each.replayed),
            user_errors=[
                error
                for position, each in enumerate(recorded)
                for error in user_errors(each.errors, str(position), "purchase")
            ],
        )
