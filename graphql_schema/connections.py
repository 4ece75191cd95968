"""One connection that speaks graphql-transport-ws, from its handshake to its end."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, NamedTuple, Protocol

import orjson
import structlog
from graphql import GraphQLError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Send
from strawberry.schema.exceptions import CannotGetOperationTypeError
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from app import clock
from app.access.authenticate import InvalidCredential, anonymous
from app.access.principal import ANONYMOUS, Principal
from app.errors import Denied, Unavailable
from app.metrics import ERRORS, SOCKETS_CLOSED, SUBSCRIPTIONS
from app.settings import Settings
from graphql_schema.context import Context
from graphql_schema.errors import unexpected
from graphql_schema.running import MalformedRequest, Runner, checked, dumps, outcome_of, told_to_the_log

PROTOCOL = "graphql-transport-ws"
RATE_LIMITED = "RATE_LIMITED"

_INIT_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_SLOW_SECONDS = 30.0
_MAX_INIT_CHARS = 16_384
_MAX_ID_CHARS = 255
_MAX_REASON_BYTES = 120

_ANSWERED = frozenset({OperationType.QUERY, OperationType.MUTATION})

log = structlog.get_logger("laurel.live")


class Close(NamedTuple):
    """How a connection ends: the protocol's codes are 44xx; clients come back after 1013 and 4403."""

    code: int
    reason: str


_IDLE = Close(1000, "Nothing was subscribed to for too long")
_TOO_BIG = Close(1009, "The message is too big")
_FULL = Close(1013, "Too many connections; try again later")
_AWAY = Close(1013, "Not available now; try again later")
_SLOW = Close(1013, "Messages are not read; try again later")
_NO_INIT = Close(4408, "Connection initialisation timeout")
_EXPIRED = Close(4403, "The member token has expired")
REVOKED = Close(4403, "The credential opens nothing any more")
_FAILED = Close(4500, "Internal server error")


class Entrance(Protocol):
    """Who comes in, and how often: `app.access.gate.Gate`."""

    async def admit(self, header: str | None, address: str) -> Principal: ...
    async def count(self, principal: Principal) -> None: ...
    def ends_at(self, header: str) -> Any: ...


class Endpoint(Protocol):
    """What a connection belongs to: `graphql_schema.sockets.Sockets`."""

    runner: Runner
    gate: Entrance
    context: Callable[[HTTPConnection, Principal], Context]
    settings: Settings

    def move(self, connection: "Connection", credential: str | None) -> bool: ...


class _Operation:
    """One operation under way. A silent one goes on, because it changes something, and says nothing."""

    __slots__ = ("id", "silent", "streams", "task")

    def __init__(self, id: str) -> None:
        self.id = id
        self.streams = True
        self.silent = False
        self.task: asyncio.Task[None] | None = None


class Connection:
    """One connection. Its messages are taken one after the other; each operation has a task."""

    def __init__(self, sockets: Endpoint, connection: HTTPConnection, receive: Receive, send: Send) -> None:
        self.principal = ANONYMOUS
        self.counted_as: str | None = None
        self._sockets = sockets
        self._connection = connection
        self._receive = receive
        self._send = send
        self._address = connection.client.host if connection.client else ""
        self._initialised = False
        self._operations: dict[str, _Operation] = {}
        self._running: set[_Operation] = set()
        self._ending: Close | None = None
        self._closed = False
        self._timeout: asyncio.Timeout | None = None
        loop = asyncio.get_running_loop()
        self._idle_at = loop.time() + _INIT_SECONDS
        self._expires_at = float("inf")

    async def run(self) -> None:
        """Serve the connection until one of the two sides ends it."""
        offered = self._connection.scope.get("subprotocols", ())
        accepted = PROTOCOL in offered
        await self._transmit({"type": "websocket.accept", "subprotocol": PROTOCOL if accepted else None})
        if not accepted:
            close: Close | None = Close(4406, "Subprotocol not acceptable")
        elif not self._sockets.move(self, anonymous(self._address).credential):
            close = _FULL
        else:
            close = await self._serve()
        self._closed = True
        for operation in self._running:
            if operation.streams and operation.task:
                operation.task.cancel()
        if close is not None:
            await self._close(close)
        structlog.contextvars.bind_contextvars(closed=close.code if close else "by client")
        SOCKETS_CLOSED.labels(str(close.code) if close else "client").inc()
        # What changes something is not torn: it ends within the time that any operation has.
        if tasks := [operation.task for operation in self._running if operation.task]:
            await asyncio.wait(tasks)

    async def _serve(self) -> Close | None:
        """Take messages; return how to close the connection, or None when the client has."""
        try:
            async with asyncio.timeout_at(self._idle_at) as self._timeout:
                while True:
                    message = await self._receive()
                    if message["type"] == "websocket.disconnect":
                        return None
                    if (close := await self._take(message)) is not None:
                        return close
        except TimeoutError:
            if self._ending is not None:
                return self._ending
            if self._timeout is None or not self._timeout.expired():
                return _AWAY
            if asyncio.get_running_loop().time() >= self._expires_at:
                return _EXPIRED
            return _IDLE if self._initialised else _NO_INIT
        except OSError:
            return None
        except Exception:
            ERRORS.labels("live").inc()
            log.exception("socket_failed")
            return _FAILED
        finally:
            self._timeout = None

    def end(self, close: Close) -> None:
        """Have the connection closed, now."""
        if self._timeout is not None and self._ending is None:
            self._ending = close
            self._reschedule()

    def _reschedule(self) -> None:
        if self._timeout is None or self._timeout.expired():
            return
        if self._ending is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())
        else:
            idle_at = float("inf") if self._running else self._idle_at
            self._timeout.reschedule(min(idle_at, self._expires_at))

    def _rest(self) -> None:
        """Begin to count the time in which nothing goes on, when that is so."""
        if not self._running:
            self._idle_at = asyncio.get_running_loop().time() + self._sockets.settings.idle_seconds
        self._reschedule()

    async def _close(self, close: Close) -> None:
        reason = close.reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        # Who does not read may not hear of it.
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._send({"type": "websocket.close", "code": close.code, "reason": reason})

    async def _transmit(self, message: Message) -> None:
        with suppress(OSError):
            await self._send(message)

    async def _say(self, **message: Any) -> None:
        if self._closed:
            return
        text = orjson.dumps(message).decode()
        try:
            async with asyncio.timeout(_SLOW_SECONDS):
                await self._transmit({"type": "websocket.send", "text": text})
        except TimeoutError:
            self.end(_SLOW)

    async def _take(self, message: Message) -> Close | None:
        text = message.get("text")
        if text is None:
            return Close(4400, "Messages are text")
        most = self._sockets.settings.max_body_bytes if self._initialised else _MAX_INIT_CHARS
        if len(text) > most:
            return _TOO_BIG
        try:
            said = orjson.loads(text)
        except orjson.JSONDecodeError:
            return Close(4400, "Messages are JSON")
        take = self._takers.get(str(said.get("type"))) if isinstance(said, dict) else None
        if take is None:
            return Close(4400, "There is no such type of message")
        return await take(self, said)

    async def _ping(self, said: Mapping[str, Any]) -> None:
        payload = {"payload": said["payload"]} if isinstance(said.get("payload"), dict) else {}
        await self._say(type="pong", **payload)

    async def _pong(self, said: Mapping[str, Any]) -> None:
        """Take it as it is: who is there is found out by the frames below."""

    async def _init(self, said: Mapping[str, Any]) -> Close | None:
        if self._initialised:
            return Close(4429, "Too many initialisation requests")
        payload = said.get("payload")
        if payload is not None and not isinstance(payload, dict):
            return Close(4400, "The payload of connection_init must be an object")
        given = [value for name, value in (payload or {}).items() if name.lower() == "authorization"]
        header = given[0] if given else self._connection.headers.get("authorization")
        if not isinstance(header, str):
            return Close(4403, "Send a credential as authorization in the payload of connection_init")
        try:
            self.principal = await self._sockets.gate.admit(header, self._address)
            member = self.principal.member_id is not None
            ends_at = self._sockets.gate.ends_at(header) if member else None
        except (Denied, InvalidCredential) as denied:
            return Close(4403, str(denied))
        except HTTPException as error:
            return Close(1013, error.detail)
        except Unavailable:
            return _AWAY
        structlog.contextvars.bind_contextvars(**told_to_the_log(self.principal, None, "ok", None))
        if not self._sockets.move(self, self.principal.credential):
            return _FULL
        now = asyncio.get_running_loop().time()
        if ends_at is not None:
            self._expires_at = now + (ends_at - clock.now()).total_seconds()
        self._initialised = True
        self._idle_at = now + self._sockets.settings.idle_seconds
        self._reschedule()
        await self._say(type="connection_ack")
        return None

    async def _subscribe(self, said: Mapping[str, Any]) -> Close | None:
        if not self._initialised:
            return Close(4401, "Unauthorized")
        id = said.get("id")
        if not isinstance(id, str) or not 0 < len(id) <= _MAX_ID_CHARS:
            return Close(4400, f"subscribe needs an id of 1 to {_MAX_ID_CHARS} characters")
        try:
            payload = checked(said.get("payload"))
        except MalformedRequest as malformed:
            return Close(4400, str(malformed))
        if id in self._operations:
            return Close(4409, f"Subscriber for {id} already exists")
        most = self._sockets.settings.max_subscriptions
        if len(self._running) >= most:
            message = f"A connection may have {most} operations at a time."
            error = GraphQLError(message, extensions={"code": "LIMIT_REACHED"})
            await self._say(id=id, type="error", payload=[error.formatted])
            return None
        operation = _Operation(id)
        self._operations[id] = operation
        self._running.add(operation)
        self._reschedule()
        operation.task = asyncio.create_task(self._operate(operation, payload))
        return None

    async def _complete(self, said: Mapping[str, Any]) -> None:
        operation = self._operations.pop(str(said.get("id")), None)
        if operation is not None:
            operation.silent = True
            if operation.streams and operation.task:
                # Its place is free at once, though it ends a moment later.
                self._running.discard(operation)
                operation.task.cancel()
                self._rest()

    _takers: Mapping[str, Callable[["Connection", Mapping[str, Any]], Awaitable[Close | None]]] = {
        "connection_init": _init,
        "ping": _ping,
        "pong": _pong,
        "subscribe": _subscribe,
        "complete": _complete,
    }

    async def _operate(self, operation: _Operation, payload: Mapping[str, Any]) -> None:
        """Run one operation to its end, and tell the client of it."""
        try:
            errors = await self._results(operation, payload)
        except Exception as error:
            errors = [unexpected(error, operation=self._sockets.runner.operation_name(payload))]
        finally:
            self._running.discard(operation)
            if self._operations.get(operation.id) is operation:
                # Before the last message: with it the id may be used again.
                del self._operations[operation.id]
            self._rest()
        if operation.silent:
            return
        if errors:
            await self._say(id=operation.id, type="error", payload=[each.formatted for each in errors])
        else:
            await self._say(id=operation.id, type="complete")

    async def _results(self, operation: _Operation, payload: Mapping[str, Any]) -> list[GraphQLError] | None:
        """Run one operation and send its results; return the errors that keep it from going on."""
        try:
            await self._sockets.gate.count(self.principal)
        except HTTPException as error:
            return [GraphQLError(error.detail, extensions={"code": RATE_LIMITED})]
        context = self._sockets.context(self._connection, self.principal)
        runner = self._sockets.runner
        operation.streams = runner.is_subscription(payload)
        try:
            if operation.streams:
                with SUBSCRIPTIONS.track_inprogress():
                    async with aclosing(runner.events(payload, context)) as results:
                        return await self._stream(operation, results)
            result = await runner.run(payload, context, _ANSWERED)
        except CannotGetOperationTypeError as error:
            reason = error.as_http_error_reason().rstrip(".")
            return [GraphQLError(f"{reason}.", extensions={"code": "BAD_REQUEST"})]
        name, outcome = runner.operation_name(payload), outcome_of(result.errors)
        log.info("operation", **told_to_the_log(self.principal, name, outcome, result.data))
        if isinstance(result, PreExecutionError) or (
            result.data is None and not any(error.path for error in result.errors or ())
        ):
            return result.errors
        await self._send_result(operation, _encoded(result))
        return None

    async def _stream(self, operation: _Operation, results: Any) -> list[GraphQLError] | None:
        last = b""
        async for result in results:
            if isinstance(result, PreExecutionError):
                return result.errors
            encoded = _encoded(result)
            # What has changed may be something that the client did not ask for.
            if encoded != last:
                last = encoded
                await self._send_result(operation, encoded)
        return None

    async def _send_result(self, operation: _Operation, encoded: bytes) -> None:
        if not operation.silent:
            await self._say(id=operation.id, type="next", payload=orjson.Fragment(encoded))


def _encoded(result: ExecutionResult) -> bytes:
    body: dict[str, Any] = {"data": result.data}
    if result.errors:
        body["errors"] = [error.formatted for error in result.errors]
    return dumps(body)
