"""The engine alone, in one process and on one core: purchases of ten lines, many rules with filters."""

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import cycle
from typing import Any
from uuid import UUID

from app.campaigns.audience import Audience
from app.campaigns.campaigns import Campaign
from app.earning.engine import evaluate
from app.earning.exact import micros
from app.earning.outcomes import Room
from app.earning.receipts import KeptRooms
from app.earning.rules import (
    EventKind,
    PointsPerAmount,
    ProductFilter,
    Rule,
    RuleDefinition,
    RuleLimits,
    RuleStacking,
    RuleStatus,
)
from app.earning.ruleset import FactLine, Facts, RuleSet
from app.ids import new_id
from app.ledger.expiry import ExpiryPolicy
from app.programs.policy import MultiplierStacking, ProgramPolicy, Rounding
from app.tiers.tiers import Factor, Tier
from tests.benchmarks.harness import Figure, Servers, in_turns, run

_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
_PURCHASES = 500
_LINES = 10
_SKUS, _CATEGORIES, _BRANDS = 2000, 40, 60
_CAP = 5_000


def _rule(name: str, points: str | None = None, **fields: Any) -> Rule:
    rate = None if points is None else PointsPerAmount(Decimal(points))
    definition = RuleDefinition(name, EventKind.PURCHASE, points_per_amount=rate, **fields)
    return Rule(new_id(), 1, RuleStatus.ACTIVE, definition, _NOON, _NOON)


def _skus(first: int, count: int) -> tuple[str, ...]:
    return tuple(f"SKU-{n:05}" for n in range(first, first + count))


def _everyday() -> list[Rule]:
    """Return ten rules of which most purchases meet about eight, of every sort that pays by goods."""
    of = ProductFilter
    return [
        _rule("Base", "1"),
        _rule("Per purchase", None, fixed_points=10, minimum_amount=Decimal(50)),
        _rule("Twice the tea", "2", products=of(categories=("Category 1", "Category 2", "Category 3"))),
        _rule("House brand", "1.5", products=of(brands=("Brand 1", "Brand 2"), excluded_skus=_skus(0, 20))),
        _rule("Everything but gifts", "0.5", products=of(excluded_categories=("Category 9",)),
              stacking=RuleStacking.ADD),
        _rule("Basket", None, fixed_points=25,
              products=of(categories=tuple(f"Category {n}" for n in range(20, 30)))),
        _rule("Coffee week", multiplier=Decimal("1.5"), products=of(categories=("Category 4", "Category 5"))),
        _rule("New brand", "1", products=of(brands=tuple(f"Brand {n}" for n in range(40, 50))),
              stacking=RuleStacking.ADD, limits=RuleLimits(max_points_per_day=200)),
        _rule("Large purchases", "0.333333", minimum_amount=Decimal(300), limits=RuleLimits(budget=10**9)),
        _rule("Opening week", "5", ends_at=_NOON - timedelta(days=9)),
    ]  # fmt: skip


def _offers(count: int, first_sku: int) -> Iterator[Rule]:
    """Make offers for goods of their own: five articles each, every other one beside the base rule."""
    for n in range(count):
        stacking = RuleStacking.ADD if n % 2 else RuleStacking.REPLACE
        products = ProductFilter(skus=_skus(first_sku + 5 * n, 5))
        yield _rule(f"Offer {n}", "3", products=products, stacking=stacking, priority=n % 3)


def _set_of(rules: list[Rule]) -> RuleSet:
    policy = ProgramPolicy(
        program_id=new_id(),
        version=1,
        currency="EUR",
        timezone="Europe/Berlin",
        rounding=Rounding.HALF_UP,
        multiplier_stacking=MultiplierStacking.MULTIPLY,
        max_points_per_day=_CAP,
        pending_days=0,
        expiry=ExpiryPolicy(),
        expiry_changed_at=_NOON,
        debt_limit=0,
    )
    factors = (Factor(_NOON - timedelta(days=99), "Gold", Decimal("1.25")),)
    gold = Tier(new_id(), "Gold", 0, Decimal(0), Decimal("1.25"), (), factors, _NOON, _NOON)
    campaigns = [
        Campaign(
            id=new_id(),
            name=name,
            starts_at=_NOON + timedelta(days=day),
            ends_at=_NOON + timedelta(days=day + 2),
            multiplier=Decimal(2),
            applies_to=tuple(EventKind),
            audience=Audience(),
            factors=(Factor(_NOON - timedelta(days=99), name, Decimal(2)),),
            created_at=_NOON,
            updated_at=_NOON,
        )
        for day, name in ((-1, "Double days"), (-30, "Last month"), (30, "Next month"))
    ]
    return RuleSet(policy, rules, [gold], campaigns)


def _purchases() -> list[Facts]:
    chance = random.Random(7)
    made = []
    for n in range(_PURCHASES):
        lines = []
        for _ in range(_LINES):
            sku = chance.randrange(_SKUS)
            amount = micros(Decimal(chance.randrange(99, 9999)).scaleb(-2))
            lines.append(
                FactLine(f"SKU-{sku:05}", f"Category {sku % _CATEGORIES}", f"Brand {sku % _BRANDS}", amount)
            )
        total = sum(line.micros for line in lines)
        made.append(Facts(EventKind.PURCHASE, _NOON + timedelta(seconds=n), total, lines))
    return made


def _bare(facts: Facts) -> int:
    """Return the points of a purchase by one rate, each line matched by a dictionary, in fractions."""
    exact = sum(
        (Fraction(line.micros, 1_000_000) * _RATES.get(line.category or "", _RATE) for line in facts.lines),
        Fraction(0),
    )
    return round(exact)


_RATE = Fraction(1)
_RATES = {"Category 1": Fraction(2)}


class _Engine:
    """Evaluates purchases one after the other, candidates and factors included."""

    def __init__(self, rules: list[Rule], purchases: list[Facts]) -> None:
        self._rule_set = _set_of(rules)
        self._purchases = purchases
        left: dict[UUID, Room] = {}
        for rule in rules:
            limits = rule.definition.limits
            if limits.max_points_per_day is not None:
                left[rule.id] = Room(day=limits.max_points_per_day - 50)
            elif limits.budget is not None:
                left[rule.id] = Room(budget=limits.budget - 50)
        self._rooms = KeptRooms(_CAP - 1_000, left)

    def evaluate(self, facts: Facts) -> int:
        """Return how many rules give something for a purchase."""
        rule_set = self._rule_set
        return len(evaluate(rule_set, facts, rule_set.standing(facts, None), self._rooms))

    def awards(self) -> float:
        """Return how many rules give something for a purchase, on average."""
        return sum(map(self.evaluate, self._purchases)) / len(self._purchases)

    async def rate(self, seconds: float) -> float:
        """Return evaluations a second."""
        return _rate(self.evaluate, self._purchases, seconds)


def _rate(work: Callable[[Any], object], inputs: list[Any], seconds: float) -> float:
    """Return how often a second of the processor some work is done, on inputs in turns."""
    done, inputs_in_turns = 0, cycle(inputs)
    # What other processes take away is not the engine's.
    started = time.process_time()
    while (passed := time.process_time() - started) < seconds:
        for _ in range(100):
            work(next(inputs_in_turns))
        done += 100
    return done / passed


async def _measure(quick: bool) -> list[Figure]:
    rounds, seconds = (3, 0.4) if quick else (7, 1.5)
    purchases = _purchases()
    fifty = _Engine([*_everyday(), *_offers(40, 0)], purchases)
    ten = _Engine(_everyday(), purchases)
    # Offers for goods that nobody buys.
    thousand = _Engine([*_everyday(), *_offers(990, _SKUS)], purchases)
    assert ten.awards() == thousand.awards()

    async def bare() -> float:
        return _rate(_bare, purchases, seconds)

    async def microseconds(engine: _Engine) -> float:
        return 1e6 / await engine.rate(seconds)

    await fifty.rate(0.2)
    speed = await in_turns(rounds, lambda: fifty.rate(seconds), bare)
    size = await in_turns(rounds, lambda: microseconds(thousand), lambda: microseconds(ten))
    figures = [
        speed.figure(
            "purchases of 10 lines evaluated with 50 rules", 0.1, "purchases/s", "one rate in bare fractions"
        ),
        size.figure("time of one with 1,000 rules", 3.0, "µs", "the time with 10 rules", at_most=True),
    ]
    figures[0].notes.append(f"{fifty.awards():.1f} awards for each; at least 3,000 a second are asked for")
    return figures


def figures(servers: Servers, quick: bool) -> list[Figure]:
    """Measure how fast the engine is, and what rules cost that do not match."""
    return list(run(_measure(quick)))
