"""Anything may end at any moment, for minutes: what was acknowledged is there, once."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from time import monotonic

import pytest

from app.outbox.service import MAX_LEASE
from tests.trust.books import check, drained, report
from tests.trust.place import Place
from tests.trust.tills import Shop

DISTURBANCES = 30
FIRST_WRITE_SECONDS = 20
# A batch that was hit several times in a row waits twice as long each time.
DRAINED_SECONDS = MAX_LEASE.total_seconds() / 4
CLEAN = {"ok", "UNAVAILABLE", "ConnectError", "ReadError", "RemoteProtocolError", "WriteError"}

_SOME_BACKEND = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name ~ '^laurel-' AND state <> 'idle' LIMIT 2
"""


class Chaos:
    """Disturbances of all kinds, each of which ends with everything running again."""

    def __init__(self, place: Place, chance: random.Random) -> None:
        self.place = place
        self.chance = chance
        self.kinds: list[Callable[[], Awaitable[None]]] = [
            self.worker_dies,
            self.api_dies,
            self.postgres_dies,
            self.redis_dies,
            self.redis_forgets,
            self.backends_end,
            self.something_stands_still,
        ]

    async def _away(self) -> None:
        await asyncio.sleep(self.chance.uniform(0, 1.5))

    async def worker_dies(self) -> None:
        self.place.worker.kill()
        await self._away()
        self.place.worker.spawn()

    async def api_dies(self) -> None:
        self.place.api.kill()
        self.place.api.spawn()

    async def postgres_dies(self) -> None:
        self.place.signal(self.place.postgres, self.chance.choice([signal.SIGQUIT, signal.SIGKILL]))
        await self._away()
        await self.place.bring_back(self.place.postgres)

    async def redis_dies(self) -> None:
        self.place.signal(self.place.redis, signal.SIGKILL)
        await self._away()
        await self.place.bring_back(self.place.redis)

    async def redis_forgets(self) -> None:
        async with self.place.valkey() as redis:
            await redis.flushall()

    async def backends_end(self) -> None:
        async with self.place.sql() as sql:
            await sql.execute(_SOME_BACKEND)

    async def something_stands_still(self) -> None:
        pid = self.chance.choice(
            [self.place.worker.pid, self.place.api.pid, self.place.redis.pid, self.place.postgres.pid]
        )
        assert pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(self.chance.uniform(0.5, 3))
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.deep
@pytest.mark.parametrize("seed", [1, 2])
async def test_random_disturbances_under_load_lose_nothing_and_earn_nothing_twice(
    place: Place, shop: Shop, seed: int
) -> None:
    seed = int(os.environ.get("TRUST_SEED", seed))
    print(f"\n  seed {seed}")
    chaos = Chaos(place, random.Random(seed))
    logs = place.log_places()
    slowest = 0.0
    async with shop.busy():
        for _ in range(DISTURBANCES):
            await asyncio.sleep(chaos.chance.uniform(0.2, 2))
            disturb = chaos.chance.choice(chaos.kinds)
            await disturb()
            back = monotonic()
            while not any(sent > back for sent, _ in shop.journal.acknowledged[-20:]):
                assert monotonic() < back + FIRST_WRITE_SECONDS, disturb.__name__
                await asyncio.sleep(0.01)
            slowest = max(slowest, monotonic() - back)
            print(f"    {disturb.__name__}: first write after {monotonic() - back:.2f} s")
    empty = await drained(place, monotonic(), DRAINED_SECONDS)
    report(shop, f"{DISTURBANCES} disturbances: first write {slowest:.2f} s at most, drained {empty:.2f} s")
    await check(place, shop)
    assert set(shop.journal.answers) <= CLEAN
    for name, lines in place.logged(logs).items():
        assert not [line for line in lines if "Traceback" in line], name
