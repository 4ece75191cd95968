"""Hints that something changed: sent through Redis after the commit, and nothing rests on their arrival.

Whoever shows something live looks into PostgreSQL when a hint comes, and every few seconds without one.
"""

import asyncio
from collections.abc import Collection, Iterable
from time import monotonic
from typing import Any, Self
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.database import after_commit
from app.settings import Settings

log = structlog.get_logger("laurel.live")

CHANNEL = "laurel:live"
"""What is published are the ids of what changed (members, jobs), 16 bytes each, one after the other."""

_MAX_WAITING = 100_000
_MAX_IN_ONE = 2_000
_PAUSE_SECONDS = 1.0
_TELL_SECONDS = 10.0


class Publisher:
    """Sends the hints of one process. Use it as an async context manager, once in a process."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url
        self._redis = Redis.from_url(settings.redis_url, socket_timeout=1, socket_connect_timeout=1)
        self._waiting: set[UUID] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._before: Publisher | None = None
        self._told_at = -_TELL_SECONDS

    async def __aenter__(self) -> Self:
        global _publisher
        self._task = asyncio.create_task(self._run())
        self._before, _publisher = _publisher, self
        return self

    async def __aexit__(self, *error: object) -> None:
        global _publisher
        if _publisher is self:
            _publisher = self._before
        assert self._task is not None
        await cancelled([self._task])
        await self._redis.aclose()

    def add(self, ids: Iterable[UUID]) -> None:
        """Have hints sent; while Redis is away they are dropped."""
        if len(self._waiting) < _MAX_WAITING:
            self._waiting.update(ids)
            self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            ids, self._waiting = list(self._waiting), set()
            try:
                for start in range(0, len(ids), _MAX_IN_ONE):
                    chunk = b"".join(each.bytes for each in ids[start : start + _MAX_IN_ONE])
                    await self._redis.publish(CHANNEL, chunk)
            except (RedisError, OSError) as error:
                if monotonic() - self._told_at >= _TELL_SECONDS:
                    self._told_at = monotonic()
                    log.warning("hints_dropped", hints=len(ids), error=repr(error))
                await asyncio.sleep(_PAUSE_SECONDS)


async def cancelled(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until they have ended.

    Once is not enough: redis-py sends within asyncio.wait_for, which before Python 3.12 loses a
    cancellation that arrives as the sending ends.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=1)
    await asyncio.gather(*tasks, return_exceptions=True)


_publisher: Publisher | None = None


def touch(ids: Iterable[UUID]) -> None:
    """Have everybody who watches members or jobs look at them again, once the transaction is committed."""
    publisher = _publisher
    if publisher is not None:
        kept = tuple(ids)
        after_commit(lambda: publisher.add(kept))
