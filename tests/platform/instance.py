"""A whole Laurel as a child process, as `make run` starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from app.embedded.process import wait_until

START_SECONDS = 90


def free_port() -> int:
    """Return a port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Instance:
    """One `laurel run` in a folder, on a port of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str], port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.data_dir = folder / ".laurel"
        self.output, self.errors = folder / "out.txt", folder / "err.txt"
        self.environment = {**environment, "LAUREL_PORT": str(self.port)}
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "app.cli", *arguments]

    def start(self, *, wait: bool = True) -> None:
        """Start it and wait for its banner."""
        self.folder.mkdir(exist_ok=True)
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                self.command("run"), cwd=self.folder, env=self.environment, stdout=output, stderr=errors
            )
        if wait and not wait_until(lambda: self.has_ended() or "Ctrl-C" in self.said(), START_SECONDS):
            raise AssertionError(f"not started in {START_SECONDS} seconds:\n{self.errors.read_text()}")
        if wait and self.has_ended():
            raise AssertionError(f"ended while starting:\n{self.errors.read_text()}")

    def run(self, *arguments: str, timeout_seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run another command of Laurel's in the same folder."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    def said(self) -> str:
        return self.output.read_text()

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def family(self) -> list[psutil.Process]:
        """Return the supervisor and all that it has started."""
        assert self.process is not None
        supervisor = psutil.Process(self.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def child(self, word: str) -> psutil.Process:
        """Return the supervisor's own child whose command line has a word at its end."""
        assert self.process is not None
        for process in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if any(part == word or part.endswith(f"/{word}") for part in process.cmdline()):
                    return process
        raise AssertionError(f"no child {word}")

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def note(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        return content

    def stop(self, number: int = signal.SIGTERM, timeout_seconds: float = 60) -> int:
        """Send a signal and return the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        return self.process.wait(timeout_seconds)
