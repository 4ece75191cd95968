"""`laurel run`, started, disturbed and stopped for real."""

import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from app.embedded.process import wait_until
from tests.platform.instance import Instance, free_port

RECOVERY_SECONDS = 15


@pytest.fixture
def instance(tmp_path: Path, clean_environment: dict[str, str]) -> Iterator[Instance]:
    made = Instance(tmp_path / "one", clean_environment)
    yield made
    if made.process is not None:
        made.stop()


def gone(family: list[psutil.Process]) -> bool:
    """Return whether none of them runs; orphans that nobody has collected yet do not."""
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)


def test_one_command_starts_everything_and_one_signal_stops_all_of_it(instance: Instance) -> None:
    instance.start()
    assert instance.is_ready()
    assert f"http://127.0.0.1:{instance.port}/graphql" in instance.said()
    for line in instance.said().splitlines():
        if line.startswith("  Demo "):
            assert line.split()[-1] not in instance.errors.read_text()
    for name in ("admin.key", "secret.key", "run.json"):
        assert stat.S_IMODE((instance.data_dir / name).stat().st_mode) == 0o600
    family = instance.family()
    assert instance.stop(signal.SIGINT) == 0
    assert wait_until(lambda: gone(family), 5)
    assert not (instance.data_dir / "run.json").exists()
    assert "Traceback" not in instance.errors.read_text()


def test_a_second_start_in_the_same_folder_says_where_the_first_one_is(instance: Instance) -> None:
    instance.start()
    assert instance.process is not None
    second = instance.run("run")
    assert second.returncode == 1
    assert "running already" in second.stderr
    assert f"process {instance.process.pid}, http://127.0.0.1:{instance.port}" in second.stderr
    assert "Traceback" not in second.stderr
    assert instance.is_ready()


def test_after_kill_9_nothing_is_left_and_a_new_start_recovers_at_once(instance: Instance) -> None:
    instance.start()
    family = instance.family()
    instance.stop(signal.SIGKILL)
    instance.start()
    assert instance.is_ready()
    assert gone(family)
    assert instance.stop() == 0


@pytest.mark.parametrize("victim", ["postgres", "valkey-server", "serve", "work"])
def test_a_killed_part_comes_back_by_itself(instance: Instance, victim: str) -> None:
    instance.start()
    before = instance.child(victim)
    before.kill()

    def is_back() -> bool:
        try:
            return instance.child(victim).pid != before.pid and instance.is_ready()
        except AssertionError:
            return False

    assert wait_until(is_back, RECOVERY_SECONDS)
    assert instance.stop() == 0


def test_while_the_api_restarts_callers_wait_instead_of_being_refused(instance: Instance) -> None:
    instance.start()
    instance.child("serve").kill()
    answer = httpx.get(f"http://127.0.0.1:{instance.port}/healthz", timeout=RECOVERY_SECONDS)
    assert answer.status_code == 200


def test_a_port_that_is_taken_is_said_so_and_leaves_nothing_behind(instance: Instance) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", instance.port))
        other.listen()
        instance.start(wait=False)
        assert instance.process is not None
        assert instance.process.wait(30) == 1
    error = instance.errors.read_text()
    assert f"Port {instance.port} on 127.0.0.1 cannot be used" in error
    assert "LAUREL_PORT" in error
    assert "Traceback" not in error
    assert not (instance.data_dir / "postgres").exists()


def test_being_stopped_while_starting_leaves_nothing_behind(instance: Instance) -> None:
    instance.start(wait=False)
    assert wait_until(lambda: (instance.data_dir / "postgres").exists(), 30)
    family = instance.family()
    assert instance.stop(signal.SIGTERM) == 0
    assert wait_until(lambda: gone(family), 5)


def test_other_commands_find_a_running_instance_and_do_without_one(instance: Instance) -> None:
    instance.folder.mkdir()
    alone = instance.run("migrate")
    assert alone.returncode == 0, alone.stderr
    assert "applied" in alone.stdout
    nothing = instance.run("serve")
    assert nothing.returncode == 1
    assert "DATABASE_URL and REDIS_URL not set" in nothing.stderr
    instance.start()
    assert instance.run("migrate", "--check").returncode == 0
    assert instance.is_ready()


def test_a_setting_that_cannot_be_is_one_line_on_stderr(instance: Instance) -> None:
    instance.folder.mkdir()
    instance.environment["LAUREL_PORT"] = "http"
    result = instance.run("serve")
    assert result.returncode == 1
    assert result.stderr.startswith("laurel: LAUREL_PORT")
    assert "Traceback" not in result.stderr


def test_help_is_there_in_an_instant(instance: Instance) -> None:
    instance.folder.mkdir()
    for command in ("run", "serve", "work", "migrate"):
        assert "Usage" in instance.run(command, "--help").stdout
    assert subprocess.run(
        [*instance.command("--help")], env=instance.environment, capture_output=True, timeout=3, check=True
    )


def test_a_command_without_an_instance_gets_migrated_servers_of_its_own(instance: Instance) -> None:
    program = (
        "import asyncio\n"
        "from app.commands import ready_servers\n"
        "from app.migrate import pending\n"
        "with ready_servers() as settings:\n"
        "    assert asyncio.run(pending(settings)) == []\n"
        "    assert settings.redis_url\n"
    )
    instance.folder.mkdir()
    processes = [
        subprocess.Popen([sys.executable, "-c", program], cwd=instance.folder, env=instance.environment)
        for _ in range(2)
    ]
    assert [process.wait(60) for process in processes] == [0, 0]


def test_processes_of_an_api_that_is_killed_let_go_of_the_port(instance: Instance) -> None:
    instance.start()
    port = free_port()
    several = subprocess.Popen(
        instance.command("serve", "--port", str(port), "--processes", "2"),
        cwd=instance.folder,
        env=instance.environment,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=2).status_code == 200
        return False

    assert wait_until(answers, 30)
    several.kill()
    several.wait(5)
    assert wait_until(lambda: not answers(), 5)
