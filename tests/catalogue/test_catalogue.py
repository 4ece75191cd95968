"""What the ledger's safety rests on is in the database: constraints, indexes, functions, columns.

Tortoise leaves out of a first migration what it cannot say, and says nothing. So the catalogue of a
migrated database is compared with `expected.txt`. After a change that is meant, write it anew:

    python -m tests.catalogue.test_catalogue
"""

import asyncio
import sys
from pathlib import Path

import asyncpg
import pytest
from tortoise import Tortoise
from tortoise.models import Model

from app.database import MODELS, connection
from tests.servers import TEMPLATE, running_servers

UPDATE = "python -m tests.catalogue.test_catalogue"
EXPECTED = Path(__file__).with_name("expected.txt")

# What Tortoise keeps its books with is its own business.
CONSTRAINTS = """
SELECT conrelid::regclass || ' ' || conname || ': ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
  AND contype <> 'n' AND conrelid::regclass::text NOT LIKE 'tortoise%'
ORDER BY conrelid::regclass::text COLLATE "C", conname COLLATE "C"
"""
INDEXES = """
SELECT tablename || ' ' || indexname || ': ' || substr(indexdef, strpos(indexdef, ' ON ') + 4)
    || CASE WHEN indexdef LIKE 'CREATE UNIQUE%' THEN ' UNIQUE' ELSE '' END
FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE 'tortoise%'
ORDER BY tablename COLLATE "C", indexname COLLATE "C"
"""
FUNCTIONS = """
SELECT proname || '(' || pg_get_function_identity_arguments(oid) || ') ' || CASE provolatile
    WHEN 'v' THEN 'volatile' WHEN 's' THEN 'stable' ELSE 'immutable' END
FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY proname COLLATE "C", oid
"""
COLUMNS = """
SELECT c.table_name || '.' || c.column_name || ': ' || c.data_type
    || CASE c.is_nullable WHEN 'YES' THEN ' null' ELSE '' END
    || coalesce(' default ' || c.column_default, '')
    || CASE c.is_identity WHEN 'YES' THEN ' identity' ELSE '' END
    || CASE c.collation_name WHEN 'C' THEN ' collate C' ELSE '' END
FROM information_schema.columns c
WHERE c.table_schema = 'public' AND c.table_name NOT LIKE 'tortoise%'
ORDER BY c.table_name COLLATE "C", c.ordinal_position
"""
STORAGE = """
SELECT relname || ': ' || array_to_string(reloptions, ', ') FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND reloptions IS NOT NULL
ORDER BY relname COLLATE "C"
"""
# The design wants to outgrow one machine: it rests on nothing of these.
AVOIDED = """
SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'deferrable constraint ' || conname FROM pg_constraint
    WHERE condeferrable AND connamespace = 'public'::regnamespace
UNION ALL SELECT 'foreign key into the ledger ' || conname FROM pg_constraint
    WHERE contype = 'f' AND (confrelid::regclass::text IN ('account', 'ledger_entry', 'lot')
        OR conrelid::regclass::text IN ('account', 'ledger_entry', 'lot', 'allocation'))
"""
PARTS = {
    "Constraints": CONSTRAINTS,
    "Indexes": INDEXES,
    "Functions": FUNCTIONS,
    "Columns": COLUMNS,
    "Storage": STORAGE,
    "Avoided": AVOIDED,
}


async def read_catalogue(sql: asyncpg.Connection) -> dict[str, list[str]]:
    """Return each part of the catalogue, one line for each object."""
    return {
        name: [" ".join(row[0].split()) for row in await sql.fetch(statement)]
        for name, statement in PARTS.items()
    }


def to_text(catalogue: dict[str, list[str]]) -> str:
    """Return the catalogue as it is kept beside this file."""
    return "\n".join(
        line for name, lines in catalogue.items() for line in (f"## {name}", "", *(lines or ["none"]), "")
    )


def from_text(text: str) -> dict[str, list[str]]:
    """Return what `to_text` was given."""
    catalogue: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("## "):
            part = catalogue.setdefault(line.removeprefix("## "), [])
        elif line and line != "none":
            part.append(line)
    return catalogue


@pytest.mark.parametrize("part", PARTS)
async def test_the_database_has_what_it_is_expected_to_have(part: str) -> None:
    async with connection() as sql:
        found = (await read_catalogue(sql))[part]
    expected = from_text(EXPECTED.read_text())[part]
    missing, surplus = set(expected) - set(found), set(found) - set(expected)
    assert not missing, f"{part}: missing from the database, or changed there"
    assert not surplus, f"{part}: not expected; if it is meant, run {UPDATE}"
    assert found == expected


# By name, so that rewriting the expectation cannot lose them.
PILLARS = (
    "account account_pkey: PRIMARY KEY (id)",
    "account account_member_key: UNIQUE (member_id, kind)",
    "account account_pending_check: CHECK ((pending >= 0))",
    "account account_reserved_check: CHECK ((reserved >= 0))",
    "ledger_entry ledger_entry_pkey: PRIMARY KEY (account_id, sequence)",
    "ledger_entry ledger_entry_key: UNIQUE (account_id, key)",
    "lot lot_pkey: PRIMARY KEY (account_id, expires_on, sequence)",
    "lot lot_remaining: CHECK (((remaining >= 0) AND (remaining <= original)))",
    "lot lot_open: CHECK ((open = (remaining > 0)))",
    "allocation allocation_pkey: PRIMARY KEY (account_id, sequence, lot_sequence)",
    "event_outcome event_outcome_pkey: PRIMARY KEY (event_id)",
    "award award_pkey: PRIMARY KEY (event_id, rule_id)",
    "idempotency_key idempotency_key_pkey: PRIMARY KEY (program_id, operation, key)",
    "event event_external_id_key: public.event USING btree (program_id, external_id) UNIQUE",
    "member member_external_id_key: public.member USING btree (program_id, external_id) UNIQUE",
)


@pytest.mark.parametrize("pillar", PILLARS)
async def test_what_safety_rests_on_exists(pillar: str) -> None:
    async with connection() as sql:
        catalogue = await read_catalogue(sql)
    assert pillar in catalogue["Constraints"] + catalogue["Indexes"]


async def test_no_index_of_what_changes_with_every_movement() -> None:
    """An index on a column that every movement changes, or a condition on it, would forbid HOT updates."""
    async with connection() as sql:
        lines = (await read_catalogue(sql))["Indexes"]
    changing = {"available", "pending", "reserved", "remaining", "open", "lifetime_earned", "active_on"}
    for line in lines:
        table, _, definition = line.partition(" ")
        if table in ("account", "lot"):
            words = set(definition.replace("(", " ").replace(")", " ").replace(",", " ").split())
            assert not words & changing, line


def test_the_expectation_is_read_as_it_was_written() -> None:
    catalogue = {"One": ["a: b", "c"], "Two": []}
    assert from_text(to_text(catalogue)) == catalogue


def models() -> list[type[Model]]:
    return [model for app in MODELS for model in Tortoise.apps[app].values()]


def test_there_are_models() -> None:
    assert {"Program", "Member", "ApiKey"} <= {model.__name__ for model in models()}


async def test_every_column_of_a_model_exists_and_is_as_nullable() -> None:
    problems = []
    async with connection() as sql:
        for model in models():
            table = model._meta.db_table
            rows = await sql.fetch(
                "SELECT column_name, is_nullable, column_default FROM information_schema.columns"
                " WHERE table_schema = 'public' AND table_name = $1",
                table,
            )
            columns = {row["column_name"]: row for row in rows}
            fields = model._meta.fields_db_projection
            for name, column in fields.items():
                if column not in columns:
                    problems.append(f"{table} has no column {column}")
                elif (columns[column]["is_nullable"] == "YES") != model._meta.fields_map[name].null:
                    problems.append(f"{table}.{column} is as nullable as {model.__name__}.{name} is not")
            for column, row in columns.items():
                if column not in fields.values() and row["is_nullable"] == "NO" and not row["column_default"]:
                    problems.append(f"{model.__name__} cannot write {table}: it does not know {column}")
    assert problems == []


async def _write(address: str) -> None:
    sql = await asyncpg.connect(address)
    try:
        EXPECTED.write_text(to_text(await read_catalogue(sql)))
    finally:
        await sql.close()


if __name__ == "__main__":
    with running_servers() as addresses:
        asyncio.run(_write(addresses.database_url(TEMPLATE)))
    sys.stdout.write(f"{EXPECTED} is written.\n")
