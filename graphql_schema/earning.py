"""What rules gave for an event, with the receipts, and why each paid or did not."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.earning import explain, reads
from app.earning.outcomes import Reason, Step, StepKind
from app.ids import to_global_id
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.enums import enum_type
from graphql_schema.nodes import Info, Node
from graphql_schema.rules import EarningRule, load_rules, visible
from graphql_schema.scalars import Points

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
enum_type(
    Reason,
    name="RuleOutcomeReason",
    description="Why a rule paid for an event, or did not.",
    values={
        "PAID": "It gave points, or multiplied those of others.",
        "NOT_ACTIVE": "It was a draft, or paused.",
        "NOT_STARTED": "The event happened before its window.",
        "ENDED": "The event happened after its window.",
        "OTHER_ACTION": "It is for another action; of a referral, for something else that the friend"
        " does, or for the other side.",
        "BELOW_MINIMUM": "The amount did not reach its minimum.",
        "NO_MATCHING_PRODUCT": "Nothing that it is about was bought.",
        "NOT_IN_AUDIENCE": "It is for other tiers or other stores.",
        "REPLACED": "Another rule paid, or multiplied, instead.",
        "FREQUENCY_REACHED": "It had paid the member as often as it does in one period.",
        "COOLING_DOWN": "It had paid the member too short a time ago.",
        "MEMBER_LIMIT_REACHED": "It had paid the member as often as it ever does.",
        "DAY_LIMIT_REACHED": "Nothing was left for the day: of its own limit, or of the program's.",
        "BUDGET_SPENT": "Nothing of its budget was left.",
        "ROUNDED_TO_ZERO": "It came to less than one point, or there was nothing to multiply.",
    },
)


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
        return await rule_of(info.context, self.rule_id)


@object_type(description="What became of one rule for one event.", access=INHERITED)
class RuleOutcome:
    rule_version: int = strawberry.field(description="The version of the rule that decided.")
    paid: bool = strawberry.field(description="Whether it gave points, or multiplied those of others.")
    reason: Reason = strawberry.field(description="Why, as a code for your software.")
    message: str = strawberry.field(description="Why, for people: a sentence, or two.")
    points: Points = strawberry.field(
        description="What it gave; 0 for a multiplier: what it added is in the points of the other rules."
    )
    rule_id: strawberry.Private[UUID]

    @classmethod
    def of(cls, outcome: explain.RuleOutcome) -> "RuleOutcome":
        """Return an outcome as the API gives it."""
        return cls(
            rule_version=outcome.rule_version,
            paid=outcome.paid,
            reason=outcome.reason,
            message=outcome.message,
            points=Points(outcome.points),
            rule_id=outcome.rule_id,
        )

    @resolver(description="The rule, as it is now.")
    async def rule(self, info: Info) -> EarningRule:
        return await rule_of(info.context, self.rule_id)


async def rule_of(context: Context, rule_id: UUID) -> EarningRule:
    """Return the rule behind an award or an outcome that the caller may read, as it is now."""
    rule = await context.loader(load_rules).load(rule_id)
    assert rule, "rules are never deleted"
    return rule


async def load_awards(context: Context, keys: list[UUID]) -> list[list[Award]]:
    """Load the awards of events that the caller may read."""
    assert context.principal.program_id
    found = await reads.get_awards(context.principal.program_id, keys)
    return [[Award.of(record) for record in records] for records in found]


async def load_explanations(context: Context, keys: list[UUID]) -> list[list[RuleOutcome]]:
    """Load what became of each rule for events that the caller may read.

    For a member's token only the rules that it may see: those that are active and have started, and
    those that paid.
    """
    assert context.principal.program_id
    found = await reads.get_explanations(context.principal.program_id, keys)
    explanations = [[RuleOutcome.of(outcome) for outcome in outcomes] for outcomes in found]
    if context.principal.member_id is None:
        return explanations
    idle = list({each.rule_id for outcomes in explanations for each in outcomes if not each.paid})
    rules = dict(zip(idle, await context.loader(load_rules).load_many(idle), strict=True))
    return [
        [each for each in outcomes if each.paid or visible(context, rules[each.rule_id])]
        for outcomes in explanations
    ]
