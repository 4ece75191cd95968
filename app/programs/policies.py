"""Reading a program's policy."""

import time
from uuid import UUID

import asyncpg

from app.database import connection
from app.errors import ErrorCode, refuse
from app.ledger.expiry import ExpiryKind, ExpiryPolicy
from app.programs.policy import MultiplierStacking, ProgramPolicy, Rounding
from app.tiers.policy import TierBasis, TierDowngrade, TierPolicy, TierWindow

_POLICY = """
SELECT id, rules_version, currency, timezone, rounding, multiplier_stacking, max_points_per_day, pending_days,
    expiry_kind, expiry_months, expiry_changed_at, debt_limit, earn_on_points_payments,
    tier_basis, tier_window, tier_months, tier_downgrade, tier_grace_days, updated_at
FROM program WHERE id = $1
"""


async def load_policy(sql: asyncpg.Connection, program_id: UUID) -> ProgramPolicy:
    """Return a program's policy as it is now.

    Raises:
        Refused: there is no such program.
    """
    row = await sql.fetchrow(_POLICY, program_id)
    if row is None:
        raise refuse(ErrorCode.NOT_FOUND, "There is no such program.")
    return ProgramPolicy(
        program_id=row["id"],
        version=row["rules_version"],
        currency=row["currency"],
        timezone=row["timezone"],
        rounding=Rounding(row["rounding"]),
        multiplier_stacking=MultiplierStacking(row["multiplier_stacking"]),
        max_points_per_day=row["max_points_per_day"],
        pending_days=row["pending_days"],
        expiry=ExpiryPolicy(ExpiryKind(row["expiry_kind"]), row["expiry_months"]),
        expiry_changed_at=row["expiry_changed_at"],
        debt_limit=row["debt_limit"],
        earn_on_points_payments=row["earn_on_points_payments"],
        tiers=TierPolicy(
            TierBasis(row["tier_basis"]),
            TierWindow(row["tier_window"]),
            row["tier_months"],
            TierDowngrade(row["tier_downgrade"]),
            row["tier_grace_days"],
        ),
        updated_at=row["updated_at"],
    )


_MAX_AGE_SECONDS = 1.0
_MAX_KEPT = 10_000
_recent: dict[UUID, tuple[float, ProgramPolicy]] = {}


async def recent_policy(program_id: UUID) -> ProgramPolicy:
    """Return a program's policy as it was at most a second ago: for reading, not for deciding.

    Raises:
        Refused: there is no such program.
    """
    now = time.monotonic()
    kept = _recent.get(program_id)
    if kept is not None and now - kept[0] < _MAX_AGE_SECONDS:
        return kept[1]
    async with connection() as sql:
        policy = await load_policy(sql, program_id)
    if len(_recent) >= _MAX_KEPT:
        _recent.clear()
    _recent[program_id] = (now, policy)
    return policy
