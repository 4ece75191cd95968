"""API keys and member tokens."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from app.access import keys, models, tokens
from app.access.scopes import Scope
from app.errors import Refused
from app.ids import to_global_id
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.errors import UserError, user_errors
from graphql_schema.inputs import MemberRef
from graphql_schema.nodes import Info, Node, finds, key_of, program_of
from graphql_schema.pagination import AFTER, BEFORE, FIRST, LAST, Connection, connection, page_of


@object_type(
    description="A key with which your own systems call. Its secret is kept nowhere.", scope=Scope.KEYS_ADMIN
)
class ApiKey(Node):
    name: str = strawberry.field(description="What it is for.")
    scopes: list[str] = strawberry.field(description="What it may do.")
    prefix: str = strawberry.field(description="The first characters of the secret, to tell keys apart.")
    created_at: datetime = strawberry.field(description="When it was made.")
    last_used_at: datetime | None = strawberry.field(description="When it was last used, to the minute.")
    revoked_at: datetime | None = strawberry.field(description="When it was ended; null while it works.")

    @classmethod
    def of(cls, row: models.ApiKey) -> "ApiKey":
        """Return a key as the API gives it."""
        return cls(
            id=strawberry.ID(to_global_id("ApiKey", row.id)),
            name=row.name,
            scopes=list(row.scopes),
            prefix=row.prefix,
            created_at=row.created_at,
            last_used_at=row.last_used_at,
            revoked_at=row.revoked_at,
        )


async def load_api_keys(context: Context, ids: list[UUID]) -> list[ApiKey | None]:
    """Load keys of the caller's program."""
    assert context.principal.program_id
    rows = await keys.get_api_keys(context.principal.program_id, ids)
    return [None if row is None else ApiKey.of(row) for row in rows]


@finds("ApiKey")
async def _find(context: Context, key: UUID | str) -> ApiKey | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    return await context.loader(load_api_keys).load(key)


@strawberry.input(description="A key to be made.")
class CreateApiKeyInput:
    name: str = strawberry.field(description="What it is for; 1 to 100 characters.")
    scopes: list[str] = strawberry.field(description="What it may do; at most what your own key may do.")


@strawberry.input(description="A token to be made.")
class CreateMemberTokenInput:
    member: MemberRef = strawberry.field(description="Whom it is for.")
    expires_in_seconds: int | None = strawberry.field(description="60 to 86,400.", default=3600)


@object_type(description="The key that was made.", access=INHERITED)
class CreateApiKeyPayload:
    api_key: ApiKey | None = strawberry.field(description="Null when nothing was done.", default=None)
    secret: str | None = strawberry.field(
        description="What to send as `Authorization: Bearer`. It is shown this once.", default=None
    )
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="The key that was ended.", access=INHERITED)
class RevokeApiKeyPayload:
    api_key: ApiKey | None = strawberry.field(description="Null when nothing was done.", default=None)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="The token that was made.", access=INHERITED)
class CreateMemberTokenPayload:
    token: str | None = strawberry.field(
        description="What the member's app sends as `Authorization: Bearer`.", default=None
    )
    expires_at: datetime | None = strawberry.field(description="Until when it holds.", default=None)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="")
class CredentialQueries:
    @resolver(description="The program's keys, oldest first, ended ones among them.", scope=Scope.KEYS_ADMIN)
    async def api_keys(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
    ) -> Connection[ApiKey]:
        page = page_of("apiKeys", (UUID,), first=first, after=after, last=last, before=before)
        result = await keys.list_api_keys(program_of(info), page)
        return connection("apiKeys", result, ApiKey.of, lambda row: (row.id,))


@object_type(description="")
class CredentialMutations:
    @resolver(
        description="Makes an API key. The secret is shown once, in this answer.", scope=Scope.KEYS_ADMIN
    )
    async def create_api_key(
        self, info: Info, input: Annotated[CreateApiKeyInput, strawberry.argument(description="The key.")]
    ) -> CreateApiKeyPayload:
        try:
            row, secret = await keys.create_api_key(
                program_of(info), input.name, input.scopes, granted=info.context.principal.scopes
            )
        except Refused as refused:
            return CreateApiKeyPayload(user_errors=user_errors(refused.errors))
        return CreateApiKeyPayload(api_key=ApiKey.of(row), secret=secret, user_errors=[])

    @resolver(
        description="Ends a key for good: within two seconds it opens nothing any more.",
        scope=Scope.KEYS_ADMIN,
    )
    async def revoke_api_key(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The key's id.")]
    ) -> RevokeApiKeyPayload:
        try:
            row = await keys.revoke_api_key(program_of(info), key_of(id, "ApiKey"))
        except Refused as refused:
            return RevokeApiKeyPayload(user_errors=user_errors(refused.errors))
        return RevokeApiKeyPayload(api_key=ApiKey.of(row), user_errors=[])

    @resolver(
        description="Makes a short-lived token with which a member's own app signs in.",
        scope=Scope.MEMBERS_WRITE,
    )
    async def create_member_token(
        self,
        info: Info,
        input: Annotated[CreateMemberTokenInput, strawberry.argument(description="Whose token.")],
    ) -> CreateMemberTokenPayload:
        seconds = 3600 if input.expires_in_seconds is None else input.expires_in_seconds
        try:
            token = await tokens.create_member_token(
                info.context.services.tokens, program_of(info), input.member.value(), seconds
            )
        except Refused as refused:
            return CreateMemberTokenPayload(user_errors=user_errors(refused.errors))
        return CreateMemberTokenPayload(token=token.token, expires_at=token.expires_at, user_errors=[])
