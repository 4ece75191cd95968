"""Which rules make no sense, and why: a rule that could never pay is refused, not kept."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from app.earning.rules import (
    MAX_AMOUNT,
    MAX_DECIMALS,
    Action,
    EventKind,
    ProductFilter,
    RuleDefinition,
    RuleLimits,
    RuleStacking,
)
from app.errors import UserError
from app.ledger.expiry import ExpiryKind
from app.ledger.operations import MAX_POINTS
from app.programs.inputs import check_expiry
from app.text import is_line, is_text
from app.validation import Problems, label

MAX_RATE = Decimal(1_000_000)
MIN_RATE_AMOUNT = Decimal("0.01")
MAX_MULTIPLIER = Decimal(1000)
MAX_PRIORITY = 1_000_000
MAX_LISTED = 1000
"""Names in one list of a product filter."""
MAX_TIMES = 1_000_000
MAX_COOLDOWN_MINUTES = 366 * 24 * 60
MAX_PENDING_DAYS = 3650

_SMALLEST = Decimal(1).scaleb(-MAX_DECIMALS)

# What only rules of one kind can say, and which kind that is.
_BELONGS_TO = {
    "points_per_amount": EventKind.PURCHASE,
    "multiplier": EventKind.PURCHASE,
    "minimum_amount": EventKind.PURCHASE,
    "products": EventKind.PURCHASE,
    "stacking": EventKind.PURCHASE,
    "action": EventKind.ACTION,
    "referred_points": EventKind.REFERRAL,
    "referral_trigger": EventKind.REFERRAL,
}


def check_definition(
    rule: RuleDefinition, now: datetime, before: RuleDefinition | None = None
) -> tuple[UserError, ...]:
    """Return everything that is wrong with a rule; one that could never pay is wrong too.

    Args:
        now: a window that has ended by then (UTC) can hold nothing that is still to come.
        before: what the rule said until now; a window that stays as it was may have ended.
    """
    problems = Problems()
    _check_texts(rule, problems)
    _check_window(rule, now, before, problems)
    _check_kind(rule, problems)
    if rule.products is not None:
        _check_products(rule.products, problems)
    _check_limits(rule.limits, problems)
    if rule.minimum_amount is not None:
        check_decimal(rule.minimum_amount, Decimal(0), MAX_AMOUNT, problems, "minimum_amount")
    if rule.pending_days is not None:
        problems.whole(rule.pending_days, 0, MAX_PENDING_DAYS, "pending_days")
    _check_expiry(rule, problems)
    problems.whole(rule.priority, -MAX_PRIORITY, MAX_PRIORITY, "priority")
    return problems.errors


def check_decimal(value: Decimal, low: Decimal, high: Decimal, problems: Problems, *field: str) -> None:
    """Note it when a number is not between two bounds, both included, or has more than six decimals."""
    exponent = value.as_tuple().exponent
    if not value.is_finite() or not low <= value <= high:
        problems.add(f"{label(field)} must be between {low:,f} and {high:,f}.", *field)
    elif isinstance(exponent, int) and exponent < -MAX_DECIMALS:
        problems.add(f"{label(field)} can have at most {MAX_DECIMALS} decimals.", *field)


def _check_texts(rule: RuleDefinition, problems: Problems) -> None:
    if not rule.name.strip() or len(rule.name) > 200 or not is_line(rule.name):
        problems.add("A rule needs a name of 1 to 200 printable characters.", "name")
    if rule.description is not None and (len(rule.description) > 2000 or not is_text(rule.description)):
        problems.add("A description has at most 2,000 printable characters.", "description")
    if rule.action is not None:
        check_action(rule.action, problems)


def check_action(action: str, problems: Problems) -> None:
    """Note what is wrong with the name of an action."""
    problems.line(action, 100, "action")
    own = action.strip().upper()
    if own in tuple(Action) and action != own:
        problems.add(f"Write {own}, which is Laurel's own, or choose another name.", "action")


def _check_window(
    rule: RuleDefinition, now: datetime, before: RuleDefinition | None, problems: Problems
) -> None:
    starts_at, ends_at = rule.starts_at, rule.ends_at
    if ends_at is None:
        return
    if starts_at is not None and ends_at <= starts_at:
        problems.add("The rule has to end after it starts: it could never pay.", "ends_at")
    elif ends_at <= now and (before is None or before.ends_at != ends_at):
        problems.add("The rule's window has ended already: it could never pay.", "ends_at")


def _check_kind(rule: RuleDefinition, problems: Problems) -> None:
    """Check that the rule says what rules of its kind say, and nothing that only others do."""
    for name, kind in _BELONGS_TO.items():
        if getattr(rule, name) is not None and rule.trigger is not kind:
            problems.add(f"Only {kind} rules can have this; the rule's trigger is {rule.trigger}.", name)
    _check_points(rule.fixed_points, "the rule could never pay", problems, "fixed_points")
    if rule.trigger is EventKind.PURCHASE:
        _check_purchase(rule, problems)
    elif rule.trigger is EventKind.REFERRAL:
        _check_referral(rule, problems)
    elif rule.fixed_points is None:
        problems.add(f"A rule for {rule.trigger} gives fixed points: say how many.", "fixed_points")
    if rule.trigger is EventKind.ACTION and rule.audience is not None and rule.audience.stores:
        message = "Actions happen in no store, so the rule could never pay: leave the stores out."
        problems.add(message, "audience", "store_ids")
    if rule.trigger is EventKind.ACTION and rule.action is None:
        own = ", ".join(Action)
        problems.add(f"An ACTION rule needs the name of the action: {own}, or one of your own.", "action")


def _check_points(value: int | None, instead: str, problems: Problems, *field: str) -> None:
    if value is not None and value < 1:
        problems.add(f"{label(field[-1:])} must be at least 1: {instead}.", *field)
    elif value is not None and value > MAX_POINTS:
        problems.add(f"{label(field[-1:])} must be at most {MAX_POINTS:,}.", *field)


def _check_purchase(rule: RuleDefinition, problems: Problems) -> None:
    given = [
        name
        for name in ("points_per_amount", "fixed_points", "multiplier")
        if getattr(rule, name) is not None
    ]
    if len(given) != 1:
        message = "A PURCHASE rule gives points per amount, fixed points or a multiplier: say which."
        if given:
            names = " and ".join(label((name,)).lower() for name in given)
            message = f"A rule gives one of them, and this one would have {names}: set the others to null."
        problems.add(message, given[1] if given else "points_per_amount")
    if rule.points_per_amount is not None:
        rate = rule.points_per_amount
        check_decimal(rate.points, _SMALLEST, MAX_RATE, problems, "points_per_amount", "points")
        check_decimal(rate.amount, MIN_RATE_AMOUNT, MAX_RATE, problems, "points_per_amount", "amount")
    elif rule.stacking is RuleStacking.REPLACE:
        message = "Only a rule with pointsPerAmount can pay instead of other such rules."
        problems.add(message, "stacking")
    if rule.multiplier is not None:
        check_decimal(rule.multiplier, _SMALLEST, MAX_MULTIPLIER, problems, "multiplier")
        _check_multiplier(rule, problems)


def _check_multiplier(rule: RuleDefinition, problems: Problems) -> None:
    """Check that a multiplier rule has nothing that belongs to points of its own: it gives none."""
    reason = "A multiplier changes what other rules give; set this on those rules."
    if rule.limits != RuleLimits():
        problems.add(reason, "limits")
    for name in (
        "stacking",
        "pending_days",
        "expiry",
        "tier_multiplier_applies",
        "campaign_multiplier_applies",
    ):
        if getattr(rule, name) is not None:
            problems.add(reason, name)


def _check_referral(rule: RuleDefinition, problems: Problems) -> None:
    if rule.fixed_points is None and rule.referred_points is None:
        message = "A REFERRAL rule needs fixedPoints for the referrer, or referredPoints for the new member."
        problems.add(message, "fixed_points")
    _check_points(rule.referred_points, "leave them out for none", problems, "referred_points")
    if rule.referral_trigger is None:
        message = "A REFERRAL rule needs to know what brings the points: REGISTRATION or FIRST_PURCHASE."
        problems.add(message, "referral_trigger")


def _check_products(products: ProductFilter, problems: Problems) -> None:
    for name in products.__struct_fields__:
        names: Sequence[str] = getattr(products, name)
        if len(names) > MAX_LISTED:
            problems.add(f"A list can name at most {MAX_LISTED:,}.", "products", name)
            continue
        longest = 255 if name.endswith("skus") else 1000
        for n, each in enumerate(names):
            if not 1 <= len(each) <= longest or not is_line(each):
                message = f"It must have between 1 and {longest:,} printable characters."
                problems.add(message, "products", name, str(n))
    included = (*products.skus, *products.categories, *products.brands)
    possible = (
        set(products.skus) - set(products.excluded_skus)
        or set(products.categories) - set(products.excluded_categories)
        or products.brands
    )
    if included and not possible:
        message = "The filter excludes everything that it includes: the rule could never pay."
        problems.add(message, "products")


def _check_limits(limits: RuleLimits, problems: Problems) -> None:
    for name in ("max_points_per_transaction", "max_points_per_day", "budget"):
        _check_points(getattr(limits, name), "leave it out for no limit", problems, "limits", name)
    if limits.frequency is not None:
        problems.whole(limits.frequency.times, 1, MAX_TIMES, "limits", "frequency", "times")
    if limits.cooldown_minutes is not None:
        problems.whole(limits.cooldown_minutes, 1, MAX_COOLDOWN_MINUTES, "limits", "cooldown_minutes")
    if limits.max_times_per_member is not None:
        problems.whole(limits.max_times_per_member, 1, MAX_TIMES, "limits", "max_times_per_member")


def _check_expiry(rule: RuleDefinition, problems: Problems) -> None:
    if rule.expiry is None:
        return
    if rule.expiry.kind is ExpiryKind.INACTIVITY_MONTHS:
        message = "Inactivity is counted for a member's account as a whole: set it on the program."
        problems.add(message, "expiry", "kind")
    else:
        check_expiry(rule.expiry, problems)
