"""Moving points: the only way into the ledger, for one operation as for five hundred."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from app.clock import local_date
from app.ledger.operations import Operation, Outcome, Status, Terms
from app.programs.policy import ProgramPolicy

MAX_BATCH = 1000

_TERMS = "$13::timestamptz, $14::date, $15::text, $16::integer, $17::date, $18::bigint"

_APPLY = f"""
SELECT r.o_status, r.o_sequence, r.o_available, r.o_pending, r.o_reserved, r.o_taken, r.o_debt
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::date[], $6::date[], $7::uuid[],
            $8::bigint[], $9::timestamptz[], $10::text[], $11::uuid[], $12::text[])
    WITH ORDINALITY AS t(account, kind, amount, reference, matures_on, expires_on, key, request_hash,
                         occurred_at, source, source_id, reason, n),
    LATERAL ledger_apply(t.account, t.kind, t.amount, t.reference, t.matures_on, t.expires_on, t.key,
                         t.request_hash, t.occurred_at, t.source, t.source_id, t.reason, {_TERMS}) AS r
"""  # noqa: S608 - nothing but constants

# Encoding twelve arrays of one element each would take longer than the operation does.
_APPLY_ONE = f"""
SELECT o_status, o_sequence, o_available, o_pending, o_reserved, o_taken, o_debt
FROM ledger_apply($1::uuid, $2::text, $3::bigint, $4::bigint, $5::date, $6::date, $7::uuid, $8::bigint,
                  $9::timestamptz, $10::text, $11::uuid, $12::text, {_TERMS})
"""  # noqa: S608 - nothing but constants

_SETTLE = """
SELECT t.account, r.o_sequence, r.o_available, r.o_pending, r.o_reserved
FROM unnest($1::uuid[]) AS t(account),
    LATERAL ledger_apply(t.account, 'SETTLE', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
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
    if len(operations) == 1:
        return [await _apply_one(sql, terms, operations[0])]
    order = sorted(range(len(operations)), key=lambda n: operations[n].account_id)
    columns: list[Any] = [list(column) for column in zip(*(operations[n] for n in order), strict=True)]
    (
        account,
        kind,
        amount,
        key,
        request_hash,
        occurred_at,
        reference,
        matures,
        expires,
        source,
        source_id,
        reason,
    ) = columns
    rows = await sql.fetch(
        _APPLY,
        account,
        kind,
        amount,
        reference,
        matures,
        expires,
        key,
        request_hash,
        occurred_at,
        source,
        source_id,
        reason,
        *terms,
    )
    outcomes: list[Outcome | None] = [None] * len(operations)
    for n, row in zip(order, rows, strict=True):
        outcomes[n] = Outcome(Status(row[0]), *tuple(row)[1:])
    return outcomes  # type: ignore[return-value]


async def _apply_one(sql: asyncpg.Connection, terms: Terms, operation: Operation) -> Outcome:
    row = await sql.fetchrow(
        _APPLY_ONE,
        operation.account_id,
        operation.kind,
        operation.amount,
        operation.reference,
        operation.matures_on,
        operation.expires_on,
        operation.key,
        operation.request_hash,
        operation.occurred_at,
        operation.source,
        operation.source_id,
        operation.reason,
        *terms,
    )
    return Outcome(Status(row[0]), *tuple(row)[1:])


async def settle(sql: asyncpg.Connection, terms: Terms, accounts: Sequence[UUID]) -> None:
    """Mature and expire what is due in accounts of one program; where nothing is due nothing happens.

    Every operation does this for its own account first: settling ahead only keeps the books fresh.
    """
    assert len(accounts) <= MAX_BATCH
    await sql.execute(_SETTLE, sorted(accounts), *terms)
