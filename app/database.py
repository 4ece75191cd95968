"""The connection to PostgreSQL: one pool, one way to open a transaction, one place for retries.

Models go through Tortoise, hot statements through the same connection as plain SQL. Both see the
same transaction: `transaction()` opens Tortoise's and hands out the asyncpg connection inside it.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import orjson
from tortoise import Tortoise, connections
from tortoise.backends.asyncpg.client import AsyncpgDBClient
from tortoise.transactions import in_transaction

from app.errors import Unavailable
from app.settings import Settings

MODELS = {
    "app": [
        "app.programs.models",
        "app.access.models",
        "app.members.models",
    ]
}

T = TypeVar("T")

# What may pass when it is tried again: deadlock, serialization, lock timeout, a server that goes away.
TRANSIENT = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    ConnectionError,
    TimeoutError,
)
"""Errors after which the same transaction may succeed; nothing of it has been kept,
unless the connection was lost during COMMIT, which is why every write is safe to repeat."""


def _credentials(url: str) -> dict[str, Any]:
    """Split a postgresql:// address, `?host=/socket/folder` included, into asyncpg's arguments."""
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return {
        "host": query.get("host") or parts.hostname or "localhost",
        "port": int(query.get("port") or parts.port or 5432),
        "user": unquote(parts.username) if parts.username else query.get("user"),
        "password": unquote(parts.password) if parts.password else query.get("password"),
        "database": unquote(parts.path.lstrip("/")) or "postgres",
        **({"ssl": query["sslmode"]} if "sslmode" in query else {}),
    }


def _encode_jsonb(value: object) -> bytes:
    """Encode for PostgreSQL's binary format; text and bytes are taken to be JSON already."""
    if isinstance(value, str):
        value = value.encode()
    return b"\x01" + (value if isinstance(value, bytes) else orjson.dumps(value))


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=_encode_jsonb,
        decoder=lambda data: orjson.loads(data[1:]),
    )


def tortoise_config(settings: Settings, application: str) -> dict[str, Any]:
    """Return Tortoise's configuration for the database that the settings name."""
    assert settings.database_url
    return {
        "connections": {
            "default": {
                "engine": "tortoise.backends.asyncpg",
                "credentials": {
                    **_credentials(settings.database_url),
                    "minsize": 1,
                    "maxsize": settings.database_pool_size,
                    "command_timeout": settings.database_timeout_seconds,
                    "timeout": 5,
                    "init": _prepare,
                    "application_name": application,
                    "server_settings": {
                        "timezone": "UTC",
                        "lock_timeout": f"{int(settings.lock_timeout_seconds * 1000)}",
                        "idle_in_transaction_session_timeout": "60000",
                    },
                },
            }
        },
        "apps": {
            app: {"models": models, "default_connection": "default", "migrations": "app.migrations"}
            for app, models in MODELS.items()
        },
        "use_tz": True,
        "timezone": "UTC",
    }


async def connect(settings: Settings, application: str = "laurel") -> None:
    """Open the pool for this process.

    Raises:
        OSError, asyncpg.PostgresError: the database cannot be reached.
    """
    await Tortoise.init(config=tortoise_config(settings, application), _enable_global_fallback=True)
    # The pool comes into being on first use; callers racing for the first use would make two.
    async with connection() as sql:
        await sql.execute("SELECT 1")


async def disconnect() -> None:
    """Close the pool; connections that are in use get ten seconds."""
    await Tortoise.close_connections()


def _client() -> AsyncpgDBClient:
    return cast(AsyncpgDBClient, connections.get("default"))


@asynccontextmanager
async def connection() -> AsyncIterator[asyncpg.Connection]:
    """Lend a connection outside of any transaction, for reading."""
    async with _client().acquire_connection() as sql:
        yield sql


@asynccontextmanager
async def transaction() -> AsyncIterator[asyncpg.Connection]:
    """Open a transaction (READ COMMITTED); models used inside take part in it.

    Neither start tasks nor borrow a second connection inside: the pool would wait for itself.
    """
    async with in_transaction("default") as client:
        yield client._connection


async def retrying(work: Callable[[], Awaitable[T]], *, attempts: int = 4) -> T:
    """Run a whole transaction, again when the database says that it may pass.

    Args:
        work: opens its own transaction, and is safe to repeat.
        attempts: how often at the most; waits 20, 80, 320 ms (with jitter) in between.

    Raises:
        Unavailable: it did not pass within the attempts.
    """
    for attempt in range(attempts):
        try:
            return await work()
        except TRANSIENT as error:
            if attempt + 1 == attempts:
                raise Unavailable("The database is busy or away; try again.") from error
            await asyncio.sleep(0.02 * 4**attempt * random.uniform(0.5, 1.5))  # noqa: S311
    raise AssertionError("unreachable")
