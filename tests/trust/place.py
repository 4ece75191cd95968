"""A whole Laurel in a folder of its own, with fsync on, each part of which a test may kill.

The servers are children of this process, `laurel serve` and `laurel work` real processes. All of
them end with this process, however that ends.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import httpx
import psutil
import redis.asyncio

from app.commands import SUPERVISOR_VARIABLE
from app.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.platform.instance import free_port

ADMIN_KEY = "trust-admin-key-trust-admin-key-trust"
START_SECONDS = 60
MOST_WARNINGS = 40
_POLL_SECONDS = 0.02

Server = EmbeddedPostgres | EmbeddedRedis


async def until(
    condition: Callable[[], Awaitable[Any]], seconds: float, what: str, *, every: float = _POLL_SECONDS
) -> Any:
    """Wait until something is true and return it; fail when it is not in time."""
    deadline = monotonic() + seconds
    while not (found := await condition()):
        if monotonic() >= deadline:
            raise AssertionError(f"not within {seconds:g} seconds: {what}")
        await asyncio.sleep(every)
    return found


class Child:
    """One command of Laurel's as a child process, with its log in a file that survives it."""

    def __init__(self, arguments: list[str], folder: Path, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._start = (arguments, folder, {**environment, SUPERVISOR_VARIABLE: str(os.getpid())})
        self.spawn()

    def spawn(self) -> None:
        """Start it, or start it again."""
        arguments, folder, environment = self._start
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app.cli", *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """End it with SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """End it with SIGTERM, and return its exit code."""
        if self.is_alive():
            self.process.terminate()
        try:
            return self.process.wait(35)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def cpu_seconds(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)


class Place:
    """The servers, one API process, and as many workers as a test wants."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.postgres = EmbeddedPostgres(folder)
        self.redis = EmbeddedRedis(folder)
        self.workers: list[Child] = []
        self._numbers = count()
        self._environment = environment
        self._api: Child | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self._environment,
            "LAUREL_DATABASE_URL": self.postgres.url(),
            "LAUREL_REDIS_URL": self.redis.url(),
            "LAUREL_DATA_DIR": str(self.folder),
            "LAUREL_ADMIN_KEY": ADMIN_KEY,
            "LAUREL_PORT": str(self.port),
            "LAUREL_LOG_FORMAT": "json",
        }

    @property
    def api(self) -> Child:
        assert self._api
        return self._api

    @property
    def worker(self) -> Child:
        """The first worker, which is always there."""
        return self.workers[0]

    async def start(self) -> None:
        """Start everything, on a migrated database."""
        self.postgres.start()
        self.redis.start()
        migrated = await self.command("migrate")
        assert migrated.returncode == 0, migrated.stderr
        self._api = Child(["serve"], self.folder, self.environment, self.folder / "api.txt")
        self.add_worker()
        await until(self.is_ready, START_SECONDS, "the API is ready")

    def stop(self) -> None:
        """Stop everything, whatever state it is in."""
        for child in (*self.workers, *filter(None, [self._api])):
            with suppress(Exception):
                child.process.send_signal(signal.SIGCONT)
                child.kill()
        for server in (self.redis, self.postgres):
            if server.pid and server.is_alive():
                os.kill(server.pid, signal.SIGCONT)
            server.stop()

    def add_worker(self, queues: str = "") -> Child:
        """Start one more worker, of some queues or of all."""
        arguments = ["work", "--queues", queues] if queues else ["work"]
        log = self.folder / f"worker-{next(self._numbers)}.txt"
        worker = Child(arguments, self.folder, self.environment, log)
        self.workers.append(worker)
        return worker

    async def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of Laurel's to its end."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-P", "-m", "app.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    async def is_ready(self) -> bool:
        try:
            async with httpx.AsyncClient() as http:
                return (await http.get(f"{self.url}/readyz", timeout=5)).status_code == 200
        except httpx.HTTPError:
            return False

    async def worker_is_up(self) -> bool:
        """Return whether a worker is connected to the database."""
        async with self.sql() as sql:
            return bool(await sql.fetchval(_CONNECTED))

    async def lane(self, worker: Child) -> str:
        """Wait until a worker is there, and return the name of its lanes."""

        async def found() -> str | None:
            async with self.sql() as sql:
                worker_id = await sql.fetchval(_WORKER, worker.pid)
                return worker_id.hex if worker_id else None

        return str(await until(found, START_SECONDS, "the worker says that it is there"))

    @asynccontextmanager
    async def sql(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection of the test's own."""
        sql = await asyncpg.connect(self.postgres.url(), timeout=10, command_timeout=30)
        try:
            yield sql
        finally:
            await sql.close(timeout=5)

    @asynccontextmanager
    async def valkey(self) -> AsyncIterator[Any]:
        """Lend a connection to Redis of the test's own."""
        async with redis.asyncio.from_url(self.redis.url(), socket_timeout=5) as client:
            yield client

    def signal(self, server: Server, number: int) -> None:
        """Send a signal to a server."""
        assert server.pid
        os.kill(server.pid, number)

    def freeze(self, child: Child) -> None:
        """Let a process stand still."""
        child.process.send_signal(signal.SIGSTOP)

    def thaw(self, child: Child) -> None:
        """Let a process that stands still go on."""
        child.process.send_signal(signal.SIGCONT)

    def assert_calm(self, since: Mapping[Path, int]) -> None:
        """Fail when a log says more about an outage than somebody on call wants to read."""
        for name, lines in self.logged(since).items():
            loud = [line for line in lines if "Traceback" in line or '"level":"error"' in line]
            assert not loud, f"{name}: {loud[0][:2000]}"
            told = [line for line in lines if '"level":"warning"' in line]
            assert len(told) <= MOST_WARNINGS, f"{name}: {len(told)} warnings, such as {told[:5]}"

    def log_places(self) -> dict[Path, int]:
        """Return how far the logs of all processes have come."""
        return {child.log: child.log.stat().st_size for child in (self.api, *self.workers)}

    def logged(self, since: Mapping[Path, int]) -> dict[str, list[str]]:
        """Return what all processes have logged since then, ordinary requests left out."""
        return {
            child.log.stem: new_lines(child.log, since.get(child.log, 0))
            for child in (self.api, *self.workers)
        }

    async def bring_back(self, server: Server, seconds: float = 30) -> float:
        """Start a server that was killed, as the supervisor does it, and return when it was back."""
        deadline = monotonic() + seconds
        while not (server.is_alive() and server._is_ready()):
            assert monotonic() < deadline, f"{server.name} is not back within {seconds:g} seconds"
            if not server.is_alive():
                server.spawn()
            await asyncio.sleep(_POLL_SECONDS)
        return monotonic()


_WORKER = "SELECT id FROM worker WHERE host LIKE '%:' || $1::integer ORDER BY started_at DESC LIMIT 1"
_CONNECTED = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'laurel-worker'"


def new_lines(log: Path, after: int = 0) -> list[str]:
    """Return the lines of a log after a place in it, those of ordinary work left out."""
    text = log.read_bytes()[after:].decode(errors="replace")
    ordinary = ('"event":"request"', '"event":"events_earned"')
    return [line for line in text.splitlines() if not any(name in line for name in ordinary)]
