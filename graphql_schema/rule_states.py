"""What an earning rule says, field by field: as it is now, and in each of its versions."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import strawberry

from app.earning import rules
from app.earning.rules import EventKind, Period, ReferralTrigger, RuleStacking, RuleStatus
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.audience import Audience
from graphql_schema.enums import enum_type
from graphql_schema.nodes import Info
from graphql_schema.programs import ExpiryPolicy
from graphql_schema.scalars import Points

enum_type(
    EventKind,
    description="What kind of thing a member did.",
    values={
        "PURCHASE": "Bought something.",
        "ACTION": "Did something that has a name: registered, played a quiz.",
        "CHECK_IN": "Was in a store, and scanned its code.",
        "REFERRAL": "Brought a friend, or came through one. Laurel records it, for each of the two, when a"
        " rule pays.",
    },
)
enum_type(
    RuleStatus,
    description="Whether a rule pays.",
    values={
        "DRAFT": "Not yet.",
        "ACTIVE": "Yes, within its window.",
        "PAUSED": "Not now.",
        "ARCHIVED": "Never again; this is for good.",
    },
)
enum_type(
    RuleStacking,
    description="How a rule for purchases goes together with others.",
    values={
        "ADD": "Pays beside the other rules. Default of rules without a product filter.",
        "REPLACE": "On the lines it matches, pays instead of the pointsPerAmount rules. Default of"
        " pointsPerAmount rules with a product filter. Highest priority, then most generous, wins.",
    },
)
enum_type(
    ReferralTrigger,
    description="What the friend has to do before a REFERRAL rule pays.",
    values={"REGISTRATION": "To join the program.", "FIRST_PURCHASE": "To buy something."},
)
enum_type(
    Period,
    description="A calendar period of the program's time zone; for check-ins of the store's.",
    values={
        "DAY": "From midnight to midnight.",
        "WEEK": "From Monday to Sunday.",
        "MONTH": "A calendar month.",
        "YEAR": "A calendar year.",
    },
)


@object_type(description="Points for every so much spent.", access=INHERITED)
class PointsPerAmount:
    points: Decimal = strawberry.field(description="So many points.")
    amount: Decimal = strawberry.field(description="For so much, in the program's currency.")


@object_type(
    description="The goods that a rule is about: those in any of the first three lists, or all where those"
    " are empty, but for those that are excluded. Names are compared as they are.",
    access=INHERITED,
)
class ProductFilter:
    skus: list[str] = strawberry.field(description="These SKUs.")
    categories: list[str] = strawberry.field(description="Goods of these categories.")
    brands: list[str] = strawberry.field(description="Goods of these brands.")
    excluded_skus: list[str] = strawberry.field(description="But not these SKUs.")
    excluded_categories: list[str] = strawberry.field(description="And not goods of these categories.")

    @classmethod
    def of(cls, products: rules.ProductFilter) -> "ProductFilter":
        """Return a filter as the API gives it."""
        return cls(**{name: list(getattr(products, name)) for name in products.__struct_fields__})


@object_type(description="So many times in each period.", access=INHERITED)
class Frequency:
    times: int = strawberry.field(description="How many times.")
    per: Period = strawberry.field(description="In which calendar period.")


@object_type(
    description="What keeps a rule from giving too much. Limits of points trim an award; the others keep the"
    " rule from paying at all. Null is no limit.",
    access=INHERITED,
)
class RuleLimits:
    max_points_per_transaction: Points | None = strawberry.field(description="For one event.")
    max_points_per_day: Points | None = strawberry.field(
        description="Per member and calendar day, by this rule."
    )
    frequency: Frequency | None = strawberry.field(description="How often the rule pays one member.")
    cooldown_minutes: int | None = strawberry.field(
        description="How long the rule waits before it pays the same member again."
    )
    max_times_per_member: int | None = strawberry.field(
        description="How often the rule ever pays one member; for referrals, how many friends."
    )
    all_told: strawberry.Private[int | None]

    @resolver(description="Points that the rule may give to all members together; null for a member's token.")
    def budget(self, info: Info) -> Points | None:
        return None if info.context.principal.member_id is not None else _points(self.all_told)

    @classmethod
    def of(cls, limits: rules.RuleLimits) -> "RuleLimits":
        """Return limits as the API gives them."""
        frequency = limits.frequency
        return cls(
            max_points_per_transaction=_points(limits.max_points_per_transaction),
            max_points_per_day=_points(limits.max_points_per_day),
            frequency=None if frequency is None else Frequency(times=frequency.times, per=frequency.per),
            cooldown_minutes=limits.cooldown_minutes,
            max_times_per_member=limits.max_times_per_member,
            all_told=limits.budget,
        )


def _points(points: int | None) -> Points | None:
    return None if points is None else Points(points)


@object_type(description="", access=INHERITED)
class RuleState:
    """What a rule says at some time: the fields that the rule as it is now and its versions share."""

    version: int = strawberry.field(
        description="Goes up by one with every change; awards keep the version that gave them."
    )
    name: str = strawberry.field(description="For people.")
    description: str | None = strawberry.field(description="For people.")
    status: RuleStatus = strawberry.field(description="Whether it pays.")
    trigger: EventKind = strawberry.field(description="The kind of event that it pays for.")
    action: str | None = strawberry.field(
        description="For ACTION rules: REGISTRATION, PROFILE_COMPLETED, BIRTHDAY, ANNIVERSARY, or a name of"
        " your own (quiz, review, social_share)."
    )
    points_per_amount: PointsPerAmount | None = strawberry.field(
        description="Points for every so much spent, on the sum of the lines that match."
    )
    fixed_points: Points | None = strawberry.field(
        description="So many for each event; of a REFERRAL rule, for the referrer."
    )
    multiplier: Decimal | None = strawberry.field(
        description="A factor on the points that the matching lines earn by pointsPerAmount of other rules."
    )
    referred_points: Points | None = strawberry.field(
        description="For REFERRAL rules: what the new member receives. fixedPoints goes to the referrer."
    )
    referral_trigger: ReferralTrigger | None = strawberry.field(
        description="For REFERRAL rules: what the friend has to do."
    )
    minimum_amount: Decimal | None = strawberry.field(
        description="What a purchase must come to at least; with a product filter, the lines that match."
    )
    products: ProductFilter | None = strawberry.field(
        description="The goods that it is about; null for all of them."
    )
    audience: Audience | None = strawberry.field(description="Whom it is meant for; null for everybody.")
    stacking: RuleStacking = strawberry.field(
        description="How it goes together with other rules: as it was set, or the default for such a rule."
    )
    limits: RuleLimits = strawberry.field(description="What keeps it from giving too much.")
    pending_days: int | None = strawberry.field(
        description="Days that its points wait before they can be spent; null for the program's."
    )
    expiry: ExpiryPolicy | None = strawberry.field(
        description="When its points expire; null for the program's policy."
    )
    tier_multiplier_applies: bool = strawberry.field(
        description="Whether the factor of the member's tier applies: as it was set, or else for purchases."
    )
    campaign_multiplier_applies: bool = strawberry.field(
        description="Whether factors of campaigns apply: as it was set, or else they do."
    )
    starts_at: datetime | None = strawberry.field(description="It pays for what happens from then on.")
    ends_at: datetime | None = strawberry.field(description="It pays for what happens before.")
    priority: int = strawberry.field(
        description="Of rules among which one wins, the highest does; and where limits leave little, higher"
        " ones are served first."
    )
    created_at: datetime = strawberry.field(description="When it was made.")

    @staticmethod
    def said(rule: rules.Rule) -> dict[str, Any]:
        """Return the fields that tell what a rule says."""
        definition = rule.definition
        rate, expiry = definition.points_per_amount, definition.expiry
        return {
            "version": rule.version,
            "name": definition.name,
            "description": definition.description,
            "status": rule.status,
            "trigger": definition.trigger,
            "action": definition.action,
            "points_per_amount": None
            if rate is None
            else PointsPerAmount(points=rate.points, amount=rate.amount),
            "fixed_points": _points(definition.fixed_points),
            "multiplier": definition.multiplier,
            "referred_points": _points(definition.referred_points),
            "referral_trigger": definition.referral_trigger,
            "minimum_amount": definition.minimum_amount,
            "products": None if definition.products is None else ProductFilter.of(definition.products),
            "audience": None if definition.audience is None else Audience.of(definition.audience),
            "stacking": definition.effective_stacking,
            "limits": RuleLimits.of(definition.limits),
            "pending_days": definition.pending_days,
            "expiry": None if expiry is None else ExpiryPolicy(kind=expiry.kind, months=expiry.months),
            "tier_multiplier_applies": definition.takes_tier_factor,
            "campaign_multiplier_applies": definition.takes_campaign_factors,
            "starts_at": definition.starts_at,
            "ends_at": definition.ends_at,
            "priority": definition.priority,
        }


@object_type(
    description="What a rule said from one change to the next; what it gave meanwhile names its number.",
    access=INHERITED,
)
class EarningRuleVersion(RuleState):
    @classmethod
    def of(cls, rule: rules.Rule) -> "EarningRuleVersion":
        """Return a version as the API gives it, of a rule as it was last changed then."""
        return cls(**cls.said(rule), created_at=rule.updated_at)
