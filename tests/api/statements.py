"""Counting what a request asks of PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from app import database

_FRAME = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


class Counted:
    """The statements that were sent while counting, in order."""

    def __init__(self) -> None:
        self.all: list[str] = []

    @property
    def statements(self) -> list[str]:
        """All but those that only open or close a transaction, or hand a connection back to the pool."""
        return [
            each
            for each in self.all
            if not each.startswith(_FRAME) and not each.startswith("SELECT pg_advisory_unlock_all")
        ]

    @property
    def transactions(self) -> int:
        return sum(each.startswith("BEGIN") for each in self.all)

    @property
    def numbers(self) -> tuple[int, int]:
        """How many statements, and in how many transactions beside those that read by themselves."""
        return len(self.statements), self.transactions


@asynccontextmanager
async def counting() -> AsyncIterator[Counted]:
    """Count every statement that any connection of this process sends meanwhile."""
    counted = Counted()

    def note(sent: Any) -> None:
        counted.all.append(" ".join(str(sent.query).split()))

    connections = await _all_connections()
    for connection in connections:
        connection.add_query_logger(note)
    try:
        yield counted
        # Loggers are called by the loop, a moment later.
        await asyncio.sleep(0.001)
    finally:
        for connection in connections:
            connection.remove_query_logger(note)


async def _all_connections() -> list[Any]:
    """Open the whole pool, so that no connection is opened unseen, and return what is in it."""
    pool = database._client()._pool
    async with AsyncExitStack() as stack:
        for _ in range(pool.get_max_size()):
            await stack.enter_async_context(pool.acquire())
    return [holder._con for holder in pool._holders]
