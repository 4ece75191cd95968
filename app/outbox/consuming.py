"""Doing what batches of the outbox name: once, and so that what fails does not hold up the others."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog

from app import clock
from app.database import TRANSIENT, connection
from app.errors import Unavailable
from app.metrics import ERRORS
from app.outbox import service as outbox
from app.outbox.service import Queue

MAX_PATIENCE = 6
"""What may pass has to pass within so many deliveries, which take some minutes; then it counts as failed."""

_ALONE_SECONDS = 15.0

log = structlog.get_logger("laurel.outbox")

Work = Callable[[UUID, list[UUID], UUID | None], Awaitable[int]]
"""Does what waits for some members of a program; returns how much that was.

Its arguments are the program, the members (on the queue of jobs: the jobs), and a batch, which it deletes
with `finish` in its last transaction. It is safe to run twice and on two workers at once.
"""


async def consume(queue: Queue, batch: UUID, work: Work) -> int:
    """Do the work that a batch names; a batch that somebody else has finished is nothing to do.

    Where it fails as a whole it is done member by member; who fails alone is tried again a little later,
    and after a few times put aside as a failed job. So is, in the end, who never gets through though all
    of it might pass, such as who takes longer than there is time.

    Returns:
        How much was done.

    Raises:
        Unavailable: the database stayed away or busy; what is not done stays in the outbox.
    """
    async with connection() as sql:
        claim = await outbox.read_batch(sql, batch)
    if claim is None:
        return 0
    if claim.attempts > MAX_PATIENCE:
        total, errors = await _one_by_one(queue, batch, claim, work)
    else:
        try:
            return await work(claim.program_id, claim.members, batch)
        except (*TRANSIENT, Unavailable):
            raise
        except Exception as error:
            if len(claim.members) == 1:
                total, errors = 0, {claim.members[0]: _told(queue, batch, claim.members[0], error)}
            else:
                log.exception("batch_failed", queue=queue, batch=str(batch))
                total, errors = await _one_by_one(queue, batch, claim, work)
    aside = await outbox.fail(batch, errors, clock.now())
    if aside:
        log.error("work_put_aside", queue=queue, failed_jobs=aside)
    return total


async def _one_by_one(
    queue: Queue, batch: UUID, claim: outbox.Claim, work: Work
) -> tuple[int, dict[UUID, str]]:
    """Do a batch member by member; return how much was done, and what went wrong with whom."""
    total = 0
    errors: dict[UUID, str] = {}
    for member in claim.members:
        try:
            async with asyncio.timeout(_ALONE_SECONDS):
                total += await work(claim.program_id, [member], None)
        except (*TRANSIENT, Unavailable) as error:
            if claim.attempts <= MAX_PATIENCE:
                raise
            errors[member] = _told(queue, batch, member, error.__cause__ or error)
        except Exception as error:
            errors[member] = _told(queue, batch, member, error)
    return total, errors


def _told(queue: Queue, batch: UUID, member: UUID, error: BaseException) -> str:
    """Tell the log what went wrong, and return it as text."""
    ERRORS.labels(queue).inc()
    log.exception("work_failed", queue=queue, subject=str(member), batch=str(batch), exc_info=error)
    return described(error)


def described(error: BaseException) -> str:
    """Return what went wrong in a text that PostgreSQL keeps, whatever is in it."""
    text = f"{type(error).__name__}: {error}"
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
