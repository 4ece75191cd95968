"""The worker process: one arq worker for each queue, the relay that feeds them, and the sweeps."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog
import uvloop
from arq.worker import Worker

from app import database
from app.errors import ErrorCode, Unavailable, refuse
from app.metrics import ERRORS
from app.outbox.service import Queue
from app.settings import Settings
from workers import calendar, earning, ledger, redemptions, relay
from workers.queue import Job, connect, make_worker

log = structlog.get_logger("laurel.worker")

JOBS: dict[Queue, Job] = {Queue.EARNING: earning.earn}

_STOP_SECONDS = 25
_CANCEL_SECONDS = 0.5
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0


def run(settings: Settings, queues: Sequence[str] = ()) -> None:
    """Work until SIGINT or SIGTERM, then finish what is under way or hand it back within 30 seconds.

    Args:
        settings: with complete addresses of both servers.
        queues: the queues to serve, by name; all of them when empty.

    Raises:
        Refused: there is no queue of that name.
        OSError, asyncpg.PostgresError: the database cannot be reached at the start.
    """
    unknown = sorted(set(queues) - set(Queue))
    if unknown:
        known = ", ".join(Queue)
        raise refuse(
            ErrorCode.INVALID, f"There is no queue {', '.join(unknown)}; there are: {known}.", "queue"
        )
    uvloop.run(_main(settings, [Queue(name) for name in queues] or list(Queue)))


async def _main(settings: Settings, queues: Sequence[Queue]) -> None:
    await database.connect(settings, "laurel-worker")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    tasks = [
        asyncio.create_task(_again("sweep", ledger.sweep_forever)),
        asyncio.create_task(_again("calendar", calendar.sweep_forever)),
        asyncio.create_task(_again("reservations", redemptions.sweep_forever)),
    ]
    for queue in queues:
        tasks.append(asyncio.create_task(_again(f"take_back:{queue}", partial(relay.take_back, queue))))
        tasks.append(asyncio.create_task(_again(f"queue:{queue}", partial(_serve, settings, queue))))
    log.info("worker_started", queues=list(queues))
    try:
        await stop.wait()
    finally:
        log.info("worker_stopping")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_STOP_SECONDS + 2)
        await database.disconnect()
        log.info("worker_stopped")


async def _again(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run something that should never end; when it does, run it again, after ever longer pauses."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await work()
            log.warning("ended", part=name)
        except (*relay.PASSING, Unavailable) as error:
            cause = error.__cause__ or error
            log.warning("interrupted", part=name, error=repr(cause), again_in_seconds=pause)
        except Exception:
            ERRORS.labels("worker").inc()
            log.exception("failed", part=name, again_in_seconds=pause)
        if asyncio.get_running_loop().time() - started > 10 * _LONGEST_PAUSE_SECONDS:
            pause = _FIRST_PAUSE_SECONDS
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _serve(settings: Settings, queue: Queue) -> None:
    """Serve one queue over one connection to Redis, until it breaks or the task is cancelled."""
    redis = await connect(settings)
    worker = make_worker(redis, queue, JOBS[queue])
    parts = [asyncio.create_task(worker.async_run()), asyncio.create_task(relay.relay(redis, queue))]
    try:
        await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in parts:
            if part.done():
                part.result()
    finally:
        await asyncio.shield(_close(worker, parts))


async def _close(worker: Worker, parts: Sequence[asyncio.Task[None]]) -> None:
    """Let jobs under way end, cancel those that take too long (the outbox sends them again), disconnect."""
    worker.allow_pick_jobs = False
    parts[1].cancel()
    jobs = list(worker.tasks.values())
    if jobs:
        await asyncio.wait(jobs, timeout=_STOP_SECONDS)
    # Once is not enough: redis-py sends within asyncio.wait_for, which before Python 3.12 loses a
    # cancellation that arrives as the sending ends.
    while running := [part for part in parts if not part.done()]:
        for part in running:
            part.cancel()
        await asyncio.wait(running, timeout=_CANCEL_SECONDS)
    await asyncio.gather(*parts, return_exceptions=True)
    with contextlib.suppress(Exception):
        await asyncio.wait_for(worker.close(), 2)
