"""Telling members that points are about to expire, as the days of their programs begin."""

import asyncio

import structlog

from app.ledger.noticing import tell_expiring

log = structlog.get_logger("laurel.sweep")

_SWEEP_SECONDS = 60


async def sweep_forever() -> None:
    """Look every minute whether a day has begun in a program, and tell of what expires; until cancelled."""
    while True:
        count = await tell_expiring()
        if count:
            log.info("expiring_points_told", messages=count)
        await asyncio.sleep(_SWEEP_SECONDS)
