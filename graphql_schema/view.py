"""GraphQL over HTTP: what comes in as bytes, what goes out as bytes, and under which status."""

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from strawberry.asgi import GraphQL
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType

from app.access.principal import Principal
from app.access.tokens import InvalidCredential
from app.errors import Denied
from app.settings import Settings
from graphql_schema.build import LaurelSchema
from graphql_schema.context import Context, make_context
from graphql_schema.errors import INTERNAL, TIMEOUT, UNAVAILABLE, unexpected
from graphql_schema.guard import FORBIDDEN, UNAUTHENTICATED
from graphql_schema.running import (
    MalformedRequest,
    Observe,
    Runner,
    checked,
    dumps,
    outcome_of,
    told_to_the_log,
)

GRAPHQL_JSON = "application/graphql-response+json"
PLAIN_JSON = "application/json"

BAD_REQUEST = "BAD_REQUEST"

# The draft of the specification now says 422 for most of these; the audits, and so clients, say 400.
_REQUEST_ERROR = 400
_STATUSES = {UNAUTHENTICATED: 401, FORBIDDEN: 403, INTERNAL: 500, UNAVAILABLE: 503, TIMEOUT: 504}

_QUERIES = frozenset({OperationType.QUERY})
_QUERIES_AND_MUTATIONS = frozenset({OperationType.QUERY, OperationType.MUTATION})

Headers = list[tuple[bytes, bytes]]


class _RefusedError(Exception):
    """A request that is not run; `status` is meant for every media type."""

    def __init__(self, status: int, message: str, code: str = BAD_REQUEST, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"errors": [{"message": message, "extensions": {"code": code}}]}
        self.headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]


@lru_cache(maxsize=256)
def negotiate(accept: str) -> str | None:
    """Return the media type to answer in; None when the client takes neither of the two."""
    best, best_quality = None, 0.0
    for part in accept.split(",") if accept.strip() else ["*/*"]:
        media, *params = (piece.strip().lower() for piece in part.split(";"))
        if any(param.startswith("charset=") and param[8:].strip('"') != "utf-8" for param in params):
            continue
        try:
            quality = next((float(param[2:]) for param in params if param.startswith("q=")), 1.0)
        except ValueError:
            continue
        offered = GRAPHQL_JSON if media == GRAPHQL_JSON else PLAIN_JSON
        if media in (GRAPHQL_JSON, PLAIN_JSON, "application/*", "*/*") and quality > best_quality:
            best, best_quality = offered, quality
    return best


@lru_cache(maxsize=256)
def _is_json(content_type: str) -> bool:
    media, *params = (piece.strip().lower() for piece in content_type.split(";"))
    charsets = [param[8:].strip('"') for param in params if param.startswith("charset=")]
    return media == PLAIN_JSON and all(charset in ("utf-8", "utf8") for charset in charsets)


def _headers(scope: Scope) -> Mapping[bytes, bytes]:
    """Return the headers by name; of repeated ones the values joined by commas."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        found[name] = found[name] + b", " + value if name in found else value
    return found


async def _body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Return the request's body, and read no more of it than the limit."""
    length = headers.get(b"content-length", b"0")
    too_large = _RefusedError(
        413, f"A request may have {limit:,} bytes.", "PAYLOAD_TOO_LARGE", connection="close"
    )
    if length.isdigit() and int(length[:20]) > limit:
        raise too_large
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > limit:
            raise too_large
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _loads(text: str | bytes, what: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise _RefusedError(_REQUEST_ERROR, f"The {what} is not JSON.") from None


def _from_query_string(query_string: bytes) -> dict[str, Any]:
    try:
        params: dict[str, Any] = dict(
            parse_qsl(query_string.decode("ascii"), errors="strict", max_num_fields=20)
        )
    except ValueError:
        raise _RefusedError(_REQUEST_ERROR, "The URL has a query string that cannot be read.") from None
    for name in ("variables", "extensions"):
        if name in params:
            params[name] = _loads(params[name], name) if params[name] else None
    return params


def _checked(payload: Any) -> dict[str, Any]:
    try:
        return checked(payload)
    except MalformedRequest as malformed:
        raise _RefusedError(_REQUEST_ERROR, str(malformed)) from None


class GraphQLView(GraphQL[Context, None]):
    """The endpoint: POST with JSON, or GET for queries; a browser that opens it gets the IDE.

    Args:
        schema: what `build_schema` returned.
        authenticate: tells who sends a request. It may raise InvalidCredential
            (401), Unavailable (503), or Starlette's HTTPException for anything else.
        context: makes what the resolvers share, of the request and its principal.
        settings: bounds the body and the time.
        ide: answers browsers' page loads; without it they get JSON like everyone.
        observe: is told of each operation: its name, how it ended, and the seconds that it took.
    """

    def __init__(
        self,
        schema: LaurelSchema,
        *,
        authenticate: Callable[[Request], Awaitable[Principal]],
        context: Callable[[Request, Principal], Context] = make_context,
        settings: Settings | None = None,
        ide: Callable[[], Response] | None = None,
        observe: Observe = lambda operation, outcome, seconds: None,
    ) -> None:
        super().__init__(schema, graphql_ide=None)
        self._runner = Runner(schema, settings, observe)
        self._authenticate = authenticate
        self._make_context = context
        self._ide = ide
        self._max_body_bytes = settings.max_body_bytes if settings else 2 * 1024 * 1024

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert scope["type"] == "http", "graphql_schema/sockets.py takes the others"
        headers = _headers(scope)
        accept = headers.get(b"accept", b"").decode("latin-1")
        if self._ide and scope["method"] == "GET" and "text/html" in accept and not scope["query_string"]:
            await self._ide()(scope, receive, send)
            return
        media = negotiate(accept)
        try:
            if media is None:
                raise _RefusedError(406, f"Answers are {GRAPHQL_JSON} or {PLAIN_JSON}.", "NOT_ACCEPTABLE")
            status, body, extra = await self._respond(scope, headers, receive, media)
        except _RefusedError as refusal:
            status, body, extra = refusal.status, orjson.dumps(refusal.body), refusal.headers
        except ClientDisconnect:
            return
        start: Headers = [
            (b"content-type", f"{media or PLAIN_JSON}; charset=utf-8".encode()),
            (b"content-length", str(len(body)).encode()),
            *extra,
        ]
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": body})

    async def _respond(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, media: str
    ) -> tuple[int, bytes, Headers]:
        method = scope["method"]
        if method not in ("GET", "POST"):
            raise _RefusedError(405, "Use POST, or GET for queries.", "METHOD_NOT_ALLOWED", allow="GET, POST")
        request = Request(scope, receive)
        principal = await self._principal(request)
        if method == "GET":
            payload = _checked(_from_query_string(scope["query_string"]))
        else:
            if not _is_json(headers.get(b"content-type", b"").decode("latin-1")):
                raise _RefusedError(415, f"Send {PLAIN_JSON} in UTF-8.", "UNSUPPORTED_MEDIA_TYPE")
            payload = _checked(_loads(await _body(headers, receive, self._max_body_bytes), "body"))
        context = self._make_context(request, principal)
        allowed = _QUERIES if method == "GET" else _QUERIES_AND_MUTATIONS
        result = await self._run(payload, context, allowed)
        told = told_to_the_log(
            principal, self._runner.operation_name(payload), outcome_of(result.errors), result.data
        )
        structlog.contextvars.bind_contextvars(**told)
        return self._encoded(result, media)

    async def _principal(self, request: Request) -> Principal:
        try:
            return await self._authenticate(request)
        except (Denied, InvalidCredential) as denied:
            raise _RefusedError(401, str(denied), UNAUTHENTICATED, www_authenticate="Bearer") from None
        except HTTPException as error:
            code = "RATE_LIMITED" if error.status_code == 429 else BAD_REQUEST
            refusal = _RefusedError(error.status_code, error.detail, code)
            refusal.headers.extend((k.lower().encode(), v.encode()) for k, v in (error.headers or {}).items())
            raise refusal from None
        except Exception as error:
            shown = unexpected(error)
            assert shown.extensions
            code = str(shown.extensions["code"])
            refusal = _RefusedError(_STATUSES.get(code, 500), shown.message, code)
            refusal.body = {"errors": [shown.formatted]}
            raise refusal from None

    async def _run(
        self, payload: Mapping[str, Any], context: Context, allowed: frozenset[OperationType]
    ) -> ExecutionResult:
        try:
            return await self._runner.run(payload, context, allowed)
        except CannotGetOperationTypeError as error:
            reason = error.as_http_error_reason().rstrip(".")
            raise _RefusedError(_REQUEST_ERROR, f"{reason}.") from None
        except InvalidOperationTypeError as error:
            if allowed is _QUERIES and error.operation_type is OperationType.MUTATION:
                raise _RefusedError(
                    405, "Send mutations with POST.", "METHOD_NOT_ALLOWED", allow="POST"
                ) from None
            raise _RefusedError(
                _REQUEST_ERROR, "Subscriptions are answered over a WebSocket: graphql-transport-ws."
            ) from None

    def _encoded(self, result: ExecutionResult, media: str) -> tuple[int, bytes, Headers]:
        errors = result.errors
        if not errors:
            return 200, dumps({"data": result.data}), []
        body: dict[str, Any] = {"errors": [error.formatted for error in errors]}
        # Without data nothing ran; null data means that an error went all the way up.
        if result.data is not None or any(error.path for error in errors):
            return 200, dumps({"data": result.data, **body}), []
        code = str((errors[0].extensions or {}).get("code"))
        status = _STATUSES.get(code, _REQUEST_ERROR)
        if code == UNAUTHENTICATED:
            return status, orjson.dumps(body), [(b"www-authenticate", b"Bearer")]
        return (status if media == GRAPHQL_JSON else 200), orjson.dumps(body), []
