"""A shop with a program: members buy and give back, with little to write."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

from app.database import connection
from app.earning.events import Event, Incoming
from app.earning.recording import record_now, store
from app.earning.refunding import EventRef, Item, refund_purchase, return_items
from app.earning.refunds import Refund, Refunded
from app.earning.remainders import Wish
from app.earning.rules import Rule
from app.errors import Refused
from app.ledger.operations import EntryKind, Status
from app.ledger.reads import get_balances
from app.members.reads import MemberRow
from app.programs.models import Program
from tests.helpers import (
    Line,
    by_id,
    earn_all,
    find_differences,
    new_member,
    new_program,
    new_rule,
    policy_of,
    post,
    purchase,
)

_serial = count(1)


def line(amount: str, sku: str | None = None, quantity: str = "1", **fields: Any) -> Line:
    """Return a line of a purchase, of goods that nobody else sells unless they have a name."""
    return Line(sku or f"sku-{next(_serial)}", Decimal(amount), Decimal(quantity), **fields)


def part(number: int, quantity: str = "1", amount: str | None = None) -> Wish:
    """Return a part of a line that is to be refunded."""
    return Wish(number, Decimal(quantity), None if amount is None else Decimal(amount))


def at(day: int, hour: int = 12, minute: int = 0) -> datetime:
    """Return a time in March 2026 (UTC)."""
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


@dataclass
class Shop:
    """A program, and what is done in it."""

    program: Program

    @classmethod
    async def open(cls, **settings: Any) -> "Shop":
        """Open a shop where members may owe a lot, unless told otherwise."""
        return cls(await new_program(**({"debt_limit": 1_000_000} | settings)))

    async def rule(self, *args: Any, **fields: Any) -> Rule:
        return await new_rule(self.program, *args, **fields)

    async def member(self) -> MemberRow:
        return await new_member(self.program)

    async def buy(
        self,
        member: MemberRow,
        *lines: Line | str,
        total: str | None = None,
        at: datetime | None = None,
        later: bool = False,
        redemption: UUID | None = None,
        **fields: Any,
    ) -> Event:
        """Record a purchase: lines, given as amounts where nothing else matters, or a total without lines.

        Args:
            later: leave it to a worker.
            redemption: what paid for a part of it.
        """
        bought = [line(each) if isinstance(each, str) else each for each in lines]
        content = purchase(total, lines=bought or None, occurred_at=at, **fields)
        record = store if later else record_now
        (recorded,) = await record(
            self.program.id, [Incoming(content, by_id(member), redemption_id=redemption)]
        )
        assert recorded.event, recorded.errors
        return recorded.event

    async def refund(self, event: Event, *parts: Wish, name: str | None = None, **fields: Any) -> Refunded:
        """Refund parts of a purchase, an amount, or all that is left, under a name that nobody used."""
        if "amount" in fields:
            fields["amount"] = Decimal(fields["amount"])
        return await refund_purchase(
            self.program.id,
            EventRef(id=event.id),
            name or f"refund-{next(_serial)}",
            lines=list(parts) or None,
            **fields,
        )

    async def back(self, event: Event, *parts: Wish, **fields: Any) -> Refund:
        """Do what `refund` does, and return the one refund that came of it."""
        (refund,) = (await self.refund(event, *parts, **fields)).refunds
        return refund

    async def refused(self, event: Event, *parts: Wish, **fields: Any) -> list[tuple[str, ...]]:
        """Try what `refund` does, see that nothing was written, and return what is wrong: code, field."""
        before = await self.books()
        try:
            await self.refund(event, *parts, **fields)
        except Refused as refused:
            assert await self.books() == before
            return [(error.code, *(error.field or ())) for error in refused.errors]
        raise AssertionError("it was not refused")

    async def returned(
        self, member: MemberRow, *items: tuple[str, str], name: str | None = None, at: datetime | None = None
    ) -> Refunded:
        """Take back goods without a receipt, given as SKU and quantity."""
        goods = [Item(sku, Decimal(quantity), Decimal(1)) for sku, quantity in items]
        name = name or f"return-{next(_serial)}"
        return await return_items(self.program.id, by_id(member), name, goods, occurred_at=at)

    async def balance(self, member: MemberRow) -> tuple[int, int]:
        """Return what a member has, pending points included, and owes."""
        (found,) = await get_balances(await policy_of(self.program), [member.id])
        assert found
        return max(0, found.available) + found.pending, max(0, -found.available)

    async def net(self, *members: MemberRow) -> list[int]:
        """Return what members have, less what they owe."""
        return [has - owes for has, owes in [await self.balance(member) for member in members]]

    async def spend(self, member: MemberRow, points: int) -> None:
        outcome = await post(self.program, member, EntryKind.REDEEM, points)
        assert outcome.status is Status.APPLIED

    async def spent(self, rule: Rule) -> int:
        """Return what a rule has given out of its budget."""
        async with connection() as sql:
            return await sql.fetchval("SELECT spent FROM earning_budget WHERE rule_id = $1", rule.id)

    async def work(self) -> None:
        """Do what workers do: earn everything that waits."""
        await earn_all(self.program)

    async def verify(self) -> None:
        """Assert that the books are sound."""
        assert not await find_differences(self.program.id)

    async def books(self) -> Sequence[Any]:
        """Return everything that a refund could write."""
        found = []
        async with connection() as sql:
            for table, scope in _WRITTEN.items():
                rows = await sql.fetch(
                    f"SELECT x::text FROM {table} x WHERE {scope} ORDER BY 1", self.program.id
                )
                found.append([row[0] for row in rows])
        return found


_ACCOUNTS = "IN (SELECT id FROM account WHERE program_id = $1)"
_EVENTS = "IN (SELECT id FROM event WHERE program_id = $1)"
_WRITTEN = {
    "account": "program_id = $1",
    "ledger_entry": f"account_id {_ACCOUNTS}",
    "lot": f"account_id {_ACCOUNTS}",
    "award": f"event_id {_EVENTS}",
    "earning_counter": f"member_id {_ACCOUNTS}",
    "earning_budget": "rule_id IN (SELECT id FROM earning_rule WHERE program_id = $1)",
    "refund_request": "program_id = $1",
    "refund": "program_id = $1",
    "refund_award": f"event_id {_EVENTS}",
    "redemption": "program_id = $1",
    "reward_stock": "reward_id IN (SELECT id FROM reward WHERE program_id = $1)",
}
