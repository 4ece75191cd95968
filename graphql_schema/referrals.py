"""Referrals, as they are read: who brought whom, and what both got for it."""

from datetime import datetime
from functools import partial
from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.ids import to_global_id
from app.paging import Page, PageResult
from app.referrals import reads
from app.referrals.reads import ReferralRead
from app.referrals.referrals import ReferralRejection, ReferralStatus
from graphql_schema.access import object_type, resolver
from graphql_schema.context import Context
from graphql_schema.enums import enum_type
from graphql_schema.members import READ, Member, load_members
from graphql_schema.nodes import Info, Node, finds, program_of
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
from graphql_schema.scalars import Points

enum_type(
    ReferralStatus,
    description="What has become of a referral.",
    values={
        "PENDING": "What the rules ask of the friend has not happened yet. Also when the friend's first"
        " purchase was refunded as a whole and all that it brought was taken back: then the next purchase"
        " recorded after that refund counts.",
        "CREDITED": "Both sides have been given what the rules give. It stays so when not all of that could"
        " be taken back after a whole refund: no later purchase brings anything then.",
        "REJECTED": "It brings nothing, and never will; `rejection` tells why.",
    },
)
enum_type(
    ReferralRejection,
    description="Why a referral brings nothing.",
    values={
        "SELF_REFERRAL": "A member gave their own code.",
        "SAME_IDENTITY": "Both have the same e-mail address or phone number, perhaps in another spelling.",
        "LIMIT_REACHED": "The limits of the rules left nothing to the referrer.",
        "NO_ACTIVE_RULE": "No rule paid for it at the time.",
        "REFERRER_NOT_ACTIVE": "The referrer was suspended, or had left.",
    },
)


@object_type(
    description="A member who brought a friend. A member's token sees its own: what has become of each,"
    " but not who the friend is.",
    scope=READ,
    member=True,
)
class Referral(Node):
    status: ReferralStatus = strawberry.field(description="What has become of it.")
    rejection: ReferralRejection | None = strawberry.field(description="REJECTED: why; null for all others.")
    referrer_points: Points = strawberry.field(
        description="What it gave the referrer, pending points included, less what was taken back."
    )
    referred_points: Points = strawberry.field(
        description="What it gave the friend, pending points included, less what was taken back."
    )
    created_at: datetime = strawberry.field(description="When the friend enrolled.")
    credited_at: datetime | None = strawberry.field(
        description="CREDITED: when both sides had been given their points; null for all others."
    )
    read: strawberry.Private[ReferralRead]

    @classmethod
    def of(cls, read: ReferralRead) -> "Referral":
        """Return a referral as the API gives it."""
        referral = read.referral
        return cls(
            id=strawberry.ID(to_global_id("Referral", referral.id)),
            status=referral.status,
            rejection=referral.rejection,
            referrer_points=Points(read.referrer_points),
            referred_points=Points(read.referred_points),
            created_at=referral.created_at,
            credited_at=referral.credited_at,
            read=read,
        )

    @resolver(description="Whose code it was.", scope=READ)
    async def referrer(self, info: Info) -> Member:
        return await _member(info.context, self.read.referral.referrer_id)

    @resolver(description="The friend who enrolled with the code.", scope=READ)
    async def referred(self, info: Info) -> Member:
        return await _member(info.context, self.read.referral.referred_id)


async def _member(context: Context, member_id: UUID) -> Member:
    member = await context.loader(load_members).load(member_id)
    assert member, "members are never deleted"
    return member


async def load_referrals(context: Context, keys: list[UUID]) -> list[Referral | None]:
    """Load referrals of the caller's program; for a member's token those of friends whom it brought."""
    program_id, own = context.principal.program_id, context.principal.member_id
    assert program_id
    found = await reads.get_referrals(program_id, keys)
    return [
        Referral.of(each) if each and own in (None, each.referral.referrer_id) else None for each in found
    ]


async def load_referrers(context: Context, keys: list[UUID]) -> list[UUID | None]:
    """Load who brought members whom the caller may read."""
    assert context.principal.program_id
    return await reads.get_referrers(context.principal.program_id, keys)


async def load_pages(context: Context, keys: list[tuple[UUID, Page]]) -> list[PageResult[ReferralRead]]:
    """Load pages of the referrals of members whom the caller may read: one statement for all of a page."""
    assert context.principal.program_id
    return await by_page(keys, partial(reads.list_of_referrers, context.principal.program_id))


def _listed(result: PageResult[ReferralRead]) -> Connection[Referral]:
    return connection("referrals", result, Referral.of, lambda each: (each.referral.id,))


async def referrals_of(
    context: Context,
    member_id: UUID,
    *,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
) -> Connection[Referral]:
    """Return a page of the referrals of a member whom the caller may read."""
    page = page_of("referrals", (UUID,), first=first, after=after, last=last, before=before)
    return _listed(await context.loader(load_pages).load((member_id, page)))


@finds("Referral")
async def _find(context: Context, key: UUID | str) -> Referral | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    return await context.loader(load_referrals).load(key)


@object_type(description="")
class ReferralQueries:
    @resolver(description="The program's referrals, the latest first.", scope=Scope.MEMBERS_READ)
    async def referrals(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
        status: Annotated[
            ReferralStatus | None, strawberry.argument(description="Only those in it now.")
        ] = None,
    ) -> Connection[Referral]:
        page = page_of("referrals", (UUID,), first=first, after=after, last=last, before=before)
        return _listed(await reads.list_referrals(program_of(info), page, status))
