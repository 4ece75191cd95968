"""Redis goes away, forgets everything, stands still: the API goes on, and nothing is lost."""

import asyncio
import signal
from time import monotonic

import pytest

from app.outbox.service import LEASE
from tests.trust.books import check, drained, report
from tests.trust.place import Place, until
from tests.trust.tills import Shop

LEASE_SECONDS = LEASE.total_seconds()
DRAINED_SECONDS = LEASE_SECONDS + 15
# Nobody's request may wait for Redis.
UNDISTURBED_SECONDS = 3.0


async def test_redis_is_killed_while_events_arrive(place: Place, shop: Shop) -> None:
    pids = place.api.pid, place.worker.pid
    logs = place.log_places()
    async with shop.busy():
        await asyncio.sleep(1)
        place.signal(place.redis, signal.SIGKILL)
        await asyncio.sleep(2)
        assert not place.redis.is_alive()
        back = await place.bring_back(place.redis)
        await asyncio.sleep(1)
    empty = await drained(place, back, DRAINED_SECONDS)
    report(shop, f"Redis killed: drained {empty:.2f} s after it was back")
    await check(place, shop)
    assert set(shop.journal.answers) == {"ok"}, "the API goes on without Redis"
    assert shop.journal.longest_seconds < UNDISTURBED_SECONDS
    assert (place.api.pid, place.worker.pid) == pids
    assert place.worker.is_alive()
    place.assert_calm(logs)


async def test_redis_is_flushed_with_5000_events_waiting(place: Place, shop: Shop) -> None:
    place.freeze(place.worker)
    for _ in range(5):
        await shop.send(shop.batch(1000))
    place.thaw(place.worker)
    flushed = 0
    async with place.valkey() as redis:

        async def some_are_in_the_queue() -> bool:
            return bool(await redis.keys("arq:job:*"))

        while flushed < 3:
            await until(some_are_in_the_queue, 20, "the worker is told of some", every=0.002)
            await redis.flushall()
            flushed += 1
    empty = await drained(place, monotonic(), DRAINED_SECONDS)
    report(shop, f"FLUSHALL with 5,000 events waiting: drained after {empty:.2f} s")
    assert len(shop.journal.events) == 5000
    await check(place, shop)


@pytest.mark.deep
async def test_redis_stands_still_and_nobody_waits_for_it(place: Place, shop: Shop) -> None:
    logs = place.log_places()
    async with shop.busy():
        await asyncio.sleep(1)
        place.signal(place.redis, signal.SIGSTOP)
        try:
            await asyncio.sleep(6)
        finally:
            place.signal(place.redis, signal.SIGCONT)
        back = monotonic()
    empty = await drained(place, back, DRAINED_SECONDS)
    report(shop, f"Redis frozen for 6 s: drained {empty:.2f} s later")
    await check(place, shop)
    assert set(shop.journal.answers) == {"ok"}
    assert shop.journal.longest_seconds < UNDISTURBED_SECONDS
    assert any('"event":"interrupted"' in line for line in place.logged(logs)["worker-0"])
    place.assert_calm(logs)
