"""Redemptions, read. Reservations that ran out are released first: none is shown that is over."""

from collections.abc import Collection, Sequence
from uuid import UUID

import asyncpg

from app import clock
from app.catalog.codes import open_codes
from app.catalog.vault import Vault
from app.database import connection
from app.paging import Page, PageResult, keyset, page_result
from app.redemptions.expiring import release
from app.redemptions.redemptions import COLUMNS, Redemption, RedemptionStatus, redemption_from_row

_BY_IDS = f"SELECT {COLUMNS} FROM redemption WHERE program_id = $1 AND id = ANY($2::uuid[])"  # noqa: S608

_ATTEMPTS = 5

SHOWN = frozenset({RedemptionStatus.CONFIRMED, RedemptionStatus.FULFILLED, RedemptionStatus.USED})
"""In these states the member sees the codes."""


async def find_redemptions(
    sql: asyncpg.Connection, program_id: UUID, redemption_ids: Sequence[UUID]
) -> list[Redemption | None]:
    """Return redemptions in the order of the ids given; None where the program has none.

    Args:
        sql: any connection; within a transaction it sees what that has written.
    """
    rows = await sql.fetch(_BY_IDS, program_id, list(redemption_ids))
    found = {row["id"]: redemption_from_row(row) for row in rows}
    return [found.get(each) for each in redemption_ids]


async def get_redemptions(program_id: UUID, redemption_ids: Sequence[UUID]) -> list[Redemption | None]:
    """Return redemptions as they are now, in the order of the ids given; None where there is none."""
    async with connection() as sql:
        found = await find_redemptions(sql, program_id, redemption_ids)
    if await _release(program_id, [each for each in found if each is not None]):
        async with connection() as sql:
            found = await find_redemptions(sql, program_id, redemption_ids)
    return found


async def list_redemptions(
    program_id: UUID, page: Page, status: RedemptionStatus | None = None
) -> PageResult[Redemption]:
    """Return a page of a program's redemptions, the latest first; its keys are (id,)."""
    keys = keyset(["id"], page=page, first_param=3, descending=True)
    statement = f"""
        SELECT {COLUMNS} FROM redemption
        WHERE program_id = $1 AND ($2::text IS NULL OR status = $2) AND {keys.where}
        ORDER BY {keys.order_by} LIMIT {keys.limit}
    """  # noqa: S608 - parts that are constants, values are parameters
    for attempt in range(_ATTEMPTS):
        async with connection() as sql:
            rows = await sql.fetch(statement, program_id, status, *keys.args)
        result = page_result([redemption_from_row(row) for row in rows], page)
        if attempt + 1 == _ATTEMPTS or not await _release(program_id, result.items):
            break
    return result


async def list_of_members(
    program_id: UUID, member_ids: Sequence[UUID], page: Page, status: RedemptionStatus | None = None
) -> list[PageResult[Redemption]]:
    """Return the same page of several members' redemptions, the latest first; its keys are (id,)."""
    keys = keyset(["d.id"], page=page, first_param=4, descending=True)
    columns = ", ".join(f"d.{name.strip()}" for name in COLUMNS.split(","))
    statement = f"""
        SELECT x.* FROM unnest($2::uuid[]) AS t(member_id) CROSS JOIN LATERAL (
            SELECT {columns} FROM redemption d
            WHERE d.program_id = $1 AND d.member_id = t.member_id AND ($3::text IS NULL OR d.status = $3)
                AND {keys.where}
            ORDER BY {keys.order_by} LIMIT {keys.limit}
        ) x
    """  # noqa: S608 - parts that are constants, values are parameters
    for attempt in range(_ATTEMPTS):
        async with connection() as sql:
            rows = await sql.fetch(statement, program_id, list(member_ids), status, *keys.args)
        found = [redemption_from_row(row) for row in rows]
        if attempt + 1 == _ATTEMPTS or not await _release(program_id, found):
            break
    owned: dict[UUID, list[Redemption]] = {member_id: [] for member_id in member_ids}
    for each in found:
        owned[each.member_id].append(each)
    return [page_result(owned[member_id], page) for member_id in member_ids]


async def _release(program_id: UUID, found: Collection[Redemption]) -> int:
    """Release those that ran out, and return how many that were."""
    now = clock.now()
    due = [each for each in found if each.has_run_out(now)]
    return await release(program_id, due) if due else 0


async def get_codes(program_id: UUID, redemption_ids: Sequence[UUID], vault: Vault) -> list[list[str]]:
    """Return the codes of redemptions, in the order of the ids; whoever asks may see them."""
    async with connection() as sql:
        codes = await open_codes(sql, vault, program_id, redemption_ids)
    return [codes[each] for each in redemption_ids]
