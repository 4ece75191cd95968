"""Whether callers who stay connected may stay: keys are revoked and memberships closed meanwhile."""

from collections.abc import Collection
from uuid import UUID

from app.access.cache import key_credential
from app.access.principal import Principal, PrincipalKind
from app.database import connection

_VALID = "SELECT id FROM api_key WHERE id = ANY($1::uuid[]) AND revoked_at IS NULL /* scoped by: worker */"
_OPEN = "SELECT id FROM member WHERE id = ANY($1::uuid[]) AND status <> 'CLOSED' /* scoped by: worker */"


async def gone(principals: Collection[Principal]) -> set[str]:
    """Return the credentials, of keys and members, that open nothing any more; two statements for all.

    Raises:
        Unavailable: the database is away or busy.
    """
    keys = {key_of(each): each.credential for each in principals if each.kind is PrincipalKind.API_KEY}
    members = {each.member_id: each.credential for each in principals if each.member_id is not None}
    left = {**keys, **members}
    async with connection() as sql:
        for statement, ids in ((_VALID, keys), (_OPEN, members)):
            if ids:
                for row in await sql.fetch(statement, list(ids)):
                    del left[row["id"]]
    return set(left.values())


def key_of(principal: Principal) -> UUID:
    """Return the id of the API key that a caller came with."""
    key_id = UUID(principal.credential.partition(":")[2])
    assert key_credential(key_id) == principal.credential
    return key_id
