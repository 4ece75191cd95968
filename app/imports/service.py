"""Importing purchases: the orders of a file go where recorded events go, and are earned at once.

An import can be stopped at any moment and run again: what is there already is recognised by its id.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID
from zlib import crc32

from app import clock
from app.database import connection
from app.earning.processing import earn_batch
from app.earning.recording import Recorded, store
from app.errors import Unavailable, UserError
from app.imports.purchases import Order, Reject
from app.members.inputs import NewMember
from app.members.reads import MemberRef
from app.members.service import enroll_members
from app.outbox import service as outbox
from app.outbox.service import Queue

_CHUNK_ORDERS = 1000
_CHUNK_LINES = 20_000
_LANES = 2
_PATIENCE_SECONDS = 120.0

_WAITING = "SELECT count(*), coalesce(sum(items), 0) FROM outbox WHERE program_id = $1 AND queue = $2"

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
    rejects: list[Reject] = field(default_factory=list, repr=False)
    reasons: Counter[str] = field(default_factory=Counter)
    """How many orders were turned away, by reason."""


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


def _lanes(chunk: Sequence[Order]) -> list[list[Order]]:
    """Share a chunk out so that no member is in two lanes: their batches are earned at the same time
    without waiting for each other's accounts."""
    lanes: list[list[Order]] = [[] for _ in range(_LANES)]
    for order in chunk:
        lanes[crc32(order.member_id.encode()) % _LANES].append(order)
    return [lane for lane in lanes if lane]


async def _enroll(program_id: UUID, orders: Sequence[Order], known: set[str]) -> int:
    """Enrol the members of orders whom nobody has seen yet, as of their first order; return how many."""
    first: dict[str, NewMember] = {}
    for order in orders:
        if order.member_id not in known:
            first.setdefault(
                order.member_id, NewMember(external_id=order.member_id, joined_at=order.occurred_at)
            )
    if not first:
        return 0
    results = await enroll_members(program_id, list(first.values()))
    known.update(first)
    return sum(1 for result in results if result.member is not None and not result.replayed)


def _why(errors: Sequence[UserError]) -> str:
    return " ".join(error.message for error in errors)


def _count(summary: Summary, order: Order, result: Recorded) -> None:
    if result.event is None:
        reason = _why(result.errors)
        summary.reasons[", ".join(sorted({error.code for error in result.errors}))] += 1
        summary.rejects += [Reject(number, row, reason) for number, row in order.rows]
        return
    summary.members.add(order.member_id)
    if result.replayed:
        summary.known_orders += 1
    else:
        summary.orders += 1
        summary.lines += len(order.lines)
        summary.amount += result.event.amount or 0


async def _earn(stored: asyncio.Event) -> None:
    """Do what workers do, beside those that run, until everything is stored and taken."""
    while True:
        done = stored.is_set()
        batches = await outbox.stamp(Queue.EARNING, clock.now())
        for batch in batches:
            await earn_batch(batch)
        if not batches:
            if done:
                return
            await asyncio.sleep(0.02)


async def _wait_until_earned(program_id: UUID) -> None:
    """Wait for batches that workers have taken; take over from one that died.

    Raises:
        Unavailable: nothing moved for two minutes.
    """
    last, since = None, time.monotonic()
    while True:
        async with connection() as sql:
            row = await sql.fetchrow(_WAITING, program_id, Queue.EARNING)
        if not row[0]:
            return
        if tuple(row) != last:
            last, since = tuple(row), time.monotonic()
        elif time.monotonic() - since > _PATIENCE_SECONDS:
            raise Unavailable(
                "Everything is stored, but some of it is not being earned: see the log of the workers."
            )
        await outbox.take_back(Queue.EARNING, clock.now())
        for batch in await outbox.stamp(Queue.EARNING, clock.now()):
            await earn_batch(batch)
        await asyncio.sleep(0.05)


async def _points(program_id: UUID, orders: Sequence[Order], summary: Summary) -> None:
    turned_away = {number for number, _, _ in summary.rejects}
    names = [order.external_id for order in orders if order.rows[0][0] not in turned_away]
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
        Unavailable: the database stayed away; what is stored is earned by workers, and the import
            can be run again.
    """
    summary = Summary()
    known: set[str] = set()
    stored = asyncio.Event()
    earning = [asyncio.create_task(_earn(stored)) for _ in range(_LANES)]
    try:
        for chunk in _chunks(orders):
            if enroll:
                summary.enrolled += await _enroll(program_id, chunk, known)
            for lane in _lanes(chunk):
                results = await store(
                    program_id, [(order, MemberRef(external_id=order.member_id)) for order in lane]
                )
                for order, result in zip(lane, results, strict=True):
                    _count(summary, order, result)
                advance(len(lane))
            for task in earning:
                if task.done():
                    task.result()
        stored.set()
        await asyncio.gather(*earning)
    finally:
        for task in earning:
            task.cancel()
    await _wait_until_earned(program_id)
    await _points(program_id, orders, summary)
    return summary
