"""The place that these tests disturb: one for each process of pytest, put in order before each test."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.trust.place import START_SECONDS, Place, until
from tests.trust.tills import Shop, open_shop


@pytest.fixture(scope="session")
async def shared_place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A place that is up. Only `place` uses it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAUREL_")}
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), environment.get("PYTHONPATH"))))
    place = Place(tmp_path_factory.mktemp("trust"), environment | {"PYTHONPATH": path})
    try:
        await place.start()
        yield place
    finally:
        place.stop()


@pytest.fixture
async def place(shared_place: Place) -> Place:
    """Everything running: both servers, the API and one worker, whatever the last test has left."""
    for server in (shared_place.postgres, shared_place.redis):
        await shared_place.bring_back(server)
    for worker in shared_place.workers[1:]:
        worker.process.send_signal(signal.SIGCONT)
        worker.kill()
    del shared_place.workers[1:]
    for child in (shared_place.api, shared_place.worker):
        if not child.is_alive():
            child.spawn()
    async with shared_place.valkey() as redis:
        # Jobs of workers that were killed stay there until arq takes them for lost.
        await redis.flushall()
    await until(shared_place.is_ready, START_SECONDS, "the API is ready")
    await shared_place.lane(shared_place.worker)
    return shared_place


@pytest.fixture
async def shop(place: Place) -> AsyncIterator[Shop]:
    """A program of the test's own, with members and tills."""
    async with open_shop(place.url) as made:
        yield made
