"""Earning rules, and the awards that they give, with their receipts."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.earning import reads, rule_service, rules
from app.earning.engine import Step, StepKind
from app.earning.rules import EventKind, RuleDefinition, RuleStatus
from app.errors import ErrorCode, Refused
from app.errors import UserError as Wrong
from app.ids import to_global_id
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.enums import enum_type
from graphql_schema.errors import UserError, user_errors
from graphql_schema.inputs import changes
from graphql_schema.nodes import Info, Node, finds, key_of, program_of
from graphql_schema.pagination import AFTER, BEFORE, FIRST, LAST, Connection, connection, page_of
from graphql_schema.scalars import Points

READ = (Scope.RULES_READ, Scope.RULES_WRITE)

enum_type(
    EventKind,
    description="What kind of thing a member did.",
    values={
        "PURCHASE": "Bought something.",
        "ACTION": "Did something that has a name: registered, played a quiz.",
        "CHECK_IN": "Was in a store, and scanned its code.",
        "REFERRAL": "Brought a friend.",
    },
)
enum_type(
    RuleStatus,
    description="Whether a rule pays.",
    values={
        "DRAFT": "Not yet.",
        "ACTIVE": "Yes, within its window.",
        "PAUSED": "Not now.",
        "ARCHIVED": "Never again; this is for good.",
    },
)
enum_type(
    StepKind,
    name="AwardStepKind",
    description="What a line of a receipt is about.",
    values={
        "BASE": "What the rule gives by itself.",
        "PRODUCT_MULTIPLIER": "A factor on certain goods.",
        "TIER_MULTIPLIER": "The factor of the member's tier.",
        "CAMPAIGN_MULTIPLIER": "The factor of a campaign.",
        "ROUNDING": "To whole points.",
        "TRANSACTION_LIMIT": "The rule's limit for one event.",
        "DAY_LIMIT": "The rule's limit for one day.",
        "MEMBER_LIMIT": "The rule's limit for one member.",
        "PROGRAM_DAY_LIMIT": "The program's limit for one day.",
        "BUDGET": "The rule's budget for all members.",
    },
)


@object_type(description="Points for every so much spent.", access=INHERITED)
class PointsPerAmount:
    points: Decimal = strawberry.field(description="So many points.")
    amount: Decimal = strawberry.field(description="For so much, in the program's currency.")


@object_type(
    description="What members earn points by. A member's token sees the rules that are active, and those"
    " that it was given points by.",
    scope=READ,
    member=True,
)
class EarningRule(Node):
    version: int = strawberry.field(
        description="Goes up by one with every change; awards keep the version that gave them."
    )
    name: str = strawberry.field(description="For people.")
    description: str | None = strawberry.field(description="For people.")
    status: RuleStatus = strawberry.field(description="Whether it pays.")
    trigger: EventKind = strawberry.field(description="The kind of event that it pays for.")
    points_per_amount: PointsPerAmount | None = strawberry.field(
        description="Points for every so much spent."
    )
    fixed_points: Points | None = strawberry.field(description="So many for each event.")
    minimum_amount: Decimal | None = strawberry.field(description="What a purchase must come to at least.")
    starts_at: datetime | None = strawberry.field(description="It pays for what happens from then on.")
    ends_at: datetime | None = strawberry.field(description="It pays for what happens before.")
    priority: int = strawberry.field(description="Higher ones are served first where limits leave little.")
    created_at: datetime = strawberry.field(description="When it was made.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")

    @classmethod
    def of(cls, rule: rules.Rule) -> "EarningRule":
        """Return a rule as the API gives it."""
        definition = rule.definition
        rate = definition.points_per_amount
        return cls(
            id=strawberry.ID(to_global_id("EarningRule", rule.id)),
            version=rule.version,
            name=definition.name,
            description=definition.description,
            status=rule.status,
            trigger=definition.trigger,
            points_per_amount=None
            if rate is None
            else PointsPerAmount(points=rate.points, amount=rate.amount),
            fixed_points=None if definition.fixed_points is None else Points(definition.fixed_points),
            minimum_amount=definition.minimum_amount,
            starts_at=definition.starts_at,
            ends_at=definition.ends_at,
            priority=definition.priority,
            created_at=rule.created_at,
            updated_at=rule.updated_at,
        )


async def load_rules(context: Context, keys: list[UUID]) -> list[EarningRule | None]:
    """Load rules of the caller's program."""
    assert context.principal.program_id
    found = await rule_service.get_rules(context.principal.program_id, keys)
    return [None if rule is None else EarningRule.of(rule) for rule in found]


def _visible(context: Context, rule: EarningRule | None) -> EarningRule | None:
    if rule is not None and context.principal.member_id is not None and rule.status is not RuleStatus.ACTIVE:
        return None
    return rule


@finds("EarningRule")
async def _find_rule(context: Context, key: UUID | str) -> EarningRule | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    return _visible(context, await context.loader(load_rules).load(key))


@object_type(description="One line of a receipt.", access=INHERITED)
class AwardStep:
    kind: StepKind = strawberry.field(description="What it is about.")
    label: str = strawberry.field(description='One readable line: "1 point per 1.00 EUR on 42.10 EUR".')
    factor: Decimal | None = strawberry.field(description="For multipliers.")
    before: Decimal = strawberry.field(description="Points before it, to six decimals.")
    after: Decimal = strawberry.field(description="Points after it, to six decimals.")

    @classmethod
    def of(cls, step: Step) -> "AwardStep":
        """Return a step as the API gives it."""
        return cls(kind=step.kind, label=step.label, factor=step.factor, before=step.before, after=step.after)


@object_type(
    description="What one rule gave for one event, with the arithmetic that led to it.",
    scope=(Scope.MEMBERS_READ, Scope.EVENTS_WRITE),
    member=True,
)
class Award(Node):
    rule_version: int = strawberry.field(description="The version of the rule that gave it.")
    desired: Points = strawberry.field(description="Before limits.")
    points: Points = strawberry.field(description="What it came to.")
    available_at: datetime = strawberry.field(description="From when on the points can be spent.")
    expires_at: datetime | None = strawberry.field(
        description="The last second at which they can be spent; null where that is not fixed."
    )
    steps: list[AwardStep] = strawberry.field(description="The receipt, in the order of the calculation.")
    rule_id: strawberry.Private[UUID]

    @classmethod
    def of(cls, record: reads.AwardRecord) -> "Award":
        """Return an award as the API gives it."""
        return cls(
            id=strawberry.ID(to_global_id("Award", f"{record.event_id.hex}:{record.rule_id.hex}")),
            rule_version=record.rule_version,
            desired=Points(record.desired),
            points=Points(record.points),
            available_at=record.available_at,
            expires_at=record.expires_at,
            steps=[AwardStep.of(step) for step in record.steps],
            rule_id=record.rule_id,
        )

    @resolver(description="The rule, as it is now.")
    async def rule(self, info: Info) -> EarningRule:
        rule = await info.context.loader(load_rules).load(self.rule_id)
        assert rule, "rules are never deleted"
        return rule


@strawberry.input(description="Points for every so much spent.")
class PointsPerAmountInput:
    points: Decimal = strawberry.field(description="So many points; more than 0.")
    amount: Decimal | None = strawberry.field(
        description="For so much, in the program's currency; at least 0.01.", default=Decimal(1)
    )


@strawberry.input(
    description="A rule. In an update, what is left out stays as it is, and null clears what can be empty."
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
    points_per_amount: PointsPerAmountInput | None = strawberry.field(
        description="Points for every so much spent; either this or fixedPoints.", default=strawberry.UNSET
    )
    fixed_points: Points | None = strawberry.field(
        description="So many for each event; either this or pointsPerAmount.", default=strawberry.UNSET
    )
    minimum_amount: Decimal | None = strawberry.field(
        description="What a purchase must come to at least.", default=strawberry.UNSET
    )
    starts_at: datetime | None = strawberry.field(
        description="It pays for what happens from then on.", default=strawberry.UNSET
    )
    ends_at: datetime | None = strawberry.field(
        description="It pays for what happens before.", default=strawberry.UNSET
    )
    priority: int | None = strawberry.field(
        description="Higher ones are served first where limits leave little; 0 for a new rule without.",
        default=strawberry.UNSET,
    )


@object_type(description="The rule as it is now.", access=INHERITED)
class EarningRulePayload:
    earning_rule: EarningRule | None = strawberry.field(
        description="Null when nothing was done.", default=None
    )
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


def _sent(input: EarningRuleInput) -> dict[str, Any]:
    """Return what was sent, as services take it."""
    sent = changes(input)
    rate = sent.get("points_per_amount")
    if rate is not None:
        amount = Decimal(1) if rate.amount is None else rate.amount
        sent["points_per_amount"] = rules.PointsPerAmount(rate.points, amount)
    nulls = [name for name in ("status", "priority") if name in sent and sent[name] is None]
    if nulls:
        raise Refused(
            [Wrong(ErrorCode.INVALID, "It can be left out, but not be null.", (name,)) for name in nulls]
        )
    return sent


@object_type(description="")
class EarningQueries:
    @resolver(description="A rule; null when there is none.", scope=READ, member=True)
    async def earning_rule(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The rule's id.")]
    ) -> EarningRule | None:
        return await _find_rule(info.context, key_of(id, "EarningRule"))

    @resolver(
        description="The program's rules, oldest first; for a member's token those that are active.",
        scope=READ,
        member=True,
    )
    async def earning_rules(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
        status: Annotated[RuleStatus | None, strawberry.argument(description="Only those in it.")] = None,
        trigger: Annotated[
            EventKind | None, strawberry.argument(description="Only those that pay for it.")
        ] = None,
    ) -> Connection[EarningRule]:
        page = page_of("earningRules", (UUID,), first=first, after=after, last=last, before=before)
        member = info.context.principal.member_id is not None
        statuses = set(RuleStatus) if status is None else {status}
        if member:
            statuses &= {RuleStatus.ACTIVE}
        result = await rule_service.list_rules(program_of(info), page, statuses, trigger)
        return connection("earningRules", result, EarningRule.of, lambda rule: (rule.id,))


@object_type(description="")
class EarningMutations:
    @resolver(description="Sets up a rule, version 1.", scope=Scope.RULES_WRITE)
    async def create_earning_rule(
        self, info: Info, input: Annotated[EarningRuleInput, strawberry.argument(description="The rule.")]
    ) -> EarningRulePayload:
        try:
            sent = _sent(input)
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
            rule = await rule_service.update_rule(program_of(info), key_of(id, "EarningRule"), _sent(input))
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
