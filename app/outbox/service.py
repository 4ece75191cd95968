"""Work that transactions leave behind, handed to workers in batches; the truth stays in PostgreSQL.

A row says that these members have something waiting. The relay stamps rows with a batch and tells
a worker its name; the consumer deletes them together with its effect. A batch that nobody finished
within its lease is taken back and sent again, so losing the whole queue costs a lease, never work.
What fails by itself is tried again a few times, and then put aside for a person, as a failed job.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.database import connection, transaction
from app.ids import new_id
from app.live.hints import touch

BATCH_ITEMS = 500
MAX_SENT = 4
"""So many batches of a queue are made at once; the rest is left to whoever has a hand free."""

LEASE = timedelta(seconds=10)
MAX_LEASE = timedelta(minutes=10)

MAX_FAILURES = 3
"""So often work may fail by itself before it is put aside."""


class Queue(StrEnum):
    """What kind of work waits; each kind has a queue of its own."""

    EARNING = "earning"
    TIERS = "tiers"
    REFERRALS = "referrals"
    TRANSFERS = "transfers"
    JOBS = "jobs"
    """Its work is not of members: the ids are those of jobs."""


_LEAVE = """
INSERT INTO outbox (queue, program_id, members, items, created_at)
SELECT $1, $2, $3::uuid[], cardinality($3::uuid[]), $4 WHERE cardinality($3::uuid[]) > 0
"""

# Each queue's rows by themselves: so much of one must not keep the others waiting.
_UNSENT = """
SELECT o.id, o.queue, o.program_id, o.items /* scoped by: worker */
FROM unnest($1::text[]) AS q(queue) CROSS JOIN LATERAL (
    SELECT id, queue, program_id, items FROM outbox /* scoped by: worker */
    WHERE outbox.queue = q.queue AND batch IS NULL AND (not_before IS NULL OR not_before <= $3)
    ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
) o
"""

_STAMP = """
UPDATE outbox SET batch = t.batch, sent_at = $3, attempts = attempts + 1 /* scoped by: worker */
FROM unnest($1::bigint[], $2::uuid[]) AS t(id, batch) WHERE outbox.id = t.id
"""

# Each further attempt waits twice as long, so that what always fails does not crowd out the rest.
_TAKE_BACK = """
UPDATE outbox SET batch = NULL /* scoped by: worker */
WHERE queue = ANY($1::text[]) AND batch IS NOT NULL
  AND sent_at < $2::timestamptz - least($3::interval * (2 ^ least(attempts - 1, 20)), $4::interval)
"""

_FAILED = """
UPDATE outbox SET batch = NULL, failures = failures + 1, first_failed_at = coalesce(first_failed_at, $3),
    not_before = $3::timestamptz + interval '1 second' * (2 ^ failures) * (0.5 + random()),
    members = ARRAY(SELECT unnest(members) INTERSECT SELECT unnest($2::uuid[]))
WHERE batch = $1 RETURNING id, queue, program_id, members, failures, first_failed_at /* scoped by: worker */
"""

_PUT_ASIDE = """
INSERT INTO failed_job (id, program_id, queue, subject, payload, error, attempts, first_failed_at,
    last_failed_at)
SELECT t.id, $2, $3, t.subject, jsonb_build_object('members', jsonb_build_array(t.subject)), t.error, $6,
    $7, $8
FROM unnest($1::uuid[], $4::uuid[], $5::text[]) AS t(id, subject, error)
ON CONFLICT (program_id, queue, subject) DO UPDATE SET error = excluded.error,
    attempts = failed_job.attempts + excluded.attempts, last_failed_at = excluded.last_failed_at
"""

_JOBS_FAILED = """
UPDATE job SET status = 'FAILED', error = t.error, ended_at = $4, started_at = coalesce(started_at, $4)
FROM unnest($2::uuid[], $3::text[]) AS t(id, error)
WHERE program_id = $1 AND job.id = t.id AND status IN ('QUEUED', 'RUNNING')
"""

_LONGEST_ERROR = 2_000


class Sent(NamedTuple):
    """A batch that a worker is to be told of."""

    queue: Queue
    batch: UUID


async def leave(
    sql: asyncpg.Connection, queue: Queue, program_id: UUID, members: Collection[UUID], now: datetime
) -> None:
    """Leave work behind, for members of a program (or jobs), in the transaction that makes it necessary."""
    await sql.execute(_LEAVE, queue, program_id, sorted(members), now)


async def stamp(queues: Sequence[Queue], now: datetime) -> list[Sent]:
    """Put unsent work into batches of about BATCH_ITEMS items, each of one queue and one program.

    Each job is a batch by itself: one that takes long keeps no other waiting.

    Returns:
        The batches to tell workers of, at most MAX_SENT of each queue; empty when nothing was waiting.
    """
    async with transaction() as sql:
        rows = await sql.fetch(_UNSENT, list(queues), BATCH_ITEMS, now)
        if not rows:
            return []
        open_batch: dict[tuple[str, UUID], UUID] = {}
        filled: dict[tuple[str, UUID], int] = defaultdict(int)
        made: dict[str, int] = defaultdict(int)
        stamps: dict[int, UUID] = {}
        sent: dict[UUID, Sent] = {}
        for row in rows:
            queue, items = Queue(row["queue"]), row["items"]
            key = (queue, row["program_id"])
            if not filled[key] or filled[key] + items > (1 if queue is Queue.JOBS else BATCH_ITEMS):
                if made[queue] == MAX_SENT:
                    continue
                made[queue] += 1
                open_batch[key], filled[key] = new_id(), 0
            filled[key] += items
            batch = open_batch[key]
            stamps[row["id"]] = batch
            sent[batch] = Sent(queue, batch)
        await sql.execute(_STAMP, list(stamps), list(stamps.values()), now)
        return list(sent.values())


async def take_back(queues: Sequence[Queue], now: datetime) -> int:
    """Make batches that nobody finished within their lease unsent again; return how many rows."""
    async with connection() as sql:
        done: str = await sql.execute(_TAKE_BACK, list(queues), now, LEASE, MAX_LEASE)
    return int(done.rpartition(" ")[2])


async def give_back(batches: Collection[UUID]) -> None:
    """Make batches of which nobody may have heard unsent again; hearing of them twice is harmless."""
    async with connection() as sql:
        await sql.execute(
            "UPDATE outbox SET batch = NULL WHERE batch = ANY($1) /* scoped by: worker */", list(batches)
        )


class Claim(NamedTuple):
    """A batch as its consumer finds it."""

    program_id: UUID
    members: list[UUID]
    attempts: int = 1
    """So often it was sent, this time included."""


async def read_batch(sql: asyncpg.Connection, batch: UUID) -> Claim | None:
    """Return whose work a batch names; None when somebody else has finished it."""
    rows = await sql.fetch(
        "SELECT program_id, members, attempts FROM outbox /* scoped by: worker */ WHERE batch = $1", batch
    )
    if not rows:
        return None
    members = sorted({member for row in rows for member in row["members"]})
    return Claim(rows[0]["program_id"], members, max(row["attempts"] for row in rows))


async def finish(sql: asyncpg.Connection, batch: UUID | None) -> bool:
    """Delete a batch, in the transaction of its effect; None is no batch.

    Returns:
        Whether it was there; otherwise somebody else has it, or has finished it.
    """
    if batch is None:
        return False
    done: str = await sql.execute("DELETE FROM outbox /* scoped by: worker */ WHERE batch = $1", batch)
    return done != "DELETE 0"


async def fail(batch: UUID, errors: Mapping[UUID, str], now: datetime) -> int:
    """Leave of a batch only the members whose work failed by itself, to be tried again a little later.

    What has failed MAX_FAILURES times is put aside as a failed job, one for each member.

    Args:
        errors: what went wrong, by member; the others are done.

    Returns:
        How many were put aside.
    """
    aside = 0
    async with transaction() as sql:
        await sql.execute(
            "DELETE FROM outbox /* scoped by: worker */ WHERE batch = $1 AND NOT members && $2::uuid[]",
            batch,
            list(errors),
        )
        for row in await sql.fetch(_FAILED, batch, list(errors), now):
            if row["failures"] >= MAX_FAILURES:
                failed = {each: errors[each][:_LONGEST_ERROR] for each in row["members"]}
                queue, program_id = Queue(row["queue"]), row["program_id"]
                await put_aside(sql, queue, program_id, failed, row["failures"], row["first_failed_at"], now)
                await sql.execute("DELETE FROM outbox /* scoped by: worker */ WHERE id = $1", row["id"])
                if queue is Queue.JOBS:
                    await sql.execute(_JOBS_FAILED, program_id, list(failed), list(failed.values()), now)
                    touch(failed)
                aside += len(failed)
    return aside


async def put_aside(
    sql: asyncpg.Connection,
    queue: Queue,
    program_id: UUID,
    errors: Mapping[UUID, str],
    attempts: int,
    first_failed_at: datetime,
    now: datetime,
) -> None:
    """Keep what failed for good as failed jobs, by what it is about; what failed before is counted on."""
    subjects = sorted(errors)
    await sql.execute(
        _PUT_ASIDE,
        [new_id() for _ in subjects], program_id, queue, subjects,
        [errors[each][:_LONGEST_ERROR] for each in subjects], attempts, first_failed_at, now,
    )  # fmt: skip
