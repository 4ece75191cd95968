"""Keys that callers choose, so that a call can be repeated: each stands for one request, for good."""

from datetime import datetime
from uuid import UUID

import asyncpg

from app.errors import ErrorCode, refuse
from app.text import is_line
from app.validation import Problems

_CLAIM = """
INSERT INTO idempotency_key (program_id, operation, key, request_hash, subject_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
"""

_CLAIMED = """
SELECT request_hash, subject_id FROM idempotency_key WHERE program_id = $1 AND operation = $2 AND key = $3
"""


def check_key(key: str, problems: Problems) -> None:
    """Note what is wrong with an idempotency key."""
    if not 1 <= len(key) <= 255 or not is_line(key):
        problems.add("An idempotency key has 1 to 255 printable characters.", "idempotency_key")


async def claim(
    sql: asyncpg.Connection,
    program_id: UUID,
    operation: str,
    key: str,
    request: int,
    subject_id: UUID,
    now: datetime,
) -> bool:
    """Claim a key for a request; return whether the same request has it already.

    Waits for a transaction that is claiming it at the same moment.

    Args:
        sql: a connection inside the transaction that does what is asked for: undone, the key is free again.
        operation: in whose books the key stands.
        request: a hash of what was asked for.
        subject_id: what it was asked about.

    Raises:
        Refused: IDEMPOTENCY_CONFLICT, another request has it.
    """
    args = (program_id, operation, key)
    if await sql.execute(_CLAIM, *args, request, subject_id, now) == "INSERT 0 1":
        return False
    row = await sql.fetchrow(_CLAIMED, *args)
    if (row["request_hash"], row["subject_id"]) != (request, subject_id):
        message = "The key was used before, for another request."
        raise refuse(ErrorCode.IDEMPOTENCY_CONFLICT, message, "idempotency_key")
    return True
