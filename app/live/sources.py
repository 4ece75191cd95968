"""What can be watched live, and how its state is read."""

from collections.abc import Hashable, Mapping, Sequence
from time import monotonic
from uuid import UUID

from app.database import connection
from app.jobs.jobs import Job, get_jobs
from app.ledger.reads import Balance, get_balances
from app.live.hub import Source
from app.programs.policies import recent_policy
from app.tiers.progress import Progress, get_progress

# Each entry of the ledger has the next number: what has none has changed nothing.
_ACCOUNTS = "SELECT id, sequence FROM account WHERE id = ANY($1::uuid[]) /* scoped by: account */"
_JOBS = "SELECT id, status, done, total FROM job WHERE id = ANY($1::uuid[]) /* scoped by: worker */"

_TIERS = """
SELECT a.id, a.sequence, s.tier_id, s.evaluated_at,
    (SELECT max(g.recorded_at) FROM member_tier g WHERE g.member_id = a.id) AS given_at
FROM account a LEFT JOIN tier_standing s ON s.member_id = a.id
WHERE a.id = ANY($1::uuid[]) /* scoped by: account */
"""
# What moves with time, with the program's thresholds, or with purchases without points is seen so late.
_TIERS_SECONDS = 10.0


async def _account_versions(ids: Sequence[UUID]) -> Mapping[UUID, Hashable]:
    async with connection() as sql:
        return {row["id"]: row["sequence"] for row in await sql.fetch(_ACCOUNTS, ids)}


async def _load_balances(program_id: UUID, ids: Sequence[UUID]) -> list[Balance | None]:
    return await get_balances(await recent_policy(program_id), ids)


async def _job_versions(ids: Sequence[UUID]) -> Mapping[UUID, Hashable]:
    async with connection() as sql:
        return {row["id"]: tuple(row) for row in await sql.fetch(_JOBS, ids)}


async def _load_jobs(program_id: UUID, ids: Sequence[UUID]) -> list[Job | None]:
    return await get_jobs(program_id, ids)


async def _tier_versions(ids: Sequence[UUID]) -> Mapping[UUID, Hashable]:
    turn = monotonic() // _TIERS_SECONDS
    async with connection() as sql:
        return {row["id"]: (*row, turn) for row in await sql.fetch(_TIERS, ids)}


async def _load_progress(program_id: UUID, ids: Sequence[UUID]) -> list[Progress]:
    return await get_progress(program_id, ids)


BALANCES = Source("balances", _account_versions, _load_balances)
"""Balances, by the member's id: `app.ledger.reads.Balance`."""

JOBS = Source("jobs", _job_versions, _load_jobs)
"""Jobs, by their id: `app.jobs.jobs.Job`."""

TIERS = Source("tiers", _tier_versions, _load_progress)
"""How far members have come towards tiers, by the member's id: `app.tiers.progress.Progress`."""
