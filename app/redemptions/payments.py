"""Points payments, as purchases see them: what a redemption paid, and what a refund gives back of it."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.catalog.stock import Returned, give_back
from app.errors import ErrorCode, UserError
from app.ids import key_id
from app.ledger.operations import EntryKind, Operation, Terms
from app.ledger.service import post
from app.messages.leaving import leave
from app.redemptions.reads import find_redemptions
from app.redemptions.redemptions import RedemptionStatus
from app.redemptions.telling import told_of

_FIND = """
SELECT r.id, r.member_id, w.kind = 'DISCOUNT' AND r.amount IS NOT NULL AS is_discount, r.status, r.amount,
    e.external_id AS purchase
FROM redemption r JOIN reward w ON w.id = r.reward_id LEFT JOIN event e ON e.redemption_id = r.id
WHERE r.program_id = $1 AND r.id = ANY($2::uuid[])
"""

_LOCK = """
SELECT r.member_id, r.reward_id, r.status, r.quantity, r.points, r.restored, r.redeem_entry, (
        SELECT coalesce(sum(f.restored_points), 0)::bigint FROM refund f
        WHERE f.program_id = r.program_id AND f.event_id = $3
    ) AS by_refunds
FROM redemption r WHERE r.program_id = $1 AND r.id = $2 FOR UPDATE OF r
"""

_RESTORED = """
UPDATE redemption SET restored = restored + $3, updated_at = $4 WHERE program_id = $1 AND id = $2
"""

_CANCELLED = """
UPDATE redemption SET restored = restored + $3, updated_at = $4, ended_at = $4, status = 'CANCELLED',
    reason = $5
WHERE program_id = $1 AND id = $2
"""

_PAYS = (RedemptionStatus.CONFIRMED, RedemptionStatus.FULFILLED, RedemptionStatus.USED)
_FIELD = ("redemption_id",)


class Payment(NamedTuple):
    """A redemption as a purchase sees it that names it.

    Attributes:
        is_discount: whether it took money off an order.
        amount: how much, in the program's currency; None unless it is a discount.
        purchase: the external id of the purchase that it pays for; None as long as there is none.
    """

    id: UUID
    member_id: UUID
    is_discount: bool
    status: RedemptionStatus
    amount: Decimal | None
    purchase: str | None


async def find_payments(
    sql: asyncpg.Connection, program_id: UUID, ids: Sequence[UUID]
) -> list[Payment | None]:
    """Return redemptions in the order of the ids given; None where the program has none."""
    rows = await sql.fetch(_FIND, program_id, list(ids))
    found = {
        row["id"]: Payment(
            row["id"],
            row["member_id"],
            row["is_discount"],
            RedemptionStatus(row["status"]),
            row["amount"],
            row["purchase"],
        )
        for row in rows
    }
    return [found.get(each) for each in ids]


def taken(purchase: str | None = None) -> UserError:
    """Return the error of a purchase whose redemption pays for another one, by its external id if known."""
    other = "another purchase" if purchase is None else f"the purchase {purchase}"
    return UserError(ErrorCode.WRONG_STATE, f"The redemption pays for {other} already.", _FIELD)


def why_not(
    payment: Payment | None, member_id: UUID | None, amount: Decimal, external_id: str
) -> UserError | None:
    """Return why a redemption cannot pay for a purchase, field `redemption_id`; None when it can.

    Args:
        payment: what was found under the id that the purchase names.
        member_id: who bought; a redemption of somebody else's is as good as none.
        amount: the purchase's, in the program's currency.
        external_id: the purchase's.
    """
    if payment is None or payment.member_id != member_id:
        return UserError(ErrorCode.NOT_FOUND, "The member has no such redemption.", _FIELD)
    if not payment.is_discount or payment.amount is None:
        message = "The redemption is not of a discount: it takes no money off an order."
        return UserError(ErrorCode.INVALID, message, _FIELD)
    if payment.status not in _PAYS:
        message = f"The redemption is {payment.status.lower()} and pays for nothing."
        if payment.status is RedemptionStatus.RESERVED:
            message = "The redemption is reserved: capture it before the purchase is recorded."
        return UserError(ErrorCode.WRONG_STATE, message, _FIELD)
    if payment.amount > amount:
        message = f"The redemption takes {payment.amount:f} off, and the purchase comes to {amount:f}."
        return UserError(ErrorCode.INVALID, message, _FIELD)
    if payment.purchase not in (None, external_id):
        return taken(payment.purchase)
    return None


class Return(NamedTuple):
    """A refund of a purchase that a redemption helped to pay for.

    Attributes:
        event_id, external_id: of the purchase.
        part: what has been refunded of its amount in all, this refund included: from 0 to 1.
    """

    refund_id: UUID
    redemption_id: UUID
    event_id: UUID
    external_id: str
    occurred_at: datetime
    part: Fraction


async def restore_share(sql: asyncpg.Connection, program_id: UUID, terms: Terms, back: Return) -> int:
    """Give points of a payment back to the lots they came from, and return how many.

    Once a part of the purchase has been refunded the same part of the points has come back, rounded half
    up, however many refunds that took; never more than what is left of them, and nothing of a redemption
    that was cancelled. With the whole of the purchase the redemption is cancelled, and its piece of the
    reward is there again.

    Args:
        sql: a connection inside a transaction that holds the member's account; the redemption is locked
            after it, and the stock of its reward last.
        terms: of the program, at the moment of recording.
    """
    row = await sql.fetchrow(_LOCK, program_id, back.redemption_id, back.event_id)
    if row["status"] not in _PAYS:
        return 0
    # Half up, in whole numbers: a float would be a point off for large sums.
    due = (2 * row["points"] * back.part.numerator + back.part.denominator) // (2 * back.part.denominator)
    points: int = max(0, min(due - row["by_refunds"], row["points"] - row["restored"]))
    reason = f"Refund of {back.external_id}"
    if points:
        operation = Operation(
            account_id=row["member_id"],
            kind=EntryKind.RESTORE,
            amount=points,
            key=key_id("refund-restore", back.refund_id),
            request_hash=points,
            occurred_at=back.occurred_at,
            reference=row["redeem_entry"],
            source="redemption",
            source_id=back.redemption_id,
            reason=reason,
        )
        await post(sql, terms, [operation])
    own = program_id, back.redemption_id, points, terms.recorded_at
    if back.part == 1 and row["restored"] + points == row["points"]:
        await sql.execute(_CANCELLED, *own, reason)
        await give_back(sql, {row["reward_id"]: Returned(row["quantity"])})
        (cancelled,) = await find_redemptions(sql, program_id, [back.redemption_id])
        assert cancelled is not None
        await leave(sql, program_id, [told_of(cancelled)], terms.recorded_at)
    elif points:
        await sql.execute(_RESTORED, *own)
    return points
