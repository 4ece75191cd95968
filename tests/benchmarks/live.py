"""From a purchase to what a subscription tells of it: real servers, a real worker, and one watcher.

There is no limit to hold it against. Beside it stands what the purchase itself takes until its answer.
"""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any, NamedTuple

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from app.tiers.inputs import NewTier
from app.tiers.service import create_tier
from tests.benchmarks.harness import (
    Bench,
    Figure,
    Load,
    Servers,
    child,
    connected,
    laurel,
    load,
    make_program,
    member_name,
    run,
    serving,
)
from tests.benchmarks.http import RECORD, purchase
from tests.platform.instance import free_port

_BESIDE = 10_000
"""Members who buy beside."""

_RATE = 200.0
_THRESHOLD = 10
_PATIENCE_SECONDS = 30.0
_WARM_UP = 20

_BALANCE = "subscription ($of: MemberRef!) { balance(member: $of) { available } }"
_TIER = "subscription ($of: MemberRef!) { tier(member: $of) { current { name } qualifying missing } }"


class Sample(NamedTuple):
    """Seconds since a purchase was sent."""

    answered: float
    balance: float
    tier: float


class Watcher:
    """Watches one member after the other, and buys for them."""

    def __init__(self, socket: ClientConnection, client: httpx.AsyncClient, url: str) -> None:
        self._socket = socket
        self._client = client
        self._url = url
        self._next = _BESIDE

    async def _hear(self) -> dict[str, Any]:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            message: dict[str, Any] = json.loads(await self._socket.recv())
        if message["type"] == "ping":
            await self._socket.send('{"type":"pong"}')
            return await self._hear()
        assert message["type"] in ("next", "complete", "connection_ack"), message
        return message

    async def sign_in(self, key: str) -> None:
        """Say who watches."""
        payload = {"authorization": f"Bearer {key}"}
        await self._socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        assert (await self._hear())["type"] == "connection_ack"

    async def _until(self, seen: dict[str, Callable[[Any], bool]]) -> dict[str, float]:
        """Return when each subscription told what it is to tell."""
        times: dict[str, float] = {}
        while len(times) < len(seen):
            message = await self._hear()
            if message["type"] != "next" or message["id"] not in seen:
                continue
            (state,) = message["payload"]["data"].values()
            if message["id"] not in times and seen[message["id"]](state):
                times[message["id"]] = time.perf_counter()
        return times

    async def sample(self) -> Sample:
        """Watch a member who has nothing yet, buy something for them, and see what is told."""
        name = member_name(self._next)
        self._next += 1
        of = {"of": {"externalId": name}}
        balance, tier = f"balance-{name}", f"tier-{name}"
        for id, query in ((balance, _BALANCE), (tier, _TIER)):
            payload = {"query": query, "variables": of}
            await self._socket.send(json.dumps({"type": "subscribe", "id": id, "payload": payload}))
        await self._until({balance: lambda state: True, tier: lambda state: state["current"] is None})
        started = time.perf_counter()
        watching = asyncio.create_task(
            self._until(
                {
                    balance: lambda state: state["available"] >= _THRESHOLD,
                    tier: lambda state: state["current"] is not None,
                }
            )
        )
        body = {"query": RECORD, "variables": {"input": purchase(f"live-{name}", name)}}
        answer = await self._client.post(self._url, json=body)
        answered = time.perf_counter() - started
        assert answer.json()["data"]["recordPurchase"]["userErrors"] == [], answer.text[:500]
        told = await watching
        for id in (balance, tier):
            await self._socket.send(json.dumps({"type": "complete", "id": id}))
        return Sample(answered, told[balance] - started, told[tier] - started)


def _percentiles(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] * 1000, ordered[int(len(ordered) * 0.99)] * 1000


def _figure(name: str, samples: list[Sample]) -> Figure:
    answered, balance, tier = (_percentiles(list(column)) for column in zip(*samples, strict=True))
    note = f"{len(samples)} purchases; p50 and p99: " + ", ".join(
        f"{what} {p50:.1f} and {p99:.1f} ms"
        for what, (p50, p99) in (("answered", answered), ("balance seen", balance), ("tier seen", tier))
    )
    ratio = tier[0] / answered[0]
    return Figure(name, tier[0], answered[0], ratio, None, "ms", "the purchase's answer, p50", notes=[note])


async def _make(samples: int) -> Bench:
    bench = await make_program(_BESIDE + samples)
    for rank, name in enumerate(("Silver", "Gold")):
        await create_tier(bench.program.id, NewTier(name=name, threshold=Decimal(_THRESHOLD * 100**rank)))
    return bench


async def _measure(servers: Servers, quick: bool) -> list[Figure]:
    count, seconds = (50, 5.0) if quick else (300, 30.0)
    settings = await servers.new_database()
    async with connected(settings):
        bench = await _make(count + int(seconds) * 100)
    port = free_port()
    url = f"http://127.0.0.1:{port}/graphql"
    body = {"query": RECORD, "variables": {"input": purchase("@@@@@@@@", "########")}}
    beside = Load(port, bench.key, [body], seconds=seconds, members=_BESIDE, must_contain='"userErrors":[]')
    beside.rate = _RATE
    headers = {"Authorization": f"Bearer {bench.key}"}
    with (
        serving(servers, settings, port),
        child(laurel("work"), settings, servers.folder / "live.log"),
    ):
        async with (
            httpx.AsyncClient(headers=headers, timeout=_PATIENCE_SECONDS, trust_env=False) as client,
            connect(
                url.replace("http", "ws", 1), subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None
            ) as socket,
        ):
            watcher = Watcher(socket, client, url)
            await watcher.sign_in(bench.key)
            for _ in range(_WARM_UP):
                await watcher.sample()
            alone = [await watcher.sample() for _ in range(count)]
            sending = asyncio.create_task(load(beside))
            try:
                among: list[Sample] = []
                await asyncio.sleep(2 * beside.warm_up_seconds)
                while not sending.done() and len(among) < int(seconds) * 90:
                    among.append(await watcher.sample())
                sent = await sending
            finally:
                sending.cancel()
                with suppress(asyncio.CancelledError):
                    await sending
    await servers.drop_database(settings)
    busy = _figure(f"the same beside {sent.rate:,.0f} purchases/s", among)
    busy.notes.append(f"those purchases: p50 {sent.p50_ms:.1f} ms, p99 {sent.p99_ms:.1f} ms")
    return [_figure("from a purchase to a tier's upgrade seen live, p50", alone), busy]


def figures(servers: Servers, quick: bool) -> list[Figure]:
    """Measure how soon a purchase is seen by whoever watches."""
    result: list[Figure] = run(_measure(servers, quick))
    return result
