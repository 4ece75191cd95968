"""How many points an event earns: values in, awards with their receipts out. No I/O, no clock."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from enum import StrEnum
from uuid import UUID

import msgspec

from app.earning.rules import EventKind, Rule
from app.ledger.operations import MAX_POINTS
from app.money import format_money
from app.programs.policy import ProgramPolicy, Rounding


class StepKind(StrEnum):
    BASE = "BASE"
    PRODUCT_MULTIPLIER = "PRODUCT_MULTIPLIER"
    TIER_MULTIPLIER = "TIER_MULTIPLIER"
    CAMPAIGN_MULTIPLIER = "CAMPAIGN_MULTIPLIER"
    ROUNDING = "ROUNDING"
    TRANSACTION_LIMIT = "TRANSACTION_LIMIT"
    DAY_LIMIT = "DAY_LIMIT"
    MEMBER_LIMIT = "MEMBER_LIMIT"
    PROGRAM_DAY_LIMIT = "PROGRAM_DAY_LIMIT"
    BUDGET = "BUDGET"


class Step(msgspec.Struct, frozen=True, gc=False):
    """One line of a receipt: points before and after it, shown to at most six decimals."""

    kind: StepKind
    label: str
    before: Decimal
    after: Decimal
    factor: Decimal | None = None


class Award(msgspec.Struct, frozen=True):
    """What one rule gives for one event: `desired` before limits, `points` after them."""

    rule_id: UUID
    rule_version: int
    rule_name: str
    desired: int
    points: int
    steps: tuple[Step, ...]


class TooManyPoints(Exception):
    """An event would earn more points than can be counted."""


_ROUNDED = {
    Rounding.FLOOR: "Rounded down to whole points",
    Rounding.HALF_UP: "Rounded to the nearest whole point",
    Rounding.CEILING: "Rounded up to whole points",
}
_ZERO = Decimal(0)


def plural(points: int | Decimal) -> str:
    """Return a number of points with its noun: "1 point", "2.5 points"."""
    number = str(points) if isinstance(points, int) else f"{points:f}"
    return f"{number} point" if points == 1 else f"{number} points"


def round_ratio(numerator: int, denominator: int, rounding: Rounding) -> int:
    """Round a non-negative exact ratio to a whole number; halves go up with HALF_UP."""
    if rounding is Rounding.FLOOR:
        return numerator // denominator
    if rounding is Rounding.CEILING:
        return -(-numerator // denominator)
    return (2 * numerator + denominator) // (2 * denominator)


def shown(numerator: int, denominator: int) -> Decimal:
    """Return an exact ratio as a decimal for people: in full where it ends, else to six decimals."""
    whole, rest = divmod(numerator, denominator)
    if not rest:
        return Decimal(whole)
    with localcontext(prec=60):
        return (Decimal(numerator) / denominator).quantize(Decimal("0.000001"), ROUND_HALF_EVEN).normalize()


class CompiledRule:
    """A rule made ready to be evaluated often: its rate as a ratio of whole numbers, its texts prepared."""

    __slots__ = (
        "base_label",
        "ends_at",
        "fixed",
        "id",
        "minimum",
        "name",
        "rate_denominator",
        "rate_numerator",
        "starts_at",
        "version",
    )

    def __init__(self, rule: Rule, currency: str) -> None:
        definition = rule.definition
        self.id = rule.id
        self.version = rule.version
        self.name = definition.name
        self.starts_at = definition.starts_at
        self.ends_at = definition.ends_at
        self.minimum = definition.minimum_amount
        self.fixed = definition.fixed_points
        self.rate_numerator, self.rate_denominator = 0, 1
        if definition.points_per_amount is not None:
            rate = definition.points_per_amount
            points, points_scale = rate.points.as_integer_ratio()
            amount, amount_scale = rate.amount.as_integer_ratio()
            self.rate_numerator, self.rate_denominator = points * amount_scale, points_scale * amount
            self.base_label = (
                f"{plural(rate.points.normalize())} per {format_money(rate.amount, currency)} on "
            )
        else:
            assert self.fixed is not None
            self.base_label = f"{plural(self.fixed)} for the purchase"

    def considers(self, occurred_at: datetime, amount: Decimal) -> bool:
        """Tell whether the rule is in force at that time, and its minimum is reached."""
        return (
            (self.starts_at is None or self.starts_at <= occurred_at)
            and (self.ends_at is None or occurred_at < self.ends_at)
            and (self.minimum is None or amount >= self.minimum)
        )


class RuleSet:
    """A program's policy with its active rules, compiled once for each version of them."""

    __slots__ = ("policy", "purchase_rules")

    def __init__(self, policy: ProgramPolicy, rules: Iterable[Rule]) -> None:
        self.policy = policy
        # Highest priority first, then age: the order in which limits are spent.
        ordered = sorted(rules, key=lambda rule: (-rule.definition.priority, rule.created_at, rule.id))
        self.purchase_rules = [
            CompiledRule(rule, policy.currency)
            for rule in ordered
            if rule.definition.trigger is EventKind.PURCHASE
        ]


def evaluate(
    rule_set: RuleSet, occurred_at: datetime, amount: Decimal, day_room: int | None
) -> Sequence[Award]:
    """Return what a purchase earns, rule by rule in the order of the rules.

    Args:
        occurred_at: when it happened, which decides the rules in force.
        amount: of the whole purchase, not negative, in the program's currency.
        day_room: what the program's daily cap leaves the member on that day; None without a cap.

    Returns:
        Awards that came to at least one point before limits; limits may have left none of it.

    Raises:
        TooManyPoints: an award would pass MAX_POINTS.
    """
    policy = rule_set.policy
    awards = []
    for rule in rule_set.purchase_rules:
        if not rule.considers(occurred_at, amount):
            continue
        if rule.fixed is not None:
            desired = rule.fixed
            steps = [Step(StepKind.BASE, rule.base_label, _ZERO, Decimal(desired))]
        else:
            numerator, denominator = amount.as_integer_ratio()
            numerator, denominator = numerator * rule.rate_numerator, denominator * rule.rate_denominator
            desired = round_ratio(numerator, denominator, policy.rounding)
            exact = shown(numerator, denominator)
            steps = [
                Step(StepKind.BASE, rule.base_label + format_money(amount, policy.currency), _ZERO, exact)
            ]
            if numerator % denominator:
                steps.append(Step(StepKind.ROUNDING, _ROUNDED[policy.rounding], exact, Decimal(desired)))
        if desired > MAX_POINTS:
            raise TooManyPoints
        if not desired:
            continue
        points = desired
        if day_room is not None and points > day_room:
            cap = plural(policy.max_points_per_day or 0)
            left = f"{day_room} was left" if day_room == 1 else f"{day_room} were left"
            label = f"At most {cap} a day in the whole program, of which {left}"
            steps.append(Step(StepKind.PROGRAM_DAY_LIMIT, label, Decimal(points), Decimal(day_room)))
            points = day_room
        if day_room is not None:
            day_room -= points
        awards.append(Award(rule.id, rule.version, rule.name, desired, points, tuple(steps)))
    return awards
