"""`laurel run`: the servers, the API and a worker in one place, kept alive and stopped in order."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Protocol

import structlog

from app import banner
from app.commands import SUPERVISOR_VARIABLE
from app.embedded import (
    EmbeddedPostgres,
    EmbeddedRedis,
    StartError,
    announced,
    exclusive,
    prepare_data_dir,
)
from app.embedded.process import stop_process, wait_until
from app.keyring import admin_key, codes_key, secret_key
from app.preparation import InterruptedStartError, prepare
from app.settings import Settings

log = structlog.get_logger(__name__)

LISTENER_VARIABLE = "LAUREL_LISTENER_FD"

_API_READY_SECONDS = 60
# The API finishes its requests within 20 seconds, the worker its jobs within 30; then SIGKILL.
_API_STOP_SECONDS = 22.0
_WORKER_STOP_SECONDS = 30.0
_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 5.0
_HEALTHY_AFTER_SECONDS = 60.0
_TICK_SECONDS = 0.1
_PORT_PATIENCE_SECONDS = 3.0


class Program(Protocol):
    """Something that the supervisor keeps running."""

    name: str

    def spawn(self) -> None:
        """Start it, without waiting until it is ready."""

    def is_alive(self) -> bool:
        """Return whether its process runs."""

    def stop(self) -> None:
        """Stop it within a limit of its own."""


class Command:
    """One of Laurel's own commands as a child process, with our output for its logs."""

    def __init__(self, name: str, environment: dict[str, str], listener: socket.socket | None = None) -> None:
        self.name = name
        self.stop_seconds = _API_STOP_SECONDS if listener else _WORKER_STOP_SECONDS
        self._environment = environment
        self._descriptors = (listener.fileno(),) if listener else ()
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Start it, without waiting until it is ready."""
        # -P: an `app` folder where the operator stands is not ours. A session of its own: a Ctrl-C at
        # the terminal is for the supervisor, which stops in order.
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", "app.cli", self.name],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            pass_fds=self._descriptors,
            start_new_session=True,
        )

    def is_alive(self) -> bool:
        """Return whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ask it to finish; end it by force after its limit."""
        if self._process is not None:
            stop_process(self._process, ((signal.SIGTERM, self.stop_seconds),))


class Keeper:
    """Starts a program again when it has died: at once at first, ever later if it keeps dying."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.deaths = 0
        self._started_at = time.monotonic()
        self._again_at: float | None = None

    def tend(self, now: float) -> None:
        """Look after the program; called about ten times a second.

        Args:
            now: monotonic seconds.
        """
        if self._again_at is not None:
            if now >= self._again_at:
                self._again_at, self._started_at = None, now
                try:
                    self.program.spawn()
                except (OSError, subprocess.SubprocessError) as error:
                    log.error("supervisor.cannot_start", child=self.program.name, error=str(error))
        elif self.program.is_alive():
            if now - self._started_at >= _HEALTHY_AFTER_SECONDS:
                self.deaths = 0
        else:
            delay = min(_FIRST_DELAY_SECONDS * 2**self.deaths, _LONGEST_DELAY_SECONDS)
            self.deaths += 1
            self._again_at = now + delay
            log.warning("supervisor.child_died", child=self.program.name, again_in_seconds=round(delay, 1))


class _Signals:
    """Counts the requests to stop; nothing else happens inside a signal handler."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1

    def stopping(self) -> bool:
        return self.count > 0


def run(settings: Settings) -> int:
    """Start everything, keep it running until SIGINT or SIGTERM, stop it in order.

    Args:
        settings: servers that have no address here are started in the data folder.

    Returns:
        The exit code: 0 after an orderly stop.

    Raises:
        AlreadyRunningError: the data folder is in use.
        StartError: the port is taken, or something does not come up; nothing is left running.
    """
    signals = _Signals()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signals)
    # Under nohup a terminal that goes away is no reason to stop.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signals)
    data_dir = prepare_data_dir(settings)
    settings = settings.model_copy(update={"data_dir": data_dir})
    address = banner.address(settings)
    with ExitStack() as stack:
        stack.enter_context(exclusive(data_dir, address))
        listener = stack.enter_context(_reserve_port(settings))
        try:
            _run(settings, data_dir, address, listener, signals)
        except StartError:
            if not signals.stopping():
                raise
    banner.say("Laurel has stopped.")
    return 0


def _run(
    settings: Settings, data_dir: Path, address: str, listener: socket.socket, signals: _Signals
) -> None:
    with ExitStack() as stack:
        keepers: list[Keeper] = []

        def keep(program: Program) -> None:
            keepers.append(Keeper(program))
            stack.callback(_stop, program, signals)

        # The stack stops them in the opposite order: API, worker, Redis, PostgreSQL.
        if not settings.database_url:
            postgres = EmbeddedPostgres(data_dir, interrupted=signals.stopping)
            keep(postgres)
            postgres.start()
            settings = settings.model_copy(update={"database_url": postgres.url()})
        if not settings.redis_url:
            redis = EmbeddedRedis(data_dir, interrupted=signals.stopping)
            keep(redis)
            redis.start()
            settings = settings.model_copy(update={"redis_url": redis.url()})
        # Made here once, so that the API and the worker find the same ones.
        admin_key(settings)
        secret_key(settings)
        codes_key(settings)
        demo = prepare(settings, signals.stopping)
        stack.enter_context(announced(data_dir, settings, address))
        environment = _environment(settings, listener)
        for name, passed in (("work", None), ("serve", listener)):
            command = Command(name, environment, passed)
            keep(command)
            command.spawn()
        # Our copy of the port is closed ahead of the API's, so that nobody is let in and left waiting.
        stack.callback(listener.close)
        _wait_for_api(settings, keepers, signals)
        banner.print_banner(settings, demo)
        while not signals.stopping():
            now = time.monotonic()
            for keeper in keepers:
                keeper.tend(now)
            time.sleep(_TICK_SECONDS)
        banner.say("Stopping …")


def _stop(program: Program, signals: _Signals) -> None:
    log.info("supervisor.stopping", child=program.name)
    # Whoever presses Ctrl-C again does not want to wait for what is under way; the data still does.
    if isinstance(program, Command) and signals.count > 1:
        program.stop_seconds = 0.5
    program.stop()


def _environment(settings: Settings, listener: socket.socket) -> dict[str, str]:
    return {
        **os.environ,
        "LAUREL_DATABASE_URL": settings.database_url or "",
        "LAUREL_REDIS_URL": settings.redis_url or "",
        "LAUREL_DATA_DIR": str(settings.data_dir),
        SUPERVISOR_VARIABLE: str(os.getpid()),
        LISTENER_VARIABLE: str(listener.fileno()),
        "PROMETHEUS_MULTIPROC_DIR": str(_metrics_folder(settings)),
    }


def _metrics_folder(settings: Settings) -> Path:
    """Return the folder in which all children keep what they count, emptied of earlier runs'."""
    folder = settings.data_dir / "metrics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


@contextmanager
def _reserve_port(settings: Settings) -> Iterator[socket.socket]:
    """Bind the API's port ahead of everything else, and keep it while the API starts again.

    Connections are refused until the API listens, and wait for a moment while it is restarted.
    """
    found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    family, _, _, _, address = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    problem: OSError | None = None

    def bound() -> bool:
        nonlocal problem
        try:
            listener.bind(address)
        except OSError as error:
            problem = error
            return False
        return True

    try:
        # The children of an instance that was killed a moment ago may still be on their way out.
        if not wait_until(bound, _PORT_PATIENCE_SECONDS):
            raise StartError(
                f"Port {settings.port} on {settings.host} cannot be used "
                f"({problem.strerror if problem else 'unknown'}). Set LAUREL_PORT to another one."
            )
        yield listener
    finally:
        listener.close()


def _wait_for_api(settings: Settings, keepers: list[Keeper], signals: _Signals) -> None:
    """Wait until the API says that it is ready.

    Raises:
        InterruptedStartError: somebody asked to stop.
        StartError: it dies at once or is not ready in time.
    """
    started = time.monotonic()
    next_try = started

    def settled() -> bool:
        nonlocal next_try
        if time.monotonic() < next_try:
            return False
        next_try = time.monotonic() + 0.2
        return any(not keeper.program.is_alive() for keeper in keepers) or _is_ready(settings)

    wait_until(settled, _API_READY_SECONDS, signals.stopping)
    if signals.stopping():
        raise InterruptedStartError("stopped while starting")
    for keeper in keepers:
        if not keeper.program.is_alive():
            raise StartError(f"{keeper.program.name!r} ended while starting; its log is above.")
    if not _is_ready(settings):
        raise StartError(f"The API was not ready within {_API_READY_SECONDS} seconds; its log is above.")


def _is_ready(settings: Settings) -> bool:
    connection = http.client.HTTPConnection(banner.reachable_host(settings), settings.port, timeout=2)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    return False
