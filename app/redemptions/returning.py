"""Giving back what redemptions had taken: points, stock, and codes that nobody has seen."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from app.catalog.stock import Returned, give_back
from app.ids import key_id
from app.ledger.operations import EntryKind, Operation
from app.ledger.service import post, terms
from app.messages.leaving import leave
from app.programs.policy import ProgramPolicy
from app.redemptions.redemptions import Redemption, RedemptionStatus
from app.redemptions.telling import told_of

# Codes of a reservation were never shown: they go back to their pool. What was shown stays where it is, void.
_FREE = """
WITH dropped AS ( /* scoped by: redemption */
    DELETE FROM reward_code WHERE redemption_id = ANY($1::uuid[]) AND made
)
UPDATE reward_code SET redemption_id = NULL WHERE redemption_id = ANY($1::uuid[]) AND NOT made
RETURNING reward_id
"""

_END = """
UPDATE redemption d SET status = $2, ended_at = $3, updated_at = $3, reason = $4, /* scoped by: redemption */
    restored = CASE WHEN confirmed_at IS NULL THEN 0 ELSE points END
WHERE d.id = ANY($1::uuid[])
"""


async def end(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    redemptions: Sequence[Redemption],
    status: RedemptionStatus,
    reason: str | None,
    now: datetime,
) -> list[Redemption]:
    """Cancel redemptions, or let reservations expire; return them as they are then.

    Points go back to the lots that they came from, with the expiry that they had; what would have expired
    meanwhile comes back expired. Of points that a refund gave back already only the rest goes back.

    Args:
        sql: a connection inside a transaction that holds the members' accounts, and no reward.
        redemptions: of one program, RESERVED or CONFIRMED, as they are under that lock.
    """
    operations = [_operation(each, reason, now) for each in redemptions if each.restored < each.points]
    await post(sql, terms(policy, now), operations)
    reserved = [each.id for each in redemptions if each.confirmed_at is None]
    codes: dict[UUID, int] = {}
    if reserved:
        for row in await sql.fetch(_FREE, reserved):
            codes[row["reward_id"]] = codes.get(row["reward_id"], 0) + 1
    returned: dict[UUID, Returned] = {}
    for each in redemptions:
        so_far = returned.get(each.reward_id, Returned(0, codes.get(each.reward_id, 0)))
        returned[each.reward_id] = so_far._replace(pieces=so_far.pieces + each.quantity)
    await sql.execute(_END, [each.id for each in redemptions], status, now, reason)
    await give_back(sql, returned)
    ended = [
        each.but(
            status=status,
            ended_at=now,
            updated_at=now,
            reason=reason,
            restored=0 if each.confirmed_at is None else each.points,
        )
        for each in redemptions
    ]
    await leave(sql, policy.program_id, [told_of(each) for each in ended], now)
    return ended


def _operation(redemption: Redemption, reason: str | None, now: datetime) -> Operation:
    left = redemption.points - redemption.restored
    reference = redemption.redeem_entry if redemption.redeem_entry is not None else redemption.reserve_entry
    return Operation(
        account_id=redemption.member_id,
        kind=EntryKind.RESTORE,
        amount=left,
        key=key_id("redemption", redemption.id, "end"),
        request_hash=left,
        occurred_at=now,
        reference=reference,
        source="redemption",
        source_id=redemption.id,
        reason=reason or redemption.reward_name,
    )
