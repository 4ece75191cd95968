"""What members of the demo program earn points for: its rules, tiers, campaigns and stores."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from app.campaigns.audience import Audience
from app.campaigns.checks import NewCampaign
from app.earning.rules import (
    Action,
    EventKind,
    Frequency,
    Period,
    PointsPerAmount,
    ProductFilter,
    ReferralTrigger,
    RuleDefinition,
    RuleLimits,
    RuleStacking,
    RuleStatus,
)
from app.stores.inputs import StoreContent
from app.tiers.inputs import NewTier

QUIZ = "quiz"

STORES = (
    StoreContent(
        external_id="hamburg",
        name="Nordhaus Hamburg",
        timezone="Europe/Berlin",
        latitude=53.5503,
        longitude=9.9927,
        radius_meters=250,
    ),
    StoreContent(
        external_id="lisbon",
        name="Nordhaus Lisbon",
        timezone="Europe/Lisbon",
        latitude=38.7107,
        longitude=-9.1427,
        radius_meters=400,
    ),
)

TIERS = (
    NewTier(name="Leaf", threshold=Decimal(0)),
    NewTier(
        name="Blossom",
        threshold=Decimal(500),
        multiplier=Decimal("1.25"),
        benefits=("A cup of tea with every visit",),
    ),
    NewTier(
        name="Gold",
        threshold=Decimal(1500),
        multiplier=Decimal("1.5"),
        benefits=("A cup of tea with every visit", "Free delivery", "Tastings before everybody else"),
    ),
    NewTier(
        name="Jade",
        threshold=Decimal(3000),
        multiplier=Decimal(2),
        benefits=("All that Gold members have", "A tin of the first harvest"),
    ),
)


def _often(times: int, per: Period) -> RuleLimits:
    return RuleLimits(frequency=Frequency(times, per))


_PURCHASES = (
    RuleDefinition(
        "1 point per euro",
        EventKind.PURCHASE,
        "Everybody, on everything, always.",
        points_per_amount=PointsPerAmount(Decimal(1)),
    ),
    RuleDefinition(
        "Big basket",
        EventKind.PURCHASE,
        "25 points on top from 75 euros on, once a day.",
        fixed_points=25,
        minimum_amount=Decimal(75),
        limits=_often(1, Period.DAY),
        priority=10,
    ),
    RuleDefinition(
        "Tea is worth more",
        EventKind.PURCHASE,
        "Half a point more for every euro of tea.",
        points_per_amount=PointsPerAmount(Decimal("0.5")),
        products=ProductFilter(categories=("Tea",)),
        stacking=RuleStacking.ADD,
        priority=5,
    ),
    RuleDefinition(
        "Sweets: 2 points per euro",
        EventKind.PURCHASE,
        "In place of the usual point. At most 60 points for one purchase.",
        points_per_amount=PointsPerAmount(Decimal(2)),
        products=ProductFilter(categories=("Sweets",)),
        stacking=RuleStacking.REPLACE,
        limits=RuleLimits(max_points_per_transaction=60),
        priority=4,
    ),
    RuleDefinition(
        "Lumen counts double",
        EventKind.PURCHASE,
        "Twice the points on glass and stoneware by Lumen.",
        multiplier=Decimal(2),
        products=ProductFilter(brands=("Lumen",)),
        priority=3,
    ),
    RuleDefinition(
        "Teapot of the season",
        EventKind.PURCHASE,
        "40 points with a glass teapot: once for each member, and for the first 15 members.",
        fixed_points=40,
        products=ProductFilter(skus=("POT-GLASS-1L",)),
        tier_multiplier_applies=False,
        campaign_multiplier_applies=False,
        limits=RuleLimits(max_times_per_member=1, budget=600),
        priority=2,
    ),
)

_DEEDS = (
    RuleDefinition(
        "Welcome",
        EventKind.ACTION,
        "For joining.",
        action=Action.REGISTRATION,
        fixed_points=50,
    ),
    RuleDefinition(
        "All about you",
        EventKind.ACTION,
        "For an e-mail address, a phone number, a name and a birthday, once all are there.",
        action=Action.PROFILE_COMPLETED,
        fixed_points=20,
    ),
    RuleDefinition(
        "Happy birthday",
        EventKind.ACTION,
        "On the day itself.",
        action=Action.BIRTHDAY,
        fixed_points=100,
    ),
    RuleDefinition(
        "Tea quiz",
        EventKind.ACTION,
        "For playing, once a week.",
        action=QUIZ,
        fixed_points=10,
        limits=_often(1, Period.WEEK),
    ),
    RuleDefinition(
        "Come in",
        EventKind.CHECK_IN,
        "For a visit to a store, once a day.",
        fixed_points=5,
        limits=_often(1, Period.DAY),
    ),
)

_FRIENDS = (
    RuleDefinition(
        "Bring a friend",
        EventKind.REFERRAL,
        "100 points for each of the two after the friend's first purchase, for at most ten friends.",
        fixed_points=100,
        referred_points=100,
        referral_trigger=ReferralTrigger.FIRST_PURCHASE,
        limits=RuleLimits(max_times_per_member=10),
    ),
)

_DRAFTS = (
    RuleDefinition(
        "Coffee is worth more, too",
        EventKind.PURCHASE,
        "Half a point more for every euro of coffee, from spring on.",
        points_per_amount=PointsPerAmount(Decimal("0.5")),
        products=ProductFilter(categories=("Coffee",)),
        stacking=RuleStacking.ADD,
        priority=5,
    ),
)

RULES = (
    *((rule, RuleStatus.ACTIVE) for rule in (*_PURCHASES, *_DEEDS, *_FRIENDS)),
    *((rule, RuleStatus.DRAFT) for rule in _DRAFTS),
)
"""All but `gold_rule`."""


def gold_rule(tier_id: UUID) -> RuleDefinition:
    """Return the rule that is for one tier only."""
    return RuleDefinition(
        "A thank-you for Gold",
        EventKind.PURCHASE,
        "10 points with every purchase of 20 euros or more, for Gold members.",
        fixed_points=10,
        minimum_amount=Decimal(20),
        audience=Audience(tiers=(tier_id,)),
        tier_multiplier_applies=False,
        priority=1,
    )


def campaigns(now: datetime, tier_id: UUID) -> Sequence[NewCampaign]:
    """Return one campaign that is over, and one that runs, for the members of one tier."""
    return (
        NewCampaign(
            name="Anniversary weeks",
            starts_at=now - timedelta(days=56),
            ends_at=now - timedelta(days=42),
            multiplier=Decimal(3),
            applies_to=(EventKind.PURCHASE,),
        ),
        NewCampaign(
            name="Golden season",
            starts_at=now - timedelta(days=10),
            ends_at=now + timedelta(days=80),
            multiplier=Decimal(2),
            applies_to=(EventKind.PURCHASE, EventKind.CHECK_IN),
            audience=Audience(tiers=(tier_id,)),
        ),
    )
