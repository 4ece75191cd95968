"""Tiers for tests, and what goes with them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.database import connection
from app.tiers.inputs import NewTier
from app.tiers.reads import tiers_at
from app.tiers.service import create_tier
from app.tiers.tiers import Tier


def at(*moment: int) -> datetime:
    """Return a moment in UTC."""
    return datetime(*moment, tzinfo=UTC)  # type: ignore[arg-type,misc]


async def make_tier(program_id: UUID, threshold: Decimal | str | int = 0, **fields: Any) -> Tier:
    """Make a tier: the one where everybody starts, unless told otherwise."""
    return await create_tier(
        program_id, NewTier(**({"name": f"Tier {threshold}", "threshold": Decimal(threshold)} | fields))
    )


async def tier_at(program_id: UUID, member_id: UUID, moment: datetime) -> UUID | None:
    """Return which tier one member was given for a moment."""
    async with connection() as sql:
        (found,) = await tiers_at(sql, program_id, [(member_id, moment)])
    return found


async def version_of(program_id: UUID) -> int:
    """Return the version of a program's rule set."""
    async with connection() as sql:
        return await sql.fetchval("SELECT rules_version FROM program WHERE id = $1", program_id)
