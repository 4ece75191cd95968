"""Every test finds a migrated database and an empty Redis; isolation is a program of its own.

Each worker process of pytest has its own database and its own numbered Redis database. Nothing is
emptied between tests: a test makes the program that it works in, and sees nothing of any other.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import structlog

from app import database
from app.settings import Settings
from app.settings import settings as process_settings
from tests.servers import Addresses, make_database, running_servers

# What the person at the keyboard has set is not what the tests are about.
for _name in [name for name in os.environ if name.startswith("LAUREL_")] + ["DATABASE_URL", "REDIS_URL"]:
    os.environ.pop(_name, None)

# Events below a warning are noise here; the tests of the logs configure them for themselves.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

_STARTED = pytest.StashKey[ExitStack]()
_ADDRESSES = pytest.StashKey[Addresses]()


def _addresses(config: pytest.Config) -> Addresses:
    """Start the servers in this process, once; they stop when its pytest ends."""
    if _ADDRESSES not in config.stash:
        config.stash[_STARTED] = ExitStack()
        config.stash[_ADDRESSES] = config.stash[_STARTED].enter_context(running_servers())
    return config.stash[_ADDRESSES]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give every run a temporary folder of its own.

    pytest's shared one is closed to other users again by every run that starts, and embedded servers
    that root starts run as another user.
    """
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.option.basetemp = tempfile.mkdtemp(prefix="laurel-tests-")
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """With several workers the process that controls them owns the servers: it outlives them all."""
    node.workerinput["addresses"] = asdict(_addresses(node.config))


def pytest_unconfigure(config: pytest.Config) -> None:
    if _STARTED in config.stash:
        config.stash[_STARTED].close()


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Addresses:
    """Where the test servers are."""
    given = getattr(request.config, "workerinput", {}).get("addresses")
    return Addresses(**given) if given else _addresses(request.config)


@pytest.fixture(scope="session")
async def settings(
    servers: Addresses, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Settings:
    """The settings of this test process, the same that `app.settings.settings()` returns in it."""
    worker = getattr(request.config, "workerinput", {}).get("workerid", "gw0")
    # Number 0 stays empty: whoever forgets to use the settings is found out.
    redis_url = servers.redis_url(1 + int(worker.removeprefix("gw")) % 15)
    os.environ["LAUREL_DATABASE_URL"] = await make_database(servers, f"laurel_{worker}")
    os.environ["LAUREL_REDIS_URL"] = redis_url
    os.environ["LAUREL_DATA_DIR"] = str(tmp_path_factory.mktemp("data"))
    process_settings.cache_clear()
    async with redis.asyncio.from_url(redis_url) as client:
        await client.flushdb()
    return process_settings()


@pytest.fixture(scope="session", autouse=True)
async def _database(settings: Settings) -> AsyncIterator[None]:
    """Connect this process as the API and the workers are connected."""
    await database.connect(settings, "laurel-tests")
    yield
    await database.disconnect()


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a machine on which nobody has set anything of Laurel's, for child processes."""
    for name in [name for name in os.environ if name.startswith("LAUREL_")]:
        monkeypatch.delenv(name)
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}
