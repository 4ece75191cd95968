"""Earning what `recordEvents` has stored: through outbox, relay, Redis and arq, and without them."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from app import clock
from app.database import connection
from app.earning.events import Incoming
from app.earning.processing import earn_batch
from app.earning.recording import store
from app.imports.purchases import OrderLine
from app.jobs.health import waiting
from app.members.reads import MemberRef
from app.outbox import service as outbox
from app.outbox.service import Queue
from app.settings import Settings
from tests.benchmarks.harness import (
    Bench,
    Figure,
    Servers,
    child,
    connected,
    in_turns,
    laurel,
    make_program,
    member_name,
    run,
)
from tests.benchmarks.ledger import make_ledger

MEMBERS = 10_000
ARTICLES = 300
_BATCH = 500
_PATIENCE_SECONDS = 120.0

# A chunk's time is that of its beginning: from the first chunk's to the last one's all but the last ran.
_EARNED = """
WITH round AS MATERIALIZED (SELECT processed_at FROM event_outcome WHERE processed_at >= $1),
ends AS MATERIALIZED (SELECT min(processed_at) AS first, max(processed_at) AS latest FROM round)
SELECT count(*) FILTER (WHERE processed_at < latest), extract(epoch FROM latest - first)::float8
FROM round, ends GROUP BY first, latest
"""


@dataclass
class _Purchase:
    external_id: str
    occurred_at: datetime | None
    lines: list[OrderLine]
    amount: Decimal | None = None
    currency: str | None = None
    data: Any = None


class Events:
    """Stores purchases of three lines in requests of 500, as `recordEvents` does, and has them earned."""

    def __init__(self, bench: Bench, per_round: int, members: int = MEMBERS) -> None:
        self._bench = bench
        self._members = members
        self._per_round = per_round
        self._number = 0
        self._start = datetime(2026, 2, 1, tzinfo=UTC)

    def _next(self) -> Incoming:
        self._number += 1
        lines = [
            OrderLine(
                f"SKU-{(self._number * 31 + n * 97) % ARTICLES:05}", f"Article number {n}", "Tea", None,
                Decimal(2), Decimal(f"{n + 4}.90"),
            )
            for n in range(3)
        ]  # fmt: skip
        purchase = _Purchase(f"{self._number:08}", self._start + timedelta(seconds=self._number), lines)
        return Incoming(purchase, MemberRef(external_id=member_name(self._number * 7919 % self._members)))

    async def store(self) -> datetime:
        """Store a round's events; return when that was done."""
        for _ in range(0, self._per_round, _BATCH):
            done = await store(self._bench.program.id, [self._next() for _ in range(_BATCH)])
            assert all(each.event for each in done)
        return clock.now()

    async def through_worker(self, servers: Servers, settings: Settings) -> float:
        """Return events a second of `laurel work`, started on what is stored; the start is not counted."""
        since = await self.store()
        with child(laurel("work"), settings, servers.folder / "work.log"):
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while await waiting():
                assert time.monotonic() < deadline, "the worker does not earn"
                await asyncio.sleep(0.2)
        async with connection() as sql:
            count, seconds = await sql.fetchrow(_EARNED, since)
        return float(count / seconds)

    async def direct(self) -> float:
        """Return events a second of this process alone, without queue."""
        await self.store()
        started = time.perf_counter()
        return await earn_stored() / (time.perf_counter() - started)


async def earn_stored() -> int:
    """Earn everything that waits, in this process; return how many events that were."""
    done = 0
    while batches := await outbox.stamp([Queue.EARNING], clock.now()):
        for batch in batches:
            done += await earn_batch(batch.batch)
    return done


async def _measure(servers: Servers, quick: bool) -> list[Figure]:
    rounds, seconds, events = (3, 1.0, 5_000) if quick else (5, 3.0, 20_000)
    settings = await servers.new_database()
    async with connected(settings):
        bench = await make_program(MEMBERS)
        ledger = await make_ledger(bench.program)
        queue = Events(bench, events)
        await ledger.batches(0.5)
        await queue.direct()
        worker = await in_turns(
            rounds, lambda: queue.through_worker(servers, settings), lambda: ledger.batches(seconds)
        )
        direct = await in_turns(rounds, queue.direct, lambda: ledger.batches(seconds))
        both = await in_turns(rounds, lambda: queue.through_worker(servers, settings), queue.direct)
    await servers.drop_database(settings)
    against = "ledger operations in batches of 500"
    return [
        worker.figure("events earned by the worker, through arq", 0.35, "events/s", against),
        direct.figure("events earned without the queue", 0.35, "events/s", against),
        both.figure(
            "events through outbox, relay, Redis and worker", 0.9, "events/s", "the same without the queue"
        ),
    ]


def figures(servers: Servers, quick: bool) -> list[Figure]:
    """Measure what is earned of (d)."""
    result: list[Figure] = run(_measure(servers, quick))
    return result
