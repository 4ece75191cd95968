"""What the paid rewards of a month are billed at."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app import clock
from app.database import connection
from app.days import start_of_day
from app.earning.periods import span
from app.earning.rules import Period
from app.errors import ErrorCode, refuse
from app.money import MINOR_DIGITS, trim
from app.programs.policies import load_policy

FIRST_YEAR, LAST_YEAR = 1970, 9000

_SETTLED = timedelta(seconds=60)
"""So long after its end nothing that belongs to a month can still be under way."""

# Only what was cancelled has both been confirmed and ended.
_PIECES = """
WITH moved AS (
    SELECT reward_id, face_value, reward_name, confirmed_at AS moved_at, quantity AS redeemed, 0 AS credited
    FROM redemption
    WHERE program_id = $1 AND face_value IS NOT NULL AND confirmed_at IS NOT NULL
        AND confirmed_at >= $2 AND confirmed_at < $3
    UNION ALL
    SELECT reward_id, face_value, reward_name, ended_at, 0, quantity
    FROM redemption
    WHERE program_id = $1 AND face_value IS NOT NULL AND confirmed_at IS NOT NULL AND ended_at IS NOT NULL
        AND ended_at >= $2 AND ended_at < $3
)
SELECT reward_id, face_value, reward_name, sum(redeemed) AS redeemed, sum(credited) AS credited,
    max(moved_at) AS last_at
FROM moved GROUP BY reward_id, face_value, reward_name ORDER BY last_at, reward_name
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One reward at one face value.

    Attributes:
        name: the reward's, as it was when the line's last redemption was asked for.
        face_value: of one piece, in the program's currency.
        redeemed: pieces that were confirmed in the month.
        credited: pieces that were cancelled in it, whenever they had been confirmed.
    """

    reward_id: UUID
    name: str
    face_value: Decimal
    redeemed: int
    credited: int

    @property
    def count(self) -> int:
        """Pieces that are billed; below zero where more were cancelled than confirmed."""
        return self.redeemed - self.credited

    @property
    def total(self) -> Decimal:
        """What they are billed at."""
        return self.count * self.face_value


class Statement(NamedTuple):
    """What the paid rewards of a month are billed at.

    Attributes:
        month: its first day.
        lines: by name, then face value; those whose counts cancel out are there, too.
        total: of all lines, with the digits of the currency at least.
        closed: whether nothing can change any more.
    """

    month: date
    lines: tuple[Line, ...]
    total: Decimal
    closed: bool


async def statement(program_id: UUID, month: date) -> Statement:
    """Return what a program's paid rewards are billed at for a month of its calendar.

    A redemption is billed by the face value that its reward had when it was asked for, in the month in
    which it was confirmed; a reservation in the month in which it was captured. What is cancelled later is
    a credit in the month of the cancellation.

    Args:
        month: any day of it.

    Raises:
        Refused: INVALID for `month`, outside of the years that there are, or NOT_FOUND for the program.
    """
    if not FIRST_YEAR <= month.year <= LAST_YEAR:
        message = f"Month must be between the years {FIRST_YEAR} and {LAST_YEAR}."
        raise refuse(ErrorCode.INVALID, message, "month")
    first, last = span(month, Period.MONTH)
    # The present is taken before anything is read: what is closed then has been read as it stays.
    now = clock.now()
    async with connection() as sql:
        policy = await load_policy(sql, program_id)
        since, until = (start_of_day(day, policy.zone) for day in (first, last + timedelta(days=1)))
        rows = await sql.fetch(_PIECES, program_id, since, until)
    digits = MINOR_DIGITS[policy.currency]
    lines = _lines(rows, digits)
    total = trim(sum((line.total for line in lines), Decimal(0)), digits)
    return Statement(first, lines, total, _is_closed(until, now))


def _is_closed(until: datetime, now: datetime) -> bool:
    return now >= until + _SETTLED


def _lines(rows: Iterable[asyncpg.Record], digits: int) -> tuple[Line, ...]:
    """Return the lines of pieces that are grouped by name as well, those with the latest name last."""
    lines: dict[tuple[UUID, Decimal], Line] = {}
    for row in rows:
        place = row["reward_id"], row["face_value"]
        before = lines.get(place)
        lines[place] = Line(
            row["reward_id"],
            row["reward_name"],
            trim(row["face_value"], digits),
            row["redeemed"] + (before.redeemed if before else 0),
            row["credited"] + (before.credited if before else 0),
        )
    return tuple(sorted(lines.values(), key=lambda line: (line.name, line.face_value, line.reward_id)))
