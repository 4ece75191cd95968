"""What is told of a referral: messages for those who follow a program. Pure."""

from typing import Any
from uuid import UUID

from app.earning.rules import ReferralSide
from app.ids import to_global_id
from app.messages.leaving import Message
from app.messages.topics import Topic
from app.referrals.referrals import Referral, ReferralRejection


def _who(referral_id: UUID, referrer_id: UUID, referred_id: UUID) -> dict[str, Any]:
    return {
        "referralId": to_global_id("Referral", referral_id),
        "referrerId": to_global_id("Member", referrer_id),
        "referredId": to_global_id("Member", referred_id),
    }


def _points(topic: Topic, referral: Referral, side: ReferralSide, points: int) -> Message:
    payload = _who(referral.id, referral.referrer_id, referral.referred_id)
    return Message(topic, referral.member(side), payload | {"role": side.value, "points": points})


def credited(referral: Referral, side: ReferralSide, points: int) -> Message:
    """Return what is told to the member on a side whom a referral gave points."""
    return _points(Topic.REFERRAL_CREDITED, referral, side, points)


def taken_back(referral: Referral, side: ReferralSide, points: int) -> Message:
    """Return what is told to the member on a side from whom a referral's points were taken back."""
    return _points(Topic.REFERRAL_TAKEN_BACK, referral, side, points)


def rejected(
    referral_id: UUID, referrer_id: UUID, referred_id: UUID, rejection: ReferralRejection
) -> Message:
    """Return what is told to a member whose referral brings nothing."""
    payload = _who(referral_id, referrer_id, referred_id) | {"rejection": rejection.value}
    return Message(Topic.REFERRAL_REJECTED, referrer_id, payload)
