"""Reading balances and entries. What is due is settled first, so that no dead point is ever shown."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app import clock
from app.database import connection
from app.days import end_of_day, local_date
from app.ledger.expiry import NEVER, add_months
from app.ledger.operations import MAX_POINTS, EntryKind
from app.ledger.settling import settle_accounts
from app.paging import Page, PageResult, keyset, page_result
from app.programs.policy import ProgramPolicy

MAX_EXPIRING_DAYS = 3660
_MAX_EXPIRING = 1000

_ACCOUNTS = """
SELECT id, available, pending, reserved, lifetime_earned, lifetime_spent, lifetime_expired,
    next_due, active_on, least((
        SELECT coalesce(sum(x.points), 0)
        FROM transfer t, unnest(t.expires_on, t.amounts) AS x(day, points) /* scoped by: account */
        WHERE t.receiver_id = account.id AND t.status = 'IN_TRANSIT' AND x.day >= $3
    ), $4)::bigint
FROM account WHERE program_id = $1 AND id = ANY($2::uuid[])
"""

_ENTRY_COLUMNS = """
account_id, sequence, kind, available_change, pending_change, reserved_change, available_after,
reason, source, source_id, occurred_at, recorded_at, expires_on
"""

_ENTRIES_AT = """
SELECT {columns}
FROM unnest($2::uuid[], $3::bigint[]) AS t(account, place)
JOIN account a ON a.id = t.account AND a.program_id = $1
JOIN ledger_entry e ON e.account_id = t.account AND e.sequence = t.place
""".format(columns=", ".join(f"e.{name.strip()}" for name in _ENTRY_COLUMNS.split(",")))

_EXPIRING = """
SELECT t.account AS account_id, x.expires_on, x.points
FROM unnest($1::uuid[], $2::date[]) AS t(account, until) CROSS JOIN LATERAL (
    SELECT expires_on, sum(remaining)::bigint AS points FROM lot /* scoped by: account */
    WHERE account_id = t.account AND open AND NOT pending AND expires_on <= t.until
    GROUP BY expires_on ORDER BY expires_on LIMIT $3
) x
"""


class Balance(NamedTuple):
    """One account's sums; `available` is below zero where the member owes.

    `in_transit` are points on their way to the member that have not expired there, MAX_POINTS at the most.
    """

    account_id: UUID
    available: int
    pending: int
    reserved: int
    lifetime_earned: int
    lifetime_spent: int
    lifetime_expired: int
    next_due: date
    active_on: date
    in_transit: int


class Entry(NamedTuple):
    """One movement as it is read; changes are signed."""

    account_id: UUID
    sequence: int
    kind: EntryKind
    available_change: int
    pending_change: int
    reserved_change: int
    available_after: int
    reason: str | None
    source: str | None
    source_id: UUID | None
    occurred_at: datetime
    recorded_at: datetime
    expires_on: date | None


class ExpiringPoints(NamedTuple):
    points: int
    expires_at: datetime


def idles_on(policy: ProgramPolicy, active_on: date) -> date:
    """Return the last day on which an account's points live if nothing happens; NEVER without that policy.

    Args:
        active_on: the last local day with an earn or a spend.
    """
    months = policy.expiry.inactive_months
    if months is None:
        return NEVER
    return add_months(max(active_on, local_date(policy.expiry_changed_at, policy.zone)), months)


async def get_balances(policy: ProgramPolicy, accounts: Sequence[UUID]) -> list[Balance | None]:
    """Return the balances of accounts of one program, in the order given; None where there is none.

    Accounts with something due are settled first; one whose books disagree is shown as it stands.
    """
    now = clock.now()
    today = local_date(now, policy.zone)

    async def read(sql: asyncpg.Connection, wanted: Sequence[UUID]) -> dict[UUID, Balance]:
        rows = await sql.fetch(_ACCOUNTS, policy.program_id, wanted, today, MAX_POINTS)
        return {row["id"]: Balance(*row) for row in rows}

    async with connection() as sql:
        found = await read(sql, list(accounts))
    due = [
        each.account_id
        for each in found.values()
        if each.next_due <= today or (each.available > 0 and idles_on(policy, each.active_on) < today)
    ]
    if due:
        await settle_accounts(policy, due)
        async with connection() as sql:
            found |= await read(sql, due)
    return [found.get(account) for account in accounts]


async def list_entries(accounts: Sequence[UUID], page: Page) -> list[PageResult[Entry]]:
    """Return the same page of each account's entries, the newest first: one statement for all accounts.

    Whose they are the caller has checked.
    """
    part = keyset(("sequence",), descending=True, page=page, first_param=2)
    statement = f"""
        SELECT e.* FROM unnest($1::uuid[]) AS t(account) CROSS JOIN LATERAL (
            SELECT {_ENTRY_COLUMNS} FROM ledger_entry /* scoped by: account */
            WHERE account_id = t.account AND {part.where} ORDER BY {part.order_by} LIMIT {part.limit}
        ) e
    """  # noqa: S608 - parts that are constants, values are parameters
    async with connection() as sql:
        rows = await sql.fetch(statement, accounts, *part.args)
    entries: dict[UUID, list[Entry]] = {account: [] for account in accounts}
    for row in rows:
        entries[row["account_id"]].append(Entry._make(row))
    return [page_result(entries[account], page) for account in accounts]


async def get_entries(program_id: UUID, places: Sequence[tuple[UUID, int]]) -> list[Entry | None]:
    """Return entries by account and sequence, in the order given; None where the program has none."""
    async with connection() as sql:
        rows = await sql.fetch(
            _ENTRIES_AT, program_id, [account for account, _ in places], [sequence for _, sequence in places]
        )
    entries = {(row["account_id"], row["sequence"]): Entry._make(row) for row in rows}
    return [entries.get(place) for place in places]


async def list_expiring(
    policy: ProgramPolicy, balances: Sequence[Balance], within_days: int
) -> list[list[ExpiringPoints]]:
    """Return the available points of accounts that expire within so many days (0 is today), soonest first.

    One statement for all accounts of a program.

    Args:
        within_days: 0 to MAX_EXPIRING_DAYS.
    """
    until = date.fromordinal(local_date(clock.now(), policy.zone).toordinal() + within_days)
    idle_days = [idles_on(policy, balance.active_on) for balance in balances]
    accounts = [balance.account_id for balance in balances]
    async with connection() as sql:
        rows = await sql.fetch(_EXPIRING, accounts, [min(until, day) for day in idle_days], _MAX_EXPIRING)
    found: dict[UUID, list[ExpiringPoints]] = {account: [] for account in accounts}
    for row in rows:
        found[row["account_id"]].append(
            ExpiringPoints(row["points"], end_of_day(row["expires_on"], policy.zone))
        )
    for balance, idle_day in zip(balances, idle_days, strict=True):
        expiring = found[balance.account_id]
        rest = balance.available - sum(each.points for each in expiring)
        if idle_day <= until and rest > 0:
            last = end_of_day(idle_day, policy.zone)
            if expiring and expiring[-1].expires_at == last:
                rest += expiring.pop().points
            expiring.append(ExpiringPoints(rest, last))
    return [found[account] for account in accounts]
