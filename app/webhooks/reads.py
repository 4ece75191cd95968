"""Webhooks, read: all of a program, or some by their ids, and how much waits for them."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.database import connection
from app.webhooks.deliveries import HEARS

MAX_COUNTED = 10_000
"""Counting what waits ends there."""


class Webhook(NamedTuple):
    """Where messages go; `topics` empty is all of them. Whoever wants its secret opens it in service.py."""

    id: UUID
    program_id: UUID
    url: str
    topics: list[str]
    created_at: datetime
    failing_since: datetime | None
    last_error: str | None
    paused_until: datetime | None
    disabled_at: datetime | None


COLUMNS = ", ".join(Webhook._fields)
_LIST = f"SELECT {COLUMNS} FROM webhook WHERE program_id = $1 ORDER BY id"  # noqa: S608
_FIND = f"SELECT {COLUMNS} FROM webhook WHERE program_id = $1 AND id = ANY($2::uuid[])"  # noqa: S608

# A place in the feed that is far behind is looked from no farther than what is counted.
_WAITING = f"""
SELECT w.id, least($3, (
    SELECT count(*) FROM (SELECT FROM webhook_delivery d WHERE d.webhook_id = w.id LIMIT $3) x
) + (
    SELECT count(*) FROM feed f
    WHERE f.program_id = $1 AND f.position > w.position AND f.position <= w.position + $3 AND {HEARS}
)) AS waiting
FROM webhook w WHERE w.program_id = $1 AND w.id = ANY($2::uuid[])
"""  # noqa: S608 - nothing but constants


async def list_webhooks(program_id: UUID) -> list[Webhook]:
    """Return a program's webhooks, oldest first: MAX_WEBHOOKS at most."""
    async with connection() as sql:
        rows = await sql.fetch(_LIST, program_id)
    return [Webhook._make(row) for row in rows]


async def find_webhook(sql: asyncpg.Connection, program_id: UUID, webhook_id: UUID) -> Webhook | None:
    """Return a webhook of a program, locked until the transaction ends; None when there is none."""
    row = await sql.fetchrow(f"{_FIND} FOR UPDATE", program_id, [webhook_id])
    return None if row is None else Webhook._make(row)


async def get_webhooks(program_id: UUID, webhook_ids: Sequence[UUID]) -> list[Webhook | None]:
    """Return webhooks of a program in the order of the ids; None where it has none."""
    async with connection() as sql:
        rows = await sql.fetch(_FIND, program_id, list(webhook_ids))
    found = {row["id"]: Webhook._make(row) for row in rows}
    return [found.get(each) for each in webhook_ids]


async def count_waiting(program_id: UUID, webhook_ids: Sequence[UUID]) -> list[int]:
    """Return how many messages wait for each receiver, in the order of the ids: MAX_COUNTED at most."""
    async with connection() as sql:
        rows = await sql.fetch(_WAITING, program_id, list(webhook_ids), MAX_COUNTED)
    found = {row["id"]: row["waiting"] for row in rows}
    return [found.get(each, 0) for each in webhook_ids]
