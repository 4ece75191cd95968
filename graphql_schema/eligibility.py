"""Whether a member can have a reward now: asked one by one, answered for all rewards of a page at once."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import strawberry

from app.catalog.eligibility import NOTHING_HAD, IneligibleReason, Standing, judge
from app.catalog.reads import Redeemer
from app.catalog.rewards import Reward
from app.database import connection
from app.programs.policy import ProgramPolicy
from app.redemptions.standings import load_had, load_members, month_began
from graphql_schema.access import INHERITED, object_type
from graphql_schema.context import Context
from graphql_schema.enums import enum_type
from graphql_schema.reservations import released
from graphql_schema.scalars import Points

enum_type(
    IneligibleReason,
    description="Why a member cannot redeem a reward now.",
    values={
        "NOT_ACTIVE": "The reward is not ACTIVE.",
        "NOT_STARTED": "The reward's time has not come.",
        "ENDED": "The reward's time is over, or the giveaway's winner is drawn.",
        "OUT_OF_STOCK": "None is left.",
        "NOT_ENOUGH_POINTS": "The member has fewer points than it takes; pointsMissing says how many fewer.",
        "IN_DEBT": "The member owes points; the next ones earned pay them first.",
        "TIER_TOO_LOW": "It is for members of a higher tier.",
        "LIMIT_REACHED": "The member, or all together, have had as many of it as the limits allow.",
        "MEMBER_NOT_ACTIVE": "The member is suspended, or has left.",
    },
)


@object_type(description="Whether a member can have one piece of a reward now.", access=INHERITED)
class Eligibility:
    redeemable: bool = strawberry.field(description="Whether nothing stands against it.")
    reasons: list[IneligibleReason] = strawberry.field(
        description="Everything that stands against it; empty when it can be redeemed. What the member cannot"
        " change comes first."
    )
    points_missing: Points = strawberry.field(
        description="Points that the member lacks for one piece, or for the least of a DISCOUNT; 0 when there"
        " are enough."
    )


class Stand(NamedTuple):
    """How a member stood at a moment (UTC), and by which policy of the program that is judged."""

    standing: Standing
    policy: ProgramPolicy
    moment: datetime


async def load_standings(context: Context, keys: list[UUID]) -> list[Stand | None]:
    """Load how members whom the caller may read stand; reservations that ran out are released first."""
    program_id = context.principal.program_id
    assert program_id
    await released(context)
    members = await load_members(program_id, keys)
    policy, moment = members.grounds.policy, members.moment
    return [
        None if (standing := members.standings.get(key)) is None else Stand(standing, policy, moment)
        for key in keys
    ]


async def stand_of(context: Context, member_id: UUID) -> Stand:
    """Return how one member of the program, whom the caller may read, stands now."""
    stand = await context.loader(load_standings).load(member_id)
    assert stand, "every member has an account"
    return stand


async def redeemer_of(context: Context, member_id: UUID) -> Redeemer:
    """Return a member as the catalog takes them, to list what they can redeem."""
    stand = await stand_of(context, member_id)
    return Redeemer(member_id, stand.standing, month_began(stand.moment, stand.policy))


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A reward, and whom it is about; each is itself alone, for comparing rewards takes long."""

    reward: Reward
    member_id: UUID


async def load_eligibility(context: Context, keys: list[Asked]) -> list[Eligibility]:
    """Load whether members can have rewards: one statement for all whose limits count what members had."""
    members = list(dict.fromkeys(each.member_id for each in keys))
    found = await context.loader(load_standings).load_many(members)
    stands = {member_id: stand for member_id, stand in zip(members, found, strict=True) if stand is not None}
    pairs = [(each.member_id, each.reward.id) for each in keys if each.reward.limits.count_members]
    had = {}
    if pairs:
        _, policy, moment = stands[members[0]]
        async with connection() as sql:
            had = await load_had(sql, policy, pairs, moment)
    judged = []
    for each in keys:
        reward, member_id = each.reward, each.member_id
        stand = stands[member_id]
        verdict = judge(reward, stand.standing, had.get((member_id, reward.id), NOTHING_HAD), stand.moment)
        judged.append(
            Eligibility(
                redeemable=verdict.redeemable,
                reasons=list(verdict.reasons),
                points_missing=Points(verdict.points_missing),
            )
        )
    return judged
