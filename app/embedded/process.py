"""Child processes that never outlive their parent, and what a killed parent left behind."""

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from app.embedded.account import Account

_PR_SET_PDEATHSIG = 1
_PARENT_CHECK_SECONDS = 0.5
_POLL_SECONDS = 0.02

# Loaded ahead of any fork: between fork and exec a child must not load libraries.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class StartError(Exception):
    """Something that has to run does not start; the text says what to do about it."""


def packaged_binary(package: str, pattern: str) -> Path:
    """Return the path of a binary inside an installed package, without importing the package.

    (Both packages bring clients and folders of their own to life when they are imported.)

    Raises:
        StartError: the package has no such binary for this machine.
    """
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        for path in sorted(Path(folder).glob(pattern)):
            return path.resolve()
    raise StartError(
        f"{package} brings no {pattern.rsplit('/', 1)[-1]} for this machine: set DATABASE_URL and REDIS_URL."
    )


def die_with_parent(parent_pid: int, death_signal: int = signal.SIGKILL) -> None:
    """End this process when its parent ends, however that happens.

    Linux does it by itself; elsewhere a thread looks every half second.

    Args:
        parent_pid: the parent's process id, as the parent knew it.
        death_signal: what this process gets when the parent is gone.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))
    else:
        threading.Thread(target=_watch, args=(parent_pid, death_signal), daemon=True).start()
    # The parent may have gone before any of that was in force.
    if os.getppid() != parent_pid:
        os._exit(1)


def _watch(parent_pid: int, death_signal: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_PARENT_CHECK_SECONDS)
    os.kill(os.getpid(), death_signal)


def spawn_server(
    command: Sequence[str], *, folder: Path, output: Path, account: "Account | None", death_signal: int
) -> subprocess.Popen[bytes]:
    """Start a server that stops by itself when this process dies (on Linux).

    Call it from the main thread: Linux takes the end of the calling thread for the parent's death.

    Args:
        command: the binary and its arguments.
        folder: its working directory.
        output: file for what it prints, emptied first, readable by its owner only.
        account: the account to run as; None is this process's own.
        death_signal: what the server gets when this process dies.
    """
    parent = os.getpid()

    def in_the_child() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))
            if os.getppid() != parent:
                os._exit(1)

    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd=folder,
            env=server_environment(),
            # Its own session: a Ctrl-C at the terminal is for the supervisor, which stops in order.
            start_new_session=True,
            preexec_fn=in_the_child,
            umask=0o077,
            **as_account(account),
        )
    finally:
        os.close(descriptor)


def server_environment() -> dict[str, str]:
    """Return the environment of a server: none of Laurel's secrets are in it."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def as_account(account: "Account | None") -> dict[str, Any]:
    """Return the arguments that make `subprocess` run something as an account."""
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}


def wait_until(
    condition: Callable[[], bool], timeout_seconds: float, interrupted: Callable[[], bool] = lambda: False
) -> bool:
    """Wait for a condition; return whether it came true before the limit or an interruption."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if interrupted() or time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def stop_process(process: subprocess.Popen[bytes], steps: Sequence[tuple[int, float]]) -> None:
    """Stop a child: send each signal and wait its seconds for the end, at last SIGKILL."""
    for number, seconds in (*steps, (signal.SIGKILL, 10.0)):
        if process.poll() is not None:
            return
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)


def find_process(pid: int, argument: str) -> psutil.Process | None:
    """Return the live process with this id, if one of its arguments is the given one.

    A pid file survives a power cut; the number in it may belong to anybody by then.
    """
    try:
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE and argument in process.cmdline():
            return process
    except psutil.Error:
        pass
    return None


def stop_leftover(process: psutil.Process, steps: Sequence[tuple[int, float]]) -> None:
    """Stop a server that a killed parent left behind: each signal with its seconds, at last SIGKILL."""
    for number, seconds in (*steps, (signal.SIGKILL, 10.0)):
        try:
            process.send_signal(number)
            process.wait(seconds)
        except psutil.TimeoutExpired:
            continue
        except psutil.NoSuchProcess:
            return
        return


def last_lines(path: Path, count: int = 6) -> str:
    """Return the end of a log file, for an error message; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            return "\n".join(file.read().decode(errors="replace").strip().splitlines()[-count:])
    except OSError:
        return ""
