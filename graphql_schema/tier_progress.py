"""How far a member has come towards the next tier."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import strawberry

from app.money import trim
from app.tiers import progress
from graphql_schema.access import INHERITED, object_type
from graphql_schema.context import Context
from graphql_schema.tiers import Tier


@object_type(description="How far a member has come.", access=INHERITED)
class TierProgress:
    current: Tier | None = strawberry.field(
        description="The tier that the member has; null where everybody starts without one."
    )
    next: Tier | None = strawberry.field(description="The tier above; null when there is none.")
    qualifying: Decimal = strawberry.field(
        description="What counts towards tiers so far, by the program's basis and within its window."
    )
    missing: Decimal | None = strawberry.field(
        description="What is missing for the next tier; null when there is none."
    )
    keeps_until: datetime | None = strawberry.field(
        description="Until when the current tier is certain, whatever happens but refunds: the first moment"
        " at which it may be lost, grace included. Null when that never comes, and where everybody starts."
    )

    @classmethod
    def of(cls, found: progress.Progress) -> "TierProgress":
        """Return progress as the API gives it."""
        return cls(
            current=None if found.current is None else Tier.of(found.current),
            next=None if found.next is None else Tier.of(found.next),
            qualifying=trim(found.qualifying),
            missing=None if found.missing is None else trim(found.missing),
            keeps_until=found.keeps_until,
        )


async def load_progress(context: Context, keys: list[UUID]) -> list[TierProgress]:
    """Load how far members whom the caller may read have come; all of them together."""
    assert context.principal.program_id
    found = await progress.get_progress(context.principal.program_id, keys)
    return [TierProgress.of(each) for each in found]
