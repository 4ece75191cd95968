"""What messages are about, by name, and who hears of what. Pure."""

from collections.abc import Sequence
from enum import StrEnum

from app.validation import Problems

_REDEMPTION = (
    "redemptionId, rewardId, rewardName, status, quantity, points, amount, orderId, reservedUntil, note,"
    " reason"
)
_REFERRAL = "referralId, referrerId, referredId"
_TIER = "from, to (each tierId, name and rank; null for none), qualifying, at"


class Topic(StrEnum):
    """One kind of change that others care about.

    Attributes:
        description: what happened, as one sentence.
        payload: the names in the payload of its messages.
    """

    description: str
    payload: str

    def __new__(cls, name: str, description: str, payload: str) -> "Topic":
        """Make a topic of its name, and of what is said of it."""
        topic = str.__new__(cls, name)
        topic._value_ = name
        topic.description = description
        topic.payload = payload
        return topic

    POINTS_EARNED = (
        "points.earned",
        "An event has earned points.",
        "eventId, externalId, kind, points, awards (each ruleId, rule, points, availableAt, expiresAt)",
    )
    POINTS_MATURED = (
        "points.matured",
        "Pending points can be spent.",
        "points, available and pending (the balance afterwards), day (the first one of their use)",
    )
    POINTS_EXPIRING = (
        "points.expiring",
        "Points expire in 30 days, or in 7, unless they are spent.",
        "points, expiresAt, days (left until then)",
    )
    POINTS_EXPIRED = (
        "points.expired",
        "Points have expired.",
        "points, available and pending (the balance afterwards), day (the first one without them);"
        " on their way from another member: transferId, fromMemberId",
    )
    POINTS_ADJUSTED = (
        "points.adjusted",
        "The balance was adjusted by hand.",
        "points (signed), reason, available (the balance afterwards)",
    )
    POINTS_TAKEN_BACK = (
        "points.taken_back",
        "A refund took back what a purchase had earned.",
        "refundId, refundExternalId, eventId, externalId (of the purchase), points (below 0 where some were"
        " given again), debt, writtenOff, restored (points that had paid for it)",
    )
    TIER_UP = "tier.up", "The member has reached a higher tier.", _TIER
    TIER_DOWN = "tier.down", "The member has lost a tier.", _TIER
    REDEMPTION_RESERVED = "redemption.reserved", "Points are held for a reward.", _REDEMPTION
    REDEMPTION_CONFIRMED = (
        "redemption.confirmed",
        "Points are spent on a reward: redeemed at once, or captured.",
        _REDEMPTION,
    )
    REDEMPTION_FULFILLED = "redemption.fulfilled", "Goods were handed over or shipped.", _REDEMPTION
    REDEMPTION_USED = "redemption.used", "The last of a redemption's codes was used.", _REDEMPTION
    REDEMPTION_CANCELLED = "redemption.cancelled", "The points came back to the member.", _REDEMPTION
    REDEMPTION_EXPIRED = "redemption.expired", "A reservation ran out; its points came back.", _REDEMPTION
    REFERRAL_CREDITED = (
        "referral.credited",
        "A referral gave this member points, as the referrer or as the friend.",
        f"{_REFERRAL}, role, points",
    )
    REFERRAL_REJECTED = "referral.rejected", "A referral earns nobody anything.", f"{_REFERRAL}, rejection"
    REFERRAL_TAKEN_BACK = (
        "referral.taken_back",
        "The purchase was refunded that had brought a referral its points.",
        f"{_REFERRAL}, role, points",
    )
    TRANSFER_SENT = (
        "transfer.sent",
        "Points are on their way to another member.",
        "transferId, toMemberId, points, available",
    )
    TRANSFER_RECEIVED = (
        "transfer.received",
        "Points of another member have arrived.",
        "transferId, fromMemberId, points (that arrived), expired (on the way), available",
    )
    TRANSFER_RETURNED = (
        "transfer.returned",
        "Points that were sent came back: the other could not take them.",
        "transferId, toMemberId, points, available",
    )
    REWARD_STOCK_LOW = "reward.stock_low", "Few pieces are left of a reward.", "rewardId, name, left"
    REWARD_CODES_LOW = "reward.codes_low", "Few codes are left in a reward's pool.", "rewardId, name, left"
    WEBHOOK_DISABLED = (
        "webhook.disabled",
        "A webhook failed for so long that it was switched off.",
        "webhookId, url, error",
    )


EVERYTHING = "*"
_AND_BELOW = ".*"
_MAX_TOPICS = 50


def _is_known(pattern: str) -> bool:
    return any(matches([pattern], topic) for topic in Topic)


def check_topics(topics: Sequence[str], problems: Problems, field: str = "topics") -> None:
    """Note what is wrong with what somebody wants to hear of, below `field`.

    Each is the name of a topic, all of one kind as "points.*", or "*".
    """
    if len(topics) > _MAX_TOPICS:
        problems.add(f"At most {_MAX_TOPICS} topics can be named.", field)
        return
    known = ", ".join([*Topic, *sorted({f"{topic.partition('.')[0]}.*" for topic in Topic}), EVERYTHING])
    for position, topic in enumerate(topics):
        if not _is_known(topic):
            problems.add(f"There is no such topic; there are {known}.", field, str(position))


def matches(topics: Sequence[str], topic: str) -> bool:
    """Tell whether somebody hears of a topic who named `topics`: everything where that is empty."""
    return not topics or any(
        each in (EVERYTHING, topic) or (each.endswith(_AND_BELOW) and topic.startswith(each[:-1]))
        for each in topics
    )
