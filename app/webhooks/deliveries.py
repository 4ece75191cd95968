"""The queues of webhooks in the database: what waits, whose turn it is, and what came of it.

A webhook is delivered by one worker at a time, which holds its lease. Messages wait in the feed, and become
rows of `webhook_delivery` a few hundred at a time, when what was there before is sent or has to wait.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from app.database import connection, retrying, transaction
from app.ids import key_id, new_id, to_global_id
from app.messages.leaving import Message, leave
from app.messages.topics import Topic
from app.webhooks.letters import Letter

QUEUE = "webhooks"
"""What the failed jobs of webhooks are under."""

LEASE = timedelta(seconds=30)
NOBODY = UUID(int=0)
"""Stands for the member of messages that are of none: they are a line of their own."""

MAX_WAITING = 100_000
"""Deliveries that wait for their receiver at most; the rest waits in the feed."""

_TAKE = 500
_FAN_OUT = 1_000
_MAX_FAN_OUTS = 10

HEARS = """(cardinality(w.topics) = 0 OR '*' = ANY(w.topics) OR f.topic = ANY(w.topics)
    OR split_part(f.topic, '.', 1) || '.*' = ANY(w.topics))"""
"""Whether a webhook `w` hears of a message `f`; `app.messages.topics.matches` says the same."""

_CLAIM = """
UPDATE webhook SET lease = $1, leased_until = $2, due_at = $3 /* scoped by: worker */ WHERE id IN (
    SELECT w.id FROM webhook w LEFT JOIN feed_head h ON h.program_id = w.program_id
    WHERE w.disabled_at IS NULL AND (w.leased_until IS NULL OR w.leased_until <= $3)
        AND (w.paused_until IS NULL OR w.paused_until <= $3)
        AND (w.due_at <= $3 OR (NOT w.backed_up AND h.position > w.position))
    ORDER BY w.due_at NULLS LAST LIMIT $4 FOR UPDATE OF w SKIP LOCKED
)
RETURNING id, program_id, url, secret, lease, failures, failing_since, last_error, paused_until
"""

_FAN_OUT_SOME = f"""
WITH w AS (SELECT * FROM webhook WHERE program_id = $1 AND id = $2 AND lease = $3),
head AS (SELECT position FROM feed_head WHERE program_id = $1),
scanned AS (
    SELECT f.position, f.member_id, f.topic FROM feed f
    WHERE f.program_id = $1 AND f.position > (SELECT position FROM w)
        AND f.position <= (SELECT position FROM head)
    ORDER BY f.position LIMIT $4
),
written AS (
    INSERT INTO webhook_delivery (webhook_id, position, program_id, member_id, next_at)
    SELECT w.id, f.position, w.program_id, f.member_id, $5 FROM scanned f, w WHERE {HEARS}
    ON CONFLICT DO NOTHING
    RETURNING 1
),
moved AS (
    UPDATE webhook SET position = (SELECT max(position) FROM scanned)
    WHERE program_id = $1 AND id = $2 AND EXISTS (SELECT FROM scanned)
)
SELECT (SELECT count(*) FROM scanned) AS scanned, (SELECT count(*) FROM written) AS written
"""  # noqa: S608 - nothing but constants

_COUNT = """
SELECT count(*) FROM (
    SELECT FROM webhook_delivery WHERE program_id = $1 AND webhook_id = $2 LIMIT $3
) waiting
"""

_LETTER = """d.position, f.id, f.topic, d.member_id, m.external_id, f.payload, f.created_at,
    d.attempts, d.first_failed_at"""

_JOINED = """
JOIN feed f ON f.program_id = d.program_id AND f.position = d.position
LEFT JOIN member m ON m.program_id = d.program_id AND m.id = d.member_id
"""

# A member whose first message waits for its time holds up their own messages, and nobody else's.
_READY = """d.webhook_id = $2 AND coalesce(d.member_id, $4) <> ALL($5::uuid[])
    AND coalesce(d.member_id, $4) NOT IN (
        SELECT coalesce(b.member_id, $4) FROM webhook_delivery b
        WHERE b.program_id = $1 AND b.webhook_id = $2 AND b.attempts > 0 AND b.next_at > $3
    )"""

_NEXT = f"""
SELECT {_LETTER} FROM (
    SELECT * FROM webhook_delivery d WHERE d.program_id = $1 AND {_READY} ORDER BY d.position LIMIT $6
) d {_JOINED} ORDER BY d.position
"""  # noqa: S608 - nothing but constants

# What was not tried yet says more of the receiver than what failed before.
_PROBE = f"""
SELECT {_LETTER} FROM (
    SELECT * FROM (
        SELECT DISTINCT ON (coalesce(d.member_id, $4)) * FROM webhook_delivery d
        WHERE d.program_id = $1 AND {_READY}
        ORDER BY coalesce(d.member_id, $4), d.position
    ) first ORDER BY attempts > 0, position LIMIT $6
) d {_JOINED}
"""  # noqa: S608 - nothing but constants

_RENEW = """
UPDATE webhook SET leased_until = $4, failures = $5, failing_since = $6, last_error = $7, paused_until = $8
WHERE program_id = $1 AND id = $2 AND lease = $3
"""

_REMOVE = """
DELETE FROM webhook_delivery WHERE program_id = $1 AND webhook_id = $2 AND position = ANY($3::bigint[])
"""

_PUT_OFF = """
UPDATE webhook_delivery d SET attempts = t.attempts, next_at = t.next_at, first_failed_at = t.first_failed_at,
    error = t.error
FROM unnest($3::bigint[], $4::integer[], $5::timestamptz[], $6::timestamptz[], $7::text[])
    AS t(position, attempts, next_at, first_failed_at, error)
WHERE d.program_id = $1 AND d.webhook_id = $2 AND d.position = t.position
"""

_AT_ONCE = """
UPDATE webhook_delivery SET next_at = $3
WHERE program_id = $1 AND webhook_id = $2 AND attempts > 0 AND next_at > $3
"""

_GIVE_UP = """
INSERT INTO failed_job (id, program_id, queue, subject, payload, error, attempts, first_failed_at, last_failed_at)
SELECT t.id, $1, $2, t.subject, jsonb_build_object('webhook', $3::uuid, 'position', t.position), t.error,
    t.attempts, t.first_failed_at, $9
FROM unnest($4::uuid[], $5::uuid[], $6::bigint[], $7::text[], $8::integer[], $10::timestamptz[])
    AS t(id, subject, position, error, attempts, first_failed_at)
ON CONFLICT (program_id, queue, subject) DO UPDATE SET error = excluded.error,
    attempts = failed_job.attempts + excluded.attempts, last_failed_at = excluded.last_failed_at
"""  # noqa: E501

_RELEASE = """
UPDATE webhook SET lease = NULL, leased_until = NULL,
    due_at = CASE WHEN $4::boolean THEN $5::timestamptz ELSE (
    SELECT min(next_at) FROM webhook_delivery d
    WHERE d.program_id = $1 AND d.webhook_id = $2 AND d.attempts > 0
) END
WHERE program_id = $1 AND id = $2 AND lease = $3
"""


class LeaseLost(Exception):
    """Another worker delivers the webhook now, or there is none any more."""


@dataclass(slots=True)
class Claim:
    """A webhook that is ours to deliver for a while, and how its receiver is doing."""

    id: UUID
    program_id: UUID
    url: str
    secret: bytes
    lease: UUID
    failures: int
    failing_since: datetime | None
    last_error: str | None
    paused_until: datetime | None


class Failed(NamedTuple):
    """A message that was not taken, when it is tried again (None: never), and why it was not."""

    letter: Letter
    next_at: datetime | None
    first_failed_at: datetime
    error: str


@dataclass(slots=True)
class Results:
    """What came of attempts, and is not in the database yet."""

    delivered: list[Letter] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    recovered: bool = False
    """The receiver takes messages again: what waits for its time is due at once."""
    disabled: bool = False

    def __bool__(self) -> bool:
        return bool(self.delivered or self.failed or self.disabled)


async def claim(limit: int, now: datetime) -> list[Claim]:
    """Take the lease of webhooks that have something to be sent, or something new in their feed.

    Raises:
        Unavailable: the database is away or busy.
    """
    async with connection() as sql:
        rows = await sql.fetch(_CLAIM, new_id(), now + LEASE, now, limit)
    return [Claim(*row) for row in rows]


async def take(claimed: Claim, busy: Collection[UUID], probe: bool, now: datetime) -> list[Letter]:
    """Return what is to be sent next, in the order of the feed: some 500 messages, or one to probe.

    Where less is there, deliveries are written of what is new in the feed.

    Args:
        busy: members (NOBODY among them) whose messages are being sent.

    Raises:
        LeaseLost: the webhook is not ours any more.
        Unavailable: the database is away or busy.
    """
    limit = 1 if probe else _TAKE
    statement = _PROBE if probe else _NEXT

    async def ready() -> list[asyncpg.Record]:
        async with connection() as sql:
            rows: list[asyncpg.Record] = await sql.fetch(
                statement, claimed.program_id, claimed.id, now, NOBODY, list(busy), limit
            )
        return rows

    rows = await ready()
    for _ in range(_MAX_FAN_OUTS):
        if len(rows) >= limit:
            break
        scanned, written = await _fan_out(claimed, now)
        if written:
            rows = await ready()
        if scanned < _FAN_OUT:
            break
    return [Letter._make(row) for row in rows]


async def _fan_out(claimed: Claim, now: datetime) -> tuple[int, int]:
    """Write the deliveries of what is next in the feed; return how many were looked at, and written."""

    async def work() -> tuple[int, int]:
        async with transaction() as sql:
            # Deleting the webhook waits for us, or we for it: no delivery is left behind.
            own = await sql.fetchval(
                "SELECT backed_up FROM webhook WHERE program_id = $1 AND id = $2 AND lease = $3"
                " FOR NO KEY UPDATE",
                claimed.program_id, claimed.id, claimed.lease,
            )  # fmt: skip
            if own is None:
                raise LeaseLost
            waiting = await sql.fetchval(_COUNT, claimed.program_id, claimed.id, MAX_WAITING)
            full = waiting >= MAX_WAITING
            if full != own:
                await sql.execute(
                    "UPDATE webhook SET backed_up = $3 WHERE program_id = $1 AND id = $2",
                    claimed.program_id, claimed.id, full,
                )  # fmt: skip
            if full:
                return 0, 0
            row = await sql.fetchrow(
                _FAN_OUT_SOME, claimed.program_id, claimed.id, claimed.lease, _FAN_OUT, now
            )
            return row["scanned"], row["written"]

    return await retrying(work)


async def keep(claimed: Claim, results: Results, now: datetime) -> None:
    """Write down what came of attempts, and hold the lease for longer.

    Raises:
        LeaseLost: the webhook is not ours any more; nothing was written.
        Unavailable: the database is away or busy; nothing was written.
    """

    async def work() -> None:
        async with transaction() as sql:
            program_id, webhook_id = claimed.program_id, claimed.id
            # First of all, so that whoever deletes the webhook or takes it over comes before or after.
            renewed = await sql.execute(
                _RENEW, program_id, webhook_id, claimed.lease, now + LEASE, claimed.failures,
                claimed.failing_since, claimed.last_error, claimed.paused_until,
            )  # fmt: skip
            if not renewed.endswith(" 1"):
                raise LeaseLost
            again = [each for each in results.failed if each.next_at is not None]
            never = [each for each in results.failed if each.next_at is None]
            done = [letter.position for letter in (*results.delivered, *(each.letter for each in never))]
            if done:
                await sql.execute(_REMOVE, program_id, webhook_id, done)
            if again:
                await _put_off(sql, claimed, again)
            if never:
                await _give_up(sql, claimed, never, now)
            if results.recovered:
                await sql.execute(_AT_ONCE, program_id, webhook_id, now)
            if results.disabled:
                await _disable(sql, claimed, now)

    await retrying(work)


async def _put_off(sql: asyncpg.Connection, claimed: Claim, failed: Sequence[Failed]) -> None:
    await sql.execute(
        _PUT_OFF, claimed.program_id, claimed.id,
        [each.letter.position for each in failed],
        [each.letter.attempts + 1 for each in failed],
        [each.next_at for each in failed],
        [each.first_failed_at for each in failed],
        [each.error for each in failed],
    )  # fmt: skip


async def _give_up(sql: asyncpg.Connection, claimed: Claim, failed: Sequence[Failed], now: datetime) -> None:
    """Keep what no attempt got across as failed jobs."""
    await sql.execute(
        _GIVE_UP, claimed.program_id, QUEUE, claimed.id,
        [new_id() for _ in failed],
        [key_id(claimed.id, each.letter.position) for each in failed],
        [each.letter.position for each in failed],
        [each.error for each in failed],
        [each.letter.attempts + 1 for each in failed],
        now,
        [each.first_failed_at for each in failed],
    )  # fmt: skip


async def _disable(sql: asyncpg.Connection, claimed: Claim, now: datetime) -> None:
    """Switch a webhook off, and tell the others."""
    await sql.execute(
        "UPDATE webhook SET disabled_at = $3 WHERE program_id = $1 AND id = $2",
        claimed.program_id, claimed.id, now,
    )  # fmt: skip
    payload: dict[str, Any] = {
        "webhookId": to_global_id("Webhook", claimed.id),
        "url": claimed.url,
        "error": claimed.last_error,
    }
    await leave(sql, claimed.program_id, [Message(Topic.WEBHOOK_DISABLED, None, payload)], now)


async def release(claimed: Claim, more: bool, now: datetime) -> None:
    """Give a lease back; one that is ours no more stays where it is.

    Args:
        more: something is there to be sent at once, or when the pause is over.

    Raises:
        Unavailable: the database is away or busy; the lease runs out by itself.
    """
    async with connection() as sql:
        await sql.execute(_RELEASE, claimed.program_id, claimed.id, claimed.lease, more, now)


_LETTER_OF = f"""
SELECT {_LETTER.replace("d.attempts, d.first_failed_at", "0, NULL::timestamptz")}, w.id AS webhook_id, w.url, w.secret
FROM (SELECT $1::uuid AS program_id, $3::bigint AS position) k
JOIN webhook w ON w.program_id = $1 AND w.id = $2
JOIN LATERAL (SELECT * FROM feed WHERE program_id = $1 AND position = k.position) f ON true
JOIN LATERAL (SELECT f.position, f.member_id) d ON true
LEFT JOIN member m ON m.program_id = $1 AND m.id = f.member_id
"""  # noqa: S608, E501 - nothing but constants


async def find_letter(program_id: UUID, webhook_id: UUID, position: int) -> tuple[Letter, str, bytes] | None:
    """Return a message of the feed as a webhook's receiver gets it, the address, and the sealed secret.

    None when there is no such webhook, or no such message.
    """
    async with connection() as sql:
        row = await sql.fetchrow(_LETTER_OF, program_id, webhook_id, position)
    if row is None:
        return None
    size = len(Letter._fields)
    return Letter._make(row[:size]), row["url"], row["secret"]
