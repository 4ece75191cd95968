"""Campaigns, read: all of a program, some by id, or a page of them."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from app.campaigns.audience import Audience
from app.campaigns.campaigns import Campaign, CampaignStatus
from app.database import connection
from app.earning.rules import EventKind
from app.paging import Page, PageResult, keyset, page_result
from app.tiers.reads import factors_from_row

_CAMPAIGNS = """
SELECT c.id, c.name, c.starts_at, c.ends_at, c.multiplier, c.applies_to, c.tier_ids, c.store_ids,
    c.created_at, c.updated_at, f.since, f.names, f.multipliers
FROM campaign c CROSS JOIN LATERAL (
    SELECT array_agg(since ORDER BY since) AS since, array_agg(name ORDER BY since) AS names,
        array_agg(multiplier ORDER BY since) AS multipliers
    FROM campaign_factor WHERE campaign_id = c.id
) f
WHERE c.program_id = $1
"""

# As Campaign.status_at says it.
_STATUS = """
CASE WHEN c.ends_at <= $3 OR c.ends_at <= c.starts_at THEN 'ENDED'
    WHEN c.starts_at > $3 THEN 'SCHEDULED' ELSE 'ACTIVE' END
"""


def _campaign(row: asyncpg.Record) -> Campaign:
    return Campaign(
        id=row["id"],
        name=row["name"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        multiplier=row["multiplier"],
        applies_to=tuple(map(EventKind, row["applies_to"])),
        audience=Audience(tuple(row["tier_ids"]), tuple(row["store_ids"])),
        factors=factors_from_row(row),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def load_campaigns(sql: asyncpg.Connection, program_id: UUID) -> list[Campaign]:
    """Return all campaigns of a program, those that start first first.

    Args:
        sql: any connection; within a transaction it sees what that has written.
    """
    rows = await sql.fetch(_CAMPAIGNS + " ORDER BY c.starts_at, c.id", program_id)
    return [_campaign(row) for row in rows]


async def find_campaigns(
    sql: asyncpg.Connection, program_id: UUID, campaign_ids: Sequence[UUID]
) -> list[Campaign | None]:
    """Return campaigns in the order of the ids given; None where the program has none."""
    rows = await sql.fetch(_CAMPAIGNS + " AND c.id = ANY($2::uuid[])", program_id, campaign_ids)
    found = {row["id"]: _campaign(row) for row in rows}
    return [found.get(campaign_id) for campaign_id in campaign_ids]


async def get_campaigns(program_id: UUID, campaign_ids: Sequence[UUID]) -> list[Campaign | None]:
    """Return campaigns in the order of the ids given; None where the program has none."""
    async with connection() as sql:
        return await find_campaigns(sql, program_id, campaign_ids)


async def list_campaigns(
    program_id: UUID, page: Page, moment: datetime, statuses: Collection[CampaignStatus]
) -> PageResult[Campaign]:
    """Return a page of a program's campaigns that are in one of these statuses, in the order of their making.

    Args:
        page: its keys are (id,).
        moment: at which they are in that status.
    """
    part = keyset(("c.id",), page=page, first_param=4)
    async with connection() as sql:
        rows = await sql.fetch(
            f"{_CAMPAIGNS} AND {_STATUS} = ANY($2::text[]) AND {part.where}"
            f" ORDER BY {part.order_by} LIMIT {part.limit}",
            program_id, list(statuses), moment, *part.args,
        )  # fmt: skip
    return page_result([_campaign(row) for row in rows], page)
