"""From the outbox to a worker's lanes, and back again when nobody finished."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from app import clock
from app.database import TRANSIENT
from app.outbox import service as outbox
from app.outbox.service import Queue
from workers.queue import push, waiting

log = structlog.get_logger("laurel.relay")

_IDLE_SECONDS = 0.05
_FULL_SECONDS = 0.02
_MOST_IN_LANE = 4
_TAKE_BACK_SECONDS = 1.0


async def relay(
    redis: ArqRedis, queues: Sequence[Queue], lane: str, stopping: asyncio.Event | None = None
) -> None:
    """Send work of queues on to the lanes of one worker as it appears, until cancelled or stopping.

    Any number of relays can run at once, one in each worker process: rows that one is stamping are passed
    over by the others, and what one has stamped goes to its own worker alone. So each takes no more than
    its worker soon does, and the rest is there for the others. What Redis does not take is given back at
    once, and sent when Redis is there again.

    Args:
        stopping: when it is set this returns after a moment, and what it has stamped is in the lanes.

    Raises:
        RedisError, OSError: Redis is away.
        Unavailable: the database is away or busy.
    """
    told = Counter[Queue]()
    while stopping is None or not stopping.is_set():
        if full := [queue for queue in queues if told[queue] >= _MOST_IN_LANE]:
            for queue, count in zip(full, await waiting(redis, full, lane), strict=True):
                told[queue] = count
        free = [queue for queue in queues if told[queue] < _MOST_IN_LANE]
        sent = await outbox.stamp(free, clock.now()) if free else []
        if sent:
            try:
                await push(redis, lane, sent)
            except (RedisError, OSError):
                await outbox.give_back([each.batch for each in sent])
                raise
            told.update(each.queue for each in sent)
        else:
            await asyncio.sleep(_FULL_SECONDS if full else _IDLE_SECONDS)


async def take_back(queues: Sequence[Queue]) -> None:
    """Look every second for batches whose lease has run out, until cancelled."""
    while True:
        count = await outbox.take_back(queues, clock.now())
        if count:
            log.warning("batches_taken_back", rows=count)
        await asyncio.sleep(_TAKE_BACK_SECONDS)


PASSING = (*TRANSIENT, RedisError, OSError)
"""Errors of a loop that are worth another try a moment later."""
