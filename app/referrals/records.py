"""Referrals and their credits, read and written for workers."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from app.earning.events import EVENT_COLUMNS, EVENT_TABLES, Event, event_from_row
from app.earning.refunding import rest_of
from app.earning.rules import ReferralTrigger
from app.programs.policy import ProgramPolicy
from app.referrals.referrals import (
    COLUMNS,
    CREDIT_COLUMNS,
    Credit,
    Occasion,
    Referral,
    ReferralRejection,
    ReferralStatus,
)

_OF_REFERRED = """
SELECT id FROM referral WHERE program_id = $1 AND referred_id = ANY($2::uuid[]) AND status <> 'REJECTED'
ORDER BY id
"""

_REFERRAL = f"SELECT {COLUMNS} FROM referral WHERE program_id = $1 AND id = $2"  # noqa: S608

_CREDITS = f"""
SELECT {CREDIT_COLUMNS} FROM referral_credit
WHERE program_id = $1 AND referral_id = $2 ORDER BY trigger, round
"""  # noqa: S608

# What was recorded before a purchase was refunded that had brought points is no later purchase.
_PURCHASES = f"""
SELECT {EVENT_COLUMNS}, EXISTS (SELECT FROM refund f WHERE f.event_id = e.id) AS refunded FROM {EVENT_TABLES}
WHERE e.program_id = $1 AND e.member_id = $2 AND e.kind = 'PURCHASE'
    AND e.amount > 0 AND o.event_id IS NOT NULL AND o.rejection IS NULL AND (e.occurred_at, e.id) > ($4, $5)
    AND (e.recorded_at, e.id) > ALL (
        SELECT q.recorded_at, f.id FROM referral_credit c JOIN refund f ON f.event_id = c.purchase_id
        JOIN refund_request q ON q.id = f.request_id
        WHERE c.referral_id = $3 AND c.taken_back_at IS NOT NULL)
ORDER BY e.occurred_at, e.id LIMIT $6
"""  # noqa: S608

_EVENT = f"SELECT {EVENT_COLUMNS} FROM {EVENT_TABLES} WHERE e.program_id = $1 AND e.id = $2"  # noqa: S608

_WRITE = """
INSERT INTO referral_credit (referral_id, trigger, round, program_id, referrer_id, referred_id, purchase_id,
    rule_ids, occurred_at, referrer_event_id, credited_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""

_FINISH = """
UPDATE referral_credit SET referred_event_id = $5, credited_at = $6
WHERE program_id = $1 AND referral_id = $2 AND trigger = $3 AND round = $4
"""

_TAKE_BACK = """
UPDATE referral_credit c SET taken_back_at = $5, written_off = (
    SELECT coalesce(sum(m.written_off), 0) FROM refund_award m
    WHERE m.event_id IN (c.referrer_event_id, c.referred_event_id))
WHERE program_id = $1 AND referral_id = $2 AND trigger = $3 AND round = $4 RETURNING written_off
"""

_SET_STATUS = """
UPDATE referral SET status = $3, rejection = $4, credited_at = $5, updated_at = $6
WHERE program_id = $1 AND id = $2
"""

_FIRST = datetime.fromisoformat("0001-01-02T00:00:00+00:00")
_PAGE = 10


class Standing(NamedTuple):
    """A referral with what has brought it points so far, or was looked at for that."""

    referral: Referral
    credits: list[Credit]

    def live(self, trigger: ReferralTrigger) -> Credit | None:
        """Return what holds of a trigger; None when there is nothing, or it was taken back."""
        return next((each for each in self.credits if each.trigger == trigger and each.holds), None)

    def rounds(self, trigger: ReferralTrigger) -> int:
        """Return how often the friend's doing was looked at."""
        return sum(each.trigger == trigger for each in self.credits)


async def find_referrals(sql: asyncpg.Connection, program_id: UUID, members: Sequence[UUID]) -> list[UUID]:
    """Return the referrals through which members came, but for those that were rejected."""
    return [row["id"] for row in await sql.fetch(_OF_REFERRED, program_id, members)]


async def load_standing(
    sql: asyncpg.Connection, program_id: UUID, referral_id: UUID, *, lock: bool = False
) -> Standing:
    """Return a referral with its credits.

    Args:
        lock: keep others from changing it until the transaction ends; accounts are locked before.
    """
    row = await sql.fetchrow(_REFERRAL + (" FOR NO KEY UPDATE" if lock else ""), program_id, referral_id)
    assert row, "referrals are never deleted"
    # A new statement, which sees what whoever held it has written.
    credits = await sql.fetch(_CREDITS, program_id, referral_id)
    return Standing(referral_from_row(row), [_credit(each) for each in credits])


def referral_from_row(row: Iterable[Any]) -> Referral:
    """Return a referral from the values of COLUMNS."""
    referral = Referral(*row)
    rejection = None if referral.rejection is None else ReferralRejection(referral.rejection)
    return referral._replace(status=ReferralStatus(referral.status), rejection=rejection)


def _credit(row: asyncpg.Record) -> Credit:
    return Credit(**{**dict(row), "trigger": ReferralTrigger(row["trigger"])})


async def first_purchase(
    sql: asyncpg.Connection, policy: ProgramPolicy, standing: Standing
) -> Occasion | None:
    """Return the friend's first purchase of which something is left; None when there is none.

    One that came to nothing at all is none.

    Once a refund has taken points back, only what was recorded after it counts.
    """
    referral, after = standing.referral, (_FIRST, UUID(int=0))
    while True:
        rows = await sql.fetch(
            _PURCHASES, referral.program_id, referral.referred_id, referral.id, *after, _PAGE
        )
        for row in rows:
            event = event_from_row(row)
            if not (row["refunded"] and (await rest_of(sql, policy, event)).is_nothing):
                turn = standing.rounds(ReferralTrigger.FIRST_PURCHASE)
                return Occasion(ReferralTrigger.FIRST_PURCHASE, turn, event.occurred_at, event.id)
        if len(rows) < _PAGE:
            return None
        after = (rows[-1]["occurred_at"], rows[-1]["id"])


async def load_event(sql: asyncpg.Connection, program_id: UUID, event_id: UUID) -> Event:
    """Return an event that there is."""
    row = await sql.fetchrow(_EVENT, program_id, event_id)
    assert row, "events are never deleted"
    return event_from_row(row)


async def is_refunded(sql: asyncpg.Connection, policy: ProgramPolicy, credit: Credit) -> bool:
    """Tell whether nothing is left of the purchase that brought a credit; a registration stays."""
    if credit.purchase_id is None:
        return False
    event = await load_event(sql, policy.program_id, credit.purchase_id)
    return (await rest_of(sql, policy, event)).is_nothing


async def write_credit(
    sql: asyncpg.Connection,
    referral: Referral,
    occasion: Occasion,
    rule_ids: Sequence[UUID],
    event_id: UUID | None,
    now: datetime,
) -> None:
    """Keep what a friend did, and the rules that it is paid by; without any it is done with."""
    await sql.execute(
        _WRITE,
        referral.id, occasion.trigger, occasion.round, referral.program_id, referral.referrer_id,
        referral.referred_id, occasion.purchase_id, rule_ids, occasion.occurred_at, event_id,
        None if rule_ids else now,
    )  # fmt: skip


async def finish_credit(
    sql: asyncpg.Connection, referral: Referral, credit: Credit, event_id: UUID | None, now: datetime
) -> None:
    """Keep that both sides were credited, the friend by an event."""
    await sql.execute(_FINISH, referral.program_id, referral.id, credit.trigger, credit.round, event_id, now)


async def end_credit(sql: asyncpg.Connection, referral: Referral, credit: Credit, now: datetime) -> int:
    """Keep that what a credit gave was taken back from both sides; return how much had to be written off."""
    key = (referral.program_id, referral.id, credit.trigger, credit.round)
    written_off: int = await sql.fetchval(_TAKE_BACK, *key, now)
    return written_off


async def set_status(
    sql: asyncpg.Connection,
    referral: Referral,
    status: ReferralStatus,
    now: datetime,
    rejection: ReferralRejection | None = None,
) -> None:
    """Keep what has become of a referral."""
    credited_at = now if status is ReferralStatus.CREDITED else None
    await sql.execute(_SET_STATUS, referral.program_id, referral.id, status, rejection, credited_at, now)
