"""Every query is scoped to a program: this reads the source and finds the ones that are not.

Models that have a `program_id` are queried through `app.access.tenancy.scoped` alone. Plain SQL that
touches a program's tables names `program_id`, or says by which id, checked before, it is scoped:
`/* scoped by: account */`. What has no owner yet, such as a queue, says `worker`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("app", "graphql_schema", "workers")
HELPER = Path("app/access/tenancy.py")
SCOPES = {"account", "member", "event", "rule", "reward", "redemption", "worker", "ledger"}

# Tables that belong to nobody, or, like `program`, are what others belong to.
SHARED_TABLES = {"program"}
# Writing a new row is not a query: the column is NOT NULL.
CREATING = {"create", "bulk_create"}
QUERYING = {
    *("all", "filter", "exclude", "get", "get_or_none", "get_or_create", "update_or_create", "first", "last"),
    *("latest", "earliest", "exists", "in_bulk", "raw", "annotate", "select_for_update", "bulk_update"),
    *("fetch_for_list", "fetch_related", "using_db", "prefetch_related", "describe_queryset"),
}

SCOPED_BY = re.compile(r"/\*\s*scoped by:\s*(\w+)\s*\*/")


def sources() -> list[Path]:
    return [
        path.relative_to(ROOT)
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "migrations" not in path.parts and "node_modules" not in path.parts
    ]


def tenant_tables() -> set[str]:
    """Return the names of all tables that the migrations make, but for the shared ones."""
    text = "".join(path.read_text() for path in (ROOT / "app/migrations").glob("[0-9]*.py"))
    return set(re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", text)) - SHARED_TABLES


def tenant_models() -> set[str]:
    """Return the names of all models that have a program."""
    return {
        node.name
        for path in (ROOT / "app").glob("*/models.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(item, ast.Assign) and _names(item) == ["program_id"] for item in node.body)
    }


def _names(assignment: ast.Assign) -> list[str]:
    return [target.id for target in assignment.targets if isinstance(target, ast.Name)]


def model_violations(tree: ast.Module, models: set[str]) -> Iterator[tuple[int, str]]:
    """Yield where a model is queried directly, under whatever name it was imported."""
    aliases = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or node.attr not in QUERYING:
            continue
        owner = node.value
        name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        if aliases.get(name, name) in models:
            yield node.lineno, f"{name}.{node.attr}: query through scoped()"


def sql_violations(tree: ast.Module, tables: set[str]) -> Iterator[tuple[int, str]]:
    """Yield where a text reads or writes a program's table without saying of which program."""
    name = rf"(?:ONLY\s+)?({'|'.join(sorted(tables, key=len, reverse=True))})\b"
    touches = re.compile(
        rf"\b(?:FROM|JOIN|INTO|UPDATE|USING|TABLE|COPY|TRUNCATE)\s+{name}"  # the usual places
        rf"|\bFROM\b[^;]*?,\s*(?:LATERAL\s+)?{name}\s+(?:AS\s+)?[a-z]\w*\s*(?:,|WHERE|$)",  # FROM a, b
        re.IGNORECASE,
    )
    for line, text in _texts(tree):
        found = touches.search(text)
        if found is None:
            continue
        declared = SCOPED_BY.search(text)
        if declared and declared[1] not in SCOPES:
            yield line, f"scoped by {declared[1]!r}, which is none of {', '.join(sorted(SCOPES))}"
        elif not declared and "program_id" not in text:
            yield line, f"{found[1] or found[2]}: SQL without program_id or a declared scope"


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield every text of a module but docstrings; what an f-string fills in is a blank."""
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped.update(id(part) for part in node.values)
            texts = [part.value if isinstance(part, ast.Constant) else " " for part in node.values]
            yield node.lineno, "".join(map(str, texts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value


def violations(source: str, models: set[str], tables: set[str]) -> list[tuple[int, str]]:
    tree = ast.parse(source)
    return sorted([*model_violations(tree, models), *sql_violations(tree, tables)])


def test_every_query_is_scoped_to_a_program() -> None:
    models, tables = tenant_models(), tenant_tables()
    found = [
        f"{path}:{line}: {problem}"
        for path in sources()
        if path != HELPER
        for line, problem in violations((ROOT / path).read_text(), models, tables)
    ]
    assert not found, "\n".join(found)


def test_the_checker_knows_what_belongs_to_programs() -> None:
    assert {"ApiKey", "Member"} <= tenant_models()
    assert "Program" not in tenant_models()
    assert {"member", "account", "event", "event_queue", "award", "lot", "outbox"} <= tenant_tables()
    assert Path("app/access/keys.py") in sources()


@pytest.mark.parametrize(
    "source",
    [
        "Member.filter(id=1)",
        "models.Member.all()",
        "await Member.get_or_none(id=1).first()",
        "from app.members.models import Member as M\nM.get(id=1)",
        "query = Member.filter",
        "sql.fetch('SELECT * FROM member WHERE id = $1')",
        "sql.fetch('select 1 from member where id = $1')",
        "sql.execute('UPDATE account SET kind = $1')",
        "sql.execute('INSERT INTO outbox (queue) VALUES ($1)')",
        "sql.execute('DELETE FROM event_queue USING lot WHERE true')",
        "sql.fetch('SELECT 1 FROM unnest($1::uuid[]) AS t(id), lot l WHERE l.account_id = t.id')",
        "sql.fetch(f'SELECT {columns} FROM member WHERE {where}')",
        "sql.fetch('SELECT 1 FROM program p JOIN event e ON true')",
        "text = 'SELECT 1 FROM lot /* scoped by: luck */ WHERE account_id = $1'",
    ],
)
def test_the_checker_finds(source: str) -> None:
    assert violations(source, {"Member"}, tenant_tables())


@pytest.mark.parametrize(
    "source",
    [
        "scoped(Member, program_id).filter(id=1)",
        "await Member.create(program_id=1)",
        "Program.get_or_none(id=1)",
        "'SELECT * FROM member WHERE program_id = $1'",
        "'SELECT * FROM lot /* scoped by: account */ WHERE account_id = $1'",
        "'SELECT * FROM unnest($1::text[], $2::uuid[]) AS t(kind, account, event, n)'",
        "'SELECT slug FROM program'",
        "raise Error('What an event gives is told in its award.')",
        '"""Reads a page from event and member."""',
    ],
)
def test_the_checker_lets_pass(source: str) -> None:
    assert violations(source, {"Member"}, tenant_tables()) == []
