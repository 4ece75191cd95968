"""Balances and jobs are told at once and after every change, whatever is away meanwhile."""

from collections.abc import AsyncIterator

import pytest

from app.settings import Settings
from tests.api.client import Api, World, make_world
from tests.live.talking import BALANCE, BALANCE_OF, serving, talking

Place = tuple[Api, str]


@pytest.fixture(scope="module")
async def place(settings: Settings, _database: None) -> AsyncIterator[Place]:
    async with serving(settings) as place:
        yield place


@pytest.fixture
async def world(place: Place) -> World:
    return await make_world(place[0])


async def test_a_balance_is_told_at_once_and_after_every_change(place: Place, world: World) -> None:
    async with talking(place[1], world.token) as talk:
        await talk.subscribe(BALANCE)
        assert await talk.next() == {"available": 0, "pending": 0, "reserved": 0}
        for points in (5, 7):
            await world.adjust(points)
            assert (await talk.next(seconds=1))["available"] == (5 if points == 5 else 12)
        reward = await world.reward(points=4)
        await world.reserve(reward["id"])
        assert await talk.next() == {"available": 8, "pending": 0, "reserved": 4}
        await talk.say("complete", id="1")
        await world.adjust(1)
        await talk.nothing(0.2)


async def test_a_key_names_the_member_and_a_token_sees_its_own_only(place: Place, world: World) -> None:
    other = await world.enrol()
    stranger = await make_world(place[0])
    async with talking(place[1], world.key) as talk:
        await talk.subscribe(BALANCE_OF, of={"externalId": world.external_id})
        assert await talk.next() == {"available": 0}
        await talk.subscribe(BALANCE, id="2")
        assert await talk.error("2") == "BAD_USER_INPUT"
        await talk.subscribe(BALANCE_OF, id="2", of={"id": stranger.member})
        assert await talk.error("2") == "BAD_USER_INPUT"
    async with talking(place[1], world.token) as talk:
        await talk.subscribe(BALANCE_OF, of={"id": world.member})
        assert await talk.next() == {"available": 0}
        await talk.subscribe(BALANCE_OF, id="2", of={"id": other["id"]})
        assert await talk.error("2") == "BAD_USER_INPUT"
        await talk.subscribe('subscription { job(id: "x") { id } }', id="3")
        assert await talk.error("3") == "FORBIDDEN"
