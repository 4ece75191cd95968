"""Several API processes on one port: whoever is connected to one sees what another does."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

import httpx
import psutil
import pytest
from starlette.applications import Starlette

from app.settings import Settings
from tests.api.client import Api, make_world
from tests.live.talking import BALANCE, talking
from tests.platform.instance import free_port
from tests.trust.place import START_SECONDS, Child, until

CONNECTIONS = 10


@pytest.fixture
async def served(
    settings: Settings, _database: None, clean_environment: Mapping[str, str], tmp_path: Path
) -> AsyncIterator[tuple[Child, str]]:
    port = free_port()
    environment = {
        **clean_environment,
        "LAUREL_DATABASE_URL": str(settings.database_url),
        "LAUREL_REDIS_URL": str(settings.redis_url),
        "LAUREL_DATA_DIR": str(settings.data_dir),
        "LAUREL_PORT": str(port),
        "LAUREL_LOG_FORMAT": "json",
    }
    child = Child(["serve", "--processes", "2"], tmp_path, environment, tmp_path / "log.txt")
    url = f"http://127.0.0.1:{port}"

    async def is_ready() -> bool:
        try:
            async with httpx.AsyncClient() as http:
                return (await http.get(f"{url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        await until(is_ready, START_SECONDS, "the API is ready")
        yield child, url
    finally:
        child.stop()


def serving_processes(parent: int, port: int) -> list[psutil.Process]:
    """Return the processes under one that listen on a port."""
    return [
        each
        for each in psutil.Process(parent).children(recursive=True)
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in each.net_connections())
    ]


async def test_two_processes_tell_everybody_and_stop_at_once(
    served: tuple[Child, str], settings: Settings
) -> None:
    child, url = served
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, limits=limits) as http, AsyncExitStack() as stack:
        world = await make_world(Api(Starlette(), http, settings))
        talks = []
        processes = serving_processes(child.pid, int(url.rpartition(":")[2]))
        assert len(processes) == 2
        for held in processes:
            # While one stands still, the other takes the connections.
            held.suspend()
            try:
                talks += [
                    await stack.enter_async_context(talking(url, world.token))
                    for _ in range(CONNECTIONS // 2)
                ]
            finally:
                held.resume()
        for talk in talks:
            await talk.subscribe(BALANCE)
            assert (await talk.next())["available"] == 0
        slowest = 0.0
        for total in range(1, 6):
            await world.adjust(1)
            started = monotonic()
            for talk in talks:
                while (await talk.next())["available"] != total:
                    pass
            slowest = max(slowest, monotonic() - started)
        assert slowest < 1, "hints of one process reach the other"
        metrics = (await http.get("/metrics")).text
        assert f"laurel_sockets {float(CONNECTIONS)}" in metrics
        started = monotonic()
        stopping = asyncio.create_task(asyncio.to_thread(child.stop))
        closes = [await talk.closed() for talk in talks]
        assert {code for code, _ in closes} == {1012}
        assert await stopping == 0
        assert monotonic() - started < 10
    log = child.log.read_text()
    assert "Traceback" not in log, log[-3000:]
    assert '"level":"error"' not in log, log[-3000:]
