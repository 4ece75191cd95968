"""Redemptions, as they are read: what members burned points on, or have set them aside for."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.catalog.rewards import RewardKind
from app.ids import to_global_id
from app.paging import Page, PageResult
from app.redemptions import reads, redemptions
from graphql_schema.access import object_type, resolver
from graphql_schema.catalog import Reward, load_rewards
from graphql_schema.context import Context
from graphql_schema.giveaways import DrawEntry
from graphql_schema.members import Member, load_members
from graphql_schema.nodes import Info, Node, finds, key_of, program_of
from graphql_schema.pagination import (
    AFTER,
    BEFORE,
    FIRST,
    LAST,
    Connection,
    by_page,
    connection,
    page_of,
)
from graphql_schema.redemption_status import RedemptionStatus
from graphql_schema.reservations import released
from graphql_schema.scalars import Points

READ = (Scope.REDEMPTIONS_READ, Scope.REDEMPTIONS_WRITE)


@object_type(
    description="Points that a member burned on a reward, or has set aside for it.", scope=READ, member=True
)
class Redemption(Node):
    status: RedemptionStatus = strawberry.field(description="What has become of it.")
    quantity: int = strawberry.field(description="Pieces.")
    points: Points = strawberry.field(
        description="Of all pieces: set aside, or spent; of a reservation that was captured, what was"
        " captured."
    )
    amount: Decimal | None = strawberry.field(
        description="DISCOUNT: money taken off. GIFT_CARD, and others that are billed: face value of all"
        " pieces, as it was when it was redeemed."
    )
    order_id: str | None = strawberry.field(description="Of the order, as the caller named it.")
    reserved_until: datetime | None = strawberry.field(
        description="Of a reservation: from then on its points come back by themselves."
    )
    created_at: datetime = strawberry.field(description="When it was redeemed, or reserved.")
    updated_at: datetime = strawberry.field(description="When it last changed.")
    redemption: strawberry.Private[redemptions.Redemption]

    @classmethod
    def of(cls, redemption: redemptions.Redemption) -> "Redemption":
        """Return a redemption as the API gives it."""
        return cls(
            id=strawberry.ID(to_global_id("Redemption", redemption.id)),
            status=redemption.status,
            quantity=redemption.quantity,
            points=Points(redemption.points),
            amount=redemption.amount,
            order_id=redemption.order_id,
            reserved_until=redemption.reserved_until,
            created_at=redemption.created_at,
            updated_at=redemption.updated_at,
            redemption=redemption,
        )

    @resolver(description="Whose points they are.")
    async def member(self, info: Info) -> Member:
        member = await info.context.loader(load_members).load(self.redemption.member_id)
        assert member, "members are never deleted"
        return member

    @resolver(description="What they were burned on, as it is now, whatever has become of it.")
    async def reward(self, info: Info) -> Reward:
        reward = await info.context.loader(load_rewards).load(self.redemption.reward_id)
        assert reward, "rewards are never deleted"
        return reward

    @resolver(
        description="VOUCHER and GIFT_CARD: the codes, one for each piece, while it is CONFIRMED, FULFILLED"
        " or USED; empty otherwise."
    )
    async def codes(self, info: Info) -> list[str]:
        own = info.context.principal.member_id
        if own not in (None, self.redemption.member_id) or self.status not in reads.SHOWN:
            return []
        return await info.context.loader(load_codes).load(self.redemption.id)

    @resolver(
        description="GIVEAWAY: what it is in the draw, so that it can be found among the reward's `entries`;"
        " null for one that takes no part, and for other kinds."
    )
    async def draw_entry(self, info: Info) -> DrawEntry | None:
        reward = await self.reward(info)
        return DrawEntry.of_redemption(self.redemption) if reward.kind is RewardKind.GIVEAWAY else None

    @resolver(description="GIVEAWAY: whether it won; null until the winner is drawn, and for other kinds.")
    async def won(self, info: Info) -> bool | None:
        drawn = (await self.reward(info)).reward
        return None if drawn.drawn_at is None else drawn.winner_id == self.redemption.id


async def load_redemptions(context: Context, keys: list[UUID]) -> list[Redemption | None]:
    """Load redemptions of the caller's program; for a member's token nobody else's."""
    program_id, own = context.principal.program_id, context.principal.member_id
    assert program_id
    await released(context)
    found = await reads.get_redemptions(program_id, keys)
    return [Redemption.of(each) if each and own in (None, each.member_id) else None for each in found]


async def load_codes(context: Context, keys: list[UUID]) -> list[list[str]]:
    """Load the codes of redemptions that the caller may see them of."""
    assert context.principal.program_id
    return await reads.get_codes(context.principal.program_id, keys, context.services.vault)


_OfMember = tuple[UUID, tuple[Page, RedemptionStatus | None]]


async def load_pages(context: Context, keys: list[_OfMember]) -> list[PageResult[redemptions.Redemption]]:
    """Load pages of the redemptions of members whom the caller may read.

    One statement for all members of the same page.
    """
    program_id = context.principal.program_id
    assert program_id
    await released(context)
    pages: dict[RedemptionStatus | None, list[tuple[UUID, Page]]] = {}
    for member_id, (page, status) in keys:
        pages.setdefault(status, []).append((member_id, page))
    found: dict[_OfMember, PageResult[redemptions.Redemption]] = {}
    for status, wanted in pages.items():
        load = partial(_of_members, program_id, status)
        for (member_id, page), result in zip(wanted, await by_page(wanted, load), strict=True):
            found[member_id, (page, status)] = result
    return [found[key] for key in keys]


async def _of_members(
    program_id: UUID, status: RedemptionStatus | None, member_ids: Sequence[UUID], page: Page
) -> list[PageResult[redemptions.Redemption]]:
    return await reads.list_of_members(program_id, member_ids, page, status)


def _listed(result: PageResult[redemptions.Redemption]) -> Connection[Redemption]:
    return connection("redemptions", result, Redemption.of, lambda each: (each.id,))


async def redemptions_of(
    context: Context,
    member_id: UUID,
    status: RedemptionStatus | None,
    *,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
) -> Connection[Redemption]:
    """Return a page of the redemptions of a member whom the caller may read."""
    page = page_of("redemptions", (UUID,), first=first, after=after, last=last, before=before)
    return _listed(await context.loader(load_pages).load((member_id, (page, status))))


@finds("Redemption")
async def _find(context: Context, key: UUID | str) -> Redemption | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    return await context.loader(load_redemptions).load(key)


@object_type(description="")
class RedemptionQueries:
    @resolver(
        description="A redemption; null when there is none. A member's token sees its own.",
        scope=READ,
        member=True,
    )
    async def redemption(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The redemption's id.")],
    ) -> Redemption | None:
        return await _find(info.context, key_of(id, "Redemption"))

    @resolver(description="The program's redemptions, the latest first.", scope=READ)
    async def redemptions(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
        status: Annotated[
            RedemptionStatus | None, strawberry.argument(description="Only those in it now.")
        ] = None,
    ) -> Connection[Redemption]:
        page = page_of("redemptions", (UUID,), first=first, after=after, last=last, before=before)
        await released(info.context)
        return _listed(await reads.list_redemptions(program_of(info), page, status))
