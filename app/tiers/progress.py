"""How far members have come: what counts, what is missing for the next tier, how long theirs is certain."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from app import clock
from app.database import connection
from app.tiers.history import in_force, kept_until
from app.tiers.standings import load_ground, read_climbs, read_histories
from app.tiers.tiers import Tier


class Progress(NamedTuple):
    """A member's present tier, the one after it, what counts so far, and what is missing.

    `missing` is None where there is no higher tier; `keeps_until` is the first moment at which the present
    tier is not certain, None where that never comes.
    """

    current: Tier | None
    next: Tier | None
    qualifying: Decimal
    missing: Decimal | None
    keeps_until: datetime | None


async def get_progress(program_id: UUID, members: Sequence[UUID]) -> list[Progress]:
    """Return how far members have come, in the order of the ids; four statements, however many members.

    Raises:
        Refused: there is no such program.
        Unavailable: the database is away or busy.
    """
    now = clock.now()
    async with connection() as sql:
        ground = await load_ground(sql, program_id)
        histories, _ = await read_histories(sql, ground, members)
        climbs = await read_climbs(sql, ground, members, now)
    found = []
    for member in members:
        history, own = histories[member], climbs[member]
        rank = in_force(history, now).rank
        higher = ground.tiers_by_rank.get(rank + 1)
        missing = None if higher is None else max(Decimal(0), higher.threshold - own.qualifying)
        keeps = kept_until(history, own, now) if rank else None
        # What is over and not noticed yet is not certain any more, from now on.
        keeps = keeps and max(keeps, now)
        found.append(Progress(ground.tier(rank), higher, own.qualifying, missing, keeps))
    return found
