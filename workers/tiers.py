"""Finding out who has reached or lost a tier: the job."""

from uuid import UUID

from app.outbox.consuming import consume
from app.outbox.service import Queue
from app.tiers.standings import evaluate_members


async def evaluate(batch: UUID) -> None:
    """Look at the tiers of the members whom a batch of the outbox names."""
    await consume(Queue.TIERS, batch, evaluate_members)
