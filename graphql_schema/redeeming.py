"""Redeeming and reserving rewards, and every step that a redemption takes afterwards."""

from collections.abc import Awaitable
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.errors import ErrorCode, Refused, refuse
from app.members import reads
from app.redemptions import steps
from app.redemptions.inputs import Wanted
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.errors import UserError, user_errors
from graphql_schema.inputs import MemberRef, planned
from graphql_schema.members import Member, load_members
from graphql_schema.nodes import Info, key_of, program_of
from graphql_schema.redemptions import Redemption
from graphql_schema.scalars import Points

_HOLD_SECONDS = 900

_WHO = "Whose points. May be left out by a signed-in member, who spends nobody else's; an API key needs it."
_REWARD = "The reward's id."
_QUANTITY = "Pieces, 1 to 100; 1 for a DISCOUNT."
_POINTS = "DISCOUNT, which needs them: points to spend on the order."
_ORDER_AMOUNT = (
    "What the order comes to, in the program's currency; a DISCOUNT that pays for a share of an order at most"
    " needs it."
)
_ORDER_ID = "Your own id of the order, 1 to 255 characters."
_KEY = "Of your choice, 1 to 255 characters: the same key {} once, for good."


@planned
@strawberry.input(description="What points are to be spent on, at once.")
class RedeemInput:
    member: MemberRef | None = strawberry.field(description=_WHO, default=None)
    reward_id: strawberry.ID = strawberry.field(description=_REWARD)
    quantity: int | None = strawberry.field(description=_QUANTITY, default=1)
    points: Points | None = strawberry.field(description=_POINTS, default=None)
    order_amount: Decimal | None = strawberry.field(description=_ORDER_AMOUNT, default=None)
    order_id: str | None = strawberry.field(description=_ORDER_ID, default=None)
    idempotency_key: str = strawberry.field(description=_KEY.format("redeems"))


@planned
@strawberry.input(description="What points are to be set aside for.")
class ReserveInput:
    member: MemberRef | None = strawberry.field(description=_WHO, default=None)
    reward_id: strawberry.ID = strawberry.field(description=_REWARD)
    quantity: int | None = strawberry.field(description=_QUANTITY, default=1)
    points: Points | None = strawberry.field(description=_POINTS, default=None)
    order_amount: Decimal | None = strawberry.field(description=_ORDER_AMOUNT, default=None)
    order_id: str | None = strawberry.field(description=_ORDER_ID, default=None)
    hold_seconds: int | None = strawberry.field(
        description="How long, 1 to 2,592,000 (30 days); then the points come back by themselves.",
        default=_HOLD_SECONDS,
    )
    idempotency_key: str = strawberry.field(description=_KEY.format("reserves"))


@strawberry.input(
    description="Points of a reservation that are to be spent. They may be fewer than were reserved; the rest"
    " comes back."
)
class CaptureInput:
    redemption_id: strawberry.ID = strawberry.field(description="The reservation's id.")
    points: Points | None = strawberry.field(
        description="1 to what was reserved; all of it when left out. A member's token may capture fewer of a"
        " DISCOUNT alone.",
        default=None,
    )
    idempotency_key: str = strawberry.field(description=_KEY.format("captures"))


@strawberry.input(description="Points that are to be given back.")
class CancelRedemptionInput:
    redemption_id: strawberry.ID = strawberry.field(
        description="The id of one that is RESERVED or CONFIRMED; a member's token cancels what is RESERVED."
    )
    reason: str = strawberry.field(description="Why, for the member and for support; 1 to 500 characters.")
    idempotency_key: str = strawberry.field(description=_KEY.format("cancels"))


@object_type(description="The redemption as it is now.", access=INHERITED)
class RedemptionPayload:
    redemption: Redemption | None = strawberry.field(description="Null when nothing was done.", default=None)
    replayed: bool = strawberry.field(description="Whether it was done before.", default=False)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )
    member_id: strawberry.Private[UUID | None] = None

    @resolver(description="Whose points they are, with the new balance.", access=INHERITED)
    async def member(self, info: Info) -> Member | None:
        if self.member_id is None:
            return None
        return await info.context.loader(load_members).load(self.member_id)


async def whose(info: Info, named: MemberRef | None, field: str = "member") -> reads.MemberRef:
    """Return whose points are asked for.

    Args:
        field: of the input, which names them.

    Raises:
        Refused: INVALID for the field, a key has to name somebody; NOT_FOUND where a member's token names
            somebody else, or nobody.
    """
    own = info.context.principal.member_id
    if own is None:
        if named is None:
            message = "Say whose points are meant: a key belongs to no member."
            raise refuse(ErrorCode.INVALID, message, field)
        return named.value()
    itself = reads.MemberRef(id=own)
    ref = itself if named is None else named.value()
    if ref != itself:
        row = await reads.get_member(program_of(info), ref)
        if row is None or row.id != own:
            raise refuse(ErrorCode.NOT_FOUND, "There is no such member.", field, ref.field)
    return itself


async def _take(
    info: Info, input: RedeemInput | ReserveInput, hold_seconds: int | None = None
) -> RedemptionPayload:
    try:
        member = await whose(info, input.member)
    except Refused as refused:
        return RedemptionPayload(user_errors=user_errors(refused.errors))
    wanted = Wanted(
        member,
        key_of(input.reward_id, "Reward"),
        input.idempotency_key,
        1 if input.quantity is None else input.quantity,
        input.points,
        input.order_amount,
        input.order_id,
        hold_seconds,
        caller=info.context.principal.member_id,
        source=info.context.principal.credential,
    )
    taken = await info.context.services.redeemer.do(program_of(info), wanted)
    if taken.redemption is None:
        return RedemptionPayload(user_errors=user_errors(taken.errors))
    return RedemptionPayload(
        redemption=Redemption.of(taken.redemption),
        replayed=taken.replayed,
        user_errors=[],
        member_id=taken.redemption.member_id,
    )


async def _step(step: Awaitable[steps.Stepped]) -> RedemptionPayload:
    try:
        redemption, replayed = await step
    except Refused as refused:
        return RedemptionPayload(user_errors=user_errors(refused.errors))
    return RedemptionPayload(
        redemption=Redemption.of(redemption),
        replayed=replayed,
        user_errors=[],
        member_id=redemption.member_id,
    )


@object_type(description="")
class RedemptionMutations:
    @resolver(
        description="Spends points on a reward at once. The same key with the same content answers with the"
        " redemption as it is now; with other content it is IDEMPOTENCY_CONFLICT. Keys of a member's token"
        " are that member's own.",
        scope=Scope.REDEMPTIONS_WRITE,
        member=True,
    )
    async def redeem(
        self, info: Info, input: Annotated[RedeemInput, strawberry.argument(description="The redemption.")]
    ) -> RedemptionPayload:
        return await _take(info, input)

    @resolver(
        description="Sets points aside for a checkout; unless captured in time they come back by themselves."
        " Keys are as for redeem, and stand apart from its.",
        scope=Scope.REDEMPTIONS_WRITE,
        member=True,
    )
    async def reserve(
        self, info: Info, input: Annotated[ReserveInput, strawberry.argument(description="The reservation.")]
    ) -> RedemptionPayload:
        return await _take(info, input, _HOLD_SECONDS if input.hold_seconds is None else input.hold_seconds)

    @resolver(
        description="Spends the points of a reservation, which is CONFIRMED then. It is WRONG_STATE for one"
        " whose time is over.",
        scope=Scope.REDEMPTIONS_WRITE,
        member=True,
    )
    async def capture(
        self, info: Info, input: Annotated[CaptureInput, strawberry.argument(description="The capture.")]
    ) -> RedemptionPayload:
        return await _step(
            steps.capture(
                program_of(info),
                key_of(input.redemption_id, "Redemption"),
                input.idempotency_key,
                input.points,
                caller=info.context.principal.member_id,
            )
        )

    @resolver(
        description="Gives the points of a redemption back to the lots they came from, with their old expiry."
        " Its pieces are there again; codes that were shown are void.",
        scope=Scope.REDEMPTIONS_WRITE,
        member=True,
    )
    async def cancel_redemption(
        self,
        info: Info,
        input: Annotated[CancelRedemptionInput, strawberry.argument(description="The cancellation.")],
    ) -> RedemptionPayload:
        return await _step(
            steps.cancel(
                program_of(info),
                key_of(input.redemption_id, "Redemption"),
                input.reason,
                input.idempotency_key,
                caller=info.context.principal.member_id,
            )
        )

    @resolver(
        description="Notes that goods were handed over or shipped. With the same note again it is answered as"
        " done before.",
        scope=Scope.REDEMPTIONS_WRITE,
    )
    async def mark_redemption_fulfilled(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The id of one that is CONFIRMED.")],
        note: Annotated[
            str | None,
            strawberry.argument(
                description="For support, such as the number of a parcel; 1 to 500 characters."
            ),
        ] = None,
    ) -> RedemptionPayload:
        return await _step(steps.fulfil(program_of(info), key_of(id, "Redemption"), note))

    @resolver(
        description="For the till: spends an issued code once. The redemption is USED when the last of its"
        " codes is.",
        scope=Scope.REDEMPTIONS_WRITE,
    )
    async def use_reward_code(
        self,
        info: Info,
        code: Annotated[
            str, strawberry.argument(description="As the member shows it; spaces around it do not count.")
        ],
        idempotency_key: Annotated[str, strawberry.argument(description=_KEY.format("uses the code"))],
    ) -> RedemptionPayload:
        vault = info.context.services.vault
        return await _step(steps.use_code(program_of(info), code, idempotency_key, vault))
