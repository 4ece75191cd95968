"""By what a program's members reach tiers, and when they lose them again."""

import strawberry

from app.tiers import policy
from app.tiers.policy import TierBasis, TierDowngrade, TierWindow
from graphql_schema.access import INHERITED, object_type
from graphql_schema.enums import enum_type

enum_type(
    TierBasis,
    description="What counts towards tiers. What was refunded does not.",
    values={
        "POINTS_EARNED": "Points that events have earned, pending ones included. Spending them changes"
        " nothing; adjustments and transfers do not count.",
        "AMOUNT_SPENT": "What purchases came to, without what was paid with points unless the program lets"
        " points payments earn.",
        "PURCHASES": "Purchases of which something is left, whatever they came to.",
    },
)
enum_type(
    TierWindow,
    description="How long it counts; days, months and years are those of the program's zone.",
    values={
        "LIFETIME": "For good.",
        "ROLLING_MONTHS": "So many months: up to the same day of that later month.",
        "CALENDAR_YEAR": "To the end of the year in which it happened.",
    },
)
enum_type(
    TierDowngrade,
    description="What happens to whoever does not qualify any more, once the window has run out and the days"
    " of grace are over. A refund counts as if that much had never been bought: what was reached by it alone"
    " is lost at once.",
    values={
        "NEVER": "Nothing: a tier that was reached is kept, even if what earned it is refunded.",
        "ONE_STEP": "The next lower tier, and the next one after another window and its grace.",
        "TO_QUALIFIED": "The tier that the member still qualifies for.",
    },
)


@object_type(
    description="By what members reach tiers, at once, and when they lose them again. A threshold or a policy"
    " that changes lifts whoever qualifies by it within moments; a threshold that is raised demotes nobody"
    " before the end of their term.",
    access=INHERITED,
)
class TierPolicy:
    basis: TierBasis = strawberry.field(description="What counts.")
    window: TierWindow = strawberry.field(description="How long it counts.")
    months: int | None = strawberry.field(description="For ROLLING_MONTHS: how many.")
    downgrade: TierDowngrade = strawberry.field(description="What happens to who does not qualify any more.")
    grace_days: int = strawberry.field(description="So many days it happens later.")


@strawberry.input(description="By what members reach tiers, and when they lose them again.")
class TierPolicyInput:
    basis: TierBasis | None = strawberry.field(description="What counts.", default=TierBasis.POINTS_EARNED)
    window: TierWindow | None = strawberry.field(
        description="How long it counts.", default=TierWindow.LIFETIME
    )
    months: int | None = strawberry.field(
        description="How many, 1 to 120, for ROLLING_MONTHS and nothing else.", default=None
    )
    downgrade: TierDowngrade | None = strawberry.field(
        description="What happens to who does not qualify any more.", default=TierDowngrade.TO_QUALIFIED
    )
    grace_days: int | None = strawberry.field(
        description="So many days it happens later; 0 to 3,650.", default=0
    )

    def value(self) -> policy.TierPolicy:
        """Return the policy that was sent; null stands for the default."""
        return policy.TierPolicy(
            self.basis or TierBasis.POINTS_EARNED,
            self.window or TierWindow.LIFETIME,
            self.months,
            self.downgrade or TierDowngrade.TO_QUALIFIED,
            self.grace_days or 0,
        )
