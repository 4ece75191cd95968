"""Releasing reservations that ran out, by schedule; whoever reads or redeems does it for themselves."""

import asyncio
from collections.abc import Collection, Iterable
from time import monotonic
from uuid import UUID

import structlog

from app import clock
from app.database import connection
from app.redemptions.expiring import release
from app.redemptions.redemptions import COLUMNS, Redemption, redemption_from_row

log = structlog.get_logger("laurel.sweep")

_SWEEP_SECONDS = 1.0
_BATCH = 200
_PUT_OFF_SECONDS = 60.0

_DUE = f"""
SELECT {COLUMNS} FROM redemption /* scoped by: worker */
WHERE status = 'RESERVED' AND reserved_until <= $1 AND id <> ALL($2::uuid[])
ORDER BY reserved_until, id LIMIT {_BATCH}
"""  # noqa: S608 - nothing but constants

_LEFT = """
SELECT id FROM redemption /* scoped by: worker */
WHERE id = ANY($1::uuid[]) AND status = 'RESERVED' AND reserved_until <= $2
"""


class Sweeper:
    """Releases what ran out; what cannot be released is tried again a minute later, and holds up nobody."""

    def __init__(self, put_off_seconds: float = _PUT_OFF_SECONDS) -> None:
        self._put_off_seconds = put_off_seconds
        self._put_off: dict[UUID, float] = {}

    async def sweep(self) -> int:
        """Release every reservation that ran out, in every program; return how many that were.

        One statement by an index where nothing is due. Safe to run twice, and on any number of workers
        at once. Of an account whose books disagree the reservations stay, and the log says so.

        Raises:
            Unavailable: the database is away or busy.
        """
        now = monotonic()
        self._put_off = {each: again for each, again in self._put_off.items() if again > now}
        total = 0
        while due := await _find_due(self._put_off):
            for program_id, redemptions in _by_program(due).items():
                released = await release(program_id, redemptions)
                total += released
                if released < len(redemptions):
                    # Most of them another worker has released meanwhile; what is left nobody can.
                    for each in await _still_due(redemptions):
                        self._put_off[each] = monotonic() + self._put_off_seconds
        return total


async def _find_due(put_off: Collection[UUID]) -> list[Redemption]:
    async with connection() as sql:
        rows = await sql.fetch(_DUE, clock.now(), list(put_off))
    return [redemption_from_row(row) for row in rows]


async def _still_due(redemptions: Iterable[Redemption]) -> list[UUID]:
    async with connection() as sql:
        rows = await sql.fetch(_LEFT, [each.id for each in redemptions], clock.now())
    return [row["id"] for row in rows]


def _by_program(redemptions: Iterable[Redemption]) -> dict[UUID, list[Redemption]]:
    programs: dict[UUID, list[Redemption]] = {}
    for each in redemptions:
        programs.setdefault(each.program_id, []).append(each)
    return programs


async def sweep_forever() -> None:
    """Release what ran out every second, until cancelled."""
    sweeper = Sweeper()
    while True:
        count = await sweeper.sweep()
        if count:
            log.info("reservations_expired", reservations=count)
        await asyncio.sleep(_SWEEP_SECONDS)
