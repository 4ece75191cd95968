"""How far members have come: what counts, what is missing for the next tier, how long theirs is certain."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from app import clock
from app.database import connection
from app.tiers.history import Given, in_force
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
        row, own = in_force(histories[member], now), climbs[member]
        current = ground.tier(row.rank)
        higher = ground.tiers_by_rank.get(row.rank + 1)
        missing = None if higher is None else max(Decimal(0), higher.threshold - own.qualifying)
        keeps = own.keeps_until if row.automatic else row.until
        found.append(Progress(current, higher, own.qualifying, missing, _kept(row, keeps, now)))
    return found


def _kept(row: Given, until: datetime | None, now: datetime) -> datetime | None:
    # What is over and not noticed yet is not certain any more, from now on.
    return None if row.rank == 0 or until is None else max(until, now)
