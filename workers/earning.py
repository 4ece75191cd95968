"""Earning what was stored for later: the job."""

from uuid import UUID

from app.earning.processing import earn_batch


async def earn(batch: UUID) -> None:
    """Earn the events that a batch of the outbox names."""
    await earn_batch(batch)
