"""Who was brought by whom: what enrolling with a referral code leaves behind."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.ids import new_id
from app.messages.leaving import leave
from app.outbox import service as outbox
from app.outbox.service import Queue
from app.referrals.referrals import ReferralRejection
from app.referrals.telling import rejected

_BY_CODE = """
SELECT referral_code, id FROM member WHERE program_id = $1 AND referral_code = ANY($2::text[])
"""

_INSERT = """
INSERT INTO referral (id, program_id, referrer_id, referred_id, status, rejection, created_at, updated_at)
SELECT t.id, $1, t.referrer_id, t.referred_id, $5, $6, $7, $7
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[]) AS t(id, referrer_id, referred_id)
ON CONFLICT DO NOTHING RETURNING id, referrer_id
"""

# Letters that Crockford's alphabet leaves out because they are read as digits.
_READ_AS = str.maketrans("OIL", "011", " -")
_LONGEST = 40


class Bringing(NamedTuple):
    """Who brought whom."""

    referrer_id: UUID
    referred_id: UUID


def normal_code(code: str) -> str:
    """Return a referral code as it is kept, however it was typed: in capitals, without spaces and hyphens."""
    return code[:_LONGEST].upper().translate(_READ_AS)


async def find_referrers(
    sql: asyncpg.Connection, program_id: UUID, codes: Mapping[int, str]
) -> dict[int, UUID]:
    """Return whose codes they are, by position; those that nobody has are missing.

    Args:
        codes: by position, as they were typed.
    """
    kept = {
        n: normal for n, code in codes.items() if (normal := normal_code(code)).isalnum() and normal.isascii()
    }
    if not kept:
        return {}
    rows = await sql.fetch(_BY_CODE, program_id, sorted(set(kept.values())))
    known = {row["referral_code"]: row["id"] for row in rows}
    return {n: known[code] for n, code in kept.items() if code in known}


async def record_referrals(
    sql: asyncpg.Connection, program_id: UUID, brought: Sequence[Bringing], now: datetime
) -> None:
    """Keep that members were brought by others, and leave it to a worker what comes of it.

    Args:
        sql: a connection inside the transaction that added the members.
    """
    if brought:
        await _insert(sql, program_id, brought, None, now)
        await outbox.leave(sql, Queue.REFERRALS, program_id, {each.referred_id for each in brought}, now)


async def record_self_referrals(
    sql: asyncpg.Connection, program_id: UUID, members: Collection[UUID], now: datetime
) -> None:
    """Keep that members gave their own code: a referral that is rejected, once for each."""
    if not members:
        return
    # Their messages are written under their locks.
    await sql.fetch(
        "SELECT FROM account WHERE program_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR NO KEY UPDATE",
        program_id,
        sorted(members),
    )
    own = [Bringing(member, member) for member in sorted(members)]
    rows = await _insert(sql, program_id, own, ReferralRejection.SELF_REFERRAL, now)
    told = [
        rejected(row["id"], row["referrer_id"], row["referrer_id"], ReferralRejection.SELF_REFERRAL)
        for row in rows
    ]
    await leave(sql, program_id, told, now)


async def _insert(
    sql: asyncpg.Connection,
    program_id: UUID,
    brought: Sequence[Bringing],
    rejection: ReferralRejection | None,
    now: datetime,
) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await sql.fetch(
        _INSERT,
        program_id,
        [new_id() for _ in brought],
        [each.referrer_id for each in brought],
        [each.referred_id for each in brought],
        "PENDING" if rejection is None else "REJECTED",
        rejection,
        now,
    )
    return rows
