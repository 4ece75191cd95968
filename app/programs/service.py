"""Programs: made with a first key, changed field by field."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from app import clock
from app.access.keys import add_key
from app.access.scopes import PROGRAM_SCOPES
from app.database import connection, retrying, transaction
from app.errors import ErrorCode, refuse
from app.ids import new_id
from app.jobs.jobs import JobName, queue_within
from app.ledger.expiry import ExpiryKind, ExpiryPolicy
from app.money import trim
from app.programs.inputs import NEVER_EXPIRES, NewProgram, check_new, check_settings
from app.programs.models import Program
from app.tiers.policy import USUAL_TIERS
from app.validation import INTEGRITY_ERRORS, Problems, violated_constraint

SETTINGS = (
    "name",
    "rounding",
    "multiplier_stacking",
    "max_points_per_day",
    "pending_days",
    "expiry",
    "debt_limit",
    "point_cost",
    "earn_on_points_payments",
    "tier_policy",
)
"""What can be changed of a program; slug, currency and zone are for good."""

FIRST_KEY_NAME = "First key"


async def create_program(program: NewProgram) -> tuple[Program, str]:
    """Make a program and its first API key, which has every scope, and return them both.

    Returns:
        The program, and the secret of the key, which cannot be shown again.

    Raises:
        Refused: INVALID with everything that is wrong, or ALREADY_EXISTS for the slug.
    """
    problems = Problems()
    check_new(program, problems)
    settings = {name: getattr(program, name) for name in SETTINGS}
    check_settings(settings, problems)
    problems.refuse_any()
    await check_zone(program.timezone)

    async def create() -> tuple[Program, str]:
        moment = clock.now()
        async with transaction():
            row = await Program.create(
                id=new_id(),
                slug=program.slug,
                currency=program.currency,
                timezone=program.timezone,
                **_columns(settings),
                expiry_changed_at=moment,
                rules_version=1,
                created_at=moment,
                updated_at=moment,
            )
            _, secret = await add_key(row.id, FIRST_KEY_NAME, PROGRAM_SCOPES)
        return _tidy(row), secret

    try:
        return await retrying(create)
    except INTEGRITY_ERRORS as error:
        if violated_constraint(error) != "program_slug_key":
            raise
        raise refuse(ErrorCode.ALREADY_EXISTS, "Another program has this slug.", "slug") from None


async def check_zone(timezone: str) -> None:
    """Refuse a zone that PostgreSQL, whose list may be older than Python's, cannot count days in.

    Raises:
        Refused: INVALID for `timezone`.
    """
    async with connection() as sql:
        known = await sql.fetchval("SELECT true FROM pg_timezone_names WHERE name = $1", timezone)
    if not known:
        raise refuse(ErrorCode.INVALID, "Timezone is not known to the database server.", "timezone")


async def update_program(program_id: UUID, changes: Mapping[str, Any]) -> Program:
    """Change some settings of a program, and return it.

    Args:
        changes: only what is to change, by the names in SETTINGS; None clears `max_points_per_day`
            (no cap), `expiry` (points never expire) and `tier_policy` (points of a lifetime).

    A change of the expiry starts a new period for everybody who is idle. Every change makes compiled
    rule sets old, because the policy is part of them.

    Raises:
        Refused: INVALID with everything that is wrong, or NOT_FOUND.
    """
    assert changes.keys() <= set(SETTINGS), changes.keys()
    problems = Problems()
    check_settings(changes, problems)
    problems.refuse_any()

    async def update() -> Program:
        async with transaction() as sql:
            row = await Program.select_for_update(no_key=True).get_or_none(id=program_id)
            if row is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such program.")
            if not changes:
                return row
            moment, before = clock.now(), _expiry(row)
            row.update_from_dict(_columns(changes))
            if _expiry(row) != before:
                row.expiry_changed_at = moment
            row.rules_version += 1
            row.updated_at = moment
            await row.save()
            if "tier_policy" in changes:
                # Whoever qualifies by the new policy need not wait until they buy something.
                await queue_within(sql, program_id, JobName.RECALCULATE_TIERS, None, new_id())
            return row

    return _tidy(await retrying(update))


def _columns(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the table has them: the expiry in two columns, the policy of tiers in five."""
    columns = dict(settings)
    if "expiry" in columns:
        expiry = columns.pop("expiry") or NEVER_EXPIRES
        columns |= {"expiry_kind": expiry.kind.value, "expiry_months": expiry.months}
    if "tier_policy" in columns:
        tiers = columns.pop("tier_policy") or USUAL_TIERS
        columns |= {
            "tier_basis": tiers.basis.value,
            "tier_window": tiers.window.value,
            "tier_months": tiers.months,
            "tier_downgrade": tiers.downgrade.value,
            "tier_grace_days": tiers.grace_days,
        }
    for name in ("rounding", "multiplier_stacking"):
        if name in columns:
            columns[name] = columns[name].value
    return columns


def _tidy(row: Program) -> Program:
    # The column pads with zeros; what comes back should read as it was given.
    row.point_cost = trim(row.point_cost)
    return row


def _expiry(row: Program) -> ExpiryPolicy:
    return ExpiryPolicy(ExpiryKind(row.expiry_kind), row.expiry_months)


async def get_program(program_id: UUID) -> Program:
    """Return a program.

    Raises:
        Refused: NOT_FOUND.
    """
    row = await Program.get_or_none(id=program_id)
    if row is None:
        raise refuse(ErrorCode.NOT_FOUND, "There is no such program.")
    return _tidy(row)


async def find_program(slug: str) -> Program | None:
    """Return the program of a slug, for operators; None when there is none."""
    row = await Program.get_or_none(slug=slug)
    return row and _tidy(row)


async def named_program(slug: str) -> Program:
    """Return the program of a slug, for operators.

    Raises:
        Refused: NOT_FOUND.
    """
    program = await find_program(slug)
    if program is None:
        raise refuse(ErrorCode.NOT_FOUND, f"There is no program {slug!r}.", "program")
    return program
