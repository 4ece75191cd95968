"""Bring the database's tables up to this version, once, however many processes start together."""

import asyncio
import pkgutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import asyncpg
import structlog
from tortoise.context import TortoiseContext
from tortoise.migrations.executor import MigrationExecutor, MigrationTarget
from tortoise.transactions import in_transaction

from app.database import tortoise_config
from app.errors import Unavailable
from app.settings import Settings

log = structlog.get_logger(__name__)

# "laurel" in ASCII: two versions of Laurel must agree on it for ever.
_LOCK_KEY = 0x6C617572656C
_LOCK_SECONDS = 600
# Rewriting a large table takes its time; a request's limits are not a migration's.
_STATEMENT_SECONDS = 3600
_NOT_YET = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.PostgresConnectionError,
)


async def migrate(settings: Settings, *, wait_seconds: float = 30) -> int:
    """Apply the migrations that the database does not have yet.

    Waits for the server, makes the database when it is missing, and lets one process at a time work:
    a second one waits for the first and then finds nothing to do. A migration and the record of it
    are one transaction, so that being killed in the middle leaves all of it or nothing.

    Args:
        settings: name the database.
        wait_seconds: how long to wait for a server that does not answer.

    Returns:
        How many migrations were applied.

    Raises:
        Unavailable: the server does not answer, or another process holds the lock for ten minutes.
        asyncpg.PostgresError: the server refuses (password, rights, a statement of a migration).
    """
    config = tortoise_config(settings, "laurel-migrate")
    credentials = config["connections"]["default"]["credentials"]
    credentials.update(maxsize=2, command_timeout=_STATEMENT_SECONDS)
    async with _alone(await _connect(credentials, wait_seconds)), TortoiseContext() as context:
        await context.init(config=config)
        return await _apply(context, config["apps"])


async def pending(settings: Settings) -> list[str]:
    """Return the names of the migrations that the database does not have yet, in order.

    Once it has returned none it goes on doing so for this version of Laurel: keep that answer.

    Raises:
        Unavailable: the server does not answer within five seconds.
        asyncpg.PostgresError: the server refuses.
    """
    config = tortoise_config(settings, "laurel-migrate")
    connection = await _connect(config["connections"]["default"]["credentials"], 5, create=False)
    try:
        applied: set[tuple[str, str]] = set()
        if await connection.fetchval("SELECT to_regclass('tortoise_migrations')") is not None:
            rows = await connection.fetch("SELECT app, name FROM tortoise_migrations")
            applied = {(row["app"], row["name"]) for row in rows}
    finally:
        await connection.close(timeout=5)
    return [name for app, name in _on_disk(config["apps"]) if (app, name) not in applied]


def _on_disk(apps: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    return [
        (label, module.name)
        for label, app in apps.items()
        for module in sorted(
            pkgutil.iter_modules(import_module(app["migrations"]).__path__), key=lambda found: found.name
        )
        if not module.ispkg and module.name[0] not in "_~"
    ]


async def _apply(context: TortoiseContext, apps: dict[str, dict[str, Any]]) -> int:
    client = context.db("default")
    # Without a target it only makes the table that records what has been applied.
    await MigrationExecutor(client, apps).migrate([])
    steps = await MigrationExecutor(client, apps).plan()
    for step in steps:
        migration = step.migration
        target = [MigrationTarget(migration.app_label, migration.name)]
        if migration.atomic:
            # Tortoise records a migration after its transaction; around both goes one of ours.
            async with in_transaction("default") as transaction:
                await MigrationExecutor(transaction, apps).migrate(target, direction="forward")
        else:
            await MigrationExecutor(client, apps).migrate(target, direction="forward")
        log.info("migration.applied", name=migration.name)
    return len(steps)


async def _connect(
    credentials: dict[str, Any], wait_seconds: float, *, create: bool = True
) -> asyncpg.Connection:
    """Open a connection of its own, waiting for the server and making the database if need be."""
    arguments = {
        name: value
        for name, value in credentials.items()
        if name in ("host", "port", "user", "password", "database", "ssl", "timeout")
    }
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return await asyncpg.connect(**arguments, command_timeout=60)
        except asyncpg.InvalidCatalogNameError:
            if not create:
                raise
            await _create_database(arguments)
        except _NOT_YET as error:
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"PostgreSQL at {arguments['host']} does not answer: {error or type(error).__name__}"
                ) from error
            await asyncio.sleep(0.2)


async def _create_database(arguments: dict[str, Any]) -> None:
    connection = await asyncpg.connect(**{**arguments, "database": "postgres"}, command_timeout=60)
    name = arguments["database"].replace('"', '""')
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
        log.info("database.created", name=arguments["database"])
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        pass  # Another process was faster.
    finally:
        await connection.close(timeout=5)


@asynccontextmanager
async def _alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Hold the one lock of all migrations; it ends with the connection, whatever happens."""
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
            if time.monotonic() >= deadline:
                raise Unavailable("Another process has been migrating the database for ten minutes.")
            await asyncio.sleep(0.1)
        yield
    finally:
        await connection.close(timeout=5)
