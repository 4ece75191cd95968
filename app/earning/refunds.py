"""Refunds as they are kept, read."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from app.database import connection
from app.earning.remainders import LineBack

STILL_COUNTED = """
(a.remaining + CASE WHEN a.remaining = a.points THEN 0 ELSE (
    SELECT coalesce(sum(m.written_off), 0)::bigint FROM refund_award m /* scoped by: event */
    WHERE m.event_id = a.event_id AND m.rule_id = a.rule_id) END)
"""
"""Of an `award a`: what was not taken back. What a refund had to write off is the member's still."""

_COLUMNS = """
r.id, r.event_id, q.external_id, q.occurred_at, r.amount, r.lines, r.whole, r.points, r.debt, r.written_off,
r.restored_points
"""
_TABLES = "refund r JOIN refund_request q ON q.id = r.request_id /* scoped by: event */"

_OF_EVENTS = f"""
SELECT {_COLUMNS} FROM {_TABLES} WHERE r.program_id = $1 AND r.event_id = ANY($2::uuid[])
ORDER BY q.recorded_at, r.id
"""  # noqa: S608 - nothing but constants

_BY_IDS = f"SELECT {_COLUMNS} FROM {_TABLES} WHERE r.program_id = $1 AND r.id = ANY($2::uuid[])"  # noqa: S608

_OF_REQUEST = f"""
SELECT {_COLUMNS} FROM {_TABLES} WHERE r.program_id = $1 AND r.request_id = $2 ORDER BY r.id
"""  # noqa: S608 - nothing but constants

_REQUEST = """
SELECT id, member_id, request_hash, unmatched FROM refund_request WHERE program_id = $1 AND external_id = $2
"""


class Refund(NamedTuple):
    """What was given back of one purchase.

    Attributes:
        points: taken back, pending ones included, and less those that were given again.
        debt: the part of them that the member had spent, and now owes.
        written_off: what could be neither taken nor owed.
        restored_points: of the points payment, given back to the member.
    """

    id: UUID
    event_id: UUID
    external_id: str
    occurred_at: datetime
    amount: Decimal
    lines: tuple[LineBack, ...]
    whole: bool
    points: int
    debt: int
    written_off: int
    restored_points: int


class Unmatched(msgspec.Struct, frozen=True):
    """Goods that came back, and that no purchase of the member's was found for."""

    sku: str
    quantity: Decimal


class Refunded(NamedTuple):
    """What became of a refund, or of a return, which may be of several purchases."""

    member_id: UUID
    refunds: list[Refund] = []  # noqa: RUF012 - replaced, never changed
    unmatched: list[Unmatched] = []  # noqa: RUF012
    replayed: bool = False


class Known(NamedTuple):
    """A refund that was recorded before: the hash of its content, and what became of it."""

    hash: int
    refunded: Refunded


def _refund(row: asyncpg.Record) -> Refund:
    values = dict(row)
    return Refund(**{**values, "lines": tuple(msgspec.convert(values["lines"], list[LineBack]))})


async def refunds_of(
    sql: asyncpg.Connection, program_id: UUID, event_ids: Sequence[UUID]
) -> list[list[Refund]]:
    """Return the refunds of each purchase, the first to be recorded first, in the order of the ids given."""
    refunds: dict[UUID, list[Refund]] = {event_id: [] for event_id in event_ids}
    for row in await sql.fetch(_OF_EVENTS, program_id, list(event_ids)):
        refunds[row["event_id"]].append(_refund(row))
    return [refunds[event_id] for event_id in event_ids]


async def list_refunds(program_id: UUID, event_ids: Sequence[UUID]) -> list[list[Refund]]:
    """Return the refunds of each purchase, as `refunds_of` does."""
    async with connection() as sql:
        return await refunds_of(sql, program_id, event_ids)


async def get_refunds(program_id: UUID, refund_ids: Sequence[UUID]) -> list[Refund | None]:
    """Return refunds in the order of the ids given; None where the program has none."""
    async with connection() as sql:
        rows = await sql.fetch(_BY_IDS, program_id, list(refund_ids))
    refunds = {row["id"]: _refund(row) for row in rows}
    return [refunds.get(refund_id) for refund_id in refund_ids]


async def load_request(sql: asyncpg.Connection, program_id: UUID, external_id: str) -> Known | None:
    """Return what became of a refund that was recorded under an id; None when there was none."""
    row = await sql.fetchrow(_REQUEST, program_id, external_id)
    if row is None:
        return None
    refunds = [_refund(each) for each in await sql.fetch(_OF_REQUEST, program_id, row["id"])]
    unmatched = msgspec.convert(row["unmatched"], list[Unmatched])
    return Known(row["request_hash"], Refunded(row["member_id"], refunds, unmatched, True))
