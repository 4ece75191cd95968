"""Moving points: the only way into the ledger, for one operation as for five hundred."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from app.days import local_date
from app.ledger.operations import Operation, Outcome, Status, Terms
from app.live.hints import touch
from app.programs.policy import ProgramPolicy

MAX_BATCH = 1000

# Parameters stand in the order of the fields of Operation, then of Terms.
_TERMS = "$13::timestamptz, $14::date, $15::text, $16::integer, $17::date, $18::bigint"

_APPLY = f"""
SELECT r.o_status, r.o_sequence, r.o_available, r.o_pending, r.o_reserved, r.o_taken, r.o_debt
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::uuid[], $5::bigint[], $6::timestamptz[],
            $7::bigint[], $8::date[], $9::date[], $10::text[], $11::uuid[], $12::text[])
    WITH ORDINALITY AS t(account, kind, amount, key, request_hash, occurred_at,
                         reference, matures_on, expires_on, source, source_id, reason, n),
    LATERAL ledger_apply_3(t.account, t.kind, t.amount, t.reference, t.matures_on, t.expires_on, t.key,
                           t.request_hash, t.occurred_at, t.source, t.source_id, t.reason, {_TERMS}) AS r
"""  # noqa: S608 - nothing but constants

# Encoding twelve arrays of one element each would take longer than the operation does.
_APPLY_ONE = f"""
SELECT o_status, o_sequence, o_available, o_pending, o_reserved, o_taken, o_debt
FROM ledger_apply_3($1::uuid, $2::text, $3::bigint, $7::bigint, $8::date, $9::date, $4::uuid, $5::bigint,
                    $6::timestamptz, $10::text, $11::uuid, $12::text, {_TERMS})
"""  # noqa: S608 - nothing but constants

_STATUSES = {status.value: status for status in Status}

_SETTLE = """
SELECT t.account, r.o_sequence, r.o_available, r.o_pending, r.o_reserved
FROM unnest($1::uuid[]) AS t(account),
    LATERAL ledger_apply_3(t.account, 'SETTLE', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                           $2::timestamptz, $3::date, $4::text, $5::integer, $6::date, $7::bigint) AS r
"""


def terms(policy: ProgramPolicy, moment: datetime) -> Terms:
    """Return what the ledger needs to know of a program at a moment (UTC)."""
    return Terms(
        recorded_at=moment,
        today=local_date(moment, policy.zone),
        zone=policy.timezone,
        inactive_months=policy.expiry.inactive_months,
        inactive_since=local_date(policy.expiry_changed_at, policy.zone),
        debt_limit=policy.debt_limit,
    )


async def apply(sql: asyncpg.Connection, terms: Terms, operations: Sequence[Operation]) -> list[Outcome]:
    """Apply operations of one program, each by itself, and return their outcomes in the same order.

    One that is refused changes nothing and does not disturb the others. Accounts are locked in the
    order of their ids, so that two batches cannot wait for each other; operations of one account
    keep their order. The locks hold until the transaction of `sql` ends.

    Args:
        sql: a connection inside a transaction.
        operations: at most MAX_BATCH.

    Raises:
        asyncpg.PostgresError: with SQLSTATE LP500 where an account's books disagree; the whole
            batch is undone, and that account stays as it is until a person has looked at it.
    """
    assert len(operations) <= MAX_BATCH
    if not operations:
        return []
    touch({operation.account_id for operation in operations})
    if len(operations) == 1:
        return [_outcome(await sql.fetchrow(_APPLY_ONE, *operations[0], *terms))]
    order = sorted(range(len(operations)), key=lambda n: operations[n].account_id)
    columns = [list(column) for column in zip(*(operations[n] for n in order), strict=True)]
    rows = await sql.fetch(_APPLY, *columns, *terms)
    outcomes = dict(zip(order, map(_outcome, rows), strict=True))
    return [outcomes[n] for n in range(len(operations))]


async def post(sql: asyncpg.Connection, terms: Terms, operations: Sequence[Operation]) -> list[Outcome]:
    """Apply any number of operations that cannot be refused, and return their outcomes in the same order.

    Args:
        sql: a connection inside a transaction that holds the accounts, under whose lock everything was
            ruled out that a caller can cause.

    Raises:
        AssertionError: one was refused all the same; the transaction has to be undone.
    """
    outcomes: list[Outcome] = []
    for start in range(0, len(operations), MAX_BATCH):
        outcomes += await apply(sql, terms, operations[start : start + MAX_BATCH])
    if any(outcome.status is not Status.APPLIED for outcome in outcomes):
        raise AssertionError(f"the ledger refused what cannot be refused: {outcomes}")
    return outcomes


def _outcome(row: asyncpg.Record) -> Outcome:
    return Outcome(_STATUSES[row[0]], *row[1:])


async def settle(sql: asyncpg.Connection, terms: Terms, accounts: Sequence[UUID]) -> None:
    """Mature and expire what is due in accounts of one program; where nothing is due nothing happens.

    Every operation does this for its own account first: settling ahead only keeps the books fresh.
    """
    assert len(accounts) <= MAX_BATCH
    touch(accounts)
    await sql.execute(_SETTLE, sorted(accounts), *terms)
