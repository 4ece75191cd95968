"""Workers are killed, frozen out, doubled: what was stored is earned, and once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest

from app.outbox.service import LEASE, Queue
from app.settings import Settings
from tests.trust.books import check, drained, report
from tests.trust.place import Place, until
from tests.trust.tills import Shop
from workers import main
from workers.main import _close
from workers.queue import connect, queue_name

LEASE_SECONDS = LEASE.total_seconds()
KILLS = [2, pytest.param(4, marks=pytest.mark.deep)]
TAKEN_BACK_SECONDS = LEASE_SECONDS + 15

_ACCOUNT = """
SELECT a.id FROM account a JOIN member m ON m.id = a.member_id JOIN program p ON p.id = a.program_id
WHERE p.slug = $1 AND m.external_id = $2 FOR UPDATE OF a
"""
_LAST_IN_LINE = """
SELECT q.event_id FROM event_queue q JOIN member m ON m.id = q.member_id JOIN program p ON p.id = m.program_id
WHERE p.slug = $1 AND m.external_id = $2 FOR UPDATE OF q
"""
_BLOCKED = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'laurel-worker' AND wait_event_type = 'Lock' AND query ~ $1
"""
_BATCHES = "SELECT DISTINCT batch FROM outbox WHERE batch IS NOT NULL"


@asynccontextmanager
async def holding(place: Place, shop: Shop, statement: str, member: str) -> AsyncIterator[None]:
    """Hold rows that the worker needs for a member, so that it stands still in the middle of a batch."""
    async with place.sql() as sql, sql.transaction():
        await sql.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await sql.fetch(statement, shop.slug, member)
        yield


async def blocked(place: Place, query: str, count: int = 1) -> None:
    """Wait until workers stand still in a statement."""
    async with place.sql() as sql:

        async def stands_still() -> bool:
            return bool(await sql.fetchval(_BLOCKED, query) >= count)

        await until(stands_still, 8, f"the worker waits for a lock in {query}", every=0.005)


async def batches(place: Place) -> list[str]:
    async with place.sql() as sql:
        return [row["batch"].hex for row in await sql.fetch(_BATCHES)]


async def deliver(place: Place, lane: str, batch: str, name: str) -> None:
    """Tell a worker of a batch again, as a second delivery that arq cannot tell from the first."""
    redis = await connect(Settings(redis_url=place.redis.url()))
    try:
        queue = queue_name(Queue.EARNING, lane)
        await redis.enqueue_job(Queue.EARNING, batch, _job_id=name, _queue_name=queue)
    finally:
        await redis.aclose(close_connection_pool=True)


async def in_lane(place: Place, lane: str) -> list[str]:
    """Return the names of the batches in a worker's lane, those under way included."""
    async with place.valkey() as redis:
        names = await redis.zrange(queue_name(Queue.EARNING, lane), 0, -1)
    return [name.decode().rpartition(":")[2] for name in names]


async def lane_is_empty(place: Place, lane: str) -> None:
    async def empty() -> bool:
        return not await in_lane(place, lane)

    await until(empty, 20, "everything in the lane was dealt with")


@pytest.mark.parametrize("kills", KILLS)
async def test_a_worker_that_is_killed_in_the_middle_of_a_batch_leaves_nothing_undone_and_nothing_twice(
    place: Place, shop: Shop, kills: int
) -> None:
    before_it_writes = _ACCOUNT, "FROM account a JOIN member"
    when_all_is_written = _LAST_IN_LINE, "DELETE FROM event_queue"
    for kill in range(kills):
        statement, query = (before_it_writes, when_all_is_written)[kill % 2]
        member = shop.members[kill]
        async with place.sql() as sql, sql.transaction():
            # What is to be held has to be there first, and the worker must not be faster than we are.
            place.freeze(place.worker)
            await shop.send(shop.batch(200, [member, shop.members[-1 - kill]]))
            await sql.fetch(statement, shop.slug, member)
            place.thaw(place.worker)
            await blocked(place, query)
            place.worker.kill()
        place.worker.spawn()
        await place.lane(place.worker)
    empty = await drained(place, monotonic(), TAKEN_BACK_SECONDS)
    report(shop, f"{kills} kills in the middle: drained {empty:.2f} s after the last start")
    await check(place, shop)


async def test_a_worker_is_killed_between_its_commit_and_its_acknowledgement(
    place: Place, shop: Shop
) -> None:
    lane = await place.lane(place.worker)
    async with place.valkey() as redis:
        async with holding(place, shop, _ACCOUNT, shop.members[0]):
            await shop.send(shop.batch(50, shop.members[:2]))
            await blocked(place, "FROM account a JOIN member")
            # From here on the queue cannot be told that the job is done.
            await redis.execute_command("CLIENT PAUSE", 20_000, "WRITE")
        try:
            await drained(place, monotonic(), 10)
            place.worker.kill()
        finally:
            await redis.execute_command("CLIENT UNPAUSE")
    (batch,) = await in_lane(place, lane)
    place.worker.spawn()
    lane = await place.lane(place.worker)
    await deliver(place, lane, batch, "again")
    await lane_is_empty(place, lane)
    await check(place, shop)


async def test_two_workers_get_the_same_batch(place: Place, shop: Shop) -> None:
    lanes = [await place.lane(worker) for worker in (place.worker, place.add_worker())]
    async with holding(place, shop, _ACCOUNT, shop.members[0]):
        await shop.send(shop.batch(400, shop.members[:3]))
        await blocked(place, "FROM account a JOIN member")
        (batch,) = await batches(place)
        for n in range(4):
            # Twice to the one that has it already would be more than it does at once.
            await deliver(place, lanes[n % 2], batch, f"again-{n}")
        await blocked(place, "FROM account a JOIN member", count=4)
    await drained(place, monotonic())
    for n in range(4):
        await deliver(place, lanes[n % 2], batch, f"afterwards-{n}")
    for lane in lanes:
        await lane_is_empty(place, lane)
    await check(place, shop)


async def test_two_workers_of_the_same_queues_share_the_work_without_a_fight_and_the_death_of_one_is_no_loss(
    place: Place, shop: Shop
) -> None:
    workers = [place.worker, place.add_worker()]
    lanes = [await place.lane(worker) for worker in workers]
    before = [worker.log.read_text().count("events_earned") for worker in workers]
    async with place.valkey() as redis:
        told: dict[str, set[str]] = {lane: set() for lane in lanes}

        async def listen() -> None:
            async with redis.monitor() as monitor:
                async for each in monitor.listen():
                    command, _, rest = each["command"].partition(" ")
                    key, _, values = rest.partition(" ")
                    if command == "ZADD" and key.startswith(queue_name(Queue.EARNING, "")):
                        told.setdefault(key.rpartition(":")[2], set()).add(values.rpartition(":")[2])

        listening = asyncio.create_task(listen())
        async with shop.busy():
            await asyncio.sleep(2)
            place.worker.kill()
            await asyncio.sleep(1)
            place.worker.spawn()
            await asyncio.sleep(0.5)
        empty = await drained(place, monotonic(), TAKEN_BACK_SECONDS)
        listening.cancel()
    report(shop, f"one of two workers killed: drained after {empty:.2f} s")
    for worker, earned in zip(workers, before, strict=True):
        assert worker.log.read_text().count("events_earned") > earned, "both do a part"
    assert await asyncio.to_thread(workers[1].stop) == 0
    assert all(told.values()), told
    assert len(set.union(*told.values())) == sum(map(len, told.values())), "no batch was in two lanes"
    await check(place, shop)


async def test_a_backend_of_the_worker_that_is_terminated_in_a_transaction_is_replaced(
    place: Place, shop: Shop
) -> None:
    pids = place.api.pid, place.worker.pid
    logs = place.log_places()
    async with holding(place, shop, _ACCOUNT, shop.members[0]):
        await shop.send(shop.batch(100, shop.members[:2]))
        await blocked(place, "FROM account a JOIN member")
        async with place.sql() as sql:
            await sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'laurel-worker' AND wait_event_type = 'Lock'"
            )
    empty = await drained(place, monotonic())
    report(shop, f"a backend terminated: drained after {empty:.2f} s")
    await check(place, shop)
    assert (place.api.pid, place.worker.pid) == pids
    place.assert_calm(logs)


async def test_a_cancellation_that_gets_lost_does_not_hold_up_the_end_of_a_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """asyncio.wait_for loses one now and then before Python 3.12, and redis-py sends within it."""
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            lost += 1
        await asyncio.sleep(60)

    monkeypatch.setattr(main, "_JOB_SECONDS", 0.1)
    monkeypatch.setattr(main, "_RELAY_SECONDS", 0.1)
    parts = [asyncio.create_task(deaf()) for _ in range(2)]
    await asyncio.sleep(0)
    worker = SimpleNamespace(allow_pick_jobs=True, tasks={"job": parts[1]}, health_check_key="")
    redis = AsyncMock()
    redis.zrange.return_value = []
    async with asyncio.timeout(10):
        await _close(redis, [worker], parts[:1], ["lane"])  # type: ignore[list-item]
    assert lost == 2
    assert all(part.cancelled() for part in parts)
