"""What one event earns, a second time: plain, slow, exact, and with nothing of the engine's but the data.

Written from the text of the design: all rules are gone through for every event, and amounts are fractions.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from app.earning.rules import EventKind, ProductFilter, Rule, RuleStacking, RuleStatus
from app.programs.policy import MultiplierStacking, ProgramPolicy, Rounding

MOST_POINTS = 2**53 - 1
HALF = Fraction(1, 2)


class TooMany(Exception):
    """An award would have more points than can be counted."""


@dataclass(frozen=True)
class NaiveLine:
    """One line of a purchase; the nameless one has no SKU."""

    amount: Fraction
    sku: str | None = None
    category: str | None = None
    brand: str | None = None
    quantity: Fraction = Fraction(1)


@dataclass(frozen=True)
class NaiveEvent:
    """Something that happened; a purchase without lines has an amount, one with lines their sum.

    Attributes:
        id: whatever tells it from other events.
        member: whatever tells the member from others.
        zone: of the store where a check-in happened; else its days are the program's.
        with_points: the part of the amount that was paid with points, from 0 to 1.
    """

    id: object
    kind: EventKind
    occurred_at: datetime
    member: object = None
    amount: Fraction = Fraction(0)
    lines: tuple[NaiveLine, ...] = ()
    store: UUID | None = None
    action: str | None = None
    zone: ZoneInfo | None = None
    with_points: Fraction = Fraction(0)


class NaiveRoom(NamedTuple):
    """What the limits of a rule leave: whether it is there at all, and points; None is no limit."""

    there: bool
    day: int | None
    budget: int | None


@dataclass
class NaiveAward:
    """What a rule gave; `remaining` is less what was refunded."""

    rule: Rule
    desired: int
    points: int
    remaining: int


@dataclass
class Receipt:
    """All that decided about an event: what was in force at its time, and what limits left before it."""

    policy: ProgramPolicy
    rules: tuple[Rule, ...]
    tier: UUID | None
    tier_factor: Fraction | None
    campaign_factors: list[Fraction]
    rooms: dict[UUID, NaiveRoom]
    program_room: int | None


@dataclass
class Kept:
    """An event with what it was given, and what came back of it."""

    event: NaiveEvent
    day: date
    receipt: Receipt
    awards: list[NaiveAward]
    returned: dict[int, Fraction] = field(default_factory=dict)
    """Pieces, by the number of the line, counted from 1."""
    refunded: Fraction = Fraction(0)
    """Money that belongs to no line."""
    everything_back: bool = False


@dataclass
class Result:
    """What an event earns, and which multipliers took part in points that were given."""

    awards: list[NaiveAward]
    multiplied: set[UUID]


def in_order(rules: Iterable[Rule]) -> list[Rule]:
    """Return rules by priority, then age."""
    return sorted(rules, key=lambda rule: (-rule.definition.priority, rule.created_at, rule.id.int))


def matches(rule: Rule, line: NaiveLine) -> bool:
    """Tell whether a rule is about a line; the nameless one is for rules without a filter alone."""
    products = rule.definition.products or ProductFilter()
    if products == ProductFilter():
        return True
    if line.sku is None:
        return False
    if line.sku in products.excluded_skus:
        return False
    if line.category is not None and line.category in products.excluded_categories:
        return False
    if not products.skus and not products.categories and not products.brands:
        return True
    return (
        line.sku in products.skus
        or (line.category is not None and line.category in products.categories)
        or (line.brand is not None and line.brand in products.brands)
    )


def rate(rule: Rule) -> Fraction:
    """Return the points for one unit of money."""
    some = rule.definition.points_per_amount
    assert some is not None
    return Fraction(some.points) / Fraction(some.amount)


def replaces(rule: Rule) -> bool:
    """Tell whether a rule pays instead of the others: said, or for points by amount with a filter."""
    some = rule.definition
    if some.points_per_amount is None:
        return False
    if some.stacking is None:
        return some.products is not None and some.products != ProductFilter()
    return some.stacking is RuleStacking.REPLACE


def factor_of(rule: Rule, receipt: Receipt) -> Fraction:
    """Return the factors of tier and campaigns together, as far as the rule takes them."""
    some = rule.definition
    takes_tier = some.tier_multiplier_applies
    if takes_tier is None:
        takes_tier = some.trigger is EventKind.PURCHASE
    # Who is in no tier has no factor of one, not one that is 1.
    factors = [receipt.tier_factor] if takes_tier and receipt.tier_factor is not None else []
    if some.campaign_multiplier_applies is not False:
        factors = factors + receipt.campaign_factors
    stacking = receipt.policy.multiplier_stacking
    if not factors:
        return Fraction(1)
    if stacking is MultiplierStacking.MULTIPLY:
        return math.prod(factors, start=Fraction(1))
    if stacking is MultiplierStacking.ADD:
        # Nothing is taken that is not there.
        return max(Fraction(0), 1 + sum((each - 1 for each in factors), Fraction(0)))
    return max(factors)


def rounded(exact: Fraction, rounding: Rounding) -> int:
    """Return whole points."""
    if rounding is Rounding.FLOOR:
        return math.floor(exact)
    if rounding is Rounding.CEILING:
        return math.ceil(exact)
    return math.floor(exact + HALF)


def calculate(receipt: Receipt, event: NaiveEvent) -> Result:
    """Return what an event earns under a receipt.

    Raises:
        TooMany: an award would have more points than can be counted.
    """
    lines = list(event.lines) or [NaiveLine(event.amount)]
    if not receipt.policy.earn_on_points_payments:
        if event.with_points == 1:
            return Result([], set())
        lines = [replace(line, amount=line.amount * (1 - event.with_points)) for line in lines]
    there: list[tuple[Rule, list[int]]] = []
    for rule in in_order(receipt.rules):
        found = _matching(receipt, rule, event, lines)
        if found:
            there.append((rule, found))
    exact: dict[UUID, Fraction] = {}
    raised: dict[UUID, set[UUID]] = {}
    for n, line in enumerate(lines):
        factor, multiplier = _multiplier(there, n)
        for rule in _payers(there, n):
            exact[rule.id] = exact.get(rule.id, Fraction(0)) + line.amount * rate(rule) * factor
            if multiplier is not None and line.amount:
                raised.setdefault(rule.id, set()).add(multiplier.id)
    for rule, _ in there:
        if rule.definition.fixed_points is not None:
            exact[rule.id] = Fraction(rule.definition.fixed_points)
    result = Result([], set())
    given_today = 0
    for rule, _ in there:
        points = exact.get(rule.id, Fraction(0)) * factor_of(rule, receipt)
        desired = rounded(points, receipt.policy.rounding)
        if desired > MOST_POINTS:
            raise TooMany
        if desired < 1:
            continue
        granted = _trim(receipt, rule, desired, given_today)
        given_today += granted
        result.awards.append(NaiveAward(rule, desired, granted, granted))
        if granted:
            result.multiplied |= raised.get(rule.id, set())
    return result


def _matching(receipt: Receipt, rule: Rule, event: NaiveEvent, lines: Sequence[NaiveLine]) -> list[int]:
    """Return the lines that a rule is about; none when it is not there for the event."""
    some = rule.definition
    found = [n for n, line in enumerate(lines) if matches(rule, line)]
    audience = some.audience
    not_there = (
        rule.status is not RuleStatus.ACTIVE
        or some.trigger is not event.kind
        or (some.trigger is EventKind.ACTION and some.action != event.action)
        or (some.starts_at is not None and event.occurred_at < some.starts_at)
        or (some.ends_at is not None and event.occurred_at >= some.ends_at)
        or (audience is not None and bool(audience.tiers) and receipt.tier not in audience.tiers)
        or (audience is not None and bool(audience.stores) and event.store not in audience.stores)
        or (
            some.minimum_amount is not None
            and sum((lines[n].amount for n in found), Fraction(0)) < Fraction(some.minimum_amount)
        )
        or not receipt.rooms[rule.id].there
    )
    return [] if not_there else found


def _payers(there: Sequence[tuple[Rule, list[int]]], n: int) -> list[Rule]:
    """Return the rules that pay a line by its amount."""
    rules = [rule for rule, lines in there if n in lines and rule.definition.points_per_amount is not None]
    instead = [rule for rule in rules if replaces(rule)]
    if not instead:
        return rules
    return [
        min(instead, key=lambda rule: (-rule.definition.priority, -rate(rule), rule.created_at, rule.id.int))
    ]


def _multiplier(there: Sequence[tuple[Rule, list[int]]], n: int) -> tuple[Fraction, Rule | None]:
    """Return the one factor that applies to what a line earns by its amount."""
    best: tuple[Fraction, Rule | None] = (Fraction(1), None)
    for rule, lines in there:
        some = rule.definition
        if n not in lines or some.multiplier is None:
            continue
        factor = Fraction(some.multiplier)
        # Rules come by priority: one of the same priority is better only where it gives more.
        if best[1] is None or (best[1].definition.priority == some.priority and factor > best[0]):
            best = (factor, rule)
    return best


def _trim(receipt: Receipt, rule: Rule, points: int, given_today: int) -> int:
    """Return what the limits leave of points."""
    limits, room = rule.definition.limits, receipt.rooms[rule.id]
    if limits.max_points_per_transaction is not None:
        points = min(points, limits.max_points_per_transaction)
    if room.day is not None:
        points = min(points, room.day)
    if receipt.program_room is not None:
        points = min(points, max(0, receipt.program_room - given_today))
    if room.budget is not None:
        points = min(points, room.budget)
    return points
