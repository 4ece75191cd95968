import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from app import clock
from app.access import authenticate as module
from app.access import last_use
from app.access.authenticate import Authenticator, InvalidCredential, anonymous
from app.access.cache import Checked, CredentialCache
from app.access.keys import add_key, create_api_key, revoke_api_key
from app.access.models import ApiKey
from app.access.principal import Principal, PrincipalKind
from app.access.scopes import Scope
from app.access.tenancy import scoped
from app.access.tokens import MemberTokens
from app.database import connection
from app.errors import Unavailable
from app.members.reads import MemberRef
from app.members.service import update_member
from tests.programs.making import make_member, make_program

ADMIN_KEY = "the key of the administrator"
TOKENS = MemberTokens("a secret of the tests")
ADDRESS = "192.0.2.7"


@pytest.fixture
async def authenticator() -> AsyncIterator[Authenticator]:
    async with Authenticator(ADMIN_KEY, TOKENS) as made:
        yield made


async def caller(authenticator: Authenticator, credential: str) -> Principal:
    return await authenticator.authenticate(f"Bearer {credential}", ADDRESS)


async def test_only_a_request_without_a_header_is_anonymous(authenticator: Authenticator) -> None:
    principal = await authenticator.authenticate(None, ADDRESS)

    assert principal.kind is PrincipalKind.ANONYMOUS
    assert principal.credential == "address:192.0.2.7"
    assert principal.scopes == frozenset()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Bearer nonsense",
        "Bearer a.b.c",
        "Bearer a.b.c.d",
        f"Bearer {ADMIN_KEY}x",
        f"Bearer laurel_aaaaaaaa_{'x' * 43}",
        f"Bearer laurel_aaaaaaaa_{'x' * 42}é",
        f"Bearer {'x' * 3000}",
        f"{ADMIN_KEY}",
    ],
)
async def test_a_header_that_opens_nothing_is_refused(authenticator: Authenticator, header: str) -> None:
    with pytest.raises(InvalidCredential) as refused:
        await authenticator.authenticate(header, ADDRESS)
    assert "xxx" not in str(refused.value)


async def test_the_administrators_key_is_the_platforms_and_no_programs(authenticator: Authenticator) -> None:
    principal = await authenticator.authenticate(f"bearer  {ADMIN_KEY}", ADDRESS)

    assert principal.kind is PrincipalKind.PLATFORM
    assert principal.scopes == {Scope.PLATFORM_ADMIN}
    assert (principal.program_id, principal.member_id) == (None, None)


async def test_a_key_opens_its_own_program_with_its_own_scopes(authenticator: Authenticator) -> None:
    program = await make_program()
    key, secret = await create_api_key(program.id, "Till", ["events:write", "members:read"])

    for _ in range(2):
        principal = await caller(authenticator, secret)
        assert principal.kind is PrincipalKind.API_KEY
        assert principal.program_id == program.id
        assert principal.scopes == {Scope.EVENTS_WRITE, Scope.MEMBERS_READ}
        assert principal.credential == f"key:{key.id}"
        assert secret not in repr(principal)


async def test_scopes_that_this_version_does_not_know_allow_nothing(authenticator: Authenticator) -> None:
    program = await make_program()
    key, secret = await create_api_key(program.id, "Till", ["events:write"])
    scopes = ["events:write", "moon:write", "platform:admin"]
    await scoped(ApiKey, program.id).filter(id=key.id).update(scopes=scopes)

    assert (await caller(authenticator, secret)).scopes == {Scope.EVENTS_WRITE}


async def test_revoking_counts_at_once_here_and_within_two_seconds_elsewhere(
    authenticator: Authenticator,
) -> None:
    program = await make_program()
    key, secret = await create_api_key(program.id, "Till", ["events:write"])
    await caller(authenticator, secret)

    await revoke_api_key(program.id, key.id)
    with pytest.raises(InvalidCredential):
        await caller(authenticator, secret)

    elsewhere, secret = await create_api_key(program.id, "Elsewhere", ["events:write"])
    await caller(authenticator, secret)
    await scoped(ApiKey, program.id).filter(id=elsewhere.id).update(revoked_at=clock.now())
    revoked = time.monotonic()
    while time.monotonic() < revoked + 2.1:
        try:
            await caller(authenticator, secret)
        except InvalidCredential:
            return
        await asyncio.sleep(0.02)
    pytest.fail("a revoked key still opens the program after two seconds")


async def test_a_member_reads_as_themselves_until_the_membership_is_closed(
    authenticator: Authenticator,
) -> None:
    program = await make_program()
    member = await make_member(program.id)
    token = TOKENS.issue(program.id, member.id, 60, clock.now()).token

    principal = await caller(authenticator, token)
    assert principal.kind is PrincipalKind.MEMBER
    assert (principal.program_id, principal.member_id) == (program.id, member.id)
    assert principal.scopes == frozenset()
    await update_member(program.id, MemberRef(id=member.id), {"status": "SUSPENDED"})
    await caller(authenticator, token)
    await update_member(program.id, MemberRef(id=member.id), {"status": "CLOSED"})
    with pytest.raises(InvalidCredential):
        await caller(authenticator, token)


async def test_a_token_names_a_member_of_its_own_program(authenticator: Authenticator) -> None:
    program, other = await make_program(), await make_program()
    member = await make_member(program.id)
    for program_id, member_id in ((other.id, member.id), (program.id, uuid4())):
        with pytest.raises(InvalidCredential):
            await caller(authenticator, TOKENS.issue(program_id, member_id, 60, clock.now()).token)


async def test_a_token_ends_on_time_though_it_is_remembered(authenticator: Authenticator) -> None:
    program = await make_program()
    member = await make_member(program.id)
    # Its last second, five of leeway included.
    token = TOKENS.issue(program.id, member.id, 60, clock.now() - timedelta(seconds=64)).token

    await caller(authenticator, token)
    await asyncio.sleep(1.2)
    with pytest.raises(InvalidCredential, match="expired"):
        await caller(authenticator, token)


async def test_the_last_use_is_kept_without_delaying_the_request() -> None:
    program = await make_program()
    key, secret = await create_api_key(program.id, "Till", ["events:write"])
    async with Authenticator(ADMIN_KEY, TOKENS) as authenticator:
        await caller(authenticator, secret)
        assert (await scoped(ApiKey, program.id).get(id=key.id)).last_used_at is None
    used = (await scoped(ApiKey, program.id).get(id=key.id)).last_used_at
    assert used is not None
    assert clock.now() - used < timedelta(seconds=30)

    async with Authenticator(ADMIN_KEY, TOKENS) as authenticator:
        await caller(authenticator, secret)
    assert (await scoped(ApiKey, program.id).get(id=key.id)).last_used_at == used, "once a minute"


async def test_a_last_use_that_cannot_be_written_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await make_program()
    _, secret = await create_api_key(program.id, "Till", ["events:write"])

    @asynccontextmanager
    async def away() -> AsyncIterator[Any]:
        raise ConnectionError
        yield

    async with Authenticator(ADMIN_KEY, TOKENS) as authenticator:
        await caller(authenticator, secret)
        monkeypatch.setattr(last_use, "connection", away)


async def test_a_key_that_is_being_changed_is_not_waited_for() -> None:
    program = await make_program()
    key, secret = await create_api_key(program.id, "Till", ["events:write"])
    async with connection() as sql, sql.transaction():
        await sql.execute("SELECT 1 FROM api_key WHERE program_id = $1 FOR UPDATE", program.id)
        async with asyncio.timeout(2), Authenticator(ADMIN_KEY, TOKENS) as authenticator:
            await caller(authenticator, secret)
    assert (await scoped(ApiKey, program.id).get(id=key.id)).last_used_at is None


async def test_without_the_database_nobody_is_turned_away_as_unknown(
    authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def away() -> AsyncIterator[Any]:
        raise asyncpg.CannotConnectNowError
        yield

    monkeypatch.setattr(module, "connection", away)
    with pytest.raises(Unavailable):
        await caller(authenticator, f"laurel_aaaaaaaa_{'x' * 43}")


async def test_many_requests_at_once_ask_the_database_once() -> None:
    cache, looks = CredentialCache(), 0
    known = Principal(PrincipalKind.API_KEY, "key:1")

    async def look() -> Checked:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0.02)
        return Checked(known)

    first = asyncio.create_task(cache.find(b"1", look))
    await asyncio.sleep(0)
    others = [asyncio.create_task(cache.find(b"1", look)) for _ in range(20)]
    await asyncio.sleep(0)
    first.cancel()

    assert await asyncio.gather(*others) == [known] * 20
    assert looks == 1


async def test_what_is_forgotten_while_it_is_looked_up_is_not_remembered() -> None:
    cache = CredentialCache()
    known = Principal(PrincipalKind.API_KEY, "key:1")

    async def look() -> Checked:
        cache.forget("key:1")
        return Checked(known)

    assert await cache.find(b"1", look) == known
    assert cache.peek(b"1") is None


async def test_guessing_pushes_no_known_caller_out() -> None:
    cache = CredentialCache()
    known = Principal(PrincipalKind.API_KEY, "key:1")

    async def found() -> Checked:
        return Checked(known)

    async def nobody() -> Checked:
        return Checked(None)

    await cache.find(b"known", found)
    for n in range(2_000):
        assert await cache.find(str(n).encode(), nobody) is None
    assert cache.peek(b"known") == known
    assert len(cache._unknown) == 1_000


def test_addresses_of_one_household_are_one_caller() -> None:
    assert anonymous("2001:db8:1:2:3::4").credential == "address:2001:db8:1:2::"
    assert anonymous("2001:db8:1:2:ffff::").credential == "address:2001:db8:1:2::"
    assert anonymous("no address").credential == "address:unknown"


async def test_keys_are_checked_by_their_whole_text(authenticator: Authenticator) -> None:
    program = await make_program()
    _, secret = await add_key(program.id, "Till", [Scope.EVENTS_WRITE])
    await caller(authenticator, secret)
    flipped = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    with pytest.raises(InvalidCredential):
        await caller(authenticator, flipped)
