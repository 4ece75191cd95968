"""Rewards: what members burn points on."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from enum import StrEnum
from uuid import UUID

_NOTHING = Decimal(0)
# Enough for every product and quotient of two numbers that the API takes.
_WIDE = Context(prec=80)


class RewardKind(StrEnum):
    VOUCHER = "VOUCHER"
    GIFT_CARD = "GIFT_CARD"
    PRODUCT = "PRODUCT"
    DISCOUNT = "DISCOUNT"
    SERVICE = "SERVICE"
    DONATION = "DONATION"
    GIVEAWAY = "GIVEAWAY"


CODED = frozenset({RewardKind.VOUCHER, RewardKind.GIFT_CARD})
"""Kinds that come as codes."""


def has_pool(kind: RewardKind, generate_codes: bool) -> bool:
    """Tell whether codes of such a reward are loaded, and not made."""
    return kind in CODED and not generate_codes


class RewardStatus(StrEnum):
    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    ARCHIVED = "ARCHIVED"


@dataclass(frozen=True, slots=True)
class RewardLimits:
    """What keeps a reward from costing too much; None is no limit.

    Attributes:
        max_per_member, max_per_member_per_month, max_total: pieces; months are those of the program's
            calendar, and what was cancelled or ran out does not count.
        max_share_of_order: DISCOUNT: the largest share of an order, more than 0, at most 1.
        min_points: DISCOUNT: the fewest points that can be spent on an order.
    """

    max_per_member: int | None = None
    max_per_member_per_month: int | None = None
    max_total: int | None = None
    max_share_of_order: Decimal | None = None
    min_points: int | None = None

    @property
    def count_members(self) -> bool:
        """Tell whether it matters what a member has redeemed before."""
        return self.max_per_member is not None or self.max_per_member_per_month is not None


@dataclass(frozen=True, slots=True)
class Stock:
    """What is left of a reward.

    Attributes:
        taken: pieces of redemptions that are neither cancelled nor expired.
        capacity: pieces that there are, those that are taken included; None is without end.
        codes: codes of the pool that nobody has; None where there is no pool.
        low_stock, low_codes: when so few are left somebody has to be told.
    """

    taken: int = 0
    capacity: int | None = None
    codes: int | None = None
    low_stock: int = 0
    low_codes: int = 0

    def after(self, pieces: int, codes: int) -> "Stock":
        """Return what is left when so many pieces are taken, and so many codes of the pool."""
        return replace(
            self, taken=self.taken + pieces, codes=None if self.codes is None else self.codes - codes
        )

    @property
    def left(self) -> int | None:
        """Pieces that can still be had; None is without end."""
        pieces = None if self.capacity is None else self.capacity - self.taken
        if pieces is None or self.codes is None:
            return self.codes if pieces is None else pieces
        return min(pieces, self.codes)


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward as it is stored, and what is left of it.

    Attributes:
        points: the price of one piece; None for DISCOUNT, which has `points_per_currency_unit`.
        face_value: of one piece, in the program's currency: what it is billed at; None for what is not.
        tiers: it is for members of the lowest of these tiers, and of all above; empty for everybody.
        draw_seed: sealed; of a giveaway.
        drawn_at: when the winner was drawn; then nobody can enter any more.
    """

    id: UUID
    program_id: UUID
    version: int
    kind: RewardKind
    status: RewardStatus
    name: str
    description: str | None
    image_url: str | None
    points: int | None
    points_per_currency_unit: Decimal | None
    face_value: Decimal | None
    generate_codes: bool
    limits: RewardLimits
    starts_at: datetime | None
    ends_at: datetime | None
    tiers: tuple[UUID, ...]
    draw_seed: bytes | None
    draw_seed_hash: bytes | None
    created_at: datetime
    updated_at: datetime
    stock: Stock
    drawn_at: datetime | None = None
    winner_id: UUID | None = None

    @property
    def has_pool(self) -> bool:
        """Tell whether its codes are loaded, and not made."""
        return has_pool(self.kind, self.generate_codes)

    @property
    def least_points(self) -> int:
        """The fewest points with which anything of it can be had."""
        return self.points if self.points is not None else self.limits.min_points or 1

    def is_for(self, allowed: Collection[UUID]) -> bool:
        """Tell whether a member may have it who has, or is above, these tiers."""
        return not self.tiers or any(tier in allowed for tier in self.tiers)

    def most_money(self, order_amount: Decimal, digits: int, paid: Decimal = _NOTHING) -> Decimal:
        """Return the most that a DISCOUNT takes off an order: its share, rounded down to the currency.

        Args:
            digits: of the currency.
            paid: what points have taken off the same order already.
        """
        share = self.limits.max_share_of_order
        most = order_amount if share is None else _WIDE.multiply(order_amount, share)
        return max(_rounded(most, digits, ROUND_FLOOR) - paid, _NOTHING)

    def most_points(self, order_amount: Decimal, digits: int, paid: Decimal = _NOTHING) -> int:
        """Return the most points that a DISCOUNT takes for an order, as `most_money` says; none too many.

        Where a point is worth more than the smallest coin the last one may buy less than it is worth.
        """
        rate, most = self.points_per_currency_unit, self.most_money(order_amount, digits, paid)
        assert rate is not None
        points = int(_WIDE.multiply(most, rate))
        return points + (money_for(points, rate, digits, most) < most)


def money_for(points: int, rate: Decimal, digits: int, most: Decimal | None) -> Decimal:
    """Return the money that points take off: rounded up, in the member's favour, never beyond the most.

    Args:
        rate: points for one unit of the currency.
        digits: of the currency.
        most: what `Reward.most_money` says of the order; None where the order is not known.
    """
    amount = _rounded(_WIDE.divide(Decimal(points), rate), digits, ROUND_CEILING)
    return amount if most is None else min(amount, most)


def _rounded(amount: Decimal, digits: int, rounding: str) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-digits), rounding=rounding, context=_WIDE)
