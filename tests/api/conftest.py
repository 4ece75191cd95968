"""One application for all tests of the API; each test makes the world that it works in."""

from collections.abc import AsyncIterator

import pytest

from app.settings import Settings
from tests.api.client import Api, World, make_world, running


@pytest.fixture(scope="session")
async def api(settings: Settings, _database: None) -> AsyncIterator[Api]:
    # Walks ask more of one member than a member ever would.
    async with running(settings.model_copy(update={"member_rate_limit": "300000/minute"})) as api:
        yield api


@pytest.fixture
async def world(api: Api) -> World:
    return await make_world(api)


@pytest.fixture
async def rich(world: World) -> World:
    """A world whose member has 1,000 points."""
    await world.adjust(1000)
    return world
