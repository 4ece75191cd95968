"""The states of redemptions, which members and redemptions both name in their arguments."""

from app.redemptions.redemptions import RedemptionStatus
from graphql_schema.enums import enum_type

__all__ = ["RedemptionStatus"]

enum_type(
    RedemptionStatus,
    description="What has become of a redemption.",
    values={
        "RESERVED": "Points are set aside; it is to be captured in time.",
        "CONFIRMED": "Points are spent.",
        "FULFILLED": "Goods were handed over or shipped.",
        "USED": "All of its codes were spent.",
        "CANCELLED": "Points were given back.",
        "EXPIRED": "It was not captured in time; points came back by themselves.",
    },
)
