"""What decides what members can redeem: their status, points and tier, and what they have had before."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app import clock
from app.catalog.eligibility import Had, Standing
from app.database import connection
from app.days import local_date, start_of_day
from app.earning.periods import span
from app.earning.rules import Period
from app.ledger.service import settle, terms
from app.ledger.settling import settle_accounts
from app.programs.policies import load_policy
from app.programs.policy import ProgramPolicy
from app.tiers.reads import load_tiers
from app.tiers.tiers import Tier, starting_tier

# Of the tiers that a member was given for now the one recorded last counts.
_STANDINGS = """
SELECT a.id, m.status, a.available, a.next_due, g.tier_id, p.rules_version,
    a.reserved > 0 AND EXISTS (SELECT FROM redemption r
        WHERE r.member_id = a.id AND r.status = 'RESERVED' AND r.reserved_until <= $3) AS has_run_out
FROM account a JOIN member m ON m.id = a.member_id JOIN program p ON p.id = a.program_id
LEFT JOIN LATERAL (
    SELECT t.tier_id FROM member_tier t
    WHERE t.member_id = a.id AND t.since <= $3 AND (t.until IS NULL OR t.until > $3)
    ORDER BY t.recorded_at DESC, t.id DESC LIMIT 1
) g ON TRUE
WHERE a.program_id = $1 AND a.id = ANY($2::uuid[])
ORDER BY a.id
"""
_LOCK = """
SELECT id FROM account WHERE program_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""

# One after the other: as a join it would read all redemptions of the program, wherever the planner takes
# that for few.
_HAD = """
SELECT t.member_id, t.reward_id, s.ever, s.this_month
FROM unnest($2::uuid[], $3::uuid[]) AS t(member_id, reward_id) CROSS JOIN LATERAL (
    SELECT coalesce(sum(r.quantity), 0)::bigint AS ever,
        coalesce(sum(r.quantity) FILTER (WHERE r.created_at >= $4), 0)::bigint AS this_month
    FROM redemption r
    WHERE r.program_id = $1 AND r.member_id = t.member_id AND r.reward_id = t.reward_id
        AND r.status NOT IN ('CANCELLED', 'EXPIRED')
) s
"""


class Grounds(NamedTuple):
    """What of a program decides, at one version of its rules: the policy, and the tiers by rank."""

    policy: ProgramPolicy
    tiers: Sequence[Tier]

    def tiers_up_to(self, tier_id: UUID | None) -> frozenset[UUID]:
        """Return the tier that a member has, and all below it; None is where everybody starts."""
        start = starting_tier(self.tiers)
        own = next((tier for tier in self.tiers if tier.id == tier_id), start)
        return frozenset(tier.id for tier in self.tiers if own is not None and tier.rank <= own.rank)


_MAX_KEPT = 1000
_kept: dict[UUID, Grounds] = {}


async def load_grounds(sql: asyncpg.Connection, program_id: UUID, version: int) -> Grounds:
    """Return a program's policy and tiers as they are at a version, or later; read once for each version."""
    kept = _kept.get(program_id)
    if kept is not None and kept.policy.version >= version:
        return kept
    policy = await load_policy(sql, program_id)
    grounds = Grounds(policy, await load_tiers(sql, program_id))
    if len(_kept) >= _MAX_KEPT:
        _kept.clear()
    _kept[program_id] = grounds
    return grounds


class Members(NamedTuple):
    """Members of one program, and the grounds on which it is decided about them."""

    grounds: Grounds
    standings: dict[UUID, Standing]
    run_out: list[UUID]
    """Those with reservations whose time is over."""
    moment: datetime
    """The present (UTC), when that was found out."""


async def lock_members(sql: asyncpg.Connection, program_id: UUID, member_ids: Sequence[UUID]) -> Members:
    """Lock the accounts of members until the transaction ends, settle what is due, and return how they stand.

    Args:
        sql: a connection inside a transaction, which holds no reward yet: accounts come first.
        member_ids: of the program; those that it does not have are left out.
    """
    await sql.fetch(_LOCK, program_id, list(member_ids))
    # Whoever waited for the accounts goes by what time it is now, and by what the others have left.
    moment = clock.now()
    rows = await sql.fetch(_STANDINGS, program_id, list(member_ids), moment)
    version = rows[0]["rules_version"] if rows else 0
    grounds = await load_grounds(sql, program_id, version)
    due = _due(grounds.policy, rows, moment)
    if due:
        await settle(sql, terms(grounds.policy, moment), due)
        rows = await sql.fetch(_STANDINGS, program_id, list(member_ids), moment)
    return _members(grounds, rows, moment)


async def load_members(program_id: UUID, member_ids: Sequence[UUID]) -> Members:
    """Return how members stand now; what is due in their accounts is settled first.

    Whoever shows it releases before that what ran out of reservations (`release_due`).
    """
    moment = clock.now()
    async with connection() as sql:
        rows = await sql.fetch(_STANDINGS, program_id, list(member_ids), moment)
        version = rows[0]["rules_version"] if rows else 0
        grounds = await load_grounds(sql, program_id, version)
    due = _due(grounds.policy, rows, moment)
    if due:
        await settle_accounts(grounds.policy, due)
        async with connection() as sql:
            rows = await sql.fetch(_STANDINGS, program_id, list(member_ids), moment)
    return _members(grounds, rows, moment)


def _due(policy: ProgramPolicy, rows: Sequence[asyncpg.Record], moment: datetime) -> list[UUID]:
    """Return the accounts in which something may be due; those of an inactivity policy always may."""
    today = terms(policy, moment).today
    idle = policy.expiry.inactive_months is not None
    return [row["id"] for row in rows if row["next_due"] <= today or (idle and row["available"] > 0)]


def _members(grounds: Grounds, rows: Sequence[asyncpg.Record], moment: datetime) -> Members:
    standings = {
        row["id"]: Standing(row["status"], row["available"], grounds.tiers_up_to(row["tier_id"]))
        for row in rows
    }
    return Members(grounds, standings, [row["id"] for row in rows if row["has_run_out"]], moment)


def month_began(moment: datetime, policy: ProgramPolicy) -> datetime:
    """Return the first instant (UTC) of the calendar month in which a moment falls in the program's zone."""
    return start_of_day(span(local_date(moment, policy.zone), Period.MONTH).first, policy.zone)


async def load_had(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    pairs: Sequence[tuple[UUID, UUID]],
    moment: datetime,
) -> dict[tuple[UUID, UUID], Had]:
    """Return what members have had of rewards, by (member, reward).

    The month is that of the moment in the program's zone. What was cancelled or ran out does not count.
    """
    if not pairs:
        return {}
    since = month_began(moment, policy)
    members, rewards = [list(each) for each in zip(*set(pairs), strict=True)]
    rows = await sql.fetch(_HAD, policy.program_id, members, rewards, since)
    return {(row["member_id"], row["reward_id"]): Had(row["ever"], row["this_month"]) for row in rows}
