"""Redemptions, read as they stand: whoever shows them releases first what ran out (`release_due`)."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from app.catalog.codes import open_codes
from app.catalog.vault import Vault
from app.database import connection
from app.paging import Page, PageResult, keyset, page_result
from app.redemptions.redemptions import COLUMNS, Redemption, RedemptionStatus, redemption_from_row

_BY_IDS = f"SELECT {COLUMNS} FROM redemption WHERE program_id = $1 AND id = ANY($2::uuid[])"  # noqa: S608

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
    """Return redemptions, as `find_redemptions` does."""
    async with connection() as sql:
        return await find_redemptions(sql, program_id, redemption_ids)


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
    async with connection() as sql:
        rows = await sql.fetch(statement, program_id, status, *keys.args)
    return page_result([redemption_from_row(row) for row in rows], page)


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
    async with connection() as sql:
        rows = await sql.fetch(statement, program_id, list(member_ids), status, *keys.args)
    owned: dict[UUID, list[Redemption]] = {member_id: [] for member_id in member_ids}
    for row in rows:
        owned[row["member_id"]].append(redemption_from_row(row))
    return [page_result(owned[member_id], page) for member_id in member_ids]


async def get_codes(program_id: UUID, redemption_ids: Sequence[UUID], vault: Vault) -> list[list[str]]:
    """Return the codes of redemptions, in the order of the ids; whoever asks may see them."""
    async with connection() as sql:
        codes = await open_codes(sql, vault, program_id, redemption_ids)
    return [codes[each] for each in redemption_ids]
