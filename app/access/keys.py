"""API keys: made, shown once, listed, revoked. What is kept of a secret is its SHA-256."""

import hashlib
import re
import secrets
from collections.abc import Collection, Sequence
from uuid import UUID

from app import clock
from app.access.cache import forget, key_credential
from app.access.models import ApiKey
from app.access.scopes import PROGRAM_SCOPES, Scope
from app.access.tenancy import scoped
from app.database import connection, retrying, transaction
from app.errors import ErrorCode, refuse
from app.ids import new_id
from app.paging import Page, PageResult, page_result
from app.validation import Problems

MAX_LIVE_KEYS = 100
"""Keys of one program that can be in use at a time; revoked ones do not count."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_SECRET = re.compile(r"laurel_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", re.ASCII)


def looks_like_key(text: str) -> bool:
    """Tell whether a text has the form of an API key's secret."""
    return _SECRET.fullmatch(text) is not None


def hash_secret(secret: str) -> bytes:
    """Return what is kept of a secret. It has 256 random bits, so that one plain hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


async def create_api_key(
    program_id: UUID, name: str, scopes: Sequence[str], *, granted: Collection[Scope] = PROGRAM_SCOPES
) -> tuple[ApiKey, str]:
    """Make a key, and return it with its secret, which cannot be shown again.

    Args:
        name: for people, 1 to 100 characters.
        scopes: names of scopes, at least one; naming one twice is no mistake.
        granted: the scopes of who asks: nobody hands on what they do not have.

    Raises:
        Refused: INVALID for a name or a scope, NOT_ELIGIBLE for scopes beyond `granted`,
            LIMIT_REACHED when 100 keys are in use.
    """
    known = _check(name, scopes, granted)

    async def create() -> tuple[ApiKey, str]:
        async with transaction() as sql:
            # The lock on the program makes two callers count one after the other.
            await sql.execute("SELECT 1 FROM program WHERE id = $1 FOR NO KEY UPDATE", program_id)
            live = await scoped(ApiKey, program_id).filter(revoked_at__isnull=True).count()
            if live >= MAX_LIVE_KEYS:
                message = f"A program can have {MAX_LIVE_KEYS} keys in use; revoke one first."
                raise refuse(ErrorCode.LIMIT_REACHED, message)
            return await add_key(program_id, name, known)

    return await retrying(create)


async def add_key(program_id: UUID, name: str, scopes: Collection[Scope]) -> tuple[ApiKey, str]:
    """Write a new key in the transaction that is open, and return it with its secret."""
    prefix = "laurel_" + "".join(secrets.choice(_ALPHABET) for _ in range(8))
    secret = f"{prefix}_{secrets.token_urlsafe(32)}"
    key = await ApiKey.create(
        id=new_id(),
        program_id=program_id,
        name=name,
        scopes=[scope.value for scope in Scope if scope in scopes],
        prefix=prefix,
        secret_hash=hash_secret(secret),
        created_at=clock.now(),
    )
    return key, secret


def _check(name: str, scopes: Sequence[str], granted: Collection[Scope]) -> frozenset[Scope]:
    problems = Problems()
    problems.line(name, 100, "name")
    if not scopes:
        problems.add("Scopes must name at least one scope.", "scopes")
    known = {scope.value: scope for scope in Scope if scope in PROGRAM_SCOPES}
    for position, scope in enumerate(scopes):
        if scope not in known:
            message = f"Scopes must be among {', '.join(known)}."
            problems.add(message, "scopes", str(position))
    wanted = frozenset(known[scope] for scope in scopes if scope in known)
    if beyond := [scope.value for scope in Scope if scope in wanted and scope not in granted]:
        message = f"A key cannot hand on scopes that it does not have: {', '.join(beyond)}."
        problems.add(message, "scopes", code=ErrorCode.NOT_ELIGIBLE)
    problems.refuse_any()
    return wanted


async def revoke_api_key(program_id: UUID, key_id: UUID) -> ApiKey:
    """End a key for good, and return it; a key that has ended stays as it is.

    It opens nothing any more: at once in this process, within two seconds in any other.

    Raises:
        Refused: NOT_FOUND when the program has no such key.
    """

    async def revoke() -> ApiKey:
        async with transaction():
            keys = scoped(ApiKey, program_id).filter(id=key_id)
            await keys.filter(revoked_at__isnull=True).update(revoked_at=clock.now())
            key = await keys.first()
            if key is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such key.", "id")
            return key

    key = await retrying(revoke)
    forget(key_credential(key.id))
    return key


async def get_api_keys(program_id: UUID, key_ids: Sequence[UUID]) -> list[ApiKey | None]:
    """Return keys of a program, revoked or not, in the order of the ids given; None for those it has not."""
    rows = {row.id: row for row in await scoped(ApiKey, program_id).filter(id__in=list(key_ids))}
    return [rows.get(key_id) for key_id in key_ids]


async def program_of_key(key_id: UUID) -> UUID | None:
    """Return the program that a key belongs to. For operators: requests know their own program."""
    async with connection() as sql:
        program_id: UUID | None = await sql.fetchval("SELECT program_id FROM api_key WHERE id = $1", key_id)
        return program_id


async def list_api_keys(program_id: UUID, page: Page) -> PageResult[ApiKey]:
    """Return a page of a program's keys, oldest first, revoked ones among them."""
    keys = scoped(ApiKey, program_id)
    if page.after:
        keys = keys.filter(id__gt=page.after[0])
    if page.before:
        keys = keys.filter(id__lt=page.before[0])
    rows = await keys.order_by("-id" if page.backward else "id").limit(page.size + 1)
    return page_result(rows, page)
