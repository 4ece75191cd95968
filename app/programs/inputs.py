"""What a program can be told to be, and what is wrong with it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import available_timezones

from app.ledger.expiry import ExpiryKind, ExpiryPolicy
from app.ledger.operations import MAX_POINTS
from app.money import MINOR_DIGITS
from app.programs.policy import MultiplierStacking, Rounding
from app.tiers.policy import USUAL_TIERS, TierPolicy, TierWindow
from app.validation import Problems

MAX_PENDING_DAYS = 3650
MAX_EXPIRY_MONTHS = 1200
MAX_TIER_MONTHS = 120
MAX_GRACE_DAYS = 3650
MAX_POINT_COST = Decimal(1_000_000)
POINT_COST_DIGITS = 6

COUNTED_IN_MONTHS = frozenset({ExpiryKind.ROLLING_MONTHS, ExpiryKind.INACTIVITY_MONTHS})
CLEARABLE = frozenset({"max_points_per_day", "expiry", "tier_policy"})
"""Fields that null clears: no cap, points that never expire, tiers by the points of a lifetime."""

NEVER_EXPIRES = ExpiryPolicy()

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_NO_PLACES = {"Factory", "localtime"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProgram:
    """A program to be made.

    Attributes:
        slug: 1 to 64 of a-z, 0-9 and single hyphens between them; unique in the installation.
        name: 1 to 200 characters.
        currency: a code of ISO 4217, such as EUR; it cannot be changed later.
        timezone: an IANA name, such as Europe/Berlin; it cannot be changed later.
        max_points_per_day: what one member can earn in a local day, over all rules; None for no cap.
        pending_days: 0 to 3650.
        expiry: months, 1 to 1200, belong to the two kinds that count them.
        debt_limit: how many points a refund may push a balance below zero; 0 or more.
        point_cost: of one point in the program's currency; 0 to 1,000,000 with 6 decimal places.
        earn_on_points_payments: whether the part of a purchase that was paid with points earns points.
        tier_policy: months, 1 to 120, belong to ROLLING_MONTHS; grace days are 0 to 3650.
    """

    slug: str
    name: str
    currency: str
    timezone: str
    rounding: Rounding = Rounding.FLOOR
    multiplier_stacking: MultiplierStacking = MultiplierStacking.MULTIPLY
    max_points_per_day: int | None = None
    pending_days: int = 0
    expiry: ExpiryPolicy = NEVER_EXPIRES
    debt_limit: int = 0
    point_cost: Decimal = Decimal("0.01")
    earn_on_points_payments: bool = False
    tier_policy: TierPolicy = USUAL_TIERS


def check_new(program: NewProgram, problems: Problems) -> None:
    """Note what is wrong with the fields that only a new program has."""
    if not (_SLUG.fullmatch(program.slug) and len(program.slug) <= 64):
        message = "Slug must have 1 to 64 characters: a-z, 0-9, and single hyphens between them."
        problems.add(message, "slug")
    if program.currency not in MINOR_DIGITS:
        problems.add("Currency must be a code of ISO 4217, such as EUR.", "currency")
    check_timezone(program.timezone, problems)


def check_timezone(timezone: str, problems: Problems) -> None:
    """Note that a timezone is not the name of one; `service.check_zone` asks the database server, too."""
    if timezone in _NO_PLACES or timezone not in available_timezones():
        problems.add("Timezone must be the IANA name of a zone, such as Europe/Berlin.", "timezone")


def check_settings(settings: Mapping[str, Any], problems: Problems) -> None:
    """Note what is wrong with the settings of a program that are there; the others are not looked at."""
    for name, value in settings.items():
        if value is None:
            if name not in CLEARABLE:
                problems.add(f"{name.replace('_', ' ').capitalize()} cannot be null.", name)
        elif name == "name":
            problems.line(value, 200, name)
        elif name == "max_points_per_day":
            problems.whole(value, 1, MAX_POINTS, name)
        elif name == "pending_days":
            problems.whole(value, 0, MAX_PENDING_DAYS, name)
        elif name == "debt_limit":
            problems.whole(value, 0, MAX_POINTS, name)
        elif name == "point_cost":
            _check_point_cost(value, problems)
        elif name == "expiry":
            check_expiry(value, problems)
        elif name == "tier_policy":
            check_tier_policy(value, problems)
        else:
            assert name in {"rounding", "multiplier_stacking", "earn_on_points_payments"}, name


def _check_point_cost(cost: Decimal, problems: Problems) -> None:
    if not (cost.is_finite() and 0 <= cost <= MAX_POINT_COST):
        problems.add(f"Point cost must be between 0 and {MAX_POINT_COST}.", "point_cost")
    elif cost != round(cost, POINT_COST_DIGITS):
        problems.add(f"Point cost can have at most {POINT_COST_DIGITS} decimal places.", "point_cost")


def check_expiry(expiry: ExpiryPolicy, problems: Problems) -> None:
    """Note what is wrong with an expiry policy, below the field `expiry`."""
    counted = expiry.kind in COUNTED_IN_MONTHS
    if counted and expiry.months is None:
        problems.add(f"Expiry months are needed for {expiry.kind}.", "expiry", "months")
    elif not counted and expiry.months is not None:
        problems.add(f"Expiry months mean nothing for {expiry.kind}: leave them out.", "expiry", "months")
    elif expiry.months is not None:
        problems.whole(expiry.months, 1, MAX_EXPIRY_MONTHS, "expiry", "months")


def check_tier_policy(policy: TierPolicy, problems: Problems) -> None:
    """Note what is wrong with how tiers are reached, below the field `tier_policy`."""
    rolling = policy.window is TierWindow.ROLLING_MONTHS
    if rolling and policy.months is None:
        problems.add("Months are needed for ROLLING_MONTHS.", "tier_policy", "months")
    elif not rolling and policy.months is not None:
        message = f"Months mean nothing for {policy.window}: leave them out."
        problems.add(message, "tier_policy", "months")
    elif policy.months is not None:
        problems.whole(policy.months, 1, MAX_TIER_MONTHS, "tier_policy", "months")
    problems.whole(policy.grace_days, 0, MAX_GRACE_DAYS, "tier_policy", "grace_days")
