"""Referrals, as they are read: with the points that both sides have kept of them."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.database import connection
from app.earning.refunds import STILL_COUNTED
from app.paging import Page, PageResult, keyset, page_result
from app.referrals.records import referral_from_row
from app.referrals.referrals import COLUMNS, Referral, ReferralStatus

_POINTS = f"""
SELECT /* scoped by: member */
    coalesce(sum({STILL_COUNTED}) FILTER (WHERE a.event_id = c.referrer_event_id), 0)::bigint AS referrer,
    coalesce(sum({STILL_COUNTED}) FILTER (WHERE a.event_id = c.referred_event_id), 0)::bigint AS referred
FROM referral_credit c JOIN award a ON a.event_id IN (c.referrer_event_id, c.referred_event_id)
WHERE c.referral_id = r.id
"""  # noqa: S608 - nothing but constants
_FIELDS = ", ".join(f"r.{column}" for column in COLUMNS.split(", "))
_WITH_POINTS = f"""
SELECT {_FIELDS}, p.referrer, p.referred /* scoped by: member */
FROM referral r CROSS JOIN LATERAL ({_POINTS}) p
"""  # noqa: S608 - nothing but constants

_BY_IDS = f"{_WITH_POINTS} WHERE r.program_id = $1 AND r.id = ANY($2::uuid[])"

_REFERRERS = """
SELECT referred_id, referrer_id FROM referral
WHERE program_id = $1 AND referred_id = ANY($2::uuid[]) AND referrer_id <> referred_id
"""


class ReferralRead(NamedTuple):
    """A referral, and the points that it gave each side, pending ones included, less what was taken back."""

    referral: Referral
    referrer_points: int
    referred_points: int


def _read(row: asyncpg.Record) -> ReferralRead:
    *referral, referrer, referred = row
    return ReferralRead(referral_from_row(referral), referrer, referred)


async def get_referrals(program_id: UUID, referral_ids: Sequence[UUID]) -> list[ReferralRead | None]:
    """Return referrals in the order of the ids given; None where the program has none."""
    async with connection() as sql:
        rows = await sql.fetch(_BY_IDS, program_id, list(referral_ids))
    found = {row["id"]: _read(row) for row in rows}
    return [found.get(each) for each in referral_ids]


async def list_referrals(
    program_id: UUID, page: Page, status: ReferralStatus | None = None
) -> PageResult[ReferralRead]:
    """Return a page of a program's referrals, the latest first; its keys are (id,)."""
    keys = keyset(["r.id"], page=page, first_param=3, descending=True)
    statement = f"""
        {_WITH_POINTS} WHERE r.program_id = $1 AND ($2::text IS NULL OR r.status = $2) AND {keys.where}
        ORDER BY {keys.order_by} LIMIT {keys.limit}
    """
    async with connection() as sql:
        rows = await sql.fetch(statement, program_id, status, *keys.args)
    return page_result([_read(row) for row in rows], page)


async def list_of_referrers(
    program_id: UUID, member_ids: Sequence[UUID], page: Page
) -> list[PageResult[ReferralRead]]:
    """Return the same page of several members' referrals, the latest first; its keys are (id,)."""
    keys = keyset(["r.id"], page=page, first_param=3, descending=True)
    statement = f"""
        SELECT x.* FROM unnest($2::uuid[]) AS t(member_id) CROSS JOIN LATERAL (
            {_WITH_POINTS} WHERE r.program_id = $1 AND r.referrer_id = t.member_id AND {keys.where}
            ORDER BY {keys.order_by} LIMIT {keys.limit}
        ) x
    """  # noqa: S608 - parts that are constants, values are parameters
    async with connection() as sql:
        rows = await sql.fetch(statement, program_id, list(member_ids), *keys.args)
    brought: dict[UUID, list[ReferralRead]] = {member_id: [] for member_id in member_ids}
    for row in rows:
        brought[row["referrer_id"]].append(_read(row))
    return [page_result(brought[member_id], page) for member_id in member_ids]


async def get_referrers(program_id: UUID, member_ids: Sequence[UUID]) -> list[UUID | None]:
    """Return by whom members were brought, in the order of the ids given; None for those who came alone."""
    async with connection() as sql:
        rows = await sql.fetch(_REFERRERS, program_id, list(member_ids))
    found = {row["referred_id"]: row["referrer_id"] for row in rows}
    return [found.get(each) for each in member_ids]
