"""Stores, and the codes that are shown in them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.errors import Refused
from app.ids import to_global_id
from app.stores import qr, reads, service, stores
from app.stores.inputs import StoreContent
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.errors import UserError, user_errors
from graphql_schema.inputs import changes, given, planned
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


@strawberry.input(
    description="A store. In an update, what is left out stays as it is, and null clears what can be empty."
)
class StoreInput:
    external_id: str = strawberry.field(
        description="The store's id in your own systems: 1 to 255 characters, unique within the program."
    )
    name: str = strawberry.field(description="1 to 200 characters.")
    timezone: str | None = strawberry.field(
        description="The IANA name of a zone, such as Europe/Berlin; null for the program's, which a new"
        " store has without.",
        default=strawberry.UNSET,
    )
    latitude: float | None = strawberry.field(
        description="Degrees north of the equator, -90 to 90; only together with longitude.",
        default=strawberry.UNSET,
    )
    longitude: float | None = strawberry.field(
        description="Degrees east of Greenwich, -180 to 180; only together with latitude.",
        default=strawberry.UNSET,
    )
    radius_meters: int | None = strawberry.field(
        description="How far from the store a check-in may be: 1 to 100,000, for a store with a position;"
        " null asks for no position.",
        default=strawberry.UNSET,
    )


@strawberry.input(description="What code to make.")
class CheckInCodeInput:
    store: StoreRef = strawberry.field(description="Where it will be shown.")
    valid_for_seconds: int | None = strawberry.field(
        description="5 to 31,536,000 (a year); null for a code to print, which is good for ever.",
        default=None,
    )


@object_type(description="The store as it is now.", access=INHERITED)
class StorePayload:
    store: Store | None = strawberry.field(description="Null when nothing was done.", default=None)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="A new code.", access=INHERITED)
class CheckInCodePayload:
    code: str | None = strawberry.field(
        description="What a member's app reads from the picture and sends; null when none was made.",
        default=None,
    )
    expires_at: datetime | None = strawberry.field(
        description="From then on it is good for nothing; null for a code to print.", default=None
    )
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )

    @resolver(
        description="The code as a QR picture: SVG markup, black on white, for a page or a file.",
        access=INHERITED,
    )
    def svg(self) -> str | None:
        return None if self.code is None else qr.svg(self.code)


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


@object_type(description="")
class StoreMutations:
    @resolver(
        description="Sets up a store. The same externalId with the same content answers with the store that"
        " is there.",
        scope=Scope.RULES_WRITE,
    )
    async def create_store(
        self, info: Info, input: Annotated[StoreInput, strawberry.argument(description="The store.")]
    ) -> StorePayload:
        try:
            store = await service.create_store(program_of(info), StoreContent(**given(input)))
        except Refused as refused:
            return StorePayload(user_errors=user_errors(refused.errors))
        return StorePayload(store=Store.of(store), user_errors=[])

    @resolver(description="Changes a store. What happened there before stays.", scope=Scope.RULES_WRITE)
    async def update_store(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The store's id.")],
        input: Annotated[StoreInput, strawberry.argument(description="The changes.")],
    ) -> StorePayload:
        try:
            store = await service.update_store(program_of(info), key_of(id, "Store"), changes(input))
        except Refused as refused:
            return StorePayload(user_errors=user_errors(refused.errors))
        return StorePayload(store=Store.of(store), user_errors=[])

    @resolver(
        description="Makes a signed code to print or to show on a screen, where a new one takes its place"
        " from time to time. Members check in by it; nothing else can be done with it.",
        scope=Scope.EVENTS_WRITE,
    )
    async def create_check_in_code(
        self, info: Info, input: Annotated[CheckInCodeInput, strawberry.argument(description="The code.")]
    ) -> CheckInCodePayload:
        try:
            code = await service.create_check_in_code(
                info.context.services.codes, program_of(info), input.store.value(), input.valid_for_seconds
            )
        except Refused as refused:
            return CheckInCodePayload(user_errors=user_errors(refused.errors))
        return CheckInCodePayload(code=code.text, expires_at=code.expires_at, user_errors=[])
