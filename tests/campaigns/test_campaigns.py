"""When a campaign runs, and whom it is meant for: values alone."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from app.campaigns.audience import EVERYBODY, Audience
from app.campaigns.campaigns import Campaign, CampaignStatus
from app.earning.rules import EventKind
from tests.tiers.making import at

START, END = at(2026, 6, 1), at(2026, 9, 1)
INSTANT = timedelta(microseconds=1)
SUMMER = Campaign(
    UUID(int=1), "Summer", START, END, Decimal(2), tuple(EventKind), EVERYBODY, (), START, START
)


@pytest.mark.parametrize(
    ("moment", "status"),
    [
        (START - INSTANT, CampaignStatus.SCHEDULED),
        (START, CampaignStatus.ACTIVE),
        (END - INSTANT, CampaignStatus.ACTIVE),
        (END, CampaignStatus.ENDED),
    ],
)
def test_a_campaign_runs_from_its_start_until_before_its_end(
    moment: datetime, status: CampaignStatus
) -> None:
    assert SUMMER.status_at(moment) is status


@pytest.mark.parametrize("moment", [START - INSTANT, START, END])
def test_a_campaign_that_was_ended_before_it_began_has_always_ended(moment: datetime) -> None:
    assert replace(SUMMER, ends_at=START).status_at(moment) is CampaignStatus.ENDED


def test_the_same_audiences_are_equal_however_they_were_named() -> None:
    one, two = UUID(int=1), UUID(int=2)
    assert Audience((two, one, two), (one, one)).distinct() == Audience((one, two), (one,))
    assert Audience() == EVERYBODY == EVERYBODY.distinct()
