"""Giveaways: who takes part, without names, and the draw that anybody can repeat."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.errors import Refused
from app.paging import Page, PageResult
from app.redemptions import giveaways, reads, redemptions
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.errors import UserError, user_errors
from graphql_schema.nodes import Info, key_of, program_of
from graphql_schema.pagination import Connection, by_page, connection, page_of

if TYPE_CHECKING:
    from graphql_schema.redemptions import Redemption

RULE = (
    "Ticket n of an entry, from 1 on, has the number SHA-256 of the UTF-8 text `<seed>:<key>:<n>`: the seed"
    " as 64 hex digits, the entry's key, and n in decimal. The smallest number wins."
)
"""How a winner is drawn, so that anybody can repeat it."""


@object_type(
    description="What takes part in a giveaway: a redemption that was confirmed, without whose it is.",
    access=INHERITED,
)
class DrawEntry:
    key: str = strawberry.field(description="By what the draw knows the entry: 32 hex digits.")
    tickets: int = strawberry.field(description="Pieces that were redeemed, each of which is a ticket.")
    entered_at: datetime = strawberry.field(description="When the points were spent.")

    @classmethod
    def of(cls, entry: giveaways.Entry) -> "DrawEntry":
        """Return an entry as the API gives it."""
        return cls(key=entry.key, tickets=entry.tickets, entered_at=entry.entered_at)

    @classmethod
    def of_redemption(cls, redemption: redemptions.Redemption) -> "DrawEntry | None":
        """Return the entry that a redemption of a giveaway is; None for one that takes no part."""
        entry = giveaways.entry_of(redemption)
        return None if entry is None else cls.of(entry)


async def load_entries(context: Context, keys: list[tuple[UUID, Page]]) -> list[PageResult[giveaways.Entry]]:
    """Load pages of the entries of rewards of the caller's program."""
    program_id = context.principal.program_id
    assert program_id

    async def load(reward_ids: Sequence[UUID], page: Page) -> list[PageResult[giveaways.Entry]]:
        return await giveaways.list_entries(program_id, reward_ids, page)

    return await by_page(keys, load)


async def entries_of(
    context: Context,
    reward_id: UUID,
    *,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
) -> Connection[DrawEntry]:
    """Return a page of the entries of a reward that the caller may read."""
    page = page_of("entries", (UUID,), first=first, after=after, last=last, before=before)
    result = await context.loader(load_entries).load((reward_id, page))
    return connection("entries", result, DrawEntry.of, lambda entry: (entry.id,))


async def load_winning(context: Context, keys: list[UUID]) -> list[DrawEntry | None]:
    """Load the entries of redemptions that won, of the caller's program, whosesoever they are."""
    assert context.principal.program_id
    found = await reads.get_redemptions(context.principal.program_id, keys)
    return [None if each is None else DrawEntry.of_redemption(each) for each in found]


@object_type(description="The winner of a giveaway.", access=INHERITED)
class DrawGiveawayPayload:
    winner: Annotated["Redemption", strawberry.lazy("graphql_schema.redemptions")] | None = strawberry.field(
        description="The redemption that won; null when nothing was drawn.", default=None
    )
    replayed: bool = strawberry.field(
        description="Whether it was drawn before, under this key.", default=False
    )
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="")
class GiveawayMutations:
    @resolver(
        description="Draws the winner of a giveaway, once and for all, from everybody who has entered by"
        f" then; what is only reserved takes no part any more. {RULE} The seed's hash has been public from"
        " the start (`drawSeedHash`), the seed is from now on (`drawSeed`), and `entries` lists who takes"
        " part: so anybody can repeat the draw. The same key again answers with the same winner; for another"
        " giveaway it is IDEMPOTENCY_CONFLICT.",
        scope=Scope.REDEMPTIONS_WRITE,
    )
    async def draw_giveaway(
        self,
        info: Info,
        reward_id: Annotated[strawberry.ID, strawberry.argument(description="The giveaway's id.")],
        idempotency_key: Annotated[
            str,
            strawberry.argument(
                description="Your own key, 1 to 255 printable characters: it stands for this draw for good."
            ),
        ],
    ) -> DrawGiveawayPayload:
        from graphql_schema.redemptions import Redemption

        try:
            drawn = await giveaways.draw(
                program_of(info), key_of(reward_id, "Reward"), idempotency_key, info.context.services.vault
            )
        except Refused as refused:
            return DrawGiveawayPayload(user_errors=user_errors(refused.errors))
        return DrawGiveawayPayload(
            winner=Redemption.of(drawn.winner), replayed=drawn.replayed, user_errors=[]
        )
