"""Codes of vouchers and gift cards: made here, or loaded into the pool of a reward; sealed at rest.

A code is text that a till takes as it is: upper and lower case differ, only spaces around it do not
count. Within a program a code is there once.
"""

import asyncio
import base64
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from app import clock
from app.catalog.rewards import CODED, RewardKind, RewardStatus
from app.catalog.vault import Vault
from app.database import connection, retrying, transaction
from app.errors import ErrorCode, Refused, refuse
from app.ids import new_id
from app.validation import Problems

MAX_CODES = 10_000
"""Codes in one call."""
LONGEST_CODE = 255
"""Characters of a code."""

_MOST_ERRORS = 100
_RANDOM_BYTES = 10
_GROUP = 4
# Base32 has no 0 and no 1, which look like these two.
_CLEAR = str.maketrans("IO", "89")

_REWARD = "SELECT kind, status, generate_codes FROM reward WHERE program_id = $1 AND id = $2"

# Any two of the program's, found by the index on digests: enough to know the key by.
_SOME_CODES = "SELECT id, sealed FROM reward_code WHERE program_id = $1 ORDER BY digest LIMIT 2"

# All uploads in the same order: two with the same codes wait for each other, and never in a circle.
_INSERT = """
INSERT INTO reward_code (id, program_id, reward_id, digest, sealed, created_at)
SELECT t.id, $1, $2, t.digest, t.sealed, $6
FROM unnest($3::uuid[], $4::bytea[], $5::bytea[]) AS t(id, digest, sealed) ORDER BY t.digest
ON CONFLICT (program_id, digest) DO NOTHING
"""

_ADD = """
UPDATE reward_stock SET codes = codes + $3, low_codes = greatest(1, (codes + $3) / 10)
WHERE reward_id = (SELECT id FROM reward WHERE program_id = $1 AND id = $2) RETURNING codes
"""

_OF_REDEMPTIONS = """
SELECT id, redemption_id, sealed FROM reward_code
WHERE program_id = $1 AND redemption_id = ANY($2::uuid[]) ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What came of an upload: codes that are new, and codes that were there, or came twice."""

    added: int
    duplicates: int


def make_code() -> str:
    """Return a new code, such as `K7QM-2XWA-9DHT-5RLB`: 80 bits of chance, without 0, 1, I and O."""
    text = base64.b32encode(secrets.token_bytes(_RANDOM_BYTES)).decode().translate(_CLEAR)
    return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def fault(code: str) -> str | None:
    """Return what is wrong with a code, as a sentence that does not repeat it; None for a good one.

    Args:
        code: without the spaces around it.
    """
    if not 1 <= len(code) <= LONGEST_CODE:
        return f"A code must have between 1 and {LONGEST_CODE} characters."
    # Stricter than other texts: what cannot be seen cannot be typed at a till.
    return None if code.isprintable() else "A code must have printable characters only."


def check_codes(codes: Sequence[str], problems: Problems) -> list[str]:
    """Check the codes of one call: 1 to 10,000 of them, each of 1 to 255 printable characters.

    Of many that are wrong the first 100 are told, each under its place, such as ("codes", "17").

    Returns:
        The codes without the spaces around them, in their order.
    """
    trimmed = [code.strip() for code in codes]
    if not 1 <= len(trimmed) <= MAX_CODES:
        problems.add(f"Between 1 and {MAX_CODES:,} codes can be loaded in one call.", "codes")
        return trimmed
    told = 0
    for place, code in enumerate(trimmed):
        if wrong := fault(code):
            problems.add(wrong, "codes", str(place))
            told += 1
            if told == _MOST_ERRORS:
                break
    return trimmed


async def check_pool(program_id: UUID, reward_id: UUID) -> None:
    """Find out whether codes can be loaded for a reward.

    Raises:
        Refused: as `upload_codes` does because of the reward.
    """
    async with connection() as sql:
        _refuse_without_pool(await sql.fetchrow(_REWARD, program_id, reward_id))


async def upload_codes(program_id: UUID, reward_id: UUID, codes: Sequence[str], vault: Vault) -> Uploaded:
    """Add codes to the pool of a reward: all that are new to the program, in one transaction.

    Codes that the program has already, for this reward or another one, are left alone: the same call
    again adds nothing. The pool is given out in the order in which it was loaded. It runs low when a
    tenth of what is free after this is left.

    Args:
        codes: 1 to 10,000, each of 1 to 255 printable characters; spaces around them do not count.

    Raises:
        Refused: INVALID for `codes`, as `check_codes` says; for `reward_id` NOT_FOUND, INVALID when it
            is neither a voucher nor a gift card, or WRONG_STATE when its codes are made by Laurel, or it
            is archived.
        SealBroken: codes that the program has were sealed with another key; nothing was added.
    """
    problems = Problems()
    trimmed = check_codes(codes, problems)
    problems.refuse_any()
    distinct = list(dict.fromkeys(trimmed))
    # Made here and not in the thread: ids of one process are in order as long as nobody interrupts.
    ids = [new_id() for _ in distinct]
    digests, sealed = await asyncio.to_thread(_hidden, vault, program_id, ids, distinct)
    moment = clock.now()

    async def upload() -> int:
        async with transaction() as sql:
            _refuse_without_pool(await sql.fetchrow(_REWARD, program_id, reward_id))
            for code in await sql.fetch(_SOME_CODES, program_id):
                # Codes under two keys could not all be read, and none would be known to be there.
                vault.open(code["sealed"], code["id"])
            status = await sql.execute(_INSERT, program_id, reward_id, ids, digests, sealed, moment)
            count = int(status.rpartition(" ")[2])
            # The row that all redemptions of the reward share: last, and so held for a moment only.
            # Before it the reward is not locked: whoever changes that takes this row first.
            if count and await sql.fetchval(_ADD, program_id, reward_id, count) is None:
                raise _codes_are_made()
            return count

    added = await retrying(upload)
    return Uploaded(added, len(trimmed) - added)


async def open_codes(
    sql: asyncpg.Connection, vault: Vault, program_id: UUID, redemption_ids: Collection[UUID]
) -> dict[UUID, list[str]]:
    """Return the codes of redemptions, readable, whatever the status of these is.

    Who may see them is for the caller to know.

    Args:
        sql: any connection; one statement.

    Returns:
        Every redemption that was asked for, with its codes in the order in which they were loaded or
        made; with none when it has none, or is another program's.

    Raises:
        SealBroken: a code was sealed with another key.
    """
    codes: dict[UUID, list[str]] = {each: [] for each in redemption_ids}
    if codes:
        for row in await sql.fetch(_OF_REDEMPTIONS, program_id, list(codes)):
            codes[row["redemption_id"]].append(vault.open(row["sealed"], row["id"]).decode())
    return codes


def _hidden(
    vault: Vault, program_id: UUID, ids: Sequence[UUID], codes: Sequence[str]
) -> tuple[list[bytes], list[bytes]]:
    """Return the digests of codes, and the codes sealed: some 30 ms for 10,000, best not on the loop."""
    digests = [vault.digest(program_id, code) for code in codes]
    return digests, [vault.seal(code.encode(), each) for each, code in zip(ids, codes, strict=True)]


def _refuse_without_pool(reward: asyncpg.Record | None) -> None:
    if reward is None:
        raise refuse(ErrorCode.NOT_FOUND, "There is no such reward.", "reward_id")
    if RewardKind(reward["kind"]) not in CODED:
        message = "Only vouchers and gift cards have codes."
        raise refuse(ErrorCode.INVALID, message, "reward_id")
    if reward["generate_codes"]:
        raise _codes_are_made()
    if reward["status"] == RewardStatus.ARCHIVED:
        message = "The reward is archived; no codes can be loaded."
        raise refuse(ErrorCode.WRONG_STATE, message, "reward_id")


def _codes_are_made() -> Refused:
    message = "The codes of this reward are made by Laurel; none can be loaded."
    return refuse(ErrorCode.WRONG_STATE, message, "reward_id")
