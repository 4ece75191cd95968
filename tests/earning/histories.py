"""Random programs with random histories, small enough that everything in them meets everything else.

A history is made by choices: Hypothesis makes them where a failure is to shrink to the shortest history
that shows it, a seeded generator where there are to be many.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Protocol, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from app.campaigns.audience import Audience
from app.campaigns.campaigns import Campaign
from app.earning.exact import Ratio
from app.earning.rules import (
    EventKind,
    Frequency,
    Period,
    ProductFilter,
    Rule,
    RuleLimits,
    RuleStacking,
    RuleStatus,
)
from app.earning.ruleset import FactLine, Facts
from app.ids import new_id
from app.programs.policy import MultiplierStacking, ProgramPolicy, Rounding
from app.tiers.tiers import Factor, Tier
from tests.earning.making import POLICY, TICK, campaign, rule, tier
from tests.earning.naive_rules import NaiveEvent, NaiveLine

T = TypeVar("T")

# Two days before the clocks of Europe go forward.
START = datetime(2026, 3, 27, 20, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/New_York")
SKUS, CATEGORIES, BRANDS = ("a", "b", "c", "d"), ("x", "y"), ("p", "q")
STORES = (new_id(), new_id())
MEMBERS = (new_id(), new_id())
ACTIONS = ("quiz", "REGISTRATION")
KINDS = (EventKind.PURCHASE, EventKind.PURCHASE, EventKind.PURCHASE, EventKind.CHECK_IN, EventKind.ACTION)
RATES = ("1", "2", "0.5", "3", "2.5", "0.1", "0.333333", "10", "1", "100", "0.000001", "1000000")
AMOUNTS = ("1", "1", "1", "3.00", "7", "0.01", "100", "0.333333")
FACTORS = ("2", "3", "1.5", "0.5", "1.25", "1.333333", "0.1", "10")


class Choose(Protocol):
    """Choose one of several things; the first is the simplest."""

    def __call__(self, things: Sequence[T]) -> T: ...


@dataclass
class History:
    """A program, and what happened in it, in the order of recording."""

    policy: ProgramPolicy
    rules: list[Rule]
    tiers: list[Tier]
    campaigns: list[Campaign]
    given_tiers: dict[object, list[tuple[datetime, UUID | None]]]
    events: list[NaiveEvent]


class _Making:
    """Making one history."""

    def __init__(self, choose: Choose) -> None:
        self._choose = choose

    def _perhaps(self, make: Callable[[], T], often: int = 1) -> T | None:
        """Make something in so many of eight cases."""
        return make() if self._choose(range(8)) >= 8 - often else None

    def _some(self, things: Sequence[T]) -> tuple[T, ...]:
        return tuple(thing for thing in things if self._choose((False, True)))

    def _amount(self) -> Decimal:
        kind = self._choose(range(12))
        if kind == 0:
            return Decimal(0)
        if kind == 1:
            return Decimal(self._choose(range(100_000_000))).scaleb(-6)
        if kind == 2:
            return Decimal(self._choose(range(100)))
        if kind < 6:
            # Often the same: minimums are reached exactly.
            return Decimal(self._choose(("20", "20", "10.01", "0.02")))
        return Decimal(self._choose(range(20_000))).scaleb(-2)

    def _moment(self) -> datetime:
        days, minutes = self._choose((0, 0, 0, 1, 2, 7, 30, 300)), self._choose((0, 0, 1, 45, 600))
        return START + timedelta(days=days, minutes=minutes) + self._choose((0, 0, 0, 1)) * TICK

    def _audience(self, tiers: Sequence[Tier]) -> Audience:
        return Audience(self._some([tier.id for tier in tiers]), self._some(STORES))

    def _factors(self) -> tuple[Factor, ...]:
        first = Factor(START - timedelta(days=99), "first", Decimal(self._choose(FACTORS)))
        later = self._perhaps(lambda: Factor(self._moment(), "later", Decimal(self._choose(FACTORS))))
        return (first,) if later is None else (first, later)

    def _tiers(self) -> list[Tier]:
        start, gold = tier("1", "Start"), tier("2", "Gold", "10", factors=self._factors())
        return self._choose(([], [start, gold], [gold]))

    def _campaign(self, tiers: Sequence[Tier]) -> Campaign:
        starts_at, ends_at = self._moment(), self._moment() + timedelta(days=self._choose((0, 1, 400)))
        made = campaign("2", starts_at=starts_at, ends_at=ends_at, factors=self._factors())
        kinds = self._perhaps(lambda: self._some(tuple(EventKind))) or tuple(EventKind)
        audience = self._perhaps(lambda: self._audience(tiers)) or Audience()
        return replace(made, applies_to=kinds, audience=audience)

    def _products(self) -> ProductFilter:
        kind = self._choose(range(3))
        if kind == 0:
            return ProductFilter(skus=self._some(SKUS))
        excluded = {"excluded_skus": self._some(SKUS), "excluded_categories": self._some(CATEGORIES)}
        if kind == 1:
            return ProductFilter(**excluded)
        return ProductFilter(self._some(SKUS), self._some(CATEGORIES), self._some(BRANDS), **excluded)

    def _limits(self) -> RuleLimits:
        points = lambda: self._choose((50, 10, 1, 500))  # noqa: E731
        return RuleLimits(
            self._perhaps(points, 2),
            self._perhaps(points, 2),
            self._perhaps(lambda: Frequency(self._choose((1, 2)), self._choose(tuple(Period))), 2),
            self._perhaps(lambda: self._choose((45, 1, 600, 1440)), 2),
            self._perhaps(lambda: self._choose((2, 1))),
            self._perhaps(points, 2),
        )

    def _rule(self, tiers: Sequence[Tier]) -> Rule:
        trigger = self._choose(KINDS)
        yes_or_no = lambda: self._choose((True, False))  # noqa: E731
        fields: dict[str, Any] = {
            "trigger": trigger,
            "status": self._choose((*[RuleStatus.ACTIVE] * 20, *RuleStatus)),
            "created_at": START - self._choose((0, 0, 1)) * TICK,
            "priority": self._choose((0, 0, 1, -1)),
            "starts_at": self._perhaps(self._moment),
            "ends_at": self._perhaps(self._moment),
            "audience": self._perhaps(lambda: self._audience(tiers)),
        }
        if trigger is EventKind.PURCHASE:
            fields["minimum_amount"] = self._perhaps(self._amount)
            fields["products"] = self._perhaps(self._products, 5)
            gift = self._choose(("amount", "amount", "fixed", "multiplier"))
            if gift == "multiplier":
                return rule(multiplier=self._choose((*FACTORS, "1")), **fields)
        else:
            gift = "fixed"
        if trigger is EventKind.ACTION:
            fields["action"] = self._choose(ACTIONS)
        fields["limits"] = self._perhaps(self._limits, 5) or RuleLimits()
        fields["tier_multiplier_applies"] = self._perhaps(yes_or_no)
        fields["campaign_multiplier_applies"] = self._perhaps(yes_or_no)
        if gift == "fixed":
            return rule(fixed=self._choose((10, 1, 500)), **fields)
        fields["stacking"] = self._choose((None, None, *RuleStacking))
        return rule(self._choose(RATES), self._choose(AMOUNTS), **fields)

    def _line(self) -> NaiveLine:
        return NaiveLine(
            Fraction(self._amount()),
            self._choose(SKUS),
            self._choose((None, *CATEGORIES)),
            self._choose((None, *BRANDS)),
            Fraction(self._choose((1, 2, 3, 7))),
        )

    def event(self, number: int) -> NaiveEvent:
        kind = self._choose(KINDS)
        store = self._choose((None, *STORES))
        made = NaiveEvent(number, kind, self._moment(), self._choose(MEMBERS), store=store)
        if kind is EventKind.ACTION:
            return replace(made, action=self._choose(ACTIONS))
        if kind is EventKind.CHECK_IN:
            return replace(made, zone=ZoneInfo(self._choose(ZONES)))
        lines = tuple(self._line() for _ in range(self._choose((1, 2, 3, 5, 0))))
        amount = sum((line.amount for line in lines), Fraction(0)) if lines else Fraction(self._amount())
        made = replace(made, lines=lines, amount=amount)
        paid = self._perhaps(lambda: self._choose((amount, amount / 2, Fraction(self._amount()))), 3)
        # Nothing of nothing was paid with points, and never more than there was to pay.
        paid = Fraction(math.floor(min(paid or 0, amount) * 10**6), 10**6)
        return replace(made, with_points=paid / amount) if amount else made

    def history(self, most_events: int) -> History:
        tiers = self._tiers()
        policy = replace(
            POLICY,
            timezone=self._choose(ZONES),
            rounding=self._choose(tuple(Rounding)),
            multiplier_stacking=self._choose(tuple(MultiplierStacking)),
            max_points_per_day=self._perhaps(lambda: self._choose((100, 10, 1000)), 3),
            earn_on_points_payments=self._choose((False, False, False, True)),
        )
        rules = [self._rule(tiers) for _ in range(self._choose((2, 1, 4, 8, 6, 8, 0)))]
        campaigns = [self._campaign(tiers) for _ in range(self._choose((0, 1, 2)))]
        given: dict[object, list[tuple[datetime, UUID | None]]] = {}
        for member in MEMBERS if tiers else ():
            given[member] = [(self._moment(), self._choose(tiers).id), (START + timedelta(days=9), None)]
            given[member].sort(key=lambda each: each[0])
        events = [self.event(number) for number in range(1 + self._choose(range(most_events)))]
        return History(policy, rules, tiers, campaigns, given, events)


def make_history(choose: Choose, most_events: int = 6) -> History:
    """Make a program of at most eight rules, and what happened in it."""
    return _Making(choose).history(most_events)


def facts_of(event: NaiveEvent) -> Facts:
    """Return an event as the engine looks at it."""

    def whole(amount: Fraction) -> int:
        micros = amount * 1_000_000
        assert micros.denominator == 1
        return micros.numerator

    lines = [FactLine(line.sku or "", line.category, line.brand, whole(line.amount)) for line in event.lines]
    part = event.with_points
    share = Ratio(part.numerator, part.denominator) if part else None
    return Facts(event.kind, event.occurred_at, whole(event.amount), lines, event.store, event.action, share)
