"""What the paid rewards of a month are billed at."""

from datetime import date
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.redemptions import statements
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.catalog import Reward, load_rewards
from graphql_schema.nodes import Info, program_of


@object_type(description="One paid reward at one face value, in one month.", access=INHERITED)
class RewardStatementLine:
    name: str = strawberry.field(
        description="The reward's name, as it was when the last of these redemptions was asked for."
    )
    redeemed: int = strawberry.field(description="Pieces that were confirmed in the month.")
    credited: int = strawberry.field(
        description="Pieces that were cancelled in the month, whenever they had been confirmed."
    )
    count: int = strawberry.field(
        description="Pieces that are billed: redeemed less credited. Below zero where more were cancelled."
    )
    face_value: Decimal = strawberry.field(
        description="What one piece is billed at, in the program's currency: the face value that the reward"
        " had when it was redeemed."
    )
    total: Decimal = strawberry.field(description="The count times the face value.")
    reward_id: strawberry.Private[UUID]

    @classmethod
    def of(cls, line: statements.Line) -> "RewardStatementLine":
        """Return a line as the API gives it."""
        return cls(
            name=line.name,
            redeemed=line.redeemed,
            credited=line.credited,
            count=line.count,
            face_value=line.face_value,
            total=line.total,
            reward_id=line.reward_id,
        )

    @resolver(description="The reward, as it is now.", access=INHERITED)
    async def reward(self, info: Info) -> Reward:
        reward = await info.context.loader(load_rewards).load(self.reward_id)
        assert reward, "rewards are never deleted"
        return reward


@object_type(
    description="What the paid rewards of one month are billed at: those with a face value, each piece in the"
    " month in which it was confirmed.",
    access=INHERITED,
)
class RewardStatement:
    month: date = strawberry.field(description="The first day of the month.")
    lines: list[RewardStatementLine] = strawberry.field(
        description="One for each reward and face value, by name, then face value."
    )
    total: Decimal = strawberry.field(description="All lines together, in the program's currency.")
    closed: bool = strawberry.field(
        description="Whether it stays as it is: true from a minute after the end of the month on."
    )


@object_type(description="")
class StatementQueries:
    @resolver(
        description="What the paid rewards of one month of the program's calendar are billed at. A"
        " reservation counts in the month in which it was captured; what is cancelled is a credit in the"
        " month of the cancellation, so that a month that is closed never changes.",
        scope=(Scope.REDEMPTIONS_READ, Scope.REDEMPTIONS_WRITE, Scope.CATALOG_READ),
    )
    async def reward_statement(
        self,
        info: Info,
        month: Annotated[
            date,
            strawberry.argument(description="Any day of the month, between the years 1970 and 9000."),
        ],
    ) -> RewardStatement:
        found = await statements.statement(program_of(info), month)
        return RewardStatement(
            month=found.month,
            lines=[RewardStatementLine.of(line) for line in found.lines],
            total=found.total,
            closed=found.closed,
        )
