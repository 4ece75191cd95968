"""Sending one message to one receiver, who may do anything at all with the connection.

By httpcore, which follows nothing, decodes nothing and reads no more than it is asked for. Between it and
the network stands a backend that looks the name up, vets what comes out, and connects to just that.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Self, cast

import httpcore
import httpx
import structlog

from app.metrics import ERRORS
from app.webhooks.addresses import is_public, literal_address
from app.webhooks.resolving import Resolve, Resolver

log = structlog.get_logger("laurel.webhooks")

USER_AGENT = "Laurel-Webhooks/1"

_CONNECTIONS = 200
# Below the 5 seconds after which many servers close what is idle: a request that meets the end is lost.
_KEPT_SECONDS = 4.0
_MAX_ADDRESSES = 4
_PEEK_BYTES = 4096
_PEEK_SECONDS = 1.0
_LONGEST_TEXT = 300

_NETWORK_ERRORS = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    ssl.SSLError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a receiver may take: to be connected with, and in all until its status is there."""

    connect_seconds: float = 5.0
    total_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: `error` is None for any status from 200 to 299."""

    error: str | None = None
    gone: bool = False
    """The receiver says that it is there no more: 410."""


class PrivateAddress(Exception):
    """The name leads to an address that must not be asked."""


class _Vetting(httpcore.AsyncNetworkBackend):
    """Connects to addresses that it has looked up and vetted itself, so that no second lookup can differ."""

    def __init__(self, resolve: Resolve, allow_private: bool) -> None:
        self._resolve = resolve
        self._allow_private = allow_private
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        assert timeout is not None
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        addresses = await self._vetted(host, port, timeout)
        for position, address in enumerate(addresses):
            left = max(0.01, until - loop.time()) / (len(addresses) - position)
            try:
                return await self._network.connect_tcp(address, port, timeout=left)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if position == len(addresses) - 1:
                    raise
        raise AssertionError("unreachable")

    async def _vetted(self, host: str, port: int, timeout: float) -> Sequence[str]:
        literal = literal_address(host)
        if literal is not None:
            addresses = [literal]
        else:
            try:
                async with asyncio.timeout(timeout):
                    addresses = await self._resolve(host, port)
            except TimeoutError:
                raise httpcore.ConnectTimeout("The name was not found in time.") from None
            except OSError as error:
                raise httpcore.ConnectError(f"The name {host} is not known: {error}") from error
        if not addresses:
            raise httpcore.ConnectError(f"The name {host} has no address.")
        # All of them: a name with one private address among others is somebody's attempt.
        if not self._allow_private and not all(map(is_public, addresses)):
            raise PrivateAddress(f"{host} leads to a private address, which is not asked.")
        return addresses[:_MAX_ADDRESSES]

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Sender:
    """The connections of one process. Use it as an async context manager."""

    def __init__(
        self,
        *,
        allow_private: bool,
        limits: Limits | None = None,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Make it ready; it connects when something is sent.

        Args:
            allow_private: whether receivers may have private addresses.
            tls: whom to trust; the usual authorities, or those that SSL_CERT_FILE names, when left out.
        """
        self._limits = limits or Limits()
        self._slots = asyncio.Semaphore(_CONNECTIONS)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or httpx.create_ssl_context(),
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_CONNECTIONS,
            keepalive_expiry=_KEPT_SECONDS,
            network_backend=_Vetting(resolve or Resolver(), allow_private),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._pool.aclose()

    async def send(self, url: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Outcome:
        """Send a message once, and tell what came of it; what a receiver does raises nothing.

        Waits for one of 200 connections, and from then on within the limits.
        """
        async with self._slots:
            try:
                async with asyncio.timeout(self._limits.total_seconds) as limit:
                    return await self._post(httpx.URL(url), headers, body, limit)
            except (TimeoutError, httpcore.TimeoutException) as error:
                return Outcome(f"No answer in time ({_said(error)}).")
            except PrivateAddress as error:
                return Outcome(str(error))
            except _NETWORK_ERRORS as error:
                return Outcome(_said(error))
            except Exception as error:
                # Whatever a receiver finds to do: it must not keep the other messages from going out.
                ERRORS.labels("webhooks").inc()
                log.exception("webhook_attempt_broke", host=httpx.URL(url).host)
                return Outcome(_said(error))

    async def _post(
        self, url: httpx.URL, headers: Sequence[tuple[bytes, bytes]], body: bytes, limit: asyncio.Timeout
    ) -> Outcome:
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        every = [
            (b"host", url.netloc),
            (b"content-type", b"application/json"),
            (b"user-agent", USER_AGENT.encode()),
            (b"accept-encoding", b"identity"),
            *headers,
        ]
        seconds = self._limits.total_seconds
        waits = {
            "connect": self._limits.connect_seconds,
            "read": seconds,
            "write": seconds,
            "pool": seconds,
        }
        async with self._pool.stream(
            "POST", target, headers=every, content=body, extensions={"timeout": waits}
        ) as response:
            # The status is what counts, and it is there; what follows has a limit of its own.
            limit.reschedule(None)
            content = await _peek(response)
            if 200 <= response.status < 300:
                return Outcome()
            return Outcome(_answered(response, content), gone=response.status == 410)


async def _peek(response: httpcore.Response) -> bytes:
    """Return the start of what a receiver says; a short answer whole, so that its connection can be kept."""
    kept = bytearray()
    try:
        stream = cast("AsyncGenerator[bytes]", response.aiter_stream())
        async with asyncio.timeout(_PEEK_SECONDS), aclosing(stream) as chunks:
            async for chunk in chunks:
                kept += chunk[:_PEEK_BYTES]
                if len(kept) >= _PEEK_BYTES:
                    break
    except (TimeoutError, *_NETWORK_ERRORS):
        pass
    return bytes(kept)


def _answered(response: httpcore.Response, content: bytes) -> str:
    said = f"The receiver answered {response.status}"
    if 300 <= response.status < 400:
        return f"{said}; redirects are not followed."
    packed = any(name.lower() == b"content-encoding" for name, _ in response.headers)
    text = "" if packed else _line(content.decode(errors="replace"))
    return f"{said}: {text}" if text else f"{said}."


def _said(error: Exception) -> str:
    name, text = type(error).__name__, _line(str(error))
    return f"{name}: {text}" if text else name


def _line(text: str) -> str:
    """Return a text that can be stored and logged in one line."""
    shown = "".join(each if each.isprintable() else " " for each in text[: 2 * _LONGEST_TEXT])
    return " ".join(shown.split())[:_LONGEST_TEXT]
