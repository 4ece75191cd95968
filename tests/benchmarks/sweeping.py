"""Points that expire without anybody touching them: accounts a second, against the ledger's batches.

Each account has one lot whose last day was yesterday. It is locked, its lot closed, an entry written, and the
message that tells of it; an operation of a batch does as much, and spends or opens a lot.
"""

import time
from uuid import UUID

from app.database import connection
from app.ledger.service import MAX_BATCH
from app.ledger.sweep import sweep_program
from tests.benchmarks.harness import Figure, Servers, connected, in_turns, make_program, run
from tests.benchmarks.ledger import Ledger, make_ledger

_ACCOUNTS = """
INSERT INTO account (id, program_id, member_id, active_on)
SELECT x.id, $1, x.id, CURRENT_DATE
FROM (SELECT uuidv7() AS id FROM generate_series(1, $2::integer)) x RETURNING id
"""

# As an earn of ten points a year ago would have left it, today the first day without them.
_DUE = """
WITH filled AS (
    UPDATE account SET available = available + 10, lifetime_earned = lifetime_earned + 10,
        sequence = sequence + 1, next_due = $2
    WHERE id = ANY($1::uuid[]) RETURNING id, sequence, available
), entries AS (
    INSERT INTO ledger_entry (account_id, sequence, kind, amount, available_change, pending_change,
        reserved_change, available_after, pending_after, reserved_after, matures_on, expires_on, key,
        request_hash, source, source_id, reason, occurred_at, recorded_at)
    SELECT id, sequence, 'EARN', 10, 10, 0, 0, available, 0, 0, $2::date - 365, $2::date - 1,
        gen_random_uuid(), 10, 'event', gen_random_uuid(), '1 point per unit', $2::date - 365, $2::date - 365
    FROM filled
)
INSERT INTO lot SELECT id, $2::date - 1, sequence, $2::date - 365, 10, 10, false, true FROM filled
"""

_LEFT = "SELECT sum(available)::bigint FROM account WHERE id = ANY($1::uuid[])"
_TOLD = "SELECT count(*) FROM message WHERE program_id = $1 AND topic = 'points.expired'"


class Sweep:
    """Accounts on which points expire again and again."""

    def __init__(self, program_id: UUID, ledger: Ledger, accounts: list[UUID]) -> None:
        self._program_id = program_id
        self._ledger = ledger
        self._accounts = accounts

    async def rate(self) -> float:
        """Return the accounts a second of one sweep; making points due before it is not counted."""
        async with connection() as sql:
            await sql.execute(_DUE, self._accounts, self._ledger.today, timeout=600)
            await sql.execute("VACUUM ANALYZE account, lot, ledger_entry", timeout=600)
            await sql.execute("CHECKPOINT", timeout=600)
            told = await sql.fetchval(_TOLD, self._program_id)
        started = time.perf_counter()
        swept = await sweep_program(self._program_id)
        seconds = time.perf_counter() - started
        async with connection() as sql:
            assert swept == len(self._accounts)
            assert await sql.fetchval(_LEFT, self._accounts) == 0
            assert await sql.fetchval(_TOLD, self._program_id) == told + swept
        return swept / seconds


async def _measure(servers: Servers, quick: bool) -> list[Figure]:
    rounds, seconds, accounts = (3, 1.0, 10_000) if quick else (5, 3.0, 50_000)
    settings = await servers.new_database()
    async with connected(settings):
        program = (await make_program(1)).program
        ledger = await make_ledger(program)
        async with connection() as sql:
            ids = [row[0] for row in await sql.fetch(_ACCOUNTS, program.id, accounts)]
        sweep = Sweep(program.id, ledger, ids)
        await sweep.rate()
        await ledger.batches(0.5, MAX_BATCH)
        turns = await in_turns(rounds, sweep.rate, lambda: ledger.batches(seconds, MAX_BATCH))
    await servers.drop_database(settings)
    against = f"ledger operations in batches of {MAX_BATCH:,}"
    return [turns.figure(f"expiry of {accounts:,} accounts", 0.6, "accounts/s", against)]


def figures(servers: Servers, quick: bool) -> list[Figure]:
    """Measure how fast points expire."""
    result: list[Figure] = run(_measure(servers, quick))
    return result
