"""The queues, with arq behind them: how jobs are named, encoded, retried and bounded.

Each worker process has lanes of its own in Redis, one for each queue that it serves: several arq workers at
the head of one list are slower than one, because each takes its job by trying whether it was first.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast
from uuid import UUID

import msgspec
import structlog
from arq.connections import ArqRedis
from arq.typing import WorkerCoroutine
from arq.worker import Retry, Worker, func
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from app.database import TRANSIENT
from app.errors import Unavailable
from app.metrics import ERRORS
from app.outbox.service import Queue, Sent
from app.settings import Settings

log = structlog.get_logger("laurel.worker")

JOB_TIMEOUT_SECONDS = 30
_MAX_TRIES = 5
_MAX_JOBS = 2
_POLL_SECONDS = 0.02
_CONNECT_SECONDS = 2
_ANSWER_SECONDS = 5
_LANE_SECONDS = 3600

Job = Callable[[UUID], Awaitable[Any]]


def queue_name(queue: Queue, lane: str) -> str:
    """Return the key in Redis of a worker's lane of a queue."""
    return f"laurel:queue:{queue}:{lane}"


def _encode(value: dict[str, Any]) -> bytes:
    return msgspec.msgpack.encode(value, enc_hook=repr)


# arq's default is pickle, which would run whatever somebody writes into Redis.
_CODEC: dict[str, Any] = {"job_serializer": _encode, "job_deserializer": msgspec.msgpack.decode}


async def connect(settings: Settings) -> ArqRedis:
    """Open a connection to the queue.

    Raises:
        RedisError, OSError: Redis cannot be reached.
    """
    assert settings.redis_url
    # Not by arq's own settings: they know no limit for an answer, and a server that stands still, or is
    # cut off without a word, would hold the worker for good.
    pool = ConnectionPool.from_url(
        settings.redis_url, socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_ANSWER_SECONDS
    )
    redis = ArqRedis(pool, **_CODEC)
    try:
        await redis.ping()
    except BaseException:
        await pool.disconnect()
        raise
    return redis


async def push(redis: ArqRedis, lane: str, sent: Sequence[Sent]) -> None:
    """Tell a worker, on its lanes, which batches of the outbox there are to do.

    Raises:
        RedisError, OSError: Redis is away; the outbox sends again what it did not hear of.
    """
    for queue, batch in sent:
        name = queue_name(queue, lane)
        await redis.enqueue_job(queue, batch.hex, _job_id=f"{queue}:{batch.hex}", _queue_name=name)
        # A worker that was killed leaves its lanes behind; what was in them comes again from the outbox.
        await redis.expire(name, _LANE_SECONDS)


async def waiting(redis: ArqRedis, queues: Sequence[Queue], lane: str) -> list[int]:
    """Return how many batches a worker's lanes hold that are under way or could begin now.

    Raises:
        RedisError, OSError: Redis is away.
    """
    async with redis.pipeline(transaction=False) as pipe:
        for queue in queues:
            pipe.zcount(queue_name(queue, lane), "-inf", time.time_ns() // 1_000_000)
        return cast(list[int], await pipe.execute())


def _guarded(queue: Queue, job: Job) -> Callable[..., Awaitable[None]]:
    """Wrap a job: what may pass is tried again, anything else is told and left to the outbox.

    arq by itself drops a job on any exception, so none but Retry may leave it.
    """

    async def run(ctx: dict[str, Any], batch: str) -> None:
        try:
            async with asyncio.timeout(JOB_TIMEOUT_SECONDS - 5):
                await job(UUID(hex=batch))
        except (*TRANSIENT, Unavailable, RedisError) as error:
            wait = min(30.0, 0.5 * 2 ** ctx["job_try"]) * random.uniform(0.5, 1.5)  # noqa: S311
            log.warning("job_retried", queue=queue, batch=batch, attempt=ctx["job_try"], error=repr(error))
            if ctx["job_try"] < _MAX_TRIES:
                raise Retry(defer=wait) from error
        except Exception:
            ERRORS.labels("worker").inc()
            log.exception("job_failed", queue=queue, batch=batch)

    return run


def make_worker(redis: ArqRedis, queue: Queue, lane: str, job: Job) -> Worker:
    """Make the arq worker of one lane; short jobs, no results kept, no signals of its own."""
    return Worker(
        functions=[
            func(
                cast(WorkerCoroutine, _guarded(queue, job)),
                name=queue,
                timeout=JOB_TIMEOUT_SECONDS,
                max_tries=_MAX_TRIES,
                keep_result=0,
            )
        ],
        redis_pool=redis,
        queue_name=queue_name(queue, lane),
        handle_signals=False,
        max_jobs=_MAX_JOBS,
        job_timeout=JOB_TIMEOUT_SECONDS,
        keep_result=0,
        poll_delay=_POLL_SECONDS,
        health_check_interval=60,
        log_results=False,
        **_CODEC,
    )
