"""Members who climb, for tests: bought in the past, worked off, and what their history says."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.database import connection
from app.earning.events import Incoming
from app.earning.recording import store
from app.members.reads import MemberRow
from app.programs.models import Program
from app.tiers.policy import TierBasis, TierPolicy, TierWindow
from app.tiers.progress import Progress, get_progress
from tests.helpers import by_id, new_program, new_rule, purchase, work_all
from tests.tiers.making import make_tier

SPENT = TierPolicy(TierBasis.AMOUNT_SPENT)
ROLLING = TierPolicy(TierBasis.AMOUNT_SPENT, TierWindow.ROLLING_MONTHS, 12)


async def program_of(policy: TierPolicy, *thresholds: int, **settings: Any) -> tuple[Program, list[UUID]]:
    """Make a program that pays a point for each euro, and a tier for each threshold; return them all."""
    program = await new_program(tier_policy=policy, timezone="Europe/Berlin", **settings)
    await new_rule(program)
    tiers = [(await make_tier(program.id, threshold)).id for threshold in thresholds]
    await work_all(program)
    return program, tiers


async def buy(program: Program, member: MemberRow, *bought: tuple[datetime, Decimal | int]) -> list[str]:
    """Have a member buy things in the past, and workers do what follows; return their external ids."""
    incoming = [Incoming(purchase(amount, occurred_at=moment), by_id(member)) for moment, amount in bought]
    for each in await store(program.id, incoming):
        assert each.event, each.errors
    await work_all(program)
    return [each.content.external_id for each in incoming]


async def progress_of(program: Program, member: MemberRow) -> Progress:
    """Return how far a member has come."""
    (found,) = await get_progress(program.id, [member.id])
    return found


async def tier_of(program: Program, member: MemberRow) -> UUID | None:
    """Return the tier that a member has now; None for none, or the one where everybody starts."""
    current = (await progress_of(program, member)).current
    return current.id if current and current.rank else None


async def told(program: Program, member: MemberRow) -> list[tuple[str, str | None]]:
    """Return what was told of a member's tiers: the topic and the name of the new tier, in order."""
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT topic, payload FROM (SELECT n, topic, payload, program_id, member_id FROM message"
            " UNION ALL SELECT position - 1000000000, topic, payload, program_id, member_id FROM feed) m"
            " WHERE program_id = $1 AND member_id = $2 AND topic LIKE 'tier.%' ORDER BY n",
            program.id,
            member.id,
        )
    return [(row["topic"], row["payload"]["to"] and row["payload"]["to"]["name"]) for row in rows]
