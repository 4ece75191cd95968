"""What waits for a worker about referrals: to be credited, or taken back; step by step, each step once."""

from uuid import UUID

from app.database import connection, transaction
from app.earning import rulesets
from app.earning.rules import ReferralSide, ReferralTrigger
from app.outbox import service as outbox
from app.referrals import records
from app.referrals.crediting import credit_referred, credit_referrer
from app.referrals.records import Standing
from app.referrals.referrals import Credit, Occasion, ReferralStatus
from app.referrals.withdrawing import is_taken_back, take_back_side

_MOST_STEPS = 100


async def credit_members(program_id: UUID, members: list[UUID], batch: UUID | None) -> int:
    """Do what waits for the referrals through which members came; return how many steps that were.

    Each step is one transaction, and the next one goes by what is kept: a worker that dies between two leaves
    the rest to whoever gets the batch then. Safe to run twice and on two workers at once.

    Args:
        members: those who were brought.
        batch: of the outbox, deleted when nothing is left to do.

    Raises:
        Unavailable: the database stayed away or busy; what is not done stays in the outbox.
    """
    async with connection() as sql:
        referrals = await records.find_referrals(sql, program_id, members)
    steps = 0
    for referral_id in referrals:
        for _ in range(_MOST_STEPS):
            if not await _step(program_id, referral_id):
                break
            steps += 1
        else:
            raise RuntimeError(f"referral {referral_id} comes to no end")
    async with transaction() as sql:
        await outbox.finish(sql, batch)
    return steps


async def _step(program_id: UUID, referral_id: UUID) -> bool:
    """Do the next thing about a referral; return False when there is none."""
    async with connection() as sql:
        standing = await records.load_standing(sql, program_id, referral_id)
        referral = standing.referral
        if referral.status is ReferralStatus.REJECTED:
            return False
        policy = (await rulesets.current(sql, program_id)).policy
        live = standing.live(ReferralTrigger.FIRST_PURCHASE)
        # What was taken back and still holds could not be taken back in full: it is done with.
        refunded = (
            live is not None and not live.taken_back_at and await records.is_refunded(sql, policy, live)
        )
        side = ReferralSide.REFERRER
        if refunded and live is not None and await is_taken_back(sql, referral, live, side):
            side = ReferralSide.REFERRED
        occasion = None
        if live is None:
            occasion = await records.first_purchase(sql, policy, standing)
    if refunded and live is not None:
        await take_back_side(program_id, referral, live, side)
        return True
    if (credit := _unfinished(standing)) is not None:
        await credit_referred(program_id, referral, credit)
        return True
    if standing.live(ReferralTrigger.REGISTRATION) is None:
        occasion = Occasion(ReferralTrigger.REGISTRATION, 0, referral.created_at)
    if occasion is None:
        return False
    await credit_referrer(program_id, referral, occasion)
    return True


def _unfinished(standing: Standing) -> Credit | None:
    """Return a credit of which the friend's side is still to come."""
    return next(
        (each for each in standing.credits if each.credited_at is None and each.taken_back_at is None), None
    )
