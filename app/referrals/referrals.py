"""Referrals: who brought whom, what has become of it, and what it gave. Pure."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from app.earning.events import OWN_PREFIX
from app.earning.rules import ReferralSide, ReferralTrigger


class ReferralStatus(StrEnum):
    PENDING = "PENDING"
    CREDITED = "CREDITED"
    REJECTED = "REJECTED"


class ReferralRejection(StrEnum):
    """Why a referral brings nothing, and never will."""

    SELF_REFERRAL = "SELF_REFERRAL"
    SAME_IDENTITY = "SAME_IDENTITY"
    LIMIT_REACHED = "LIMIT_REACHED"
    NO_ACTIVE_RULE = "NO_ACTIVE_RULE"
    REFERRER_NOT_ACTIVE = "REFERRER_NOT_ACTIVE"


class Referral(NamedTuple):
    """A referral as it is kept, in the order of COLUMNS."""

    id: UUID
    program_id: UUID
    referrer_id: UUID
    referred_id: UUID
    status: ReferralStatus
    rejection: ReferralRejection | None
    created_at: datetime
    credited_at: datetime | None

    def member(self, side: ReferralSide) -> UUID:
        """Return the member on a side."""
        return self.referrer_id if side is ReferralSide.REFERRER else self.referred_id


COLUMNS = "id, program_id, referrer_id, referred_id, status, rejection, created_at, credited_at"


class Credit(NamedTuple):
    """What a friend did that brings points, once; in the order of CREDIT_COLUMNS.

    Without rules it brought none, and is kept so that nobody looks again. When it was taken back,
    `written_off` could not be: with any it holds, and nothing that the friend does later takes its place.
    """

    trigger: ReferralTrigger
    round: int
    purchase_id: UUID | None
    rule_ids: list[UUID]
    occurred_at: datetime
    referrer_event_id: UUID | None
    referred_event_id: UUID | None
    credited_at: datetime | None
    taken_back_at: datetime | None
    written_off: int

    @property
    def holds(self) -> bool:
        """Tell whether a side has kept, or may have kept, any of it."""
        return self.taken_back_at is None or self.written_off > 0

    def event(self, side: ReferralSide) -> UUID | None:
        """Return the event that paid a side; None where nothing did."""
        return self.referrer_event_id if side is ReferralSide.REFERRER else self.referred_event_id


CREDIT_COLUMNS = (
    "trigger, round, purchase_id, rule_ids, occurred_at, referrer_event_id, referred_event_id, credited_at, "
    "taken_back_at, written_off"
)


class Occasion(NamedTuple):
    """Something that a friend did and that a referral may be credited for, for the so-many-th time."""

    trigger: ReferralTrigger
    round: int
    occurred_at: datetime
    purchase_id: UUID | None = None


def external_id(referral_id: UUID, trigger: ReferralTrigger, turn: int, side: ReferralSide) -> str:
    """Return the id, of Laurel's own, of the event that pays a side, and of what takes it back."""
    return f"{OWN_PREFIX}referral:{referral_id.hex}:{trigger.lower()}:{turn}:{side.lower()}"
