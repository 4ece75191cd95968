"""A server on a real port, and clients that speak graphql-transport-ws word by word."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from app.settings import Settings
from tests.api.client import Api, running

PROTOCOL = Subprotocol("graphql-transport-ws")
BALANCE = "subscription { balance { available pending reserved } }"
BALANCE_OF = "subscription ($of: MemberRef!) { balance(member: $of) { available } }"
PATIENCE_SECONDS = 10


class Talk:
    """One connection, message by message."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, type: str, **more: Any) -> None:
        await self.socket.send(json.dumps({"type": type, **more}))

    async def hear(self, seconds: float = PATIENCE_SECONDS) -> Any:
        """Return the next message."""
        async with asyncio.timeout(seconds):
            return json.loads(await self.socket.recv())

    async def init(self, token: str | None) -> None:
        """Sign in."""
        await self.say("connection_init", payload={"authorization": f"Bearer {token}"} if token else {})
        assert await self.hear() == {"type": "connection_ack"}

    async def subscribe(self, query: str, id: str = "1", **variables: Any) -> None:
        await self.say("subscribe", id=id, payload={"query": query, "variables": variables})

    async def next(self, id: str = "1", seconds: float = PATIENCE_SECONDS) -> Any:
        """Return the data of the next event of an operation, which must be the next message."""
        message = await self.hear(seconds)
        assert message["type"] == "next", message
        assert message["id"] == id
        assert "errors" not in message["payload"], message
        (data,) = message["payload"]["data"].values()
        return data

    async def error(self, id: str = "1") -> str:
        """Return the code of the error that ends an operation."""
        message = await self.hear()
        assert (message["type"], message["id"]) == ("error", id), message
        code: str = message["payload"][0]["extensions"]["code"]
        return code

    async def closed(self, seconds: float = PATIENCE_SECONDS) -> tuple[int | None, str | None]:
        """Wait for the end of the connection, whatever is said before, and return its code and reason."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self.socket.recv()
        except ConnectionClosed:
            return self.socket.close_code, self.socket.close_reason

    async def nothing(self, seconds: float) -> None:
        """Fail when anything is said within so many seconds."""
        try:
            message = await self.hear(seconds)
        except TimeoutError:
            return
        raise AssertionError(message)


@asynccontextmanager
async def talking(
    url: str, token: str | None = None, protocol: str | None = PROTOCOL, **options: Any
) -> AsyncIterator[Talk]:
    """Open a connection, and sign in where a token is given."""
    protocols = None if protocol is None else [Subprotocol(protocol)]
    address = url.replace("http", "ws", 1) + "/graphql"
    async with connect(address, subprotocols=protocols, proxy=None, **options) as socket:
        talk = Talk(socket)
        if token is not None:
            await talk.init(token)
        yield talk


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[Api, str]]:
    """Run an application of one's own on a port of this machine, and return its address."""
    async with running(settings) as api:
        config = uvicorn.Config(
            api.application,
            lifespan="off",
            log_config=None,
            access_log=False,
            loop="none",
            ws="websockets-sansio",
            ws_max_size=settings.max_body_bytes,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            task = asyncio.create_task(server.serve([listener]))
            while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
                await asyncio.sleep(0.01)
            try:
                yield api, f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                await task
