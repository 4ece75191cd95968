"""Reservations that run out: released by whoever needs what they hold, and swept by the workers."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import structlog

from app import clock
from app.database import connection, retrying, transaction
from app.metrics import ERRORS, REDEMPTIONS
from app.redemptions.redemptions import COLUMNS, Redemption, RedemptionStatus, redemption_from_row
from app.redemptions.returning import end
from app.redemptions.standings import lock_members

log = structlog.get_logger("laurel.redemptions")

_BATCH = 200
_MAX_BATCHES = 10
"""Of reservations of the same members, before somebody gives up."""

_DUE = f"""
SELECT {COLUMNS} FROM redemption /* scoped by: worker */
WHERE status = 'RESERVED' AND reserved_until <= $1"""  # noqa: S608 - nothing but constants
_DUE_ANYWHERE = f"{_DUE} AND id <> ALL($2::uuid[]) ORDER BY reserved_until, id LIMIT $3"
_DUE_OF = f"{_DUE} AND program_id = $4 AND id <> ALL($2::uuid[])"
_DUE_OF_MEMBERS = f"{_DUE_OF} AND member_id = ANY($5::uuid[]) ORDER BY reserved_until, id LIMIT $3"
_DUE_OF_REWARDS = f"{_DUE_OF} AND reward_id = ANY($5::uuid[]) ORDER BY reserved_until, id LIMIT $3"
_HOLDING = """
SELECT DISTINCT reward_id FROM redemption
WHERE program_id = $1 AND reward_id = ANY($2::uuid[]) AND status = 'RESERVED' AND reserved_until <= $3
"""
_STILL_DUE = f"{_DUE} AND program_id = $2 AND id = ANY($3::uuid[])"


async def release_of_members(program_id: UUID, member_ids: Collection[UUID]) -> int:
    """Release all that ran out of members' reservations; return how many that were."""
    return await _release_due(program_id, _DUE_OF_MEMBERS, member_ids, _MAX_BATCHES * _BATCH)


async def release_of_rewards(program_id: UUID, reward_ids: Collection[UUID]) -> int:
    """Release what ran out of reservations of rewards, 200 at the most; return how many that were."""
    return await _release_due(program_id, _DUE_OF_REWARDS, reward_ids, 1)


async def with_reservations_due(
    sql: asyncpg.Connection, program_id: UUID, reward_ids: Collection[UUID], moment: datetime
) -> set[UUID]:
    """Return those of the rewards of which reservations hold pieces that ran out.

    Args:
        sql: a connection inside a transaction that holds what is left of the rewards: so nobody releases
            any in between.
    """
    rows = await sql.fetch(_HOLDING, program_id, list(reward_ids), moment)
    return {row["reward_id"] for row in rows}


async def _release_due(program_id: UUID, statement: str, ids: Collection[UUID], enough: int) -> int:
    total, stuck = 0, list[UUID]()
    for _ in range(_MAX_BATCHES):
        async with connection() as sql:
            rows = await sql.fetch(statement, clock.now(), stuck, _BATCH, program_id, list(ids))
        released = await release(program_id, [redemption_from_row(row) for row in rows])
        total += released
        if len(rows) < _BATCH or total >= enough:
            break
        if released < len(rows):
            # Most of them somebody else has released meanwhile; nobody can release the others.
            stuck += [row["id"] for row in rows]
    return total


async def release(program_id: UUID, redemptions: Sequence[Redemption]) -> int:
    """Release reservations of one program that ran out, in one transaction; return how many that were.

    Safe to call twice and at once: what somebody else released, or captured just in time, is left alone.
    What belongs to an account whose books disagree stays as it is, and the log says so.
    """
    if not redemptions:
        return 0
    ids = [each.id for each in redemptions]

    async def work() -> int:
        async with transaction() as sql:
            members = await lock_members(sql, program_id, sorted({each.member_id for each in redemptions}))
            rows = await sql.fetch(_STILL_DUE, members.moment, program_id, ids)
            due = [redemption_from_row(row) for row in rows]
            if due:
                policy = members.grounds.policy
                await end(sql, policy, due, RedemptionStatus.EXPIRED, None, members.moment)
            return len(due)

    try:
        released = await retrying(work)
    except (asyncpg.PostgresError, AssertionError):
        if len(redemptions) == 1:
            ERRORS.labels("redemptions").inc()
            log.exception("reservation_not_released", redemption_id=str(ids[0]))
            return 0
        # Halves, until those to blame stand alone: they must not hold up the others.
        middle = len(redemptions) // 2
        return await release(program_id, redemptions[:middle]) + await release(
            program_id, redemptions[middle:]
        )
    REDEMPTIONS.labels("expired").inc(released)
    return released


async def sweep() -> int:
    """Release every reservation that ran out, in every program; return how many that were."""
    total, stuck = 0, list[UUID]()
    while True:
        async with connection() as sql:
            rows = await sql.fetch(_DUE_ANYWHERE, clock.now(), stuck, _BATCH)
        if not rows:
            return total
        programs: dict[UUID, list[Redemption]] = {}
        for row in rows:
            programs.setdefault(row["program_id"], []).append(redemption_from_row(row))
        for program_id, redemptions in programs.items():
            released = await release(program_id, redemptions)
            total += released
            if released < len(redemptions):
                # Most of them somebody else has released meanwhile; the others are left for the next sweep.
                stuck += [each.id for each in redemptions]
