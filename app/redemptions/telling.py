"""What others are told of redemptions: one message for each step."""

from app.ids import to_global_id
from app.messages.leaving import Message
from app.messages.topics import Topic
from app.redemptions.redemptions import Redemption, RedemptionStatus

_TOPICS = {
    RedemptionStatus.RESERVED: Topic.REDEMPTION_RESERVED,
    RedemptionStatus.CONFIRMED: Topic.REDEMPTION_CONFIRMED,
    RedemptionStatus.FULFILLED: Topic.REDEMPTION_FULFILLED,
    RedemptionStatus.USED: Topic.REDEMPTION_USED,
    RedemptionStatus.CANCELLED: Topic.REDEMPTION_CANCELLED,
    RedemptionStatus.EXPIRED: Topic.REDEMPTION_EXPIRED,
}


def told_of(redemption: Redemption) -> Message:
    """Return the message that a redemption is now in its state. Codes are told to nobody."""
    return Message(
        _TOPICS[redemption.status],
        redemption.member_id,
        {
            "redemptionId": to_global_id("Redemption", redemption.id),
            "rewardId": to_global_id("Reward", redemption.reward_id),
            "rewardName": redemption.reward_name,
            "status": redemption.status,
            "quantity": redemption.quantity,
            "points": redemption.points,
            "amount": None if redemption.amount is None else f"{redemption.amount:f}",
            "orderId": redemption.order_id,
            "reservedUntil": redemption.reserved_until,
            "note": redemption.note,
            "reason": redemption.reason,
        },
    )
