"""Proving the books: everything that can be computed twice is, and the first differences are told."""

from collections.abc import AsyncIterator
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.database import transaction

MAX_FINDINGS = 100
"""Differences that are told of one check; the first says enough."""

# Each check lists what disagrees, as (account, what is kept, what it comes to). `a` is the accounts looked at.
CHECKS = {
    "the balance is the sum of its entries": """ /* scoped by: account */
        SELECT a.id, format('%s available, %s pending, %s reserved', a.available, a.pending, a.reserved),
            format('entries come to %s, %s, %s', coalesce(e.available, 0), coalesce(e.pending, 0), coalesce(e.reserved, 0))
        FROM a LEFT JOIN (SELECT account_id, sum(available_change) AS available, sum(pending_change) AS pending,
            sum(reserved_change) AS reserved FROM ledger_entry GROUP BY 1) e ON e.account_id = a.id
        WHERE (a.available, a.pending, a.reserved)
            IS DISTINCT FROM (coalesce(e.available, 0), coalesce(e.pending, 0), coalesce(e.reserved, 0))""",
    "entries are numbered 1, 2, 3 without a gap": """ /* scoped by: account */
        SELECT a.id, format('sequence %s', a.sequence), format('%s entries up to %s', coalesce(e.n, 0), coalesce(e.last, 0))
        FROM a LEFT JOIN (SELECT account_id, count(*) AS n, max(sequence) AS last, min(sequence) AS first
            FROM ledger_entry GROUP BY 1) e ON e.account_id = a.id
        WHERE a.sequence <> coalesce(e.n, 0) OR a.sequence <> coalesce(e.last, 0) OR coalesce(e.first, 1) <> 1""",
    "each entry's sums follow from those before it": """ /* scoped by: account */
        SELECT account_id, format('entry %s: %s, %s, %s', sequence, available_after, pending_after, reserved_after),
            format('running sums are %s, %s, %s', available, pending, reserved)
        FROM (SELECT e.*, sum(available_change) OVER w AS available, sum(pending_change) OVER w AS pending,
                sum(reserved_change) OVER w AS reserved
            FROM ledger_entry e JOIN a ON a.id = e.account_id WINDOW w AS (PARTITION BY e.account_id ORDER BY e.sequence)) s
        WHERE (available_after, pending_after, reserved_after) IS DISTINCT FROM (available, pending, reserved)""",
    "each entry changed what it says": """ /* scoped by: account */
        SELECT e.account_id, format('entry %s: %s of %s, for entry %s', e.sequence, e.kind, e.amount, coalesce(e.reference::text, 'none')),
            format('changes are %s, %s, %s', e.available_change, e.pending_change, e.reserved_change)
        FROM ledger_entry e JOIN a ON a.id = e.account_id
        LEFT JOIN ledger_entry r ON r.account_id = e.account_id AND r.sequence = e.reference AND r.sequence < e.sequence
        WHERE (CASE
            WHEN e.kind IN ('EARN', 'ADJUST') THEN e.reference IS NULL AND e.reserved_change = 0
                AND (e.amount IN (e.available_change, e.pending_change)) AND 0 IN (e.available_change, e.pending_change)
            WHEN e.kind = 'RELEASE' THEN (e.available_change, e.pending_change, e.reserved_change) = (e.amount, -e.amount, 0)
            WHEN e.kind = 'RESERVE' THEN (e.available_change, e.pending_change, e.reserved_change) = (-e.amount, 0, e.amount)
            WHEN e.kind = 'EXPIRE' OR (e.kind = 'REDEEM' AND e.reference IS NULL)
                THEN (e.available_change, e.pending_change, e.reserved_change) = (-e.amount, 0, 0)
            WHEN e.kind = 'REDEEM' THEN r.kind = 'RESERVE' AND (e.available_change, e.pending_change, e.reserved_change) = (0, 0, -e.amount)
            WHEN e.kind = 'RESTORE' THEN r.kind IN ('RESERVE', 'REDEEM') AND (e.available_change, e.pending_change, e.reserved_change)
                = (e.amount, 0, CASE WHEN r.kind = 'RESERVE' THEN -e.amount ELSE 0 END)
            WHEN e.kind = 'CLAWBACK' THEN r.kind = 'EARN' AND greatest(e.available_change, e.pending_change) <= 0
                AND e.reserved_change = 0 AND e.amount + e.available_change + e.pending_change >= 0
            END) IS NOT TRUE OR (e.reference IS NOT NULL AND e.kind NOT IN ('REDEEM', 'RESTORE', 'CLAWBACK'))""",
    "lots hold what is available and pending": """ /* scoped by: account */
        SELECT a.id, format('%s available, %s pending', a.available, a.pending),
            format('lots hold %s and %s', coalesce(l.available, 0), coalesce(l.pending, 0))
        FROM a LEFT JOIN (SELECT account_id, sum(remaining) FILTER (WHERE NOT pending) AS available,
            sum(remaining) FILTER (WHERE pending) AS pending FROM lot GROUP BY 1) l ON l.account_id = a.id
        WHERE greatest(a.available, 0) <> coalesce(l.available, 0) OR a.pending <> coalesce(l.pending, 0)""",
    "a lot has left what entries have not taken": """ /* scoped by: account */
        SELECT l.account_id, format('lot %s has %s left of %s', l.sequence, l.remaining, l.original),
            format('%s were taken', coalesce(x.taken, 0))
        FROM lot l JOIN a ON a.id = l.account_id LEFT JOIN (SELECT account_id, lot_sequence, expires_on, sum(amount) AS taken
            FROM allocation GROUP BY 1, 2, 3) x
            ON (x.account_id, x.lot_sequence, x.expires_on) = (l.account_id, l.sequence, l.expires_on)
        WHERE l.remaining <> l.original - coalesce(x.taken, 0)""",
    "every earn has its lot, and every lot its earn": """ /* scoped by: account */
        SELECT coalesce(e.account_id, l.account_id), format('entry %s of %s', e.sequence, e.amount),
            format('lot %s of %s', l.sequence, l.original)
        FROM (SELECT e.* FROM ledger_entry e JOIN a ON a.id = e.account_id
            WHERE e.kind = 'EARN' OR (e.kind = 'ADJUST' AND e.amount > 0)) e
        FULL JOIN (SELECT l.* FROM lot l JOIN a ON a.id = l.account_id) l
            ON (l.account_id, l.sequence, l.expires_on) = (e.account_id, e.sequence, e.expires_on)
        WHERE e.amount IS DISTINCT FROM l.original OR (l.pending AND l.matures_on <> e.matures_on)""",
    "allocations belong to an entry and a lot": """ /* scoped by: account */
        SELECT x.account_id, format('allocation of %s by entry %s from lot %s', x.amount, x.sequence, x.lot_sequence), 'one of them is missing'
        FROM allocation x JOIN a ON a.id = x.account_id
        WHERE NOT EXISTS (SELECT FROM ledger_entry e WHERE (e.account_id, e.sequence) = (x.account_id, x.sequence))
           OR NOT EXISTS (SELECT FROM lot l WHERE (l.account_id, l.sequence, l.expires_on) = (x.account_id, x.lot_sequence, x.expires_on))""",
    "what an entry took from lots is what it changed": """ /* scoped by: account */
        SELECT e.account_id, format('entry %s (%s) changed %s available, %s pending', e.sequence, e.kind, e.available_change, e.pending_change),
            format('allocations come to %s', coalesce(x.taken, 0))
        FROM ledger_entry e JOIN a ON a.id = e.account_id LEFT JOIN (SELECT account_id, sequence, sum(amount) AS taken
            FROM allocation GROUP BY 1, 2) x ON (x.account_id, x.sequence) = (e.account_id, e.sequence)
        WHERE coalesce(x.taken, 0) <> CASE
            WHEN e.kind IN ('RESERVE', 'EXPIRE') OR (e.kind = 'REDEEM' AND e.reference IS NULL) OR (e.kind = 'ADJUST' AND e.amount < 0)
                THEN -e.available_change
            WHEN e.kind = 'REDEEM' THEN 0
            WHEN e.kind = 'CLAWBACK' THEN greatest(e.available_after - e.available_change, 0) - greatest(e.available_after, 0) - e.pending_change
            WHEN e.kind = 'RESTORE' THEN greatest(e.available_after - e.available_change, 0) - greatest(e.available_after, 0)
            WHEN e.available_change > 0 THEN e.available_change - (greatest(e.available_after, 0) - greatest(e.available_after - e.available_change, 0))
            ELSE 0 END""",
    "no more is undone than was done": """ /* scoped by: account */
        SELECT e.account_id, format('entry %s of %s', e.sequence, e.amount), format('%s captured, given back or taken back', sum(r.amount))
        FROM ledger_entry e JOIN a ON a.id = e.account_id
        JOIN ledger_entry r ON r.account_id = e.account_id AND r.reference = e.sequence
        GROUP BY e.account_id, e.sequence, e.amount HAVING sum(r.amount) > e.amount""",
    "lifetime sums follow from the entries": """ /* scoped by: account */
        SELECT a.id, format('%s earned, %s spent, %s expired', a.lifetime_earned, a.lifetime_spent, a.lifetime_expired),
            format('entries come to %s, %s, %s', coalesce(e.earned, 0), coalesce(e.spent, 0), coalesce(e.expired, 0))
        FROM a LEFT JOIN (
            SELECT e.account_id,
                sum(e.available_change + e.pending_change) FILTER (WHERE e.kind IN ('EARN', 'ADJUST', 'CLAWBACK')) AS earned,
                coalesce(sum(e.amount) FILTER (WHERE e.kind = 'REDEEM'), 0)
                    - coalesce(sum(e.amount) FILTER (WHERE e.kind = 'RESTORE' AND r.kind = 'REDEEM'), 0) AS spent,
                sum(e.amount) FILTER (WHERE e.kind = 'EXPIRE') AS expired
            FROM ledger_entry e LEFT JOIN ledger_entry r ON r.account_id = e.account_id AND r.sequence = e.reference
            GROUP BY 1) e ON e.account_id = a.id
        WHERE (a.lifetime_earned, a.lifetime_spent, a.lifetime_expired)
            IS DISTINCT FROM (coalesce(e.earned, 0), coalesce(e.spent, 0), coalesce(e.expired, 0))""",
    "no account is due later than its lots": """ /* scoped by: account */
        SELECT a.id, format('next due on %s', a.next_due), format('a lot is due on %s', min(CASE WHEN l.pending THEN l.matures_on ELSE l.expires_on + 1 END))
        FROM a JOIN lot l ON l.account_id = a.id AND l.open GROUP BY a.id, a.next_due
        HAVING min(CASE WHEN l.pending THEN l.matures_on ELSE l.expires_on + 1 END) < a.next_due""",
    "every award is one earn of the same points": """ /* scoped by: account */
        SELECT a.id, format('event %s earned %s by rule %s', w.event_id, w.points, w.rule_id), coalesce(format('entry %s has %s', e.sequence, e.amount), 'no entry')
        FROM award w JOIN event v ON v.id = w.event_id JOIN a ON a.id = v.member_id
        LEFT JOIN ledger_entry e ON e.account_id = v.member_id AND e.sequence = w.entry_sequence
        WHERE w.points > 0 AND (e.kind, e.amount, e.source_id) IS DISTINCT FROM ('EARN', w.points, w.event_id)""",
    "every earn from an event is an award": """ /* scoped by: account */
        SELECT e.account_id, format('entry %s has %s for event %s', e.sequence, e.amount, e.source_id), 'no award'
        FROM ledger_entry e JOIN a ON a.id = e.account_id
        WHERE e.kind = 'EARN' AND e.source = 'event'
          AND NOT EXISTS (SELECT FROM award w WHERE w.event_id = e.source_id AND w.entry_sequence = e.sequence)""",
    "an event's points are those of its awards": """ /* scoped by: account */
        SELECT a.id, format('event %s earned %s', v.id, o.points), format('its awards come to %s', coalesce(sum(w.points), 0))
        FROM event_outcome o JOIN event v ON v.id = o.event_id JOIN a ON a.id = v.member_id LEFT JOIN award w ON w.event_id = o.event_id
        GROUP BY a.id, v.id, o.points HAVING o.points <> coalesce(sum(w.points), 0)""",
    "every event either waits or has an outcome": """ /* scoped by: account */
        SELECT a.id, format('event %s', v.id), CASE WHEN q.event_id IS NULL THEN 'neither' ELSE 'both' END
        FROM event v JOIN a ON a.id = v.member_id LEFT JOIN event_queue q ON q.event_id = v.id AND q.member_id = v.member_id AND q.occurred_at = v.occurred_at
        LEFT JOIN event_outcome o ON o.event_id = v.id
        WHERE (q.event_id IS NULL) = (o.event_id IS NULL)""",
    "whoever has events waiting stands in the outbox": """ /* scoped by: account */
        SELECT q.member_id, format('event %s waits', q.event_id), 'no work in the outbox names its member'
        FROM event_queue q JOIN a ON a.id = q.member_id
        WHERE NOT EXISTS (SELECT FROM outbox o WHERE o.queue = 'earning' AND q.member_id = ANY(o.members))""",
}


class Finding(NamedTuple):
    """One difference: which check, in which account, what is kept and what it comes to."""

    check: str
    account_id: UUID
    kept: str
    computed: str


async def verify(program_id: UUID | None = None) -> AsyncIterator[tuple[str, list[Finding]]]:
    """Compute everything again from entries, allocations and awards, and compare.

    Reads one snapshot of the database, so that it can run beside live traffic.

    Args:
        program_id: the program to look at; all of them without it.

    Yields:
        Each check's name with its differences, MAX_FINDINGS at most; none where all is well.
    """
    async with transaction() as sql:
        await sql.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await sql.execute("SET LOCAL statement_timeout = 0")
        for name, check in CHECKS.items():
            yield name, await _run(sql, name, check, program_id)


async def _run(sql: asyncpg.Connection, name: str, check: str, program_id: UUID | None) -> list[Finding]:
    statement = f"""
        WITH a AS (SELECT * FROM account WHERE $1::uuid IS NULL OR program_id = $1)
        {check} LIMIT {MAX_FINDINGS}
    """  # noqa: S608 - nothing but constants
    rows = await sql.fetch(statement, program_id, timeout=3600)
    return [Finding(name, *row) for row in rows]
