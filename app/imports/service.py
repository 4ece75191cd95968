"""Importing purchases and returns: a file's orders go where told ones go, and take effect at once.

Each member's orders are recorded in the order in which they happened, those of the same time in the
order of the file. A return takes back of purchases that happened before it, not of those at the very
same time. An import can be stopped at any moment and run again: what is there already is recognised by
its id.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from uuid import UUID

from app.database import connection
from app.earning.events import Incoming
from app.earning.recording import record_now
from app.earning.refunding import Item, return_items
from app.errors import ErrorCode, Refused, UserError
from app.imports.order_of_work import lanes, steps
from app.imports.purchases import Order
from app.imports.summary import Summary
from app.members.inputs import NewMember
from app.members.reads import MemberRef
from app.members.service import enroll_members

_POINTS = """
SELECT coalesce(sum(o.points), 0)::bigint, count(o.rejection)
FROM event e JOIN event_outcome o ON o.event_id = e.id
WHERE e.program_id = $1 AND e.external_id = ANY($2::text[])
"""


def _reason(errors: Iterable[UserError]) -> str:
    return " ".join(error.message for error in errors)


class _Lane:
    """Some members' orders on their way in, one step after the other."""

    def __init__(
        self, program_id: UUID, enroll: bool, summary: Summary, advance: Callable[[int], object]
    ) -> None:
        self._program_id = program_id
        self._enroll = enroll
        self._summary = summary
        self._advance = advance
        self._known: set[str] = set()
        self._strangers: dict[str, str] = {}
        """Why members could not be enrolled, by their id; they are tried again with their next orders."""

    async def work_through(self, orders: Sequence[Order]) -> None:
        for step in steps(orders):
            if self._enroll:
                await self._enroll_members(step.orders)
            if step.purchases:
                await self._record(step.purchases)
                self._advance(len(step.purchases))
            for order in step.returns:
                await self._take_back(order)
                self._advance(1)

    async def _enroll_members(self, orders: Sequence[Order]) -> None:
        """Enrol the members of orders whom nobody has seen yet, as of their first order."""
        self._strangers = {}
        first: dict[str, NewMember] = {}
        for order in orders:
            if order.member_id not in self._known:
                first.setdefault(
                    order.member_id, NewMember(external_id=order.member_id, joined_at=order.occurred_at)
                )
        if not first:
            return
        results = await enroll_members(self._program_id, list(first.values()))
        for name, result in zip(first, results, strict=True):
            if result.member is None:
                self._strangers[name] = f"The member cannot be enrolled: {_reason(result.errors)}"
            else:
                self._known.add(name)
                self._summary.enrolled += not result.replayed

    async def _record(self, orders: Sequence[Order]) -> None:
        incoming = [Incoming(order, MemberRef(external_id=order.member_id)) for order in orders]
        for order, result in zip(orders, await record_now(self._program_id, incoming), strict=True):
            if result.event is None:
                self._refuse(order, result.errors)
            else:
                self._summary.add_purchase(order, result)

    async def _take_back(self, order: Order) -> None:
        items = [Item(line.sku, line.quantity or Decimal(1), line.amount) for line in order.lines]
        member = MemberRef(external_id=order.member_id)
        try:
            result = await return_items(
                self._program_id, member, order.external_id, items, occurred_at=order.occurred_at
            )
        except Refused as refused:
            self._refuse(order, refused.errors)
        else:
            self._summary.add_return(order, result)

    def _refuse(self, order: Order, errors: Sequence[UserError]) -> None:
        reason = _reason(errors)
        if all(error.code is ErrorCode.NOT_FOUND for error in errors):
            reason = self._strangers.get(order.member_id, reason)
        self._summary.refuse(order, reason)


async def _points(program_id: UUID, orders: Sequence[Order], summary: Summary) -> None:
    names = [
        order.external_id for order in orders if not order.is_return and order.rows[0] not in summary.refused
    ]
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
    """Record orders as purchases and returns, and have all of their points earned and taken back.

    Args:
        orders: in the order in which they happened.
        enroll: enrol members who are not there yet, as of their first order.
        advance: is told how many more orders are done.

    Raises:
        Unavailable: the database stayed away; what is recorded stays, and the import can be run again.
    """
    summary = Summary()
    tasks = [
        asyncio.create_task(_Lane(program_id, enroll, summary, advance).work_through(lane))
        for lane in lanes(orders)
    ]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await _points(program_id, orders, summary)
    return summary
