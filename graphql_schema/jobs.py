"""Jobs and what failed of them, and how the workers are doing."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.database import connection as lent
from app.errors import Refused
from app.ids import to_global_id
from app.jobs import failed, health, jobs
from app.jobs.jobs import JobName, JobStatus
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.enums import enum_type
from graphql_schema.errors import UserError, user_errors
from graphql_schema.nodes import Info, Node, finds, key_of, program_of
from graphql_schema.pagination import AFTER, BEFORE, FIRST, LAST, Connection, connection, page_of

JOB_READ = (Scope.RULES_WRITE, Scope.JOBS_ADMIN)

enum_type(
    JobStatus,
    description="How far a job is.",
    values={
        "QUEUED": "It waits for a worker.",
        "RUNNING": "A worker has begun.",
        "SUCCEEDED": "All of it is done.",
        "FAILED": "It will not be done; its error says why.",
    },
)


@object_type(description="Work that takes a while, done by a worker in slices.", scope=JOB_READ)
class Job(Node):
    name: str = strawberry.field(description="What it does, such as `tiers.recalculate`.")
    status: JobStatus = strawberry.field(description="How far it is.")
    done: int = strawberry.field(description="How much of it is done.")
    total: int | None = strawberry.field(
        description="How much there is to do; null while nobody knows. It may grow while the job runs."
    )
    started_at: datetime | None = strawberry.field(description="When a worker began; null before.")
    ended_at: datetime | None = strawberry.field(description="When it succeeded or failed; null before.")
    error: str | None = strawberry.field(description="Why it failed.")

    @classmethod
    def of(cls, job: jobs.Job) -> "Job":
        """Return a job as the API gives it."""
        return cls(
            id=strawberry.ID(to_global_id("Job", job.id)),
            name=job.name,
            status=job.status,
            done=job.done,
            total=job.total,
            started_at=job.started_at,
            ended_at=job.ended_at,
            error=job.error,
        )


async def load_jobs(context: Context, keys: list[UUID]) -> list[Job | None]:
    """Load jobs of the caller's program."""
    assert context.principal.program_id
    found = await jobs.get_jobs(context.principal.program_id, keys)
    return [job and Job.of(job) for job in found]


@finds("Job")
async def _find_job(context: Context, key: UUID | str) -> Job | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    return await context.loader(load_jobs).load(key)


@object_type(
    description="Work that failed for good, each thing that it is about for itself: nobody tries it again"
    " until somebody asks for it.",
    scope=Scope.JOBS_ADMIN,
)
class FailedJob(Node):
    name: str = strawberry.field(description="The queue that it was in, such as `earning`.")
    error: str = strawberry.field(description="What went wrong the last time.")
    attempts: int = strawberry.field(
        description="How often it was tried, with whatever came in for the same member meanwhile."
    )
    first_failed_at: datetime = strawberry.field(description="When it failed for good the first time.")
    last_failed_at: datetime = strawberry.field(description="When it failed the last time.")

    @classmethod
    def of(cls, row: failed.FailedJob) -> "FailedJob":
        """Return failed work as the API gives it."""
        return cls(
            id=strawberry.ID(to_global_id("FailedJob", row.id)),
            name=row.queue,
            error=row.error,
            attempts=row.attempts,
            first_failed_at=row.first_failed_at,
            last_failed_at=row.last_failed_at,
        )


async def load_failed_jobs(context: Context, keys: list[UUID]) -> list[FailedJob | None]:
    """Load failed work of the caller's program."""
    assert context.principal.program_id
    async with lent() as sql:
        found = await failed.find_failed(sql, context.principal.program_id, keys)
    return [row and FailedJob.of(row) for row in found]


@finds("FailedJob")
async def _find_failed(context: Context, key: UUID | str) -> FailedJob | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    return await context.loader(load_failed_jobs).load(key)


@object_type(description="How the workers are doing with the program's work.", access=INHERITED)
class WorkerHealth:
    oldest_waiting_seconds: float | None = strawberry.field(
        description="Age of the oldest stored work that no worker has finished; null when there is none."
    )
    waiting: int = strawberry.field(
        description="How much work is stored that no worker has finished; of each webhook at most 1,000"
        " messages are counted, and none that wait for their receiver."
    )
    failed: int = strawberry.field(description="How much work failed for good.")
    workers: int = strawberry.field(
        description="How many worker processes were seen in the last 15 seconds; they work for all programs."
    )


@object_type(description="The job, which can be watched by the subscription `job`.", access=INHERITED)
class JobPayload:
    job: Job | None = strawberry.field(description="Null when nothing was queued.", default=None)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="")
class JobQueries:
    @resolver(
        description="Work that failed for good and waits to be retried, the oldest first.",
        scope=Scope.JOBS_ADMIN,
    )
    async def failed_jobs(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
    ) -> Connection[FailedJob]:
        page = page_of("failed_jobs", (UUID,), first=first, after=after, last=last, before=before)
        result = await failed.list_failed(program_of(info), page)
        return connection("failed_jobs", result, FailedJob.of, lambda row: (row.id,))

    @resolver(description="How the workers are doing with the program's work.", scope=Scope.JOBS_ADMIN)
    async def worker_health(self, info: Info) -> WorkerHealth:
        found = await health.get_health(program_of(info))
        return WorkerHealth(
            oldest_waiting_seconds=found.oldest_waiting_seconds,
            waiting=found.waiting,
            failed=found.failed,
            workers=found.workers,
        )


@object_type(description="")
class JobMutations:
    @resolver(
        description="Recalculates every member's tier; the answer is the job to watch. While one is queued,"
        " it is answered with that one.",
        scope=Scope.RULES_WRITE,
    )
    async def recalculate_tiers(self, info: Info) -> JobPayload:
        job = await jobs.queue_job(program_of(info), JobName.RECALCULATE_TIERS)
        return JobPayload(job=Job.of(job), user_errors=[])

    @resolver(
        description="Has failed work done once more. When it succeeds it is no failed job any more; when it"
        " fails again, both it and the job say why.",
        scope=Scope.JOBS_ADMIN,
    )
    async def retry_failed_job(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The failed job's id.")],
    ) -> JobPayload:
        try:
            job = await failed.retry_failed(program_of(info), key_of(id, "FailedJob"))
        except Refused as refused:
            return JobPayload(user_errors=user_errors(refused.errors))
        return JobPayload(job=Job.of(job), user_errors=[])
