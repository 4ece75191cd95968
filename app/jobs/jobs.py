"""Jobs: work that is done in slices, each with its progress in one transaction, and can be watched."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import orjson

from app import clock
from app.database import connection, retrying, transaction
from app.ids import new_id
from app.live.hints import touch
from app.outbox import service as outbox
from app.outbox.service import Queue


class JobStatus(StrEnum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class JobName(StrEnum):
    """What jobs there are."""

    RECALCULATE_TIERS = "tiers.recalculate"
    RETRY = "failed_job.retry"


class Job(NamedTuple):
    """A job as it is: `total` is None while nobody knows how much there is to do."""

    id: UUID
    program_id: UUID
    name: JobName
    status: JobStatus
    done: int
    total: int | None
    subject: UUID | None
    state: dict[str, Any]
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


_COLUMNS = ", ".join(Job._fields)

_QUEUE = f"""
INSERT INTO job (id, program_id, name, status, subject, created_at) VALUES ($1, $2, $3, 'QUEUED', $4, $5)
ON CONFLICT (program_id, name, coalesce(subject, program_id)) WHERE status = 'QUEUED' DO NOTHING
RETURNING {_COLUMNS}
"""  # noqa: S608 - nothing but constants

_QUEUED = f"""
SELECT {_COLUMNS} FROM job WHERE program_id = $1 AND name = $2 AND status = 'QUEUED'
    AND coalesce(subject, program_id) = coalesce($3, program_id)
FOR SHARE
"""  # noqa: S608 - nothing but constants

_FIND = f"SELECT {_COLUMNS} FROM job WHERE program_id = $1 AND id = ANY($2::uuid[])"  # noqa: S608
_LOCK = f"SELECT {_COLUMNS} FROM job WHERE program_id = $1 AND id = $2 FOR NO KEY UPDATE"  # noqa: S608

_BEGIN = """
UPDATE job SET status = 'RUNNING', started_at = coalesce(started_at, $3)
WHERE program_id = $1 AND id = $2 AND status = 'QUEUED'
"""

_ADVANCE = """
UPDATE job SET status = 'RUNNING', done = $3, total = $4, state = $5, started_at = coalesce(started_at, $6),
    error = NULL, ended_at = NULL
WHERE program_id = $1 AND id = $2
"""

_END = """
UPDATE job SET status = $3, error = $4, ended_at = $5, started_at = coalesce(started_at, $5),
    total = CASE WHEN $3 = 'SUCCEEDED' THEN done ELSE total END
WHERE program_id = $1 AND id = $2
"""


def job_from_row(row: asyncpg.Record) -> Job:
    """Return a job from a row with its columns, in their order."""
    job = Job._make(row)
    return job._replace(name=JobName(job.name), status=JobStatus(job.status))


async def queue_job(program_id: UUID, name: JobName, subject: UUID | None = None) -> Job:
    """Have a job done by a worker, soon; one that is queued already is answered with.

    Args:
        subject: what it is about, where that is one thing.

    Raises:
        Unavailable: the database stayed away or busy; nothing was queued.
    """
    job_id = new_id()

    async def work() -> Job:
        async with transaction() as sql:
            return await queue_within(sql, program_id, name, subject, job_id)

    return await retrying(work)


async def queue_within(
    sql: asyncpg.Connection, program_id: UUID, name: JobName, subject: UUID | None, job_id: UUID
) -> Job:
    """Have a job done as a part of a larger transaction, as `queue_job` does.

    One that is answered with begins after that transaction, and so sees what it has changed.
    """
    now = clock.now()
    row = await sql.fetchrow(_QUEUE, job_id, program_id, name, subject, now)
    if row is not None:
        await outbox.leave(sql, Queue.JOBS, program_id, [job_id], now)
        return job_from_row(row)
    row = await sql.fetchrow(_QUEUED, program_id, name, subject)
    if row is None:
        # It has begun since: what it has looked at already is to be looked at again.
        return await queue_within(sql, program_id, name, subject, job_id)
    return job_from_row(row)


async def get_jobs(program_id: UUID, job_ids: Sequence[UUID]) -> list[Job | None]:
    """Return jobs of a program in the order of the ids; None where it has none."""
    async with connection() as sql:
        rows = await sql.fetch(_FIND, program_id, list(job_ids))
    found = {row["id"]: job_from_row(row) for row in rows}
    return [found.get(each) for each in job_ids]


async def begin(sql: asyncpg.Connection, program_id: UUID, job_id: UUID) -> Job | None:
    """Note that a job is under way, before its first slice; None for one that has ended.

    In a transaction of its own: whoever wants the same from then on gets a job that begins later.
    """
    await sql.execute(_BEGIN, program_id, job_id, clock.now())
    touch([job_id])
    return await lock_job(sql, program_id, job_id)


async def lock_job(sql: asyncpg.Connection, program_id: UUID, job_id: UUID) -> Job | None:
    """Return a job that nobody else works on until the transaction ends; None for one that has ended."""
    row = await sql.fetchrow(_LOCK, program_id, job_id)
    job = None if row is None else job_from_row(row)
    return None if job is None or job.status in (JobStatus.SUCCEEDED, JobStatus.FAILED) else job


async def advance(sql: asyncpg.Connection, job: Job, done: int, total: int | None, state: Any) -> None:
    """Note how far a job has come, in the transaction of its slice."""
    now = clock.now()
    await sql.execute(_ADVANCE, job.program_id, job.id, done, total, orjson.dumps(state), now)
    touch([job.id])


async def end(sql: asyncpg.Connection, job: Job, error: str | None = None) -> None:
    """Note that a job is done, or why it never will be."""
    status = JobStatus.SUCCEEDED if error is None else JobStatus.FAILED
    await sql.execute(_END, job.program_id, job.id, status, error, clock.now())
    touch([job.id])
