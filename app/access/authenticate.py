"""From an `Authorization` header to a checked caller; the same few microseconds on every request."""

import hashlib
import hmac
import time
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Self
from uuid import UUID

from app import clock
from app.access.cache import MAX_AGE_SECONDS, Checked, CredentialCache, key_credential, member_credential
from app.access.keys import looks_like_key
from app.access.last_use import LastUse
from app.access.principal import Principal, PrincipalKind
from app.access.scopes import PROGRAM_SCOPES, Scope
from app.access.tokens import InvalidCredential, MemberClaims, MemberTokens
from app.database import connection, retrying

__all__ = ["Authenticator", "InvalidCredential", "anonymous"]

_LONGEST = 2048
_SCOPES = {scope.value: scope for scope in PROGRAM_SCOPES}
_PLATFORM = Principal(PrincipalKind.PLATFORM, "platform", frozenset({Scope.PLATFORM_ADMIN}))

_KEY = "SELECT id, program_id, scopes FROM api_key WHERE secret_hash = $1 AND revoked_at IS NULL"
_MEMBER = "SELECT 1 FROM member WHERE id = $1 AND program_id = $2 AND status <> 'CLOSED'"


@lru_cache(maxsize=10_000)
def anonymous(address: str) -> Principal:
    """Return the caller without a credential, whom limits know by address.

    IPv6 addresses count by their /64: one household has 2^64 of them.
    """
    try:
        if isinstance(ip_address(address), IPv6Address):
            address = str(ip_network((address, 64), strict=False).network_address)
    except ValueError:
        address = "unknown"
    return Principal(PrincipalKind.ANONYMOUS, f"address:{address}")


class Authenticator:
    """Checks credentials. Use it as an async context manager, which writes when keys were last used.

    Args of the constructor: the platform administrator's key, the one that makes and checks member
    tokens, and for how many seconds a checked credential holds without another look.
    """

    def __init__(
        self, admin_key: str, tokens: MemberTokens, max_age_seconds: float = MAX_AGE_SECONDS
    ) -> None:
        assert admin_key
        self._admin = hashlib.sha256(admin_key.encode()).digest()
        self._tokens = tokens
        self._cache = CredentialCache(max_age_seconds)
        self._last_use = LastUse()

    async def __aenter__(self) -> Self:
        await self._last_use.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._last_use.__aexit__(*error)

    async def authenticate(self, header: str | None, address: str) -> Principal:
        """Return the caller of a request.

        Args:
            header: the Authorization header; None where there is none, which is an anonymous caller.
            address: the client's IP address, by which anonymous callers are limited.

        Raises:
            InvalidCredential: there is a header, and it opens nothing.
            Unavailable: the database cannot be asked now.
        """
        if header is None:
            return anonymous(address)
        token = _bearer(header)
        digest = hashlib.sha256(token.encode()).digest()
        # Digests have one length, so that comparing them tells nothing about the length either.
        if hmac.compare_digest(digest, self._admin):
            return _PLATFORM
        principal = self._cache.peek(digest) or await self._look(token, digest)
        if principal.member_id is None:
            self._last_use.note(principal)
        return principal

    def ends_at(self, header: str) -> datetime | None:
        """Return when (UTC) a credential ends by itself: a member token does, an API key does not.

        Args:
            header: the Authorization header that `authenticate` has just accepted.

        Raises:
            InvalidCredential: it has ended since.
        """
        token = _bearer(header)
        return None if token.count(".") != 2 else self._tokens.verify(token).expires_at

    async def _look(self, token: str, digest: bytes) -> Principal:
        if looks_like_key(token):
            principal = await self._cache.find(digest, lambda: retrying(lambda: _look_up_key(digest)))
            if principal is None:
                raise InvalidCredential("The API key is unknown or revoked.")
            return principal
        if token.count(".") != 2:
            raise InvalidCredential("The credential is neither an API key nor a member token.")
        claims = self._tokens.verify(token)
        principal = await self._cache.find(digest, lambda: retrying(lambda: _look_up_member(claims)))
        if principal is None:
            raise InvalidCredential("The member of this token is not there any more.")
        return principal


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise InvalidCredential("The Authorization header must be: Bearer, a space, and the credential.")
    if len(token) > _LONGEST or not token.isascii():
        raise InvalidCredential("The credential is neither an API key nor a member token.")
    return token


async def _look_up_key(digest: bytes) -> Checked:
    async with connection() as sql:
        row = await sql.fetchrow(_KEY, digest)
    if row is None:
        return Checked(None)
    # A scope that this version does not know was given by a newer one, and allows nothing here.
    scopes = frozenset(_SCOPES[name] for name in row["scopes"] if name in _SCOPES)
    key_id: UUID = row["id"]
    return Checked(Principal(PrincipalKind.API_KEY, key_credential(key_id), scopes, row["program_id"]))


async def _look_up_member(claims: MemberClaims) -> Checked:
    async with connection() as sql:
        found = await sql.fetchval(_MEMBER, claims.member_id, claims.program_id)
    if not found:
        return Checked(None)
    principal = Principal(
        PrincipalKind.MEMBER,
        member_credential(claims.member_id),
        program_id=claims.program_id,
        member_id=claims.member_id,
    )
    return Checked(principal, time.monotonic() + (claims.expires_at - clock.now()).total_seconds())
