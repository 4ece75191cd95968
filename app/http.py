"""What every HTTP request gets: an id that is in its logs and in its answer, and one log line."""

import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import structlog

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

log = structlog.get_logger("laurel.request")

_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HEADER = b"x-request-id"
# A probe every few seconds would drown what people look for.
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_MAX_PATH = 200


class RequestLog:
    """ASGI middleware that names each request, tells the name to the logs, and logs how it ended.

    A caller's `X-Request-ID` is taken over when it has at most 64 letters, digits, dots, underscores
    or hyphens; otherwise one is made. It is bound as `request_id` for everything that is logged
    meanwhile and sent back as `X-Request-ID`. The query string is not logged: it may hold data.
    """

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.application(scope, receive, send)
            return
        request_id = _request_id(scope)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        header = (_HEADER, request_id.encode())
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            kind = message["type"]
            if kind == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            elif kind == "websocket.accept":
                status = 101
                message["headers"] = [*(message.get("headers") or ()), header]
            elif kind == "websocket.http.response.start":
                status = message["status"]
            elif kind == "websocket.close":
                status = status or 403
            await send(message)

        started = time.perf_counter()
        try:
            await self.application(scope, receive, send_named)
        except BaseException:
            # Without an answer so far, the server will say 500.
            status = status or 500
            raise
        finally:
            # A log that cannot be written must not break the answer.
            with suppress(OSError, ValueError):
                _log(scope, status, time.perf_counter() - started)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == _HEADER:
            if _WELL_FORMED.fullmatch(value):
                return str(value, "ascii")
            break
    return os.urandom(16).hex()


def _log(scope: Scope, status: int, seconds: float) -> None:
    # The raw path is still percent-encoded: no line breaks or control characters get into the log.
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")[:_MAX_PATH]
    write = log.debug if scope["path"] in _PROBES else log.info
    write(
        "request",
        method=scope.get("method", "WEBSOCKET"),
        path=path,
        status=status,
        duration_ms=round(seconds * 1000, 2),
    )
