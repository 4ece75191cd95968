"""Keeping the books fresh: settling accounts on which something is due, though nobody touches them."""

from datetime import date
from uuid import UUID

import asyncpg

from app import clock
from app.database import connection
from app.days import local_date
from app.ledger.service import MAX_BATCH
from app.ledger.settling import settle_accounts
from app.programs.policies import load_policy
from app.programs.policy import ProgramPolicy

_PROGRAMS = "SELECT id FROM program /* scoped by: worker */ WHERE id > $1 ORDER BY id LIMIT 100"

_DUE = """
SELECT id FROM account
WHERE program_id = $1 AND next_due <= $2 AND id <> ALL($3::uuid[])
ORDER BY next_due, id LIMIT $4
"""

# Accounts that were last touched before the program chose inactivity do not know their day yet.
_IDLE = """
SELECT id FROM account
WHERE program_id = $1 AND available > 0 AND (greatest(active_on, $5) + make_interval(months => $6))::date < $2
  AND id <> ALL($3::uuid[])
ORDER BY id LIMIT $4
"""


async def _due(
    sql: asyncpg.Connection, policy: ProgramPolicy, today: date, idle: bool, stuck: list[UUID]
) -> list[UUID]:
    args = (policy.program_id, today, stuck, MAX_BATCH)
    rows = await sql.fetch(_DUE, *args)
    if not rows and idle and policy.expiry.inactive_months is not None:
        since = local_date(policy.expiry_changed_at, policy.zone)
        rows = await sql.fetch(_IDLE, *args, since, policy.expiry.inactive_months)
    return [row["id"] for row in rows]


async def sweep_program(program_id: UUID, *, idle: bool = False) -> int:
    """Settle every account of a program on which something is due today, in the program's zone.

    Safe to run twice and on two workers at once: an account that is settled has nothing due. One
    whose books disagree is left as it is.

    Args:
        idle: look, too, for accounts that fell idle under a policy they have not met yet, which
            reads all of the program's accounts.

    Returns:
        How many accounts were settled.
    """
    total = 0
    stuck: list[UUID] = []
    while True:
        async with connection() as sql:
            policy = await load_policy(sql, program_id)
            accounts = await _due(sql, policy, local_date(clock.now(), policy.zone), idle, stuck)
        if not accounts:
            return total
        failed = await settle_accounts(policy, accounts)
        stuck += failed
        total += len(accounts) - len(failed)


async def sweep(*, idle: bool = False) -> int:
    """Settle what is due in every program; see `sweep_program`."""
    total = 0
    last = UUID(int=0)
    while True:
        async with connection() as sql:
            programs = [row["id"] for row in await sql.fetch(_PROGRAMS, last)]
        if not programs:
            return total
        for program_id in programs:
            total += await sweep_program(program_id, idle=idle)
        last = programs[-1]
