"""How the workers are doing: what waits for them, for how long, what failed, and how many there are."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from app import clock
from app.database import connection

ALIVE = timedelta(seconds=15)
"""A worker that was seen so recently is there."""

_FORGOTTEN = timedelta(hours=1)

# What a receiver does not take waits for the receiver, not for a worker.
_WAITING = """
SELECT queue, min(created_at) AS oldest, sum(items)::bigint AS items FROM outbox
WHERE $1::uuid IS NULL OR program_id = $1 GROUP BY queue
UNION ALL
SELECT 'messages', min(created_at), count(*) FROM message WHERE $1::uuid IS NULL OR program_id = $1
HAVING count(*) > 0
UNION ALL
SELECT 'webhooks', min(x.since), sum(x.items)::bigint FROM webhook w CROSS JOIN LATERAL (
    SELECT min(f.created_at) AS since, count(*) AS items FROM (
        SELECT created_at FROM feed
        WHERE program_id = w.program_id AND position > w.position AND NOT w.backed_up
        ORDER BY position LIMIT 1000
    ) f
    UNION ALL
    SELECT min(d.next_at), count(*) FROM webhook_delivery d
    WHERE d.program_id = w.program_id AND d.webhook_id = w.id AND d.attempts = 0 AND NOT EXISTS (
        SELECT FROM webhook_delivery b
        WHERE b.program_id = w.program_id AND b.webhook_id = w.id AND b.attempts > 0
    )
) x
WHERE ($1::uuid IS NULL OR w.program_id = $1) AND w.disabled_at IS NULL AND w.paused_until IS NULL
HAVING sum(x.items) > 0
"""

_COUNTS = """
SELECT (SELECT count(*) FROM failed_job WHERE $1::uuid IS NULL OR program_id = $1) AS failed,
    (SELECT count(*) FROM worker WHERE seen_at > $2) AS workers
"""

_BY_NAME = """
SELECT TRUE AS works, q.name, count(*) AS number /* scoped by: worker */
FROM worker, unnest(queues) AS q(name) WHERE seen_at > $1 GROUP BY q.name
UNION ALL
SELECT FALSE, queue, count(*) FROM failed_job GROUP BY queue
"""

_BEAT = """
WITH gone AS (DELETE FROM worker WHERE seen_at < $6 AND id <> $1 /* scoped by: worker */)
INSERT INTO worker (id, host, queues, started_at, seen_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at
"""


class Waiting(NamedTuple):
    """What waits in one queue: since when the oldest of it does, and how many items there are."""

    queue: str
    oldest: datetime
    items: int


class Health(NamedTuple):
    """How the workers are doing; `oldest_waiting_seconds` is None where nothing waits."""

    oldest_waiting_seconds: float | None
    waiting: int
    failed: int
    workers: int


async def waiting(program_id: UUID | None = None) -> list[Waiting]:
    """Return what waits in each queue that has something; of all programs together when none is named."""
    async with connection() as sql:
        rows = await sql.fetch(_WAITING, program_id)
    return [Waiting(row["queue"], row["oldest"], row["items"]) for row in rows]


async def get_health(program_id: UUID | None = None) -> Health:
    """Return how the workers are doing with a program's work; with everything's when none is named.

    Raises:
        Unavailable: the database is away or busy.
    """
    queues = await waiting(program_id)
    now = clock.now()
    async with connection() as sql:
        counts = await sql.fetchrow(_COUNTS, program_id, now - ALIVE)
    oldest = min((each.oldest for each in queues), default=None)
    return Health(
        None if oldest is None else max(0.0, (now - oldest).total_seconds()),
        sum(each.items for each in queues),
        counts["failed"],
        counts["workers"],
    )


async def workers_and_failures() -> tuple[dict[str, int], dict[str, int]]:
    """Return how many workers are alive, by what they do, and how much failed for good, by queue.

    Of all programs together.

    Raises:
        Unavailable: the database is away or busy.
    """
    async with connection() as sql:
        rows = await sql.fetch(_BY_NAME, clock.now() - ALIVE)
    workers = {row["name"]: row["number"] for row in rows if row["works"]}
    return workers, {row["name"]: row["number"] for row in rows if not row["works"]}


async def beat(worker_id: UUID, host: str, queues: Sequence[str], started_at: datetime) -> None:
    """Say that a worker is there; those that were not seen for an hour are forgotten."""
    now = clock.now()
    async with connection() as sql:
        await sql.execute(_BEAT, worker_id, host, list(queues), started_at, now, now - _FORGOTTEN)


async def leave(worker_id: UUID) -> None:
    """Say that a worker is gone."""
    async with connection() as sql:
        await sql.execute("DELETE FROM worker WHERE id = $1 /* scoped by: worker */", worker_id)
