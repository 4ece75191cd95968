"""What can be said of a reward, and what is wrong with it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from urllib.parse import urlsplit
from uuid import UUID

from app.catalog.rewards import CODED, RewardKind, RewardLimits, RewardStatus
from app.ledger.operations import MAX_POINTS
from app.money import MINOR_DIGITS, trim
from app.text import is_line, is_text
from app.validation import Problems, label

LONGEST_NAME = 200
LONGEST_DESCRIPTION = 5000
LONGEST_URL = 2000
MAX_PIECES = 2**31 - 1
MAX_TIERS = 100
MAX_FACE_VALUE = Decimal(1_000_000_000)
MAX_RATE = Decimal(1_000_000_000)
RATE_DECIMALS = 6
SHARE_DECIMALS = 6
NO_LIMITS = RewardLimits()

BILLED = frozenset(RewardKind) - {RewardKind.DISCOUNT, RewardKind.GIVEAWAY}
"""Kinds that can have a face value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardContent:
    """What a reward is to be.

    Attributes:
        name: 1 to 200 characters.
        description: at most 5,000 characters.
        image_url: http or https, at most 2,000 characters.
        points: the price of one piece, 1 to MAX_POINTS; for all kinds but DISCOUNT, which need it.
        points_per_currency_unit: for DISCOUNT, which needs it: more than 0, with 6 decimals.
        face_value: GIFT_CARD needs it; what a piece is billed at. More than 0, in the currency's digits.
        generate_codes: VOUCHER and GIFT_CARD: codes are made instead of taken from a pool.
        stock: pieces that can be had from now on; None is without end.
        tiers: of the program; members of the lowest of them and of all above can have it.
    """

    kind: RewardKind
    name: str
    description: str | None = None
    image_url: str | None = None
    status: RewardStatus = RewardStatus.ACTIVE
    points: int | None = None
    points_per_currency_unit: Decimal | None = None
    face_value: Decimal | None = None
    generate_codes: bool = False
    limits: RewardLimits = NO_LIMITS
    stock: int | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    tiers: tuple[UUID, ...] = ()

    def tidy(self) -> dict[str, object]:
        """Return what was said as it is stored: numbers without the zeros that end them, each tier once."""
        said: dict[str, object] = {name: getattr(self, name) for name in self.__slots__}
        for name in ("points_per_currency_unit", "face_value"):
            value = getattr(self, name)
            said[name] = None if value is None else trim(value)
        said["tiers"] = tuple(dict.fromkeys(self.tiers))
        return said


def check_content(content: RewardContent, currency: str, problems: Problems) -> None:
    """Note everything that is wrong with a reward; whether its tiers are there is another matter."""
    problems.line(content.name, LONGEST_NAME, "name")
    if content.description is not None and (
        len(content.description) > LONGEST_DESCRIPTION or not is_text(content.description)
    ):
        problems.add(
            f"Description must be a text of at most {LONGEST_DESCRIPTION:,} characters.", "description"
        )
    if content.image_url is not None and not _is_url(content.image_url):
        problems.add(
            f"Image url must begin with http:// or https://, and have at most {LONGEST_URL:,} characters.",
            "image_url",
        )
    _check_price(content, currency, problems)
    _check_limits(content, problems)
    if content.stock is not None:
        problems.whole(content.stock, 0, MAX_PIECES, "stock")
    if content.generate_codes and content.kind not in CODED:
        problems.add(f"Only {_names(CODED)} come as codes.", "generate_codes")
    if content.starts_at is not None and content.ends_at is not None and content.ends_at <= content.starts_at:
        problems.add("The reward has to end after it starts.", "ends_at")
    if len(content.tiers) > MAX_TIERS:
        problems.add(f"A reward names at most {MAX_TIERS} tiers.", "tier_ids")


def _check_price(content: RewardContent, currency: str, problems: Problems) -> None:
    is_discount = content.kind is RewardKind.DISCOUNT
    if content.points is not None and is_discount:
        problems.add("A DISCOUNT has no price but a rate: pointsPerCurrencyUnit.", "points")
    elif content.points is not None:
        problems.whole(content.points, 1, MAX_POINTS, "points")
    elif not is_discount:
        problems.add("A reward needs a price in points.", "points")
    rate = content.points_per_currency_unit
    if rate is not None and not is_discount:
        problems.add("Only a DISCOUNT has a rate; give the price in points.", "points_per_currency_unit")
    elif rate is not None:
        _check_number(rate, MAX_RATE, RATE_DECIMALS, problems, "points_per_currency_unit")
    elif is_discount:
        problems.add("A DISCOUNT needs its rate of points to money.", "points_per_currency_unit")
    if content.face_value is not None and content.kind not in BILLED:
        problems.add(f"A {content.kind} has no face value.", "face_value")
    elif content.face_value is not None:
        _check_number(content.face_value, MAX_FACE_VALUE, MINOR_DIGITS[currency], problems, "face_value")
    elif content.kind is RewardKind.GIFT_CARD:
        problems.add("A GIFT_CARD needs its face value.", "face_value")


def _check_limits(content: RewardContent, problems: Problems) -> None:
    limits = content.limits
    for name in ("max_per_member", "max_per_member_per_month", "max_total"):
        value = getattr(limits, name)
        if value is not None:
            problems.whole(value, 1, MAX_PIECES, "limits", name)
    for name in ("max_share_of_order", "min_points"):
        if getattr(limits, name) is not None and content.kind is not RewardKind.DISCOUNT:
            problems.add(f"{label((name,))} is for DISCOUNT alone.", "limits", name)
    if content.kind is not RewardKind.DISCOUNT:
        return
    if limits.max_share_of_order is not None:
        _check_number(
            limits.max_share_of_order, Decimal(1), SHARE_DECIMALS, problems, "limits", "max_share_of_order"
        )
    if limits.min_points is not None:
        problems.whole(limits.min_points, 1, MAX_POINTS, "limits", "min_points")


def _check_number(value: Decimal, most: Decimal, decimals: int, problems: Problems, *field: str) -> None:
    """Check that a number is more than 0, not more than it can be, and has no more decimals than it can."""
    if not value.is_finite() or not 0 < value <= most:
        problems.add(f"{label(field)} must be more than 0, and at most {most:,f}.", *field)
    elif value != round(value, decimals):
        problems.add(f"{label(field)} can have at most {decimals} decimals.", *field)


def _is_url(text: str) -> bool:
    if len(text) > LONGEST_URL or not is_line(text) or " " in text:
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _names(kinds: Iterable[RewardKind]) -> str:
    return " and ".join(sorted(kinds, reverse=True))
