"""Balances, ledger entries, and adjustments by hand."""

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID
from zoneinfo import ZoneInfo

import strawberry

from app.access.scopes import Scope
from app.days import end_of_day
from app.errors import ErrorCode, Refused, refuse
from app.ids import to_global_id
from app.ledger import adjusting, reads
from app.ledger.expiry import NEVER
from app.ledger.operations import EntryKind
from app.paging import Page, PageResult
from app.programs.policies import recent_policy
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.enums import enum_type
from graphql_schema.errors import UserError, user_errors
from graphql_schema.events import Event, load_events
from graphql_schema.inputs import MemberRef
from graphql_schema.members import Member
from graphql_schema.nodes import Info, Node, finds, program_of
from graphql_schema.pagination import Connection, by_page, connection, page_of
from graphql_schema.reservations import released
from graphql_schema.scalars import Points

if TYPE_CHECKING:
    from graphql_schema.redemptions import Redemption

READ = (Scope.MEMBERS_READ, Scope.LEDGER_ADJUST)

_PLACE = re.compile(r"[0-9a-f]{32}:[1-9][0-9]{0,17}", re.ASCII)

enum_type(
    EntryKind,
    name="LedgerEntryKind",
    description="What an entry of the ledger is.",
    values={
        "EARN": "Points that a rule gave, pending ones at first where the program lets them wait; or that"
        " another member sent.",
        "RELEASE": "Pending points that became available.",
        "ADJUST": "Points added or taken by hand.",
        "RESERVE": "Points set aside for a redemption under way.",
        "REDEEM": "Points spent, or sent to another member.",
        "RESTORE": "Points given back.",
        "CLAWBACK": "Points taken back after a refund.",
        "EXPIRE": "Points whose time was over.",
    },
)


@object_type(description="Points that are about to expire.", access=INHERITED)
class ExpiringPoints:
    points: Points = strawberry.field(description="How many.")
    expires_at: datetime = strawberry.field(description="The last second at which they can be spent.")


@object_type(
    description="What a member has. lifetimeEarned less lifetimeSpent and lifetimeExpired is always"
    " available, pending and reserved together, less the debt.",
    access=INHERITED,
)
class Balance:
    available: Points = strawberry.field(description="Points that can be spent now; never negative.")
    pending: Points = strawberry.field(description="Earned, and not yet released.")
    reserved: Points = strawberry.field(description="Set aside for redemptions under way.")
    debt: Points = strawberry.field(
        description="Owed after refunds of spent points; the next points earned pay it."
    )
    in_transit: Points = strawberry.field(
        description="On their way from other members: theirs no more, and not yet in any of these sums."
    )
    lifetime_earned: Points = strawberry.field(
        description="Ever earned, adjustments of either sign and what other members sent included, less what"
        " refunds took back."
    )
    lifetime_spent: Points = strawberry.field(
        description="Ever spent, or sent to other members, less what was given back."
    )
    lifetime_expired: Points = strawberry.field(description="Ever expired.")
    balance: strawberry.Private[reads.Balance]

    @classmethod
    def of(cls, balance: reads.Balance) -> "Balance":
        """Return a balance as the API gives it."""
        return cls(
            available=Points(max(0, balance.available)),
            pending=Points(balance.pending),
            reserved=Points(balance.reserved),
            debt=Points(max(0, -balance.available)),
            in_transit=Points(balance.in_transit),
            lifetime_earned=Points(balance.lifetime_earned),
            lifetime_spent=Points(balance.lifetime_spent),
            lifetime_expired=Points(balance.lifetime_expired),
            balance=balance,
        )

    @resolver(description="Points about to expire, soonest first.")
    async def expiring(
        self,
        info: Info,
        within_days: Annotated[
            int | None,
            strawberry.argument(description="So many days from today on, which is 0; at most 3,660."),
        ] = 30,
    ) -> list[ExpiringPoints]:
        days = 30 if within_days is None else within_days
        if not 0 <= days <= reads.MAX_EXPIRING_DAYS:
            message = f"withinDays must be between 0 and {reads.MAX_EXPIRING_DAYS}."
            raise refuse(ErrorCode.INVALID, message, "within_days")
        rows = await info.context.loader(load_expiring).load((self.balance, days))
        return [ExpiringPoints(points=Points(row.points), expires_at=row.expires_at) for row in rows]


async def load_balances(context: Context, keys: list[UUID]) -> list[Balance | None]:
    """Load the balances of members whom the caller may read; reservations that ran out are released first."""
    assert context.principal.program_id
    policy = await recent_policy(context.principal.program_id)
    await released(context)
    found = await reads.get_balances(policy, keys)
    return [row and Balance.of(row) for row in found]


@object_type(description="One movement of points, written once and never changed.", scope=READ, member=True)
class LedgerEntry(Node):
    sequence: int = strawberry.field(description="1, 2, 3 … without a gap within a member's account.")
    kind: EntryKind = strawberry.field(description="What it is.")
    points: Points = strawberry.field(description="Signed change of the available points.")
    pending_change: Points = strawberry.field(description="Signed change of the pending points.")
    reserved_change: Points = strawberry.field(description="Signed change of the reserved points.")
    available_after: Points = strawberry.field(
        description="Available points right after it; below zero where the member owes."
    )
    reason: str | None = strawberry.field(
        description="The rule's name, what somebody wrote, or to or from whom points were sent."
    )
    occurred_at: datetime = strawberry.field(description="When it happened to the member.")
    recorded_at: datetime = strawberry.field(description="When it was written.")
    expires_at: datetime | None = strawberry.field(
        description="The last second at which its points can be spent; null where they do not expire."
    )
    event_id: strawberry.Private[UUID | None]
    redemption_id: strawberry.Private[UUID | None]

    @classmethod
    def of(cls, entry: reads.Entry, zone: ZoneInfo) -> "LedgerEntry":
        """Return an entry as the API gives it; `zone` is the program's."""
        expires_on = entry.expires_on
        return cls(
            id=strawberry.ID(to_global_id("LedgerEntry", f"{entry.account_id.hex}:{entry.sequence}")),
            sequence=entry.sequence,
            kind=EntryKind(entry.kind),
            points=Points(entry.available_change),
            pending_change=Points(entry.pending_change),
            reserved_change=Points(entry.reserved_change),
            available_after=Points(entry.available_after),
            reason=entry.reason,
            occurred_at=entry.occurred_at,
            recorded_at=entry.recorded_at,
            expires_at=None if expires_on is None or expires_on == NEVER else end_of_day(expires_on, zone),
            event_id=entry.source_id if entry.source == "event" else None,
            redemption_id=entry.source_id if entry.source == "redemption" else None,
        )

    @resolver(description="The event that it comes from.", scope=(Scope.MEMBERS_READ,), member=True)
    async def event(self, info: Info) -> Event | None:
        return None if self.event_id is None else await info.context.loader(load_events).load(self.event_id)

    @resolver(
        description="The redemption that it belongs to.",
        scope=(Scope.REDEMPTIONS_READ, Scope.REDEMPTIONS_WRITE),
        member=True,
    )
    async def redemption(
        self, info: Info
    ) -> Annotated["Redemption", strawberry.lazy("graphql_schema.redemptions")] | None:
        from graphql_schema.redemptions import load_redemptions

        if self.redemption_id is None:
            return None
        return await info.context.loader(load_redemptions).load(self.redemption_id)


async def load_pages(context: Context, keys: list[tuple[UUID, Page]]) -> list[PageResult[reads.Entry]]:
    """Load pages of the entries of members whom the caller may read: one statement for each kind of page."""
    return await by_page(keys, reads.list_entries)


async def entries_of(
    context: Context,
    member_id: UUID,
    *,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
) -> Connection[LedgerEntry]:
    """Return a page of the entries of a member whom the caller may read."""
    page = page_of("ledger", (int,), first=first, after=after, last=last, before=before)
    assert context.principal.program_id
    zone = (await recent_policy(context.principal.program_id)).zone
    # Reading the balance settles what is due, so that the entries of one answer agree with it.
    await context.loader(load_balances).load(member_id)
    result = await context.loader(load_pages).load((member_id, page))
    return connection(
        "ledger", result, lambda entry: LedgerEntry.of(entry, zone), lambda entry: (entry.sequence,)
    )


async def load_expiring(
    context: Context, keys: list[tuple[reads.Balance, int]]
) -> list[list[reads.ExpiringPoints]]:
    """Load what expires of balances that the caller has, within so many days."""
    assert context.principal.program_id
    policy = await recent_policy(context.principal.program_id)
    found = {}
    for days in {days for _, days in keys}:
        balances = [balance for balance, each in keys if each == days]
        found[days] = iter(await reads.list_expiring(policy, balances, days))
    return [next(found[days]) for _, days in keys]


async def load_entries(context: Context, keys: list[tuple[UUID, int]]) -> list[LedgerEntry | None]:
    """Load entries of the caller's program by account and sequence; for a member's token nobody else's."""
    program_id, own = context.principal.program_id, context.principal.member_id
    assert program_id
    zone = (await recent_policy(program_id)).zone
    found = await reads.get_entries(program_id, keys)
    return [
        LedgerEntry.of(entry, zone) if entry and own in (None, entry.account_id) else None for entry in found
    ]


@finds("LedgerEntry")
async def _find(context: Context, key: UUID | str) -> LedgerEntry | None:
    account, _, sequence = key.partition(":") if isinstance(key, str) else ("", "", "")
    if not context.principal.program_id or not _PLACE.fullmatch(f"{account}:{sequence}"):
        return None
    return await context.loader(load_entries).load((UUID(hex=account), int(sequence)))


@strawberry.input(description="An adjustment by hand.")
class AdjustPointsInput:
    member: MemberRef = strawberry.field(description="Whose balance.")
    points: Points = strawberry.field(description="Signed and not zero.")
    reason: str = strawberry.field(description="Why, for the member and for support; 1 to 500 characters.")
    idempotency_key: str = strawberry.field(
        description="Of your choice, 1 to 255 characters: the same key adjusts once, for good."
    )


@object_type(description="The adjustment.", access=INHERITED)
class AdjustPointsPayload:
    entry: LedgerEntry | None = strawberry.field(description="Null when nothing was done.", default=None)
    member: Member | None = strawberry.field(description="The member, with the new balance.", default=None)
    replayed: bool = strawberry.field(
        description="Whether it was done before, under this key.", default=False
    )
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="")
class LedgerMutations:
    @resolver(
        description="Adds points to a balance, or takes them from it; never below zero.",
        scope=Scope.LEDGER_ADJUST,
    )
    async def adjust_points(
        self,
        info: Info,
        input: Annotated[AdjustPointsInput, strawberry.argument(description="The adjustment.")],
    ) -> AdjustPointsPayload:
        try:
            done = await adjusting.adjust_points(
                program_of(info),
                input.member.value(),
                input.points,
                input.reason,
                input.idempotency_key,
                info.context.principal.credential,
            )
        except Refused as refused:
            return AdjustPointsPayload(user_errors=user_errors(refused.errors))
        return AdjustPointsPayload(
            entry=await info.context.loader(load_entries).load((done.member.id, done.sequence)),
            member=Member.of(done.member),
            replayed=done.replayed,
            user_errors=[],
        )
