"""Refunds, as they are read: what was given back of a purchase, and the points that went with it."""

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.earning import refunds
from app.ids import to_global_id
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.nodes import Info, Node, finds
from graphql_schema.scalars import Points

if TYPE_CHECKING:
    from graphql_schema.events import Event


@object_type(description="So much of one line of a purchase that was given back.", access=INHERITED)
class RefundLine:
    number: int = strawberry.field(description="The line's place in the purchase, from 1 on.")
    quantity: Decimal = strawberry.field(description="How many, or how much, of it.")
    amount: Decimal = strawberry.field(description="What was refunded for that, in the program's currency.")


@object_type(
    description="What was given back of one purchase. Afterwards the purchase has earned what the rest of it"
    " would have earned, by the rules, factors and limits of its time.",
    scope=(Scope.MEMBERS_READ, Scope.EVENTS_WRITE),
    member=True,
)
class Refund(Node):
    external_id: str = strawberry.field(
        description="The caller's own id; a return of several purchases is one refund of each, under one id."
    )
    occurred_at: datetime = strawberry.field(description="When the goods, or the money, went back.")
    amount: Decimal = strawberry.field(description="How much of the purchase's amount was refunded.")
    points: Points = strawberry.field(
        description="Points taken back, pending ones included; negative where the rest of the purchase earns"
        " more than it did before."
    )
    debt: Points = strawberry.field(
        description="Part of them that the member had spent, and now owes: the next points pay it first."
    )
    written_off: Points = strawberry.field(
        description="What could be neither taken back nor owed, because the program's debt limit was reached;"
        " it is not part of points."
    )
    restored_points: Points = strawberry.field(
        description="Points of the points payment that went back to the member."
    )
    lines: list[RefundLine] = strawberry.field(
        description="The goods that were given back; empty for a part of the amount that belongs to no line."
    )
    event_id: strawberry.Private[UUID]

    @classmethod
    def of(cls, refund: refunds.Refund) -> "Refund":
        """Return a refund as the API gives it."""
        return cls(
            id=strawberry.ID(to_global_id("Refund", refund.id)),
            external_id=refund.external_id,
            occurred_at=refund.occurred_at,
            amount=refund.amount,
            points=Points(refund.points),
            debt=Points(refund.debt),
            written_off=Points(refund.written_off),
            restored_points=Points(refund.restored_points),
            lines=[
                RefundLine(number=line.number, quantity=line.quantity, amount=line.amount)
                for line in refund.lines
            ],
            event_id=refund.event_id,
        )

    @resolver(description="The purchase that it is a refund of.")
    async def event(self, info: Info) -> Annotated["Event", strawberry.lazy("graphql_schema.events")]:
        event = await _event(info.context, self.event_id)
        assert event, "whoever may read a refund may read its purchase"
        return event


async def _event(context: Context, event_id: UUID) -> "Event | None":
    from graphql_schema.events import load_events

    return await context.loader(load_events).load(event_id)


async def load_refunds(context: Context, keys: list[UUID]) -> list[list[Refund]]:
    """Load the refunds of purchases that the caller may read, by the purchases' ids."""
    assert context.principal.program_id
    found = await refunds.list_refunds(context.principal.program_id, keys)
    return [[Refund.of(refund) for refund in each] for each in found]


async def load_by_id(context: Context, keys: list[UUID]) -> list[Refund | None]:
    """Load refunds of the caller's program by their own ids, whoever's they are."""
    assert context.principal.program_id
    found = await refunds.get_refunds(context.principal.program_id, keys)
    return [None if refund is None else Refund.of(refund) for refund in found]


@finds("Refund")
async def _find(context: Context, key: UUID | str) -> Refund | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    refund = await context.loader(load_by_id).load(key)
    # A member's token reads its own purchases alone, and with them their refunds.
    return refund if refund and await _event(context, refund.event_id) else None
