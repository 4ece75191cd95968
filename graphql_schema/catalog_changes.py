"""Setting up and changing rewards, and loading their codes."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import strawberry

from app.access.scopes import Scope
from app.catalog import codes as pools
from app.catalog import rewards, service
from app.catalog.inputs import NO_LIMITS, RewardContent
from app.catalog.rewards import RewardKind, RewardStatus
from app.errors import ErrorCode, Refused
from app.errors import UserError as Wrong
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.catalog import Reward, load_rewards
from graphql_schema.errors import UserError, user_errors
from graphql_schema.inputs import changes
from graphql_schema.nodes import Info, key_of, program_of
from graphql_schema.scalars import Points


@strawberry.input(
    description="What keeps a reward from costing too much. What is left out or null is no limit; what was"
    " cancelled, or reserved and ran out, does not count."
)
class RewardLimitsInput:
    max_per_member: int | None = strawberry.field(
        description="Pieces that one member can ever have; at least 1.", default=None
    )
    max_per_member_per_month: int | None = strawberry.field(
        description="Pieces that one member can have in a month of the program's calendar; at least 1.",
        default=None,
    )
    max_total: int | None = strawberry.field(
        description="Pieces that all members can have together, those that were redeemed before included; at"
        " least 1.",
        default=None,
    )
    max_share_of_order: Decimal | None = strawberry.field(
        description="DISCOUNT: the largest share of an order that can be paid with points: more than 0, at"
        " most 1, with at most 6 decimals.",
        default=None,
    )
    min_points: Points | None = strawberry.field(
        description="DISCOUNT: the fewest points that can be spent on an order; at least 1.", default=None
    )

    def value(self) -> rewards.RewardLimits:
        """Return the limits that were sent."""
        return rewards.RewardLimits(**changes(self))


@strawberry.input(
    description="A reward. In an update, what is left out stays as it is, and null clears what can be empty;"
    " an object or a list takes the place of the whole old one."
)
class RewardInput:
    kind: RewardKind = strawberry.field(description="What it is; it cannot change.")
    name: str = strawberry.field(description="1 to 200 characters.")
    description: str | None = strawberry.field(
        description="At most 5,000 characters.", default=strawberry.UNSET
    )
    image_url: str | None = strawberry.field(
        description="Where its picture is: http or https, at most 2,000 characters.", default=strawberry.UNSET
    )
    status: RewardStatus | None = strawberry.field(
        description="ACTIVE for a new reward that does not say.", default=strawberry.UNSET
    )
    points: Points | None = strawberry.field(
        description="Price of one piece in points, at least 1; all kinds need it but DISCOUNT, which has a"
        " rate.",
        default=strawberry.UNSET,
    )
    points_per_currency_unit: Decimal | None = strawberry.field(
        description="DISCOUNT, which needs it: so many points take one unit of the program's currency off;"
        " more than 0, with at most 6 decimals.",
        default=strawberry.UNSET,
    )
    face_value: Decimal | None = strawberry.field(
        description="What one piece is billed at, in the program's currency: GIFT_CARD needs it, DISCOUNT and"
        " GIVEAWAY have none.",
        default=strawberry.UNSET,
    )
    generate_codes: bool | None = strawberry.field(
        description="VOUCHER and GIFT_CARD: make codes instead of taking them from a pool; false for a new"
        " reward that does not say.",
        default=strawberry.UNSET,
    )
    limits: RewardLimitsInput | None = strawberry.field(
        description="How much of it can be had; null for no limits.", default=strawberry.UNSET
    )
    stock: int | None = strawberry.field(
        description="Pieces that can be had from now on, whatever was redeemed before; null is without end."
        " Codes of a pool are counted beside it.",
        default=strawberry.UNSET,
    )
    starts_at: datetime | None = strawberry.field(
        description="It can be redeemed from then on.", default=strawberry.UNSET
    )
    ends_at: datetime | None = strawberry.field(
        description="From then on it cannot be redeemed any more; after it starts.", default=strawberry.UNSET
    )
    tier_ids: list[strawberry.ID] | None = strawberry.field(
        description="It is for members of the lowest of these tiers, and of all above; at most 100. Empty or"
        " null for everybody.",
        default=strawberry.UNSET,
    )

    def value(self) -> dict[str, Any]:
        """Return what was sent, as services take it; an id that is none of a tier names none.

        Raises:
            Refused: something is null that can only be left out.
        """
        sent = changes(self)
        if nulls := [name for name in ("status", "generate_codes") if name in sent and sent[name] is None]:
            message = "It can be left out, but not be null."
            raise Refused([Wrong(ErrorCode.INVALID, message, (name,)) for name in nulls])
        if "limits" in sent:
            sent["limits"] = NO_LIMITS if sent["limits"] is None else sent["limits"].value()
        if "tier_ids" in sent:
            sent["tiers"] = tuple(key_of(each, "Tier") for each in sent.pop("tier_ids") or ())
        return sent


@object_type(description="The reward as it is now.", access=INHERITED)
class RewardPayload:
    reward: Reward | None = strawberry.field(description="Null when nothing was done.", default=None)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="What came of an upload of codes.", access=INHERITED)
class UploadRewardCodesPayload:
    added: int = strawberry.field(description="Codes that are new.", default=0)
    duplicates: int = strawberry.field(
        description="Codes that the program had already, for this reward or another one, or that came twice.",
        default=0,
    )
    reward: Reward | None = strawberry.field(
        description="The reward, with its new stock; null when nothing was done.", default=None
    )
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


def _refused(refused: Refused) -> RewardPayload:
    return RewardPayload(user_errors=user_errors(refused.errors))


@object_type(description="")
class CatalogMutations:
    @resolver(
        description="Sets up a reward. Where a reward says the same in everything already, and nothing of"
        " it has been redeemed, none is made: that reward is the answer, so that a call can be repeated.",
        scope=Scope.CATALOG_WRITE,
    )
    async def create_reward(
        self, info: Info, input: Annotated[RewardInput, strawberry.argument(description="The reward.")]
    ) -> RewardPayload:
        try:
            content = RewardContent(**input.value())
            reward = await service.create_reward(program_of(info), content, info.context.services.vault)
        except Refused as refused:
            return _refused(refused)
        return RewardPayload(reward=Reward.of(reward), user_errors=[])

    @resolver(
        description="Changes a reward. What was redeemed keeps its price; an ARCHIVED one stays as it is.",
        scope=Scope.CATALOG_WRITE,
    )
    async def update_reward(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The reward's id.")],
        input: Annotated[RewardInput, strawberry.argument(description="The changes.")],
    ) -> RewardPayload:
        try:
            reward = await service.update_reward(program_of(info), key_of(id, "Reward"), input.value())
        except Refused as refused:
            return _refused(refused)
        return RewardPayload(reward=Reward.of(reward), user_errors=[])

    @resolver(
        description="Activates, pauses or archives a reward. What was redeemed stays.",
        scope=Scope.CATALOG_WRITE,
    )
    async def set_reward_status(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The reward's id.")],
        status: Annotated[
            RewardStatus, strawberry.argument(description="What it is to be; ARCHIVED is for good.")
        ],
    ) -> RewardPayload:
        try:
            reward = await service.set_reward_status(program_of(info), key_of(id, "Reward"), status)
        except Refused as refused:
            return _refused(refused)
        return RewardPayload(reward=Reward.of(reward), user_errors=[])

    @resolver(
        description="Loads codes of vouchers or gift cards; codes that are there already are left alone. They"
        " are given out in the order in which they were loaded.",
        scope=Scope.CATALOG_WRITE,
    )
    async def upload_reward_codes(
        self,
        info: Info,
        reward_id: Annotated[
            strawberry.ID,
            strawberry.argument(description="The id of a VOUCHER or GIFT_CARD that takes codes from a pool."),
        ],
        codes: Annotated[
            list[str],
            strawberry.argument(
                description="1 to 10,000 of 1 to 255 printable characters. Upper and lower case differ;"
                " spaces around a code do not count."
            ),
        ],
    ) -> UploadRewardCodesPayload:
        key = key_of(reward_id, "Reward")
        try:
            uploaded = await pools.upload_codes(program_of(info), key, codes, info.context.services.vault)
        except Refused as refused:
            return UploadRewardCodesPayload(user_errors=user_errors(refused.errors))
        return UploadRewardCodesPayload(
            added=uploaded.added,
            duplicates=uploaded.duplicates,
            reward=await info.context.loader(load_rewards).load(key),
            user_errors=[],
        )
