"""The version of a program's rule set: policy, rules, tiers and campaigns together."""

from uuid import UUID

import asyncpg


async def bump(sql: asyncpg.Connection, program_id: UUID) -> int:
    """Tell every process that what it has compiled of a program is old, and return the new version.

    Taken first in a transaction: changes of one program queue up here.
    """
    version: int = await sql.fetchval(
        "UPDATE program SET rules_version = rules_version + 1 WHERE id = $1 RETURNING rules_version",
        program_id,
    )
    return version
