"""Finding out who has reached or lost a tier: the job, and what goes by the clock."""

import asyncio
from uuid import UUID

import structlog

from app.outbox.consuming import consume
from app.outbox.service import Queue
from app.tiers.standings import evaluate_members, sweep

log = structlog.get_logger("laurel.sweep")

_SWEEP_SECONDS = 2.0


async def evaluate(batch: UUID) -> None:
    """Look at the tiers of the members whom a batch of the outbox names."""
    await consume(Queue.TIERS, batch, evaluate_members)


async def sweep_forever() -> None:
    """Look every two seconds for tiers whose time is over or has come, until cancelled."""
    while True:
        count = await sweep()
        if count:
            log.info("tiers_looked_at", members=count)
        await asyncio.sleep(_SWEEP_SECONDS)
