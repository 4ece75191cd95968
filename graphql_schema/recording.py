"""Recording events: at once with their points, or stored for a worker."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.earning import events, recording
from app.earning.events import Incoming
from app.earning.rules import EventKind
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.enums import enum_type
from graphql_schema.errors import UserError, UserErrorCode, user_errors
from graphql_schema.events import Event
from graphql_schema.inputs import MemberRef, planned
from graphql_schema.members import Member, load_members
from graphql_schema.nodes import Info, key_of, program_of
from graphql_schema.scalars import JSON
from graphql_schema.stores import StoreRef


class Processing(StrEnum):
    NOW = "NOW"
    DEFERRED = "DEFERRED"


enum_type(
    Processing,
    description="When points are earned.",
    values={
        "NOW": "Before the answer.",
        "DEFERRED": "The event is stored before the answer; a worker earns the points, within seconds.",
    },
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
    store: StoreRef | None = strawberry.field(description="Where it was bought.", default=None)
    redemption_id: strawberry.ID | None = strawberry.field(
        description="The points payment that covered a part of the purchase.", default=None
    )

    def value(self) -> Incoming:
        """Return the purchase for services; an id that is none of a redemption names none."""
        return Incoming(
            self,
            self.member.value(),
            None if self.store is None else self.store.value(),
            redemption_id=None if self.redemption_id is None else key_of(self.redemption_id, "Redemption"),
        )


@planned
@strawberry.input(description="Something that a member did, by its name.")
class ActionInput:
    member: MemberRef = strawberry.field(description="Who did it.")
    action: str = strawberry.field(
        description="What was done: a name of your own (quiz, review, social_share) of 1 to 100 characters,"
        " upper and lower case are different. REGISTRATION, PROFILE_COMPLETED, BIRTHDAY and ANNIVERSARY are"
        " recorded by Laurel itself; only simulate takes them."
    )
    external_id: str = strawberry.field(
        description="Your own id of it, unique within the program: the same id is recorded once, for good."
    )
    occurred_at: datetime | None = strawberry.field(
        description="When it happened; now, when left out. At most 5 minutes in the future.", default=None
    )
    data: JSON | None = strawberry.field(
        description="What else you want to find here: a JSON object of at most 16 KiB.", default=None
    )
    processing: Processing | None = strawberry.field(
        description="When the points are earned; recordEvents always defers.", default=Processing.NOW
    )

    def value(self) -> Incoming:
        """Return the action for services."""
        return Incoming(self, self.member.value(), kind=EventKind.ACTION)


@planned
@strawberry.input(one_of=True, description="A purchase, or an action. Visits come in by checkIn.")
class EventInput:
    purchase: PurchaseInput | None = strawberry.field(description="A purchase.", default=strawberry.UNSET)
    action: ActionInput | None = strawberry.field(
        description="Something else that a member did.", default=strawberry.UNSET
    )

    def one(self) -> tuple[str, PurchaseInput | ActionInput]:
        """Return the field that was set, and what it holds."""
        if self.purchase:
            return "purchase", self.purchase
        assert self.action, "of a oneOf input one field is set, and not null"
        return "action", self.action


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


async def _record(info: Info, input: PurchaseInput | ActionInput) -> EventPayload:
    if input.processing is Processing.DEFERRED:
        (recorded,) = await recording.store(program_of(info), [input.value()])
    else:
        recorded = await info.context.services.recorder.do(program_of(info), input.value())
    if recorded.event is None:
        return EventPayload(user_errors=user_errors(recorded.errors))
    return EventPayload(
        event=Event.of(recorded.event),
        replayed=recorded.replayed,
        user_errors=[],
        member_id=recorded.event.member_id,
    )


@object_type(description="")
class RecordingMutations:
    @resolver(
        description="Records a purchase. The same externalId with the same content answers with what happened"
        " the first time; with other content it is IDEMPOTENCY_CONFLICT.",
        scope=Scope.EVENTS_WRITE,
    )
    async def record_purchase(
        self, info: Info, input: Annotated[PurchaseInput, strawberry.argument(description="The purchase.")]
    ) -> EventPayload:
        return await _record(info, input)

    @resolver(
        description="Records an action of a name of your own. The same externalId with the same content"
        " answers with what happened the first time; with other content it is IDEMPOTENCY_CONFLICT.",
        scope=Scope.EVENTS_WRITE,
    )
    async def record_action(
        self, info: Info, input: Annotated[ActionInput, strawberry.argument(description="The action.")]
    ) -> EventPayload:
        return await _record(info, input)

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
        named = [each.one() for each in input]
        recorded = await recording.store(program_of(info), [each.value() for _, each in named])
        return RecordEventsPayload(
            accepted=sum(1 for each in recorded if each.event and not each.replayed),
            replayed=sum(1 for each in recorded if each.replayed),
            user_errors=[
                error
                for position, (each, (kind, _)) in enumerate(zip(recorded, named, strict=True))
                for error in user_errors(each.errors, str(position), kind)
            ],
        )
