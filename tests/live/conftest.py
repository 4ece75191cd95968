"""An application on a real port, for the tests of what is live; each test makes its own world in it."""

from collections.abc import AsyncIterator

import pytest

from app.settings import Settings
from tests.api.client import Api, World, make_world
from tests.live.talking import serving


@pytest.fixture(scope="package")
async def place(settings: Settings, _database: None) -> AsyncIterator[tuple[Api, str]]:
    async with serving(settings) as place:
        yield place


@pytest.fixture
def url(place: tuple[Api, str]) -> str:
    return place[1]


@pytest.fixture
async def world(place: tuple[Api, str]) -> World:
    return await make_world(place[0])
