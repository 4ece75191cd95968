"""Refunds of purchases, through the database: how much is taken back for what goes back."""

from datetime import timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from app.campaigns.checks import NewCampaign
from app.campaigns.service import create_campaign
from app.earning.refunding import EventRef, refund_purchase
from app.earning.remainders import Wish
from app.earning.rules import ProductFilter
from app.errors import Refused
from app.members.inputs import MemberStatus
from app.members.service import update_member
from tests.earning.shop import Shop, at, line, part
from tests.helpers import by_id, set_now
from tests.tiers.making import make_tier

NOON = (2026, 3, 2, 12)


async def test_three_lines_under_factors_and_a_cap_net_to_nothing_line_by_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = set_now(monkeypatch, *NOON)
    shop = await Shop.open(max_points_per_day=500)
    await shop.rule()
    await make_tier(shop.program.id, name="Gold", multiplier=Decimal(2))
    day = timedelta(days=1)
    await create_campaign(
        shop.program.id,
        NewCampaign(name="Black Friday", starts_at=now - day, ends_at=now + day, multiplier=Decimal(3)),
    )
    member = await shop.member()
    event = await shop.buy(member, "50.00", "60.00", "20.00")
    assert event.points == 500
    assert (await shop.back(event, part(1))).points == 20
    assert await shop.balance(member) == (480, 0)
    # The room that came back is there for the rest of that day.
    assert (await shop.buy(member, "10.00")).points == 20
    assert (await shop.back(event, part(2))).points == 360
    assert (await shop.back(event, part(3))).points == 120
    assert await shop.balance(member) == (20, 0)
    await shop.verify()


async def test_ten_refunds_of_one_equal_one_of_ten() -> None:
    shop = await Shop.open()
    await shop.rule("0.77")
    one, ten = await shop.member(), await shop.member()
    bought = [await shop.buy(each, "33.33") for each in (one, ten)]
    for _ in range(10):
        await shop.refund(bought[0], amount="1")
    await shop.refund(bought[1], amount="10")
    assert await shop.net(one, ten) == [17, 17]
    await shop.verify()


@pytest.mark.parametrize(
    ("currency", "amount", "shares"),
    [
        ("EUR", "10.00", ["3.33", "3.34", "3.33"]),
        ("JPY", "1000", ["333", "334", "333"]),
        ("KWD", "1.000", ["0.333", "0.334", "0.333"]),
    ],
)
async def test_pieces_come_back_one_by_one_for_thirds_of_the_line(
    currency: str, amount: str, shares: list[str]
) -> None:
    shop = await Shop.open(currency=currency)
    await shop.rule(1000)
    member = await shop.member()
    event = await shop.buy(member, line(amount, quantity="3"))
    for share in shares:
        refund = await shop.back(event, part(1))
        assert (refund.amount, refund.points) == (Decimal(share), 1000 * Decimal(share))
    assert await shop.net(member) == [0]
    await shop.verify()


PARTS: list[dict[str, Any]] = [
    {"parts": [part(1, "2")]},
    {"parts": [part(1), part(2)]},
    {"amount": "12.34"},
    {"parts": [part(3, "1", "5")], "amount": "1"},
]


@pytest.mark.parametrize("order", list(permutations(range(4))))
async def test_refunds_in_every_order_come_to_the_same(order: tuple[int, ...]) -> None:
    shop = await Shop.open()
    await shop.rule("1.3")
    await shop.rule(3, products=ProductFilter(("toy",)))
    await shop.rule(fixed=20, minimum_amount=Decimal(60))
    member = await shop.member()
    event = await shop.buy(member, line("29.99", "toy", "4"), line("17.50"), line("40", quantity="2"))
    for n in order:
        fields = dict(PARTS[n])
        await shop.refund(event, *fields.pop("parts", ()), **fields)
    # 29.99 / 4 of the toys are left, and 40 - 5 of the rest, less 13.34.
    assert await shop.net(member) == [int(Decimal("7.50") * 3) + int(Decimal("21.66") * Decimal("1.3"))]
    await shop.verify()


async def test_a_line_by_another_amount_takes_back_that_amount() -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, line("100", quantity="2"), "50")
    assert (await shop.back(event, part(1, "1", "30"))).points == 30
    assert (await shop.back(event, part(1))).points == 70
    assert await shop.net(member) == [50]
    # The goods are back; what the shop kept for them has still been paid.
    assert (await shop.back(event, part(2, "1", "0"))).points == 0
    assert await shop.net(member) == [50]
    assert (await shop.refund(event)).refunds[0].points == 50
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_an_amount_comes_on_top_of_lines() -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, "100", "50")
    refund = await shop.back(event, part(2), amount="20")
    assert (refund.amount, refund.points) == (70, 70)
    assert [(each.number, each.amount) for each in refund.lines] == [(2, 50)]
    await shop.verify()


async def test_goodwill_first_and_then_all_lines_net_to_nothing() -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, "50", "50")
    assert (await shop.back(event, amount="30")).points == 30
    assert (await shop.back(event, part(1))).points == 50
    # Of the last line 20 are left, and not 50.
    last = await shop.back(event, part(2))
    assert (last.amount, last.points) == (20, 20)
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_the_whole_after_a_part_is_what_is_left() -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, line("60", quantity="3"), "40")
    await shop.refund(event, part(1), amount="10")
    whole = await shop.back(event)
    assert (whole.amount, whole.points, whole.whole) == (70, 70, True)
    assert [(each.number, each.quantity, each.amount) for each in whole.lines] == [(1, 2, 40), (2, 1, 30)]
    assert await shop.net(member) == [0]
    await shop.verify()


@pytest.mark.parametrize("parts", [[{"amount": "30"}, {"amount": "70"}], [{"amount": "30"}, {}], [{}]])
async def test_a_purchase_without_lines_goes_back_by_amount(parts: list[dict[str, str]]) -> None:
    shop = await Shop.open()
    await shop.rule()
    await shop.rule(fixed=5)
    member = await shop.member()
    event = await shop.buy(member, total="100")
    for each in parts:
        await shop.refund(event, **each)
    assert await shop.net(member) == [0]
    assert await shop.refused(event) == [("WRONG_STATE", "purchase")]
    assert await shop.refused(event, amount="1") == [("WRONG_STATE", "purchase")]
    await shop.verify()


async def test_goods_that_cost_nothing_keep_their_fixed_points_until_they_are_back() -> None:
    shop = await Shop.open()
    await shop.rule()
    await shop.rule(fixed=50, products=ProductFilter(("sample",)))
    member = await shop.member()
    event = await shop.buy(member, "60", line("0", "sample"))
    assert event.points == 110
    assert (await shop.back(event, part(1))).points == 60
    refund = await shop.back(event, part(2))
    assert (refund.amount, refund.points) == (0, 50)
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_a_purchase_that_cost_nothing_loses_its_fixed_points_with_the_goods() -> None:
    shop = await Shop.open()
    await shop.rule(fixed=50)
    member = await shop.member()
    event = await shop.buy(member, line("0", quantity="2"))
    assert (await shop.back(event, part(1))).points == 0
    assert (await shop.back(event)).points == 50
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_fixed_points_stay_while_something_of_the_purchase_is_left() -> None:
    shop = await Shop.open()
    await shop.rule(fixed=10)
    member = await shop.member()
    event = await shop.buy(member, line("60", quantity="2"), "40")
    assert (await shop.back(event, part(1, "2"), amount="39.99")).points == 0
    assert (await shop.back(event, part(2))).points == 10
    await shop.verify()


async def test_a_minimum_that_the_rest_does_not_reach_takes_everything_of_its_rule() -> None:
    shop = await Shop.open()
    await shop.rule()
    await shop.rule(fixed=100, minimum_amount=Decimal(80))
    member = await shop.member()
    event = await shop.buy(member, "50", "50")
    assert event.points == 200
    assert (await shop.back(event, amount="20")).points == 20
    assert (await shop.back(event, amount="0.01")).points == 101
    await shop.verify()


OVER: list[tuple[list[Wish], dict[str, str], tuple[str, ...]]] = [
    ([part(1, "3")], {}, ("INVALID", "lines", "0", "quantity")),
    ([part(1), part(1, "1.5")], {}, ("INVALID", "lines", "1", "quantity")),
    ([part(1, "1", "60.01")], {}, ("INVALID", "lines", "0", "amount")),
    ([part(3)], {}, ("INVALID", "lines", "0", "number")),
    ([part(0)], {}, ("INVALID", "lines", "0", "number")),
    ([], {"amount": "100.01"}, ("INVALID", "amount")),
    ([part(1, "2"), part(2)], {"amount": "0.01"}, ("INVALID", "amount")),
]


@pytest.mark.parametrize(("parts", "fields", "error"), OVER)
async def test_more_than_was_bought_is_turned_away_and_nothing_is_written(
    parts: list[Wish], fields: dict[str, str], error: tuple[str, ...]
) -> None:
    shop = await Shop.open()
    await shop.rule()
    event = await shop.buy(await shop.member(), line("60", quantity="2"), "40")
    assert await shop.refused(event, *parts, **fields) == [error]


@pytest.mark.parametrize(
    ("parts", "fields", "error"),
    [
        ([part(1, "2")], {}, ("INVALID", "lines", "0", "quantity")),
        ([part(1, "1", "30.01")], {}, ("INVALID", "lines", "0", "amount")),
        ([], {"amount": "60.01"}, ("INVALID", "amount")),
        ([part(2, "1", "40.01")], {}, ("INVALID", "lines", "0", "amount")),
    ],
)
async def test_more_than_is_left_is_turned_away_and_nothing_is_written(
    parts: list[Wish], fields: dict[str, str], error: tuple[str, ...]
) -> None:
    shop = await Shop.open()
    await shop.rule()
    event = await shop.buy(await shop.member(), line("60", quantity="2"), "40")
    await shop.refund(event, part(1), amount="10")
    assert await shop.refused(event, *parts, **fields) == [error]
    await shop.refund(event, part(1), part(2))
    await shop.verify()


@pytest.mark.parametrize("parts", [[], [part(1)]])
async def test_nothing_comes_back_after_the_whole(parts: list[Wish]) -> None:
    shop = await Shop.open()
    await shop.rule()
    event = await shop.buy(await shop.member(), "60", "40")
    await shop.refund(event)
    assert await shop.refused(event, *parts) == [("WRONG_STATE", "purchase")]


async def test_purchases_of_other_programs_are_not_found() -> None:
    shop, other = await Shop.open(), await Shop.open()
    event = await other.buy(await other.member(), "60")
    assert await shop.refused(event) == [("NOT_FOUND", "purchase", "id")]
    for ref in (EventRef(external_id=event.external_id), EventRef(external_id="no such\0")):
        with pytest.raises(Refused) as refused:
            await refund_purchase(shop.program.id, ref, "r1")
        assert [error.field for error in refused.value.errors] == [("purchase", "external_id")]


@pytest.mark.parametrize("status", [MemberStatus.SUSPENDED, MemberStatus.CLOSED])
async def test_points_are_taken_back_from_those_who_take_part_no_more(status: MemberStatus) -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, "60", "40")
    await update_member(shop.program.id, by_id(member), {"status": status})
    assert (await shop.back(event, part(1))).points == 60
    assert await shop.net(member) == [40]
    await shop.verify()


async def test_a_purchase_that_was_turned_away_is_refunded_for_nothing() -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, "60", "40", later=True)
    await update_member(shop.program.id, by_id(member), {"status": MemberStatus.SUSPENDED})
    refund = await shop.back(event, part(1))
    assert (refund.amount, refund.points, refund.debt, refund.written_off) == (60, 0, 0, 0)
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_a_purchase_that_still_waits_is_earned_first() -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, "60", "40", later=True)
    assert (await shop.back(event, part(1))).points == 60
    assert await shop.net(member) == [40]
    await shop.work()
    assert await shop.net(member) == [40]
    await shop.verify()


async def test_what_happened_after_a_refund_finds_the_room_that_it_gave_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 20)
    shop = await Shop.open(max_points_per_day=100)
    await shop.rule()
    member = await shop.member()
    first = await shop.buy(member, total="100", at=at(2, 10), later=True)
    last = await shop.buy(member, total="70", at=at(2, 14), later=True)
    await shop.refund(first, amount="60", occurred_at=at(2, 12))
    assert await shop.net(member) == [40]
    await shop.work()
    assert await shop.net(member) == [100]
    assert (await shop.back(last)).points == 60
    await shop.verify()


@pytest.mark.parametrize("minutes", [-6, -5, 0])
async def test_a_refund_lies_at_most_the_minutes_before_its_purchase_that_clocks_may_differ(
    monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    set_now(monkeypatch, *NOON)
    shop = await Shop.open()
    await shop.rule()
    event = await shop.buy(await shop.member(), "60", at=at(2, 11))
    when = at(2, 11) + timedelta(minutes=minutes)
    if minutes < -5:
        assert await shop.refused(event, occurred_at=when) == [("INVALID", "occurred_at")]
    else:
        assert (await shop.back(event, occurred_at=when)).points == 60


async def test_lines_that_are_named_and_empty_are_no_refund_of_everything() -> None:
    shop = await Shop.open()
    await shop.rule()
    event = await shop.buy(await shop.member(), "60")
    with pytest.raises(Refused) as refused:
        await refund_purchase(shop.program.id, EventRef(id=event.id), "r1", lines=[])
    assert [error.field for error in refused.value.errors] == [("lines",)]
    refunded = await refund_purchase(
        shop.program.id, EventRef(id=event.id), "r1", lines=[], amount=Decimal(1)
    )
    assert refunded.refunds[0].points == 1
