"""Campaigns: for a time, points of certain events are multiplied."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from app.campaigns.audience import Audience
from app.earning.rules import EventKind
from app.tiers.tiers import Factor


class CampaignStatus(StrEnum):
    SCHEDULED = "SCHEDULED"
    ACTIVE = "ACTIVE"
    ENDED = "ENDED"


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as it is stored.

    Attributes:
        starts_at: it counts for what happens from then on,
        ends_at: and before this; where both are the same it was ended before it began, and never counts.
        factors: oldest first, at least one; the first counts for all time before it, too.
    """

    id: UUID
    name: str
    starts_at: datetime
    ends_at: datetime
    multiplier: Decimal
    applies_to: tuple[EventKind, ...]
    audience: Audience
    factors: tuple[Factor, ...]
    created_at: datetime
    updated_at: datetime

    def status_at(self, moment: datetime) -> CampaignStatus:
        """Return whether the campaign runs at a moment; one that never counts has ended."""
        if moment >= self.ends_at or self.ends_at <= self.starts_at:
            return CampaignStatus.ENDED
        return CampaignStatus.SCHEDULED if moment < self.starts_at else CampaignStatus.ACTIVE
