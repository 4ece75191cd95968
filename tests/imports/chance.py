"""Worlds by chance, to import a retailer's orders into: rule sets with everything that rules can say."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from tests.imports.independent import Order
from tests.imports.world import Campaign, Given, Rule, World

_FIRST, _DAYS = datetime(2010, 12, 1, tzinfo=UTC), 374
_ZONES = (
    "Europe/London", "UTC", "America/New_York", "Asia/Kolkata", "Pacific/Auckland", "America/Los_Angeles",
    "Pacific/Kiritimati", "Australia/Lord_Howe",
)  # fmt: skip
_RATES = [Fraction(text) for text in ("1", "0.5", "0.333333", "2.5", "10", "0.07", "1.25")]
_FACTORS = [Fraction(text) for text in ("2", "3", "1.5", "1.1", "0.5", "0.75", "1.333333")]


class Chance:
    """Makes worlds up; the same seed makes the same world."""

    def __init__(self, seed: int, orders: Sequence[Order]) -> None:
        self._random = random.Random(seed)
        self._members = sorted({order.member for order in orders})
        lines = [line for order in orders if not order.is_return for line in order.lines]
        self._skus = [sku for sku, _ in Counter(line.sku for line in lines).most_common(400)]
        self._brands = [brand for brand, _ in Counter(line.brand for line in lines).most_common(400)]
        self._categories = sorted({line.category for line in lines})

    def world(self) -> World:
        """Make a world up."""
        choice = self._random.choice
        tiers = {"Silver": choice(_FACTORS), "Gold": choice(_FACTORS)} if self._likely(0.7) else {}
        start = None
        if tiers and self._likely(0.5):
            start, tiers["Start"] = "Start", choice([Fraction(1), *_FACTORS])
        names = sorted(tiers)
        return World(
            rules=[self._rule(number, names) for number in range(self._random.randrange(2, 9))],
            zone=choice(_ZONES),
            rounding=choice(["FLOOR", "HALF_UP", "CEILING"]),
            stacking=choice(["MULTIPLY", "ADD", "BEST"]),
            cap=choice([None, None, 150, 500, 2000]),
            debt_limit=choice([0, 100, 1_000_000]),
            tiers=tiers,
            start=start,
            given={member: self._history(names) for member in self._members if names and self._likely(0.4)},
            campaigns=[self._campaign(n, names) for n in range(self._random.randrange(4))],
        )

    def _likely(self, share: float) -> bool:
        return self._random.random() < share

    def _moment(self) -> datetime:
        return _FIRST + timedelta(minutes=self._random.randrange(_DAYS * 24 * 60))

    def _some(self, names: Sequence[str], most: int) -> frozenset[str]:
        return frozenset(self._random.sample(names, min(len(names), self._random.randrange(1, most))))

    def _history(self, tiers: Sequence[str]) -> list[Given]:
        given = []
        for _ in range(self._random.randrange(1, 5)):
            since = self._moment()
            until = since + timedelta(days=self._random.randrange(1, 90)) if self._likely(0.5) else None
            tier = None if self._likely(0.25) else self._random.choice(tiers)
            given.append(Given(tier, since, until))
        return given

    def _campaign(self, number: int, tiers: Sequence[str]) -> Campaign:
        starts = self._moment()
        ends = starts + timedelta(days=self._random.randrange(1, 120))
        audience = self._some(tiers, 3) if tiers and self._likely(0.4) else frozenset()
        return Campaign(f"Campaign {number}", starts, ends, self._random.choice(_FACTORS), audience)

    def _rule(self, number: int, tiers: Sequence[str]) -> Rule:
        chance = self._random
        kind = "per" if number == 0 else chance.choice(["per", "per", "fixed", "times"])
        said: dict[str, object] = {"name": f"Rule {number}", "priority": chance.choice([0, 0, 0, 5, -5])}
        if kind == "per":
            said["per"] = chance.choice(_RATES)
        elif kind == "times":
            said["times"] = chance.choice(_FACTORS)
        else:
            said["fixed"] = chance.choice([1, 5, 25, 100])
        if number and self._likely(0.7):
            said |= self._filter()
        if kind == "per":
            said["replaces"] = self._likely(0.5) if len(said) > 3 else self._likely(0.1)
        if self._likely(0.3):
            said["minimum"] = Fraction(chance.choice(["0.01", "5", "20", "150", "400.50"]))
        if tiers and self._likely(0.2):
            said["tiers"] = self._some(tiers, 3)
        if self._likely(0.2):
            said["starts"] = self._moment()
        if self._likely(0.2):
            said["ends"] = said.get("starts", _FIRST) + timedelta(days=chance.randrange(1, 200))  # type: ignore[operator]
        if kind != "times":
            said |= self._limits()
        return Rule(**said)  # type: ignore[arg-type]

    def _filter(self) -> dict[str, frozenset[str]]:
        filter = {}
        if self._likely(0.6):
            filter["skus"] = self._some(self._skus, 200)
        if self._likely(0.4):
            filter["brands"] = self._some(self._brands, 100)
        if self._likely(0.2):
            filter["categories"] = self._some(self._categories, 4)
        if self._likely(0.3):
            filter["not_skus"] = self._some(self._skus, 50)
        if self._likely(0.1):
            filter["not_categories"] = self._some(self._categories, 3)
        included = filter.get("skus", frozenset()) | filter.get("categories", frozenset())
        excluded = filter.get("not_skus", frozenset()) | filter.get("not_categories", frozenset())
        if included and included <= excluded and "brands" not in filter:
            # A rule that could never pay is refused.
            filter["brands"] = self._some(self._brands, 100)
        return filter

    def _limits(self) -> dict[str, object]:
        chance = self._random
        said: dict[str, object] = {}
        if self._likely(0.2):
            said["by_tier"] = False
        if self._likely(0.2):
            said["by_campaign"] = False
        if self._likely(0.25):
            said["per_purchase"] = chance.choice([1, 10, 100, 300])
        if self._likely(0.25):
            said["per_day"] = chance.choice([5, 50, 250])
        if self._likely(0.25):
            said["often"] = chance.choice([1, 2, 3]), chance.choice(["DAY", "WEEK", "MONTH", "YEAR"])
        if self._likely(0.15):
            said["pause_minutes"] = chance.choice([2, 60, 60 * 24 * 10])
        if self._likely(0.15):
            said["at_most"] = chance.choice([1, 3, 10])
        return said
