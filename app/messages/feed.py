"""The feed: every message of a program, numbered in one order that never changes for whoever reads on.

Messages are written without numbers, in the transactions that they tell of, so that nobody waits for
anybody. Whoever numbers them holds the program's head of the feed until the commit: so numbers become
readable in their order, without a gap, and who has read up to one has missed nothing below it.
"""

from collections.abc import Sequence
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import structlog

from app.database import TRANSIENT, connection, retrying, transaction
from app.errors import Unavailable
from app.messages.topics import Topic, matches
from app.metrics import ERRORS
from app.paging import Page, PageResult, keyset, page_result

log = structlog.get_logger("laurel.messages")

SLICE = 1_000
"""So many messages of a program are numbered in one transaction."""
_PROGRAMS = 50
_MAX_SLICES = 5
"""So many slices whoever reads numbers ahead; what is left then is the workers', or the next one's."""

# From program to program by the index: the messages of none are counted.
_WAITING = """
WITH RECURSIVE waiting AS (
    (SELECT program_id FROM message /* scoped by: worker */ WHERE program_id > $1 ORDER BY program_id LIMIT 1)
    UNION ALL
    SELECT (SELECT m.program_id FROM message m /* scoped by: worker */
            WHERE m.program_id > w.program_id ORDER BY m.program_id LIMIT 1)
    FROM waiting w WHERE w.program_id IS NOT NULL
)
SELECT program_id FROM waiting WHERE program_id IS NOT NULL LIMIT $2
"""

_IS_WAITING = "SELECT EXISTS (SELECT FROM message WHERE program_id = $1)"

_MAKE_HEADS = """
INSERT INTO feed_head (program_id, position)
SELECT t.program_id, 0 FROM unnest($1::uuid[]) AS t(program_id)
WHERE NOT EXISTS (SELECT FROM feed_head h WHERE h.program_id = t.program_id)
ORDER BY t.program_id ON CONFLICT DO NOTHING
"""

_LOCK_HEADS = """
SELECT program_id FROM feed_head WHERE program_id = ANY($1::uuid[]) ORDER BY program_id FOR NO KEY UPDATE
"""

# A statement of its own after the lock: it sees all that was numbered before. Rows are taken by their place
# (ctid), because nobody else moves them, and no plan can take that for few or for many.
_NUMBER = """
WITH taken AS (
    DELETE FROM message /* scoped by: worker */ WHERE ctid = ANY (ARRAY(
        SELECT m.ctid FROM unnest($1::uuid[]) AS t(program_id) CROSS JOIN LATERAL (
            SELECT ctid FROM message WHERE program_id = t.program_id ORDER BY n LIMIT $2
        ) m
    ))
    RETURNING program_id, n, id, topic, member_id, payload, created_at
), numbered AS (
    SELECT t.*, h.position + row_number() OVER (PARTITION BY t.program_id ORDER BY t.n) AS position
    FROM taken t JOIN feed_head h ON h.program_id = t.program_id
), kept AS (
    INSERT INTO feed (program_id, position, id, topic, member_id, payload, created_at)
    SELECT program_id, position, id, topic, member_id, payload, created_at FROM numbered
    ORDER BY program_id, position
), lasts AS (
    SELECT program_id, max(position) AS position, count(*) AS numbered FROM numbered GROUP BY program_id
), moved AS (
    UPDATE feed_head h SET position = l.position FROM lasts l WHERE h.program_id = l.program_id
)
SELECT program_id, numbered FROM lasts
"""

_COLUMNS = "f.position, f.id, f.topic, f.member_id, f.payload, f.created_at"

_BY_IDS = f"SELECT {_COLUMNS} FROM feed f WHERE f.program_id = $1 AND f.id = ANY($2::uuid[])"  # noqa: S608


class FeedMessage(NamedTuple):
    """A message with its number: `position` counts from 1 on, in each program by itself."""

    position: int
    id: UUID
    topic: str
    member_id: UUID | None
    payload: Any
    created_at: datetime


async def _number(sql: asyncpg.Connection, programs: Sequence[UUID], lock: str) -> dict[UUID, int]:
    """Number a slice of what waits in each program whose head can be locked; return how many, by program."""
    await sql.execute(_MAKE_HEADS, programs)
    mine = [row["program_id"] for row in await sql.fetch(lock, programs)]
    if not mine:
        return {}
    return {row["program_id"]: row["numbered"] for row in await sql.fetch(_NUMBER, mine, SLICE)}


async def number_waiting() -> int:
    """Number a slice of what waits, in every program; one cheap statement where nothing does.

    Safe to run on any number of workers at once: a program whose head somebody holds is passed over.

    Returns:
        How many messages were numbered; more may wait unless it is 0.

    Raises:
        Unavailable: the database is away or busy.
    """
    total = 0
    last = UUID(int=0)
    while True:
        async with connection() as sql:
            programs = [row["program_id"] for row in await sql.fetch(_WAITING, last, _PROGRAMS)]
        if not programs:
            return total
        moment = monotonic()
        total += await _number_apart([each for each in programs if _put_off.get(each, 0.0) <= moment])
        if len(programs) < _PROGRAMS:
            return total
        last = programs[-1]


_PUT_OFF_SECONDS = 60.0
_put_off: dict[UUID, float] = {}
"""Programs whose feed disagrees with its head: they are left alone for a while, by monotonic seconds."""


async def _number_apart(programs: list[UUID]) -> int:
    """Number a slice of programs; one whose feed is broken does not hold up the others."""
    if not programs:
        return 0
    try:
        async with transaction() as sql:
            numbered = await _number(sql, programs, f"{_LOCK_HEADS} SKIP LOCKED")
        return sum(numbered.values())
    except (*TRANSIENT, Unavailable):
        raise
    except Exception:
        if len(programs) == 1:
            _put_off[programs[0]] = monotonic() + _PUT_OFF_SECONDS
            ERRORS.labels("messages").inc()
            log.exception("messages_not_numbered", program_id=str(programs[0]))
            return 0
        middle = len(programs) // 2
        return await _number_apart(programs[:middle]) + await _number_apart(programs[middle:])


async def number_program(program_id: UUID) -> None:
    """Number what waits in a program, 5,000 messages at the most, so that what is read next knows them.

    Raises:
        Unavailable: the database is away, or somebody holds the head of the feed for long.
    """

    async def work() -> int:
        async with transaction() as sql:
            return (await _number(sql, [program_id], _LOCK_HEADS)).get(program_id, 0)

    for _ in range(_MAX_SLICES):
        async with connection() as sql:
            if not await sql.fetchval(_IS_WAITING, program_id):
                return
        if await retrying(work) < SLICE:
            return


async def list_messages(
    program_id: UUID, page: Page, topics: Sequence[str] = (), member_id: UUID | None = None
) -> PageResult[FeedMessage]:
    """Return a page of a program's feed, from the first message on; what waits for its number gets it first.

    Args:
        page: its keys are (position,).
        topics: what to hear of, as `check_topics` knows it; everything when empty.
        member_id: whose messages alone; everybody's, and those of nobody, when left out.

    Raises:
        Unavailable: the database is away or busy.
    """
    await number_program(program_id)
    wanted = [topic for topic in Topic if matches(topics, topic)] if topics else None
    args: list[Any] = [each for each in (program_id, member_id, wanted) if each is not None]
    keys = keyset(["f.position"], page=page, first_param=len(args) + 1)
    order = f"{keys.where} ORDER BY {keys.order_by} LIMIT {keys.limit}"
    source = "feed f"
    if member_id is not None:
        of_topic = "" if wanted is None else "f.topic = ANY($3) AND"
        source += f" WHERE f.program_id = $1 AND f.member_id = $2 AND {of_topic} {order}"
    elif wanted is None:
        source += f" WHERE f.program_id = $1 AND {order}"
    else:
        # Topic by topic, so that one that is rare is not looked for among all the others.
        source = f"""
            unnest($2::text[]) AS t(topic) CROSS JOIN LATERAL (
                SELECT f.* FROM feed f WHERE f.program_id = $1 AND f.topic = t.topic AND {order}
            ) f ORDER BY {keys.order_by} LIMIT {keys.limit}
        """  # noqa: S608 - parts that are constants, values are parameters
    async with connection() as sql:
        rows = await sql.fetch(f"SELECT {_COLUMNS} FROM {source}", *args, *keys.args)  # noqa: S608
    return page_result([FeedMessage._make(row) for row in rows], page)


async def get_messages(program_id: UUID, ids: Sequence[UUID]) -> list[FeedMessage | None]:
    """Return messages of a program's feed in the order of the ids given; None where it has none."""
    async with connection() as sql:
        rows = await sql.fetch(_BY_IDS, program_id, list(ids))
    found = {row["id"]: FeedMessage._make(row) for row in rows}
    return [found.get(each) for each in ids]
