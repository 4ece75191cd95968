"""A program's policy as values: what every calculation about its points goes by."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from uuid import UUID
from zoneinfo import ZoneInfo

from app.ledger.expiry import ExpiryPolicy
from app.tiers.policy import USUAL_TIERS, TierPolicy

_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


class Rounding(StrEnum):
    FLOOR = "FLOOR"
    HALF_UP = "HALF_UP"
    CEILING = "CEILING"


class MultiplierStacking(StrEnum):
    MULTIPLY = "MULTIPLY"
    ADD = "ADD"
    BEST = "BEST"


@dataclass(frozen=True)
class ProgramPolicy:
    """The settings of one program at one moment; `version` goes up when they or its rules change."""

    program_id: UUID
    version: int
    currency: str
    timezone: str
    rounding: Rounding
    multiplier_stacking: MultiplierStacking
    max_points_per_day: int | None
    pending_days: int
    expiry: ExpiryPolicy
    expiry_changed_at: datetime
    debt_limit: int
    earn_on_points_payments: bool = False
    tiers: TierPolicy = USUAL_TIERS
    updated_at: datetime = _LONG_AGO

    @cached_property
    def zone(self) -> ZoneInfo:
        """The zone in which the program's days, weeks, months and years are counted."""
        return ZoneInfo(self.timezone)
