"""Finding birthdays and anniversaries, by schedule; each day is found, however late it is looked at."""

import asyncio

import structlog

from app.earning.calendar import sweep

log = structlog.get_logger("laurel.sweep")

_SWEEP_SECONDS = 60


async def sweep_forever() -> None:
    """Look every minute for birthdays and anniversaries, until cancelled; `sweep` tells what it costs."""
    while True:
        count = await sweep()
        if count:
            log.info("occasions_recorded", occasions=count)
        await asyncio.sleep(_SWEEP_SECONDS)
