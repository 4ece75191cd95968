"""The way in: who sends a request or opens a connection, and whether they have sent too many."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request

from app.access.authenticate import Authenticator, InvalidCredential, anonymous
from app.access.principal import Principal
from app.access.rate_limit import RateLimiter
from app.metrics import RATE_LIMITED


class Gate:
    """Tells callers, and counts what they send."""

    def __init__(self, authenticator: Authenticator, limiter: RateLimiter) -> None:
        self._authenticator = authenticator
        self._limiter = limiter

    async def admit(self, header: str | None, address: str) -> Principal:
        """Return the caller of a request, which is counted.

        Credentials that open nothing count against the address that sent them.

        Args:
            header: the Authorization header; None where there is none.
            address: the client's IP address.

        Raises:
            InvalidCredential: the credential opens nothing (401).
            Unavailable: the database cannot be asked now (503).
            HTTPException: 429 with Retry-After.
        """
        try:
            principal = await self._authenticator.authenticate(header, address)
        except InvalidCredential:
            await self.count(anonymous(address))
            raise
        await self.count(principal)
        return principal

    async def count(self, principal: Principal) -> None:
        """Count one request of a caller.

        Raises:
            HTTPException: 429 with Retry-After.
        """
        wait_seconds = await self._limiter.check(principal)
        if wait_seconds is not None:
            RATE_LIMITED.inc()
            message = f"Too many requests; try again in {wait_seconds} s."
            raise HTTPException(429, message, {"Retry-After": str(wait_seconds)})

    def ends_at(self, header: str) -> datetime | None:
        """Return when (UTC) a member token that has been admitted ends; None for a key."""
        return self._authenticator.ends_at(header)


def request_gate(
    authenticator: Authenticator, limiter: RateLimiter
) -> Callable[[Request], Awaitable[Principal]]:
    """Return what tells the caller of a request, as `Gate.admit` does."""
    gate = Gate(authenticator, limiter)

    async def admit(request: Request) -> Principal:
        address = request.client.host if request.client else ""
        return await gate.admit(request.headers.get("authorization"), address)

    return admit
