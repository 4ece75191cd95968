"""Work that transactions leave behind, handed to workers in batches; the truth stays in PostgreSQL.

A row says that these members have something waiting. The relay stamps rows with a batch and tells
the queue its name; the consumer deletes them together with its effect. A batch that nobody finished
within its lease is taken back and sent again, so losing the whole queue costs a lease, never work.
"""

from collections import defaultdict
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.database import connection, transaction
from app.ids import new_id

BATCH_ITEMS = 500
LEASE = timedelta(seconds=10)
MAX_LEASE = timedelta(minutes=10)


class Queue(StrEnum):
    """What kind of work waits; each kind has a queue of its own."""

    EARNING = "earning"


_UNSENT = """
SELECT id, program_id, items FROM outbox /* scoped by: worker */
WHERE queue = $1 AND batch IS NULL ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
"""

_STAMP = """
UPDATE outbox SET batch = t.batch, sent_at = $3, attempts = attempts + 1 /* scoped by: worker */
FROM unnest($1::bigint[], $2::uuid[]) AS t(id, batch) WHERE outbox.id = t.id
"""

# Each further attempt waits twice as long, so that what always fails does not crowd out the rest.
_TAKE_BACK = """
UPDATE outbox SET batch = NULL /* scoped by: worker */
WHERE queue = $1 AND batch IS NOT NULL
  AND sent_at < $2::timestamptz - least($3::interval * (2 ^ least(attempts - 1, 20)), $4::interval)
"""

_WAITING = """
SELECT (SELECT min(created_at) FROM outbox) AS oldest,
    (SELECT count(*) FROM event_queue) AS events /* scoped by: worker */
"""


async def stamp(queue: Queue, now: datetime) -> list[UUID]:
    """Put unsent work into batches of about BATCH_ITEMS items, each of one program.

    Returns:
        The batches to tell the queue; empty when nothing was waiting.
    """
    async with transaction() as sql:
        rows = await sql.fetch(_UNSENT, queue, BATCH_ITEMS)
        if not rows:
            return []
        open_batch: dict[UUID, UUID] = defaultdict(new_id)
        filled: dict[UUID, int] = defaultdict(int)
        stamps: list[UUID] = []
        for row in rows:
            program = row["program_id"]
            if filled[program] and filled[program] + row["items"] > BATCH_ITEMS:
                open_batch[program], filled[program] = new_id(), 0
            filled[program] += row["items"]
            stamps.append(open_batch[program])
        await sql.execute(_STAMP, [row["id"] for row in rows], stamps, now)
        return list(dict.fromkeys(stamps))


async def take_back(queue: Queue, now: datetime) -> int:
    """Make batches that nobody finished within their lease unsent again; return how many rows."""
    async with connection() as sql:
        done: str = await sql.execute(_TAKE_BACK, queue, now, LEASE, MAX_LEASE)
    return int(done.rpartition(" ")[2])


async def give_back(batches: list[UUID]) -> None:
    """Make batches of which the queue may not have heard unsent again; hearing of them twice is harmless."""
    async with connection() as sql:
        await sql.execute(
            "UPDATE outbox SET batch = NULL WHERE batch = ANY($1) /* scoped by: worker */", batches
        )


class Claim(NamedTuple):
    """A batch as its consumer finds it."""

    program_id: UUID
    members: list[UUID]


async def read_batch(sql: asyncpg.Connection, batch: UUID) -> Claim | None:
    """Return whose work a batch names; None when somebody else has finished it."""
    rows = await sql.fetch(
        "SELECT program_id, members FROM outbox /* scoped by: worker */ WHERE batch = $1", batch
    )
    if not rows:
        return None
    return Claim(rows[0]["program_id"], sorted({member for row in rows for member in row["members"]}))


async def finish(sql: asyncpg.Connection, batch: UUID) -> None:
    """Delete a batch, in the transaction of its effect."""
    await sql.execute("DELETE FROM outbox /* scoped by: worker */ WHERE batch = $1", batch)


async def reduce(sql: asyncpg.Connection, batch: UUID, members: list[UUID]) -> None:
    """Leave of a batch only the members who could not be served; they come up again, ever later."""
    await sql.execute(
        "DELETE FROM outbox /* scoped by: worker */ WHERE batch = $1 AND NOT members && $2::uuid[]",
        batch,
        members,
    )
    await sql.execute(
        """UPDATE outbox SET members = ARRAY(SELECT unnest(members) INTERSECT SELECT unnest($2::uuid[]))
        WHERE batch = $1 /* scoped by: worker */""",
        batch,
        members,
    )


async def waiting(now: datetime) -> tuple[float | None, int]:
    """Return the age in seconds of the oldest work that is not finished, and how many events wait."""
    async with connection() as sql:
        row = await sql.fetchrow(_WAITING)
    return (None if row["oldest"] is None else max(0.0, (now - row["oldest"]).total_seconds())), row["events"]
