"""Room under limits that refunds give back: of the own period, for the own member, and of budgets for all."""

from datetime import datetime
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest

from app.database import connection
from app.earning.rule_service import update_rule
from app.earning.rules import Frequency, Period, ProductFilter, RuleLimits
from app.programs.service import update_program
from tests.earning.shop import Shop, at, line, part
from tests.helpers import set_now


@pytest.fixture(autouse=True)
def _late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything happens in March 2026, and is told of on its last day."""
    set_now(monkeypatch, 2026, 3, 31, 23)


async def test_room_of_a_day_comes_back_on_that_day_only() -> None:
    shop = await Shop.open(max_points_per_day=100)
    await shop.rule()
    member = await shop.member()
    first = await shop.buy(member, total="100", at=at(2))
    await shop.buy(member, total="100", at=at(3))
    await shop.refund(first, amount="30", occurred_at=at(3))
    assert (await shop.buy(member, total="50", at=at(3, 13))).points == 0
    assert (await shop.buy(member, total="50", at=at(2, 13))).points == 30
    await shop.verify()


async def test_room_of_a_rules_day_comes_back_on_that_day_only() -> None:
    shop = await Shop.open()
    await shop.rule(limits=RuleLimits(max_points_per_day=100))
    member = await shop.member()
    first = await shop.buy(member, total="100", at=at(2))
    await shop.buy(member, total="100", at=at(3))
    await shop.refund(first, amount="30", occurred_at=at(3))
    assert (await shop.buy(member, total="50", at=at(3, 13))).points == 0
    assert (await shop.buy(member, total="50", at=at(2, 13))).points == 30
    await shop.verify()


async def test_days_are_those_of_the_programs_zone() -> None:
    shop = await Shop.open(max_points_per_day=100, timezone="Asia/Tokyo")
    await shop.rule()
    member = await shop.member()
    # 2 March in London, and the 3rd in Tokyo.
    first = await shop.buy(member, total="100", at=at(2, 20))
    await shop.refund(first)
    assert (await shop.buy(member, total="60", at=at(3, 10))).points == 60
    assert (await shop.buy(member, total="60", at=at(3, 10))).points == 40
    await shop.verify()


TIMES: list[tuple[dict[str, Any], datetime, datetime]] = [
    ({"frequency": Frequency(1, Period.DAY)}, at(2, 20), at(3)),
    ({"frequency": Frequency(1, Period.WEEK)}, at(8), at(9)),
    ({"frequency": Frequency(1, Period.MONTH)}, at(31, 0), datetime.fromisoformat("2026-02-28T12:00:00Z")),
    ({"frequency": Frequency(1, Period.YEAR)}, at(31, 0), datetime.fromisoformat("2025-12-31T12:00:00Z")),
    ({"cooldown_minutes": 60}, at(2, 12, 59), at(2, 13)),
    ({"max_times_per_member": 1}, at(31, 0), at(31, 0)),
]


@pytest.mark.parametrize(("limits", "inside", "outside"), TIMES)
async def test_a_time_that_a_rule_paid_is_free_again_once_nothing_of_it_is_left(
    limits: dict[str, Any], inside: datetime, outside: datetime
) -> None:
    shop = await Shop.open()
    await shop.rule(limits=RuleLimits(**limits))
    member = await shop.member()
    event = await shop.buy(member, "60", "40", at=at(2))
    await shop.refund(event, part(1))
    # 40 points are left: it has paid once in the period.
    assert (await shop.buy(member, total="10", at=inside)).points == 0
    await shop.refund(event, part(2))
    last = await shop.buy(member, total="10", at=inside)
    assert last.points == 10
    await shop.refund(last)
    if "max_times_per_member" not in limits:
        other = await shop.buy(member, total="10", at=outside)
        assert other.points == 10
        # What comes back there makes no room here.
        again = await shop.buy(member, total="10", at=at(2))
        assert again.points == 10
        await shop.refund(other)
        assert (await shop.buy(member, total="10", at=inside)).points == 0
    await shop.verify()


async def test_others_find_the_room_of_a_budget_that_a_refund_gave_back() -> None:
    shop = await Shop.open()
    rule = await shop.rule(limits=RuleLimits(budget=100))
    one, other = await shop.member(), await shop.member()
    event = await shop.buy(one, "60", "40")
    assert (await shop.buy(other, total="50")).points == 0
    await shop.refund(event, part(2))
    assert (await shop.buy(other, total="50")).points == 40
    assert await shop.spent(rule) == 100
    await shop.refund(event)
    assert await shop.spent(rule) == 40
    await shop.verify()


async def test_points_under_a_version_before_the_budget_give_room_too() -> None:
    """They were in the sum that the budget began with."""
    shop = await Shop.open()
    rule = await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, total="60")
    await update_rule(shop.program.id, rule.id, {"limits": RuleLimits(budget=100)})
    assert await shop.spent(rule) == 60
    await shop.refund(event)
    assert await shop.spent(rule) == 0
    assert (await shop.buy(member, total="120")).points == 100
    await shop.verify()


async def test_a_budget_that_was_taken_off_counts_on_for_when_it_comes_back() -> None:
    shop = await Shop.open()
    rule = await shop.rule(limits=RuleLimits(budget=1000))
    member = await shop.member()
    await shop.buy(member, total="10")
    await update_rule(shop.program.id, rule.id, {"limits": RuleLimits()})
    event = await shop.buy(member, total="20")
    assert await shop.spent(rule) == 30
    await shop.refund(event)
    assert await shop.spent(rule) == 10
    await update_rule(shop.program.id, rule.id, {"limits": RuleLimits(budget=50)})
    assert (await shop.buy(member, total="60")).points == 40
    await shop.verify()


async def test_a_budget_that_is_set_after_a_refund_counts_what_was_left() -> None:
    shop = await Shop.open()
    rule = await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, total="60")
    await shop.refund(event, amount="20")
    await update_rule(shop.program.id, rule.id, {"limits": RuleLimits(budget=100)})
    assert await shop.spent(rule) == 40
    assert (await shop.buy(member, total="80")).points == 60
    await shop.verify()


async def test_a_cap_that_is_set_in_the_middle_of_a_day_knows_of_the_refunds_before_it() -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, total="60", at=at(2))
    await shop.refund(event, amount="20")
    await update_program(shop.program.id, {"max_points_per_day": 100})
    assert (await shop.buy(member, total="80", at=at(2, 13))).points == 60
    await shop.verify()


async def test_what_a_limit_trimmed_stays_trimmed_when_room_comes_back() -> None:
    shop = await Shop.open(max_points_per_day=100)
    await shop.rule()
    member = await shop.member()
    first = await shop.buy(member, total="80", at=at(2))
    second = await shop.buy(member, total="80", at=at(2, 13))
    assert second.points == 20
    await shop.refund(first)
    assert await shop.net(member) == [20]
    # Of 80 with room for 20: the first 60 that come back take nothing.
    assert (await shop.back(second, amount="60")).points == 0
    assert (await shop.back(second, amount="5")).points == 5
    await shop.verify()


async def test_points_that_are_given_again_take_up_the_room_of_their_day() -> None:
    shop = await Shop.open(max_points_per_day=100)
    await shop.rule(2)
    await shop.rule("0.1", products=ProductFilter(("toy",)), minimum_amount=Decimal(50))
    member = await shop.member()
    event = await shop.buy(member, line("60", "toy", "6"), "40", at=at(2))
    assert event.points == 86
    await shop.refund(event, part(2))
    await shop.refund(event, part(1, "2"))
    assert await shop.net(member) == [80]
    assert (await shop.buy(member, total="50", at=at(2))).points == 20
    await shop.verify()


async def test_a_rules_own_limit_for_one_purchase_holds_for_the_rest_too() -> None:
    shop = await Shop.open()
    await shop.rule(limits=RuleLimits(max_points_per_transaction=50))
    member = await shop.member()
    event = await shop.buy(member, line("100", quantity="10"))
    assert event.points == 50
    assert (await shop.back(event, part(1, "5"))).points == 0
    assert (await shop.back(event, part(1))).points == 10
    await shop.verify()


async def test_points_that_were_spent_before_the_refund_are_not_earned_again_and_again() -> None:
    """Nothing is owed here: what was spent would be earned anew, whatever the limits say."""
    shop = await Shop.open(debt_limit=0)
    rule = await shop.rule(limits=RuleLimits(max_times_per_member=1, max_points_per_day=100, budget=150))
    member, other = await shop.member(), await shop.member()
    earned = []
    for _ in range(3):
        event = await shop.buy(member, total="100", at=at(2))
        earned.append(event.points)
        if event.points:
            await shop.spend(member, event.points)
        await shop.refund(event)
    assert earned == [100, 0, 0]
    assert await shop.spent(rule) == 100
    assert (await shop.buy(other, total="100")).points == 50
    await shop.verify()


OPEN_TO_ABUSE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    *(({}, limits) for limits, inside, _ in TIMES if inside <= at(31)),
    ({}, {"max_points_per_day": 100}),
    ({}, {"budget": 100}),
    ({"max_points_per_day": 100}, {}),
]


@pytest.mark.parametrize(("program", "limits"), OPEN_TO_ABUSE)
async def test_what_was_written_off_frees_no_room_under_any_limit(
    program: dict[str, Any], limits: dict[str, Any]
) -> None:
    shop = await Shop.open(debt_limit=0, **program)
    await shop.rule(limits=RuleLimits(**limits))
    member = await shop.member()
    event = await shop.buy(member, "60", "40", at=at(2))
    await shop.spend(member, 70)
    assert (await shop.back(event)).written_off == 70
    again = await shop.buy(member, total="100", at=at(2))
    # Limits that trim leave what was taken; those that turn away count what has paid.
    assert again.points == (30 if {"max_points_per_day", "budget"} & {*program, *limits} else 0)
    await shop.verify()


async def test_a_budget_that_is_set_later_counts_what_was_written_off() -> None:
    shop = await Shop.open(debt_limit=0)
    rule = await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, total="100")
    await shop.spend(member, 70)
    await shop.refund(event)
    await update_rule(shop.program.id, rule.id, {"limits": RuleLimits(budget=100)})
    assert await shop.spent(rule) == 70
    await shop.verify()


async def test_what_is_given_again_takes_up_only_the_room_that_was_freed() -> None:
    shop = await Shop.open(debt_limit=0, max_points_per_day=100)
    base = await shop.rule(2, limits=RuleLimits(budget=1000))
    await shop.rule("0.1", products=ProductFilter(("toy",)), minimum_amount=Decimal(50))
    member = await shop.member()
    event = await shop.buy(member, line("60", "toy", "6"), "40", at=at(2))
    await shop.spend(member, 50)
    for step in (part(2), part(1, "2"), part(1, "3"), part(1, "1")):
        await shop.refund(event, step)
        await shop.verify()
    assert await shop.spent(base) == 50
    assert (await shop.buy(member, total="50", at=at(2))).points == 50
    await shop.verify()


async def test_what_was_written_off_before_this_version_is_counted_again() -> None:
    """Versions before gave back its room: the migration takes it, and takes it only once."""
    migration = import_module("app.migrations.0007_workers")
    shop = await Shop.open(debt_limit=0, timezone="Asia/Tokyo")
    rule = await shop.rule(limits=RuleLimits(budget=1000))
    member = await shop.member()
    event = await shop.buy(member, total="100", at=at(2, 20))
    await shop.spend(member, 70)
    await shop.refund(event)
    found = """
        SELECT (SELECT spent FROM earning_budget WHERE rule_id = $1),
            (SELECT points FROM earning_counter WHERE member_id = $2 AND day = '2026-03-03')
    """
    async with connection() as sql:
        undone = sql.transaction()
        await undone.start()
        counted = []
        for sign in "-+":
            await sql.execute(migration.ROOM.format(sign=sign))
            counted.append(tuple(await sql.fetchrow(found, rule.id, member.id)))
        await undone.rollback()
    assert counted == [(0, 0), (70, 70)]
    await shop.verify()
