"""Crediting referrals: first who brought the friend, then the friend, each in a transaction of its own.

What the first transaction decides is kept in a credit, which names the rules; the second one finishes it.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from app import clock
from app.database import retrying, transaction
from app.earning.batch import Earned, count, lock
from app.earning.events import Event, Incoming, OwnDeed
from app.earning.recording import record_within
from app.earning.rules import Brought, EventKind, ReferralSide, ReferralTrigger
from app.members.reads import MemberRef
from app.messages.leaving import Message, leave
from app.referrals import records, telling
from app.referrals.deciding import Decision, decide
from app.referrals.referrals import Credit, Occasion, Referral, ReferralRejection, ReferralStatus, external_id


async def credit_referrer(program_id: UUID, referral: Referral, occasion: Occasion) -> None:
    """Decide what an occasion is worth, and credit who brought the friend; or keep why it brings nothing.

    Safe to repeat and to do twice at once: whoever comes second finds it done.

    Raises:
        Unavailable: the database stayed away or busy; nothing was done.
    """
    earned: list[Earned] = []

    async def work() -> None:
        earned.clear()
        now = clock.now()
        async with transaction() as sql:
            locked = await lock(sql, program_id, [referral.referrer_id])
            standing = await records.load_standing(sql, program_id, referral.id, lock=True)
            if standing.referral.status is ReferralStatus.REJECTED:
                return
            if standing.rounds(occasion.trigger) != occasion.round or standing.live(occasion.trigger):
                return
            decision = await decide(sql, locked, standing.referral, occasion)
            if decision.rejection is not None:
                await _reject(sql, standing.referral, occasion, decision, now)
                return
            rule_ids = [rule.id for rule in decision.rules]
            event = None
            if decision.pays(ReferralSide.REFERRER):
                event = await _record(sql, referral, occasion, ReferralSide.REFERRER, (), now, earned)
            event_id = None if event is None else event.id
            await records.write_credit(sql, referral, occasion, rule_ids, event_id, now)
            if event is not None and event.points:
                told = telling.credited(referral, ReferralSide.REFERRER, event.points)
                await leave(sql, program_id, [told], now)

    await retrying(work)
    count(earned)


async def _reject(
    sql: asyncpg.Connection, referral: Referral, occasion: Occasion, decision: Decision, now: datetime
) -> None:
    """Keep that an occasion brings nothing; reject the referral unless it brought or may bring any."""
    assert decision.rejection is not None
    if referral.status is ReferralStatus.PENDING and not decision.may_come:
        await records.set_status(sql, referral, ReferralStatus.REJECTED, now, decision.rejection)
        await leave(sql, referral.program_id, [_rejected(referral, decision.rejection)], now)
    else:
        await records.write_credit(sql, referral, occasion, [], None, now)


def _rejected(referral: Referral, rejection: ReferralRejection) -> Message:
    return telling.rejected(referral.id, referral.referrer_id, referral.referred_id, rejection)


async def credit_referred(program_id: UUID, referral: Referral, credit: Credit) -> None:
    """Credit a friend by the rules that a credit names, and finish it, as safe as `credit_referrer` is.

    A purchase that was refunded meanwhile credits nobody: what the referrer got is to be taken back.

    Raises:
        Unavailable: the database stayed away or busy; nothing was done.
    """
    earned: list[Earned] = []

    async def work() -> None:
        earned.clear()
        now = clock.now()
        async with transaction() as sql:
            locked = await lock(sql, program_id, [referral.referred_id])
            standing = await records.load_standing(sql, program_id, referral.id, lock=True)
            open_ = standing.live(credit.trigger)
            if open_ is None or open_.round != credit.round or open_.credited_at is not None:
                return
            if await records.is_refunded(sql, locked.rule_set.policy, open_):
                return
            occasion = Occasion(credit.trigger, credit.round, credit.occurred_at, credit.purchase_id)
            event = await _record(sql, referral, occasion, ReferralSide.REFERRED, open_.rule_ids, now, earned)
            await records.finish_credit(sql, referral, open_, None if event is None else event.id, now)
            if standing.referral.status is ReferralStatus.PENDING:
                await records.set_status(sql, referral, ReferralStatus.CREDITED, now)
            if event is not None and event.points:
                told = telling.credited(referral, ReferralSide.REFERRED, event.points)
                await leave(sql, program_id, [told], now)

    await retrying(work)
    count(earned)


async def _record(
    sql: asyncpg.Connection,
    referral: Referral,
    occasion: Occasion,
    side: ReferralSide,
    rule_ids: Sequence[UUID],
    now: datetime,
    earned: list[Earned],
) -> Event | None:
    """Record the event that pays a side, as any other; None for a friend who is suspended or has left."""
    deed = OwnDeed(
        external_id(referral.id, occasion.trigger, occasion.round, side),
        None,
        occasion.occurred_at,
        brought=Brought(ReferralTrigger(occasion.trigger), side, tuple(rule_ids)),
    )
    incoming = Incoming(deed, MemberRef(id=referral.member(side)), kind=EventKind.REFERRAL)
    (recorded,), earned[:] = await record_within(sql, referral.program_id, [incoming], now)
    return recorded.event
