"""What decides how many points orders earn, in the terms of the independent calculation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction


@dataclass(frozen=True, kw_only=True)
class Rule:
    """An earning rule: points per unit of money, fixed points, or a factor. Rules stand oldest first."""

    name: str
    per: Fraction | None = None
    fixed: int | None = None
    times: Fraction | None = None
    skus: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    brands: frozenset[str] = frozenset()
    not_skus: frozenset[str] = frozenset()
    not_categories: frozenset[str] = frozenset()
    replaces: bool = False
    priority: int = 0
    minimum: Fraction | None = None
    tiers: frozenset[str] = frozenset()
    starts: datetime | None = None
    ends: datetime | None = None
    by_tier: bool = True
    by_campaign: bool = True
    per_purchase: int | None = None
    per_day: int | None = None
    often: tuple[int, str] | None = None
    """So many times in each DAY, WEEK, MONTH or YEAR."""
    pause_minutes: int | None = None
    at_most: int | None = None

    @property
    def filtered(self) -> bool:
        return bool(self.skus or self.categories or self.brands or self.not_skus or self.not_categories)

    def matches(self, sku: str, category: str, brand: str) -> bool:
        if sku in self.not_skus or category in self.not_categories:
            return False
        if not (self.skus or self.categories or self.brands):
            return True
        return sku in self.skus or category in self.categories or brand in self.brands


@dataclass(frozen=True)
class Campaign:
    name: str
    starts: datetime
    ends: datetime
    factor: Fraction
    tiers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Given:
    """A tier that a member was given, or, with None, lost; from a time on, and perhaps until another."""

    tier: str | None
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True)
class World:
    """All that decides what orders are worth; of what members were given the last word comes last."""

    rules: Sequence[Rule]
    zone: str = "Europe/London"
    rounding: str = "FLOOR"
    stacking: str = "MULTIPLY"
    cap: int | None = None
    debt_limit: int = 0
    tiers: Mapping[str, Fraction] = field(default_factory=dict)
    start: str | None = None
    """The tier in which everybody starts."""
    given: Mapping[str, Sequence[Given]] = field(default_factory=dict)
    campaigns: Sequence[Campaign] = ()
