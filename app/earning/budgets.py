"""Budgets of rules: points that a rule may give to all members together."""

import asyncpg

from app.earning.rules import Rule

_NEW = "INSERT INTO earning_budget (rule_id, spent) VALUES ($1, 0) /* scoped by: rule */"

_OPEN = """
INSERT INTO earning_budget (rule_id, spent)
SELECT $1, coalesce(sum(remaining), 0)::bigint FROM award WHERE rule_id = $1
ON CONFLICT (rule_id) DO NOTHING
/* scoped by: rule */
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
