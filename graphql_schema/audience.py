"""Whom a campaign or an earning rule is meant for."""

import strawberry

from app.campaigns import audience
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.nodes import Info, key_of
from graphql_schema.stores import Store, load_stores
from graphql_schema.tiers import Tier, load_tiers


@object_type(
    description="Whom something is meant for: members of any of the tiers, in any of the stores.",
    access=INHERITED,
)
class Audience:
    named: strawberry.Private[audience.Audience]

    @classmethod
    def of(cls, named: audience.Audience) -> "Audience | None":
        """Return an audience as the API gives it; None for everybody."""
        return None if named == audience.EVERYBODY else cls(named=named)

    @resolver(description="Any of these; empty for members of all tiers.")
    async def tiers(self, info: Info) -> list[Tier]:
        found = await info.context.loader(load_tiers).load_many(self.named.tiers)
        return [tier for tier in found if tier is not None]

    @resolver(description="Any of these; empty for everywhere.")
    async def stores(self, info: Info) -> list[Store]:
        found = await info.context.loader(load_stores).load_many(self.named.stores)
        return [store for store in found if store is not None]


@strawberry.input(description="Whom something is meant for. Where nothing is named, that is everybody.")
class AudienceInput:
    tier_ids: list[strawberry.ID] | None = strawberry.field(
        description="Members of any of these tiers, at most 100; empty for members of all.",
        default_factory=list,
    )
    store_ids: list[strawberry.ID] | None = strawberry.field(
        description="In any of these stores, at most 100; empty for everywhere.", default_factory=list
    )

    def value(self) -> audience.Audience:
        """Return the audience for services; an id that is none of a tier or a store names none."""
        return audience.Audience(
            tuple(key_of(each, "Tier") for each in self.tier_ids or ()),
            tuple(key_of(each, "Store") for each in self.store_ids or ()),
        )
