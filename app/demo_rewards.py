"""What members of the demo program burn points on: a catalog with every kind of reward, and who had what."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from app.catalog.codes import open_codes, upload_codes
from app.catalog.inputs import RewardContent
from app.catalog.reads import list_rewards
from app.catalog.rewards import RewardKind, RewardLimits, RewardStatus
from app.catalog.service import create_reward
from app.catalog.vault import Vault
from app.database import connection
from app.ledger.adjusting import adjust_points
from app.members.reads import MemberRef
from app.paging import MAX_SIZE, Page
from app.programs.models import Program
from app.redemptions.inputs import Wanted
from app.redemptions.redemptions import Redemption
from app.redemptions.steps import cancel, capture, fulfil, use_code
from app.redemptions.taking import take

_POOL = "Tea for two"
_MADE = "Coffee course"
_CARD = "Gift card, 10 euros"
_POT = "Glass teapot"
_MONEY_OFF = "Pay with points"
_DONATION = "A tree for the tea garden"
_GIVEAWAY = "Win a weekend in Lisbon"
_CODES = 20
_HOLD_SECONDS = 14 * 24 * 3600


def rewards(now: datetime, tier_id: UUID) -> tuple[RewardContent, ...]:
    """Return the catalog; one of its rewards is for members of a tier, one is paused.

    Args:
        now: when the program was made.
    """
    return (
        RewardContent(
            kind=RewardKind.VOUCHER,
            name=_POOL,
            description="Two pots of tea of your choice, in one of our stores.",
            points=150,
            limits=RewardLimits(max_per_member_per_month=2),
        ),
        RewardContent(
            kind=RewardKind.VOUCHER,
            name=_MADE,
            description="Two hours with our roaster, and a pound of coffee to take home.",
            points=800,
            generate_codes=True,
            limits=RewardLimits(max_per_member=1, max_total=60),
        ),
        RewardContent(
            kind=RewardKind.GIFT_CARD,
            name=_CARD,
            description="For our stores and the web, for you or for somebody you like.",
            points=1000,
            face_value=Decimal(10),
            generate_codes=True,
        ),
        RewardContent(
            kind=RewardKind.PRODUCT,
            name=_POT,
            description="By Lumen, one litre; for Blossom members and above.",
            points=1200,
            face_value=Decimal("21.50"),
            stock=25,
            tiers=(tier_id,),
        ),
        RewardContent(
            kind=RewardKind.DISCOUNT,
            name=_MONEY_OFF,
            description="100 points are 1 euro, for at most half of an order.",
            points_per_currency_unit=Decimal(100),
            limits=RewardLimits(max_share_of_order=Decimal("0.5"), min_points=100),
        ),
        RewardContent(
            kind=RewardKind.DONATION,
            name=_DONATION,
            description="Planted in Assam, in your name.",
            points=250,
            face_value=Decimal("2.50"),
        ),
        RewardContent(
            kind=RewardKind.GIVEAWAY,
            name=_GIVEAWAY,
            description="Two nights, and a tasting in our store. One ticket for 50 points, ten at the most.",
            points=50,
            limits=RewardLimits(max_per_member=10),
            ends_at=now + timedelta(days=60),
        ),
        RewardContent(
            kind=RewardKind.SERVICE,
            name="Mill service",
            description="We clean and sharpen your mill; back in autumn.",
            status=RewardStatus.PAUSED,
            points=400,
        ),
    )


class _Deed(NamedTuple):
    """A redemption of the demo, and what became of it."""

    member: MemberRef
    name: str
    reward: str
    then: str = ""
    wanted: Mapping[str, Any] = {}


def _member(number: int) -> MemberRef:
    return MemberRef(external_id=f"demo-{number:04}")


PAYER = _member(30)
"""Pays for a part of a purchase with points."""
PAID_POINTS = 2500
PAID_ORDER = Decimal("79.00")

_PRESENTS = ((14, 1500), (22, 900), (27, 1400), (30, 3000), (35, 700), (41, 1300))
_MOVED = "Moved here from the old stamp card"

_DEEDS = (
    _Deed(_member(22), "tea", _POOL),
    _Deed(_member(35), "tea", _POOL, "use"),
    _Deed(_member(27), "tea", _POOL, "cancel"),
    _Deed(_member(14), "tea", _POOL, "", {"quantity": 2, "hold_seconds": _HOLD_SECONDS}),
    _Deed(_member(27), "card", _CARD),
    _Deed(_member(41), "pot", _POT, "fulfil"),
    _Deed(_member(14), "course", _MADE, "capture", {"hold_seconds": _HOLD_SECONDS}),
    _Deed(_member(22), "tree", _DONATION, "fulfil"),
    _Deed(_member(22), "ticket", _GIVEAWAY, "", {"quantity": 5}),
    _Deed(_member(35), "ticket", _GIVEAWAY, "", {"quantity": 3}),
)


async def fill_catalog(program: Program, tier_id: UUID, vault: Vault) -> UUID:
    """Set up the catalog, let members redeem some of it, and return what PAYER pays for a purchase with.

    Safe to be broken off and begun again, like all of the demo.

    Args:
        tier_id: of the tier that one reward is for.
    """
    # What has been redeemed already is known by its name alone.
    there = await list_rewards(program.id, Page(MAX_SIZE), program.created_at)
    ids = {reward.name: reward.id for reward in there.items}
    for content in rewards(program.created_at, tier_id):
        if content.name not in ids:
            ids[content.name] = (await create_reward(program.id, content, vault)).id
    await upload_codes(program.id, ids[_POOL], _codes(program.id), vault)
    for number, points in _PRESENTS:
        await adjust_points(program.id, _member(number), points, _MOVED, f"demo-moved-{number}")
    for deed in _DEEDS:
        redemption = await _redeem(program.id, deed, ids[deed.reward], vault)
        await _go_on(program.id, deed, redemption, vault)
    order = {"points": PAID_POINTS, "order_amount": PAID_ORDER, "order_id": "demo-paid"}
    payment = _Deed(PAYER, "order", _MONEY_OFF, "", order)
    return (await _redeem(program.id, payment, ids[_MONEY_OFF], vault)).id


def _codes(program_id: UUID) -> list[str]:
    """Return the codes of the pool: always the same, so that they are loaded once."""
    digests = (hashlib.sha256(f"{program_id}:{n}".encode()).hexdigest() for n in range(_CODES))
    return [f"TEA-{digest[:4]}-{digest[4:8]}".upper() for digest in digests]


async def _redeem(program_id: UUID, deed: _Deed, reward_id: UUID, vault: Vault) -> Redemption:
    key = f"{deed.member.external_id}-{deed.name}"
    wanted = Wanted(deed.member, reward_id, key, **deed.wanted)
    (taken,) = await take(program_id, [wanted], vault)
    assert taken.redemption is not None, taken.errors
    return taken.redemption


async def _go_on(program_id: UUID, deed: _Deed, redemption: Redemption, vault: Vault) -> None:
    key = f"{deed.member.external_id}-{deed.name}-{deed.then}"
    match deed.then:
        case "cancel":
            await cancel(program_id, redemption.id, "Cannot come after all", key)
        case "capture":
            await capture(program_id, redemption.id, key)
        case "fulfil":
            await fulfil(program_id, redemption.id, "Sent with the morning post")
        case "use":
            async with connection() as sql:
                codes = await open_codes(sql, vault, program_id, [redemption.id])
            for code in codes[redemption.id]:
                await use_code(program_id, code, f"{key}-{code}", vault)
