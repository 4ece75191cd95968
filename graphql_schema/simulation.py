"""What an event would earn, without recording it."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.earning import simulation
from app.errors import Refused
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.earning import AwardStep, RuleOutcome, rule_of
from graphql_schema.errors import UserError, user_errors
from graphql_schema.nodes import Info, program_of
from graphql_schema.recording import EventInput
from graphql_schema.rules import EarningRule
from graphql_schema.scalars import Points


@object_type(description="What one rule would give, with the arithmetic that leads to it.", access=INHERITED)
class SimulatedAward:
    desired: Points = strawberry.field(description="Before limits.")
    points: Points = strawberry.field(description="What it would come to.")
    available_at: datetime = strawberry.field(description="From when on the points could be spent.")
    expires_at: datetime | None = strawberry.field(
        description="The last second at which they could be spent; null where that is not fixed."
    )
    steps: list[AwardStep] = strawberry.field(description="The receipt, in the order of the calculation.")
    rule_id: strawberry.Private[UUID]

    @classmethod
    def of(cls, simulated: simulation.SimulatedAward) -> "SimulatedAward":
        """Return an award as the API gives it."""
        award = simulated.award
        return cls(
            desired=Points(award.desired),
            points=Points(award.points),
            available_at=simulated.available_at,
            expires_at=simulated.expires_at,
            steps=[AwardStep.of(step) for step in award.steps],
            rule_id=award.rule_id,
        )

    @resolver(description="The rule that would give it.")
    async def rule(self, info: Info) -> EarningRule:
        return await rule_of(info.context, self.rule_id)


@object_type(description="What an event would earn if it were recorded now.", access=INHERITED)
class Simulation:
    points: Points = strawberry.field(description="The points of all awards, pending ones included.")
    awards: list[SimulatedAward] = strawberry.field(
        description="What the rules would give, the largest first."
    )
    explanation: list[RuleOutcome] = strawberry.field(
        description="Every rule for events of its kind that is not archived, and why it would pay or would"
        " not: the highest priority first, then the oldest."
    )
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right: what recording the event would answer with."
    )

    @classmethod
    def of(cls, simulated: simulation.Simulation) -> "Simulation":
        """Return a simulation as the API gives it."""
        return cls(
            points=Points(simulated.points),
            awards=[SimulatedAward.of(each) for each in simulated.awards],
            explanation=[RuleOutcome.of(outcome) for outcome in simulated.outcomes],
            user_errors=[],
        )


@object_type(description="")
class SimulationQueries:
    @resolver(
        description="What an event would earn if it were recorded now; nothing is written. Limits count what"
        " has been earned up to now. Whether the event was recorded before does not matter, and processing"
        " plays no part. It takes the actions that Laurel records by itself, too: BIRTHDAY shows what a"
        " birthday would give.",
        scope=(Scope.RULES_READ, Scope.EVENTS_WRITE),
    )
    async def simulate(
        self, info: Info, input: Annotated[EventInput, strawberry.argument(description="The event.")]
    ) -> Simulation:
        kind, event = input.one()
        try:
            return Simulation.of(await simulation.simulate(program_of(info), event.value()))
        except Refused as refused:
            errors = user_errors(refused.errors, kind)
            return Simulation(points=Points(0), awards=[], explanation=[], user_errors=errors)
