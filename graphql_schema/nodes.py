"""Objects with an id of their own, and the two fields that find any of them by it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar, cast
from uuid import UUID

import strawberry

from app.errors import Denied, ErrorCode, refuse
from app.ids import from_global_id
from graphql_schema.access import ANY_CREDENTIAL, BY_TYPE, interface_type, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.guard import readable

Info = strawberry.Info[Context, None]

MAX_IDS = 100
NOBODY = UUID(int=0)
"""An id that nothing has: what an id of another kind stands for."""


@interface_type(description="An object with an id of its own.", access=BY_TYPE)
class Node:
    id: strawberry.ID = strawberry.field(description="Opaque, and the same for good.")


Found = TypeVar("Found", bound=Node)
Find = Callable[[Context, UUID | str], Awaitable[Found | None]]
_FINDERS: dict[str, Find[Any]] = {}


def finds(type_name: str) -> Callable[[Find[Found]], Find[Found]]:
    """Declare the function that finds an object of a type, within the caller's program, by its key."""

    def declare(find: Find[Found]) -> Find[Found]:
        assert type_name not in _FINDERS
        _FINDERS[type_name] = find
        return find

    return declare


Later = TypeVar("Later")


def later(answer: Awaitable[Later]) -> Later:
    """Return what will be there later, as if it were there: GraphQL waits for what a resolver returns.

    For fields of the objects of a list: a resolver that waits by itself takes several coroutines more.
    """
    return cast(Later, answer)


def program_of(info: Info) -> UUID:
    """Return the program that the caller's credential belongs to.

    Raises:
        Denied: it is the platform's, which belongs to none.
    """
    program_id = info.context.principal.program_id
    if program_id is None:
        raise Denied("The platform's key belongs to no program; use a key of the program.")
    return program_id


def key_of(global_id: str, type_name: str) -> UUID:
    """Return the key in a global id of a type; NOBODY for anything else, so that nothing is found."""
    found = from_global_id(global_id)
    return found[1] if found is not None and found[0] == type_name and isinstance(found[1], UUID) else NOBODY


async def _find(info: Info, global_id: str) -> Node | None:
    found = from_global_id(global_id)
    if found is None or found[0] not in _FINDERS or not readable(info, found[0]):
        return None
    node: Node | None = await _FINDERS[found[0]](info.context, found[1])
    return node


@object_type(description="")
class NodeQueries:
    @resolver(
        description="Any object by its id; null when there is none that the credential may read.",
        access=ANY_CREDENTIAL,
    )
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="What `id` of an object says.")],
    ) -> Node | None:
        return await _find(info, id)

    @resolver(
        description="Up to 100 objects by their ids, in that order; null for each that there is none of.",
        access=ANY_CREDENTIAL,
    )
    async def nodes(
        self,
        info: Info,
        ids: Annotated[
            list[strawberry.ID], strawberry.argument(description="What `id` of the objects says.")
        ],
    ) -> list[Node | None]:
        if len(ids) > MAX_IDS:
            raise refuse(ErrorCode.INVALID, f"At most {MAX_IDS} ids can be asked for at once.", "ids")
        # At once, so that the loaders see them all.
        return await asyncio.gather(*(_find(info, each) for each in ids))
