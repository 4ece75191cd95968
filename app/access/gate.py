"""The way in for a request: who sends it, and whether they have sent too many."""

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request

from app.access.authenticate import Authenticator, InvalidCredential, anonymous
from app.access.principal import Principal
from app.access.rate_limit import RateLimiter
from app.metrics import RATE_LIMITED


def request_gate(
    authenticator: Authenticator, limiter: RateLimiter
) -> Callable[[Request], Awaitable[Principal]]:
    """Return what tells the caller of a request.

    It raises InvalidCredential (401), Unavailable (503), and HTTPException for 429 with Retry-After.
    Credentials that open nothing count against the address that sent them.
    """

    async def admit(request: Request) -> Principal:
        address = request.client.host if request.client else ""
        try:
            principal = await authenticator.authenticate(request.headers.get("authorization"), address)
        except InvalidCredential:
            await count(anonymous(address))
            raise
        await count(principal)
        return principal

    async def count(principal: Principal) -> None:
        wait_seconds = await limiter.check(principal)
        if wait_seconds is not None:
            RATE_LIMITED.inc()
            message = f"Too many requests; try again in {wait_seconds} s."
            raise HTTPException(429, message, {"Retry-After": str(wait_seconds)})

    return admit
