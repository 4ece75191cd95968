"""What is asked for when points are burned, and what is wrong with it."""

from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import msgspec

from app.errors import UserError
from app.idempotency import check_key
from app.ids import content_hash
from app.ledger.operations import MAX_POINTS
from app.members.reads import MemberRef
from app.money import trim
from app.text import is_text
from app.validation import Problems

MAX_QUANTITY = 100
"""Pieces of one redemption."""
MAX_HOLD_SECONDS = 30 * 24 * 3600
MAX_ORDER = Decimal(1_000_000_000_000)
ORDER_DECIMALS = 6
LONGEST_TEXT = 500


class Wanted(NamedTuple):
    """What somebody asks for.

    Attributes:
        key: the caller's, 1 to 255 characters; it stands for one redemption (or one reservation), for good.
        quantity: pieces, 1 to 100; 1 for a DISCOUNT.
        points: DISCOUNT: to spend on the order.
        order_amount: what the order comes to; DISCOUNT: without it a share of it cannot be limited.
        hold_seconds: how long the points are set aside; None spends them at once.
        caller: the member whose own token asks, whose keys are theirs alone; None for a key of the program.
        source: names the credential.
    """

    member: MemberRef
    reward_id: UUID
    key: str
    quantity: int = 1
    points: int | None = None
    order_amount: Decimal | None = None
    order_id: str | None = None
    hold_seconds: int | None = None
    caller: UUID | None = None
    source: str = "laurel"

    @property
    def operation(self) -> str:
        """In whose books its key stands."""
        return operation_of("redeem" if self.hold_seconds is None else "reserve", self.caller)

    def hash(self, member_id: UUID) -> int:
        """Return the hash by which a repetition is told from another request."""
        amount = None if self.order_amount is None else trim(self.order_amount)
        said = (
            member_id,
            self.reward_id,
            self.quantity,
            self.points,
            amount,
            self.order_id,
            self.hold_seconds,
        )
        return content_hash(msgspec.json.encode(said))


def operation_of(name: str, caller: UUID | None) -> str:
    """Return in whose books a key stands: those of the program, or of the member whose token calls."""
    return name if caller is None else f"{name}:{caller.hex}"


def check_text(text: str, problems: Problems, field: str) -> None:
    """Note what is wrong with a reason or a note: 1 to 500 characters."""
    if not text.strip() or len(text) > LONGEST_TEXT or not is_text(text):
        problems.add(f"A {field} of 1 to {LONGEST_TEXT} characters is needed.", field)


def check_order_amount(amount: Decimal, problems: Problems) -> None:
    """Note what is wrong with what an order comes to."""
    if not amount.is_finite() or not 0 <= amount <= MAX_ORDER or amount != round(amount, ORDER_DECIMALS):
        message = (
            f"The order's amount is between 0 and {MAX_ORDER:,f}, with at most {ORDER_DECIMALS} decimals."
        )
        problems.add(message, "order_amount")


def check_wanted(wanted: Wanted) -> tuple[UserError, ...]:
    """Return everything that is wrong with a request whatever it is for."""
    problems = Problems()
    check_key(wanted.key, problems)
    problems.whole(wanted.quantity, 1, MAX_QUANTITY, "quantity")
    if wanted.points is not None:
        problems.whole(wanted.points, 1, MAX_POINTS, "points")
    if wanted.order_amount is not None:
        check_order_amount(wanted.order_amount, problems)
    if wanted.order_id is not None and (
        not 1 <= len(wanted.order_id) <= 255 or not wanted.order_id.isprintable()
    ):
        problems.add("An order id has 1 to 255 printable characters.", "order_id")
    if wanted.hold_seconds is not None:
        problems.whole(wanted.hold_seconds, 1, MAX_HOLD_SECONDS, "hold_seconds")
    return problems.errors
