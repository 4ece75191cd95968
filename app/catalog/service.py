"""The catalog: rewards set up, changed, and taken off it; never deleted."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from app import clock
from app.catalog.inputs import RewardContent, check_content
from app.catalog.reads import find_rewards, searchable
from app.catalog.rewards import Reward, RewardKind, RewardLimits, RewardStatus, has_pool
from app.catalog.stock import lock_rewards
from app.catalog.vault import Vault
from app.database import retrying, transaction
from app.errors import ErrorCode, Refused, UserError, refuse
from app.ids import new_id
from app.validation import Problems

MAX_REWARDS = 10_000
"""Rewards of one program, those that are archived included."""

CONTENT = tuple(field.name for field in fields(RewardContent))
"""What can be said of a reward, and changed; but its kind is for good."""

_LOCK = "SELECT currency FROM program WHERE id = $1 FOR NO KEY UPDATE"
_COUNT = "SELECT count(*) FROM reward WHERE program_id = $1"
_TIERS = "SELECT id FROM tier WHERE program_id = $1 AND id = ANY($2::uuid[])"
_NAMESAKES = "SELECT id FROM reward WHERE program_id = $1 AND name = $2 AND kind = $3 ORDER BY id"

_COLUMNS = (
    "kind", "status", "name", "description", "image_url", "points", "points_per_currency_unit", "face_value",
    "generate_codes", "starts_at", "ends_at", "tier_ids", "max_per_member", "max_per_member_per_month",
    "max_total", "max_share_of_order", "min_points", "search",
)  # fmt: skip

_NEW = f"""
INSERT INTO reward (id, program_id, version, created_at, updated_at, draw_seed, draw_seed_hash,
    {", ".join(_COLUMNS)})
VALUES ($1, $2, 1, $3, $3, $4, $5, {", ".join(f"${n}" for n in range(6, 6 + len(_COLUMNS)))})
"""  # noqa: S608 - nothing but constants

_NEW_STOCK = """
INSERT INTO reward_stock (reward_id, version, taken, capacity, codes, low_stock) /* scoped by: reward */
VALUES ($1, 1, 0, $2, $3, $4)
"""

_CHANGE = f"""
UPDATE reward SET version = $3, updated_at = $4,
    {", ".join(f"{name} = ${n}" for n, name in enumerate(_COLUMNS, start=5))}
WHERE program_id = $1 AND id = $2
"""  # noqa: S608 - nothing but constants

_CHANGE_STOCK = """
UPDATE reward_stock SET version = $2, capacity = $3, low_stock = $4, codes = $5 /* scoped by: reward */
WHERE reward_id = $1
"""

# Codes that somebody loaded while they were made by themselves wait for the pool.
_FREE_CODES = """
SELECT count(*) FROM reward_code WHERE program_id = $1 AND reward_id = $2 AND redemption_id IS NULL
"""


async def create_reward(program_id: UUID, content: RewardContent, vault: Vault) -> Reward:
    """Set up a reward; the same again answers with the reward that is there, while nobody has redeemed it.

    A giveaway gets the seed of its draw, sealed, whose hash is public from the start.

    Raises:
        Refused: INVALID with everything that is wrong, NOT_FOUND for its tiers, or LIMIT_REACHED when
            there are MAX_REWARDS rewards.
    """
    reward_id, now = new_id(), clock.now()

    async def create() -> Reward:
        async with transaction() as sql:
            await _check(sql, program_id, content)
            said = content.tidy()
            twin = await _twin(sql, program_id, said)
            if twin is not None:
                return twin
            if await sql.fetchval(_COUNT, program_id) >= MAX_REWARDS:
                raise refuse(ErrorCode.LIMIT_REACHED, f"A program has at most {MAX_REWARDS:,} rewards.")
            seed, seed_hash = _new_seed(content.kind, reward_id, vault)
            await sql.execute(_NEW, reward_id, program_id, now, seed, seed_hash, *_columns(said))
            pool = 0 if has_pool(content.kind, content.generate_codes) else None
            await sql.execute(_NEW_STOCK, reward_id, content.stock, pool, _low(content.stock))
            return await _find(sql, program_id, reward_id)

    return await retrying(create)


def _new_seed(kind: RewardKind, reward_id: UUID, vault: Vault) -> tuple[bytes | None, bytes | None]:
    """Return the sealed seed of a giveaway's draw, and its SHA-256; nothing for other kinds."""
    if kind is not RewardKind.GIVEAWAY:
        return None, None
    seed = secrets.token_bytes(32)
    return vault.seal(seed, reward_id), hashlib.sha256(seed).digest()


async def update_reward(program_id: UUID, reward_id: UUID, changes: Mapping[str, Any]) -> Reward:
    """Change some of what is said of a reward, and return it. What was redeemed keeps its price.

    Args:
        changes: only what is to change, by the names in CONTENT; None clears what can be empty. `stock`
            is what is left from now on, whatever was redeemed before.

    Raises:
        Refused: NOT_FOUND, WRONG_STATE for one that is ARCHIVED, INVALID with everything that is wrong
            with what would come out, or NOT_FOUND for its tiers.
    """
    assert changes.keys() <= set(CONTENT), changes.keys()

    async def update() -> Reward:
        async with transaction() as sql:
            now = clock.now()
            reward = (await lock_rewards(sql, program_id, [reward_id])).get(reward_id)
            if reward is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such reward.", "id")
            before = _content(reward)
            after = replace(before, **changes)
            if after.tidy() == before.tidy():
                return reward
            if reward.status is RewardStatus.ARCHIVED:
                raise refuse(ErrorCode.WRONG_STATE, "The reward is ARCHIVED, and stays as it is.", "id")
            if after.kind is not reward.kind:
                raise refuse(ErrorCode.INVALID, f"The reward is a {reward.kind}; that cannot change.", "kind")
            await _check(sql, program_id, after, lock=False)
            await _write(sql, reward, after, "stock" in changes, now)
            return await _find(sql, program_id, reward_id)

    return await retrying(update)


async def set_reward_status(program_id: UUID, reward_id: UUID, status: RewardStatus) -> Reward:
    """Activate, pause or archive a reward; ARCHIVED is for good. What was redeemed stays.

    Raises:
        Refused: NOT_FOUND, or WRONG_STATE for one that is ARCHIVED.
    """
    return await update_reward(program_id, reward_id, {"status": status})


async def _write(
    sql: asyncpg.Connection, reward: Reward, content: RewardContent, stocked: bool, now: datetime
) -> None:
    said, version = content.tidy(), reward.version + 1
    await sql.execute(_CHANGE, reward.program_id, reward.id, version, now, *_columns(said))
    stock = reward.stock
    capacity, low = stock.capacity, stock.low_stock
    if stocked:
        capacity = None if content.stock is None else stock.taken + content.stock
        low = _low(content.stock)
    codes = stock.codes
    pooled = has_pool(content.kind, content.generate_codes)
    if pooled != reward.has_pool:
        codes = None
        if pooled:
            codes = await sql.fetchval(_FREE_CODES, reward.program_id, reward.id)
    await sql.execute(_CHANGE_STOCK, reward.id, version, capacity, low, codes)


def _low(stock: int | None) -> int:
    """Return how few are left when somebody is told: a tenth, and one at least."""
    return 0 if stock is None else max(1, stock // 10)


def _columns(said: Mapping[str, Any]) -> list[Any]:
    """Return what is said of a reward as the table has it, in the order of _COLUMNS."""
    limits: RewardLimits = said["limits"]
    columns = {
        **said,
        **{name: getattr(limits, name) for name in limits.__slots__},
        "tier_ids": list(said["tiers"]),
        "search": searchable(said["name"], said["description"]),
    }
    return [columns[name] for name in _COLUMNS]


def _content(reward: Reward) -> RewardContent:
    """Return what is said of a reward; of its stock, the pieces that are left."""
    said = {name: getattr(reward, name) for name in CONTENT if name != "stock"}
    stock = reward.stock
    left = None if stock.capacity is None else stock.capacity - stock.taken
    return RewardContent(**said, stock=left)


async def _twin(sql: asyncpg.Connection, program_id: UUID, said: Mapping[str, Any]) -> Reward | None:
    """Return the oldest reward that says the same and of which nothing has been redeemed."""
    rows = await sql.fetch(_NAMESAKES, program_id, said["name"], said["kind"])
    for reward in await find_rewards(sql, program_id, [row["id"] for row in rows]):
        assert reward is not None
        is_new = reward.status is not RewardStatus.ARCHIVED and not reward.stock.taken
        if is_new and _content(reward).tidy() == said:
            return reward
    return None


async def _check(
    sql: asyncpg.Connection, program_id: UUID, content: RewardContent, *, lock: bool = True
) -> None:
    """Refuse a reward that makes no sense, with everything that is wrong.

    Args:
        lock: rewards of the program that are made at once queue up.
    """
    currency = await sql.fetchval(_LOCK if lock else _LOCK.removesuffix(" FOR NO KEY UPDATE"), program_id)
    problems = Problems()
    check_content(content, currency, problems)
    errors = list(problems.errors)
    if content.tiers:
        there = {row["id"] for row in await sql.fetch(_TIERS, program_id, list(content.tiers))}
        errors += [
            UserError(ErrorCode.NOT_FOUND, "There is no such tier.", ("tier_ids", str(n)))
            for n, tier in enumerate(content.tiers)
            if tier not in there
        ]
    if errors:
        raise Refused(errors)


async def _find(sql: asyncpg.Connection, program_id: UUID, reward_id: UUID) -> Reward:
    (reward,) = await find_rewards(sql, program_id, [reward_id])
    assert reward is not None
    return reward
