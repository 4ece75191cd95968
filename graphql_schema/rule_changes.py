"""Setting up and changing earning rules."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import strawberry

from app.access.scopes import Scope
from app.earning import rule_service, rules
from app.earning.rules import EventKind, Period, ReferralTrigger, RuleDefinition, RuleStacking, RuleStatus
from app.errors import ErrorCode, Refused
from app.errors import UserError as Wrong
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.audience import AudienceInput
from graphql_schema.errors import UserError, user_errors
from graphql_schema.inputs import changes
from graphql_schema.nodes import Info, key_of, program_of
from graphql_schema.programs import ExpiryPolicyInput
from graphql_schema.rules import EarningRule
from graphql_schema.scalars import Points


@strawberry.input(description="Points for every so much spent.")
class PointsPerAmountInput:
    points: Decimal = strawberry.field(description="So many points; more than 0.")
    amount: Decimal | None = strawberry.field(
        description="For so much, in the program's currency; at least 0.01.", default=Decimal(1)
    )

    def value(self) -> rules.PointsPerAmount:
        """Return the rate that was sent."""
        return rules.PointsPerAmount(self.points, Decimal(1) if self.amount is None else self.amount)


@strawberry.input(
    description="The goods that a rule is about: those in any of the first three lists, or all where those"
    " are empty, but for those that are excluded. Names are compared as they are; at most 1,000 in a list."
)
class ProductFilterInput:
    skus: list[str] | None = strawberry.field(description="These SKUs.", default_factory=list)
    categories: list[str] | None = strawberry.field(
        description="Goods of these categories.", default_factory=list
    )
    brands: list[str] | None = strawberry.field(description="Goods of these brands.", default_factory=list)
    excluded_skus: list[str] | None = strawberry.field(
        description="But not these SKUs.", default_factory=list
    )
    excluded_categories: list[str] | None = strawberry.field(
        description="And not goods of these categories.", default_factory=list
    )

    def value(self) -> rules.ProductFilter:
        """Return the filter that was sent."""
        return rules.ProductFilter(**{name: tuple(names or ()) for name, names in changes(self).items()})


@strawberry.input(description="So many times in each period.")
class FrequencyInput:
    times: int = strawberry.field(description="How many times, 1 to 1,000,000.")
    per: Period = strawberry.field(description="In which calendar period.")


@strawberry.input(
    description="What keeps a rule from giving too much. Limits of points trim an award; the others keep the"
    " rule from paying at all. What is left out or null is no limit."
)
class RuleLimitsInput:
    max_points_per_transaction: Points | None = strawberry.field(
        description="For one event; at least 1.", default=None
    )
    max_points_per_day: Points | None = strawberry.field(
        description="Per member and calendar day, by this rule; at least 1.", default=None
    )
    frequency: FrequencyInput | None = strawberry.field(
        description="How often the rule pays one member.", default=None
    )
    cooldown_minutes: int | None = strawberry.field(
        description="How long the rule waits before it pays the same member again; 1 to 527,040.",
        default=None,
    )
    max_times_per_member: int | None = strawberry.field(
        description="How often the rule ever pays one member; for referrals, how many friends. 1 to"
        " 1,000,000.",
        default=None,
    )
    budget: Points | None = strawberry.field(
        description="Points that the rule may give to all members together, those that it gave already"
        " included; at least 1.",
        default=None,
    )

    def value(self) -> rules.RuleLimits:
        """Return the limits that were sent."""
        sent = changes(self)
        frequency: FrequencyInput | None = sent.pop("frequency")
        return rules.RuleLimits(
            frequency=None if frequency is None else rules.Frequency(frequency.times, frequency.per), **sent
        )


@strawberry.input(
    description="A rule. In an update, what is left out stays as it is, and null clears what can be empty;"
    " an object takes the place of the whole old one."
)
class EarningRuleInput:
    name: str = strawberry.field(description="1 to 200 characters.")
    description: str | None = strawberry.field(
        description="At most 2,000 characters.", default=strawberry.UNSET
    )
    status: RuleStatus | None = strawberry.field(
        description="ACTIVE for a new rule that does not say.", default=strawberry.UNSET
    )
    trigger: EventKind = strawberry.field(description="The kind of event that it pays for; it cannot change.")
    action: str | None = strawberry.field(
        description="For ACTION rules, which need it: REGISTRATION, PROFILE_COMPLETED, BIRTHDAY, ANNIVERSARY,"
        " or a name of your own (quiz, review, social_share) of 1 to 100 characters.",
        default=strawberry.UNSET,
    )
    points_per_amount: PointsPerAmountInput | None = strawberry.field(
        description="For PURCHASE rules: points for every so much spent, on the sum of the lines that match."
        " A PURCHASE rule has this, fixedPoints or a multiplier.",
        default=strawberry.UNSET,
    )
    fixed_points: Points | None = strawberry.field(
        description="So many for each event, at least 1; of a REFERRAL rule, for the referrer.",
        default=strawberry.UNSET,
    )
    multiplier: Decimal | None = strawberry.field(
        description="For PURCHASE rules: a factor on the points that the matching lines earn by"
        " pointsPerAmount of other rules; more than 0, at most 1,000.",
        default=strawberry.UNSET,
    )
    referred_points: Points | None = strawberry.field(
        description="For REFERRAL rules: what the new member receives, at least 1. fixedPoints goes to the"
        " referrer.",
        default=strawberry.UNSET,
    )
    referral_trigger: ReferralTrigger | None = strawberry.field(
        description="For REFERRAL rules, which need it: what the friend has to do.", default=strawberry.UNSET
    )
    minimum_amount: Decimal | None = strawberry.field(
        description="What a purchase must come to at least; with a product filter, the lines that match.",
        default=strawberry.UNSET,
    )
    products: ProductFilterInput | None = strawberry.field(
        description="For PURCHASE rules: the goods that it is about; null or empty for all of them.",
        default=strawberry.UNSET,
    )
    audience: AudienceInput | None = strawberry.field(
        description="Whom it is meant for; null or empty for everybody.", default=strawberry.UNSET
    )
    stacking: RuleStacking | None = strawberry.field(
        description="How it goes together with other rules for purchases; null for the default: REPLACE with"
        " pointsPerAmount and a product filter, else ADD.",
        default=strawberry.UNSET,
    )
    limits: RuleLimitsInput | None = strawberry.field(
        description="What keeps it from giving too much; null for no limits.", default=strawberry.UNSET
    )
    pending_days: int | None = strawberry.field(
        description="Days that its points wait before they can be spent, 0 to 3,650; null for the program's.",
        default=strawberry.UNSET,
    )
    expiry: ExpiryPolicyInput | None = strawberry.field(
        description="When its points expire; null for the program's policy. INACTIVITY_MONTHS is for the"
        " program alone.",
        default=strawberry.UNSET,
    )
    tier_multiplier_applies: bool | None = strawberry.field(
        description="Whether the factor of the member's tier applies; null for the default: to purchases.",
        default=strawberry.UNSET,
    )
    campaign_multiplier_applies: bool | None = strawberry.field(
        description="Whether factors of campaigns apply; null for the default: they do.",
        default=strawberry.UNSET,
    )
    starts_at: datetime | None = strawberry.field(
        description="It pays for what happens from then on.", default=strawberry.UNSET
    )
    ends_at: datetime | None = strawberry.field(
        description="It pays for what happens before; in the future, when it is set.",
        default=strawberry.UNSET,
    )
    priority: int | None = strawberry.field(
        description="Of rules among which one wins, the highest does; and where limits leave little, higher"
        " ones are served first. 0 for a new rule without.",
        default=strawberry.UNSET,
    )

    def value(self) -> dict[str, Any]:
        """Return what was sent, as services take it.

        Raises:
            Refused: something is null that can only be left out.
        """
        sent = changes(self)
        if nulls := [name for name in ("status", "priority") if name in sent and sent[name] is None]:
            message = "It can be left out, but not be null."
            raise Refused([Wrong(ErrorCode.INVALID, message, (name,)) for name in nulls])
        for name in ("points_per_amount", "products", "audience", "limits", "expiry"):
            if sent.get(name) is not None:
                sent[name] = sent[name].value()
        if "limits" in sent and sent["limits"] is None:
            sent["limits"] = rules.RuleLimits()
        return sent


@object_type(description="The rule as it is now.", access=INHERITED)
class EarningRulePayload:
    earning_rule: EarningRule | None = strawberry.field(
        description="Null when nothing was done.", default=None
    )
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="")
class RuleMutations:
    @resolver(
        description="Sets up a rule, version 1. Where a rule says the same in everything already, its status"
        " included, none is made: that rule is the answer, so that a call can be repeated.",
        scope=Scope.RULES_WRITE,
    )
    async def create_earning_rule(
        self, info: Info, input: Annotated[EarningRuleInput, strawberry.argument(description="The rule.")]
    ) -> EarningRulePayload:
        try:
            sent = input.value()
            status = sent.pop("status", RuleStatus.ACTIVE)
            rule = await rule_service.create_rule(program_of(info), RuleDefinition(**sent), status)
        except Refused as refused:
            return EarningRulePayload(user_errors=user_errors(refused.errors))
        return EarningRulePayload(earning_rule=EarningRule.of(rule), user_errors=[])

    @resolver(
        description="Changes a rule, which makes a new version. What has been earned stays.",
        scope=Scope.RULES_WRITE,
    )
    async def update_earning_rule(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The rule's id.")],
        input: Annotated[EarningRuleInput, strawberry.argument(description="The changes.")],
    ) -> EarningRulePayload:
        try:
            rule = await rule_service.update_rule(program_of(info), key_of(id, "EarningRule"), input.value())
        except Refused as refused:
            return EarningRulePayload(user_errors=user_errors(refused.errors))
        return EarningRulePayload(earning_rule=EarningRule.of(rule), user_errors=[])

    @resolver(
        description="Activates, pauses or archives a rule, which makes a new version.",
        scope=Scope.RULES_WRITE,
    )
    async def set_earning_rule_status(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The rule's id.")],
        status: Annotated[
            RuleStatus, strawberry.argument(description="What it is to be; ARCHIVED is for good.")
        ],
    ) -> EarningRulePayload:
        try:
            rule = await rule_service.set_rule_status(program_of(info), key_of(id, "EarningRule"), status)
        except Refused as refused:
            return EarningRulePayload(user_errors=user_errors(refused.errors))
        return EarningRulePayload(earning_rule=EarningRule.of(rule), user_errors=[])
