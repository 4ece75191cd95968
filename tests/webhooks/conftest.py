"""A receiver for each test, and no webhooks left behind, which later tests would deliver."""

from collections.abc import AsyncIterator

import pytest

from app.database import connection
from app.programs.models import Program
from tests.helpers import new_program
from tests.webhooks.receiver import Receiver, receiving


@pytest.fixture(autouse=True)
async def _no_webhooks(_database: None) -> AsyncIterator[None]:
    yield
    async with connection() as sql:
        await sql.execute("DELETE FROM webhook")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def program() -> Program:
    return await new_program()
