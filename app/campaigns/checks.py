"""What is wrong with what a campaign names."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from app.campaigns.audience import MAX_IDS, Audience
from app.errors import ErrorCode, UserError

_TIERS = "SELECT id FROM tier WHERE program_id = $1 AND id = ANY($2::uuid[])"
_STORES = "SELECT id FROM store WHERE program_id = $1 AND id = ANY($2::uuid[])"


async def check_audience(sql: asyncpg.Connection, program_id: UUID, audience: Audience) -> list[UserError]:
    """Return everything that is wrong with an audience: too many ids, or such as the program does not have.

    Fields are ("audience", "tier_ids", "0") and ("audience", "store_ids", "0"), by the place of the id.
    """
    return [
        *await _check(sql, program_id, _TIERS, audience.tiers, "tier"),
        *await _check(sql, program_id, _STORES, audience.stores, "store"),
    ]


async def _check(
    sql: asyncpg.Connection, program_id: UUID, statement: str, ids: Sequence[UUID], what: str
) -> list[UserError]:
    field = ("audience", f"{what}_ids")
    if len(ids) > MAX_IDS:
        return [UserError(ErrorCode.INVALID, f"An audience names at most {MAX_IDS} {what}s.", field)]
    if not ids:
        return []
    there = {row["id"] for row in await sql.fetch(statement, program_id, ids)}
    return [
        UserError(ErrorCode.NOT_FOUND, f"There is no such {what}.", (*field, str(n)))
        for n, each in enumerate(ids)
        if each not in there
    ]
