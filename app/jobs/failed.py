"""Work that failed for good and waits for a person, who puts right what is wrong, and retries it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from app import clock
from app.database import connection, retrying, transaction
from app.errors import ErrorCode, refuse
from app.ids import new_id
from app.jobs.jobs import Job, JobName, queue_within
from app.paging import Page, PageResult, keyset, page_result


class FailedJob(NamedTuple):
    """What failed, how often, and of which queue it was; `payload` says all that is needed to do it again."""

    id: UUID
    program_id: UUID
    queue: str
    subject: UUID
    payload: Mapping[str, Any]
    error: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime


_COLUMNS = ", ".join(FailedJob._fields)
_FIND = f"SELECT {_COLUMNS} FROM failed_job WHERE program_id = $1 AND id = ANY($2::uuid[])"  # noqa: S608

_AGAIN = """
UPDATE failed_job SET error = $3, attempts = attempts + 1, last_failed_at = $4
WHERE program_id = $1 AND id = $2
"""

_FORGET = "DELETE FROM failed_job WHERE program_id = $1 AND id = $2 AND attempts = $3"


async def list_failed(program_id: UUID, page: Page) -> PageResult[FailedJob]:
    """Return a page of a program's failed jobs, the oldest first; its keys are (id,)."""
    keys = keyset(["id"], page=page, first_param=2)
    statement = f"""
        SELECT {_COLUMNS} FROM failed_job WHERE program_id = $1 AND {keys.where}
        ORDER BY {keys.order_by} LIMIT {keys.limit}
    """  # noqa: S608 - parts that are constants, values are parameters
    async with connection() as sql:
        rows = await sql.fetch(statement, program_id, *keys.args)
    return page_result([FailedJob._make(row) for row in rows], page)


async def find_failed(
    sql: asyncpg.Connection, program_id: UUID, failed_ids: Sequence[UUID]
) -> list[FailedJob | None]:
    """Return failed jobs of a program in the order of the ids; None where it has none."""
    found = {row["id"]: FailedJob._make(row) for row in await sql.fetch(_FIND, program_id, list(failed_ids))}
    return [found.get(each) for each in failed_ids]


async def retry_failed(program_id: UUID, failed_id: UUID) -> Job:
    """Have failed work done once more; the job tells how that goes. A retry that is queued is answered with.

    Raises:
        Refused: NOT_FOUND, no such failed job, or it has been done meanwhile.
        Unavailable: the database stayed away or busy; nothing was queued.
    """
    job_id = new_id()

    async def work() -> Job:
        async with transaction() as sql:
            (failed,) = await find_failed(sql, program_id, [failed_id])
            if failed is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such failed job.", "id")
            return await queue_within(sql, program_id, JobName.RETRY, failed_id, job_id)

    return await retrying(work)


async def failed_again(sql: asyncpg.Connection, failed: FailedJob, error: str) -> None:
    """Note that failed work failed once more."""
    await sql.execute(_AGAIN, failed.program_id, failed.id, error, clock.now())


async def forget(sql: asyncpg.Connection, failed: FailedJob) -> None:
    """Note that failed work is done, unless it has failed once more since it was looked at."""
    await sql.execute(_FORGET, failed.program_id, failed.id, failed.attempts)
