"""What has to be in the database before anything serves from it: tables, and a demo in an empty one."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from app.embedded import StartError
from app.migrate import migrate
from app.settings import Settings

if TYPE_CHECKING:
    from app.demo import Demo

log = structlog.get_logger(__name__)

_POLL_SECONDS = 0.1


class InterruptedStartError(StartError):
    """Somebody asked to stop while something was being started."""


def prepare(settings: Settings, interrupted: Callable[[], bool]) -> "Demo | None":
    """Migrate, and fill an empty database with the demo program.

    Args:
        settings: name the database.
        interrupted: asked ten times a second; True gives up.

    Returns:
        The demo's key and token; None when the database holds programs of its own.

    Raises:
        InterruptedStartError: it was asked to give up.
        Unavailable, asyncpg.PostgresError: the database is away or refuses.
    """
    return asyncio.run(_prepare(settings, interrupted))


async def _prepare(settings: Settings, interrupted: Callable[[], bool]) -> "Demo | None":
    work = asyncio.create_task(_migrate_and_fill(settings))
    while not work.done():
        if interrupted():
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            raise InterruptedStartError("stopped while starting")
        await asyncio.wait([work], timeout=_POLL_SECONDS)
    return work.result()


async def _migrate_and_fill(settings: Settings) -> "Demo | None":
    from app.demo import ensure_demo

    applied = await migrate(settings)
    log.info("database.ready", migrations_applied=applied)
    return await ensure_demo(settings)
