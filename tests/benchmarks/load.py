"""The load generator: a lean HTTP/1.1 client over keep-alive sockets, in a process of its own.

Reads a `harness.Load` as JSON from stdin, writes a `harness.Answered` to stdout. Requests are bytes
that are ready but for two numbers, answers are read as far as it takes to know that they are right.
"""

import asyncio
import json
import random
import sys
import time
from typing import Any

import uvloop


class _Client(asyncio.Protocol):
    """One connection: sends the next request when the answer to the last one is there."""

    def __init__(self, load: "_Load") -> None:
        self.load = load
        self.buffer = b""
        self.sent_at = 0.0
        self.follows = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        """Send the next request, in its turn."""
        wait = self.load.turn()
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._send)
        else:
            self._send()

    def _send(self) -> None:
        if self.transport.is_closing():
            return
        self.sent_at = time.perf_counter()
        self.follows = False
        self.transport.write(self.load.request())

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.index(b"content-length:") + 15
        line_end = head.find(b"\r\n", at)
        length = int(head[at : line_end if line_end >= 0 else None])
        if len(self.buffer) < end + 4 + length:
            return
        body, self.buffer = self.buffer[end + 4 :], b""
        if self.load.then and not self.follows and self.load.right(head, body):
            self.follows = True
            self.transport.write(self.load.about(body))
        elif self.load.answered(head, body, time.perf_counter() - self.sent_at):
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.load.closed(error)


class _Load:
    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.number = spec["first"]
        self.members = spec["members"]
        self.must = spec["must_contain"].encode()
        keys = spec["keys"] or [spec["key"]]
        self.templates = [self._template(body, key) for key in keys for body in spec["templates"]]
        self.then = spec["then"]
        self.random = random.Random(self.number)
        self.latencies: list[float] = []
        self.open = spec["connections"]
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begin = time.perf_counter() + spec["warm_up_seconds"]
        self.end = self.begin + spec["seconds"]
        self.last = self.begin
        self.next_at = 0.0

    def _template(self, body: dict[str, Any], key: str) -> bytes:
        content = json.dumps(body, separators=(",", ":")).encode()
        head = (
            f"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            "Content-Type: application/json\r\nAccept: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content

    def turn(self) -> float:
        """Return in how many seconds the next request is to be sent."""
        if not self.spec["rate"]:
            return 0.0
        now = time.perf_counter()
        at = max(now, self.next_at)
        self.next_at = at + 1 / self.spec["rate"]
        return at - now

    def request(self) -> bytes:
        number = self.number
        self.number += 1
        request = self.templates[number % len(self.templates)]
        if b"@@@@@@@@" in request:
            request = request.replace(b"@@@@@@@@", b"%08d" % number)
        if b"########" in request:
            request = request.replace(b"########", b"%08d" % self.random.randrange(self.members))
        return request

    def about(self, body: bytes) -> bytes:
        """Return the request that follows an answer."""
        named = body.split(b'"id":"', 1)[1].split(b'"', 1)[0].decode()
        content = json.loads(json.dumps(self.then).replace("$$$$$$$$", named))
        return self._template(content, self.spec["key"])

    def right(self, head: bytes, body: bytes) -> bool:
        """Tell whether an answer is what it is to be."""
        return head.startswith(b"http/1.1 200") and self.must in body and b'"errors":' not in body

    def answered(self, head: bytes, body: bytes, seconds: float) -> bool:
        """Count an answer; return whether to go on."""
        if not self.right(head, body):
            if not self.done.done():
                self.done.set_exception(RuntimeError(f"{head.decode()}\n\n{body.decode()[:1000]}"))
            return False
        now = time.perf_counter()
        if now >= self.end:
            return False
        if now >= self.begin:
            self.latencies.append(seconds)
            self.last = now
        return True

    def closed(self, error: Exception | None) -> None:
        self.open -= 1
        if not self.done.done() and (error is not None or not self.open):
            if error is None and self.latencies:
                self.done.set_result(None)
            else:
                self.done.set_exception(error or RuntimeError("The server closed connections."))


async def _main() -> None:
    spec = json.loads(sys.stdin.buffer.read())
    load = _Load(spec)
    loop = asyncio.get_running_loop()
    for _ in range(spec["connections"]):
        await loop.create_connection(lambda: _Client(load), "127.0.0.1", spec["port"])
    await load.done
    latencies = sorted(load.latencies)
    print(
        json.dumps(
            {
                "rate": len(latencies) / (load.last - load.begin),
                "p50_ms": latencies[len(latencies) // 2] * 1000,
                "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
                "next_number": load.number,
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(_main())
