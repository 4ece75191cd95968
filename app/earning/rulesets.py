"""Compiled rule sets, kept in memory for as long as their version is the program's."""

from collections import OrderedDict
from uuid import UUID

import asyncpg
import msgspec

from app.earning.engine import RuleSet
from app.earning.rules import Rule, RuleDefinition, RuleStatus
from app.programs.policies import load_policy

_KEPT = 1000
_cache: OrderedDict[UUID, RuleSet] = OrderedDict()

_RULES = """
SELECT id, version, status, definition, created_at, updated_at
FROM earning_rule WHERE program_id = $1 AND status = 'ACTIVE'
"""


def rule_from_row(row: asyncpg.Record) -> Rule:
    """Return a rule from a row with the columns of `earning_rule`."""
    return Rule(
        id=row["id"],
        version=row["version"],
        status=RuleStatus(row["status"]),
        definition=msgspec.convert(row["definition"], RuleDefinition),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def load(sql: asyncpg.Connection, program_id: UUID) -> RuleSet:
    """Read and compile a program's rules, and keep them for `current`.

    Raises:
        Refused: there is no such program.
    """
    policy = await load_policy(sql, program_id)
    rule_set = RuleSet(policy, [rule_from_row(rule) for rule in await sql.fetch(_RULES, program_id)])
    _cache[program_id] = rule_set
    _cache.move_to_end(program_id)
    while len(_cache) > _KEPT:
        _cache.popitem(last=False)
    return rule_set


async def current(sql: asyncpg.Connection, program_id: UUID, version: int | None = None) -> RuleSet:
    """Return the rule set of a program.

    Args:
        version: the program's `rules_version` as just read; without it a set that is kept may be
            some moments old, which is enough for what never changes (currency, time zone).
    """
    kept = _cache.get(program_id)
    if kept is not None and (version is None or kept.policy.version == version):
        _cache.move_to_end(program_id)
        return kept
    return await load(sql, program_id)
