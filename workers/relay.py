"""From the outbox to a worker's lanes, and back again when nobody finished."""

import asyncio
from collections.abc import Sequence

import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from app import clock
from app.database import TRANSIENT
from app.outbox import service as outbox
from app.outbox.service import Queue
from workers.queue import push

log = structlog.get_logger("laurel.relay")

_IDLE_SECONDS = 0.05
_TAKE_BACK_SECONDS = 1.0


async def relay(redis: ArqRedis, queues: Sequence[Queue], lane: str) -> None:
    """Send work of queues on to the lanes of one worker as it appears, until cancelled.

    Any number of relays can run at once, one in each worker process: rows that one is stamping are passed
    over by the others, and what one has stamped goes to its own worker alone. What Redis does not take is
    given back at once, and sent when Redis is there again.

    Raises:
        RedisError, OSError: Redis is away.
        Unavailable: the database is away or busy.
    """
    while True:
        sent = await outbox.stamp(queues, clock.now())
        if sent:
            try:
                await push(redis, lane, sent)
            except (RedisError, OSError):
                await outbox.give_back([each.batch for each in sent])
                raise
        else:
            await asyncio.sleep(_IDLE_SECONDS)


async def take_back(queues: Sequence[Queue]) -> None:
    """Look every second for batches whose lease has run out, until cancelled."""
    while True:
        count = await outbox.take_back(queues, clock.now())
        if count:
            log.warning("batches_taken_back", rows=count)
        await asyncio.sleep(_TAKE_BACK_SECONDS)


PASSING = (*TRANSIENT, RedisError, OSError)
"""Errors of a loop that are worth another try a moment later."""
