"""The worker process: an arq worker for each queue, the relay that feeds them, and what goes by the clock."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from uuid import UUID

import structlog
import uvloop
from arq.connections import ArqRedis
from arq.worker import Worker
from redis.exceptions import RedisError

from app import clock, database
from app.errors import ErrorCode, Unavailable, refuse
from app.ids import new_id
from app.jobs import health
from app.live.hints import Publisher
from app.metrics import ERRORS
from app.outbox import service as outbox
from app.outbox.service import Queue
from app.settings import Settings
from workers import (
    calendar,
    earning,
    jobs,
    ledger,
    messages,
    notices,
    redemptions,
    referrals,
    relay,
    tiers,
    transfers,
    webhooks,
)
from workers.queue import Job, connect, make_worker, queue_name

log = structlog.get_logger("laurel.worker")

JOBS: dict[Queue, Job] = {
    Queue.EARNING: earning.earn,
    Queue.TIERS: tiers.evaluate,
    Queue.REFERRALS: referrals.credit,
    Queue.TRANSFERS: transfers.arrive,
    Queue.JOBS: jobs.run,
}
"""What is done with a batch of the outbox, by its queue."""

Loop = Callable[[], Awaitable[None]]

SWEEPS: Mapping[str, Loop] = {
    "ledger": ledger.sweep_forever,
    "notices": notices.sweep_forever,
    "calendar": calendar.sweep_forever,
    "reservations": redemptions.sweep_forever,
    "tiers": tiers.sweep_forever,
}
"""What goes by the clock; each is safe to run on any number of workers at once."""

LOOPS: Mapping[str, Mapping[str, Loop]] = {
    "sweeps": SWEEPS,
    "messages": {"feed": messages.number_forever, "webhooks": webhooks.deliver_forever},
}
"""What is done again and again, by the name under which a worker can be told to do it."""

NAMES = (*JOBS, *LOOPS)
"""What a worker can be told to do."""

_BEAT_SECONDS = 5.0
_STOP_SECONDS = 25
_JOB_SECONDS = 18
_RELAY_SECONDS = 2
_REDIS_SECONDS = 2
_CANCEL_SECONDS = 0.5
_CANCELS = 4
_TELL_SECONDS = 15.0
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0


def run(settings: Settings, names: Sequence[str] = ()) -> None:
    """Work until SIGINT or SIGTERM, then finish what is under way or hand it back within 30 seconds.

    Args:
        settings: with complete addresses of both servers.
        names: what to do, of NAMES; all of it when empty.

    Raises:
        Refused: there is no queue of that name.
        OSError, asyncpg.PostgresError: the database cannot be reached at the start.
    """
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        known = ", ".join(NAMES)
        raise refuse(
            ErrorCode.INVALID, f"There is no queue {', '.join(unknown)}; there are: {known}.", "queue"
        )
    uvloop.run(_main(settings, list(dict.fromkeys(names)) or list(NAMES)))


async def _main(settings: Settings, names: Sequence[str]) -> None:
    await database.connect(settings, "laurel-worker")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    worker_id = new_id()
    loops: dict[str, Loop] = {"heartbeat": partial(_beat, worker_id, names)}
    for name in LOOPS:
        if name in names:
            loops |= LOOPS[name]
    queues = [queue for queue in JOBS if queue in names]
    if queues:
        loops["take_back"] = partial(relay.take_back, queues)
        loops["queues"] = partial(_serve, settings, queues, worker_id.hex)
    async with Publisher(settings):
        tasks = [asyncio.create_task(_again(name, work)) for name, work in loops.items()]
        log.info("worker_started", queues=list(names), worker=str(worker_id))
        try:
            await stop.wait()
        finally:
            log.info("worker_stopping")
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_STOP_SECONDS + 2)
            with contextlib.suppress(*relay.PASSING, Unavailable):
                async with asyncio.timeout(1):
                    await health.leave(worker_id)
            await database.disconnect()
            log.info("worker_stopped")


async def _beat(worker_id: UUID, names: Sequence[str]) -> None:
    """Say every few seconds that this worker is there, until cancelled."""
    started_at, host = clock.now(), f"{socket.gethostname()}:{os.getpid()}"
    while True:
        await health.beat(worker_id, host, names, started_at)
        await asyncio.sleep(_BEAT_SECONDS)


async def _again(name: str, work: Loop) -> None:
    """Run something that should never end; when it does, run it again, after ever longer pauses.

    What passes is told when it begins, and every now and then while it lasts.
    """
    pause = _FIRST_PAUSE_SECONDS
    told_at: float | None = None
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await work()
            log.warning("ended", part=name)
        except (*relay.PASSING, Unavailable) as error:
            moment = asyncio.get_running_loop().time()
            if told_at is None or moment - told_at >= _TELL_SECONDS or moment - started >= _TELL_SECONDS:
                told_at = moment
                cause = error.__cause__ or error
                log.warning("interrupted", part=name, error=repr(cause), again_in_seconds=pause)
        except Exception:
            ERRORS.labels("worker").inc()
            log.exception("failed", part=name, again_in_seconds=pause)
        if asyncio.get_running_loop().time() - started > 10 * _LONGEST_PAUSE_SECONDS:
            pause = _FIRST_PAUSE_SECONDS
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _serve(settings: Settings, queues: Sequence[Queue], lane: str) -> None:
    """Serve queues over one connection to Redis, until it breaks or the task is cancelled."""
    redis = await connect(settings)
    workers = [make_worker(redis, queue, lane, JOBS[queue]) for queue in queues]
    stopping = asyncio.Event()
    parts = [
        asyncio.create_task(relay.relay(redis, queues, lane, stopping)),
        *(asyncio.create_task(worker.async_run()) for worker in workers),
    ]
    try:
        await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in parts:
            if part.done():
                part.result()
    finally:
        stopping.set()
        await asyncio.shield(_close(redis, workers, parts, [queue_name(queue, lane) for queue in queues]))


async def _close(
    redis: ArqRedis, workers: Sequence[Worker], parts: Sequence[asyncio.Task[None]], lanes: Sequence[str]
) -> None:
    """Hand back what has not begun, let jobs under way end, cancel and hand back those that do not."""
    for worker in workers:
        worker.allow_pick_jobs = False
    until = asyncio.get_running_loop().time() + _JOB_SECONDS
    await asyncio.wait(parts[:1], timeout=_RELAY_SECONDS)
    jobs = {name: job for worker in workers for name, job in worker.tasks.items() if not job.done()}
    await _hand_back(redis, lanes, jobs)
    if jobs:
        await asyncio.wait(jobs.values(), timeout=max(0.0, until - asyncio.get_running_loop().time()))
    # Once is not enough: redis-py sends within asyncio.wait_for, which before Python 3.12 loses a
    # cancellation that arrives as the sending ends.
    everything = [*parts, *(job for worker in workers for job in worker.tasks.values())]
    patience = _CANCELS
    while (running := [each for each in everything if not each.done()]) and patience:
        for each in running:
            each.cancel()
        await asyncio.wait(running, timeout=_CANCEL_SECONDS)
        patience -= 1
    await asyncio.gather(*(each for each in everything if each.done()), return_exceptions=True)
    await _hand_back(redis, lanes)
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(_REDIS_SECONDS):
            await redis.delete(*(worker.health_check_key for worker in workers))
            await redis.aclose(close_connection_pool=True)


async def _hand_back(redis: ArqRedis, lanes: Sequence[str], begun: Collection[str] = ()) -> None:
    """Give what a worker has not begun back to the outbox, from where another takes it at once."""
    with contextlib.suppress(*relay.PASSING, Unavailable, TimeoutError):
        async with asyncio.timeout(_REDIS_SECONDS):
            for lane in lanes:
                names = [name.decode() for name in await redis.zrange(lane, 0, -1)]
                left = [name for name in names if name not in begun]
                await outbox.give_back([UUID(hex=name.rpartition(":")[2]) for name in left])
                if left:
                    await redis.zrem(lane, *left)
