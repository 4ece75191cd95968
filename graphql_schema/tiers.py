"""Tiers: what they are, and who is given one by hand."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.errors import ErrorCode, Refused, refuse
from app.ids import to_global_id
from app.tiers import service, tiers
from app.tiers.inputs import NewTier
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.errors import UserError, user_errors
from graphql_schema.inputs import MemberRef, changes
from graphql_schema.members import Member
from graphql_schema.nodes import Info, Node, finds, key_of, program_of

READ = (Scope.RULES_READ, Scope.RULES_WRITE)


@object_type(description="A level that members reach, and what it brings them.", scope=READ, member=True)
class Tier(Node):
    name: str = strawberry.field(description="For people.")
    rank: int = strawberry.field(
        description="Rank 0 is where everybody starts: the tier with threshold 0. The others follow by"
        " threshold: 1, 2, 3."
    )
    threshold: Decimal = strawberry.field(
        description="What a member must reach within the program's qualification window."
    )
    multiplier: Decimal = strawberry.field(
        description="A factor on the points that its members earn, as of now; events count by what it was"
        " when they happened."
    )
    benefits: list[str] = strawberry.field(description="What else it brings: lines for people.")

    @classmethod
    def of(cls, tier: tiers.Tier) -> "Tier":
        """Return a tier as the API gives it."""
        return cls(
            id=strawberry.ID(to_global_id("Tier", tier.id)),
            name=tier.name,
            rank=tier.rank,
            threshold=tier.threshold,
            multiplier=tier.multiplier,
            benefits=list(tier.benefits),
        )


async def _load_programs(_: Context, keys: list[UUID]) -> list[list[tiers.Tier]]:
    # A credential belongs to one program: there is one key.
    return [await service.get_tiers(program_id) for program_id in keys]


async def tiers_of(context: Context) -> list[tiers.Tier]:
    """Return all tiers of the caller's program, by threshold; read once for each request."""
    program_id = context.principal.program_id
    return [] if program_id is None else await context.loader(_load_programs).load(program_id)


async def load_tiers(context: Context, keys: list[UUID]) -> list[Tier | None]:
    """Load tiers of the caller's program."""
    found = {tier.id: Tier.of(tier) for tier in await tiers_of(context)}
    return [found.get(key) for key in keys]


async def load_member_tiers(context: Context, keys: list[UUID]) -> list[Tier | None]:
    """Load the tiers that members whom the caller may read have now; None where they have none."""
    assert context.principal.program_id
    there = await tiers_of(context)
    if not there:
        return [None] * len(keys)
    found = {tier.id: Tier.of(tier) for tier in there}
    start = tiers.starting_tier(there)
    first = None if start is None else found[start.id]
    given = await service.get_current_tiers(context.principal.program_id, keys)
    return [first if tier_id is None else found[tier_id] for tier_id in given]


@finds("Tier")
async def _find(context: Context, key: UUID | str) -> Tier | None:
    return await context.loader(load_tiers).load(key) if isinstance(key, UUID) else None


@strawberry.input(
    description="A tier. In an update, what is left out stays as it is, and null clears what can be empty."
)
class TierInput:
    name: str = strawberry.field(description="1 to 200 characters.")
    threshold: Decimal = strawberry.field(
        description="What a member must reach within the program's qualification window: 0, which is where"
        " everybody starts, to 10^12. No two tiers have the same."
    )
    multiplier: Decimal | None = strawberry.field(
        description="A factor on the points that its members earn: more than 0, at most 1,000; 1 for a new"
        " tier that does not say. A change counts for what happens from then on.",
        default=strawberry.UNSET,
    )
    benefits: list[str] | None = strawberry.field(
        description="What else it brings: at most 50 lines of 1 to 200 characters; none for a new tier that"
        " does not say.",
        default=strawberry.UNSET,
    )


@strawberry.input(description="Which tier a member is given, and for what time.")
class SetMemberTierInput:
    member: MemberRef = strawberry.field(description="Who is given the tier.")
    tier_id: strawberry.ID | None = strawberry.field(
        description="The tier's id. Null takes the tier away again: the member is where everybody starts.",
        default=None,
    )
    since: datetime | None = strawberry.field(
        description="From when on it counts, for events that come in late; now by default.", default=None
    )
    until: datetime | None = strawberry.field(
        description="The first moment at which it does not count any more; null for good.", default=None
    )
    reason: str = strawberry.field(description="Why, for support; 1 to 500 characters.")


@object_type(description="The tier as it is now.", access=INHERITED)
class TierPayload:
    tier: Tier | None = strawberry.field(description="Null when nothing was done.", default=None)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="The member, with the tier that they have now.", access=INHERITED)
class SetMemberTierPayload:
    member: Member | None = strawberry.field(description="Null when nothing was done.", default=None)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


def _sent(input: TierInput) -> dict[str, Any]:
    """Return what was sent, as services take it."""
    sent = changes(input)
    if "multiplier" in sent and sent["multiplier"] is None:
        raise refuse(ErrorCode.INVALID, "It can be left out, but not be null.", "multiplier")
    if "benefits" in sent:
        sent["benefits"] = tuple(sent["benefits"] or ())
    return sent


@object_type(description="")
class TierQueries:
    @resolver(description="The program's tiers, the lowest first.", scope=READ, member=True)
    async def tiers(self, info: Info) -> list[Tier]:
        return [Tier.of(tier) for tier in await tiers_of(info.context)]


@object_type(description="")
class TierMutations:
    @resolver(description="Makes a tier. The ranks of the others follow.", scope=Scope.RULES_WRITE)
    async def create_tier(
        self, info: Info, input: Annotated[TierInput, strawberry.argument(description="The tier.")]
    ) -> TierPayload:
        try:
            tier = await service.create_tier(program_of(info), NewTier(**_sent(input)))
        except Refused as refused:
            return TierPayload(user_errors=user_errors(refused.errors))
        return TierPayload(tier=Tier.of(tier), user_errors=[])

    @resolver(
        description="Changes a tier. What happened before counts by the multiplier that it had then.",
        scope=Scope.RULES_WRITE,
    )
    async def update_tier(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The tier's id.")],
        input: Annotated[TierInput, strawberry.argument(description="The changes.")],
    ) -> TierPayload:
        try:
            tier = await service.update_tier(program_of(info), key_of(id, "Tier"), _sent(input))
        except Refused as refused:
            return TierPayload(user_errors=user_errors(refused.errors))
        return TierPayload(tier=Tier.of(tier), user_errors=[])

    @resolver(
        description="Gives a member a tier by hand, until a time or for good, or takes it away. Where times"
        " overlap, what was said last counts. Points that were earned before stay as they are.",
        scope=Scope.MEMBERS_WRITE,
    )
    async def set_member_tier(
        self,
        info: Info,
        input: Annotated[SetMemberTierInput, strawberry.argument(description="The tier, and to whom.")],
    ) -> SetMemberTierPayload:
        try:
            row = await service.set_member_tier(
                program_of(info),
                input.member.value(),
                None if input.tier_id is None else key_of(input.tier_id, "Tier"),
                input.since,
                input.until,
                input.reason,
                info.context.principal.credential,
            )
        except Refused as refused:
            return SetMemberTierPayload(user_errors=user_errors(refused.errors))
        return SetMemberTierPayload(member=Member.of(row), user_errors=[])
