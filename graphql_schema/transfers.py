"""Sending points from one member to another."""

from typing import Annotated

import strawberry

from app.access.scopes import Scope
from app.errors import Refused
from app.transfers.sending import Sending, send
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.errors import UserError, user_errors
from graphql_schema.inputs import MemberRef, planned
from graphql_schema.ledger import LedgerEntry, load_entries
from graphql_schema.nodes import Info, program_of
from graphql_schema.redeeming import whose
from graphql_schema.scalars import Points


@planned
@strawberry.input(description="Points that are to go from one member to another.")
class TransferPointsInput:
    from_: MemberRef | None = strawberry.field(
        name="from",
        description="Whose points. May be left out by a signed-in member, who sends nobody else's; an API key"
        " needs it.",
        default=None,
    )
    to: MemberRef = strawberry.field(description="Who gets them.")
    points: Points = strawberry.field(description="How many, 1 at least.")
    idempotency_key: str = strawberry.field(
        description="Of your choice, 1 to 255 characters: the same key sends once, for good."
    )


@object_type(description="Points that were sent.", access=INHERITED)
class TransferPointsPayload:
    entry: LedgerEntry | None = strawberry.field(
        description="The sender's, by which the points left; null when nothing was done.", default=None
    )
    replayed: bool = strawberry.field(
        description="Whether it was done before, under this key.", default=False
    )
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="")
class TransferMutations:
    @resolver(
        description="Sends points to another member: they leave at once, are in transit, and arrive soon,"
        " with the expiry that they had. Who owes points pays with them first. Where the receiver has closed"
        " the membership meanwhile they go back to the sender. Keys of a member's token are that member's"
        " own; it finds active members alone.",
        scope=Scope.LEDGER_ADJUST,
        member=True,
    )
    async def transfer_points(
        self,
        info: Info,
        input: Annotated[TransferPointsInput, strawberry.argument(description="The transfer.")],
    ) -> TransferPointsPayload:
        principal = info.context.principal
        try:
            sender = await whose(info, input.from_, "from")
            receiver = input.to.value()
            key = input.idempotency_key
            sending = Sending(sender, receiver, input.points, key, principal.member_id, principal.credential)
            sent = await send(program_of(info), sending)
        except Refused as refused:
            return TransferPointsPayload(user_errors=user_errors(refused.errors))
        return TransferPointsPayload(
            entry=await info.context.loader(load_entries).load((sent.sender.id, sent.sequence)),
            replayed=sent.replayed,
            user_errors=[],
        )
