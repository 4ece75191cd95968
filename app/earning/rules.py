"""What an earning rule says: the values that a marketer can set, and what they mean when left out."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import msgspec

from app.campaigns.audience import EVERYBODY, Audience
from app.ledger.expiry import ExpiryPolicy

MAX_AMOUNT = Decimal(1_000_000_000_000)
"""The largest amount of money that one purchase or one condition can name."""
MAX_DECIMALS = 6


class EventKind(StrEnum):
    PURCHASE = "PURCHASE"
    ACTION = "ACTION"
    CHECK_IN = "CHECK_IN"
    REFERRAL = "REFERRAL"


class Action(StrEnum):
    """The actions that Laurel finds out by itself; any other name is the caller's own."""

    REGISTRATION = "REGISTRATION"
    PROFILE_COMPLETED = "PROFILE_COMPLETED"
    BIRTHDAY = "BIRTHDAY"
    ANNIVERSARY = "ANNIVERSARY"


class RuleStatus(StrEnum):
    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    ARCHIVED = "ARCHIVED"


class RuleStacking(StrEnum):
    ADD = "ADD"
    REPLACE = "REPLACE"


class ReferralTrigger(StrEnum):
    REGISTRATION = "REGISTRATION"
    FIRST_PURCHASE = "FIRST_PURCHASE"


class ReferralSide(StrEnum):
    """Whom a referral pays: who brought the friend, and the friend."""

    REFERRER = "REFERRER"
    REFERRED = "REFERRED"


class Period(StrEnum):
    """A calendar period: a day, a week from Monday on, a month, a year."""

    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    YEAR = "YEAR"


class PointsPerAmount(msgspec.Struct, frozen=True):
    """So many points for every so much money; both may have decimals."""

    points: Decimal
    amount: Decimal = Decimal(1)


class ProductFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """The goods that a rule is about: those in any of the lists, but for those that are excluded.

    Names are compared as they are. Without anything that is included it is all goods but the excluded.
    """

    skus: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    excluded_skus: tuple[str, ...] = ()
    excluded_categories: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether it filters anything at all."""
        return bool(
            self.skus or self.categories or self.brands or self.excluded_skus or self.excluded_categories
        )

    def distinct(self) -> "ProductFilter":
        """Return the same filter with every name once in each list."""
        return ProductFilter(
            **{name: tuple(dict.fromkeys(getattr(self, name))) for name in self.__struct_fields__}
        )


class Frequency(msgspec.Struct, frozen=True):
    """So many times in each period."""

    times: int
    per: Period


class RuleLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What keeps a rule from giving too much. The first two and the budget trim; the others turn away."""

    max_points_per_transaction: int | None = None
    max_points_per_day: int | None = None
    frequency: Frequency | None = None
    cooldown_minutes: int | None = None
    max_times_per_member: int | None = None
    budget: int | None = None


class RuleDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a marketer can change about a rule. A window is from `starts_at` on and until before `ends_at`.

    None means "not said": the properties tell what then holds.
    """

    name: str
    trigger: EventKind
    description: str | None = None
    action: str | None = None
    points_per_amount: PointsPerAmount | None = None
    fixed_points: int | None = None
    multiplier: Decimal | None = None
    referred_points: int | None = None
    referral_trigger: ReferralTrigger | None = None
    minimum_amount: Decimal | None = None
    products: ProductFilter | None = None
    audience: Audience | None = None
    stacking: RuleStacking | None = None
    limits: RuleLimits = RuleLimits()
    pending_days: int | None = None
    expiry: ExpiryPolicy | None = None
    tier_multiplier_applies: bool | None = None
    campaign_multiplier_applies: bool | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    priority: int = 0

    def tidy(self) -> "RuleDefinition":
        """Return the same definition as it is kept: everything once, and nothing for what is empty."""
        return msgspec.structs.replace(
            self,
            products=self.products.distinct() if self.products else None,
            audience=self.audience.distinct() if self.audience and self.audience != EVERYBODY else None,
        )

    @property
    def effective_stacking(self) -> RuleStacking:
        """REPLACE for points per amount with a product filter, and else ADD, unless it is said."""
        if self.stacking is not None:
            return self.stacking
        replaces = self.points_per_amount is not None and bool(self.products)
        return RuleStacking.REPLACE if replaces else RuleStacking.ADD

    @property
    def takes_tier_factor(self) -> bool:
        """Tier factors apply to purchases, unless the rule says otherwise."""
        if self.tier_multiplier_applies is None:
            return self.trigger is EventKind.PURCHASE
        return self.tier_multiplier_applies

    @property
    def takes_campaign_factors(self) -> bool:
        """Campaign factors apply to whatever the campaign lists, unless the rule says otherwise."""
        return self.campaign_multiplier_applies is not False


class Brought(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a REFERRAL event tells beside its member: what the friend did, and on which side the member is.

    `rules` are those that pay the friend: the ones that found room under the limits of who brought them.
    """

    trigger: ReferralTrigger
    side: ReferralSide
    rules: tuple[UUID, ...] = ()


class Rule(msgspec.Struct, frozen=True):
    """A rule as it is stored."""

    id: UUID
    version: int
    status: RuleStatus
    definition: RuleDefinition
    created_at: datetime
    updated_at: datetime
