"""Telling members that points are about to expire: 30 days before their last day, and 7.

The days of expiry are gone through one after the other, in slices of accounts, and how far that has come
is kept: so each day is told once, on any number of workers, and what was missed is told late, with the days
that are really left. What comes into an account within the last 30 or 7 days of its life is told at the next
of the two, or not at all: whoever has just earned it was told its last day.
"""

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app import clock
from app.database import connection, retrying, transaction
from app.days import end_of_day, local_date
from app.ledger.reads import idles_on
from app.messages.leaving import Message, leave
from app.messages.topics import Topic
from app.programs.policies import load_policy
from app.programs.policy import ProgramPolicy

AHEAD = (30, 7)
"""So many days before their last day members are told of points, the longest first."""

_SLICE = 1_000
_NOBODY = UUID(int=0)

_PROGRAMS = """
SELECT p.id FROM program p WHERE p.id > $1 AND EXISTS (
    SELECT FROM unnest($2::integer[]) AS t(days)
    LEFT JOIN expiry_notice n ON n.program_id = p.id AND n.days = t.days
    WHERE n.done_until IS NULL OR n.done_until < ($3::timestamptz AT TIME ZONE p.timezone)::date + t.days
)
ORDER BY p.id LIMIT 100
"""

_BEGIN = """
INSERT INTO expiry_notice (program_id, days, done_until) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""

_TURN = """
SELECT done_until, after FROM expiry_notice WHERE program_id = $1 AND days = $2 FOR UPDATE SKIP LOCKED
"""

_DONE = "UPDATE expiry_notice SET done_until = $3, after = $4 WHERE program_id = $1 AND days = $2"

# Who has points whose own last day it is, and who falls idle on it.
_ACCOUNTS = """
SELECT id FROM (
    (SELECT DISTINCT l.account_id AS id FROM lot l JOIN account a ON a.id = l.account_id
    WHERE a.program_id = $1 AND l.expires_on = $2 AND l.account_id > $3 AND l.open
    ORDER BY 1 LIMIT $4)
    UNION
    (SELECT a.id FROM account a
    WHERE $5::integer IS NOT NULL AND a.program_id = $1 AND a.id > $3 AND a.available + a.pending > 0
        AND (greatest(a.active_on, $6::date) + make_interval(months => $5))::date = $2
    ORDER BY 1 LIMIT $4)
) x ORDER BY id LIMIT $4
"""

_LOCK = """
SELECT a.id, a.active_on FROM account a JOIN member m ON m.id = a.member_id
WHERE a.program_id = $1 AND a.id = ANY($2::uuid[]) AND m.status <> 'CLOSED'
ORDER BY a.id FOR NO KEY UPDATE OF a
"""

# What has matured by now can be spent, whether or not it was settled.
_POINTS = """
SELECT account_id, coalesce(sum(remaining) FILTER (WHERE expires_on = $2), 0)::bigint AS that_day,
    sum(remaining)::bigint AS from_then_on
FROM lot /* scoped by: account */
WHERE account_id = ANY($1::uuid[]) AND open AND (NOT pending OR matures_on <= $3) AND expires_on >= $2
GROUP BY account_id
"""


class _Slice(NamedTuple):
    """What one transaction did: how many were told, and whether there is more to do."""

    told: int = 0
    more: bool = False


async def tell_expiring() -> int:
    """Tell members of points that expire in 30 or in 7 days, in every program whose day has come.

    Days go by each program's zone. One statement where nothing is to be told. Safe to run twice, on any
    number of workers at once, and to be ended at any moment.

    Returns:
        How many messages were left.

    Raises:
        Unavailable: the database stayed away or busy; the next run goes on where this one ended.
    """
    total = 0
    last = _NOBODY
    while True:
        async with connection() as sql:
            rows = await sql.fetch(_PROGRAMS, last, list(AHEAD), clock.now())
        if not rows:
            return total
        for row in rows:
            total += await tell_program(row["id"])
        last = rows[-1]["id"]


async def tell_program(program_id: UUID) -> int:
    """Tell members of one program, as `tell_expiring` does; return how many messages were left."""
    total = 0
    for days, nearer in zip(AHEAD, [*AHEAD[1:], -1], strict=True):
        while True:
            told, more = await _tell_slice(program_id, days, nearer)
            total += told
            if not more:
                break
    return total


async def _tell_slice(program_id: UUID, days: int, nearer: int) -> _Slice:
    """Tell a slice of accounts, in one transaction.

    Args:
        days: how many days ahead.
        nearer: what is so near, or nearer, is told by the next of AHEAD alone, or not at all.
    """

    async def work() -> _Slice:
        async with transaction() as sql:
            policy = await load_policy(sql, program_id)
            today = local_date(clock.now(), policy.zone)
            horizon = _later(today, days)
            # A program that is new here begins with the day that is so far off today: it has told nothing,
            # and nobody waits for what lies behind.
            await sql.execute(_BEGIN, program_id, days, _later(horizon, -1))
            turn = await sql.fetchrow(_TURN, program_id, days)
            if turn is None or turn["done_until"] >= horizon:
                return _Slice()
            day = max(_later(turn["done_until"], 1), _later(today, nearer + 1))
            begun = turn["after"] if day == _later(turn["done_until"], 1) else None
            accounts = await _accounts(sql, policy, day, begun or _NOBODY)
            told = await _tell(sql, policy, accounts, day, today) if accounts else 0
            is_done = len(accounts) < _SLICE
            until, after = (day, None) if is_done else (_later(day, -1), accounts[-1])
            await sql.execute(_DONE, program_id, days, until, after)
            return _Slice(told, not is_done or day < horizon)

    return await retrying(work)


def _later(day: date, days: int) -> date:
    return date.fromordinal(day.toordinal() + days)


async def _accounts(sql: asyncpg.Connection, policy: ProgramPolicy, day: date, after: UUID) -> Sequence[UUID]:
    """Return the next accounts, by id, that may have points whose last day it is."""
    since = local_date(policy.expiry_changed_at, policy.zone)
    months = policy.expiry.inactive_months
    rows = await sql.fetch(_ACCOUNTS, policy.program_id, day, after, _SLICE, months, since)
    return [row["id"] for row in rows]


async def _tell(
    sql: asyncpg.Connection, policy: ProgramPolicy, accounts: Sequence[UUID], day: date, today: date
) -> int:
    """Tell the members of accounts what expires with a day, as it is under their locks; return how many."""
    idle_days = {
        row["id"]: idles_on(policy, row["active_on"])
        for row in await sql.fetch(_LOCK, policy.program_id, accounts)
    }
    messages = []
    for row in await sql.fetch(_POINTS, list(idle_days), day, today):
        idle_day = idle_days[row["account_id"]]
        # Who falls idle before that loses the points then, and who does on the day loses all that is left.
        points = 0 if idle_day < day else row["from_then_on"] if idle_day == day else row["that_day"]
        if points:
            payload = {
                "points": points,
                "expiresAt": end_of_day(day, policy.zone),
                "days": day.toordinal() - today.toordinal(),
            }
            messages.append(Message(Topic.POINTS_EXPIRING, row["account_id"], payload))
    await leave(sql, policy.program_id, messages, clock.now())
    return len(messages)
