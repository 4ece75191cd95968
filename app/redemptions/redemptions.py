"""Redemptions: points that a member burned on a reward, or has set aside for it."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg


class RedemptionStatus(StrEnum):
    RESERVED = "RESERVED"
    CONFIRMED = "CONFIRMED"
    FULFILLED = "FULFILLED"
    USED = "USED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


ENDED = frozenset({RedemptionStatus.CANCELLED, RedemptionStatus.EXPIRED})
"""Nothing of it counts any more: points, stock and limits are given back."""


@dataclass(frozen=True, slots=True)
class Redemption:
    """A redemption as it is stored; times are in UTC.

    Attributes:
        points: reserved or spent, of all pieces; of a captured reservation, what was captured.
        restored: of these, given back after they were spent.
        rate: DISCOUNT: points for one unit of the currency, as it was when it was redeemed.
        face_value: of one piece, as it was when it was redeemed: what it is billed at.
        amount: DISCOUNT: the money taken off; else the face value of all pieces, where there is one.
        reserve_entry, redeem_entry: the places of its entries in the member's account.
        reserved_until: from then on a RESERVED one has run out.
        ended_at: when it was cancelled, or ran out.
    """

    id: UUID
    program_id: UUID
    member_id: UUID
    reward_id: UUID
    reward_name: str
    status: RedemptionStatus
    quantity: int
    points: int
    restored: int
    rate: Decimal | None
    face_value: Decimal | None
    amount: Decimal | None
    order_amount: Decimal | None
    order_id: str | None
    reserve_entry: int | None
    redeem_entry: int | None
    reserved_until: datetime | None
    confirmed_at: datetime | None
    fulfilled_at: datetime | None
    used_at: datetime | None
    ended_at: datetime | None
    note: str | None
    reason: str | None
    source: str
    created_at: datetime
    updated_at: datetime

    def but(self, **changes: Any) -> "Redemption":
        """Return the same redemption, changed."""
        return replace(self, **changes)

    def has_run_out(self, moment: datetime) -> bool:
        """Tell whether it is a reservation whose time is over, whether or not anybody has noticed."""
        return (
            self.status is RedemptionStatus.RESERVED
            and self.reserved_until is not None
            and moment >= self.reserved_until
        )


COLUMNS = """
id, program_id, member_id, reward_id, reward_name, status, quantity, points, restored, rate, face_value,
amount, order_amount, order_id, reserve_entry, redeem_entry, reserved_until, confirmed_at, fulfilled_at,
used_at, ended_at, note, reason, source, created_at, updated_at
"""


def redemption_from_row(row: asyncpg.Record) -> Redemption:
    """Return a redemption from a row with COLUMNS."""
    values: dict[str, Any] = dict(row)
    return Redemption(**{**values, "status": RedemptionStatus(values["status"])})
