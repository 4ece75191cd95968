"""Taking back what a referral gave, when the friend's first purchase was refunded as a whole."""

from datetime import datetime
from uuid import UUID

import asyncpg

from app import clock
from app.database import transaction
from app.earning.batch import lock
from app.earning.refunds import load_request
from app.earning.rules import ReferralSide
from app.earning.taking_back import Request, announce, take_back_whole
from app.ids import new_id
from app.messages.leaving import leave
from app.metrics import POINTS_TAKEN_BACK
from app.outbox import service as outbox
from app.outbox.service import Queue
from app.programs.policy import ProgramPolicy
from app.redemptions.expiring import check_run_out, releasing
from app.referrals import records, telling
from app.referrals.records import Standing
from app.referrals.referrals import Credit, Referral, ReferralStatus, external_id


async def take_back_side(program_id: UUID, referral: Referral, credit: Credit, side: ReferralSide) -> None:
    """Take back from one side what a credit gave, once; with the friend's side the credit ends.

    The referrer's side comes first. Safe to repeat and to do twice at once. What the member has spent they
    owe, up to the program's debt limit, as for any refund. Where something had to be written off, the
    referral stays credited: a later purchase would else bring the same points again.

    Raises:
        Unavailable: the database stayed away or busy; nothing was done.
    """
    taken = 0

    async def work() -> None:
        nonlocal taken
        taken = 0
        now = clock.now()
        async with transaction() as sql:
            member_id = referral.member(side)
            locked = await lock(sql, program_id, [member_id])
            standing = await records.load_standing(sql, program_id, referral.id, lock=True)
            live = standing.live(credit.trigger)
            if live is None or live.round != credit.round or live.taken_back_at:
                return
            await check_run_out(sql, program_id, member_id, now)
            request = _request(referral, live, side, now)
            event_id = live.event(side)
            if event_id is not None and await announce(sql, request):
                taken = await _take_back(sql, locked.rule_set.policy, request, event_id)
                # Written off or not: what was refunded counts towards no tier.
                if locked.rule_set.can_climb:
                    await outbox.leave(sql, Queue.TIERS, program_id, [member_id], now)
            if taken:
                await leave(sql, program_id, [telling.taken_back(referral, side, taken)], now)
            if side is ReferralSide.REFERRED:
                await _end(sql, standing, live, now)

    await releasing(work)
    POINTS_TAKEN_BACK.inc(taken)


async def _end(sql: asyncpg.Connection, standing: Standing, live: Credit, now: datetime) -> None:
    """End a credit that was taken back from both sides, and say what that makes of its referral."""
    referral = standing.referral
    written_off = await records.end_credit(sql, referral, live, now)
    others = [each for each in standing.credits if each.rule_ids and each.holds and each != live]
    if written_off:
        # Refunded between the two sides: who was credited first has kept some of it.
        if referral.status is ReferralStatus.PENDING:
            await records.set_status(sql, referral, ReferralStatus.CREDITED, now)
    elif referral.status is ReferralStatus.CREDITED and not others:
        await records.set_status(sql, referral, ReferralStatus.PENDING, now)


async def is_taken_back(
    sql: asyncpg.Connection, referral: Referral, credit: Credit, side: ReferralSide
) -> bool:
    """Tell whether nothing is left to take back from a side."""
    if credit.event(side) is None:
        return True
    name = external_id(referral.id, credit.trigger, credit.round, side)
    return await load_request(sql, referral.program_id, name) is not None


def _request(referral: Referral, credit: Credit, side: ReferralSide, now: datetime) -> Request:
    name = external_id(referral.id, credit.trigger, credit.round, side)
    member_id = referral.member(side)
    return Request(new_id(), referral.program_id, member_id, name, "REFERRAL", 0, now, now)


async def _take_back(sql: asyncpg.Connection, policy: ProgramPolicy, request: Request, event_id: UUID) -> int:
    """Take back what an event has left; return the points."""
    event = await records.load_event(sql, request.program_id, event_id)
    await take_back_whole(sql, policy, request, event)
    return sum(refund.points for refund in request.refunds)
