"""Proving the books: everything that can be computed twice is, and the first differences are told."""

from collections.abc import AsyncIterator
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.database import transaction
from app.ledger.burning_checks import BURNING_CHECKS
from app.ledger.checks import CHECKS
from app.ledger.feed_checks import FEED_CHECKS
from app.ledger.referral_checks import REFERRAL_CHECKS
from app.ledger.transfer_checks import TRANSFER_CHECKS

MAX_FINDINGS = 100
"""Differences that are told of one check; the first says enough."""

EVERY_CHECK = {**CHECKS, **BURNING_CHECKS, **TRANSFER_CHECKS, **REFERRAL_CHECKS, **FEED_CHECKS}
"""What is computed again, in the order in which it is told."""


class Finding(NamedTuple):
    """One difference: which check, in which account, what is kept and what it comes to.

    Of what has lost its account, `account_id` is the id of the event or redemption that it names. What is
    everybody's goes by its own: a budget by its rule, what is left of a reward by that.
    """

    check: str
    account_id: UUID
    kept: str
    computed: str


async def verify(program_id: UUID | None = None) -> AsyncIterator[tuple[str, list[Finding]]]:
    """Compute everything again from entries, allocations, awards, redemptions and the rest, and compare.

    Reads one snapshot of the database, so that it can run beside live traffic.

    Args:
        program_id: the program to look at; all of them without it, and what no program can be told of.

    Yields:
        Each check's name with its differences, MAX_FINDINGS at most; none where all is well.
    """
    async with transaction() as sql:
        await sql.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await sql.execute("SET LOCAL statement_timeout = 0")
        for name, check in EVERY_CHECK.items():
            yield name, await _run(sql, name, check, program_id)


async def _run(sql: asyncpg.Connection, name: str, check: str, program_id: UUID | None) -> list[Finding]:
    statement = f"""
        WITH a AS (SELECT * FROM account WHERE $1::uuid IS NULL OR program_id = $1)
        {check} LIMIT {MAX_FINDINGS}
    """  # noqa: S608 - nothing but constants
    rows = await sql.fetch(statement, program_id, timeout=3600)
    return [Finding(name, *row) for row in rows]
