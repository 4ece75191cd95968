"""What becomes of connections that break, and of whoever waits for one."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest

from app import database
from app.database import DatabaseAway, connection, retrying, transaction
from app.errors import ErrorCode, Refused, Unavailable, refuse
from app.programs.models import Program
from app.settings import Settings

_TERMINATE = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE application_name = 'laurel-tests' AND datname = current_database()
"""


async def _terminate(url: str) -> None:
    sql = await asyncpg.connect(url)
    await sql.execute(_TERMINATE)
    await sql.close()


def break_connections(settings: Settings) -> None:
    """End all connections of this process at the server, without letting its event loop notice."""
    assert settings.database_url
    url = settings.database_url
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(_terminate(url))).result(30)


async def works() -> bool:
    """Return whether a transaction passes."""
    async with transaction() as sql:
        return bool(await sql.fetchval("SELECT true"))


@pytest.fixture
async def pool() -> AsyncIterator[Any]:
    """The pool of this process; every connection has to be back in it at the end."""
    pool = database._client()._pool
    assert pool
    # What other tests left in it are connections that this test would break as well.
    await pool.expire_connections()
    yield pool
    assert not [holder for holder in pool._holders if not holder.is_idle()]


async def test_a_task_whose_begin_failed_gets_a_healthy_connection_the_next_time(
    settings: Settings, pool: Any
) -> None:
    for _ in range(pool.get_max_size() + 1):
        assert await works()
        break_connections(settings)
        with pytest.raises(DatabaseAway):
            await works()
    assert await works()
    assert await Program.get_or_none(slug="nobody") is None


async def test_retrying_passes_over_connections_that_were_broken_meanwhile(
    settings: Settings, pool: Any
) -> None:
    assert await works()
    break_connections(settings)
    assert await retrying(works)


async def test_models_outside_of_a_transaction_say_that_the_database_is_away(
    settings: Settings, pool: Any
) -> None:
    assert await works()
    break_connections(settings)
    with pytest.raises(Unavailable):
        await Program.get_or_none(slug="nobody")
    assert await Program.get_or_none(slug="nobody") is None


async def test_reading_says_that_the_database_is_away(settings: Settings, pool: Any) -> None:
    assert await works()
    break_connections(settings)
    with pytest.raises(Unavailable):
        async with connection() as sql:
            await sql.fetchval("SELECT 1")


async def test_a_connection_that_breaks_inside_a_transaction_does_not_hide_what_happened_first(
    settings: Settings, pool: Any
) -> None:
    async def work() -> None:
        async with transaction() as sql:
            await sql.fetchval("SELECT 1")
            break_connections(settings)
            raise refuse(ErrorCode.INVALID, "No.")

    with pytest.raises(Refused):
        await work()
    assert await works()


async def test_cancelled_transactions_give_their_connections_back(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang() -> None:
        async with transaction() as sql:
            await sql.execute("SELECT pg_sleep(30)")

    # The server may miss a request to cancel that overtakes its statement: then the limits count.
    monkeypatch.setattr(database, "_RELEASE_SECONDS", 1)
    for delay in (0.0, 0.001, 0.002, 0.003, 0.005, 0.05):
        tasks = [asyncio.create_task(hang()) for _ in range(2 * pool.get_max_size())]
        await asyncio.sleep(delay)
        for task in tasks:
            task.cancel()
        done, late = await asyncio.wait(tasks, timeout=10)
        assert not late
        assert all(task.cancelled() for task in done)
        assert await works()


async def test_waiting_for_a_free_connection_has_a_limit(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_ACQUIRE_SECONDS", 0.2)
    held = [await pool.acquire() for _ in range(pool.get_max_size())]
    try:
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable, match="in use"):
                await retrying(works)
            with pytest.raises(Unavailable, match="in use"):
                async with connection():
                    pass
    finally:
        for each in held:
            await pool.release(each)
    assert await works()


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file or directory"),
        ConnectionRefusedError(),
        ConnectionResetError(),
        OSError(113, "No route to host"),
        TimeoutError(),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        asyncpg.CrashShutdownError("terminating connection because of crash of another server process"),
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
        asyncpg.DiskFullError("could not extend file"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_may_pass_is_tried_again_and_then_told_as_unavailable(error: Exception) -> None:
    tries = 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        raise error

    with pytest.raises(Unavailable) as told:
        await retrying(work, attempts=3)
    assert tries == 3
    assert told.value.__cause__ is error


async def test_what_does_not_pass_is_not_tried_again() -> None:
    tries = 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        raise asyncpg.UndefinedColumnError("a mistake")

    with pytest.raises(asyncpg.UndefinedColumnError):
        await retrying(work)
    assert tries == 1
