"""Running jobs: slice by slice, for as long as a worker may be busy with one, and on in the next turn."""

import time
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

import asyncpg
import structlog

from app import clock
from app.database import TRANSIENT, retrying, transaction
from app.earning.processing import earn_members
from app.errors import Unavailable
from app.jobs.failed import FailedJob, failed_again, find_failed, forget
from app.jobs.jobs import Job, JobName, advance, begin, end, lock_job
from app.live.hints import touch
from app.metrics import ERRORS
from app.outbox import service as outbox
from app.outbox.consuming import Work, described
from app.outbox.service import Queue
from app.referrals.working import credit_members
from app.tiers.recalculating import recalculate
from app.tiers.standings import evaluate_members
from app.transfers.arriving import arrive_members
from app.webhooks import deliveries as webhooks
from app.webhooks.retrying import deliver_again

log = structlog.get_logger("laurel.jobs")

_TURN_SECONDS = 8.0

Slice = Callable[[asyncpg.Connection, Job], Awaitable[bool]]
"""Does the next part of a job that is locked, notes how far it has come, and tells whether there is more."""

SLICES: Mapping[JobName, Slice] = {JobName.RECALCULATE_TIERS: recalculate}

WORK: Mapping[str, Work] = {
    Queue.EARNING: earn_members,
    Queue.TIERS: evaluate_members,
    Queue.REFERRALS: credit_members,
    Queue.TRANSFERS: arrive_members,
}
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
        async with transaction() as sql:
            job = await begin(sql, program_id, job_id)
        if job is None:
            continue
        if job.name is JobName.RETRY:
            await _retry(job)
            slices += 1
            continue
        while more and time.monotonic() < until:
            more = await _slice(program_id, job_id)
            slices += 1
        if more:
            unfinished.append(job_id)
    async with transaction() as sql:
        # A turn that took longer than its lease is somebody else's by now, who goes on with it.
        if await outbox.finish(sql, batch) or batch is None:
            await outbox.leave(sql, Queue.JOBS, program_id, unfinished, clock.now())
    return slices


async def _slice(program_id: UUID, job_id: UUID) -> bool:
    """Do one slice of a job; return whether there is more to do."""

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


async def _retry(job: Job) -> None:
    """Do once more what failed for good; that it fails again is noted, and is no failure of this work."""
    assert job.subject is not None
    async with transaction() as sql:
        (failed,) = await find_failed(sql, job.program_id, [job.subject])
        if failed is None or failed.queue == Queue.JOBS:
            if failed is not None:
                await _reopen(sql, failed)
            await _end_retry(sql, job, None)
            return
        await advance(sql, job, 0, 1, {})
    error = await _try(failed)
    async with transaction() as sql:
        if error is None:
            await forget(sql, failed)
        else:
            await failed_again(sql, failed, error)
        await _end_retry(sql, job, error)


async def _reopen(sql: asyncpg.Connection, failed: FailedJob) -> None:
    """Have a job that failed go on where it was; how that goes the job itself tells."""
    now = clock.now()
    await sql.execute(_REOPEN, failed.program_id, failed.subject, now)
    touch([failed.subject])
    await outbox.leave(sql, Queue.JOBS, failed.program_id, [failed.subject], now)
    await forget(sql, failed)


async def _end_retry(sql: asyncpg.Connection, job: Job, error: str | None) -> None:
    """Note how a retry went, unless another worker has done so."""
    if await lock_job(sql, job.program_id, job.id) is not None:
        if error is None:
            await advance(sql, job, 1, 1, {})
        await end(sql, job, error)


async def _try(failed: FailedJob) -> str | None:
    """Do work that failed; return why it failed again, None when it is done."""
    try:
        if failed.queue == webhooks.QUEUE:
            await deliver_again(failed.program_id, failed.payload)
        else:
            await WORK[failed.queue](failed.program_id, [failed.subject], None)
    except (*TRANSIENT, Unavailable):
        raise
    except Exception as error:
        ERRORS.labels(failed.queue).inc()
        log.exception("retry_failed", failed_job=str(failed.id), queue=failed.queue)
        return described(error)
    return None
