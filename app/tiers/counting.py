"""What counts towards tiers, read: of each thing what refunds have left."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from app.tiers.policy import TierBasis
from app.tiers.qualification import Counted

# One row for each event that counts: `e` is the event, `value` how much it counts. Points that a refund took
# back, money that it gave back, and purchases of which nothing is left do not. What was paid with points is
# no money spent, unless the program lets such payments earn ($2).
_REFUNDED = """
LEFT JOIN LATERAL ( /* scoped by: event */
    SELECT sum(f.amount) AS amount, bool_or(f.whole) AS whole FROM refund f WHERE f.event_id = e.id
) back ON TRUE
"""
# Nearly all purchases were taken: to look for the few that wait or were rejected, in small indexes, costs
# less than finding the outcomes of all the others.
_TAKEN = """
e.kind = 'PURCHASE' AND NOT EXISTS ( /* scoped by: event */
    SELECT FROM event_outcome o WHERE o.event_id = e.id AND o.rejection IS NOT NULL
) AND NOT EXISTS ( /* scoped by: event */
    SELECT FROM event_queue q
    WHERE q.member_id = e.member_id AND q.occurred_at = e.occurred_at AND q.event_id = e.id
)
"""

SOURCES: Mapping[TierBasis, tuple[str, str]] = {
    TierBasis.POINTS_EARNED: (
        "CROSS JOIN LATERAL ( /* scoped by: event */"
        " SELECT sum(a.remaining) AS points FROM award a WHERE a.event_id = e.id) w",
        "w.points",
    ),
    TierBasis.AMOUNT_SPENT: (
        _REFUNDED,
        """(e.amount - coalesce(back.amount, 0)) - CASE WHEN $2 OR coalesce(e.points_amount, 0) = 0 THEN 0
            ELSE round((e.amount - coalesce(back.amount, 0)) * e.points_amount / e.amount, 6) END""",
    ),
    TierBasis.PURCHASES: (
        _REFUNDED,
        """(NOT coalesce(back.whole OR (back.amount >= e.amount AND e.amount > 0), FALSE))::integer""",
    ),
}
"""By what is counted: what to join with `event e`, and the value of one."""

ONLY: Mapping[TierBasis, str] = {
    TierBasis.POINTS_EARNED: "TRUE",
    TierBasis.AMOUNT_SPENT: _TAKEN,
    TierBasis.PURCHASES: _TAKEN,
}
"""Which events can count at all."""

_COUNTED = {
    basis: f"""
SELECT e.member_id, e.occurred_at, x.value
FROM event e {joined} CROSS JOIN LATERAL (SELECT ({value})::numeric AS value) x
WHERE e.program_id = $1 AND e.member_id = ANY($3::uuid[]) AND {ONLY[basis]} AND x.value > 0
    AND ($2 OR NOT $2) /* every statement has the same parameters */
ORDER BY e.member_id, e.occurred_at, e.id
"""  # noqa: S608 - nothing but constants
    for basis, (joined, value) in SOURCES.items()
}


async def read_counted(
    sql: asyncpg.Connection,
    program_id: UUID,
    basis: TierBasis,
    with_points_payments: bool,
    members: Sequence[UUID],
) -> dict[UUID, list[Counted]]:
    """Return all that ever counted towards the tiers of members, by member, in order of occurrence.

    One statement for all members, along the index of their events.

    Args:
        with_points_payments: whether what was paid with points counts as spent.
    """
    found: dict[UUID, list[Counted]] = {member: [] for member in members}
    for row in await sql.fetch(_COUNTED[basis], program_id, with_points_payments, list(members)):
        moment: datetime = row["occurred_at"]
        found[row["member_id"]].append(Counted(moment, row["value"]))
    return found
