"""What can be watched live, and how its state is read."""

from collections.abc import Hashable, Mapping, Sequence
from uuid import UUID

from app.database import connection
from app.jobs.jobs import Job, get_jobs
from app.ledger.reads import Balance, get_balances
from app.live.hub import Source
from app.programs.policies import recent_policy

# Each entry of the ledger has the next number: what has none has changed nothing.
_ACCOUNTS = "SELECT id, sequence FROM account WHERE id = ANY($1::uuid[]) /* scoped by: account */"
_JOBS = "SELECT id, status, done, total FROM job WHERE id = ANY($1::uuid[]) /* scoped by: worker */"


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


BALANCES = Source("balances", _account_versions, _load_balances)
"""Balances, by the member's id: `app.ledger.reads.Balance`."""

JOBS = Source("jobs", _job_versions, _load_jobs)
"""Jobs, by their id: `app.jobs.jobs.Job`."""
