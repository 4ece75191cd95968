"""What an earning rule says, and which rules make no sense."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import msgspec

from app.errors import ErrorCode, UserError
from app.ledger.operations import MAX_POINTS
from app.text import is_line, is_text

MAX_RATE = Decimal(1_000_000)
MIN_RATE_AMOUNT = Decimal("0.01")
MAX_AMOUNT = Decimal(1_000_000_000_000)
"""The largest amount of money that one purchase or one condition can name."""
MAX_DECIMALS = 6
MAX_PRIORITY = 1_000_000


class EventKind(StrEnum):
    PURCHASE = "PURCHASE"
    ACTION = "ACTION"
    CHECK_IN = "CHECK_IN"
    REFERRAL = "REFERRAL"


class RuleStatus(StrEnum):
    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    ARCHIVED = "ARCHIVED"


class PointsPerAmount(msgspec.Struct, frozen=True):
    """So many points for every so much money; both may have decimals."""

    points: Decimal
    amount: Decimal = Decimal(1)


class RuleDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a marketer can change about a rule. A window is from `starts_at` on and until before `ends_at`."""

    name: str
    trigger: EventKind
    description: str | None = None
    points_per_amount: PointsPerAmount | None = None
    fixed_points: int | None = None
    minimum_amount: Decimal | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    priority: int = 0


class Rule(msgspec.Struct, frozen=True):
    """A rule as it is stored."""

    id: UUID
    version: int
    status: RuleStatus
    definition: RuleDefinition
    created_at: datetime
    updated_at: datetime


def _check_decimal(
    value: Decimal, low: Decimal, high: Decimal, field: tuple[str, ...], what: str
) -> list[UserError]:
    exponent = value.as_tuple().exponent
    if not value.is_finite() or not low <= value <= high:
        return [UserError(ErrorCode.INVALID, f"{what} must be between {low} and {high}.", field)]
    if isinstance(exponent, int) and exponent < -MAX_DECIMALS:
        return [UserError(ErrorCode.INVALID, f"{what} can have at most {MAX_DECIMALS} decimals.", field)]
    return []


def check_definition(rule: RuleDefinition) -> list[UserError]:
    """Return everything that is wrong with a rule; a rule that could never pay is wrong too.

    A window may lie in the past: events of that time can still come in.
    """
    errors: list[UserError] = []

    def invalid(message: str, *field: str) -> None:
        errors.append(UserError(ErrorCode.INVALID, message, field))

    if not rule.name.strip() or len(rule.name) > 200 or not is_line(rule.name):
        invalid("A rule needs a name of 1 to 200 printable characters.", "name")
    if rule.description is not None and (len(rule.description) > 2000 or not is_text(rule.description)):
        invalid("A description has at most 2,000 printable characters.", "description")
    if rule.trigger is not EventKind.PURCHASE:
        invalid(
            "No event of this kind can be recorded, so the rule could never pay. Use PURCHASE.", "trigger"
        )
    if (rule.points_per_amount is None) == (rule.fixed_points is None):
        invalid(
            "A rule gives either points per amount or fixed points: set exactly one of the two.",
            "points_per_amount",
        )
    if rule.points_per_amount is not None:
        rate = rule.points_per_amount
        smallest = Decimal(1).scaleb(-MAX_DECIMALS)
        errors += _check_decimal(
            rate.points, smallest, MAX_RATE, ("points_per_amount", "points"), "The points"
        )
        errors += _check_decimal(
            rate.amount, MIN_RATE_AMOUNT, MAX_RATE, ("points_per_amount", "amount"), "The amount"
        )
    if rule.fixed_points is not None and not 1 <= rule.fixed_points <= MAX_POINTS:
        invalid("Fixed points must be at least 1: the rule could never pay.", "fixed_points")
    if rule.minimum_amount is not None:
        errors += _check_decimal(
            rule.minimum_amount, Decimal(0), MAX_AMOUNT, ("minimum_amount",), "The minimum amount"
        )
    if rule.starts_at is not None and rule.ends_at is not None and rule.ends_at <= rule.starts_at:
        invalid("The rule ends before it starts: it could never pay.", "ends_at")
    if not -MAX_PRIORITY <= rule.priority <= MAX_PRIORITY:
        invalid(f"A priority lies between -{MAX_PRIORITY} and {MAX_PRIORITY}.", "priority")
    return errors
