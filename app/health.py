"""For those who watch: is it alive, is it ready, and what does it count."""

from typing import Self

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app import clock
from app.database import TRANSIENT, connection
from app.errors import Unavailable
from app.jobs import health
from app.metrics import CONTENT_TYPE, Measured, exposition
from app.migrate import pending
from app.settings import Settings

log = structlog.get_logger("laurel.health")

_AWAY = (*TRANSIENT, Unavailable, RedisError, OSError)


class Health:
    """The three probes of one process. Use it as an async context manager."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url
        self._settings = settings
        self._redis = Redis.from_url(settings.redis_url, socket_timeout=1, socket_connect_timeout=1)
        self._migrated = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._redis.aclose()

    def routes(self) -> list[Route]:
        """Return the routes `/healthz`, `/readyz` and `/metrics`."""
        return [
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
        ]

    async def _healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readyz(self, request: Request) -> Response:
        checks = {
            "database": await self._database(),
            "redis": await self._ping(),
            "migrations": await self._migrations(),
        }
        ready = all(state == "ok" for state in checks.values())
        return JSONResponse({"status": "ok" if ready else "unavailable", **checks}, 200 if ready else 503)

    async def _database(self) -> str:
        try:
            async with connection() as sql:
                await sql.execute("SELECT 1", timeout=2)
        except _AWAY:
            return "away"
        return "ok"

    async def _ping(self) -> str:
        try:
            await self._redis.ping()
        except _AWAY:
            return "away"
        return "ok"

    async def _migrations(self) -> str:
        # Once they are all there they stay, for this version of Laurel.
        if not self._migrated:
            try:
                self._migrated = not await pending(self._settings)
            except _AWAY:
                return "unknown"
        return "ok" if self._migrated else "pending"

    async def _metrics(self, request: Request) -> Response:
        try:
            measured: Measured | None = await _measure()
        except _AWAY:
            measured = None
        return Response(exposition(measured), headers={"content-type": CONTENT_TYPE})


async def _measure() -> Measured:
    now = clock.now()
    waiting = {
        each.queue: (max(0.0, (now - each.oldest).total_seconds()), each.items)
        for each in await health.waiting()
    }
    return Measured(waiting, *await health.workers_and_failures())
