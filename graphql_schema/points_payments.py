"""What points are worth at the checkout."""

from decimal import Decimal
from typing import Annotated

import strawberry

from app.access.scopes import Scope
from app.redemptions import quotes
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.catalog import Reward
from graphql_schema.errors import UserError, user_errors
from graphql_schema.inputs import MemberRef
from graphql_schema.nodes import Info, program_of
from graphql_schema.scalars import Points


@object_type(
    description="The most of an order that a member can pay with points, with one reward. Redeeming just that"
    " is accepted as long as nothing happens in between.",
    access=INHERITED,
)
class PointsPaymentQuote:
    points: Points = strawberry.field(description="Points to spend; 0 when nothing can be paid with points.")
    amount: Decimal = strawberry.field(
        description="What they take off the order, in the program's currency: rounded up, in the member's"
        " favour, and never more than the order or the share of it that the reward allows."
    )
    reward: Reward | None = strawberry.field(
        description="The DISCOUNT to redeem for that: the one that takes the most off, then the one that"
        " costs the fewest points, then the oldest. Null when there is none.",
        default=None,
    )
    user_errors: list[UserError] = strawberry.field(
        description="What is wrong with the question, or keeps the member from redeeming anything."
    )


@object_type(description="")
class PointsPaymentQueries:
    @resolver(
        description="What points are worth at the checkout: the most that may be paid with points on this"
        " order, of all rewards of the kind DISCOUNT that the member could redeem now. A member's token asks"
        " for that member and finds nobody else.",
        scope=(Scope.REDEMPTIONS_READ, Scope.REDEMPTIONS_WRITE),
        member=True,
    )
    async def quote_points_payment(
        self,
        info: Info,
        member: Annotated[MemberRef, strawberry.argument(description="Who pays.")],
        order_amount: Annotated[
            Decimal,
            strawberry.argument(
                description="What the order comes to, in the program's currency: 0 to 1,000,000,000,000, with"
                " at most 6 decimals."
            ),
        ],
    ) -> PointsPaymentQuote:
        caller = info.context.principal.member_id
        found = await quotes.quote(program_of(info), member.value(), order_amount, caller=caller)
        return PointsPaymentQuote(
            points=Points(found.points),
            amount=found.amount,
            reward=None if found.reward is None else Reward.of(found.reward, found.member_id),
            user_errors=user_errors(found.errors),
        )
