"""Refunds go by the receipt of their purchase: what has changed since plays no part."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import msgspec
import pytest

from app.campaigns.campaigns import Campaign
from app.campaigns.checks import NewCampaign
from app.campaigns.service import create_campaign, end_campaign, update_campaign
from app.database import connection
from app.earning.rule_service import set_rule_status, update_rule
from app.earning.rules import PointsPerAmount, ProductFilter, Rule, RuleLimits, RuleStatus
from app.members.reads import MemberRow
from app.programs.policy import MultiplierStacking, Rounding
from app.programs.service import update_program
from app.tiers.service import set_member_tier, update_tier
from app.tiers.tiers import Tier
from tests.earning.shop import Shop, line, part
from tests.helpers import by_id, set_now
from tests.tiers.making import make_tier


async def test_a_refund_after_the_rule_was_edited_takes_back_exactly_what_was_given() -> None:
    shop = await Shop.open()
    rule = await shop.rule(3)
    member = await shop.member()
    event = await shop.buy(member, "10.00", "20.00")
    await update_rule(shop.program.id, rule.id, {"points_per_amount": PointsPerAmount(Decimal(1))})
    assert (await shop.back(event, part(1))).points == 30
    await set_rule_status(shop.program.id, rule.id, RuleStatus.PAUSED)
    await set_rule_status(shop.program.id, rule.id, RuleStatus.ARCHIVED)
    assert (await shop.back(event)).points == 60
    assert await shop.balance(member) == (0, 0)
    await shop.verify()


class _There(NamedTuple):
    """Where a purchase was made, and what it met there."""

    shop: Shop
    now: datetime
    rule: Rule
    tier: Tier
    campaign: Campaign
    member: MemberRow

    @property
    def program_id(self) -> UUID:
        return self.shop.program.id


async def _edit(there: _There) -> None:
    changes = {"points_per_amount": PointsPerAmount(Decimal(9)), "minimum_amount": Decimal(1000)}
    await update_rule(there.program_id, there.rule.id, changes)


async def _pause(there: _There) -> None:
    await set_rule_status(there.program_id, there.rule.id, RuleStatus.PAUSED)


async def _archive(there: _There) -> None:
    await set_rule_status(there.program_id, there.rule.id, RuleStatus.ARCHIVED)


async def _rival(there: _There) -> None:
    await there.shop.rule(50, products=ProductFilter(("toy",)), priority=9)


async def _put_off(there: _There) -> None:
    later = there.now + timedelta(days=30)
    await update_rule(there.program_id, there.rule.id, {"starts_at": later})


async def _limit(there: _There) -> None:
    await update_rule(
        there.program_id, there.rule.id, {"limits": RuleLimits(max_points_per_transaction=1, budget=5)}
    )


async def _round(there: _There) -> None:
    await update_program(there.program_id, {"rounding": Rounding.CEILING})


async def _stack(there: _There) -> None:
    await update_program(there.program_id, {"multiplier_stacking": MultiplierStacking.BEST})


async def _cap(there: _There) -> None:
    await update_program(there.program_id, {"max_points_per_day": 1})


async def _uncap(there: _There) -> None:
    await update_program(there.program_id, {"max_points_per_day": None})


async def _tier(there: _There) -> None:
    await update_tier(there.program_id, there.tier.id, {"multiplier": Decimal(7)})


async def _campaign(there: _There) -> None:
    await update_campaign(there.program_id, there.campaign.id, {"multiplier": Decimal(7)})


async def _campaign_ends(there: _There) -> None:
    await end_campaign(there.program_id, there.campaign.id)


async def _new_tier(there: _There) -> None:
    tier = await make_tier(there.program_id, 100, multiplier=Decimal(9))
    await set_member_tier(there.program_id, by_id(there.member), tier.id, None, None, "A gift")


CHANGES = [
    *(_edit, _pause, _archive, _rival, _put_off, _limit, _round, _stack, _cap, _uncap),
    *(_tier, _campaign, _campaign_ends, _new_tier),
]


@pytest.mark.parametrize("change", CHANGES)
async def test_what_changes_after_a_purchase_changes_nothing_about_its_refunds(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[_There], Awaitable[None]]
) -> None:
    """10 toys for 33.33, at 0.7 points, as a x2 member in a x1.5 campaign: 69.99 points."""
    now = set_now(monkeypatch, 2026, 3, 2, 12)
    shop = await Shop.open(max_points_per_day=500)
    rule = await shop.rule("0.7")
    tier = await make_tier(shop.program.id, multiplier=Decimal(2))
    week = timedelta(days=7)
    campaign = await create_campaign(
        shop.program.id,
        NewCampaign(name="March", starts_at=now - week, ends_at=now + week, multiplier=Decimal("1.5")),
    )
    member = await shop.member()
    event = await shop.buy(member, line("33.33", "toy", "10"))
    assert event.points == 69
    set_now(monkeypatch, 2026, 3, 3, 12)
    await change(_There(shop, now, rule, tier, campaign, member))
    # 30.00 are left, then 16.66, then nothing: 63, 34.986 and 0 points.
    assert (await shop.back(event, part(1))).points == 69 - 63
    assert (await shop.back(event, part(1, "4"))).points == 63 - 34
    assert (await shop.back(event)).points == 34
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_room_under_limits_is_that_of_the_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was trimmed is trimmed in the same way for the rest, whoever has used the room since."""
    set_now(monkeypatch, 2026, 3, 2, 12)
    shop = await Shop.open(max_points_per_day=100)
    await shop.rule()
    member = await shop.member()
    await shop.buy(member, total="40")
    event = await shop.buy(member, line("80", quantity="8"))
    assert event.points == 60
    assert (await shop.back(event, part(1, "2"))).points == 0
    assert (await shop.back(event, part(1))).points == 10
    await shop.verify()


@pytest.mark.parametrize("edited", [False, True])
async def test_purchases_without_a_receipt_go_by_the_rules_of_their_awards(edited: bool) -> None:
    """As they were recorded before receipts were kept."""
    shop = await Shop.open()
    base, fixed = await shop.rule(2), await shop.rule(fixed=7)
    member = await shop.member()
    event = await shop.buy(member, "60", "40")
    async with connection() as sql:
        await sql.execute(
            "UPDATE event_outcome SET rules_version = NULL, context = NULL WHERE event_id = $1", event.id
        )
        await sql.execute("UPDATE award SET day = NULL WHERE event_id = $1", event.id)
        await sql.execute("UPDATE earning_rule_version SET rules_version = 0 WHERE rule_id = $1", base.id)
    if edited:
        await update_rule(shop.program.id, base.id, {"points_per_amount": PointsPerAmount(Decimal(1))})
        await set_rule_status(shop.program.id, fixed.id, RuleStatus.ARCHIVED)
    assert (await shop.back(event, part(1))).points == 120
    assert (await shop.back(event)).points == 87
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_a_receipt_that_kept_nothing_but_the_usual_is_enough() -> None:
    shop = await Shop.open()
    await shop.rule(2)
    member = await shop.member()
    event = await shop.buy(member, "60", "40")
    async with connection() as sql:
        context = await sql.fetchval("SELECT context FROM event_outcome WHERE event_id = $1", event.id)
    assert msgspec.json.encode(context) == b"{}"
    assert (await shop.back(event, part(2))).points == 80
    await shop.verify()
