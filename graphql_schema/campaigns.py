"""Campaigns: set up, changed, ended, and seen by members while they run."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import strawberry

from app import clock
from app.access.scopes import Scope
from app.campaigns import campaigns, reads, service
from app.campaigns.audience import EVERYBODY
from app.campaigns.campaigns import CampaignStatus
from app.campaigns.checks import NewCampaign
from app.earning.rules import EventKind
from app.errors import ErrorCode, Refused
from app.errors import UserError as Wrong
from app.ids import to_global_id
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.audience import Audience, AudienceInput
from graphql_schema.context import Context
from graphql_schema.enums import enum_type
from graphql_schema.errors import UserError, user_errors
from graphql_schema.inputs import changes
from graphql_schema.nodes import Info, Node, finds, key_of, program_of
from graphql_schema.pagination import AFTER, BEFORE, FIRST, LAST, Connection, connection, page_of
from graphql_schema.rules import READ

enum_type(
    CampaignStatus,
    description="Whether a campaign runs.",
    values={
        "SCHEDULED": "Not yet.",
        "ACTIVE": "Yes, within its window.",
        "ENDED": "Not any more, or never.",
    },
)


@object_type(
    description="For a time, points of certain events are multiplied. A member's token sees the campaigns"
    " that are active.",
    scope=READ,
    member=True,
)
class Campaign(Node):
    name: str = strawberry.field(description="For people.")
    status: CampaignStatus = strawberry.field(description="Whether it runs.")
    starts_at: datetime = strawberry.field(description="It counts for what happens from then on.")
    ends_at: datetime = strawberry.field(
        description="It counts for what happens before; where it was ended early, that moment."
    )
    multiplier: Decimal = strawberry.field(
        description="A factor on the points, as of now; events count by what it was when they happened."
    )
    applies_to: list[EventKind] = strawberry.field(
        description="Kinds of event whose points are multiplied; all of them by default."
    )
    audience: Audience | None = strawberry.field(description="Whom it is meant for; null for everybody.")

    @classmethod
    def of(cls, campaign: campaigns.Campaign, moment: datetime) -> "Campaign":
        """Return a campaign as the API gives it at a moment."""
        return cls(
            id=strawberry.ID(to_global_id("Campaign", campaign.id)),
            name=campaign.name,
            status=campaign.status_at(moment),
            starts_at=campaign.starts_at,
            ends_at=campaign.ends_at,
            multiplier=campaign.multiplier,
            applies_to=list(campaign.applies_to),
            audience=Audience.of(campaign.audience),
        )


async def load_campaigns(context: Context, keys: list[UUID]) -> list[Campaign | None]:
    """Load campaigns of the caller's program; for a member's token only those that are active."""
    program_id, member = context.principal.program_id, context.principal.member_id is not None
    assert program_id
    moment = clock.now()

    def seen(campaign: campaigns.Campaign | None) -> Campaign | None:
        if campaign is None or (member and campaign.status_at(moment) is not CampaignStatus.ACTIVE):
            return None
        return Campaign.of(campaign, moment)

    return [seen(campaign) for campaign in await reads.get_campaigns(program_id, keys)]


@finds("Campaign")
async def _find(context: Context, key: UUID | str) -> Campaign | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    return await context.loader(load_campaigns).load(key)


@strawberry.input(
    description="A campaign. In an update, what is left out stays as it is, and null clears what can be"
    " empty; when it has ended, nothing but the name can change."
)
class CampaignInput:
    name: str = strawberry.field(description="1 to 200 characters.")
    starts_at: datetime = strawberry.field(
        description="It counts for what happens from then on; the past is allowed, for what comes in late."
    )
    ends_at: datetime = strawberry.field(description="It counts for what happens before; after startsAt.")
    multiplier: Decimal = strawberry.field(
        description="A factor on the points: more than 0, at most 1,000, and not 1. A change counts for what"
        " happens from then on."
    )
    applies_to: list[EventKind] | None = strawberry.field(
        description="Kinds of event whose points are multiplied, at least one; all of them for a new"
        " campaign that does not say.",
        default=strawberry.UNSET,
    )
    audience: AudienceInput | None = strawberry.field(
        description="Whom it is meant for; null for everybody, as for a new campaign that does not say.",
        default=strawberry.UNSET,
    )


@object_type(description="The campaign as it is now.", access=INHERITED)
class CampaignPayload:
    campaign: Campaign | None = strawberry.field(description="Null when nothing was done.", default=None)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


def _done(campaign: campaigns.Campaign) -> CampaignPayload:
    return CampaignPayload(campaign=Campaign.of(campaign, clock.now()), user_errors=[])


def _refused(refused: Refused) -> CampaignPayload:
    return CampaignPayload(user_errors=user_errors(refused.errors))


def _sent(input: CampaignInput) -> dict[str, Any]:
    """Return what was sent, as services take it."""
    sent = changes(input)
    if "applies_to" in sent:
        if sent["applies_to"] is None:
            message = "It can be left out, but not be null."
            raise Refused([Wrong(ErrorCode.INVALID, message, ("applies_to",))])
        sent["applies_to"] = tuple(sent["applies_to"])
    if "audience" in sent:
        audience: AudienceInput | None = sent["audience"]
        sent["audience"] = EVERYBODY if audience is None else audience.value()
    return sent


@object_type(description="")
class CampaignQueries:
    @resolver(
        description="A campaign; null when there is none. A member's token sees those that are active.",
        scope=READ,
        member=True,
    )
    async def campaign(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The campaign's id.")]
    ) -> Campaign | None:
        return await _find(info.context, key_of(id, "Campaign"))

    @resolver(
        description="The program's campaigns, in the order in which they were made; for a member's token"
        " those that are active.",
        scope=READ,
        member=True,
    )
    async def campaigns(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
        status: Annotated[
            CampaignStatus | None, strawberry.argument(description="Only those in it now.")
        ] = None,
    ) -> Connection[Campaign]:
        page = page_of("campaigns", (UUID,), first=first, after=after, last=last, before=before)
        statuses = set(CampaignStatus) if status is None else {status}
        if info.context.principal.member_id is not None:
            statuses &= {CampaignStatus.ACTIVE}
        moment = clock.now()
        result = await reads.list_campaigns(program_of(info), page, moment, statuses)
        return connection(
            "campaigns", result, lambda each: Campaign.of(each, moment), lambda each: (each.id,)
        )


@object_type(description="")
class CampaignMutations:
    @resolver(
        description="Sets up a campaign. One that is the same in everything is not set up again, but"
        " answered with.",
        scope=Scope.RULES_WRITE,
    )
    async def create_campaign(
        self, info: Info, input: Annotated[CampaignInput, strawberry.argument(description="The campaign.")]
    ) -> CampaignPayload:
        try:
            return _done(await service.create_campaign(program_of(info), NewCampaign(**_sent(input))))
        except Refused as refused:
            return _refused(refused)

    @resolver(
        description="Changes a campaign. Points that were earned stay; when it has ended, nothing but the"
        " name can change.",
        scope=Scope.RULES_WRITE,
    )
    async def update_campaign(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The campaign's id.")],
        input: Annotated[CampaignInput, strawberry.argument(description="The changes.")],
    ) -> CampaignPayload:
        try:
            key = key_of(id, "Campaign")
            return _done(await service.update_campaign(program_of(info), key, _sent(input)))
        except Refused as refused:
            return _refused(refused)

    @resolver(
        description="Ends a campaign now. One that has not begun will never count; one that has ended stays.",
        scope=Scope.RULES_WRITE,
    )
    async def end_campaign(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The campaign's id.")]
    ) -> CampaignPayload:
        try:
            return _done(await service.end_campaign(program_of(info), key_of(id, "Campaign")))
        except Refused as refused:
            return _refused(refused)
