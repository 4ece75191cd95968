"""Checking in: a member scans a code that is shown in a store."""

from typing import Annotated

import strawberry

from app.access.scopes import Scope
from app.errors import Denied, ErrorCode, Refused, refuse
from app.members import reads
from app.stores import check_in as service
from graphql_schema.access import object_type, resolver
from graphql_schema.errors import user_errors
from graphql_schema.events import Event
from graphql_schema.inputs import MemberRef, planned
from graphql_schema.nodes import Info, program_of
from graphql_schema.recording import EventPayload


@planned
@strawberry.input(description="A code that a member scanned.")
class CheckInInput:
    member: MemberRef | None = strawberry.field(
        description="Who scanned it. May be left out by a signed-in member, who checks in nobody else.",
        default=None,
    )
    code: str = strawberry.field(description="What the member's app read from the picture.")
    latitude: float | None = strawberry.field(
        description="Where the member is, for a store with a radius: degrees north of the equator, -90 to 90."
        " It is not kept.",
        default=None,
    )
    longitude: float | None = strawberry.field(
        description="Degrees east of Greenwich, -180 to 180; together with latitude. It is not kept.",
        default=None,
    )


async def _who(info: Info, named: MemberRef | None) -> reads.MemberRef:
    """Return whom a check-in is for.

    Raises:
        Refused: INVALID for `member`, a key has to name somebody.
        Denied: a member's token names somebody else, or nobody.
    """
    own = info.context.principal.member_id
    if own is None:
        if named is None:
            raise refuse(ErrorCode.INVALID, "Say who checks in: a key belongs to no member.", "member")
        return named.value()
    if named is not None:
        row = await reads.get_member(program_of(info), named.value())
        if row is None or row.id != own:
            raise Denied("A member's token checks in that member and nobody else.")
    return reads.MemberRef(id=own)


@object_type(description="")
class CheckInMutations:
    @resolver(
        description="Spends a code that was shown in a store: records the visit, and earns what CHECK_IN"
        " rules give for it. The same code of a screen, and a printed one within a minute, answer with the"
        " visit that is there. It is LIMIT_REACHED when every rule that would pay waits; the message says"
        " until when.",
        scope=Scope.EVENTS_WRITE,
        member=True,
    )
    async def check_in(
        self, info: Info, input: Annotated[CheckInInput, strawberry.argument(description="The visit.")]
    ) -> EventPayload:
        try:
            checked_in = await service.check_in(
                program_of(info),
                await _who(info, input.member),
                input.code,
                info.context.services.codes,
                latitude=input.latitude,
                longitude=input.longitude,
            )
        except Refused as refused:
            return EventPayload(user_errors=user_errors(refused.errors))
        return EventPayload(
            event=Event.of(checked_in.event),
            replayed=checked_in.replayed,
            user_errors=[],
            member_id=checked_in.event.member_id,
        )
