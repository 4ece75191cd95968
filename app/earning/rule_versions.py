"""What rules said before: each change of a rule has made a version, and all of them are kept."""

from collections.abc import Sequence
from uuid import UUID

from app.database import connection
from app.earning.rules import Rule
from app.earning.rulesets import rule_from_row
from app.paging import Page, PageResult, keyset, page_result


async def list_versions(program_id: UUID, rule_ids: Sequence[UUID], page: Page) -> list[PageResult[Rule]]:
    """Return the same page of each rule's versions, the latest first: one statement for all rules.

    Args:
        page: its keys are (version,).

    Returns:
        Rules as they were, whose `updated_at` is when that version came; nothing for rules of others.
    """
    part = keyset(("version",), descending=True, page=page, first_param=3)
    statement = f"""
        SELECT r.id, v.version, v.status, v.definition, r.created_at, v.created_at AS updated_at
        FROM earning_rule r CROSS JOIN LATERAL (
            SELECT version, status, definition, created_at FROM earning_rule_version
            WHERE rule_id = r.id AND {part.where} ORDER BY {part.order_by} LIMIT {part.limit}
        ) v
        WHERE r.program_id = $1 AND r.id = ANY($2::uuid[]) ORDER BY r.id, v.{part.order_by}
    """  # noqa: S608 - parts that are constants, values are parameters
    async with connection() as sql:
        rows = await sql.fetch(statement, program_id, rule_ids, *part.args)
    versions: dict[UUID, list[Rule]] = {rule_id: [] for rule_id in rule_ids}
    for row in rows:
        versions[row["id"]].append(rule_from_row(row))
    return [page_result(versions[rule_id], page) for rule_id in rule_ids]
