"""Where refunded points are taken from: the award's own lot, then others, then what the member owes."""

from datetime import date
from decimal import Decimal
from uuid import UUID

import pytest

from app.database import connection
from app.earning.rules import ProductFilter
from app.ledger.operations import EntryKind
from app.members.reads import MemberRow
from tests.earning.shop import Shop, line, part
from tests.helpers import post, rolling, set_now


async def lots(member: MemberRow) -> list[int]:
    """Return what is left in each lot, the oldest first."""
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT remaining FROM lot WHERE account_id = $1 ORDER BY sequence /* scoped by: account */",
            member.id,
        )
    return [row[0] for row in rows]


async def entries(member: MemberRow) -> list[tuple[str, int, str | None, UUID | None]]:
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT kind, amount, reason, source_id FROM ledger_entry WHERE account_id = $1"
            " ORDER BY sequence",
            member.id,
        )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("limit", "debt", "written_off", "left"), [(0, 0, 100, 30), (50, 50, 50, 0), (10_000, 100, 0, 0)]
)
async def test_what_was_spent_becomes_debt_and_the_next_earn_pays_it_first(
    limit: int, debt: int, written_off: int, left: int
) -> None:
    shop = await Shop.open(debt_limit=limit)
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, "100.00")
    await shop.spend(member, 100)
    refund = await shop.back(event)
    assert (refund.points, refund.debt, refund.written_off) == (debt, debt, written_off)
    assert await shop.balance(member) == (0, debt)
    await shop.buy(member, "30.00")
    assert await shop.balance(member) == (left, max(0, debt - 30))
    await shop.verify()


async def test_what_is_there_is_taken_before_anything_is_owed() -> None:
    shop = await Shop.open(debt_limit=50)
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, "100.00")
    await shop.spend(member, 70)
    refund = await shop.back(event)
    assert (refund.points, refund.debt, refund.written_off) == (80, 50, 20)
    assert await shop.balance(member) == (0, 50)
    await shop.verify()


async def test_what_was_written_off_is_not_taken_later() -> None:
    """A part that could not be taken counts as taken: the next refund asks for its own part alone."""
    shop = await Shop.open(debt_limit=0)
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, "60", "40")
    await shop.spend(member, 100)
    assert (await shop.back(event, part(1))).written_off == 60
    await shop.buy(member, "500")
    refund = await shop.back(event, part(2))
    assert (refund.points, refund.written_off) == (40, 0)
    assert await shop.net(member) == [460]
    await shop.verify()


async def test_the_own_lot_comes_first_and_then_the_soonest_to_expire(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 1)
    shop = await Shop.open(expiry=rolling(12))
    await shop.rule()
    member = await shop.member()
    await shop.buy(member, total="10")
    set_now(monkeypatch, 2026, 3, 2)
    event = await shop.buy(member, line("100", quantity="10"))
    set_now(monkeypatch, 2026, 3, 3)
    await shop.buy(member, total="20")
    await post(shop.program, member, EntryKind.EARN, 40, available_on=date(2026, 4, 1))
    assert (await shop.back(event, part(1, "3"))).debt == 0
    assert await lots(member) == [10, 70, 20, 40]
    # What a spend takes goes by expiry: 10 and 65.
    await shop.spend(member, 75)
    assert await lots(member) == [0, 5, 20, 40]
    assert (await shop.back(event, part(1, "2"))).debt == 0
    assert await lots(member) == [0, 0, 5, 40]
    # Pending points are the last before debt.
    assert (await shop.back(event, part(1, "3"))).debt == 0
    assert await lots(member) == [0, 0, 0, 15]
    refund = await shop.back(event)
    assert (refund.points, refund.debt) == (20, 5)
    assert await lots(member) == [0, 0, 0, 0]
    await shop.verify()


async def test_points_that_have_expired_are_taken_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 10)
    shop = await Shop.open(expiry=rolling(1), debt_limit=1000)
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, "100.00")
    set_now(monkeypatch, 2026, 2, 20)
    await shop.buy(member, "30.00")
    refund = await shop.back(event)
    assert (refund.points, refund.debt) == (100, 70)
    assert await shop.balance(member) == (0, 70)
    await shop.verify()


async def test_points_of_which_a_part_was_spent_and_the_rest_has_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 10)
    shop = await Shop.open(expiry=rolling(1), debt_limit=30)
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, line("100.00", quantity="10"))
    await shop.spend(member, 60)
    set_now(monkeypatch, 2026, 3, 20)
    first = await shop.back(event, part(1, "2"))
    assert (first.points, first.debt, first.written_off) == (20, 20, 0)
    last = await shop.back(event)
    assert (last.points, last.debt, last.written_off) == (10, 10, 70)
    await shop.verify()


async def test_pending_points_are_taken_before_they_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 3, 2, 12)
    shop = await Shop.open(pending_days=14)
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, "100.00", "11.00")
    assert (await shop.back(event, part(1))).points == 100
    assert await shop.balance(member) == (11, 0)
    set_now(monkeypatch, 2026, 3, 20)
    assert (await shop.back(event, part(2))).points == 11
    assert await shop.balance(member) == (0, 0)
    await shop.verify()


async def test_own_pending_points_come_before_others_that_are_available(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 2, 12)
    shop = await Shop.open(pending_days=14)
    await shop.rule()
    member = await shop.member()
    await post(shop.program, member, EntryKind.ADJUST, 50)
    event = await shop.buy(member, "30", "70")
    await shop.refund(event, part(2))
    assert await lots(member) == [50, 30]
    await shop.refund(event)
    assert await lots(member) == [50, 0]
    await shop.verify()


async def test_entries_tell_which_purchase_was_refunded_and_by_which_refund() -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, "30", "70")
    refund = await shop.back(event, part(1))
    assert (await entries(member))[1:] == [("CLAWBACK", 30, f"Refund of {event.external_id}", refund.id)]


async def test_each_award_is_taken_back_by_itself() -> None:
    shop = await Shop.open()
    await shop.rule(name="By amount")
    await shop.rule(fixed=7, name="A gift")
    member = await shop.member()
    event = await shop.buy(member, "30")
    refund = await shop.back(event)
    assert refund.points == 37
    taken = [(kind, amount) for kind, amount, *_ in await entries(member)][2:]
    assert sorted(taken) == [("CLAWBACK", 7), ("CLAWBACK", 30)]
    assert await lots(member) == [0, 0]
    await shop.verify()


async def test_debt_goes_no_deeper_over_several_refunds_than_the_limit() -> None:
    shop = await Shop.open(debt_limit=50)
    await shop.rule()
    member = await shop.member()
    events = [await shop.buy(member, total="40") for _ in range(3)]
    await shop.spend(member, 120)
    refunds = [await shop.back(event) for event in events]
    assert [(each.debt, each.written_off) for each in refunds] == [(40, 0), (10, 30), (0, 40)]
    assert await shop.balance(member) == (0, 50)
    await shop.verify()


async def test_a_refund_that_moves_no_points_writes_no_entry() -> None:
    shop = await Shop.open()
    await shop.rule(1, 100)
    member = await shop.member()
    event = await shop.buy(member, total="150")
    assert (await shop.back(event, amount=str(Decimal(50)))).points == 0
    assert len(await entries(member)) == 1
    await shop.verify()


async def test_what_was_written_off_is_not_given_again() -> None:
    """Returned in whatever order, or at once, the member ends with the same."""
    for order in ([(2,), (1,)], [(1,), (2,)], [(1, 2)]):
        shop = await Shop.open(debt_limit=0)
        await shop.rule(10)
        await shop.rule("0.1", products=ProductFilter(("x",)), minimum_amount=Decimal(30))
        member = await shop.member()
        event = await shop.buy(member, line("60", sku="x", quantity="6"), line("100", sku="y"))
        assert event.points == 1006
        await shop.spend(member, 1006)
        wishes = {1: part(1, "4"), 2: part(2)}
        for numbers in order:
            await shop.back(event, *(wishes[number] for number in numbers))
        assert await shop.net(member) == [0]
        await shop.verify()
