"""Earning what was stored for later, member by member in the order in which it happened."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import msgspec

from app import clock
from app.database import connection, retrying, transaction
from app.earning.batch import Earned, count, earn, lock
from app.earning.events import Body, facts
from app.earning.exact import share_of
from app.earning.limits import Waiting
from app.earning.rules import EventKind
from app.earning.ruleset import Facts
from app.outbox import service as outbox
from app.outbox.consuming import consume
from app.outbox.service import Queue

CHUNK = 500
"""Events in one transaction."""

_FOREVER = datetime.max.replace(tzinfo=UTC)

_QUEUED = """
SELECT e.id, e.member_id, e.external_id, e.kind, e.occurred_at, e.amount, e.store_id, /* scoped by: account */
    e.points_amount,
    CASE WHEN $3 OR e.kind <> 'PURCHASE' OR e.occurred_at < $5 THEN e.body END AS body
FROM event_queue q JOIN event e ON e.id = q.event_id
WHERE q.member_id = ANY($1::uuid[]) AND q.occurred_at <= $4
ORDER BY q.member_id, q.occurred_at, q.event_id LIMIT $2
"""

_WAITS = """
SELECT EXISTS (SELECT FROM event_queue q WHERE q.member_id = $1 AND q.occurred_at <= $2)
/* scoped by: account */
"""

_DEQUEUE = """
DELETE FROM event_queue q USING unnest($1::uuid[], $2::timestamptz[], $3::uuid[])
    AS t(member_id, occurred_at, event_id) /* scoped by: account */
WHERE q.member_id = t.member_id AND q.occurred_at = t.occurred_at AND q.event_id = t.event_id
"""


async def _chunk(
    sql: asyncpg.Connection, program_id: UUID, members: list[UUID], until: datetime = _FOREVER
) -> list[Earned]:
    """Earn the next CHUNK events of members up to a time; fewer than that means that none are left."""
    locked = await lock(sql, program_id, members)
    rules = locked.rule_set
    rows = await sql.fetch(_QUEUED, members, CHUNK, rules.looks_at_lines, until, rules.changed_at)
    events = [
        Waiting(row["id"], row["member_id"], _facts(row), external_id=row["external_id"]) for row in rows
    ]
    if not events:
        return []
    earned = await earn(sql, locked, events, clock.now())
    await sql.execute(
        _DEQUEUE, [e.member_id for e in events], [e.facts.occurred_at for e in events], [e.id for e in events]
    )
    return earned


def _facts(row: asyncpg.Record) -> Facts:
    # What was bought is read, and decoded, only where a rule looks at it, or may have at the time.
    body = None if row["body"] is None else msgspec.convert(row["body"], Body)
    share = share_of(row["points_amount"], row["amount"])
    return facts(EventKind(row["kind"]), row["occurred_at"], row["amount"], body, row["store_id"], share)


async def _until_none_are_left(work: Callable[[], Awaitable[list[Earned]]]) -> int:
    """Run one transaction after the other, and return how many events they processed."""
    total = 0
    while True:
        earned = await retrying(work)
        count(earned)
        total += len(earned)
        if len(earned) < CHUNK:
            return total


async def earn_member(program_id: UUID, member_id: UUID, until: datetime) -> None:
    """Earn what waits for a member and happened up to a time, without waiting for a worker.

    Raises:
        Unavailable: the database stayed away or busy.
    """

    async def work() -> list[Earned]:
        async with transaction() as sql:
            return await _chunk(sql, program_id, [member_id], until)

    async with connection() as sql:
        # Mostly nothing waits, and then no transaction is needed to find that out.
        waits = await sql.fetchval(_WAITS, member_id, until)
    if waits:
        await _until_none_are_left(work)


async def earn_members(program_id: UUID, members: list[UUID], batch: UUID | None) -> int:
    """Earn everything that waits for members of a program; return how many events that was.

    Safe to run twice and on two workers at once: who comes second finds nothing left.

    Args:
        batch: of the outbox, deleted with the last of it.

    Raises:
        Unavailable: the database stayed away or busy; what is not done stays in the outbox.
    """

    async def work() -> list[Earned]:
        async with transaction() as sql:
            earned = await _chunk(sql, program_id, members)
            if len(earned) < CHUNK:
                await outbox.finish(sql, batch)
            return earned

    return await _until_none_are_left(work)


async def earn_batch(batch: UUID) -> int:
    """Earn what a batch of the outbox names; `consume` says what becomes of members whose books disagree."""
    return await consume(Queue.EARNING, batch, earn_members)
