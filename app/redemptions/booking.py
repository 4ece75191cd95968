"""Writing redemptions that nothing stands against: ledger, stock and codes, all in one transaction."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.catalog.codes import make_code
from app.catalog.rewards import CODED, Reward
from app.catalog.vault import Vault
from app.ids import key_id, new_id
from app.ledger.operations import EntryKind, Operation
from app.ledger.service import post, terms
from app.programs.policy import ProgramPolicy
from app.redemptions.inputs import Wanted
from app.redemptions.redemptions import Redemption
from app.redemptions.telling import told_of

_FREE_CODES = """
SELECT id, sealed FROM reward_code WHERE program_id = $1 AND reward_id = $2 AND redemption_id IS NULL
ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
"""

_REDEEMED = (
    ("member_id", "uuid"), ("reward_id", "uuid"), ("reward_name", "text"), ("status", "text"),
    ("quantity", "integer"), ("points", "bigint"), ("rate", "numeric"), ("face_value", "numeric"),
    ("amount", "numeric"), ("order_amount", "numeric"), ("order_id", "text"), ("reserve_entry", "bigint"),
    ("redeem_entry", "bigint"), ("reserved_until", "timestamptz"), ("confirmed_at", "timestamptz"),
    ("source", "text"),
)  # fmt: skip
_FIRST = 7
_NAMES = ", ".join(name for name, _ in _REDEEMED)
_ARRAYS = ", ".join(f"${n}::{type_}[]" for n, (_, type_) in enumerate(_REDEEMED, start=_FIRST))
_NEXT = _FIRST + len(_REDEEMED)

_KEEP = f"""
WITH claimed AS (
    INSERT INTO idempotency_key (program_id, operation, key, request_hash, subject_id, created_at)
    SELECT $1, t.*, $2 FROM unnest($3::text[], $4::text[], $5::bigint[], $6::uuid[]) AS t
    ORDER BY 2, 3 /* all batches in the same order: none waits for another in a circle */
    ON CONFLICT DO NOTHING RETURNING key
), redeemed AS (
    INSERT INTO redemption (id, program_id, created_at, updated_at, {_NAMES})
    SELECT t.id, $1, $2, $2, {_NAMES} FROM unnest($6::uuid[], {_ARRAYS}) AS t(id, {_NAMES})
), counted AS (
    UPDATE reward_stock c SET taken = t.taken, codes = t.codes
    FROM unnest(${_NEXT}::uuid[], ${_NEXT + 1}::bigint[], ${_NEXT + 2}::bigint[])
        AS t(reward_id, taken, codes)
    WHERE c.reward_id = t.reward_id
), handed_out AS (
    UPDATE reward_code c SET redemption_id = t.redemption_id
    FROM unnest(${_NEXT + 3}::uuid[], ${_NEXT + 4}::uuid[]) AS t(id, redemption_id) WHERE c.id = t.id
), made AS (
    INSERT INTO reward_code (id, program_id, reward_id, redemption_id, digest, sealed, made, created_at)
    SELECT t.id, $1, t.reward_id, t.redemption_id, t.digest, t.sealed, true, $2
    FROM unnest(${_NEXT + 5}::uuid[], ${_NEXT + 6}::uuid[], ${_NEXT + 7}::uuid[], ${_NEXT + 8}::bytea[],
        ${_NEXT + 9}::bytea[]) AS t(id, reward_id, redemption_id, digest, sealed)
), told AS (
    INSERT INTO message (id, program_id, topic, member_id, payload, created_at)
    SELECT t.id, $1, t.topic, t.member_id, t.payload, $2
    FROM unnest(${_NEXT + 10}::uuid[], ${_NEXT + 11}::text[], $7::uuid[], ${_NEXT + 12}::jsonb[])
        AS t(id, topic, member_id, payload)
)
SELECT count(*) FROM claimed
"""  # noqa: S608 - nothing but constants


class KeyLost(Exception):
    """Somebody else has claimed a key of ours between reading and writing: undo everything, and try again."""


class Accepted(NamedTuple):
    """A request that nothing stands against: the redemption that it becomes has no entry yet."""

    n: int
    wanted: Wanted
    reward: Reward
    redemption: Redemption


async def book(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    accepted: Sequence[Accepted],
    rewards: Collection[Reward],
    vault: Vault,
    now: datetime,
) -> list[Redemption]:
    """Write redemptions, and return them with the places of their entries, in the same order.

    Args:
        sql: a connection inside a transaction that holds the accounts and what is left of the rewards.
        rewards: the same rewards, with what is left of them afterwards.

    Raises:
        KeyLost: see there.
        SealBroken: a code of a pool was sealed with another key.
    """
    outcomes = await post(sql, terms(policy, now), [_operation(each.redemption, now) for each in accepted])
    redemptions = [
        _entered(each.redemption, outcome.sequence) for each, outcome in zip(accepted, outcomes, strict=True)
    ]
    pooled = await _take_codes(sql, policy.program_id, accepted, vault)
    made = [code for each in accepted for code in _make_codes(each, policy.program_id, vault)]
    told = [told_of(each) for each in redemptions]
    claimed = await sql.fetchval(
        _KEEP,
        policy.program_id,
        now,
        [each.wanted.operation for each in accepted],
        [each.wanted.key for each in accepted],
        [each.wanted.hash(each.redemption.member_id) for each in accepted],
        [each.id for each in redemptions],
        *([getattr(each, name) for each in redemptions] for name, _ in _REDEEMED),
        [reward.id for reward in rewards],
        [reward.stock.taken for reward in rewards],
        [reward.stock.codes for reward in rewards],
        list(pooled),
        list(pooled.values()),
        *([code[n] for code in made] for n in range(5)),
        [new_id() for _ in told],
        [message.topic for message in told],
        [message.encoded for message in told],
    )
    if claimed < len(accepted):
        raise KeyLost
    return redemptions


def _operation(redemption: Redemption, now: datetime) -> Operation:
    return Operation(
        account_id=redemption.member_id,
        kind=EntryKind.REDEEM if redemption.confirmed_at is not None else EntryKind.RESERVE,
        amount=redemption.points,
        key=key_id("redemption", redemption.id, "take"),
        request_hash=redemption.points,
        occurred_at=now,
        source="redemption",
        source_id=redemption.id,
        reason=redemption.reward_name,
    )


def _entered(redemption: Redemption, sequence: int | None) -> Redemption:
    if redemption.confirmed_at is not None:
        return redemption.but(redeem_entry=sequence)
    return redemption.but(reserve_entry=sequence)


async def _take_codes(
    sql: asyncpg.Connection, program_id: UUID, accepted: Sequence[Accepted], vault: Vault
) -> Mapping[UUID, UUID]:
    """Return codes of pools for redemptions, by code; in the order in which they were loaded."""
    taken: dict[UUID, UUID] = {}
    pools: dict[UUID, list[UUID]] = {}
    for each in accepted:
        if each.reward.has_pool:
            pools.setdefault(each.reward.id, []).extend([each.redemption.id] * each.redemption.quantity)
    for reward_id in sorted(pools):
        wanted = pools[reward_id]
        rows = await sql.fetch(_FREE_CODES, program_id, reward_id, len(wanted))
        # Whoever holds what is left of the reward is alone with its pool, and has counted it.
        assert len(rows) == len(wanted), f"the pool of reward {reward_id} has fewer codes than are counted"
        for row in rows:
            # Nobody pays for a code that cannot be read.
            vault.open(row["sealed"], row["id"])
        taken.update(zip((row["id"] for row in rows), wanted, strict=True))
    return taken


def _make_codes(
    each: Accepted, program_id: UUID, vault: Vault
) -> list[tuple[UUID, UUID, UUID, bytes, bytes]]:
    if each.reward.kind not in CODED or each.reward.has_pool:
        return []
    codes = []
    for _ in range(each.redemption.quantity):
        code, code_id = make_code(), new_id()
        codes.append(
            (
                code_id,
                each.reward.id,
                each.redemption.id,
                vault.digest(program_id, code),
                vault.seal(code.encode(), code_id),
            )
        )
    return codes
