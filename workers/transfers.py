"""Bringing points to whom they were sent: the job."""

from uuid import UUID

from app.outbox.consuming import consume
from app.outbox.service import Queue
from app.transfers.arriving import arrive_members


async def arrive(batch: UUID) -> None:
    """Bring the members whom a batch of the outbox names the points that are on their way to them."""
    await consume(Queue.TRANSFERS, batch, arrive_members)
