"""Running jobs: the job of the queue of jobs."""

from uuid import UUID

from app.jobs.running import run_jobs
from app.outbox.consuming import consume
from app.outbox.service import Queue


async def run(batch: UUID) -> None:
    """Do the jobs that a batch of the outbox names, for a turn."""
    await consume(Queue.JOBS, batch, run_jobs)
