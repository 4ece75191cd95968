"""The connection to PostgreSQL: one pool, one way to open a transaction, one place for retries.

Models go through Tortoise, hot statements through the same connection as plain SQL. Both see the
same transaction: `transaction()` opens Tortoise's and hands out the asyncpg connection inside it.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import orjson
import structlog
from tortoise import Tortoise, connections
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.backends.base.client import (
    PoolConnectionWrapper,
    TransactionalDBClient,
    TransactionContext,
    TransactionContextPooled,
)
from tortoise.connection import get_connections
from tortoise.exceptions import TransactionManagementError
from tortoise.transactions import in_transaction

from app.errors import Unavailable
from app.settings import Settings

log = structlog.get_logger("laurel.database")

MODELS = {
    "app": [
        "app.programs.models",
        "app.access.models",
        "app.members.models",
    ]
}

T = TypeVar("T")

_on_commit: ContextVar[list[Callable[[], None]] | None] = ContextVar("on_commit", default=None)

_ACQUIRE_SECONDS = 10
_RELEASE_SECONDS = 5
_TELL_SECONDS = 5.0

# What may pass when it is tried again: deadlock, serialization, lock timeout, a server that goes away
# (whose socket may be missing or whose name may not be found meanwhile), is full, or was migrated.
TRANSIENT = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.InterfaceError,
    # What asyncpg says on a connection that the server ended between two statements.
    asyncpg.InternalClientError,
    OSError,
)
"""Errors after which the same transaction may succeed; nothing of it has been kept,
unless the connection was lost during COMMIT, which is why every write is safe to repeat."""


class DatabaseAway(Unavailable):
    """A statement or transaction failed for one of the reasons that pass; its cause says which."""


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


async def _leave_as_it_is(connection: asyncpg.Connection) -> None:
    """Reset nothing when a connection comes back: what we set lasts no longer than its transaction.

    asyncpg's own way takes a round trip for each time that a connection was lent.
    """


def tortoise_config(settings: Settings, application: str) -> dict[str, Any]:
    """Return Tortoise's configuration for the database that the settings name."""
    assert settings.database_url
    return {
        "connections": {
            "default": {
                # This module: Tortoise takes its `client_class`.
                "engine": __name__,
                "credentials": {
                    **_credentials(settings.database_url),
                    # asyncpg would restore a minimum by itself, with a traceback for each attempt.
                    "minsize": 0,
                    "maxsize": settings.database_pool_size,
                    "command_timeout": settings.database_timeout_seconds,
                    "timeout": 5,
                    "init": _prepare,
                    "reset": _leave_as_it_is,
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
        Unavailable: the database cannot be reached; the text says why.
        asyncpg.PostgresError: it refuses.
    """
    await Tortoise.init(config=tortoise_config(settings, application), _enable_global_fallback=True)
    # The pool comes into being on first use; callers racing for the first use would make two.
    try:
        async with _client().acquire_connection() as sql:
            await sql.execute("SELECT 1")
    except TRANSIENT as error:
        raise DatabaseAway(f"The database cannot be reached: {error}") from error


async def disconnect() -> None:
    """Close the pool; connections that are in use get ten seconds."""
    await Tortoise.close_connections()


async def _acquire(pool: asyncpg.Pool) -> asyncpg.Connection:
    """Take a connection out of the pool; one that broke is replaced by a new one.

    Raises:
        Unavailable: none was free, or could be made, within ten seconds.
    """
    try:
        async with asyncio.timeout(_ACQUIRE_SECONDS):
            return await pool.acquire()
    except TimeoutError as error:
        raise Unavailable("All connections to the database are in use; try again.") from error


async def _release(pool: asyncpg.Pool | None, connection: asyncpg.Connection) -> None:
    """Give a connection back; one that broke meanwhile changes nothing about what was done with it."""
    if pool is not None:
        with suppress(*TRANSIENT):
            await pool.release(connection, timeout=_RELEASE_SECONDS)


class _Lent(PoolConnectionWrapper[asyncpg.Connection]):
    """A connection for one statement or a few, waited for within limits."""

    async def __aenter__(self) -> asyncpg.Connection:
        await self.ensure_connection()
        self.connection = await _acquire(self.client._pool)
        return self.connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _release(self.client._pool, self.connection)


class _Transaction(TransactionContextPooled):
    """A transaction that gives its connection back whatever happens.

    Where BEGIN fails, Tortoise's own keeps the connection, and leaves the task's models and later
    transactions on it: a task that runs for long would never see a healthy one again.
    """

    async def __aenter__(self) -> TransactionalDBClient:
        await self.ensure_connection()
        self.client._connection = await _acquire(self.client._parent._pool)
        self.token = get_connections().set(self.connection_name, self.client)
        try:
            await self.client.begin()
        except BaseException:
            await self._give_back()
            raise
        return self.client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.client._finalized:
                return
            if kind is None:
                await self.client.commit()
            elif not issubclass(kind, TransactionManagementError):
                # A connection that is gone has rolled back by itself; what happened first is what counts.
                # One that is still busy with a statement that was to be cancelled is ended.
                with suppress(*TRANSIENT):
                    async with asyncio.timeout(_RELEASE_SECONDS):
                        await self.client.rollback()
        finally:
            await self._give_back()

    async def _give_back(self) -> None:
        get_connections().reset(self.token)
        await _release(self.client._parent._pool, self.client._connection)


class _Client(AsyncpgDBClient):
    """Tortoise's client of one pool, with limits on waiting and errors that say what may pass."""

    def acquire_connection(self) -> PoolConnectionWrapper[asyncpg.Connection]:
        return _Lent(self, self._pool_init_lock)

    def _in_transaction(self) -> TransactionContext:
        return _Transaction(TransactionWrapper(self), self._pool_init_lock)

    async def _translate_exceptions(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with _told():
            return await super()._translate_exceptions(func, *args, **kwargs)


client_class = _Client

_told_at = -_TELL_SECONDS


@contextmanager
def _told() -> Iterator[None]:
    """Turn what may pass into DatabaseAway, and tell the log why, every few seconds at the most."""
    global _told_at
    try:
        yield
    except TRANSIENT as error:
        moment = time.monotonic()
        if moment - _told_at >= _TELL_SECONDS:
            _told_at = moment
            log.warning("database_not_available", error=repr(error))
        raise DatabaseAway("The database is busy or away; try again.") from error


def _client() -> AsyncpgDBClient:
    return cast(AsyncpgDBClient, connections.get("default"))


@asynccontextmanager
async def connection() -> AsyncIterator[asyncpg.Connection]:
    """Lend a connection outside of any transaction, for reading.

    Raises:
        Unavailable: the database is away or busy.
    """
    with _told():
        async with _client().acquire_connection() as sql:
            yield sql


@asynccontextmanager
async def transaction() -> AsyncIterator[asyncpg.Connection]:
    """Open a transaction (READ COMMITTED); models used inside take part in it.

    Neither start tasks nor borrow a second connection inside: the pool would wait for itself.

    Raises:
        Unavailable: the database is away or busy. Nothing of the transaction has been kept, unless the
            connection was lost during COMMIT.
    """
    calls: list[Callable[[], None]] = []
    _on_commit.set(calls)
    try:
        with _told():
            async with in_transaction("default") as client:
                yield client._connection
    finally:
        _on_commit.set(None)
    for call in calls:
        call()


def after_commit(call: Callable[[], None]) -> None:
    """Have something done once the transaction under way is committed, and never if it is not.

    For what may be lost: a process that dies in between does not do it, and outside of `transaction()`,
    where nobody can tell of the commit, it is not done either.

    Args:
        call: quick, and raises nothing.
    """
    calls = _on_commit.get()
    if calls is not None:
        calls.append(call)


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
            with _told():
                return await work()
        except DatabaseAway:
            if attempt + 1 == attempts:
                raise
            await asyncio.sleep(0.02 * 4**attempt * random.uniform(0.5, 1.5))  # noqa: S311
    raise AssertionError("unreachable")
