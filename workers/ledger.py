"""Maturing and expiring what is due, by schedule; the ledger itself is right without it."""

import asyncio

import structlog

from app.ledger.sweep import sweep

log = structlog.get_logger("laurel.sweep")

_SWEEP_SECONDS = 60
_IDLE_EVERY = 60


async def sweep_forever() -> None:
    """Settle what is due every minute, and look for idle accounts every hour, until cancelled."""
    turn = 0
    while True:
        count = await sweep(idle=turn % _IDLE_EVERY == 0)
        if count:
            log.info("accounts_settled", accounts=count)
        turn += 1
        await asyncio.sleep(_SWEEP_SECONDS)
