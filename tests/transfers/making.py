"""Transfers between members, and what becomes of their program's points."""

from datetime import date
from uuid import UUID

import asyncpg

from app.database import connection
from app.errors import Refused
from app.ids import new_id
from app.members.reads import MemberRow
from app.members.service import update_member
from app.programs.models import Program
from app.transfers.sending import Sending, Sent, send
from tests.helpers import by_id

MARCH, APRIL, MAY = date(2026, 3, 31), date(2026, 4, 30), date(2026, 5, 31)

_TOTAL = """
SELECT (SELECT sum(available + pending + reserved + lifetime_expired) FROM account WHERE program_id = $1)
    + (SELECT coalesce(sum(CASE status WHEN 'IN_TRANSIT' THEN points ELSE expired END), 0)
        FROM transfer WHERE program_id = $1)
"""


async def sent(
    program: Program, sender: MemberRow, receiver: MemberRow, points: int, key: str | None = None
) -> Sent:
    """Send points under a key of their own, unless told otherwise."""
    return await send(program.id, Sending(by_id(sender), by_id(receiver), points, key or new_id().hex))


async def refused(program: Program, sending: Sending) -> list[tuple[str, tuple[str, ...] | None]]:
    """Send what is refused, and return the codes and fields of the errors."""
    try:
        await send(program.id, sending)
    except Refused as error:
        return [(str(each.code), each.field) for each in error.errors]
    raise AssertionError("it was sent")


async def set_status(program: Program, member: MemberRow, status: str) -> None:
    """Suspend a member, close the membership, or make it active again."""
    await update_member(program.id, by_id(member), {"status": status})


async def transfers(program: Program) -> list[tuple[str, int, int]]:
    """Return a program's transfers, oldest first: the status, the points, and how many expired on the way."""
    rows = await _rows(
        "SELECT status, points, expired FROM transfer WHERE program_id = $1 ORDER BY id", program.id
    )
    return [tuple(row) for row in rows]


async def entries(member: MemberRow) -> list[tuple[str, int, str | None]]:
    """Return a member's entries: the kind, the change of what is available, and the reason."""
    rows = await _rows(
        "SELECT kind, available_change, reason FROM ledger_entry WHERE account_id = $1 ORDER BY sequence",
        member.id,
    )
    return [tuple(row) for row in rows]


async def lots(member: MemberRow) -> dict[date, int]:
    """Return what a member can spend, by the last day of that."""
    rows = await _rows(
        "SELECT expires_on, sum(remaining)::bigint FROM lot WHERE account_id = $1 AND open AND NOT pending"
        " GROUP BY 1",
        member.id,
    )
    return dict(tuple(row) for row in rows)


async def messages(program: Program, topic: str) -> list[tuple[UUID, dict[str, object]]]:
    """Return a program's messages about something, oldest first: whose they are, and what they say."""
    rows = await _rows(
        "SELECT member_id, payload FROM message WHERE program_id = $1 AND topic = $2 ORDER BY n",
        program.id,
        topic,
    )
    return [tuple(row) for row in rows]


async def total(program: Program) -> int:
    """Return all points of a program: what members have or had until it expired, and what is in transit."""
    ((points,),) = await _rows(_TOTAL, program.id)
    return int(points)


async def _rows(statement: str, *args: object) -> list[asyncpg.Record]:
    async with connection() as sql:
        return list(await sql.fetch(statement, *args))
