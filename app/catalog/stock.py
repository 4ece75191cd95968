"""What is left of rewards: one row of each, which all its redemptions share; locked late, held shortly."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.catalog.reads import REWARD_COLUMNS, REWARD_TABLES, reward_from_row
from app.catalog.rewards import Reward, Stock
from app.ids import to_global_id
from app.messages.leaving import Message, leave
from app.messages.topics import Topic

_LOCK = f"""
SELECT {REWARD_COLUMNS} FROM {REWARD_TABLES} WHERE r.program_id = $1 AND r.id = ANY($2::uuid[])
ORDER BY r.id
"""  # noqa: S608 - nothing but constants
_LOCKED = f"{_LOCK} FOR NO KEY UPDATE OF c"

_GIVE_BACK = """
WITH held AS ( /* scoped by: reward */
    SELECT reward_id FROM reward_stock WHERE reward_id = ANY($1::uuid[]) ORDER BY reward_id FOR NO KEY UPDATE
)
UPDATE reward_stock c SET taken = c.taken - t.pieces, codes = c.codes + t.codes
FROM held, unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS t(reward_id, pieces, codes)
WHERE c.reward_id = held.reward_id AND c.reward_id = t.reward_id
"""


async def lock_rewards(
    sql: asyncpg.Connection, program_id: UUID, reward_ids: Iterable[UUID]
) -> dict[UUID, Reward]:
    """Lock what is left of rewards until the transaction ends, and return them as they are now.

    While it is held nobody changes, redeems or draws them. Taken in the order of their ids, after accounts.
    """
    ids = sorted(set(reward_ids))
    rows = await sql.fetch(_LOCKED, program_id, ids)
    if any(row["version"] != row["stock_version"] for row in rows):
        # Changed while we waited: the lock shows its row as it is now, and the rest as it was.
        rows = await sql.fetch(_LOCK, program_id, ids)
    return {row["id"]: reward_from_row(row) for row in rows}


class Returned(NamedTuple):
    """What comes back of a reward: pieces, and codes that nobody has seen."""

    pieces: int = 0
    codes: int = 0


async def give_back(sql: asyncpg.Connection, returned: Mapping[UUID, Returned]) -> None:
    """Put back what cancelled and expired redemptions had taken, by reward."""
    if returned:
        pieces, codes = [list(each) for each in zip(*returned.values(), strict=True)]
        await sql.execute(_GIVE_BACK, list(returned), pieces, codes)


async def tell_low(
    sql: asyncpg.Connection,
    program_id: UUID,
    changes: Sequence[tuple[Reward, Stock]],
    moment: datetime,
) -> None:
    """Leave a message for each reward of which little is left now, and more was before.

    Args:
        changes: rewards as they were, and what is left of them now.
    """
    messages = [
        Message(
            topic, None, {"rewardId": to_global_id("Reward", reward.id), "name": reward.name, "left": left}
        )
        for reward, now in changes
        for topic, left in _low(reward.stock, now)
    ]
    await leave(sql, program_id, messages, moment)


def _low(before: Stock, now: Stock) -> list[tuple[Topic, int]]:
    low = []
    if before.capacity is not None and now.capacity is not None:
        left = now.capacity - now.taken
        if left <= now.low_stock < before.capacity - before.taken:
            low.append((Topic.REWARD_STOCK_LOW, left))
    if before.codes is not None and now.codes is not None and now.codes <= now.low_codes < before.codes:
        low.append((Topic.REWARD_CODES_LOW, now.codes))
    return low
