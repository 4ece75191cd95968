"""Running jobs: slice by slice, for as long as a worker may be busy with one, and on in the next turn."""

import time
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

import asyncpg
import structlog

from app import clock
from app.database import TRANSIENT, connection, retrying, transaction
from app.earning.processing import earn_members
from app.errors import Unavailable
from app.jobs.failed import FailedJob, failed_again, find_failed, forget
from app.jobs.jobs import Job, JobName, advance, end, lock_job
from app.metrics import ERRORS
from app.outbox import service as outbox
from app.outbox.consuming import Work
from app.outbox.service import Queue
from app.tiers.recalculating import recalculate
from app.tiers.standings import evaluate_members

log = structlog.get_logger("laurel.jobs")

_TURN_SECONDS = 8.0

Slice = Callable[[asyncpg.Connection, Job], Awaitable[bool]]
"""Does the next part of a job that is locked, notes how far it has come, and tells whether there is more."""

SLICES: Mapping[JobName, Slice] = {JobName.RECALCULATE_TIERS: recalculate}

WORK: Mapping[str, Work] = {Queue.EARNING: earn_members, Queue.TIERS: evaluate_members}
"""How work of a queue that failed for good is done once more."""

_REOPEN = """
UPDATE job SET status = 'RUNNING', started_at = coalesce(started_at, $3), ended_at = NULL, error = NULL
WHERE program_id = $1 AND id = $2 AND status = 'FAILED'
"""


async def run_jobs(program_id: UUID, job_ids: list[UUID], batch: UUID | None) -> int:
    """Do jobs of a program for a turn; what is not finished then stays in the outbox for the next turn.

    Safe to run twice and on two workers at once: each slice holds its job.

    Returns:
        How many slices were done.
    """
    until = time.monotonic() + _TURN_SECONDS
    slices = 0
    unfinished = []
    for job_id in job_ids:
        more = True
        while more and time.monotonic() < until:
            more = await _slice(program_id, job_id)
            slices += 1
        if more:
            unfinished.append(job_id)
    async with transaction() as sql:
        await outbox.finish(sql, batch)
        await outbox.leave(sql, Queue.JOBS, program_id, unfinished, clock.now())
    return slices


async def _slice(program_id: UUID, job_id: UUID) -> bool:
    """Do one slice of a job; return whether there is more to do."""
    async with connection() as sql:
        name = await sql.fetchval(
            "SELECT name FROM job WHERE program_id = $1 AND id = $2", program_id, job_id
        )
    if name == JobName.RETRY:
        await _retry(program_id, job_id)
        return False

    async def work() -> bool:
        async with transaction() as sql:
            job = await lock_job(sql, program_id, job_id)
            if job is None:
                return False
            more = await SLICES[job.name](sql, job)
            if not more:
                await end(sql, job)
            return more

    return await retrying(work)


async def _retry(program_id: UUID, job_id: UUID) -> None:
    """Do once more what failed for good; that it fails again is noted, and is no failure of this work."""
    async with transaction() as sql:
        job = await lock_job(sql, program_id, job_id)
        if job is None:
            return
        assert job.subject is not None
        (failed,) = await find_failed(sql, program_id, [job.subject])
        await advance(sql, job, 0, 1, {})
    error = None if failed is None else await _try(failed)
    async with transaction() as sql:
        if failed is not None and error is None:
            await forget(sql, failed)
        elif failed is not None and error is not None:
            await failed_again(sql, failed, error)
        if error is None:
            await advance(sql, job, 1, 1, {})
        await end(sql, job, error)


async def _try(failed: FailedJob) -> str | None:
    """Do work that failed; return why it failed again, None when it is done."""
    try:
        if failed.queue == Queue.JOBS:
            async with transaction() as sql:
                await sql.execute(_REOPEN, failed.program_id, failed.subject, clock.now())
                await outbox.leave(sql, Queue.JOBS, failed.program_id, [failed.subject], clock.now())
        else:
            await WORK[failed.queue](failed.program_id, [failed.subject], None)
    except (*TRANSIENT, Unavailable):
        raise
    except Exception as error:
        ERRORS.labels(failed.queue).inc()
        log.exception("retry_failed", failed_job=str(failed.id), queue=failed.queue)
        return f"{type(error).__name__}: {error}"
    return None
