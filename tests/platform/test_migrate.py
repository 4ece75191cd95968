"""Migrations: once, whoever starts together; whole, whoever is killed."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from app import migrate as migrating
from app.errors import Unavailable
from app.migrate import migrate, pending
from app.settings import Settings
from tests.servers import Addresses


@pytest.fixture
async def empty(servers: Addresses) -> AsyncIterator[Settings]:
    """Settings that name a database which does not exist yet; it is dropped afterwards."""
    name = f"empty_{uuid.uuid4().hex}"
    yield Settings(database_url=servers.database_url(name))
    await ask(servers, "postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def ask(servers: Addresses, database: str, statement: str) -> object:
    connection = await asyncpg.connect(servers.database_url(database))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def count(settings: Settings, table: str) -> object:
    connection = await asyncpg.connect(settings.database_url)
    try:
        return await connection.fetchval(f"SELECT count(*) FROM {table}")
    finally:
        await connection.close()


async def test_two_at_once_migrate_an_absent_database_exactly_once(empty: Settings) -> None:
    applied = await asyncio.gather(migrate(empty), migrate(empty), migrate(empty))
    assert sum(applied) == max(applied) == await count(empty, "tortoise_migrations")
    assert await pending(empty) == []
    assert await migrate(empty) == 0


async def test_what_is_pending_is_named_in_order(empty: Settings, servers: Addresses) -> None:
    assert empty.database_url
    name = empty.database_url.split("@/")[1].split("?")[0]
    await ask(servers, "postgres", f'CREATE DATABASE "{name}"')
    names = await pending(empty)
    assert names == sorted(names)
    assert names[0].startswith("0001_")


@pytest.fixture
def broken_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Migrations of which the second fails half way."""
    package = tmp_path / "broken_migrations"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name, after, statements in (
        ("0001_good", "[]", "CREATE TABLE good ()"),
        ("0002_bad", "[('app', '0001_good')]", "CREATE TABLE half (); SELECT 1/0"),
    ):
        (package / f"{name}.py").write_text(
            "from tortoise.migrations.migration import Migration as Base\n"
            "from tortoise.migrations.operations import RunSQL\n"
            "class Migration(Base):\n"
            f"    dependencies = {after}\n"
            f"    operations = [RunSQL({statements!r}, '')]\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    original = migrating.tortoise_config

    def config(settings: Settings, application: str) -> dict[str, object]:
        made = original(settings, application)
        made["apps"]["app"]["migrations"] = "broken_migrations"
        return made

    monkeypatch.setattr(migrating, "tortoise_config", config)


@pytest.mark.usefixtures("broken_step")
async def test_a_migration_that_fails_leaves_nothing_of_itself(empty: Settings) -> None:
    with pytest.raises(Exception, match="division by zero"):
        await migrate(empty)
    assert await count(empty, "good") == 0
    assert await count(empty, "tortoise_migrations") == 1
    assert await count(empty, "pg_tables WHERE tablename = 'half'") == 0
    assert await pending(empty) == ["0002_bad"]


async def test_a_server_that_is_away_is_waited_for_and_then_named() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        away = Settings(database_url=f"postgresql://somebody:s3cret@127.0.0.1:{port}/laurel")
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1 does not answer") as caught:
            await migrate(away, wait_seconds=0.5)
    assert "s3cret" not in str(caught.value)
