"""What several awards of one purchase keep together, also where less earns more."""

from datetime import date
from decimal import Decimal

import pytest

from app.database import connection
from app.earning.rules import ProductFilter
from app.ledger.reads import get_balances
from tests.earning.shop import Shop, line, part
from tests.helpers import policy_of, rolling, set_now

NOON = (2026, 3, 2, 12)


async def test_goods_whose_own_rule_falls_away_keep_what_other_rules_make_up_for() -> None:
    """A REPLACE rule paid 300 for 60; below its minimum the other rule pays 1 for 1, for all that is left."""
    shop = await Shop.open()
    await shop.rule()
    await shop.rule(5, products=ProductFilter(("toy",)), minimum_amount=Decimal(50))
    member = await shop.member()
    event = await shop.buy(member, line("60", "toy", "6"), "40")
    assert event.points == 340
    # 40 of the toys earn 40 by the other rule, which would give 80 in all and gave 40.
    assert (await shop.back(event, part(1, "2"))).points == 340 - 80
    assert await shop.net(member) == [80]
    assert (await shop.back(event, part(2))).points == 40
    assert (await shop.back(event)).points == 40
    assert await shop.net(member) == [0]
    await shop.verify()


async def lavish(shop: Shop) -> None:
    """Set up rules by which less can earn more: what replaces pays little, and asks for 50."""
    await shop.rule(2)
    await shop.rule("0.1", products=ProductFilter(("toy",)), minimum_amount=Decimal(50))


async def test_never_more_than_was_granted_is_left() -> None:
    shop = await Shop.open()
    await lavish(shop)
    member = await shop.member()
    event = await shop.buy(member, line("60", "toy", "6"))
    assert event.points == 6
    refund = await shop.back(event, part(1, "2"))
    assert refund.points == 0
    assert await shop.net(member) == [6]
    assert (await shop.back(event)).points == 6
    await shop.verify()


async def test_points_are_given_again_where_less_earns_more_and_taken_once_more() -> None:
    shop = await Shop.open()
    await lavish(shop)
    member = await shop.member()
    event = await shop.buy(member, line("60", "toy", "6"), "40")
    assert event.points == 86
    assert (await shop.back(event, part(2))).points == 80
    assert await shop.net(member) == [6]
    # 40 of toys earn 80 by the rule for everything.
    assert (await shop.back(event, part(1, "2"))).points == -74
    assert await shop.net(member) == [80]
    await shop.verify()
    assert (await shop.back(event, part(1, "3"))).points == 60
    assert (await shop.back(event)).points == 20
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_what_was_given_again_last_is_taken_first() -> None:
    shop = await Shop.open()
    await lavish(shop)
    await shop.rule("0.1", products=ProductFilter(("hat",)), minimum_amount=Decimal(50))
    member = await shop.member()
    event = await shop.buy(member, line("60", "toy", "6"), line("60", "hat", "6"), "80")
    assert event.points == 172
    refunds = [await shop.back(event, each) for each in (part(3), part(1, "2"), part(2, "2"), part(1, "3"))]
    assert [each.points for each in refunds] == [160, -74, -74, 60]
    async with connection() as sql:
        again = await sql.fetchval(
            "SELECT reference FROM refund_award WHERE refund_id = $1 AND points < 0", refunds[2].id
        )
        taken = await sql.fetch(
            "SELECT reference, points FROM refund_award WHERE refund_id = $1", refunds[3].id
        )
    assert [tuple(row) for row in taken] == [(again, 60)]
    await shop.refund(event)
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_points_that_are_given_again_pay_what_is_owed() -> None:
    shop = await Shop.open()
    await lavish(shop)
    member = await shop.member()
    event = await shop.buy(member, line("60", "toy", "6"), "40")
    other = await shop.buy(member, "100")
    await shop.spend(member, 286)
    taken = await shop.back(event, part(2))
    assert (taken.points, taken.debt) == (80, 80)
    assert (await shop.back(event, part(1, "2"))).points == -74
    assert await shop.net(member) == [-6]
    await shop.refund(event)
    await shop.refund(other)
    assert await shop.net(member) == [-286]
    await shop.verify()


@pytest.mark.parametrize("day", [9, 10, 11])
async def test_points_are_given_again_until_the_last_day_of_the_first_time(
    monkeypatch: pytest.MonkeyPatch, day: int
) -> None:
    set_now(monkeypatch, 2026, 1, 10)
    shop = await Shop.open(expiry=rolling(1))
    await lavish(shop)
    member = await shop.member()
    event = await shop.buy(member, line("60", "toy", "6"), "40")
    async with connection() as sql:
        (last,) = await sql.fetchrow("SELECT max(expires_on) FROM lot WHERE account_id = $1", member.id)
    await shop.refund(event, part(2))
    set_now(monkeypatch, 2026, 2, day)
    late = date(2026, 2, day) > last
    assert late is (day == 11)
    refund = await shop.back(event, part(1, "2"))
    assert refund.points == (6 if late else -74)
    assert await shop.net(member) == [-6 if late else 80]
    set_now(monkeypatch, 2026, 2, 20)
    assert await shop.net(member) == [-6 if late else 0]
    await shop.verify()


async def test_points_that_are_given_again_wait_until_those_of_the_first_time_would_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, *NOON)
    shop = await Shop.open(pending_days=14)
    await lavish(shop)
    member = await shop.member()
    event = await shop.buy(member, line("60", "toy", "6"), "40")
    await shop.refund(event, part(2))
    await shop.refund(event, part(1, "2"))
    (found,) = await get_balances(await policy_of(shop.program), [member.id])
    assert found
    assert (found.available, found.pending) == (0, 80)
    set_now(monkeypatch, 2026, 3, 16)
    (found,) = await get_balances(await policy_of(shop.program), [member.id])
    assert found
    assert (found.available, found.pending) == (80, 0)
    await shop.refund(event)
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_points_that_would_have_expired_are_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 10)
    shop = await Shop.open(expiry=rolling(1))
    await lavish(shop)
    member = await shop.member()
    event = await shop.buy(member, line("60", "toy", "6"), "40")
    await shop.refund(event, part(2))
    set_now(monkeypatch, 2026, 3, 1)
    assert (await shop.back(event, part(1, "2"))).points == 6
    assert await shop.net(member) == [-6]
    await shop.verify()


async def test_awards_under_one_cap_make_up_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gave 300 and B 200 of 400 under a cap of 500: without A's goods B would have given 400."""
    set_now(monkeypatch, *NOON)
    shop = await Shop.open(max_points_per_day=500)
    await shop.rule(1, products=ProductFilter(("a",)), priority=1)
    await shop.rule(1, products=ProductFilter(("b",)))
    member = await shop.member()
    event = await shop.buy(member, line("300", "a", "3"), line("400", "b"))
    assert event.points == 500
    assert (await shop.back(event, part(1))).points == 0
    assert (await shop.back(event, part(1))).points == 0
    assert (await shop.back(event, part(1))).points == 100
    assert await shop.net(member) == [400]
    assert (await shop.back(event)).points == 400
    await shop.verify()
