"""Campaigns for tests."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from app.campaigns.campaigns import Campaign
from app.campaigns.checks import NewCampaign
from app.campaigns.service import create_campaign
from tests.tiers.making import at

DOUBLE = NewCampaign(
    name="Double summer", starts_at=at(2026, 6, 1), ends_at=at(2026, 9, 1), multiplier=Decimal(2)
)


async def make_campaign(program_id: UUID, **fields: Any) -> Campaign:
    """Set up a campaign: points are doubled in the summer of 2026, unless told otherwise."""
    given = {name: getattr(DOUBLE, name) for name in DOUBLE.__slots__}
    return await create_campaign(program_id, NewCampaign(**(given | fields)))
