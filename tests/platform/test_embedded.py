"""The embedded servers are started, killed and found again for real."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from arq.connections import RedisSettings, create_pool
from limits.storage import storage_from_string

from app.embedded import EmbeddedPostgres, EmbeddedRedis, StartError
from app.embedded.process import wait_until

ROOT = Path(__file__).parents[2]


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended, be it that nobody has asked for its exit code yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    return made


def ask(server: EmbeddedPostgres, statement: str) -> object:
    async def fetch() -> object:
        connection = await asyncpg.connect(server.url("postgres"), timeout=10)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(fetch())


async def get_through_arq(url: str, key: str) -> object:
    pool = await create_pool(RedisSettings.from_dsn(url))
    try:
        return await pool.get(key)
    finally:
        await pool.aclose()


def test_postgres_starts_in_an_empty_folder_and_never_trades_durability(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        assert str(ask(server, "SHOW server_version")).startswith("18.")
        assert ask(server, "SHOW fsync") == "on"
        assert ask(server, "SHOW synchronous_commit") == "on"
        assert ask(server, "SHOW listen_addresses") == ""
        assert ask(server, "SHOW data_checksums") == "on"
    assert not server.is_alive()


def test_postgres_keeps_what_was_committed_when_it_is_killed(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        ask(server, "CREATE TABLE kept (n int)")
        ask(server, "INSERT INTO kept VALUES (7)")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert wait_until(lambda: not server.is_alive(), 5)
        server.restart()
        assert ask(server, "SELECT n FROM kept") == 7


def test_servers_of_a_killed_process_are_replaced_and_their_data_kept(folder: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from app.embedded import EmbeddedPostgres, EmbeddedRedis\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with EmbeddedPostgres(folder) as postgres, EmbeddedRedis(folder) as redis:\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "ready\n"
    first = EmbeddedPostgres(folder)
    ask(first, "CREATE TABLE kept AS SELECT 7 AS n")
    old_pids = [
        int((folder / "postgres" / "postmaster.pid").read_text().split()[0]),
        int((folder / "redis" / "valkey.pid").read_text()),
    ]
    owner.kill()
    owner.wait(5)
    with first, EmbeddedRedis(folder) as cache:
        assert ask(first, "SELECT n FROM kept") == 7
        assert redis.Redis.from_url(cache.url()).ping()
        assert wait_until(lambda: all(is_gone(pid) for pid in old_pids), 10)


def test_a_server_that_outlived_its_process_is_stopped_not_fought(folder: Path) -> None:
    survivor = EmbeddedPostgres(folder)
    survivor.start()
    old_pid = survivor.pid
    successor = EmbeddedPostgres(folder)
    with successor:
        assert successor.pid != old_pid
        assert ask(successor, "SELECT 1") == 1
        assert wait_until(lambda: not survivor.is_alive(), 5)


def test_a_pid_file_whose_number_belongs_to_somebody_else_is_no_obstacle(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        lines = (folder / "postgres" / "postmaster.pid").read_text().splitlines()
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        lines[0] = str(bystander.pid)
        (folder / "postgres" / "postmaster.pid").write_text("\n".join(lines) + "\n")
        (folder / "redis").mkdir()
        (folder / "redis" / "valkey.pid").write_text(f"{bystander.pid}\n")
        with server, EmbeddedRedis(folder):
            assert ask(server, "SELECT 1") == 1
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_half_made_data_folder_is_made_again(folder: Path) -> None:
    half = folder / "postgres.new-abc"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(folder, fsync=False) as server:
        assert server.is_alive()
    assert not half.exists()


def test_data_of_another_version_is_refused_in_words(folder: Path) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(StartError, match="was made by PostgreSQL 17"):
        EmbeddedPostgres(folder).start()


def test_two_instances_run_side_by_side_whatever_their_folders_are_called(tmp_path: Path) -> None:
    short, awkward = tmp_path / "a", tmp_path / f"with space % and {'length' * 20}"
    for path in (short, awkward):
        path.mkdir(mode=0o700)
    with (
        EmbeddedPostgres(short, fsync=False) as one,
        EmbeddedPostgres(awkward, fsync=False) as two,
        EmbeddedRedis(short) as cache_one,
        EmbeddedRedis(awkward) as cache_two,
    ):
        ask(one, "CREATE TABLE only_here ()")
        assert ask(two, "SELECT to_regclass('only_here')") is None
        redis.Redis.from_url(cache_one.url()).set("only", "here")
        assert redis.Redis.from_url(cache_two.url()).get("only") is None
        sockets = Path((awkward / "sockets.path").read_text().strip())
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert not sockets.exists()


def test_no_other_user_can_read_data_or_enter_the_sockets(folder: Path) -> None:
    with EmbeddedPostgres(folder, fsync=False) as server, EmbeddedRedis(folder) as cache:
        sockets = Path(cache.url().removeprefix("unix://")).parent
        for path in (folder / "postgres", folder / "redis", sockets):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert server.pid is not None
        assert cache.pid is not None
        for pid in (server.pid, cache.pid):
            process = psutil.Process(pid)
            assert process.uids().effective != 0
            assert not process.net_connections("inet")
            assert not any(name.startswith("LAUREL") for name in process.environ())
    assert not stat.S_IMODE(folder.stat().st_mode) & 0o006


def test_redis_answers_arq_and_limits_and_keeps_its_data_over_a_kill(folder: Path) -> None:
    with EmbeddedRedis(folder) as server:
        client = redis.Redis.from_url(server.url(3))
        client.set("kept", "7")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert asyncio.run(get_through_arq(server.url(3), "kept")) == b"7"
        assert storage_from_string(server.url(3).replace("unix://", "redis+unix://")).check()
        time.sleep(1.2)  # Longer than appendfsync everysec takes.
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert wait_until(lambda: not server.is_alive(), 5)
        server.restart()
        assert redis.Redis.from_url(server.url(3)).get("kept") == b"7"


def test_a_damaged_redis_file_is_set_aside_because_postgres_owns_the_work(folder: Path) -> None:
    with EmbeddedRedis(folder) as server:
        client = redis.Redis.from_url(server.url())
        for number in range(1000):
            client.set(f"key:{number}", "value")
    (log,) = (folder / "redis" / "appendonlydir").glob("*.incr.aof")
    content = log.read_bytes()
    log.write_bytes(content[:5000] + b"\0garbage\0" * 50 + content[5000:])
    with server:
        assert redis.Redis.from_url(server.url()).dbsize() == 0
    assert list((folder / "redis").glob("damaged-*"))


def test_an_ordinary_user_can_run_the_servers(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("This run is an ordinary user's already.")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed.")
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    version = tuple(sys.version_info[:3])
    probe = [*command, f"import sys, app.embedded; sys.exit(sys.version_info[:3] != {version})"]
    if subprocess.run(probe, env=environment, cwd="/", capture_output=True, check=False).returncode:
        pytest.skip("This Python is in a folder that ordinary users cannot enter.")
    folder = Path("/tmp") / f"laurel-user-{os.getpid()}"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    try:
        program = (
            "import pathlib\n"
            "from app.embedded import EmbeddedPostgres, EmbeddedRedis\n"
            f"folder = pathlib.Path({str(folder)!r})\n"
            "with EmbeddedPostgres(folder) as postgres, EmbeddedRedis(folder) as redis:\n"
            "    assert postgres.is_alive() and redis.is_alive()\n"
        )
        subprocess.run([*command, program], env=environment, cwd="/", check=True, timeout=60)
    finally:
        shutil.rmtree(folder)


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    server = EmbeddedPostgres(folder, fsync=False)
    with server:
        pass
    (folder / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(StartError, match="pg_control"):
        server.start()
