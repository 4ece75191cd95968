"""The protocol graphql-transport-ws, word by word, and everything by which a connection ends."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from websockets.exceptions import InvalidStatus

from app import clock
from app.access.tokens import MemberTokens
from app.database import transaction
from app.keyring import secret_key
from app.settings import Settings
from graphql_schema import connections, sockets
from tests.api.client import CREATE_KEY, Api, World, make_world, unique, uuid_of
from tests.live.talking import BALANCE, Talk, serving, talking

REVOKE = "mutation ($id: ID!) { revokeApiKey(id: $id) { userErrors { code } } }"
CHANGE = """mutation ($input: UpdateMemberInput!) { updateMember(input: $input) { userErrors { code } } }"""
VIEWER = "{ viewer { id } }"


@pytest.fixture(scope="module")
async def narrow(settings: Settings, _database: None) -> AsyncIterator[tuple[Api, str]]:
    """An application whose limits are reached soon."""
    limits = {
        "max_connections": 4,
        "max_connections_per_key": 3,
        "max_connections_per_member": 2,
        "max_subscriptions": 2,
        "idle_seconds": 0.4,
        "max_body_bytes": 20_000,
        "allowed_origins": "https://shop.example, https://app.example",
    }
    with patch.object(connections, "_INIT_SECONDS", 0.4), patch.object(sockets, "_CHECK_SECONDS", 0.2):
        async with serving(settings.model_copy(update=limits)) as place:
            yield place


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("no JSON", 4400),
        ('"text"', 4400),
        ("{}", 4400),
        ('{"type": "start", "id": "1"}', 4400),
        ('{"type": ["ping"]}', 4400),
        (b"\x00", 4400),
        ('{"type": "connection_init", "payload": 5}', 4400),
        ('{"type": "connection_init"}', 4403),
        ('{"type": "connection_init", "payload": {"authorization": 7}}', 4403),
        ('{"type": "connection_init", "payload": {"authorization": "Bearer nothing"}}', 4403),
        ('{"type": "subscribe", "id": "1", "payload": {"query": "{ viewer { id } }"}}', 4401),
        ('{"type": "ping", "payload": {"x": "' + "x" * 20_000 + '"}}', 1009),
    ],
)
async def test_what_is_said_before_the_handshake_of_the_protocol_is_over(
    url: str, said: str | bytes, code: int
) -> None:
    async with talking(url) as talk:
        await talk.socket.send(said)
        assert (await talk.closed())[0] == code


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"type": "connection_init"}, 4429),
        ({"type": "subscribe", "payload": {"query": VIEWER}}, 4400),
        ({"type": "subscribe", "id": "", "payload": {"query": VIEWER}}, 4400),
        ({"type": "subscribe", "id": 1, "payload": {"query": VIEWER}}, 4400),
        ({"type": "subscribe", "id": "1"}, 4400),
        ({"type": "subscribe", "id": "1", "payload": {"query": 5}}, 4400),
        ({"type": "subscribe", "id": "1", "payload": {"query": VIEWER, "variables": []}}, 4400),
        ({"type": "subscribe", "id": "0", "payload": {"query": BALANCE}}, 4409),
    ],
)
async def test_what_is_said_wrongly_afterwards(
    url: str, world: World, said: dict[str, Any], code: int
) -> None:
    async with talking(url, world.token) as talk:
        await talk.subscribe(BALANCE, id="0")
        await talk.next("0")
        await talk.socket.send(json.dumps(said))
        assert (await talk.closed())[0] == code


async def test_another_protocol_is_not_spoken(url: str) -> None:
    for protocol in ("graphql-ws", None):
        async with talking(url, protocol=protocol) as talk:
            assert talk.socket.subprotocol is None
            assert (await talk.closed())[0] == 4406


async def test_pages_of_other_origins_are_refused(narrow: tuple[Api, str]) -> None:
    url = narrow[1]
    for origin in ("https://evil.example", "null", url.replace("127.0.0.1", "localhost")):
        with pytest.raises(InvalidStatus) as refused:
            async with talking(url, origin=origin):
                pass
        assert refused.value.response.status_code == 403
    for origin in (url, "https://app.example"):
        async with talking(url, origin=origin) as talk:
            await talk.say("ping")
            assert await talk.hear() == {"type": "pong"}


async def test_credentials_come_in_the_payload_or_the_header(url: str, world: World) -> None:
    async with talking(url) as talk:
        await talk.say("connection_init", payload={"AuthoriZation": f"bearer {world.token}"})
        assert (await talk.hear())["type"] == "connection_ack"
    header = {"authorization": f"Bearer {world.token}"}
    async with talking(url, additional_headers=header) as talk:
        await talk.say("connection_init")
        assert (await talk.hear())["type"] == "connection_ack"
        await talk.say("pong")
        await talk.say("ping", payload={"a": 1})
        assert await talk.hear() == {"type": "pong", "payload": {"a": 1}}
        await talk.subscribe(VIEWER)
        assert await talk.next() == {"id": world.member}


async def test_queries_and_mutations_come_through_as_over_http(url: str, world: World) -> None:
    async with talking(url, world.key) as talk:
        key = {"member": {"id": world.member}, "points": 5, "reason": "Thanks", "idempotencyKey": "k"}
        mutation = """mutation A($input: AdjustPointsInput!) {
            adjustPoints(input: $input) { replayed member { balance { available } } } }"""
        for replayed in (False, True):
            await talk.subscribe(mutation, input=key)
            assert await talk.next() == {"replayed": replayed, "member": {"balance": {"available": 5}}}
            assert await talk.hear() == {"type": "complete", "id": "1"}
        await talk.subscribe("query A { viewer { id } } query B { viewer { id } }")
        assert await talk.error() == "BAD_REQUEST"
    for token, query, code in (
        (world.token, "{ viewer {", "GRAPHQL_PARSE_FAILED"),
        (world.token, "{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        (world.token, "subscription { balance { available } tier { qualifying } }", None),
        (world.token, "subscription { " + "balance { available } " * 1000 + "}", "QUERY_TOO_COMPLEX"),
        (world.token, 'subscription { job(id: "x") { id } }', "FORBIDDEN"),
        (world.token, "mutation { recalculateTiers { job { id } } }", "FORBIDDEN"),
        (await world.scoped_key(frozenset({"rules:read"})), BALANCE, "FORBIDDEN"),
        (world.api.admin, BALANCE, "FORBIDDEN"),
    ):
        async with talking(url, token) as talk:
            await talk.subscribe(query)
            assert await talk.error() == (code or "GRAPHQL_VALIDATION_FAILED")
            # It was the operation that failed, not the connection.
            await talk.subscribe("{ __typename }")
            assert await talk.next() == "Query"


async def test_operations_count_against_the_limit_of_requests(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"member_rate_limit": "3/minute"})) as (api, url):
        world = await make_world(api)
        async with talking(url, world.token) as talk:
            for id in ("1", "2"):
                await talk.subscribe(VIEWER, id=id)
                await talk.next(id)
                await talk.hear()
            await talk.subscribe(BALANCE)
            assert await talk.error() == "RATE_LIMITED"
        async with talking(url) as talk:
            await talk.say("connection_init", payload={"authorization": f"Bearer {world.token}"})
            assert (await talk.closed())[0] == 1013


async def test_who_does_not_sign_in_and_who_does_nothing_is_closed(narrow: tuple[Api, str]) -> None:
    world = await make_world(narrow[0])
    async with talking(narrow[1]) as talk:
        assert (await talk.closed(2))[0] == 4408
    async with talking(narrow[1], world.token) as talk:
        assert (await talk.closed(2))[0] == 1000
    async with talking(narrow[1], world.token) as talk:
        await talk.subscribe(BALANCE)
        await talk.next()
        # A subscription on which nothing happens is none of nothing.
        await talk.nothing(0.8)
        await talk.say("complete", id="1")
        assert (await talk.closed(2))[0] == 1000


async def test_connections_and_operations_are_limited(narrow: tuple[Api, str]) -> None:
    api, url = narrow
    world = await make_world(api)

    async def watching(stack: AsyncExitStack, token: str, query: str = BALANCE) -> Talk:
        talk: Talk = await stack.enter_async_context(talking(url, token))
        for id in ("1", "2"):
            await talk.subscribe(query, id=id)
            await talk.next(id)
        return talk

    async with AsyncExitStack() as stack:
        first = await watching(stack, world.token)
        await first.subscribe(VIEWER, id="3")
        assert await first.error("3") == "LIMIT_REACHED"
        await first.say("complete", id="2")
        await first.subscribe(VIEWER, id="3")
        assert await first.next("3") == {"id": world.member}
        await watching(stack, world.token)
        async with talking(url) as third:
            await third.say("connection_init", payload={"authorization": f"Bearer {world.token}"})
            assert (await third.closed())[0] == 1013
        of = f'subscription {{ balance(member: {{id: "{world.member}"}}) {{ available }} }}'
        await watching(stack, world.key, of)
        await watching(stack, world.key, of)
        with pytest.raises(InvalidStatus) as refused:
            async with talking(url):
                pass
        assert refused.value.response.status_code == 503
    await asyncio.sleep(0.1)
    async with talking(url, world.token):
        metrics = (await api.http.get("/metrics")).text
        assert "laurel_sockets 1.0" in metrics
        assert "laurel_subscriptions 0.0" in metrics
        assert 'laurel_sockets_closed_total{code="1013"}' in metrics


async def test_a_message_that_is_too_big_ends_the_connection(narrow: tuple[Api, str]) -> None:
    world = await make_world(narrow[0])
    async with talking(narrow[1], world.token) as talk:
        await talk.subscribe("# " + "x" * 20_000)
        assert (await talk.closed())[0] == 1009


async def test_a_token_that_runs_out_ends_its_connection_at_that_moment(
    url: str, world: World, settings: Settings
) -> None:
    tokens = MemberTokens(secret_key(settings))
    issued = clock.now() - timedelta(seconds=58)
    token = tokens.issue(world.program_id, uuid_of(world.member), 60, issued)
    async with talking(url, token.token) as talk:
        await talk.subscribe(BALANCE)
        await talk.next()
        assert await talk.closed(4) == (4403, "The member token has expired")
        assert abs((clock.now() - token.expires_at).total_seconds()) < 1


async def test_a_key_that_is_revoked_and_a_member_who_is_closed_end_their_connections(
    narrow: tuple[Api, str],
) -> None:
    api, url = narrow
    world = await make_world(api)
    made = await world.done(CREATE_KEY, name=unique("key"), scopes=["members:read"])
    of = f'subscription {{ balance(member: {{id: "{world.member}"}}) {{ available }} }}'
    async with talking(url, made["secret"]) as key, talking(url, world.token) as member:
        await key.subscribe(of)
        await key.next()
        await member.subscribe(BALANCE)
        await member.next()
        await world.call(REVOKE, {"id": made["apiKey"]["id"]})
        assert await key.closed(3) == (4403, "The credential opens nothing any more")
        await member.nothing(0.3)
        await world.done(CHANGE, member={"id": world.member}, status="CLOSED")
        assert await member.closed(3) == (4403, "The credential opens nothing any more")


async def test_what_changes_something_ends_though_nobody_waits_for_it(url: str, world: World) -> None:
    adjust = """mutation { adjustPoints(input: {
        member: {id: "%s"} points: 1 reason: "r" idempotencyKey: "%s" }) { replayed } }"""
    async with transaction() as sql:
        await sql.execute(
            "SELECT 1 FROM account WHERE program_id = $1 AND id = $2 FOR UPDATE",
            world.program_id,
            uuid_of(world.member),
        )
        async with talking(url, world.key) as talk:
            for id in ("1", "2"):
                await talk.subscribe(adjust % (world.member, id), id=id)
            await asyncio.sleep(0.2)
            await talk.say("complete", id="1")
            await talk.say("ping")
            assert await talk.hear() == {"type": "pong"}
    async with talking(url, world.token) as talk:
        await talk.subscribe(BALANCE)
        while (await talk.next())["available"] != 2:
            pass


MUCH = "{ viewer { " + " ".join(f"a{n}: attributes" for n in range(25)) + " } }"
"""400 KB: a few of them are more than what lies between two ends of a connection can hold."""


async def test_a_client_that_never_reads_is_let_go(url: str, world: World) -> None:
    before = sockets.SOCKETS._value.get()
    with patch.object(connections, "_SLOW_SECONDS", 0.3), patch.object(connections, "_CLOSE_SECONDS", 0.1):
        async with talking(url, world.token, max_queue=1, close_timeout=0.1, sock=_narrow(url)) as slow:
            await _fill(slow, world)
            async with asyncio.timeout(10):
                while sockets.SOCKETS._value.get() > before:  # noqa: ASYNC110 - it is no event of ours
                    await asyncio.sleep(0.05)
            slow.socket.transport.abort()


def _narrow(url: str) -> socket.socket:
    """Return a connection that takes little before its reader does."""
    host, _, port = url.removeprefix("http://").partition(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    made.connect((host, int(port)))
    made.setblocking(False)
    return made


async def _fill(slow: Talk, world: World) -> None:
    """Stop reading, and ask for more than what can be sent to somebody who does not read."""
    await world.done(CHANGE, member={"id": world.member}, attributes={"much": "x" * 16_000})
    slow.socket.transport.pause_reading()
    for n in range(40):
        await slow.subscribe(MUCH, id=f"q{n}")
    await asyncio.sleep(0.3)


async def test_a_client_that_does_not_read_gets_the_last_state_when_it_does(url: str, world: World) -> None:
    """Its connection is full; the balance changes many times meanwhile, and nothing of that piles up."""
    async with (
        talking(url, world.token, max_queue=1, sock=_narrow(url)) as slow,
        talking(url, world.token) as other,
    ):
        await other.subscribe(BALANCE)
        assert (await other.next())["available"] == 0
        await slow.subscribe(BALANCE, id="balance")
        await slow.next("balance")
        await _fill(slow, world)
        for _ in range(30):
            await world.adjust(1)
        while (await other.next())["available"] != 30:
            pass
        slow.socket.transport.resume_reading()
        seen = []
        while not seen or seen[-1] != 30:
            message = await slow.hear()
            if message["id"] == "balance":
                seen.append(message["payload"]["data"]["balance"]["available"])
        assert seen == sorted(set(seen))
        assert len(seen) < 10
