"""Compiled rule sets, kept in memory for as long as their version is the program's."""

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

import asyncpg
import msgspec

from app.campaigns.reads import load_campaigns
from app.earning.receipts import Context
from app.earning.rules import Rule, RuleDefinition, RuleStatus
from app.earning.ruleset import RuleSet
from app.programs.policies import load_policy
from app.programs.policy import ProgramPolicy
from app.tiers.reads import load_tiers

Key = TypeVar("Key", bound=Hashable)

_KEPT = 1000
_KEPT_PAST = 64
_cache: OrderedDict[UUID, RuleSet] = OrderedDict()
_past: OrderedDict[tuple[UUID, int], RuleSet] = OrderedDict()

_RULES = """
SELECT id, version, status, definition, created_at, updated_at
FROM earning_rule WHERE program_id = $1 AND status <> 'ARCHIVED'
"""

_VERSIONS = """
SELECT r.id, v.version, v.status, v.definition, r.created_at, v.created_at AS updated_at
FROM unnest($2::uuid[], $3::integer[]) AS t(rule_id, version)
JOIN earning_rule_version v ON v.rule_id = t.rule_id AND v.version = t.version
JOIN earning_rule r ON r.id = v.rule_id
WHERE r.program_id = $1
"""

_VERSION = "SELECT rules_version FROM program WHERE id = $1"

# Each version of a rule once, however many of the asked for versions of the rule set it was a part of.
_RULES_THEN = """
SELECT * FROM (
    SELECT r.id, v.version, v.status, v.definition, r.created_at, v.created_at AS updated_at,
        v.rules_version AS since, lead(v.rules_version) OVER (PARTITION BY r.id ORDER BY v.version) AS until
    FROM earning_rule r JOIN earning_rule_version v ON v.rule_id = r.id
    WHERE r.program_id = $1
) x
WHERE EXISTS (
    SELECT FROM unnest($2::bigint[]) AS t(version)
    WHERE x.since <= t.version AND (x.until IS NULL OR t.version < x.until)
)
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
    while True:
        policy = await load_policy(sql, program_id)
        rules = [rule_from_row(rule) for rule in await sql.fetch(_RULES, program_id)]
        tiers = await load_tiers(sql, program_id)
        rule_set = RuleSet(policy, rules, tiers, await load_campaigns(sql, program_id))
        # Statements of one transaction see what others commit between them.
        if await sql.fetchval(_VERSION, program_id) == policy.version:
            break
    return _keep(_cache, program_id, rule_set, _KEPT)


def _keep(cache: OrderedDict[Key, RuleSet], key: Key, rule_set: RuleSet, most: int) -> RuleSet:
    cache[key] = rule_set
    cache.move_to_end(key)
    while len(cache) > most:
        cache.popitem(last=False)
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


async def past(sql: asyncpg.Connection, program_id: UUID, version: int, context: Context) -> RuleSet:
    """Return the rules of a program as they were at a version of its rule set.

    Args:
        version: as it is kept with an event's outcome.
        context: as it is kept there; tiers and campaigns are in it, and not in the rule set.
    """
    return (await all_past(sql, program_id, {version: context}))[version]


async def all_past(
    sql: asyncpg.Connection, program_id: UUID, contexts: Mapping[int, Context]
) -> dict[int, RuleSet]:
    """Return the rules of a program as they were at several versions, in two statements at most.

    Args:
        contexts: of one event for each version, as `past` takes them.
    """
    found = {}
    for version in contexts:
        if kept := _past.get((program_id, version)):
            _past.move_to_end((program_id, version))
            found[version] = kept
    missing = contexts.keys() - found.keys()
    if missing:
        policy = await load_policy(sql, program_id)
        rows = await sql.fetch(_RULES_THEN, program_id, list(missing))
        rules = [(rule_from_row(row), row["since"], row["until"]) for row in rows]
        for version in missing:
            then = [
                rule
                for rule, since, until in rules
                if since <= version and (until is None or version < until)
            ]
            rule_set = RuleSet(contexts[version].policy(policy, version), then)
            found[version] = _keep(_past, (program_id, version), rule_set, _KEPT_PAST)
    return found


async def of_versions(
    sql: asyncpg.Connection, policy: ProgramPolicy, versions: Sequence[tuple[UUID, int]]
) -> RuleSet:
    """Return nothing but certain versions of rules, given as pairs of rule and version."""
    rows = await sql.fetch(_VERSIONS, policy.program_id, *map(list, zip(*versions, strict=True)))
    return RuleSet(policy, map(rule_from_row, rows))
