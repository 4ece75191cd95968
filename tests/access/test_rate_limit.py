import asyncio
import socket
import time
from contextlib import suppress
from uuid import uuid4

import pytest
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from app.access import rate_limit
from app.access.authenticate import Authenticator, InvalidCredential
from app.access.gate import request_gate
from app.access.principal import Principal, PrincipalKind
from app.access.rate_limit import RateLimiter
from app.access.tokens import MemberTokens
from app.settings import Settings


def limited(
    settings: Settings, *, key: str = "5/minute", member: str = "2/minute", **update: str
) -> Settings:
    return settings.model_copy(update={"key_rate_limit": key, "member_rate_limit": member, **update})


def key() -> Principal:
    return Principal(PrincipalKind.API_KEY, f"key:{uuid4()}")


async def test_the_request_after_the_last_one_is_told_when_to_come_back(settings: Settings) -> None:
    caller, other = key(), key()
    async with RateLimiter(limited(settings)) as limiter:
        assert [await limiter.check(caller) for _ in range(5)] == [None] * 5
        for _ in range(3):
            wait = await limiter.check(caller)
            assert isinstance(wait, int)
            assert 1 <= wait <= 60
        assert await limiter.check(other) is None


async def test_processes_count_together(settings: Settings) -> None:
    caller = key()
    async with RateLimiter(limited(settings)) as one, RateLimiter(limited(settings)) as two:
        passed = [await limiter.check(caller) is None for _ in range(4) for limiter in (one, two)]
    assert passed.count(True) == 5


async def test_members_have_a_limit_of_their_own(settings: Settings) -> None:
    member = Principal(PrincipalKind.MEMBER, f"member:{uuid4()}")
    async with RateLimiter(limited(settings)) as limiter:
        assert [await limiter.check(member) is None for _ in range(3)] == [True, True, False]


async def test_room_comes_back(settings: Settings) -> None:
    caller = key()
    async with RateLimiter(limited(settings, key="3/second")) as limiter:
        while await limiter.check(caller) is None:
            pass
        await asyncio.sleep(2.1)
        assert await limiter.check(caller) is None


async def test_a_flood_is_turned_away_without_asking_redis(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = key()
    async with RateLimiter(limited(settings)) as limiter:
        await limiter.check(caller)
        await asyncio.sleep(0.01)
        while await limiter.check(caller) is None:
            pass

        async def asked(*_: object) -> None:
            raise AssertionError

        monkeypatch.setattr(limiter, "_count", asked)
        assert all([await limiter.check(caller) for _ in range(100)])


async def test_without_redis_everybody_passes_and_soon_nobody_waits(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(rate_limit.log, "warning", lambda event, **_: warnings.append(event))
    async with RateLimiter(limited(settings, redis_url="redis://127.0.0.1:1/0")) as limiter:
        assert [await limiter.check(key()) for _ in range(10)] == [None] * 10
        started = time.perf_counter()
        for _ in range(1000):
            await limiter.check(key())
        assert time.perf_counter() - started < 0.1
    assert warnings == ["access.rate_limits_off"]


async def test_a_redis_that_does_not_answer_delays_few_requests(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        async with RateLimiter(limited(settings, redis_url=url)) as limiter:
            started = time.perf_counter()
            assert [await limiter.check(key()) for _ in range(20)] == [None] * 20
            assert time.perf_counter() - started < 0.6


async def test_limits_hold_again_once_redis_is_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = key()
    async with RateLimiter(limited(settings)) as limiter:
        count = limiter._count

        async def away(*_: object) -> float | None:
            raise RedisError

        monkeypatch.setattr(limiter, "_count", away)
        for _ in range(20):
            assert await limiter.check(caller) is None
        monkeypatch.setattr(limiter, "_count", count)
        limiter._retry_at = 0.0
        assert [await limiter.check(caller) is None for _ in range(6)] == [True] * 5 + [False]


async def test_the_gate_answers_429_and_counts_wrong_credentials_by_address(settings: Settings) -> None:
    address = f"2001:db8:{uuid4().hex[:4]}:{uuid4().hex[:4]}::1"

    def request(authorization: str | None) -> Request:
        headers = [(b"authorization", authorization.encode())] if authorization else []
        return Request({"type": "http", "headers": headers, "client": (address, 1)})

    async with (
        Authenticator("admin", MemberTokens("secret")) as authenticator,
        RateLimiter(limited(settings)) as limiter,
    ):
        admit = request_gate(authenticator, limiter)
        assert (await admit(request(None))).kind is PrincipalKind.ANONYMOUS
        for _ in range(4):
            with pytest.raises(InvalidCredential):
                await admit(request("Bearer wrong"))
        with pytest.raises(HTTPException) as refused:
            await admit(request("Bearer wrong"))
        with suppress(HTTPException):
            assert (await admit(request("Bearer admin"))).kind is PrincipalKind.PLATFORM
    assert refused.value.status_code == 429
    assert refused.value.headers is not None
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 60


def test_a_limit_that_cannot_be_read_is_told_at_the_start(settings: Settings) -> None:
    with pytest.raises(ValueError, match="many"):
        RateLimiter(limited(settings, key="many per minute"))
