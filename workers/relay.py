"""From the outbox to the queue, and back again when nobody finished."""

import asyncio

import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from app import clock
from app.database import TRANSIENT
from app.outbox import service as outbox
from app.outbox.service import Queue
from workers.queue import push

log = structlog.get_logger("laurel.relay")

_IDLE_SECONDS = 0.1
_TAKE_BACK_SECONDS = 1.0


async def relay(redis: ArqRedis, queue: Queue) -> None:
    """Send the queue's work on as it appears, until cancelled.

    Any number of relays can run at once: rows that one is stamping are passed over by the others.
    What Redis does not take is given back at once, and sent when Redis is there again.

    Raises:
        RedisError, OSError: Redis is away.
        Unavailable: the database is away or busy.
    """
    while True:
        batches = await outbox.stamp(queue, clock.now())
        if batches:
            try:
                await push(redis, queue, batches)
            except (RedisError, OSError):
                await outbox.give_back(batches)
                raise
        else:
            await asyncio.sleep(_IDLE_SECONDS)


async def take_back(queue: Queue) -> None:
    """Look every second for batches whose lease has run out, until cancelled."""
    while True:
        count = await outbox.take_back(queue, clock.now())
        if count:
            log.warning("batches_taken_back", queue=queue, rows=count)
        await asyncio.sleep(_TAKE_BACK_SECONDS)


PASSING = (*TRANSIENT, RedisError, OSError)
"""Errors of a loop that are worth another try a moment later."""
