"""Makers of what the engine takes: rules, purchases, tiers, campaigns and rooms, with little to write."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.campaigns.audience import Audience
from app.campaigns.campaigns import Campaign
from app.earning.engine import evaluate
from app.earning.exact import micros
from app.earning.explain import RuleOutcome, explain
from app.earning.outcomes import Award, Closed, Reason, Room
from app.earning.receipts import KeptRooms
from app.earning.rules import EventKind, PointsPerAmount, ProductFilter, Rule, RuleDefinition, RuleStatus
from app.earning.ruleset import FactLine, Factor, Facts, RuleSet, Standing
from app.ids import new_id
from app.ledger.expiry import ExpiryPolicy
from app.programs.policy import MultiplierStacking, ProgramPolicy, Rounding
from app.tiers.tiers import Factor as FactorSince
from app.tiers.tiers import Tier

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NOBODY = Standing()
NO_LIMITS = KeptRooms()

POLICY = ProgramPolicy(
    program_id=new_id(),
    version=1,
    currency="EUR",
    timezone="UTC",
    rounding=Rounding.FLOOR,
    multiplier_stacking=MultiplierStacking.MULTIPLY,
    max_points_per_day=None,
    pending_days=0,
    expiry=ExpiryPolicy(),
    expiry_changed_at=NOON,
    debt_limit=0,
)


def goods(
    *skus: str,
    categories: Sequence[str] = (),
    brands: Sequence[str] = (),
    without: Sequence[str] = (),
    without_categories: Sequence[str] = (),
) -> ProductFilter:
    return ProductFilter(skus, tuple(categories), tuple(brands), tuple(without), tuple(without_categories))


def rule(
    points: str = "1",
    per: str = "1",
    *,
    fixed: int | None = None,
    multiplier: str | None = None,
    trigger: EventKind = EventKind.PURCHASE,
    status: RuleStatus = RuleStatus.ACTIVE,
    created_at: datetime = NOON,
    **fields: Any,
) -> Rule:
    """Make a rule by amount, unless it is given fixed points or a multiplier."""
    by_amount = fixed is None and multiplier is None
    definition = RuleDefinition(
        **({"name": "Rule"} | fields),
        trigger=trigger,
        points_per_amount=PointsPerAmount(Decimal(points), Decimal(per)) if by_amount else None,
        fixed_points=fixed,
        multiplier=None if multiplier is None else Decimal(multiplier),
    )
    return Rule(new_id(), 1, status, definition, created_at, created_at)


def action_rule(action: str, fixed: int, **fields: Any) -> Rule:
    return rule(fixed=fixed, trigger=EventKind.ACTION, action=action, **fields)


def visit_rule(fixed: int, **fields: Any) -> Rule:
    return rule(fixed=fixed, trigger=EventKind.CHECK_IN, **fields)


def line(amount: str, sku: str = "other", category: str | None = None, brand: str | None = None) -> FactLine:
    return FactLine(sku, category, brand, micros(Decimal(amount)))


def purchase(
    *lines: FactLine, amount: str | None = None, at: datetime = NOON, store: UUID | None = None
) -> Facts:
    """Make a purchase that comes to the sum of its lines, unless an amount is given."""
    total = sum(each.micros for each in lines) if amount is None else micros(Decimal(amount))
    return Facts(EventKind.PURCHASE, at, total, lines, store)


def action(name: str, at: datetime = NOON) -> Facts:
    return Facts(EventKind.ACTION, at, action=name)


def visit(store: UUID | None = None, at: datetime = NOON) -> Facts:
    return Facts(EventKind.CHECK_IN, at, store_id=store)


def tier(multiplier: str, name: str = "Gold", threshold: str = "0", **fields: Any) -> Tier:
    factors = fields.pop("factors", (FactorSince(LONG_AGO, name, Decimal(multiplier)),))
    rank = 0 if Decimal(threshold) == 0 else 1
    return Tier(
        new_id(), name, rank, Decimal(threshold), Decimal(multiplier), (), factors, LONG_AGO, LONG_AGO
    )


def campaign(multiplier: str, name: str = "Easter", **fields: Any) -> Campaign:
    made = Campaign(
        id=new_id(),
        name=name,
        starts_at=NOON - timedelta(days=1),
        ends_at=NOON + timedelta(days=1),
        multiplier=Decimal(multiplier),
        applies_to=tuple(EventKind),
        audience=Audience(),
        factors=(FactorSince(LONG_AGO, name, Decimal(multiplier)),),
        created_at=LONG_AGO,
        updated_at=LONG_AGO,
    )
    return replace(made, **fields)


def standing(tier: str | None = None, *campaigns: str) -> Standing:
    """Make a standing from factors alone; campaigns are called A, B and so on."""
    return Standing(
        None,
        None if tier is None else Factor(new_id(), "Gold", Decimal(tier)),
        tuple(Factor(new_id(), name, Decimal(each)) for name, each in zip("ABCDE", campaigns, strict=False)),
    )


def rule_set(
    *rules: Rule, tiers: Sequence[Tier] = (), campaigns: Sequence[Campaign] = (), **policy: Any
) -> RuleSet:
    return RuleSet(replace(POLICY, **policy), rules, tiers, campaigns)


def rooms(left: dict[Rule, Room] | None = None, *, program_day: int | None = None) -> KeptRooms:
    return KeptRooms(program_day, {each.id: room for each, room in (left or {}).items()})


def closed(reason: Reason) -> Room:
    return Room(closed=Closed(reason, "UTC", paid_at=NOON))


def earn(
    rules: Rule | Sequence[Rule],
    facts: Facts | str,
    met: Standing = NOBODY,
    left: KeptRooms = NO_LIMITS,
    **policy: Any,
) -> list[Award]:
    """Evaluate rules for an event, or for a purchase without lines that comes to an amount."""
    some = [rules] if isinstance(rules, Rule) else rules
    what = purchase(amount=facts) if isinstance(facts, str) else facts
    return evaluate(rule_set(*some, **policy), what, met, left)


def points(rules: Rule | Sequence[Rule], facts: Facts | str, *rest: Any, **policy: Any) -> list[int]:
    return [award.points for award in earn(rules, facts, *rest, **policy)]


def outcomes(
    rules: Rule | Sequence[Rule],
    facts: Facts | str,
    met: Standing = NOBODY,
    left: KeptRooms = NO_LIMITS,
    **policy: Any,
) -> list[RuleOutcome]:
    """Return what became of each rule, in the order of the rules."""
    some = [rules] if isinstance(rules, Rule) else rules
    what = purchase(amount=facts) if isinstance(facts, str) else facts
    return explain(rule_set(*some, **policy), what, met, left).outcomes


def receipt(award: Award) -> list[str]:
    """Return the steps of an award as lines of text."""
    return [f"{step.kind}: {step.label} [{step.before} -> {step.after}]" for step in award.steps]


class NothingYet:
    """A database in which nothing has been earned before: limits begin with all their room."""

    async def fetch(self, *_: Any) -> list[Any]:
        return []
