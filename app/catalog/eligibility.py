"""Whether a member can have a reward, and if not, why: all reasons at once. Pure."""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from app.catalog.rewards import Reward, RewardStatus
from app.earning.exact import plural
from app.errors import ErrorCode, UserError
from app.ledger.operations import MAX_POINTS


class IneligibleReason(StrEnum):
    NOT_ACTIVE = "NOT_ACTIVE"
    NOT_STARTED = "NOT_STARTED"
    ENDED = "ENDED"
    OUT_OF_STOCK = "OUT_OF_STOCK"
    NOT_ENOUGH_POINTS = "NOT_ENOUGH_POINTS"
    IN_DEBT = "IN_DEBT"
    TIER_TOO_LOW = "TIER_TOO_LOW"
    LIMIT_REACHED = "LIMIT_REACHED"
    MEMBER_NOT_ACTIVE = "MEMBER_NOT_ACTIVE"


class Standing(NamedTuple):
    """What of a member decides what they can redeem.

    Attributes:
        status: as members have it, ACTIVE for one who takes part.
        available: points that can be spent; below zero where the member owes.
        tiers: the member's tier and all below it.
    """

    status: str
    available: int
    tiers: Collection[UUID] = ()


class Had(NamedTuple):
    """Pieces of one reward that a member has redeemed: ever, and in this month of the program's calendar."""

    ever: int = 0
    this_month: int = 0


NOTHING_HAD = Had()


class Verdict(NamedTuple):
    """Why a member cannot have a reward: nothing for one that they can have."""

    reasons: tuple[IneligibleReason, ...]
    points_missing: int = 0

    @property
    def redeemable(self) -> bool:
        """Whether nothing stands against it."""
        return not self.reasons


def judge(
    reward: Reward,
    standing: Standing,
    had: Had,
    moment: datetime,
    quantity: int = 1,
    points: int | None = None,
) -> Verdict:
    """Return every reason why a member cannot have so many pieces of a reward.

    Args:
        had: what matters only where the reward's limits count what members had.
        points: what it would cost; the price of the pieces, or the least, when left out.
    """
    cost = reward.least_points * quantity if points is None else points
    reasons = [*_of_reward(reward, moment, quantity), *_of_member(reward, standing, had, quantity)]
    missing = min(max(0, cost - standing.available), MAX_POINTS)
    if missing:
        reasons.append(IneligibleReason.NOT_ENOUGH_POINTS)
    return Verdict(tuple(sorted(reasons, key=_ORDER.__getitem__)), missing)


# What the member cannot change comes first.
_ORDER = {
    reason: place
    for place, reason in enumerate(
        (
            IneligibleReason.NOT_ACTIVE,
            IneligibleReason.NOT_STARTED,
            IneligibleReason.ENDED,
            IneligibleReason.OUT_OF_STOCK,
            IneligibleReason.MEMBER_NOT_ACTIVE,
            IneligibleReason.TIER_TOO_LOW,
            IneligibleReason.LIMIT_REACHED,
            IneligibleReason.IN_DEBT,
            IneligibleReason.NOT_ENOUGH_POINTS,
        )
    )
}


def _of_reward(reward: Reward, moment: datetime, quantity: int) -> list[IneligibleReason]:
    reasons = []
    if reward.status is not RewardStatus.ACTIVE:
        reasons.append(IneligibleReason.NOT_ACTIVE)
    if reward.starts_at is not None and moment < reward.starts_at:
        reasons.append(IneligibleReason.NOT_STARTED)
    if reward.drawn_at is not None or (reward.ends_at is not None and moment >= reward.ends_at):
        reasons.append(IneligibleReason.ENDED)
    if reward.stock.left is not None and reward.stock.left < quantity:
        reasons.append(IneligibleReason.OUT_OF_STOCK)
    return reasons


def _of_member(reward: Reward, standing: Standing, had: Had, quantity: int) -> list[IneligibleReason]:
    reasons = []
    if standing.status != "ACTIVE":
        reasons.append(IneligibleReason.MEMBER_NOT_ACTIVE)
    if not reward.is_for(standing.tiers):
        reasons.append(IneligibleReason.TIER_TOO_LOW)
    limits = reward.limits
    if (
        (limits.max_total is not None and reward.stock.taken + quantity > limits.max_total)
        or (limits.max_per_member is not None and had.ever + quantity > limits.max_per_member)
        or (
            limits.max_per_member_per_month is not None
            and had.this_month + quantity > limits.max_per_member_per_month
        )
    ):
        reasons.append(IneligibleReason.LIMIT_REACHED)
    if standing.available < 0:
        reasons.append(IneligibleReason.IN_DEBT)
    return reasons


def errors_of_member(standing: Standing) -> list[UserError]:
    """Return what keeps a member from redeeming anything at all, with the sentences of `errors_of`."""
    sentences = []
    if standing.status != "ACTIVE":
        sentences.append(_not_active(standing))
    if standing.available < 0:
        sentences.append(_in_debt(standing))
    return [UserError(ErrorCode.NOT_ELIGIBLE, sentence, ("member",)) for sentence in sentences]


_CODES = {
    IneligibleReason.OUT_OF_STOCK: ErrorCode.OUT_OF_STOCK,
    IneligibleReason.NOT_ENOUGH_POINTS: ErrorCode.INSUFFICIENT_POINTS,
    IneligibleReason.LIMIT_REACHED: ErrorCode.LIMIT_REACHED,
}
_MEMBERS = {
    IneligibleReason.MEMBER_NOT_ACTIVE,
    IneligibleReason.IN_DEBT,
    IneligibleReason.TIER_TOO_LOW,
    IneligibleReason.NOT_ENOUGH_POINTS,
}


def errors_of(
    verdict: Verdict, reward: Reward, standing: Standing, had: Had, quantity: int
) -> list[UserError]:
    """Return the errors that tell a verdict to who asked, every reason by itself."""
    return [
        UserError(
            _CODES.get(reason, ErrorCode.NOT_ELIGIBLE),
            _sentence(reason, verdict, reward, standing, had, quantity),
            ("member",) if reason in _MEMBERS else ("reward_id",),
        )
        for reason in verdict.reasons
    ]


def _sentence(
    reason: IneligibleReason, verdict: Verdict, reward: Reward, standing: Standing, had: Had, quantity: int
) -> str:
    match reason:
        case IneligibleReason.NOT_ACTIVE:
            return f"The reward is {reward.status}, and cannot be redeemed."
        case IneligibleReason.NOT_STARTED:
            assert reward.starts_at is not None
            return f"The reward can be redeemed from {reward.starts_at:%Y-%m-%d %H:%M} UTC on."
        case IneligibleReason.ENDED:
            if reward.drawn_at is not None:
                return "The giveaway is over: its winner has been drawn."
            return "The reward's time is over."
        case IneligibleReason.OUT_OF_STOCK:
            left = reward.stock.left
            return (
                f"Only {left} of it {'is' if left == 1 else 'are'} left."
                if left
                else "Nothing of it is left."
            )
        case IneligibleReason.MEMBER_NOT_ACTIVE:
            return _not_active(standing)
        case IneligibleReason.TIER_TOO_LOW:
            return "The reward is for members of a higher tier."
        case IneligibleReason.LIMIT_REACHED:
            return _limit(reward, had, quantity)
        case IneligibleReason.IN_DEBT:
            return _in_debt(standing)
    have = f"The member has {plural(max(0, standing.available))}"
    are = "is" if verdict.points_missing == 1 else "are"
    return f"{have}; {plural(verdict.points_missing)} more {are} needed."


def _not_active(standing: Standing) -> str:
    return f"The member is {standing.status.lower()} and redeems nothing."


def _in_debt(standing: Standing) -> str:
    return f"The member owes {plural(-standing.available)}; the next points earned pay them first."


def _limit(reward: Reward, had: Had, quantity: int) -> str:
    limits = reward.limits
    if limits.max_per_member is not None and had.ever + quantity > limits.max_per_member:
        return f"Each member can have {limits.max_per_member} of it, and this one has had {had.ever}."
    monthly = limits.max_per_member_per_month
    if monthly is not None and had.this_month + quantity > monthly:
        return f"Each member can have {monthly} of it a month, and this one has had {had.this_month}."
    return f"All {limits.max_total} that there are to be have been redeemed."
