"""Returns without a receipt: which purchases they are matched to, and what that takes back."""

import asyncio
from decimal import Decimal

import pytest

from app.earning.events import Incoming
from app.earning.recording import record_now, store
from app.earning.refunding import Item, return_items
from app.earning.refunds import Refunded, Unmatched
from app.earning.rules import ProductFilter
from app.errors import Refused
from app.members.inputs import MemberStatus
from app.members.reads import MemberRef
from app.members.service import update_member
from tests.earning.shop import Shop, at, line, part
from tests.helpers import by_id, purchase, set_now


@pytest.fixture(autouse=True)
def _late(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 3, 20)


@pytest.fixture
async def shop() -> Shop:
    """A shop that gives a point for every euro."""
    shop = await Shop.open()
    await shop.rule()
    return shop


def matched(refunded: Refunded) -> list[tuple[str, list[tuple[int, str]]]]:
    """Return what was matched: for each refund its amount, and the lines with their quantities."""
    return [
        (f"{each.amount.normalize():f}", [(line.number, f"{line.quantity:f}") for line in each.lines])
        for each in refunded.refunds
    ]


def unmatched(refunded: Refunded) -> dict[str, Decimal]:
    return {each.sku: each.quantity for each in refunded.unmatched}


async def test_the_latest_purchase_of_the_goods_comes_first_and_its_price_counts(shop: Shop) -> None:
    member = await shop.member()
    await shop.buy(member, line("10", "toy"), at=at(1))
    late = await shop.buy(member, line("30", "toy"), at=at(3))
    await shop.buy(member, line("20", "toy"), at=at(2))
    refunded = await shop.returned(member, ("toy", "1"))
    assert [each.event_id for each in refunded.refunds] == [late.id]
    assert (refunded.refunds[0].amount, refunded.refunds[0].points) == (30, 30)
    assert matched(await shop.returned(member, ("toy", "2"))) == [("20", [(1, "1")]), ("10", [(1, "1")])]
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_of_two_at_the_same_time_the_one_that_was_recorded_last_comes_first(
    monkeypatch: pytest.MonkeyPatch, shop: Shop
) -> None:
    member = await shop.member()
    first = await shop.buy(member, line("10", "toy"), at=at(1))
    set_now(monkeypatch, 2026, 3, 20, 1)
    last = await shop.buy(member, line("20", "toy"), at=at(1))
    refunded = await shop.returned(member, ("toy", "2"))
    assert [each.event_id for each in refunded.refunds] == [last.id, first.id]


async def test_of_two_of_one_batch_at_the_same_time_the_later_one_comes_first(shop: Shop) -> None:
    member = await shop.member()
    sales = [purchase(None, lines=[line(amount, "toy")], occurred_at=at(1)) for amount in ("10", "20", "30")]
    stored = await store(shop.program.id, [Incoming(each, by_id(member)) for each in sales])
    refunded = await shop.returned(member, ("toy", "2"))
    assert [each.event_id for each in refunded.refunds] == [
        each.event.id for each in stored[:0:-1] if each.event
    ]


async def test_within_a_purchase_the_last_line_comes_first(shop: Shop) -> None:
    member = await shop.member()
    await shop.buy(member, line("40", "toy", "2"), "5", line("30", "toy", "3"), at=at(1))
    assert matched(await shop.returned(member, ("toy", "1"))) == [("10", [(3, "1")])]
    assert matched(await shop.returned(member, ("toy", "3"))) == [("40", [(3, "2"), (1, "1")])]
    assert matched(await shop.returned(member, ("toy", "1"))) == [("20", [(1, "1")])]
    assert await shop.net(member) == [5]
    await shop.verify()


async def test_quantities_span_lines_and_purchases_and_what_is_over_is_unmatched(shop: Shop) -> None:
    member = await shop.member()
    await shop.buy(member, line("10", "toy"), at=at(1))
    await shop.buy(member, line("20", "toy"), line("30", "toy", "2"), at=at(2))
    refunded = await shop.returned(member, ("toy", "6"))
    assert matched(refunded) == [("50", [(2, "2"), (1, "1")]), ("10", [(1, "1")])]
    assert refunded.unmatched == [Unmatched("toy", Decimal(2))]
    assert {each.external_id for each in refunded.refunds} == {refunded.refunds[0].external_id}
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_goods_that_were_never_bought_are_unmatched_and_take_nothing(shop: Shop) -> None:
    member, other = await shop.member(), await shop.member()
    await shop.buy(other, line("10", "toy"), at=at(1))
    await shop.buy(member, line("10", "TOY"), at=at(1))
    await shop.buy(member, total="100", at=at(1))
    refunded = await shop.returned(member, ("toy", "1.5"), ("hat", "1"))
    assert refunded.refunds == []
    assert unmatched(refunded) == {"toy": Decimal("1.5"), "hat": 1}
    assert await shop.net(member, other) == [110, 10]
    await shop.verify()


async def test_several_items_of_one_sku_are_added_up(shop: Shop) -> None:
    member = await shop.member()
    await shop.buy(member, line("30", "toy", "3"), line("8", "hat"), at=at(1))
    refunded = await shop.returned(member, ("toy", "1"), ("hat", "1"), ("toy", "3"))
    assert matched(refunded) == [("38", [(2, "1"), (1, "3")])]
    assert unmatched(refunded) == {"toy": 1}
    await shop.verify()


async def test_what_went_back_with_a_receipt_is_not_matched_again(shop: Shop) -> None:
    member = await shop.member()
    late = await shop.buy(member, line("30", "toy", "3"), at=at(2))
    await shop.buy(member, line("10", "toy"), at=at(1))
    await shop.refund(late, part(1, "2"))
    assert matched(await shop.returned(member, ("toy", "2"))) == [("10", [(1, "1")]), ("10", [(1, "1")])]
    whole = await shop.buy(member, line("70", "toy"), at=at(3))
    await shop.refund(whole)
    assert unmatched(await shop.returned(member, ("toy", "1"))) == {"toy": 1}
    assert await shop.refused(late, part(1)) == [("WRONG_STATE", "purchase")]
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_goods_of_which_money_went_back_before_are_worth_what_is_left(shop: Shop) -> None:
    member = await shop.member()
    event = await shop.buy(member, line("30", "toy"), line("10", "hat"), at=at(1))
    await shop.refund(event, amount="25")
    assert matched(await shop.returned(member, ("toy", "1"), ("hat", "1"))) == [("15", [(2, "1"), (1, "1")])]
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_only_purchases_before_the_return_are_matched(shop: Shop) -> None:
    member = await shop.member()
    for day in (1, 2, 3):
        await shop.buy(member, line(str(day), "toy"), at=at(day))
    refunded = await shop.returned(member, ("toy", "3"), at=at(2))
    assert [each.amount for each in refunded.refunds] == [1]
    assert unmatched(refunded) == {"toy": 2}
    assert await shop.net(member) == [5]
    await shop.verify()


async def test_weights_come_back_by_weight(shop: Shop) -> None:
    member = await shop.member()
    await shop.buy(member, line("3.50", "nuts", "0.350"), at=at(1))
    assert matched(await shop.returned(member, ("nuts", "0.1"))) == [("1", [(1, "0.1")])]
    refunded = await shop.returned(member, ("nuts", "0.300"))
    assert matched(refunded) == [("2.5", [(1, "0.250")])]
    assert unmatched(refunded) == {"nuts": Decimal("0.05")}
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_purchases_that_wait_are_earned_first_in_the_order_in_which_they_happened(shop: Shop) -> None:
    member = await shop.member()
    for day in (3, 1, 4):
        await shop.buy(member, line(str(10 * day), "toy"), at=at(day), later=True)
    refunded = await shop.returned(member, ("toy", "1"), at=at(3, 13))
    assert matched(refunded) == [("30", [(1, "1")])]
    # What happened after it still waits.
    assert await shop.net(member) == [10]
    await shop.work()
    assert await shop.net(member) == [50]
    await shop.verify()


async def test_purchases_that_were_turned_away_are_matched_for_nothing(shop: Shop) -> None:
    member = await shop.member()
    await shop.buy(member, line("10", "toy"), at=at(1), later=True)
    await update_member(shop.program.id, by_id(member), {"status": MemberStatus.SUSPENDED})
    refunded = await shop.returned(member, ("toy", "1"))
    assert [(each.amount, each.points) for each in refunded.refunds] == [(10, 0)]
    await shop.verify()


async def test_rules_of_the_goods_fall_away_with_them(shop: Shop) -> None:
    await shop.rule(5, products=ProductFilter(("toy",)), minimum_amount=Decimal(20))
    member = await shop.member()
    event = await shop.buy(member, line("30", "toy", "3"), "10", at=at(1))
    assert event.points == 160
    # 10 of toys are below the rule's minimum.
    assert (await shop.returned(member, ("toy", "2"))).refunds[0].points == 140
    assert await shop.net(member) == [20]
    await shop.verify()


async def test_the_same_return_again_is_answered_as_the_first_time(shop: Shop) -> None:
    member = await shop.member()
    await shop.buy(member, line("10", "toy"), at=at(2))
    await shop.buy(member, line("20", "toy"), at=at(1))
    first = await shop.returned(member, ("toy", "2"), ("hat", "1.50"), name="back")
    again = await shop.returned(member, ("toy", "2.0"), ("hat", "1.5"), name="back")
    assert again == first._replace(replayed=True)
    assert (first.replayed, len(first.refunds)) == (False, 2)
    with pytest.raises(Refused) as refused:
        await shop.returned(member, ("toy", "1"), name="back")
    assert [(error.code, error.field) for error in refused.value.errors] == [
        ("IDEMPOTENCY_CONFLICT", ("external_id",))
    ]
    await shop.verify()


async def test_a_return_of_nothing_that_was_bought_is_known_again(shop: Shop) -> None:
    member = await shop.member()
    first = await shop.returned(member, ("toy", "2"), name="back")
    await shop.buy(member, line("20", "toy", "2"), at=at(1))
    assert await shop.returned(member, ("toy", "2"), name="back") == first._replace(replayed=True)
    assert await shop.net(member) == [20]


async def test_many_returns_at_once_match_each_piece_once(shop: Shop) -> None:
    member = await shop.member()
    for day in (1, 2, 3):
        await shop.buy(member, line("40", "toy", "4"), at=at(day))
    answers = await asyncio.gather(*(shop.returned(member, ("toy", "1")) for _ in range(16)))
    assert sum(len(each.refunds) for each in answers) == 12
    assert sum(sum(unmatched(each).values()) for each in answers) == 4
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_free_goods_come_back_for_nothing_and_take_their_fixed_points(shop: Shop) -> None:
    await shop.rule(fixed=50, products=ProductFilter(("sample",)))
    member = await shop.member()
    await shop.buy(member, line("10", "toy"), line("0", "sample"), at=at(1))
    refunded = await shop.returned(member, ("toy", "1"))
    assert refunded.refunds[0].points == 10
    refunded = await shop.returned(member, ("sample", "1"))
    assert [(each.amount, each.points) for each in refunded.refunds] == [(0, 50)]
    assert await shop.net(member) == [0]
    await shop.verify()


WRONG: list[tuple[list[Item], list[tuple[str, ...]]]] = [
    ([], [("items",)]),
    ([Item("toy", Decimal(1), Decimal(1))] * 2001, [("items",)]),
    ([Item("", Decimal(1), Decimal(1))], [("items", "0", "sku")]),
    ([Item(" toy", Decimal(1), Decimal(1))], [("items", "0", "sku")]),
    ([Item("toy\0", Decimal(1), Decimal(1))], [("items", "0", "sku")]),
    ([Item("toy", Decimal(0), Decimal(1))], [("items", "0", "quantity")]),
    (
        [Item("toy", Decimal(1), Decimal(1)), Item("toy", Decimal(-1), Decimal(-1))],
        [("items", "1", "quantity"), ("items", "1", "amount")],
    ),
    ([Item("toy", Decimal("0.0000001"), Decimal(1))], [("items", "0", "quantity")]),
]


@pytest.mark.parametrize(("items", "fields"), WRONG)
async def test_what_is_wrong_with_items_is_told_by_their_place(
    shop: Shop, items: list[Item], fields: list[tuple[str, ...]]
) -> None:
    member = await shop.member()
    with pytest.raises(Refused) as refused:
        await return_items(shop.program.id, by_id(member), "back", items)
    assert [error.field for error in refused.value.errors] == fields
    assert {error.code for error in refused.value.errors} == {"INVALID"}


async def test_nobody_is_found_by_what_names_nobody(shop: Shop) -> None:
    stranger = await (await Shop.open()).member()
    for ref in (MemberRef(id=stranger.id), MemberRef(external_id="nobody"), MemberRef(email="x@example.com")):
        with pytest.raises(Refused) as refused:
            await return_items(shop.program.id, ref, "back", [Item("toy", Decimal(1), Decimal(1))])
        assert [(error.code, error.field) for error in refused.value.errors] == [
            ("NOT_FOUND", ("member", ref.field))
        ]


async def test_a_return_may_be_of_so_many_kinds_of_goods_as_a_purchase(shop: Shop) -> None:
    member = await shop.member()
    lines = [line("1", f"sku-{n}") for n in range(2000)]
    (recorded,) = await record_now(
        shop.program.id, [Incoming(purchase(None, lines=lines, occurred_at=at(1)), by_id(member))]
    )
    assert recorded.event
    refunded = await shop.returned(member, *((f"sku-{n}", "1") for n in range(2000)))
    assert (len(refunded.refunds[0].lines), refunded.refunds[0].points) == (2000, 2000)
    await shop.verify()
