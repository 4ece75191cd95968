"""Points payments for tests: points spent on money off an order, written straight into the books."""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import asyncpg

from app.database import connection, transaction
from app.ids import new_id
from app.ledger.operations import EntryKind, Status
from app.members.reads import MemberRow
from app.programs.models import Program
from tests.helpers import post

_REWARD = """
INSERT INTO reward (id, program_id, version, kind, status, name, search, points, points_per_currency_unit,
    generate_codes, tier_ids, created_at, updated_at)
VALUES ($1, $2, 1, $3, 'ACTIVE', 'Money off', 'money off', $4, $5, false, '{}', $6, $6)
"""

_OWN = """
UPDATE ledger_entry SET source = 'redemption', source_id = $3 WHERE account_id = $1 AND sequence = $2
RETURNING occurred_at
"""

_REDEMPTION = """
INSERT INTO redemption (id, program_id, member_id, reward_id, reward_name, status, quantity, points, rate,
    amount, order_amount, reserve_entry, redeem_entry, reserved_until, confirmed_at, ended_at, source,
    created_at, updated_at)
VALUES ($1, $2, $3, $4, 'Money off', $5, 1, $6, $14, $7, $7, $8, $9, $10, $11, $12, 'test', $13, $13)
"""


@dataclass(frozen=True)
class Paid:
    """A redemption that was made, and the reward that it is of."""

    id: UUID
    reward_id: UUID

    async def row(self) -> asyncpg.Record:
        """Return the redemption as it is now, with the pieces of its reward that are taken."""
        async with connection() as sql:
            return await sql.fetchrow(
                "SELECT r.*, s.taken FROM redemption r JOIN reward_stock s ON s.reward_id = r.reward_id"
                " WHERE r.id = $1",
                self.id,
            )

    async def state(self) -> tuple[str, int, int]:
        """Return its status, the points that were restored, and the pieces of its reward that are taken."""
        row = await self.row()
        return row["status"], row["restored"], row["taken"]


async def pay(
    program: Program,
    member: MemberRow,
    points: int,
    amount: str | Decimal,
    *,
    status: str = "CONFIRMED",
    kind: str = "DISCOUNT",
) -> Paid:
    """Spend points that the member has on money off an order, as redeeming does."""
    reserved = status in ("RESERVED", "EXPIRED")
    outcome = await post(program, member, EntryKind.RESERVE if reserved else EntryKind.REDEEM, points)
    assert outcome.status is Status.APPLIED
    paid = Paid(new_id(), new_id())
    money = kind == "DISCOUNT"
    rate = (points / Decimal(amount) if Decimal(amount) else 1) if money else None
    async with transaction() as sql:
        now = await sql.fetchval(_OWN, member.id, outcome.sequence, paid.id)
        await sql.execute(
            _REWARD, paid.reward_id, program.id, kind, None if money else points, 100 if money else None, now
        )
        await sql.execute(
            "INSERT INTO reward_stock (reward_id, version, taken) VALUES ($1, 1, 1)", paid.reward_id
        )
        await sql.execute(
            _REDEMPTION, paid.id, program.id, member.id, paid.reward_id, status, points, Decimal(amount),
            outcome.sequence if reserved else None, None if reserved else outcome.sequence,
            now if reserved else None, None if reserved else now,
            now if status in ("CANCELLED", "EXPIRED") else None, now, rate,
        )  # fmt: skip
    return paid


async def set_status(paid: Paid, status: str) -> None:
    """Change the status of a redemption behind everybody's back."""
    async with connection() as sql:
        await sql.execute(
            "UPDATE redemption SET status = $2, ended_at = CASE WHEN $2 = 'CANCELLED' THEN updated_at END"
            " WHERE id = $1",
            paid.id,
            status,
        )
