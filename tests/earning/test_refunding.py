"""Refunds of purchases, through the database: what is taken back, from where, and that it is proven."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.campaigns.checks import NewCampaign
from app.campaigns.service import create_campaign
from app.earning.events import Event, Incoming
from app.earning.recording import record_now
from app.earning.refunding import EventRef, refund_purchase
from app.earning.refunds import Refunded
from app.earning.remainders import Wish
from app.earning.rule_service import set_rule_status, update_rule
from app.earning.rules import PointsPerAmount, RuleStatus
from app.ledger.operations import EntryKind
from app.ledger.reads import get_balances
from app.members.reads import MemberRow
from app.programs.models import Program
from app.tiers.inputs import NewTier
from app.tiers.service import create_tier
from tests.helpers import (
    Line,
    by_id,
    find_differences,
    new_member,
    new_program,
    new_rule,
    policy_of,
    post,
    purchase,
    rolling,
    set_now,
)

NOON = (2026, 3, 2, 12)


async def buy(program: Program, member: MemberRow, *amounts: str, **fields: Any) -> Event:
    """Record a purchase with a line of each amount, and return it."""
    lines = [Line(f"sku-{n}", Decimal(amount)) for n, amount in enumerate(amounts, start=1)]
    (recorded,) = await record_now(
        program.id, [Incoming(purchase(None, lines=lines, **fields), by_id(member))]
    )
    assert recorded.event, recorded.errors
    return recorded.event


async def give_back(program: Program, event: Event, name: str, *lines: int, **fields: Any) -> Refunded:
    """Refund whole lines of a purchase, or what else `fields` say."""
    wishes = [Wish(number, event.body.lines[number - 1].quantity) for number in lines]
    if wishes:
        fields["lines"] = wishes
    return await refund_purchase(program.id, EventRef(id=event.id), name, **fields)


async def balance(program: Program, member: MemberRow) -> tuple[int, int]:
    """Return what a member has, pending points included, and owes."""
    (found,) = await get_balances(await policy_of(program), [member.id])
    assert found
    return max(0, found.available) + found.pending, max(0, -found.available)


async def test_three_lines_under_factors_and_a_cap_net_to_nothing_line_by_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = set_now(monkeypatch, *NOON)
    program = await new_program(max_points_per_day=500, debt_limit=10_000)
    await new_rule(program)
    await create_tier(program.id, NewTier(name="Gold", threshold=Decimal(0), multiplier=Decimal(2)))
    day = timedelta(days=1)
    await create_campaign(
        program.id,
        NewCampaign(name="Black Friday", starts_at=now - day, ends_at=now + day, multiplier=Decimal(3)),
    )
    member = await new_member(program)
    event = await buy(program, member, "50.00", "60.00", "20.00")
    assert event.points == 500
    first = await give_back(program, event, "r1", 1)
    assert [refund.points for refund in first.refunds] == [20]
    assert await balance(program, member) == (480, 0)
    # The room that came back is there for the rest of that day.
    assert (await buy(program, member, "10.00")).points == 20
    second = await give_back(program, event, "r2", 2)
    third = await give_back(program, event, "r3", 3)
    assert [each.refunds[0].points for each in (second, third)] == [360, 120]
    assert await balance(program, member) == (20, 0)
    assert not await find_differences(program.id)


async def test_ten_refunds_of_one_equal_one_of_ten() -> None:
    program = await new_program()
    await new_rule(program, Decimal("0.77"))
    one, ten = await new_member(program), await new_member(program)
    bought = [await buy(program, each, "33.33") for each in (one, ten)]
    for n in range(10):
        await refund_purchase(program.id, EventRef(id=bought[0].id), f"small-{n}", amount=Decimal(1))
    await refund_purchase(program.id, EventRef(id=bought[1].id), "large", amount=Decimal(10))
    assert await balance(program, one) == await balance(program, ten) == (17, 0)
    assert not await find_differences(program.id)


async def test_a_refund_after_the_rule_was_edited_takes_back_exactly_what_was_given() -> None:
    program = await new_program()
    rule = await new_rule(program, 3)
    member = await new_member(program)
    event = await buy(program, member, "10.00", "20.00")
    await update_rule(program.id, rule.id, {"points_per_amount": PointsPerAmount(Decimal(1))})
    assert (await give_back(program, event, "r1", 1)).refunds[0].points == 30
    await set_rule_status(program.id, rule.id, RuleStatus.PAUSED)
    await set_rule_status(program.id, rule.id, RuleStatus.ARCHIVED)
    assert (await give_back(program, event, "r2")).refunds[0].points == 60
    assert await balance(program, member) == (0, 0)
    assert not await find_differences(program.id)


@pytest.mark.parametrize(
    ("limit", "debt", "written_off", "left"), [(0, 0, 100, 30), (50, 50, 50, 0), (10_000, 100, 0, 0)]
)
async def test_what_was_spent_becomes_debt_and_the_next_earn_pays_it_first(
    limit: int, debt: int, written_off: int, left: int
) -> None:
    program = await new_program(debt_limit=limit)
    await new_rule(program)
    member = await new_member(program)
    event = await buy(program, member, "100.00")
    await post(program, member, EntryKind.REDEEM, 100)
    (refund,) = (await give_back(program, event, "all")).refunds
    assert (refund.points, refund.debt, refund.written_off) == (debt, debt, written_off)
    assert await balance(program, member) == (0, debt)
    await buy(program, member, "30.00")
    assert await balance(program, member) == (left, max(0, debt - 30))
    assert not await find_differences(program.id)


async def test_points_that_have_expired_are_taken_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 10)
    program = await new_program(expiry=rolling(1), debt_limit=1000)
    await new_rule(program)
    member = await new_member(program)
    event = await buy(program, member, "100.00")
    set_now(monkeypatch, 2026, 2, 20)
    await buy(program, member, "30.00")
    (refund,) = (await give_back(program, event, "late")).refunds
    assert (refund.points, refund.debt) == (100, 70)
    assert await balance(program, member) == (0, 70)
    assert not await find_differences(program.id)


async def test_pending_points_are_taken_before_they_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, *NOON)
    program = await new_program(pending_days=14)
    await new_rule(program)
    member = await new_member(program)
    event = await buy(program, member, "100.00", "11.00")
    assert (await give_back(program, event, "soon", 1)).refunds[0].points == 100
    assert await balance(program, member) == (11, 0)
    set_now(monkeypatch, 2026, 3, 20)
    assert (await give_back(program, event, "later", 2)).refunds[0].points == 11
    assert await balance(program, member) == (0, 0)
    assert not await find_differences(program.id)


async def test_the_same_refund_again_is_answered_as_the_first_time() -> None:
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    event = await buy(program, member, "100.00", "11.00")
    when = datetime.now(UTC)
    first = await give_back(program, event, "r1", 1, occurred_at=when)
    again = await give_back(program, event, "r1", 1, occurred_at=when)
    assert (first.replayed, again.replayed) == (False, True)
    assert first.refunds == again.refunds
    assert await balance(program, member) == (11, 0)
