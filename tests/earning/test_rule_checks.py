"""Which rules are refused, at which field, and that nothing else is."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from app.campaigns.audience import Audience
from app.earning.rule_checks import MAX_COOLDOWN_MINUTES, MAX_LISTED, MAX_TIMES, check_definition
from app.earning.rules import (
    EventKind,
    Frequency,
    Period,
    PointsPerAmount,
    ProductFilter,
    ReferralTrigger,
    RuleDefinition,
    RuleLimits,
    RuleStacking,
)
from app.errors import ErrorCode
from app.ids import new_id
from app.ledger.expiry import ExpiryKind, ExpiryPolicy
from app.ledger.operations import MAX_POINTS
from tests.earning.making import NOON, TICK

REFERRAL = ReferralTrigger.FIRST_PURCHASE
# The same in every process: it goes into the names of tests.
SOME = UUID(int=1)


def by_amount(points: str = "1", amount: str = "1", **fields: Any) -> RuleDefinition:
    rate = PointsPerAmount(Decimal(points), Decimal(amount))
    return RuleDefinition(
        **{"name": "Rule", "trigger": EventKind.PURCHASE, "points_per_amount": rate, **fields}
    )


def fixed(points: int = 5, **fields: Any) -> RuleDefinition:
    return RuleDefinition(**{"name": "Rule", "trigger": EventKind.PURCHASE, "fixed_points": points, **fields})


def times(factor: str = "2", **fields: Any) -> RuleDefinition:
    return RuleDefinition(
        **{"name": "Rule", "trigger": EventKind.PURCHASE, "multiplier": Decimal(factor), **fields}
    )


def action(name: str | None = "quiz", **fields: Any) -> RuleDefinition:
    return fixed(**{"trigger": EventKind.ACTION, "action": name, **fields})


def visit(**fields: Any) -> RuleDefinition:
    return fixed(**{"trigger": EventKind.CHECK_IN, **fields})


def referral(**fields: Any) -> RuleDefinition:
    return fixed(**{"trigger": EventKind.REFERRAL, "referral_trigger": REFERRAL, **fields})


def limited(**limits: Any) -> RuleDefinition:
    return fixed(limits=RuleLimits(**limits))


def filtered(**lists: Any) -> RuleDefinition:
    return by_amount(products=ProductFilter(**lists))


def fields_of(definition: RuleDefinition) -> set[str]:
    errors = check_definition(definition, NOON)
    assert all(error.code is ErrorCode.INVALID and error.message.endswith(".") for error in errors)
    return {".".join(error.field or ()) for error in errors}


@pytest.mark.parametrize(
    "definition",
    [
        by_amount(),
        by_amount("0.000001", "1000000"),
        by_amount("1000000", "0.01"),
        by_amount(minimum_amount=Decimal(0)),
        by_amount(minimum_amount=Decimal("1000000000000")),
        by_amount(name="x" * 200, description="Two\nlines", priority=-1_000_000),
        by_amount(starts_at=NOON - timedelta(days=9), ends_at=NOON + TICK),
        by_amount(stacking=RuleStacking.REPLACE),
        by_amount(stacking=RuleStacking.ADD, products=ProductFilter(skus=("a",))),
        by_amount(audience=Audience((new_id(),), (new_id(),))),
        action(audience=Audience(tiers=(new_id(),))),
        visit(audience=Audience(stores=(new_id(),))),
        by_amount(pending_days=0, expiry=ExpiryPolicy(ExpiryKind.ROLLING_MONTHS, 12)),
        by_amount(expiry=ExpiryPolicy(ExpiryKind.END_OF_YEAR), pending_days=3650),
        by_amount(tier_multiplier_applies=False, campaign_multiplier_applies=True),
        filtered(),
        filtered(excluded_skus=("a",)),
        filtered(skus=("a", "b"), excluded_skus=("a",)),
        filtered(skus=("a",), categories=("c",), excluded_skus=("a",)),
        filtered(brands=("b",), excluded_categories=("c",)),
        filtered(skus=tuple(map(str, range(MAX_LISTED)))),
        filtered(skus=("x" * 255,), categories=("x" * 1000,), brands=("x" * 1000,)),
        fixed(1),
        fixed(MAX_POINTS, stacking=RuleStacking.ADD, products=ProductFilter(brands=("b",))),
        times("0.000001"),
        times("1000", products=ProductFilter(skus=("a",)), minimum_amount=Decimal(5), priority=3),
        times(audience=Audience((new_id(),))),
        action(),
        action("BIRTHDAY", tier_multiplier_applies=True),
        action("x" * 100),
        visit(limits=RuleLimits(1, 1, Frequency(1, Period.DAY), 1, 1, 1)),
        referral(),
        referral(referred_points=5),
        referral(fixed_points=None, referred_points=5),
        referral(limits=RuleLimits(max_times_per_member=10)),
        limited(cooldown_minutes=MAX_COOLDOWN_MINUTES, max_times_per_member=MAX_TIMES),
        limited(frequency=Frequency(MAX_TIMES, Period.YEAR), budget=MAX_POINTS),
    ],
)
def test_a_rule_that_can_pay_is_taken(definition: RuleDefinition) -> None:
    assert check_definition(definition, NOON) == ()


@dataclass
class Case:
    field: str
    make: Callable[..., RuleDefinition]
    fields: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.field}: {self.make.__name__} {self.fields}"


def case(field: str, make: Callable[..., RuleDefinition], **fields: Any) -> Case:
    return Case(field, make, fields)


TEXTS = [
    case("name", by_amount, name=""),
    case("name", by_amount, name="  "),
    case("name", by_amount, name="x" * 201),
    case("name", by_amount, name="two\nlines"),
    case("description", by_amount, description="x" * 2001),
    case("description", by_amount, description="\x00"),
    case("action", action, name=""),
    case("action", action, name="x" * 101),
    case("action", action, name=" quiz"),
    case("action", action, name="qu\tiz"),
]
WINDOWS = [
    case("ends_at", by_amount, starts_at=NOON + 2 * TICK, ends_at=NOON + TICK),
    case("ends_at", by_amount, starts_at=NOON + TICK, ends_at=NOON + TICK),
    case("ends_at", by_amount, ends_at=NOON),
    case("priority", by_amount, priority=1_000_001),
    case("priority", by_amount, priority=-1_000_001),
]
GIFTS = [
    case("points_per_amount", fixed, fixed_points=None),
    case("fixed_points", by_amount, fixed_points=5),
    case("multiplier", by_amount, multiplier=Decimal(2)),
    case("multiplier", fixed, multiplier=Decimal(2)),
    case("fixed_points", fixed, fixed_points=0),
    case("fixed_points", fixed, fixed_points=-5),
    case("fixed_points", fixed, fixed_points=MAX_POINTS + 1),
    case("points_per_amount.points", by_amount, points="0"),
    case("points_per_amount.points", by_amount, points="-1"),
    case("points_per_amount.points", by_amount, points="1000000.000001"),
    case("points_per_amount.points", by_amount, points="1.0000001"),
    case("points_per_amount.points", by_amount, points="NaN"),
    case("points_per_amount.points", by_amount, points="Infinity"),
    case("points_per_amount.amount", by_amount, amount="0"),
    case("points_per_amount.amount", by_amount, amount="0.009"),
    case("points_per_amount.amount", by_amount, amount="1000001"),
    case("minimum_amount", by_amount, minimum_amount=Decimal("-0.01")),
    case("minimum_amount", by_amount, minimum_amount=Decimal("1000000000000.01")),
    case("minimum_amount", by_amount, minimum_amount=Decimal("0.0000001")),
    case("stacking", fixed, stacking=RuleStacking.REPLACE),
    case("fixed_points", action, fixed_points=None),
    case("fixed_points", visit, fixed_points=None),
    case("action", action, name=None),
    case("fixed_points", referral, fixed_points=None),
    case("referred_points", referral, referred_points=0),
    case("referral_trigger", referral, referral_trigger=None),
    case("pending_days", by_amount, pending_days=-1),
    case("pending_days", by_amount, pending_days=3651),
    case("expiry.kind", by_amount, expiry=ExpiryPolicy(ExpiryKind.INACTIVITY_MONTHS, 12)),
    case("expiry.months", by_amount, expiry=ExpiryPolicy(ExpiryKind.ROLLING_MONTHS)),
    case("expiry.months", by_amount, expiry=ExpiryPolicy(ExpiryKind.ROLLING_MONTHS, 0)),
    case("expiry.months", by_amount, expiry=ExpiryPolicy(ExpiryKind.END_OF_YEAR, 3)),
]
PLACES = [
    case("audience.store_ids", action, audience=Audience(stores=(SOME,))),
    case("audience.store_ids", action, name="BIRTHDAY", audience=Audience((SOME,), (SOME,))),
]
MULTIPLIERS = [
    case("multiplier", times, factor="0"),
    case("multiplier", times, factor="-2"),
    case("multiplier", times, factor="1000.000001"),
    case("multiplier", times, factor="1.0000001"),
    case("limits", times, limits=RuleLimits(budget=5)),
    case("stacking", times, stacking=RuleStacking.ADD),
    case("stacking", times, stacking=RuleStacking.REPLACE),
    case("pending_days", times, pending_days=1),
    case("expiry", times, expiry=ExpiryPolicy()),
    case("tier_multiplier_applies", times, tier_multiplier_applies=False),
    case("campaign_multiplier_applies", times, campaign_multiplier_applies=True),
]
ELSEWHERE = [
    case(name, make, **{name: value})
    for makes, said in (
        (
            (action, visit, referral),
            {
                "points_per_amount": PointsPerAmount(Decimal(1)),
                "multiplier": Decimal(2),
                "minimum_amount": Decimal(5),
                "products": ProductFilter(skus=("a",)),
                "stacking": RuleStacking.ADD,
            },
        ),
        ((fixed, visit, referral), {"action": "quiz"}),
        ((fixed, visit, action), {"referred_points": 5, "referral_trigger": REFERRAL}),
    )
    for make in makes
    for name, value in said.items()
]
LISTS = ("skus", "categories", "brands", "excluded_skus", "excluded_categories")
PRODUCTS = [
    *(case(f"products.{name}", filtered, **{name: ("a",) * (MAX_LISTED + 1)}) for name in LISTS),
    *(case(f"products.{name}.1", filtered, **{name: ("a", "")}) for name in LISTS),
    *(case(f"products.{name}.0", filtered, **{name: ("a\nb",)}) for name in LISTS),
    *(case(f"products.{name}.0", filtered, **{name: ("x" * 1001,)}) for name in LISTS),
    *(
        case(f"products.{name}.0", filtered, **{name: ("x" * 256,)})
        for name in LISTS
        if name.endswith("skus")
    ),
    case("products", filtered, skus=("a",), excluded_skus=("a", "b")),
    case("products", filtered, categories=("c",), excluded_categories=("c",)),
    case(
        "products",
        filtered,
        skus=("a",),
        categories=("c",),
        excluded_skus=("a",),
        excluded_categories=("c",),
    ),
]
LIMITS = [
    *(
        case(f"limits.{name}", limited, **{name: value})
        for name in ("max_points_per_transaction", "max_points_per_day", "budget")
        for value in (0, -1, MAX_POINTS + 1)
    ),
    *(
        case("limits.cooldown_minutes", limited, cooldown_minutes=each)
        for each in (0, MAX_COOLDOWN_MINUTES + 1)
    ),
    *(case("limits.max_times_per_member", limited, max_times_per_member=each) for each in (0, MAX_TIMES + 1)),
    *(
        case("limits.frequency.times", limited, frequency=Frequency(each, Period.WEEK))
        for each in (0, -1, MAX_TIMES + 1)
    ),
]


@pytest.mark.parametrize(
    "refused", [*TEXTS, *WINDOWS, *GIFTS, *PLACES, *MULTIPLIERS, *ELSEWHERE, *PRODUCTS, *LIMITS], ids=str
)
def test_a_rule_that_makes_no_sense_is_refused_at_its_field(refused: Case) -> None:
    found = fields_of(refused.make(**refused.fields))
    assert refused.field in found
    # Nothing beside it is blamed, but for gifts that exclude each other.
    assert found - {refused.field} <= {"multiplier", "fixed_points", "points_per_amount"}


def test_everything_that_is_wrong_is_told_at_once() -> None:
    definition = RuleDefinition(
        name="",
        trigger=EventKind.PURCHASE,
        limits=RuleLimits(budget=0, cooldown_minutes=0),
        ends_at=NOON,
        pending_days=-1,
    )
    assert fields_of(definition) == {
        "name",
        "ends_at",
        "points_per_amount",
        "limits.budget",
        "limits.cooldown_minutes",
        "pending_days",
    }


def test_a_window_that_has_ended_may_stay_as_it_was() -> None:
    ended = by_amount(ends_at=NOON - TICK)
    renamed = by_amount(ends_at=NOON - TICK, name="Renamed")
    moved = by_amount(ends_at=NOON - 2 * TICK)
    assert check_definition(renamed, NOON, ended) == ()
    (error,) = check_definition(moved, NOON, ended)
    assert (error.field, error.message) == (
        ("ends_at",),
        "The rule's window has ended already: it could never pay.",
    )
    assert check_definition(by_amount(ends_at=NOON + TICK), NOON, ended) == ()


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (by_amount("0"), "Points of points per amount must be between 0.000001 and 1,000,000."),
        (by_amount("1.0000001"), "Points of points per amount can have at most 6 decimals."),
        (visit(action="quiz"), "Only ACTION rules can have this; the rule's trigger is CHECK_IN."),
        (fixed(0), "Fixed points must be at least 1: the rule could never pay."),
        (fixed(MAX_POINTS + 1), f"Fixed points must be at most {MAX_POINTS:,}."),
        (limited(budget=0), "Budget must be at least 1: leave it out for no limit."),
        (
            limited(max_points_per_day=-1),
            "Max points per day must be at least 1: leave it out for no limit.",
        ),
    ],
)
def test_a_refusal_is_a_sentence_for_the_person_who_sets_up_the_rule(
    definition: RuleDefinition, message: str
) -> None:
    assert message in [error.message for error in check_definition(definition, NOON)]
