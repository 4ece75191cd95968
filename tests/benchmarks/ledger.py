"""The ledger from Python against the ledger without a client: batches of 500, and single operations."""

import asyncio
import random
import time
from datetime import date
from uuid import UUID

from app import clock
from app.database import connection, transaction
from app.ids import new_id
from app.ledger.operations import EntryKind, Operation, Status, Terms
from app.ledger.service import apply, terms
from app.programs.models import Program
from app.programs.policies import load_policy
from tests.benchmarks.harness import Figure, Servers, connected, in_turns, make_program, pgbench, run

ACCOUNTS = 10_000
BATCH = 500
_CLIENTS = 16
_EXPIRES = date(2099, 12, 31)
_SPENT_SHARE = 0.3

# The same mixture as ours: three of ten operations spend. Accounts go by number, so that the loop
# finds a random one without a look-up.
_LOOP = """
CREATE FUNCTION bench_batch(p_size integer, p_accounts uuid[], p_today date) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1..p_size LOOP
        PERFORM ledger_apply_2(p_accounts[1 + floor(random() * cardinality(p_accounts))::integer],
            CASE WHEN random() < 0.3 THEN 'REDEEM' ELSE 'EARN' END, 10, NULL, p_today, '2099-12-31',
            gen_random_uuid(), 10, now(), 'event', gen_random_uuid(), '1 point per unit',
            now(), p_today, 'Europe/Berlin', NULL, p_today, 0);
    END LOOP;
END $$
"""

_SINGLE = """
\\set n random(1, {accounts})
\\set chance random(1, 10)
SELECT * FROM ledger_apply_2(md5(:n::text)::uuid,
    CASE WHEN :chance <= 3 THEN 'REDEEM' ELSE 'EARN' END, 10, NULL, CURRENT_DATE, '2099-12-31',
    gen_random_uuid(), 10, now(), 'event', gen_random_uuid(), '1 point per unit',
    now(), CURRENT_DATE, 'Europe/Berlin', NULL, CURRENT_DATE, 0);
"""

_ACCOUNTS = """
INSERT INTO account (id, program_id, member_id, active_on)
SELECT md5(n::text)::uuid, $1, md5(n::text)::uuid, CURRENT_DATE FROM generate_series(1, $2::integer) AS n
"""

_NAMES = "SELECT md5(n::text)::uuid FROM generate_series(1, $1::integer) AS n"

_OPENING = """
SELECT count(*) FROM unnest($1::uuid[]) AS t(id), LATERAL ledger_apply_2(t.id, 'EARN', 1000000, NULL,
    $2::date, '2099-12-31', gen_random_uuid(), 10, now(), NULL, NULL, NULL,
    now(), $2::date, 'Europe/Berlin', NULL, $2::date, 0)
"""


class Ledger:
    """Accounts to move points in, and the ways to do it."""

    def __init__(self, accounts: list[UUID], held: Terms) -> None:
        self._accounts = accounts
        self._terms = held
        self._random = random.Random(1)

    def operation(self) -> Operation:
        """Return an operation that nobody has seen: seven of ten earn, the others spend."""
        spends = self._random.random() < _SPENT_SHARE
        return Operation(
            account_id=self._random.choice(self._accounts),
            kind=EntryKind.REDEEM if spends else EntryKind.EARN,
            amount=10,
            key=new_id(),
            request_hash=10,
            occurred_at=self._terms.recorded_at,
            matures_on=None if spends else self._terms.today,
            expires_on=None if spends else _EXPIRES,
            source="event",
            source_id=new_id(),
            reason="1 point per unit",
        )

    @property
    def today(self) -> date:
        """The day on which operations are recorded, in the program's zone."""
        return self._terms.today

    async def batches(self, seconds: float, size: int = BATCH) -> float:
        """Return operations a second through `apply`, one batch after another."""
        done, started = 0, time.perf_counter()
        while (spent := time.perf_counter() - started) < seconds:
            async with transaction() as sql:
                outcomes = await apply(sql, self._terms, [self.operation() for _ in range(size)])
            assert all(outcome.status is Status.APPLIED for outcome in outcomes)
            done += size
        return done / spent

    async def loop(self, seconds: float) -> float:
        """Return operations a second of a loop inside the database, a batch in a transaction."""
        done, started = 0, time.perf_counter()
        async with connection() as sql:
            while (spent := time.perf_counter() - started) < seconds:
                await sql.execute("SELECT bench_batch($1, $2, $3)", BATCH, self._accounts, self._terms.today)
                done += BATCH
        return done / spent

    async def singles(self, seconds: float) -> float:
        """Return operations a second through `apply`, one in each statement, on some connections at once."""
        deadline = time.perf_counter() + seconds

        async def client() -> int:
            done = 0
            async with connection() as sql:
                while time.perf_counter() < deadline:
                    (outcome,) = await apply(sql, self._terms, [self.operation()])
                    assert outcome.status is Status.APPLIED
                    done += 1
            return done

        started = time.perf_counter()
        counts = await asyncio.gather(*(client() for _ in range(_CLIENTS)))
        return sum(counts) / (time.perf_counter() - started)


async def make_ledger(program: Program) -> Ledger:
    """Open accounts with a balance in the database that is connected, and define the loop."""
    async with connection() as sql:
        await sql.execute(_ACCOUNTS, program.id, ACCOUNTS)
        held = terms(await load_policy(sql, program.id), clock.now())
        accounts = [row[0] for row in await sql.fetch(_NAMES, ACCOUNTS)]
        await sql.execute(_OPENING, accounts, held.today)
        await sql.execute(_LOOP)
        await sql.execute("VACUUM ANALYZE account, lot, ledger_entry")
        await sql.execute("CHECKPOINT")
    return Ledger(accounts, held)


async def _measure(servers: Servers, quick: bool) -> list[Figure]:
    rounds, seconds = (3, 1.0) if quick else (5, 3.0)
    settings = await servers.new_database()
    settings = settings.model_copy(update={"database_pool_size": _CLIENTS})
    async with connected(settings):
        ledger = await make_ledger((await make_program(1)).program)
        await ledger.batches(0.5)
        batches = await in_turns(rounds, lambda: ledger.batches(seconds), lambda: ledger.loop(seconds))
        await ledger.singles(0.5)
        script = _SINGLE.format(accounts=ACCOUNTS)
        arguments = ("-c", str(_CLIENTS), "-j", "2", "-M", "prepared", "-T", str(max(1, int(seconds))))

        async def by_pgbench() -> float:
            return await asyncio.to_thread(pgbench, servers, settings, script, *arguments)

        singles = await in_turns(rounds, lambda: ledger.singles(seconds), by_pgbench)
    await servers.drop_database(settings)
    return [
        batches.figure("ledger, batches of 500", 0.6, "operations/s", "PL/pgSQL loop without a client"),
        singles.figure("ledger, single, 16 connections", 0.9, "operations/s", "pgbench, the same function"),
    ]


def figures(servers: Servers, quick: bool) -> list[Figure]:
    """Measure (b)."""
    result: list[Figure] = run(_measure(servers, quick))
    return result
