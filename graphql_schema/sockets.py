"""GraphQL over WebSockets: the protocol graphql-transport-ws, for subscriptions and everything else.

What an operation may and what it costs is as over HTTP. A client that reads slowly holds up nobody but
itself: of a subscription it gets the state as it is when it comes to it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Self
from urllib.parse import urlsplit

import structlog
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from app.access.principal import Principal
from app.access.standing import gone
from app.errors import Unavailable
from app.metrics import ERRORS, SOCKETS
from app.settings import Settings
from graphql_schema.connections import REVOKED, Connection, Entrance
from graphql_schema.context import Context
from graphql_schema.running import Runner

_CHECK_SECONDS = 5.0
_TELL_SECONDS = 10.0

log = structlog.get_logger("laurel.live")


class Sockets:
    """The WebSocket endpoint of one process. Use it as an async context manager.

    Args of the constructor: what runs operations, who may come in, what makes an operation's context of
    the connection and its principal, and the settings with the limits.
    """

    def __init__(
        self,
        runner: Runner,
        gate: Entrance,
        context: Callable[[HTTPConnection, Principal], Context],
        settings: Settings,
    ) -> None:
        self.runner = runner
        self.gate = gate
        self.context = context
        self.settings = settings
        self._origins = {each.strip().rstrip("/") for each in settings.allowed_origins.split(",")} - {""}
        self._open: set[Connection] = set()
        self._by_credential: Counter[str] = Counter()
        self._told_at = -_TELL_SECONDS

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._check())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one connection from its handshake to its end."""
        await receive()
        connection = HTTPConnection(scope)
        if (status := self._refused(connection)) is not None:
            await _refuse(scope, send, status)
            return
        opened = Connection(self, connection, receive, send)
        self._open.add(opened)
        SOCKETS.inc()
        try:
            await opened.run()
        finally:
            self._open.discard(opened)
            self.move(opened, None)
            SOCKETS.dec()

    def _refused(self, connection: HTTPConnection) -> int | None:
        """Return the status with which a handshake is refused; None for one that is not."""
        origin = connection.headers.get("origin")
        # Somebody else's page must not use what a browser knows; other clients name no origin.
        if origin is not None and origin.rstrip("/") not in self._origins:
            own = connection.headers.get("host", "").lower()
            if urlsplit(origin).netloc.lower() != own:
                return 403
        if len(self._open) >= self.settings.max_connections:
            if monotonic() - self._told_at >= _TELL_SECONDS:
                self._told_at = monotonic()
                log.warning("connections_refused", open=len(self._open))
            return 503
        return None

    def move(self, connection: "Connection", credential: str | None) -> bool:
        """Count a connection under another credential; False where that has as many as it may."""
        if connection.counted_as is not None:
            self._by_credential[connection.counted_as] -= 1
            if not self._by_credential[connection.counted_as]:
                del self._by_credential[connection.counted_as]
        connection.counted_as = credential
        if credential is None:
            return True
        self._by_credential[credential] += 1
        member = connection.principal.member_id is not None
        limits = self.settings
        most = limits.max_connections_per_member if member else limits.max_connections_per_key
        return self._by_credential[credential] <= most

    async def _check(self) -> None:
        """Close the connections of keys and members that may not stay."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            by_credential: dict[str, list[Connection]] = {}
            for each in self._open:
                by_credential.setdefault(each.principal.credential, []).append(each)
            try:
                ended = await gone([some[0].principal for some in by_credential.values()])
            except Unavailable:
                continue
            except Exception:
                ERRORS.labels("live").inc()
                log.exception("live_failed")
                continue
            for credential in ended:
                for each in by_credential[credential]:
                    each.end(REVOKED)


async def _refuse(scope: Scope, send: Send, status: int) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "websocket.http.response.start", "status": status, "headers": []})
    await send({"type": "websocket.http.response.body", "body": b""})
