"""Tiers, read: those of a program, and which one a member had at a moment."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from app.tiers.tiers import Factor, Tier, ranked

_TIERS = """
SELECT t.id, t.name, t.threshold, t.multiplier, t.benefits, t.created_at, t.updated_at,
    f.since, f.names, f.multipliers, h.thresholds_since, h.thresholds
FROM tier t CROSS JOIN LATERAL (
    SELECT array_agg(since ORDER BY since) AS thresholds_since,
        array_agg(threshold ORDER BY since) AS thresholds
    FROM tier_threshold WHERE tier_id = t.id
) h CROSS JOIN LATERAL (
    SELECT array_agg(since ORDER BY since) AS since, array_agg(name ORDER BY since) AS names,
        array_agg(multiplier ORDER BY since) AS multipliers
    FROM tier_factor WHERE tier_id = t.id
) f
WHERE t.program_id = $1
"""

# One walk along the index for each moment, from what was recorded last: whatever is known of the table.
_AT = """
SELECT g.tier_id FROM unnest($2::uuid[], $3::timestamptz[]) WITH ORDINALITY AS t(member_id, moment, n)
LEFT JOIN LATERAL (
    SELECT m.tier_id FROM member_tier m
    WHERE m.program_id = $1 AND m.member_id = t.member_id
        AND m.since <= t.moment AND (m.until IS NULL OR m.until > t.moment)
    ORDER BY m.recorded_at DESC, m.id DESC LIMIT 1
) g ON TRUE
ORDER BY t.n
"""


def factors_from_row(row: asyncpg.Record) -> tuple[Factor, ...]:
    """Return the factors in the three lists of a row: `since`, `names` and `multipliers`."""
    return tuple(map(Factor, row["since"], row["names"], row["multipliers"]))


async def load_tiers(sql: asyncpg.Connection, program_id: UUID) -> list[Tier]:
    """Return all tiers of a program, by threshold.

    Args:
        sql: any connection; within a transaction it sees what that has written.
    """
    return ranked(
        [
            Tier(
                id=row["id"],
                name=row["name"],
                rank=0,
                threshold=row["threshold"],
                multiplier=row["multiplier"],
                benefits=tuple(row["benefits"]),
                factors=factors_from_row(row),
                created_at=row["created_at"],
                updated_at=row["updated_at"],
                thresholds=tuple(zip(row["thresholds_since"] or (), row["thresholds"] or (), strict=True)),
            )
            for row in await sql.fetch(_TIERS, program_id)
        ]
    )


async def tiers_at(
    sql: asyncpg.Connection, program_id: UUID, moments: Sequence[tuple[UUID, datetime]]
) -> list[UUID | None]:
    """Return which tier each member was given for a moment, in the order of the pairs.

    None stands for no tier by hand: the member is, or is again, where everybody starts. Of the
    assignments that cover a moment the one recorded last counts. One statement for all.
    """
    if not moments:
        return []
    members, times = zip(*moments, strict=True)
    return [row["tier_id"] for row in await sql.fetch(_AT, program_id, members, times)]
