"""What messages are about, by name. Pure."""

from enum import StrEnum


class Topic(StrEnum):
    """One kind of change that others care about."""

    POINTS_EARNED = "points.earned"
    POINTS_MATURED = "points.matured"
    POINTS_EXPIRING = "points.expiring"
    POINTS_EXPIRED = "points.expired"
    POINTS_ADJUSTED = "points.adjusted"
    POINTS_TAKEN_BACK = "points.taken_back"
    TIER_UP = "tier.up"
    TIER_DOWN = "tier.down"
    REDEMPTION_RESERVED = "redemption.reserved"
    REDEMPTION_CONFIRMED = "redemption.confirmed"
    REDEMPTION_FULFILLED = "redemption.fulfilled"
    REDEMPTION_USED = "redemption.used"
    REDEMPTION_CANCELLED = "redemption.cancelled"
    REDEMPTION_EXPIRED = "redemption.expired"
    REFERRAL_CREDITED = "referral.credited"
    REFERRAL_REJECTED = "referral.rejected"
    REFERRAL_TAKEN_BACK = "referral.taken_back"
    TRANSFER_SENT = "transfer.sent"
    TRANSFER_RECEIVED = "transfer.received"
    TRANSFER_RETURNED = "transfer.returned"
    REWARD_STOCK_LOW = "reward.stock_low"
    REWARD_CODES_LOW = "reward.codes_low"
    WEBHOOK_DISABLED = "webhook.disabled"
