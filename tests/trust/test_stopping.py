"""Workers stop within their time and hand back what they have not done; some serve some queues alone."""

import asyncio
from time import monotonic

from app.outbox.service import LEASE
from tests.trust.books import check, drained
from tests.trust.place import Place, until
from tests.trust.test_worker import _ACCOUNT, batches, blocked, holding, in_lane
from tests.trust.tills import Shop

_QUEUES = "SELECT queues FROM worker WHERE id = $1::uuid"
_GIVEN_BACK = "SELECT count(*) FROM outbox WHERE batch IS NULL"


async def test_a_worker_that_is_stopped_finishes_what_is_under_way_and_hands_back_the_rest_at_once(
    place: Place, shop: Shop
) -> None:
    logs = place.log_places()
    lane = await place.lane(place.worker)
    held, *others = shop.members
    async with holding(place, shop, _ACCOUNT, held):
        # Both of the jobs that it does at once stand still, and what comes after them waits in its lane.
        for n in range(4):
            await shop.send(shop.batch(500, [held, *others] if n < 2 else others))

        async def full() -> bool:
            return len(await in_lane(place, lane)) == 4

        await until(full, 5, "everything is in the worker's lane")
        await blocked(place, "FROM account a JOIN member", count=2)
        waiting = set(await batches(place))
        other = place.add_worker()
        await place.lane(other)
        stopping = asyncio.create_task(asyncio.to_thread(place.worker.stop))
        started = monotonic()

        async def taken() -> bool:
            async with place.sql() as sql:
                return bool(await sql.fetchval("SELECT count(*) FROM outbox") <= 2)

        await until(taken, LEASE.total_seconds() / 2, "another has done what was handed back")
        print(f"\n  handed back and done by another after {monotonic() - started:.2f} s")
        assert len(waiting) == 4
        assert place.worker.is_alive(), "it waits for what is under way"
    assert await stopping == 0
    assert monotonic() - started < LEASE.total_seconds(), "what was under way has ended in order"
    lines = [line for each in place.logged(logs).values() for line in each]
    assert not any("batches_taken_back" in line for line in lines), "nobody had to wait for a lease"
    assert not await in_lane(place, lane)
    async with place.sql() as sql:
        assert await sql.fetchval(_QUEUES, lane) is None, "a worker that stopped is no worker"
    await drained(place, monotonic(), LEASE.total_seconds() / 2)
    await check(place, shop)


async def test_a_worker_serves_the_queues_that_it_is_told_and_no_others(place: Place, shop: Shop) -> None:
    assert await asyncio.to_thread(place.worker.stop) == 0
    some = place.add_worker("tiers, jobs")
    lane = await place.lane(some)
    async with place.sql() as sql:
        assert await sql.fetchval(_QUEUES, lane) == ["tiers", "jobs"]
    await shop.send(shop.batch(50))
    await asyncio.sleep(0.5)
    async with place.sql() as sql:
        assert await sql.fetchval(_GIVEN_BACK) >= 1, "events are none of its business"
    place.add_worker("earning,tiers")
    await drained(place, monotonic(), LEASE.total_seconds())
    assert "events_earned" not in some.log.read_text()
    await check(place, shop)


async def test_a_queue_that_there_is_not_is_refused_with_a_list_of_those_that_there_are(place: Place) -> None:
    refused = await place.command("work", "--queues", "earning,tears")
    assert refused.returncode == 1
    assert "There is no queue tears; there are: earning, tiers" in refused.stderr
    for name in ("jobs", "sweeps"):
        assert name in refused.stderr
