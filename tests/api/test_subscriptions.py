"""Who may subscribe to what: every subscription is walked as the other walks walk queries and mutations."""

from collections.abc import AsyncIterator

import pytest
from graphql import get_named_type

from app.access.scopes import PROGRAM_SCOPES
from app.ids import to_global_id
from app.settings import Settings
from tests.api.client import World, make_world, uuid_of
from tests.api.tenants import populate
from tests.api.walk import arguments, needs, schema
from tests.live.talking import serving, talking

ALL = frozenset(scope.value for scope in PROGRAM_SCOPES)
SUBSCRIPTION = schema().subscription_type
assert SUBSCRIPTION
FIELDS = SUBSCRIPTION.fields


@pytest.fixture(scope="module")
async def place(settings: Settings, _database: None) -> AsyncIterator[tuple[World, str]]:
    async with serving(settings) as (api, url):
        yield await make_world(api), url


def document(name: str) -> str:
    return f"subscription {{ {name}{arguments(FIELDS[name].args)} {{ __typename }} }}"


@pytest.mark.parametrize("name", FIELDS)
async def test_a_subscription_needs_what_its_directive_says(place: tuple[World, str], name: str) -> None:
    world, url = place
    need = needs()["Subscription", name]
    assert need.scopes, "no subscription is open to any key"
    tries = [(await world.scoped_key(frozenset({scope})), True) for scope in need.scopes]
    tries += [(await world.scoped_key(ALL - need.scopes), False), (world.api.admin, False)]
    for token, may in tries:
        async with talking(url, token) as talk:
            await talk.subscribe(document(name))
            # It gets as far as to what it does not say, or names in vain.
            assert await talk.error() == ("BAD_USER_INPUT" if may else "FORBIDDEN")
    async with talking(url, world.token) as talk:
        await talk.subscribe(document(name))
        if need.member:
            assert (await talk.next())["__typename"] == get_named_type(FIELDS[name].type).name
        else:
            assert await talk.error() == "FORBIDDEN"


async def test_what_is_below_a_subscription_is_guarded_too(place: tuple[World, str]) -> None:
    world, url = place
    of = f'(member: {{id: "{world.member}"}})'
    key = await world.scoped_key(frozenset({"members:read"}))
    async with talking(url, key) as talk:
        await talk.subscribe(f"subscription {{ tier{of} {{ current {{ name }} }} }}")
        assert await talk.error() == "FORBIDDEN"
        await talk.subscribe(f"subscription {{ tier{of} {{ qualifying }} }}")
        assert await talk.next() == {"qualifying": "0"}


async def test_nothing_of_another_program_can_be_watched(place: tuple[World, str]) -> None:
    world, url = place
    other = await make_world(world.api)
    objects = await populate(other)
    async with talking(url, world.key) as talk:
        for name, argument in (
            ("balance", f'member: {{id: "{other.member}"}}'),
            ("balance", f'member: {{externalId: "{other.external_id}"}}'),
            ("tier", f'member: {{email: "{other.email}"}}'),
            ("job", f'id: "{objects.nodes["Job"]}"'),
            # An id of something else does not stand for the job, or the member, of the same key.
            ("job", f'id: "{to_global_id("Job", uuid_of(world.member))}"'),
            ("balance", f'member: {{id: "{to_global_id("Job", uuid_of(world.member))}"}}'),
        ):
            await talk.subscribe(f"subscription {{ {name}({argument}) {{ __typename }} }}")
            assert await talk.error() == "BAD_USER_INPUT"
    async with talking(url, other.key) as talk:
        await talk.subscribe(f'subscription {{ job(id: "{objects.nodes["Job"]}") {{ name }} }}')
        assert await talk.next() == {"name": "tiers.recalculate"}
