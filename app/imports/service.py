"""Importing purchases: the orders of a file go where recorded events go, and are earned at once.

An import can be stopped at any moment and run again: what is there already is recognised by its id.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID
from zlib import crc32

from app.database import connection
from app.earning.events import Incoming
from app.earning.recording import Recorded, record_now
from app.errors import ErrorCode, UserError
from app.imports.purchases import Order
from app.members.inputs import NewMember
from app.members.reads import MemberRef
from app.members.service import enroll_members

_CHUNK_ORDERS = 500
_CHUNK_LINES = 10_000
_LANES = 3
"""Transactions at once: while PostgreSQL works on one, the next is being prepared."""

_POINTS = """
SELECT coalesce(sum(o.points), 0)::bigint, count(o.rejection)
FROM event e JOIN event_outcome o ON o.event_id = e.id
WHERE e.program_id = $1 AND e.external_id = ANY($2::text[])
"""


@dataclass
class Summary:
    """What an import came to. Orders that were there before count as known, not as imported."""

    orders: int = 0
    known_orders: int = 0
    lines: int = 0
    amount: Decimal = Decimal(0)
    enrolled: int = 0
    members: set[str] = field(default_factory=set, repr=False)
    points: int = 0
    rejected_by_rules: int = 0
    refused: dict[int, str] = field(default_factory=dict, repr=False)
    """Why the rows of orders that were turned away were, by number of row."""


def _lanes(orders: Sequence[Order]) -> list[list[Order]]:
    """Share orders out so that no member is in two lanes: neither waits for the other's accounts."""
    lanes: list[list[Order]] = [[] for _ in range(_LANES)]
    for order in orders:
        lanes[crc32(order.member_id.encode()) % _LANES].append(order)
    return lanes


def _chunks(orders: Sequence[Order]) -> Iterator[list[Order]]:
    chunk: list[Order] = []
    lines = 0
    for order in orders:
        if chunk and (len(chunk) == _CHUNK_ORDERS or lines + len(order.lines) > _CHUNK_LINES):
            yield chunk
            chunk, lines = [], 0
        chunk.append(order)
        lines += len(order.lines)
    if chunk:
        yield chunk


def _reason(errors: Iterable[UserError]) -> str:
    return " ".join(error.message for error in errors)


async def _enroll(
    program_id: UUID, orders: Sequence[Order], known: set[str], summary: Summary
) -> dict[str, str]:
    """Enrol the members of orders whom nobody has seen yet, as of their first order.

    Returns:
        Why members could not be enrolled, by their id; they are tried again with their next orders.
    """
    first: dict[str, NewMember] = {}
    for order in orders:
        if order.member_id not in known:
            first.setdefault(
                order.member_id, NewMember(external_id=order.member_id, joined_at=order.occurred_at)
            )
    if not first:
        return {}
    strangers: dict[str, str] = {}
    results = await enroll_members(program_id, list(first.values()))
    for name, result in zip(first, results, strict=True):
        if result.member is None:
            strangers[name] = f"The member cannot be enrolled: {_reason(result.errors)}"
        else:
            known.add(name)
            summary.enrolled += not result.replayed
    return strangers


def _count(summary: Summary, order: Order, result: Recorded, strangers: Mapping[str, str]) -> None:
    if result.event is None:
        reason = _reason(result.errors)
        if all(error.code is ErrorCode.NOT_FOUND for error in result.errors):
            reason = strangers.get(order.member_id, reason)
        summary.refused |= dict.fromkeys(order.rows, reason)
        return
    summary.members.add(order.member_id)
    if result.replayed:
        summary.known_orders += 1
    else:
        summary.orders += 1
        summary.lines += len(order.lines)
        summary.amount += result.event.amount or 0


async def _points(program_id: UUID, orders: Sequence[Order], summary: Summary) -> None:
    names = [order.external_id for order in orders if order.rows[0] not in summary.refused]
    async with connection() as sql:
        for start in range(0, len(names), 5000):
            row = await sql.fetchrow(_POINTS, program_id, names[start : start + 5000])
            summary.points += row[0]
            summary.rejected_by_rules += row[1]


async def import_purchases(
    program_id: UUID,
    orders: Sequence[Order],
    *,
    enroll: bool = False,
    advance: Callable[[int], object] = lambda count: None,
) -> Summary:
    """Record orders as purchases, in the order given, and have all of their points earned.

    Args:
        orders: in the order in which they happened.
        enroll: enrol members who are not there yet, as of their first order.
        advance: is told how many more orders are done.

    Returns:
        What it came to. `points` are those of all orders of the file that are in the books.

    Raises:
        Unavailable: the database stayed away; what is recorded stays, and the import can be run again.
    """
    summary = Summary()

    async def work_through(lane: Sequence[Order]) -> None:
        known: set[str] = set()
        for chunk in _chunks(lane):
            strangers = await _enroll(program_id, chunk, known, summary) if enroll else {}
            incoming = [Incoming(order, MemberRef(external_id=order.member_id)) for order in chunk]
            for order, result in zip(chunk, await record_now(program_id, incoming), strict=True):
                _count(summary, order, result, strangers)
            advance(len(chunk))

    lanes = [asyncio.create_task(work_through(lane)) for lane in _lanes(orders)]
    try:
        await asyncio.gather(*lanes)
    finally:
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
    await _points(program_id, orders, summary)
    return summary
