"""Giveaways: who takes part, and the draw of the winner, which anybody can repeat.

Every piece of a redemption is a ticket. Ticket n (from 1 on) of an entry has the number SHA-256 of the
UTF-8 text "<seed>:<entry key>:<n>", where the seed is written as 64 hex digits, and the entry key is the
redemption's id as 32 of them. The smallest number wins. The seed is fixed, and its hash public, before
anybody enters; the seed itself is public once the winner is drawn.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from app import clock
from app.catalog.rewards import Reward, RewardKind, RewardStatus
from app.catalog.stock import lock_rewards
from app.catalog.vault import Vault
from app.database import connection, retrying, transaction
from app.errors import ErrorCode, refuse
from app.idempotency import check_key, claim
from app.ids import content_hash
from app.paging import Page, PageResult, keyset, page_result
from app.redemptions.reads import find_redemptions
from app.redemptions.redemptions import Redemption, RedemptionStatus
from app.validation import Problems

_OPERATION = "draw"
_FIELD = "reward_id"

ENTERED = (RedemptionStatus.CONFIRMED, RedemptionStatus.FULFILLED, RedemptionStatus.USED)
"""In these states a redemption of a giveaway takes part: what is only reserved does not."""

# In the database: a million tickets never leave it.
_WINNER = """
SELECT d.id FROM redemption d CROSS JOIN generate_series(1, d.quantity) AS ticket(n)
WHERE d.program_id = $1 AND d.reward_id = $2 AND d.status = ANY($3::text[])
ORDER BY sha256(convert_to($4::text || ':' || encode(uuid_send(d.id), 'hex') || ':' || ticket.n, 'UTF8'))
LIMIT 1
"""

_DRAWN = """
WITH drawn AS (
    UPDATE reward_stock SET version = $3, drawn_at = $4, winner_id = $5 WHERE reward_id = $2
)
UPDATE reward SET version = $3, updated_at = $4 WHERE program_id = $1 AND id = $2
"""


class Drawn(NamedTuple):
    """The winner of a giveaway, as the redemption is now, and whether it was drawn before, by this key."""

    winner: Redemption
    replayed: bool = False


class Entry(NamedTuple):
    """What takes part in a giveaway, without whose it is.

    Attributes:
        id: of the redemption.
        tickets: its pieces.
        entered_at: when the points were spent (UTC).
    """

    id: UUID
    tickets: int
    entered_at: datetime

    @property
    def key(self) -> str:
        """By what the draw knows it: 32 hex digits."""
        return self.id.hex


def entry_of(redemption: Redemption) -> Entry | None:
    """Return what a redemption of a giveaway is in the draw; None for one that takes no part."""
    if redemption.status not in ENTERED:
        return None
    assert redemption.confirmed_at is not None
    return Entry(redemption.id, redemption.quantity, redemption.confirmed_at)


async def draw(program_id: UUID, reward_id: UUID, key: str, vault: Vault) -> Drawn:
    """Draw the winner of a giveaway, once and for all, from everybody who has entered by then.

    Nobody enters, captures or cancels meanwhile. Reservations that are under way take no part, and can no
    longer be captured. A million entries take a second or two.

    Args:
        key: the caller's, 1 to 255 characters; with it again the same winner is the answer.
        vault: holds the seed.

    Raises:
        Refused: INVALID for a bad key; for `reward_id` NOT_FOUND, INVALID for what is no giveaway, and
            WRONG_STATE for one that is a DRAFT, is drawn already, or has no entries; IDEMPOTENCY_CONFLICT
            for a key that drew another giveaway.
        SealBroken: the seed was sealed with another key; nothing was done.
        Unavailable: the database stayed away or busy; nothing was done.
    """
    problems = Problems()
    check_key(key, problems)
    problems.refuse_any()

    async def work() -> Drawn:
        async with transaction() as sql:
            reward = (await lock_rewards(sql, program_id, [reward_id])).get(reward_id)
            if reward is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such reward.", _FIELD)
            # Whoever waited for the lock goes by what time it is now.
            now = clock.now()
            said = content_hash(msgspec.json.encode(reward.id))
            replayed = await claim(sql, program_id, _OPERATION, key, said, reward.id, now)
            winner_id = reward.winner_id if replayed else await _draw(sql, reward, vault, now)
            assert winner_id is not None, "a key that is kept has drawn a winner"
            (winner,) = await find_redemptions(sql, program_id, [winner_id])
            assert winner is not None
            return Drawn(winner, replayed)

    return await retrying(work)


async def _draw(sql: asyncpg.Connection, reward: Reward, vault: Vault, now: datetime) -> UUID:
    """Draw the winner under the lock of what is left of the reward, and return the redemption's id."""
    if reward.kind is not RewardKind.GIVEAWAY:
        raise refuse(ErrorCode.INVALID, f"The reward is a {reward.kind}: only a GIVEAWAY is drawn.", _FIELD)
    if reward.drawn_at is not None:
        message = f"The giveaway was drawn on {reward.drawn_at:%Y-%m-%d %H:%M} UTC."
        raise refuse(ErrorCode.WRONG_STATE, message, _FIELD)
    if reward.status is RewardStatus.DRAFT:
        raise refuse(ErrorCode.WRONG_STATE, "The giveaway is a DRAFT: nobody could enter yet.", _FIELD)
    assert reward.draw_seed is not None
    seed = vault.open(reward.draw_seed, reward.id)
    assert hashlib.sha256(seed).digest() == reward.draw_seed_hash, "the seed is not the one that was promised"
    winner_id: UUID | None = await sql.fetchval(
        _WINNER, reward.program_id, reward.id, list(ENTERED), seed.hex()
    )
    if winner_id is None:
        raise refuse(ErrorCode.WRONG_STATE, "The giveaway has no entries to draw from.", _FIELD)
    await sql.execute(_DRAWN, reward.program_id, reward.id, reward.version + 1, now, winner_id)
    return winner_id


async def list_entries(program_id: UUID, reward_ids: Sequence[UUID], page: Page) -> list[PageResult[Entry]]:
    """Return the same page of the entries of several giveaways, in the order in which they were asked for.

    That order is also the one of their keys. Nothing for rewards of other kinds. After the draw the list
    stays as it is.

    Args:
        page: its keys are (id,).
    """
    keys = keyset(["d.id"], page=page, first_param=4)
    statement = f"""
        SELECT x.* FROM unnest($2::uuid[]) AS t(reward_id)
        JOIN reward r ON r.program_id = $1 AND r.id = t.reward_id AND r.kind = 'GIVEAWAY'
        CROSS JOIN LATERAL (
            SELECT d.reward_id, d.id, d.quantity, d.confirmed_at FROM redemption d
            WHERE d.program_id = $1 AND d.reward_id = r.id AND d.status = ANY($3::text[]) AND {keys.where}
            ORDER BY {keys.order_by} LIMIT {keys.limit}
        ) x
    """  # noqa: S608 - parts that are constants, values are parameters
    async with connection() as sql:
        rows = await sql.fetch(statement, program_id, list(reward_ids), list(ENTERED), *keys.args)
    entries: dict[UUID, list[Entry]] = {reward_id: [] for reward_id in reward_ids}
    for row in rows:
        entries[row["reward_id"]].append(Entry(row["id"], row["quantity"], row["confirmed_at"]))
    return [page_result(entries[reward_id], page) for reward_id in reward_ids]
