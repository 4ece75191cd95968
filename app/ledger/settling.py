"""Settling accounts in a transaction of their own, around those whose books disagree."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg
import structlog

from app import clock
from app.database import retrying, transaction
from app.ledger.service import settle, terms
from app.metrics import ERRORS
from app.programs.policy import ProgramPolicy

log = structlog.get_logger("laurel.ledger")


async def settle_accounts(policy: ProgramPolicy, accounts: Sequence[UUID]) -> list[UUID]:
    """Mature and expire what is due in accounts of one program.

    Returns:
        Those whose books disagree: they stay as they are, and the log says so.

    Raises:
        Unavailable: the database stayed away or busy.
    """

    async def work() -> None:
        async with transaction() as sql:
            await settle(sql, terms(policy, clock.now()), accounts)

    try:
        await retrying(work)
    except asyncpg.PostgresError:
        if len(accounts) == 1:
            ERRORS.labels("ledger").inc()
            log.exception("account_not_settled", account_id=str(accounts[0]))
            return list(accounts)
        # Halves, until those to blame stand alone: they must not hold up the others.
        middle = len(accounts) // 2
        return await settle_accounts(policy, accounts[:middle]) + await settle_accounts(
            policy, accounts[middle:]
        )
    return []
