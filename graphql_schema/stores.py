"""Stores, and the codes that are shown in them."""

from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.ids import to_global_id
from app.stores import reads, stores
from graphql_schema.access import object_type, resolver
from graphql_schema.context import Context
from graphql_schema.inputs import planned
from graphql_schema.nodes import Info, Node, finds, key_of, program_of
from graphql_schema.pagination import AFTER, BEFORE, FIRST, LAST, Connection, connection, page_of

READ = (Scope.PROGRAM_READ, Scope.RULES_READ, Scope.RULES_WRITE, Scope.EVENTS_WRITE)


@object_type(description="A place where members buy and check in.", scope=READ, member=True)
class Store(Node):
    external_id: str = strawberry.field(
        description="The store's id in your own systems; unique within the program."
    )
    name: str = strawberry.field(description="For people.")
    timezone: str = strawberry.field(description="Days of check-in limits are counted in it.")
    latitude: float | None = strawberry.field(description="Where it is: degrees north of the equator.")
    longitude: float | None = strawberry.field(description="Where it is: degrees east of Greenwich.")
    radius_meters: int | None = strawberry.field(
        description="A check-in from farther away is turned away; null asks for no position."
    )

    @classmethod
    def of(cls, store: stores.Store) -> "Store":
        """Return a store as the API gives it."""
        return cls(
            id=strawberry.ID(to_global_id("Store", store.id)),
            external_id=store.external_id,
            name=store.name,
            timezone=store.timezone,
            latitude=store.latitude,
            longitude=store.longitude,
            radius_meters=store.radius_meters,
        )


async def load_stores(context: Context, keys: list[UUID]) -> list[Store | None]:
    """Load stores of the caller's program."""
    assert context.principal.program_id
    found = await reads.get_stores(context.principal.program_id, keys)
    return [None if store is None else Store.of(store) for store in found]


@finds("Store")
async def _find_store(context: Context, key: UUID | str) -> Store | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    return await context.loader(load_stores).load(key)


@planned
@strawberry.input(one_of=True, description="Names a store in one way.")
class StoreRef:
    id: strawberry.ID | None = strawberry.field(description="The store's id here.", default=strawberry.UNSET)
    external_id: str | None = strawberry.field(
        description="The store's id in your own systems.", default=strawberry.UNSET
    )

    def value(self) -> reads.StoreRef:
        """Return the reference for services; an id that is none of a store names none."""
        if self.external_id is not strawberry.UNSET:
            return reads.StoreRef(external_id=self.external_id)
        return reads.StoreRef(id=key_of(self.id or "", "Store"))


@object_type(description="")
class StoreQueries:
    @resolver(description="A store; null when there is none.", scope=READ, member=True)
    async def store(
        self, info: Info, by: Annotated[StoreRef, strawberry.argument(description="Which store.")]
    ) -> Store | None:
        found = await reads.get_store(program_of(info), by.value())
        return None if found is None else Store.of(found)

    @resolver(description="The program's stores, oldest first.", scope=READ, member=True)
    async def stores(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
    ) -> Connection[Store]:
        page = page_of("stores", (UUID,), first=first, after=after, last=last, before=before)
        result = await reads.list_stores(program_of(info), page)
        return connection("stores", result, Store.of, lambda store: (store.id,))
