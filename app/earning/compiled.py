"""A rule made ready to be evaluated often: its rate as a ratio, its lists as sets, its texts. Pure."""

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from app.earning.exact import MICROS, Ratio, plural
from app.earning.rules import (
    EventKind,
    ProductFilter,
    ReferralSide,
    Rule,
    RuleDefinition,
    RuleLimits,
    RuleStacking,
)
from app.money import format_money, trim

if TYPE_CHECKING:
    from app.earning.ruleset import FactLine


class CompiledRule:
    """A rule ready to be evaluated: its rate as a ratio, its lists as sets, its texts prepared."""

    __slots__ = (
        "base_label",
        "definition",
        "ends_at",
        "every_line",
        "excluded_categories",
        "excluded_skus",
        "factor",
        "fixed",
        "has_limits",
        "id",
        "limits",
        "minimum",
        "name",
        "number",
        "order",
        "rate",
        "replaces",
        "shown_factor",
        "starts_at",
        "stores",
        "takes_campaigns",
        "takes_tier",
        "tiers",
        "turns_away",
        "version",
    )

    def __init__(
        self, rule: Rule, number: int, currency: str, side: ReferralSide = ReferralSide.REFERRER
    ) -> None:
        definition = rule.definition if side is ReferralSide.REFERRER else _for_friend(rule.definition)
        self.id, self.version, self.number = rule.id, rule.version, number
        self.definition = definition
        self.name = definition.name
        self.starts_at, self.ends_at = definition.starts_at, definition.ends_at
        self.minimum = None if definition.minimum_amount is None else _micros_up(definition.minimum_amount)
        self.fixed = definition.fixed_points
        self.factor = None if definition.multiplier is None else Ratio.of(definition.multiplier)
        self.shown_factor = trim(definition.multiplier or Decimal(1))
        self.replaces = definition.effective_stacking is RuleStacking.REPLACE
        self.limits = definition.limits
        # The order in which rules are picked where one alone can win: the least is the winner.
        self.order: tuple[int, Decimal, int] = (-definition.priority, Decimal(0), number)
        products = definition.products or ProductFilter()
        self.every_line = not products
        self.excluded_skus = frozenset(products.excluded_skus)
        self.excluded_categories = frozenset(products.excluded_categories)
        audience = definition.audience
        self.tiers = frozenset(audience.tiers if audience else ())
        self.stores = frozenset(audience.stores if audience else ())
        self.takes_tier = definition.takes_tier_factor
        self.takes_campaigns = definition.takes_campaign_factors
        limits = definition.limits
        self.turns_away = (
            limits.frequency is not None
            or limits.cooldown_minutes is not None
            or limits.max_times_per_member is not None
        )
        self.has_limits = (
            self.turns_away or limits.max_points_per_day is not None or limits.budget is not None
        )
        self._compile_gift(definition, currency)
        if side is ReferralSide.REFERRED and self.fixed is not None:
            self.base_label = f"{plural(self.fixed)} for coming through a friend"

    def _compile_gift(self, definition: RuleDefinition, currency: str) -> None:
        self.rate: Ratio | None = None
        self.base_label = ""
        if definition.points_per_amount is not None:
            points, amount = definition.points_per_amount.points, definition.points_per_amount.amount
            generosity = Ratio.of(points).times(Ratio(*reversed(Ratio.of(amount))))
            self.rate = Ratio(generosity.numerator, generosity.denominator * MICROS)
            self.base_label = f"{plural(trim(points))} per {format_money(amount, currency)} on "
            self.order = (-definition.priority, -points / amount, self.number)
        elif definition.multiplier is not None:
            self.order = (-definition.priority, -definition.multiplier, self.number)
        elif self.fixed is not None:
            self.base_label = f"{plural(self.fixed)} for {_OCCASIONS[definition.trigger]}"
            if definition.trigger is EventKind.PURCHASE and not self.every_line:
                self.base_label = f"{plural(self.fixed)} for buying these goods"
            elif definition.action is not None:
                self.base_label = f"{plural(self.fixed)} for {_occasion(definition.action)}"

    def excludes(self, line: "FactLine") -> bool:
        """Tell whether goods are excluded, whatever else includes them."""
        return line.sku in self.excluded_skus or line.category in self.excluded_categories


def _for_friend(definition: RuleDefinition) -> RuleDefinition:
    """Return what a REFERRAL rule is for the friend: for whom it is, and how often it pays, is about who
    brought them.
    """
    limits = definition.limits
    return msgspec.structs.replace(
        definition,
        fixed_points=definition.referred_points,
        audience=None,
        limits=RuleLimits(
            max_points_per_transaction=limits.max_points_per_transaction,
            max_points_per_day=limits.max_points_per_day,
            budget=limits.budget,
        ),
    )


_OCCASIONS = {
    EventKind.PURCHASE: "the purchase",
    EventKind.ACTION: "the action",
    EventKind.CHECK_IN: "the visit",
    EventKind.REFERRAL: "bringing a friend",
}
_ACTIONS = {
    "REGISTRATION": "joining",
    "PROFILE_COMPLETED": "completing the profile",
    "BIRTHDAY": "the birthday",
    "ANNIVERSARY": "another year as a member",
}


def _occasion(action: str) -> str:
    return _ACTIONS.get(action, f"the action {action}")


def _micros_up(amount: Decimal) -> int:
    numerator, denominator = amount.as_integer_ratio()
    return -(-numerator * MICROS // denominator)
