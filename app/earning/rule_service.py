"""Earning rules: set up, changed in versions, archived and never deleted."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from app import clock
from app.campaigns.checks import check_audience
from app.database import connection, retrying, transaction
from app.earning.budgets import open_budget
from app.earning.rule_checks import check_definition
from app.earning.rules import EventKind, Rule, RuleDefinition, RuleStatus
from app.earning.rulesets import rule_from_row
from app.errors import ErrorCode, Refused, refuse
from app.ids import new_id
from app.paging import Page, PageResult, keyset, page_result
from app.programs.versions import bump

MAX_RULES = 1000
"""Rules that are not archived, in one program."""

_RULE = (
    "SELECT id, version, status, definition, created_at, updated_at FROM earning_rule WHERE program_id = $1"
)

_NAMESAKES = f"{_RULE} AND status = $2 AND status <> 'ARCHIVED' AND definition->>'name' = $3 ORDER BY id"

_NEW_RULE = """
INSERT INTO earning_rule (id, program_id, version, status, trigger, definition, created_at, updated_at)
VALUES ($1, $2, 1, $3, $4, $5, $6, $6)
"""

_NEW_VERSION = """
INSERT INTO earning_rule_version (rule_id, version, status, definition, created_at, rules_version)
VALUES ($1, $2, $3, $4, $5, $6)
/* scoped by: rule */
"""


async def create_rule(program_id: UUID, definition: RuleDefinition, status: RuleStatus) -> Rule:
    """Set up a rule, version 1; one that is the same in everything is not made again, but answered with.

    A rule has no name of the caller's to know a repetition by, and a twin would pay everybody twice.
    Compared is what rules say now, their status included: of a rule that has been paused or changed
    since, the same call makes another one, and a rule that was changed into this one is its twin.
    What is archived is nobody's twin. Of several twins the oldest is the answer.

    Raises:
        Refused: the definition makes no sense (every reason), or there are MAX_RULES rules.
    """
    now = clock.now()
    rule = Rule(new_id(), 1, status, definition.tidy(), now, now)
    return await retrying(lambda: _insert(program_id, rule, definition))


async def _insert(program_id: UUID, rule: Rule, sent: RuleDefinition) -> Rule:
    definition, status, now = rule.definition, rule.status, rule.created_at
    encoded = msgspec.json.encode(definition)
    async with transaction() as sql:
        version = await bump(sql, program_id)
        # As it was sent: what is wrong is told by its place in there.
        await _check(sql, program_id, sent, now)
        for row in await sql.fetch(_NAMESAKES, program_id, status, definition.name):
            # As values: 1.50 says the same as 1.5.
            if (twin := rule_from_row(row)).definition == definition:
                return twin
        live = await sql.fetchval(
            "SELECT count(*) FROM earning_rule WHERE program_id = $1 AND status <> 'ARCHIVED'", program_id
        )
        if live >= MAX_RULES:
            raise refuse(ErrorCode.LIMIT_REACHED, f"A program has at most {MAX_RULES:,} rules; archive some.")
        await sql.execute(
            _NEW_RULE,
            rule.id, program_id, status, definition.trigger, encoded, now,
        )  # fmt: skip
        await sql.execute(_NEW_VERSION, rule.id, 1, status, encoded, now, version)
        await open_budget(sql, rule)
    return rule


async def _check(
    sql: asyncpg.Connection,
    program_id: UUID,
    definition: RuleDefinition,
    now: datetime,
    before: RuleDefinition | None = None,
) -> None:
    errors = [*check_definition(definition, now, before)]
    if definition.audience is not None:
        errors += await check_audience(sql, program_id, definition.audience)
    if errors:
        raise Refused(errors)


async def _change(
    program_id: UUID, rule_id: UUID, change: Callable[[Rule], tuple[RuleDefinition, RuleStatus]]
) -> Rule:
    return await retrying(lambda: _change_once(program_id, rule_id, change))


async def _change_once(
    program_id: UUID, rule_id: UUID, change: Callable[[Rule], tuple[RuleDefinition, RuleStatus]]
) -> Rule:
    now = clock.now()
    async with transaction() as sql:
        version = await bump(sql, program_id)
        row = await sql.fetchrow(_RULE + " AND id = $2 FOR UPDATE", program_id, rule_id)
        if row is None:
            raise refuse(ErrorCode.NOT_FOUND, "There is no such rule.", "id")
        rule = rule_from_row(row)
        sent, status = change(rule)
        definition = sent.tidy()
        if (definition, status) == (rule.definition, rule.status):
            return rule
        if rule.status is RuleStatus.ARCHIVED:
            raise refuse(
                ErrorCode.WRONG_STATE, "The rule is archived, which is for good; make a new one.", "id"
            )
        if definition.trigger is not rule.definition.trigger:
            raise refuse(ErrorCode.INVALID, "What triggers a rule cannot change; make a new rule.", "trigger")
        ended = definition.ends_at is not None and definition.ends_at <= now
        if status is RuleStatus.ACTIVE and status is not rule.status and ended:
            message = "The rule's window has ended already: it could never pay. Move its end first."
            raise refuse(ErrorCode.WRONG_STATE, message, "status")
        if definition != rule.definition:
            await _check(sql, program_id, sent, now, rule.definition)
        changed = Rule(rule.id, rule.version + 1, status, definition, rule.created_at, now)
        encoded = msgspec.json.encode(definition)
        await sql.execute(
            "UPDATE earning_rule SET version = $3, status = $4, definition = $5, updated_at = $6"
            " WHERE program_id = $1 AND id = $2",
            program_id, rule.id, changed.version, status, encoded, now,
        )  # fmt: skip
        await sql.execute(_NEW_VERSION, rule.id, changed.version, status, encoded, now, version)
        await open_budget(sql, changed, rule)
    return changed


async def update_rule(program_id: UUID, rule_id: UUID, changes: Mapping[str, Any]) -> Rule:
    """Change a rule, which makes a new version; changing nothing makes none.

    Args:
        changes: the fields of a RuleDefinition, and `status`, that are to change; None clears a
            field that can be empty. What is not named stays as it is.

    Raises:
        Refused: no such rule, it is archived, or the result would make no sense (every reason).
    """
    fields = dict(changes)
    status: RuleStatus | None = fields.pop("status", None)
    return await _change(
        program_id,
        rule_id,
        lambda rule: (msgspec.structs.replace(rule.definition, **fields), status or rule.status),
    )


async def set_rule_status(program_id: UUID, rule_id: UUID, status: RuleStatus) -> Rule:
    """Activate, pause or archive a rule; archiving is for good, and nothing is ever deleted.

    Raises:
        Refused: no such rule, or it is archived already and another status is asked for.
    """
    return await _change(program_id, rule_id, lambda rule: (rule.definition, status))


async def get_rules(program_id: UUID, rule_ids: Sequence[UUID]) -> list[Rule | None]:
    """Return rules as they are now, in the order of the ids given; None where there is none."""
    async with connection() as sql:
        rows = await sql.fetch(_RULE + " AND id = ANY($2::uuid[])", program_id, list(rule_ids))
    rules = {row["id"]: rule_from_row(row) for row in rows}
    return [rules.get(rule_id) for rule_id in rule_ids]


async def list_rules(
    program_id: UUID,
    page: Page,
    statuses: Collection[RuleStatus],
    trigger: EventKind | None = None,
    started_by: datetime | None = None,
) -> PageResult[Rule]:
    """Return a page of a program's rules in one of these statuses, oldest first.

    Args:
        page: its keys are (id,).
        started_by: leaves out the rules whose window starts later (UTC).
    """
    part = keyset(("id",), page=page, first_param=5)
    async with connection() as sql:
        rows = await sql.fetch(
            f"{_RULE} AND status = ANY($2::text[]) AND ($3::text IS NULL OR trigger = $3)"
            " AND coalesce((definition->>'starts_at')::timestamptz <= $4, TRUE)"
            f" AND {part.where} ORDER BY {part.order_by} LIMIT {part.limit}",
            program_id, list(statuses), trigger, started_by, *part.args,
        )  # fmt: skip
    return page_result([rule_from_row(row) for row in rows], page)
