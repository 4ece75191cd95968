"""Crediting those who brought a friend, and the friend: the job."""

from uuid import UUID

from app.outbox.consuming import consume
from app.outbox.service import Queue
from app.referrals.working import credit_members


async def credit(batch: UUID) -> None:
    """See to the referrals of the members whom a batch of the outbox names."""
    await consume(Queue.REFERRALS, batch, credit_members)
