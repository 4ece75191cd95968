"""Compiled rule sets, kept in memory for as long as their version is the program's."""

from collections import OrderedDict
from collections.abc import Collection, Hashable, Sequence
from typing import NamedTuple, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from app.campaigns.reads import load_campaigns
from app.earning.receipts import Context
from app.earning.rule_history import RuleHistory, RuleVersion, goes_by_today
from app.earning.rules import Rule, RuleDefinition, RuleStatus
from app.earning.ruleset import Facts, RuleSet
from app.programs.policies import load_policy
from app.programs.policy import ProgramPolicy
from app.tiers.reads import load_tiers

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")

_KEPT = 1000
_KEPT_PAST = 64
_cache: OrderedDict[UUID, RuleSet] = OrderedDict()
_past: OrderedDict[tuple[UUID, int], RuleHistory] = OrderedDict()
_epochs: OrderedDict[tuple[str, UUID, int, int], RuleSet] = OrderedDict()

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

_HISTORY = """
SELECT r.id, v.version, v.status, v.definition, r.created_at, v.created_at AS updated_at, v.rules_version
FROM earning_rule r JOIN earning_rule_version v ON v.rule_id = r.id
WHERE r.program_id = $1 AND v.rules_version <= $2 ORDER BY r.id, v.version
"""

_TURNS = """
SELECT p.rules_version, r.made_at, r.changed_at, r.rewards_first_purchases FROM program p, (
    SELECT min(created_at) AS made_at, max(updated_at) AS changed_at,
        coalesce(bool_or(definition->>'referral_trigger' = 'FIRST_PURCHASE'), false)
            AS rewards_first_purchases
    FROM earning_rule WHERE program_id = $1
) r WHERE p.id = $1
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
        campaigns = await load_campaigns(sql, program_id)
        version, *turns = await sql.fetchrow(_TURNS, program_id)
        # Statements of one transaction see what others commit between them.
        if version == policy.version:
            break
    rule_set = RuleSet(policy, rules, tiers, campaigns, *turns)
    return _keep(_cache, program_id, rule_set, _KEPT)


def _keep(cache: OrderedDict[Key, Kept], key: Key, kept: Kept, most: int) -> Kept:
    cache[key] = kept
    cache.move_to_end(key)
    while len(cache) > most:
        cache.popitem(last=False)
    return kept


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


async def then(sql: asyncpg.Connection, rule_set: RuleSet, facts: Sequence[Facts]) -> list[RuleSet]:
    """Return the rules that each event goes by: those of the time at which it happened.

    Args:
        rule_set: as `current` returned it; its tiers and campaigns know their own histories.
    """
    made_at, changed_at = rule_set.made_at, rule_set.changed_at
    if made_at is None or changed_at is None:
        return [rule_set] * len(facts)
    if not any(made_at <= each.occurred_at < changed_at and not goes_by_today(each) for each in facts):
        return [rule_set] * len(facts)
    policy = rule_set.policy
    book = (await _histories(sql, policy.program_id, {policy.version}))[policy.version]
    return [
        rule_set if not (epoch := book.epoch(each)) else _of_epoch(book, epoch, policy, "then")
        for each in facts
    ]


class Decided(NamedTuple):
    """By what an event was decided: the version of the rule set, the event, and the rest of its receipt."""

    version: int
    facts: Facts
    context: Context


async def past(sql: asyncpg.Connection, program_id: UUID, decided: Sequence[Decided]) -> list[RuleSet]:
    """Return the rules by which events were decided; tiers and campaigns are in their receipts.

    One statement at most, however many events and versions.
    """
    if not decided:
        return []
    books = await _histories(sql, program_id, {each.version for each in decided})
    # What can change of a policy is in the receipts.
    policy = (await current(sql, program_id)).policy
    return [
        _of_epoch(
            books[each.version],
            books[each.version].epoch(each.facts),
            each.context.policy(policy, each.version),
            "past",
        )
        for each in decided
    ]


async def _histories(
    sql: asyncpg.Connection, program_id: UUID, versions: Collection[int]
) -> dict[int, RuleHistory]:
    """Return what the rules of a program were like up to several versions of its rule set."""
    found = {version: _past[program_id, version] for version in versions if (program_id, version) in _past}
    missing = set(versions) - found.keys()
    if missing:
        rows = await sql.fetch(_HISTORY, program_id, max(missing))
        known = [RuleVersion(rule_from_row(row), row["rules_version"]) for row in rows]
        for version in missing:
            found[version] = RuleHistory(known, version)
    for version in versions:
        _keep(_past, (program_id, version), found[version], _KEPT_PAST)
    return found


def _of_epoch(book: RuleHistory, epoch: int, policy: ProgramPolicy, what_for: str) -> RuleSet:
    # Of the past only what receipts keep is known of the policy: what earns has it in full.
    key = (what_for, policy.program_id, policy.version, epoch)
    kept = _epochs.get(key)
    return _keep(_epochs, key, kept or RuleSet(policy, book.rules(epoch)), _KEPT_PAST)


async def of_versions(
    sql: asyncpg.Connection, policy: ProgramPolicy, versions: Sequence[tuple[UUID, int]]
) -> RuleSet:
    """Return nothing but certain versions of rules, given as pairs of rule and version."""
    rows = await sql.fetch(_VERSIONS, policy.program_id, *map(list, zip(*versions, strict=True)))
    return RuleSet(policy, map(rule_from_row, rows))
