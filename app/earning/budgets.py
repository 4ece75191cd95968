"""Budgets of rules: points that a rule may give to all members together."""

import asyncpg

from app.earning.rules import Rule

_NEW = """
INSERT INTO earning_budget (rule_id, since_version, initial, spent) VALUES ($1, $2, 0, 0)
/* scoped by: rule */
"""

_OPEN = """
INSERT INTO earning_budget (rule_id, since_version, initial, spent)
SELECT $1, $2, x.given, x.given
FROM (SELECT coalesce(sum(remaining), 0)::bigint AS given FROM award WHERE rule_id = $1) x
ON CONFLICT (rule_id) DO UPDATE
SET since_version = excluded.since_version, initial = excluded.initial, spent = excluded.spent
/* scoped by: rule */
"""


async def open_budget(sql: asyncpg.Connection, rule: Rule, before: Rule | None = None) -> None:
    """Begin to count what a rule gives, where it has a budget now and had none before.

    What it gave without one counts as well: a budget is what it may give in all. Awards of versions
    before this one that are being written at this very moment do not.
    """
    had = before is not None and before.definition.limits.budget is not None
    if rule.definition.limits.budget is not None and not had:
        # Adding up all awards takes time, and a new rule has none.
        await sql.execute(_NEW if before is None else _OPEN, rule.id, rule.version)
