"""The catalog, as it is read: rewards, what is left of them, and whether a member can have them."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import strawberry

from app import clock
from app.access.scopes import Scope
from app.catalog import reads, rewards
from app.catalog.rewards import RewardKind, RewardStatus
from app.errors import Denied, ErrorCode, refuse
from app.ids import to_global_id
from app.members.reads import get_member
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.eligibility import Asked, Eligibility, load_eligibility, redeemer_of
from graphql_schema.enums import enum_type
from graphql_schema.giveaways import RULE, DrawEntry, entries_of, load_winning
from graphql_schema.inputs import MemberRef
from graphql_schema.nodes import Info, Node, finds, key_of, later, program_of
from graphql_schema.pagination import AFTER, BEFORE, FIRST, LAST, Connection, connection, page_of
from graphql_schema.reservations import released
from graphql_schema.scalars import Points
from graphql_schema.tiers import Tier, load_tiers

READ = (Scope.CATALOG_READ, Scope.CATALOG_WRITE, Scope.REDEMPTIONS_READ, Scope.REDEMPTIONS_WRITE)

enum_type(
    RewardKind,
    description="What a reward is.",
    values={
        "VOUCHER": "A code from an uploaded pool, or a generated one.",
        "GIFT_CARD": "A code with a face value, billed when it is redeemed.",
        "PRODUCT": "Goods that someone ships or hands over.",
        "DISCOUNT": "Money off an order, at the reward's rate of points to money.",
        "SERVICE": "Something that is done for the member.",
        "DONATION": "Money that goes to somebody else in the member's name.",
        "GIVEAWAY": "An entry in a draw.",
    },
)
enum_type(
    RewardStatus,
    description="Whether a reward can be redeemed.",
    values={
        "DRAFT": "Not announced yet: members see nothing of it.",
        "ACTIVE": "In the catalog.",
        "PAUSED": "Out of the catalog for now; what was reserved can still be captured.",
        "ARCHIVED": "Out of the catalog for good.",
    },
)


@object_type(description="What keeps a reward from costing too much; null is no limit.", access=INHERITED)
class RewardLimits:
    max_per_member: int | None = strawberry.field(description="Pieces that one member can ever have.")
    max_per_member_per_month: int | None = strawberry.field(
        description="Pieces that one member can have in a month of the program's calendar."
    )
    max_total: int | None = strawberry.field(description="Pieces that all members can have together.")
    max_share_of_order: Decimal | None = strawberry.field(
        description="DISCOUNT: largest share of an order, 0 to 1."
    )
    min_points: Points | None = strawberry.field(
        description="DISCOUNT: the fewest points that can be spent on an order."
    )

    @classmethod
    def of(cls, limits: rewards.RewardLimits) -> "RewardLimits":
        """Return limits as the API gives them."""
        return cls(
            max_per_member=limits.max_per_member,
            max_per_member_per_month=limits.max_per_member_per_month,
            max_total=limits.max_total,
            max_share_of_order=limits.max_share_of_order,
            min_points=None if limits.min_points is None else Points(limits.min_points),
        )


@object_type(
    description="What members burn points on. A member's token finds every reward by its id that is not a"
    " DRAFT, and in the catalog those that are active and not over.",
    scope=READ,
    member=True,
)
class Reward(Node):
    kind: RewardKind = strawberry.field(description="What it is; that never changes.")
    name: str = strawberry.field(description="For people.")
    description: str | None = strawberry.field(description="For people, in more words.")
    image_url: str | None = strawberry.field(description="Where its picture is.")
    status: RewardStatus = strawberry.field(description="Whether it can be redeemed.")
    points: Points | None = strawberry.field(
        description="Price of one piece in points; null for DISCOUNT, which has a rate."
    )
    points_per_currency_unit: Decimal | None = strawberry.field(
        description="DISCOUNT: so many points take one unit of the program's currency off."
    )
    face_value: Decimal | None = strawberry.field(
        description="What one piece is billed at, in the program's currency; null for what is not billed."
    )
    limits: RewardLimits = strawberry.field(description="How much of it can be had.")
    stock: int | None = strawberry.field(
        description="Pieces that can still be had: what is left of the stock, and codes of the pool that"
        " nobody has. Null is without end."
    )
    starts_at: datetime | None = strawberry.field(description="It can be redeemed from then on.")
    ends_at: datetime | None = strawberry.field(description="From then on it cannot be redeemed any more.")
    draw_seed_hash: str | None = strawberry.field(
        description="GIVEAWAY: SHA-256 of the 32 bytes of the seed, as 64 hex digits, shown from the start."
    )
    reward: strawberry.Private[rewards.Reward]
    about: strawberry.Private[UUID | None] = None
    """Whom the query is about, where that is not the signed-in member."""

    @classmethod
    def of(cls, reward: rewards.Reward, about: UUID | None = None) -> "Reward":
        """Return a reward as the API gives it; `about` is the member whom a key asks for."""
        return cls(
            id=strawberry.ID(to_global_id("Reward", reward.id)),
            kind=reward.kind,
            name=reward.name,
            description=reward.description,
            image_url=reward.image_url,
            status=reward.status,
            points=None if reward.points is None else Points(reward.points),
            points_per_currency_unit=reward.points_per_currency_unit,
            face_value=reward.face_value,
            limits=RewardLimits.of(reward.limits),
            stock=reward.stock.left,
            starts_at=reward.starts_at,
            ends_at=reward.ends_at,
            draw_seed_hash=None if reward.draw_seed_hash is None else reward.draw_seed_hash.hex(),
            reward=reward,
            about=about,
        )

    @resolver(
        description="It is for members of the lowest of these tiers, and of all above; empty for everybody."
    )
    def tiers(self, info: Info) -> list[Tier]:
        return later(_find_tiers(info.context, self.reward.tiers)) if self.reward.tiers else []

    @resolver(
        description="GIVEAWAY: the 32 bytes of the seed that decided who won, as 64 hex digits; null until"
        f" the winner is drawn. {RULE}"
    )
    def draw_seed(self, info: Info) -> str | None:
        reward = self.reward
        if reward.drawn_at is None or reward.draw_seed is None:
            return None
        return info.context.services.vault.open(reward.draw_seed, reward.id).hex()

    @resolver(description="GIVEAWAY: when the winner was drawn; null until then.")
    def drawn_at(self) -> datetime | None:
        return self.reward.drawn_at

    @resolver(
        description="GIVEAWAY: the entry that won, without whose it is; null until the winner is drawn."
    )
    async def winning_entry(self, info: Info) -> DrawEntry | None:
        if self.reward.winner_id is None:
            return None
        return await info.context.loader(load_winning).load(self.reward.winner_id)

    @resolver(
        description="GIVEAWAY: who takes part, without names, before the draw and after it, which leaves the"
        " list as it is. In the order of their keys: in which they were asked for. Empty for other kinds."
    )
    async def entries(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
    ) -> Connection[DrawEntry]:
        return await entries_of(
            info.context, self.reward.id, first=first, after=after, last=last, before=before
        )

    @resolver(
        description="For the member that the query is about: can it be redeemed now, and if not, why. That"
        " is the signed-in member, or for an API key the catalog's `forMember`; null where there is neither."
    )
    def eligibility(self, info: Info) -> Eligibility | None:
        own = info.context.principal.member_id
        member_id = self.about if own is None else own
        if member_id is None:
            return None
        return later(info.context.loader(load_eligibility).load(Asked(self.reward, member_id)))


async def _find_tiers(context: Context, tier_ids: Sequence[UUID]) -> list[Tier]:
    found = await context.loader(load_tiers).load_many(tier_ids)
    return [tier for tier in found if tier is not None]


async def load_rewards(context: Context, keys: list[UUID]) -> list[Reward | None]:
    """Load rewards of the caller's program, whatever their status is."""
    assert context.principal.program_id
    await released(context)
    found = await reads.get_rewards(context.principal.program_id, keys)
    return [None if reward is None else Reward.of(reward) for reward in found]


@finds("Reward")
async def _find(context: Context, key: UUID | str) -> Reward | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    reward = await context.loader(load_rewards).load(key)
    is_hidden = context.principal.member_id is not None and reward and reward.status is RewardStatus.DRAFT
    return None if is_hidden else reward


@strawberry.input(description="Which rewards are wanted: those that meet all that is said.")
class CatalogFilter:
    kinds: list[RewardKind] | None = strawberry.field(
        description="Of these kinds; of all when left out, null or empty.", default=None
    )
    max_points: Points | None = strawberry.field(
        description="That cost no more than this; of a DISCOUNT the fewest points with which it can be had.",
        default=None,
    )
    redeemable_only: bool | None = strawberry.field(
        description="Only what the member that the query is about could redeem now; an API key has to say"
        " `forMember`.",
        default=None,
    )
    search: str | None = strawberry.field(
        description="With this in the name or the description, upper and lower case being the same; at most"
        " 200 characters.",
        default=None,
    )


async def _about(info: Info, named: MemberRef | None) -> UUID | None:
    """Return whom the catalog is read for; None for a key that names nobody.

    Raises:
        Refused: NOT_FOUND, a key names a member whom the program does not have.
        Denied: a member's token names somebody else, or nobody.
    """
    own = info.context.principal.member_id
    if named is None:
        return own
    ref = named.value()
    row = await get_member(program_of(info), ref)
    if own is not None:
        if row is None or row.id != own:
            raise Denied("A member's token reads the catalog for that member and nobody else.")
        return own
    if row is None:
        raise refuse(ErrorCode.NOT_FOUND, "There is no such member.", "for_member", ref.field)
    return row.id


@object_type(description="")
class CatalogQueries:
    @resolver(
        description="The program's rewards, the oldest first. What the signed-in member can see: those that"
        " are active and not over; for an API key, everything.",
        scope=READ,
        member=True,
    )
    async def catalog(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
        filter: Annotated[CatalogFilter | None, strawberry.argument(description="Only those.")] = None,
        for_member: Annotated[
            MemberRef | None,
            strawberry.argument(
                description="For API keys: whom `eligibility` and `redeemableOnly` are about. A signed-in"
                " member may name nobody else."
            ),
        ] = None,
    ) -> Connection[Reward]:
        page = page_of("catalog", (UUID,), first=first, after=after, last=last, before=before)
        about, said = await _about(info, for_member), filter or CatalogFilter()
        redeemer = None
        if said.redeemable_only:
            if about is None:
                message = "Say forMember: what can be redeemed depends on the member."
                raise refuse(ErrorCode.INVALID, message, "filter", "redeemable_only")
            redeemer = await redeemer_of(info.context, about)
        wanted = reads.CatalogFilter(
            kinds=said.kinds or None,
            max_points=said.max_points,
            search=said.search,
            on_display=info.context.principal.member_id is not None,
            redeemable_by=redeemer,
        )
        await released(info.context)
        result = await reads.list_rewards(program_of(info), page, clock.now(), wanted)
        return connection(
            "catalog", result, lambda reward: Reward.of(reward, about), lambda reward: (reward.id,)
        )

    @resolver(
        description="A reward; null when there is none. A member's token sees every one that is not a DRAFT.",
        scope=READ,
        member=True,
    )
    async def reward(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The reward's id.")]
    ) -> Reward | None:
        return await _find(info.context, key_of(id, "Reward"))
