"""Budgets of rules: points that a rule may give to all members together."""

from collections.abc import Collection, Mapping
from uuid import UUID

import asyncpg

from app.earning.refunds import STILL_COUNTED
from app.earning.rules import Rule

_NEW = "INSERT INTO earning_budget (rule_id, spent) VALUES ($1, 0) /* scoped by: rule */"

_OPEN = f"""
INSERT INTO earning_budget (rule_id, spent)
SELECT $1, coalesce(sum({STILL_COUNTED}), 0)::bigint FROM award a WHERE a.rule_id = $1
ON CONFLICT (rule_id) DO NOTHING
/* scoped by: rule */
"""  # noqa: S608 - nothing but constants

_SPENT = "SELECT rule_id, spent FROM earning_budget WHERE rule_id = ANY($1::uuid[]) /* scoped by: rule */"

_LOCK = f"{_SPENT} ORDER BY rule_id FOR UPDATE"

_GIVE_BACK = """
UPDATE earning_budget b SET spent = greatest(0, b.spent - t.points)
FROM unnest($1::uuid[], $2::bigint[]) AS t(rule_id, points) WHERE b.rule_id = t.rule_id /* scoped by: rule */
"""


async def open_budget(sql: asyncpg.Connection, rule: Rule, before: Rule | None = None) -> None:
    """Begin to count what a rule gives, where it has a budget for the first time.

    A budget is what a rule may give in all: what it gave before counts, and from then on all that it
    gives counts for good, whatever its versions say. Only awards that are being written at the very
    moment at which a rule gets its first budget are missed.
    """
    if rule.definition.limits.budget is not None:
        # Adding up all awards takes time, and a new rule has none.
        await sql.execute(_NEW if before is None else _OPEN, rule.id)


async def spent_by(sql: asyncpg.Connection, rules: Collection[UUID], *, lock: bool) -> dict[UUID, int]:
    """Return what rules have given in all, of those whose points are counted.

    Args:
        lock: keep it to ourselves until the transaction ends; all take these locks in the same order.
    """
    return dict(map(tuple, await sql.fetch(_LOCK if lock else _SPENT, list(rules))))


async def give_back(sql: asyncpg.Connection, points: Mapping[UUID, int]) -> None:
    """Take points, by rule, off what rules have given; negative ones are given again."""
    if await spent_by(sql, points, lock=True):
        await sql.execute(_GIVE_BACK, list(points), list(points.values()))
