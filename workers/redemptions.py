"""Releasing reservations that ran out, by schedule; whoever reads or redeems does it for themselves."""

import asyncio

import structlog

from app.redemptions.expiring import sweep

log = structlog.get_logger("laurel.sweep")

_SWEEP_SECONDS = 1.0


async def sweep_forever() -> None:
    """Release what ran out every second, until cancelled."""
    while True:
        count = await sweep()
        if count:
            log.info("reservations_expired", reservations=count)
        await asyncio.sleep(_SWEEP_SECONDS)
