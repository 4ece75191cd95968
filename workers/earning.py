"""Earning what was stored for later: the job."""

import time
from uuid import UUID

import structlog

from app.earning.processing import earn_batch

log = structlog.get_logger("laurel.worker")


async def earn(batch: UUID) -> None:
    """Earn the events that a batch of the outbox names."""
    started = time.perf_counter()
    events = await earn_batch(batch)
    if events:
        duration_ms = round((time.perf_counter() - started) * 1000, 2)
        log.info("events_earned", events=events, batch=str(batch), duration_ms=duration_ms)
