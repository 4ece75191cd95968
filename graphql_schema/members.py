"""Members: who they are, and the way to everything about them."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.errors import Refused
from app.ids import to_global_id
from app.members import reads, service
from app.members.inputs import MemberStatus, NewMember
from app.members.reads import MemberRow
from graphql_schema.access import ANY_CREDENTIAL, INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.enums import enum_type
from graphql_schema.errors import UserError, user_errors
from graphql_schema.inputs import MemberRef, changes, given
from graphql_schema.nodes import Info, Node, finds, program_of
from graphql_schema.pagination import AFTER, BEFORE, FIRST, LAST, Connection, connection, page_of
from graphql_schema.redemption_status import RedemptionStatus
from graphql_schema.scalars import JSON

if TYPE_CHECKING:
    from graphql_schema.events import Event
    from graphql_schema.ledger import Balance, LedgerEntry
    from graphql_schema.redemptions import Redemption
    from graphql_schema.referrals import Referral
    from graphql_schema.tier_progress import TierProgress
    from graphql_schema.tiers import Tier

READ = (Scope.MEMBERS_READ, Scope.MEMBERS_WRITE)

enum_type(
    MemberStatus,
    description="Whether a member takes part.",
    values={
        "ACTIVE": "Earns and spends.",
        "SUSPENDED": "Can look, and neither earns nor spends.",
        "CLOSED": "Has left, for good.",
    },
)


@object_type(description="A person in the program.", scope=READ, member=True)
class Member(Node):
    external_id: str = strawberry.field(
        description="The identity under which your own systems know the member."
    )
    email: str | None = strawberry.field(
        description="Unique in the program; upper and lower case are the same."
    )
    phone: str | None = strawberry.field(description="As it was given.")
    name: str | None = strawberry.field(description="As it was given.")
    birthday: date | None = strawberry.field(description="The day of birth.")
    locale: str | None = strawberry.field(description="Language and country, such as de-AT.")
    attributes: JSON = strawberry.field(description="What else your systems keep here: a JSON object.")
    status: MemberStatus = strawberry.field(description="Whether the member takes part.")
    joined_at: datetime = strawberry.field(description="When the member joined the program.")
    referral_code: str = strawberry.field(
        description="To hand to friends, who give it when they enrol; upper and lower case, spaces and"
        " hyphens make no difference."
    )
    key: strawberry.Private[UUID]

    @classmethod
    def of(cls, row: MemberRow) -> "Member":
        """Return a member as the API gives them."""
        return cls(
            id=strawberry.ID(to_global_id("Member", row.id)),
            external_id=row.external_id,
            email=row.email,
            phone=row.phone,
            name=row.name,
            birthday=row.birthday,
            locale=row.locale,
            attributes=JSON(row.attributes),
            status=MemberStatus(row.status),
            joined_at=row.joined_at,
            referral_code=row.referral_code,
            key=row.id,
        )

    @resolver(description="What the member has, as of now.")
    async def balance(self, info: Info) -> Annotated["Balance", strawberry.lazy("graphql_schema.ledger")]:
        from graphql_schema.ledger import load_balances

        balance = await info.context.loader(load_balances).load(self.key)
        assert balance, "every member has an account"
        return balance

    @resolver(
        description="The tier that the member has now: reached, given by hand, or where everybody starts;"
        " null when there is none."
    )
    async def tier(self, info: Info) -> Annotated["Tier", strawberry.lazy("graphql_schema.tiers")] | None:
        from graphql_schema.tiers import load_member_tiers

        return await info.context.loader(load_member_tiers).load(self.key)

    @resolver(description="How far the member has come towards the next tier.")
    async def tier_progress(
        self, info: Info
    ) -> Annotated["TierProgress", strawberry.lazy("graphql_schema.tier_progress")]:
        from graphql_schema.tier_progress import load_progress

        return await info.context.loader(load_progress).load(self.key)

    @resolver(description="The member's entries, newest first.")
    async def ledger(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
    ) -> Connection[Annotated["LedgerEntry", strawberry.lazy("graphql_schema.ledger")]]:
        from graphql_schema.ledger import entries_of

        return await entries_of(info.context, self.key, first=first, after=after, last=last, before=before)

    @resolver(description="What the member did, the latest first.")
    async def events(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
    ) -> Connection[Annotated["Event", strawberry.lazy("graphql_schema.events")]]:
        from graphql_schema.events import events_of

        return await events_of(info.context, self.key, first=first, after=after, last=last, before=before)

    @resolver(
        description="The member with whose code this one enrolled, whatever has become of that referral; null"
        " without one.",
        scope=READ,
    )
    async def referred_by(self, info: Info) -> "Member | None":
        from graphql_schema.referrals import load_referrers

        referrer = await info.context.loader(load_referrers).load(self.key)
        return None if referrer is None else await info.context.loader(load_members).load(referrer)

    @resolver(description="The friends who enrolled with the member's code, the latest first.")
    async def referrals(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
    ) -> Connection[Annotated["Referral", strawberry.lazy("graphql_schema.referrals")]]:
        from graphql_schema.referrals import referrals_of

        return await referrals_of(info.context, self.key, first=first, after=after, last=last, before=before)

    @resolver(
        description="What the member burned points on, the latest first.",
        scope=(Scope.REDEMPTIONS_READ, Scope.REDEMPTIONS_WRITE),
        member=True,
    )
    async def redemptions(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
        status: Annotated[
            RedemptionStatus | None, strawberry.argument(description="Only those in it now.")
        ] = None,
    ) -> Connection[Annotated["Redemption", strawberry.lazy("graphql_schema.redemptions")]]:
        from graphql_schema.redemptions import redemptions_of

        return await redemptions_of(
            info.context, self.key, status, first=first, after=after, last=last, before=before
        )


async def load_members(context: Context, keys: list[UUID]) -> list[Member | None]:
    """Load members of the caller's program; for a member's token nobody but that member."""
    program_id, own = context.principal.program_id, context.principal.member_id
    assert program_id
    rows = await reads.get_members(program_id, keys)
    return [Member.of(row) if row and own in (None, row.id) else None for row in rows]


@finds("Member")
async def _find(context: Context, key: UUID | str) -> Member | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    return await context.loader(load_members).load(key)


@strawberry.input(description="A member to be enrolled.")
class EnrollMemberInput:
    external_id: str = strawberry.field(
        description="The identity under which your own systems know the member; 1 to 255 characters."
    )
    email: str | None = strawberry.field(description="Unique in the program.", default=None)
    phone: str | None = strawberry.field(description="At most 40 digits, spaces and + - ( ) .", default=None)
    name: str | None = strawberry.field(description="At most 255 characters.", default=None)
    birthday: date | None = strawberry.field(description="The day of birth.", default=None)
    locale: str | None = strawberry.field(description="BCP 47, such as de-AT.", default=None)
    attributes: JSON | None = strawberry.field(description="A JSON object of at most 16 KiB.", default=None)
    joined_at: datetime | None = strawberry.field(
        description="For members brought over from another system; now, when left out.", default=None
    )
    referral_code: str | None = strawberry.field(
        description="Of the member who brought them: makes a PENDING referral. A code that nobody has is"
        " refused; for members who are there already it brings nothing.",
        default=None,
    )


@strawberry.input(description="What is to change; what is left out stays as it is, null clears.")
class UpdateMemberInput:
    member: MemberRef = strawberry.field(description="Whom to change.")
    email: str | None = strawberry.field(description="Unique in the program.", default=strawberry.UNSET)
    phone: str | None = strawberry.field(
        description="At most 40 digits, spaces and + - ( ) .", default=strawberry.UNSET
    )
    name: str | None = strawberry.field(description="At most 255 characters.", default=strawberry.UNSET)
    birthday: date | None = strawberry.field(description="The day of birth.", default=strawberry.UNSET)
    locale: str | None = strawberry.field(description="BCP 47, such as de-AT.", default=strawberry.UNSET)
    attributes: JSON | None = strawberry.field(
        description="A JSON object of at most 16 KiB, in place of the old one.", default=strawberry.UNSET
    )
    status: MemberStatus | None = strawberry.field(
        description="CLOSED is for good. Null is not allowed.", default=strawberry.UNSET
    )


@object_type(
    description="Enrolling the same externalId again answers with the member who is there.", access=INHERITED
)
class EnrollMemberPayload:
    member: Member | None = strawberry.field(description="Null when nobody was enrolled.", default=None)
    replayed: bool = strawberry.field(description="Whether the member was there before.", default=False)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="The member as they are now.", access=INHERITED)
class UpdateMemberPayload:
    member: Member | None = strawberry.field(description="Null when nothing was done.", default=None)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="")
class MemberQueries:
    @resolver(description="The signed-in member; null for an API key.", access=ANY_CREDENTIAL)
    async def viewer(self, info: Info) -> Member | None:
        own = info.context.principal.member_id
        return None if own is None else await info.context.loader(load_members).load(own)

    @resolver(
        description="A member; null when there is none. A member's token sees itself only.",
        scope=READ,
        member=True,
    )
    async def member(
        self, info: Info, by: Annotated[MemberRef, strawberry.argument(description="Which member.")]
    ) -> Member | None:
        row = await reads.get_member(program_of(info), by.value())
        own = info.context.principal.member_id
        return Member.of(row) if row and own in (None, row.id) else None

    @resolver(description="The program's members, in the order in which they were enrolled.", scope=READ)
    async def members(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
        search: Annotated[
            str | None,
            strawberry.argument(
                description="How an external id, e-mail address, phone number or name begins."
            ),
        ] = None,
    ) -> Connection[Member]:
        page = page_of("members", (UUID,), first=first, after=after, last=last, before=before)
        result = await reads.list_members(program_of(info), page, search)
        return connection("members", result, Member.of, lambda row: (row.id,))


@object_type(description="")
class MemberMutations:
    @resolver(description="Enrols a member, and pays for it where a rule says so.", scope=Scope.MEMBERS_WRITE)
    async def enroll_member(
        self, info: Info, input: Annotated[EnrollMemberInput, strawberry.argument(description="The member.")]
    ) -> EnrollMemberPayload:
        try:
            row, replayed = await service.enroll_member(program_of(info), NewMember(**given(input)))
        except Refused as refused:
            return EnrollMemberPayload(user_errors=user_errors(refused.errors))
        return EnrollMemberPayload(member=Member.of(row), replayed=replayed, user_errors=[])

    @resolver(description="Changes what is known of a member, or their status.", scope=Scope.MEMBERS_WRITE)
    async def update_member(
        self, info: Info, input: Annotated[UpdateMemberInput, strawberry.argument(description="The changes.")]
    ) -> UpdateMemberPayload:
        sent = changes(input)
        try:
            row = await service.update_member(program_of(info), sent.pop("member").value(), sent)
        except Refused as refused:
            return UpdateMemberPayload(user_errors=user_errors(refused.errors))
        return UpdateMemberPayload(member=Member.of(row), user_errors=[])
