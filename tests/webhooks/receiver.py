"""A receiver of webhooks that can misbehave in every way, and what tests of deliveries share."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from standardwebhooks import Webhook as Verifier

from app import clock
from app.catalog.vault import Vault
from app.database import connection, transaction
from app.keyring import codes_key
from app.members.reads import MemberRow
from app.messages.feed import number_program
from app.messages.leaving import Message, leave
from app.messages.topics import Topic
from app.programs.models import Program
from app.settings import settings
from app.webhooks.delivering import Deliverer
from app.webhooks.reads import Webhook
from app.webhooks.sending import Limits, Sender
from app.webhooks.service import create_webhook

QUICK = Limits(connect_seconds=0.3, total_seconds=0.5)
"""What tests wait for a receiver that does not answer, in place of seconds."""


@dataclass
class Request:
    """One request as it came in, its body taken apart."""

    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def n(self) -> Any:
        """What `tell` numbered the message with."""
        return self.json["data"].get("n")

    @property
    def member(self) -> str | None:
        member = self.json["data"]["member"]
        return None if member is None else member["externalId"]

    def verified(self, secret: str) -> Any:
        """Return the body if the public library finds it signed with a secret."""
        return Verifier(secret).verify(self.body, self.headers)


Behaviour = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def status(code: int, text: str = "", *headers: str) -> Behaviour:
    """Answer with a status, and stay for the next request."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {code} Status", f"content-length: {len(text.encode())}", *headers, "", text]
        writer.write("\r\n".join(lines).encode())

    return answer


async def hang(_: Request, writer: asyncio.StreamWriter) -> None:
    """Say nothing at all."""
    await asyncio.sleep(60)


async def hang_up(_: Request, writer: asyncio.StreamWriter) -> None:
    """Close without a word."""
    writer.close()


async def reset(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def gigabyte(code: int) -> Behaviour:
    """Answer with a gigabyte."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {code} Big\r\ncontent-length: {2**30}\r\n\r\n".encode())
        for _chunk in range(2**14):
            writer.write(b"x" * 2**16)
            await writer.drain()

    return answer


async def endless_headers(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x-more: " + b"y" * 4096 + b"\r\n")
        await writer.drain()


async def endless_hints(_: Request, writer: asyncio.StreamWriter) -> None:
    """Say for ever that the answer will come soon."""
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
        await writer.drain()
        await asyncio.sleep(0.001)


def drip(code: int) -> Behaviour:
    """Answer with a body that comes byte by byte, and never ends."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {code} Slow\r\ncontent-length: 1000000\r\n\r\n".encode())
        while True:
            writer.write(b"z")
            await writer.drain()
            await asyncio.sleep(0.05)

    return answer


async def drip_headers(_: Request, writer: asyncio.StreamWriter) -> None:
    for character in "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n":
        writer.write(character.encode())
        await writer.drain()
        await asyncio.sleep(0.1)


async def gibberish(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\xff SSH-2.0 what?\r\n\r\n")
    writer.close()


@dataclass
class Receiver:
    """A server on this machine that keeps what it was sent."""

    port: int = 0
    tls: bool = False
    behaviour: Behaviour = field(default_factory=lambda: status(200))
    got: list[Request] = field(default_factory=list)
    taken: list[Request] = field(default_factory=list)
    connections: int = 0
    at_once: int = 0
    most_at_once: int = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/hooks?shop=1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])
                }
                body = await reader.readexactly(int(headers["content-length"]))
                request = Request(headers | {":line": head[0]}, body.decode())
                self.got.append(request)
                self.at_once += 1
                self.most_at_once = max(self.at_once, self.most_at_once)
                try:
                    await self.behaviour(request, writer)
                    await writer.drain()
                finally:
                    self.at_once -= 1
        writer.close()

    async def has(self, count: int) -> None:
        """Wait until so many requests have come in."""
        async with asyncio.timeout(10):
            while len(self.got) < count:  # noqa: ASYNC110 - an event would have to be set in every behaviour
                await asyncio.sleep(0.01)

    def by_member(self) -> dict[str | None, list[int]]:
        """Return the numbers of the messages of each member, in the order in which they came in first."""
        found: dict[str | None, list[int]] = {}
        for request in self.got:
            numbers = found.setdefault(request.member, [])
            if request.n not in numbers:
                numbers.append(request.n)
        return found


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver(tls=tls is not None)
    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(receiver.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@cache
def trust() -> ssl.SSLContext:
    """Return the usual authorities; to read them takes longer than most tests."""
    return ssl.create_default_context()


def vault() -> Vault:
    """Return the vault of the tests' settings."""
    return Vault(codes_key(settings()))


async def hook(program: Program, url: str, *topics: str) -> tuple[Webhook, str]:
    """Make a webhook to anywhere, and return it with its secret."""
    return await create_webhook(program.id, url, topics, vault=vault(), allow_private=True)


async def tell(
    program: Program, *numbers: int, member: MemberRow | None = None, topic: Topic = Topic.POINTS_EARNED
) -> None:
    """Leave messages with numbers in them, in one transaction."""
    messages = [Message(topic, member and member.id, {"n": n}) for n in numbers]
    async with transaction() as sql:
        await leave(sql, program.id, messages, clock.now())


async def deliver(
    program: Program, *, limits: Limits | None = None, allow_private: bool = True, **options: Any
) -> None:
    """Do what the workers do until nothing is due."""
    async with connection() as sql:
        # Those that other tests have left behind.
        await sql.execute("DELETE FROM webhook WHERE program_id <> $1", program.id)
    await number_program(program.id)
    options.setdefault("tls", trust())
    async with (
        Sender(allow_private=allow_private, limits=limits, **options) as sender,
        Deliverer(sender, vault()) as deliverer,
    ):
        while await deliverer.begin():
            await deliverer.finish()


async def row_of(webhook: Webhook) -> dict[str, Any]:
    """Return a webhook's row."""
    async with connection() as sql:
        row = await sql.fetchrow("SELECT * FROM webhook WHERE id = $1", webhook.id)
    return dict(row)


async def waiting(webhook: Webhook) -> list[dict[str, Any]]:
    """Return the deliveries that wait, in their order."""
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT * FROM webhook_delivery WHERE webhook_id = $1 ORDER BY position", webhook.id
        )
    return [dict(row) for row in rows]
