"""By what members reach tiers, and when they lose them again. Pure."""

from enum import StrEnum
from typing import NamedTuple


class TierBasis(StrEnum):
    """What counts towards tiers."""

    POINTS_EARNED = "POINTS_EARNED"
    AMOUNT_SPENT = "AMOUNT_SPENT"
    PURCHASES = "PURCHASES"


class TierWindow(StrEnum):
    """How long it counts."""

    LIFETIME = "LIFETIME"
    ROLLING_MONTHS = "ROLLING_MONTHS"
    CALENDAR_YEAR = "CALENDAR_YEAR"


class TierDowngrade(StrEnum):
    """What happens to whoever does not qualify any more, once the grace is over."""

    NEVER = "NEVER"
    ONE_STEP = "ONE_STEP"
    TO_QUALIFIED = "TO_QUALIFIED"


class TierPolicy(NamedTuple):
    """How a program's tiers are reached; `months` belong to ROLLING_MONTHS alone."""

    basis: TierBasis = TierBasis.POINTS_EARNED
    window: TierWindow = TierWindow.LIFETIME
    months: int | None = None
    downgrade: TierDowngrade = TierDowngrade.TO_QUALIFIED
    grace_days: int = 0


USUAL_TIERS = TierPolicy()
"""By the points of a lifetime."""
