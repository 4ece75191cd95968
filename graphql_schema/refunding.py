"""Refunding purchases, and taking back goods that come without a receipt."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.earning import refunding
from app.earning.refunds import Refunded
from app.earning.remainders import Wish
from app.errors import Refused
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.errors import UserError, user_errors
from graphql_schema.events import EventRef
from graphql_schema.inputs import MemberRef, planned
from graphql_schema.members import Member, load_members
from graphql_schema.nodes import Info, program_of
from graphql_schema.refunds import Refund

_OCCURRED_AT = "When it happened; now, when left out. At most 5 minutes in the future."


@planned
@strawberry.input(description="So much of one line of a purchase, to be refunded.")
class RefundLineInput:
    number: int = strawberry.field(description="The line's place in the purchase, from 1 on.")
    quantity: Decimal = strawberry.field(
        description="How many, or how much, of it; at most what has not been refunded yet."
    )
    amount: Decimal | None = strawberry.field(
        description="What was refunded for that; when left out, its share of the line's amount, to the"
        " smallest unit of the currency.",
        default=None,
    )


@planned
@strawberry.input(
    description="A refund of one purchase: of goods, of an amount, of both, or of all that is left."
)
class RefundPurchaseInput:
    purchase: EventRef = strawberry.field(description="Which purchase.")
    external_id: str = strawberry.field(
        description="Your own id of the refund, unique among the program's refunds and returns: the same id"
        " is refunded once, for good."
    )
    occurred_at: datetime | None = strawberry.field(description=_OCCURRED_AT, default=None)
    lines: list[RefundLineInput] | None = strawberry.field(
        description="Lines given back, at most 2,000; leave out lines and amount to refund all that is left.",
        default=None,
    )
    amount: Decimal | None = strawberry.field(
        description="A part of the amount that belongs to no line, such as a discount given later;"
        " it comes on top of the lines.",
        default=None,
    )


@planned
@strawberry.input(description="Goods that come back without a receipt.")
class ReturnItemInput:
    sku: str = strawberry.field(description="What it is, as the purchase's line names it.")
    quantity: Decimal = strawberry.field(description="How many, or how much; more than 0.")
    amount: Decimal = strawberry.field(
        description="What was paid out for it; for your records, because the purchase's price counts."
    )


@planned
@strawberry.input(description="A return without its receipt.")
class ReturnItemsInput:
    member: MemberRef = strawberry.field(description="Who bought the goods.")
    external_id: str = strawberry.field(
        description="Your own id of the return, unique among the program's refunds and returns: the same id"
        " is taken back once, for good."
    )
    occurred_at: datetime | None = strawberry.field(
        description=f"{_OCCURRED_AT} Only purchases before it are looked at.", default=None
    )
    items: list[ReturnItemInput] = strawberry.field(description="What came back; 1 to 2,000.")


@object_type(description="Goods that no purchase was found for.", access=INHERITED)
class UnmatchedItem:
    sku: str = strawberry.field(description="What it is.")
    quantity: Decimal = strawberry.field(description="How many, or how much, of it no purchase explains.")


@object_type(description="What became of a refund, or of a return.", access=INHERITED)
class RefundPayload:
    refunds: list[Refund] = strawberry.field(
        description="One for each purchase; of a return the latest purchase first. Empty when nothing was"
        " done.",
        default_factory=list,
    )
    unmatched: list[UnmatchedItem] = strawberry.field(
        description="Returned goods that no purchase of the member's was found for.", default_factory=list
    )
    replayed: bool = strawberry.field(description="Whether it was done before, under this id.", default=False)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )
    member_id: strawberry.Private[UUID | None] = None

    @classmethod
    def of(cls, refunded: Refunded) -> "RefundPayload":
        """Return what became of a refund as the API gives it."""
        return cls(
            refunds=[Refund.of(refund) for refund in refunded.refunds],
            unmatched=[UnmatchedItem(sku=each.sku, quantity=each.quantity) for each in refunded.unmatched],
            replayed=refunded.replayed,
            user_errors=[],
            member_id=refunded.member_id,
        )

    @resolver(description="Whose purchases they are, with the new balance.", access=INHERITED)
    async def member(self, info: Info) -> Member | None:
        if self.member_id is None:
            return None
        return await info.context.loader(load_members).load(self.member_id)


@object_type(description="")
class RefundMutations:
    @resolver(
        description="Takes back what the returned part of a purchase earned. The same externalId with the"
        " same content answers with what happened the first time; with other content it is"
        " IDEMPOTENCY_CONFLICT.",
        scope=Scope.EVENTS_WRITE,
    )
    async def refund_purchase(
        self,
        info: Info,
        input: Annotated[RefundPurchaseInput, strawberry.argument(description="The refund.")],
    ) -> RefundPayload:
        lines = input.lines
        try:
            refunded = await refunding.refund_purchase(
                program_of(info),
                input.purchase.value(),
                input.external_id,
                occurred_at=input.occurred_at,
                lines=None
                if lines is None
                else [Wish(each.number, each.quantity, each.amount) for each in lines],
                amount=input.amount,
            )
        except Refused as refused:
            return RefundPayload(user_errors=user_errors(refused.errors))
        return RefundPayload.of(refunded)

    @resolver(
        description="A return without its receipt: matched to the member's latest purchases of the same goods"
        " that happened before it. The same externalId with the same content answers with what happened the"
        " first time; with other content it is IDEMPOTENCY_CONFLICT.",
        scope=Scope.EVENTS_WRITE,
    )
    async def return_items(
        self,
        info: Info,
        input: Annotated[ReturnItemsInput, strawberry.argument(description="The return.")],
    ) -> RefundPayload:
        try:
            refunded = await refunding.return_items(
                program_of(info),
                input.member.value(),
                input.external_id,
                [refunding.Item(item.sku, item.quantity, item.amount) for item in input.items],
                occurred_at=input.occurred_at,
            )
        except Refused as refused:
            return RefundPayload(user_errors=user_errors(refused.errors))
        return RefundPayload.of(refunded)
