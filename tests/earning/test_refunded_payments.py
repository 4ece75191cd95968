"""Refunds of what was partly paid with points: points come back, earnings go, each in its proportion."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from app.database import connection
from app.earning.events import Event
from app.ledger.operations import EntryKind
from app.members.reads import MemberRow
from app.programs.service import update_program
from tests.earning.paying import Paid, pay, set_status
from tests.earning.shop import Shop, line, part
from tests.earning.test_refund_histories import EXAMPLES, Choose, for_examples
from tests.helpers import post, rolling, set_now


async def bought(
    shop: Shop, points: int, amount: str, *lines: Any, has: int | None = None, **fields: Any
) -> tuple[MemberRow, Paid, Event]:
    """Have a new member pay with points, and with money for the rest of a purchase."""
    member = await shop.member()
    await post(shop.program, member, EntryKind.ADJUST, points if has is None else has)
    paid = await pay(shop.program, member, points, amount)
    return member, paid, await shop.buy(member, *lines, redemption=paid.id, **fields)


async def shop_with_a_rule(**settings: Any) -> Shop:
    shop = await Shop.open(**settings)
    await shop.rule()
    return shop


async def test_both_go_in_proportion() -> None:
    shop = await shop_with_a_rule()
    member, paid, event = await bought(shop, 2000, "20", "60.00", "40.00")
    assert await shop.balance(member) == (80, 0)
    refund = await shop.back(event, part(2))
    assert (refund.amount, refund.points, refund.restored_points) == (Decimal("40.00"), 32, 800)
    assert await shop.balance(member) == (48 + 800, 0)
    assert await paid.state() == ("CONFIRMED", 800, 1)
    refund = await shop.back(event)
    assert (refund.points, refund.restored_points, refund.debt, refund.written_off) == (48, 1200, 0, 0)
    assert await shop.balance(member) == (2000, 0)
    assert await paid.state() == ("CANCELLED", 2000, 0)
    await shop.verify()


async def test_a_whole_refund_ends_the_redemption_and_the_ledger_tells_why() -> None:
    shop = await shop_with_a_rule()
    member, paid, event = await bought(shop, 500, "5", total="20.00")
    await shop.back(event)
    row = await paid.row()
    assert (row["status"], row["reason"]) == ("CANCELLED", f"Refund of {event.external_id}")
    assert row["ended_at"] == row["updated_at"] > row["created_at"]
    async with connection() as sql:
        entry = await sql.fetchrow(
            "SELECT amount, reference, source, source_id, reason FROM ledger_entry"
            " WHERE account_id = $1 AND kind = 'RESTORE'",
            member.id,
        )
    assert tuple(entry) == (500, row["redeem_entry"], "redemption", paid.id, f"Refund of {event.external_id}")
    await shop.verify()


@pytest.mark.parametrize("amounts", [["9"], ["1"] * 9, ["0.5", "8.5"], ["3.33", "3.33", "2.34"]])
async def test_many_small_refunds_give_back_what_one_big_one_does(amounts: list[str]) -> None:
    shop = await shop_with_a_rule()
    _, paid, event = await bought(shop, 333, "3.33", total="10.00")
    restored = sum([(await shop.back(event, amount=amount)).restored_points for amount in amounts])
    # 333 x 9 / 10 is 299.7.
    assert restored == 300
    assert await paid.state() == ("CONFIRMED", 300, 1)
    assert (await shop.back(event)).restored_points == 33
    assert await paid.state() == ("CANCELLED", 333, 0)
    await shop.verify()


async def test_a_redemption_ends_with_the_purchase_and_not_with_its_last_point() -> None:
    shop = await shop_with_a_rule()
    _, paid, event = await bought(shop, 1, "0.01", total="10.00")
    assert (await shop.back(event, amount="5.00")).restored_points == 1
    assert await paid.state() == ("CONFIRMED", 1, 1)
    assert (await shop.back(event)).restored_points == 0
    assert await paid.state() == ("CANCELLED", 1, 0)
    await shop.verify()


async def test_of_a_purchase_that_cost_nothing_points_come_back_with_all_of_it() -> None:
    shop = await shop_with_a_rule()
    _, paid, event = await bought(shop, 7, "0", line("0", "a"), line("0", "b"))
    assert (await shop.back(event, part(1))).restored_points == 0
    assert (await shop.back(event)).restored_points == 7
    assert await paid.state() == ("CANCELLED", 7, 0)
    await shop.verify()


async def test_of_a_cancelled_redemption_nothing_more_comes_back() -> None:
    shop = await shop_with_a_rule()
    member, paid, event = await bought(shop, 200, "2", total="10.00")
    await set_status(paid, "CANCELLED")
    refund = await shop.back(event)
    assert (refund.points, refund.restored_points) == (8, 0)
    assert await shop.balance(member) == (0, 0)
    assert await paid.state() == ("CANCELLED", 0, 1)


async def test_no_more_comes_back_than_is_left_of_the_redemption() -> None:
    shop = await shop_with_a_rule()
    member, paid, event = await bought(shop, 200, "2", total="10.00")
    row = await paid.row()
    await post(shop.program, member, EntryKind.RESTORE, 150, reference=row["redeem_entry"])
    async with connection() as sql:
        await sql.execute("UPDATE redemption SET restored = 150 WHERE id = $1", paid.id)
        await sql.execute(
            "UPDATE ledger_entry SET source = 'redemption', source_id = $2"
            " WHERE account_id = $1 AND kind = 'RESTORE'",
            member.id,
            paid.id,
        )
    assert (await shop.back(event, amount="5")).restored_points == 50
    assert (await shop.back(event)).restored_points == 0
    assert await paid.state() == ("CANCELLED", 200, 0)
    await shop.verify()


async def test_points_that_came_back_are_there_to_be_taken() -> None:
    shop = await shop_with_a_rule(debt_limit=0)
    member, _, event = await bought(shop, 100, "1", total="81.00")
    await shop.spend(member, 80)
    refund = await shop.back(event)
    assert (refund.points, refund.restored_points, refund.debt, refund.written_off) == (80, 100, 0, 0)
    assert await shop.balance(member) == (20, 0)
    await shop.verify()


async def test_points_that_came_back_pay_what_was_owed_before() -> None:
    shop = await shop_with_a_rule()
    member, _, event = await bought(shop, 100, "1", total="31.00")
    other = await shop.buy(member, total="200.00")
    await shop.spend(member, 230)
    assert (await shop.back(other)).debt == 200
    refund = await shop.back(event)
    assert (refund.points, refund.restored_points, refund.debt) == (30, 100, 30)
    assert await shop.balance(member) == (0, 130)
    await shop.verify()


async def test_points_come_back_with_the_expiry_that_they_had(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 10)
    shop = await shop_with_a_rule(expiry=rolling(2))
    member, paid, event = await bought(shop, 100, "1", total="11.00")
    set_now(monkeypatch, 2026, 6, 10)
    # All of it is over by now: what was earned, and what it was paid with.
    assert (await shop.back(event)).restored_points == 100
    assert (await shop.balance(member))[0] == 0
    assert await paid.state() == ("CANCELLED", 100, 0)
    await shop.verify()


async def test_a_refund_goes_by_what_counted_when_it_was_bought() -> None:
    shop = await shop_with_a_rule(earn_on_points_payments=True)
    member, _, event = await bought(shop, 2000, "20", total="100.00")
    assert await shop.balance(member) == (100, 0)
    await update_program(shop.program.id, {"earn_on_points_payments": False})
    assert (await shop.back(event, amount="50")).points == 50
    _, _, later = await bought(shop, 2000, "20", total="100.00")
    await update_program(shop.program.id, {"earn_on_points_payments": True})
    assert (await shop.back(later, amount="50")).points == 40
    await shop.verify()


async def test_what_comes_back_without_a_receipt_gives_back_points_too() -> None:
    shop = await shop_with_a_rule()
    member, paid, _ = await bought(shop, 2000, "20", line("80.00", "hat", "2"), line("20.00", "tea"))
    (refund,) = (await shop.returned(member, ("hat", "1"))).refunds
    assert (refund.points, refund.restored_points) == (32, 800)
    await shop.returned(member, ("hat", "1"), ("tea", "1"))
    assert await paid.state() == ("CANCELLED", 2000, 0)
    assert await shop.balance(member) == (2000, 0)
    await shop.verify()


async def test_a_refund_that_is_told_again_gives_nothing_back_again() -> None:
    shop = await shop_with_a_rule()
    member, paid, event = await bought(shop, 2000, "20", total="100.00")
    first = await shop.refund(event, amount="50", name="r")
    again = await shop.refund(event, amount="50", name="r")
    assert again.replayed
    assert again.refunds == first.refunds
    assert first.refunds[0].restored_points == 1000
    assert await shop.balance(member) == (40 + 1000, 0)
    assert await paid.state() == ("CONFIRMED", 1000, 1)


async def test_a_refund_that_is_refused_gives_nothing_back() -> None:
    shop = await shop_with_a_rule()
    _, _, event = await bought(shop, 2000, "20", total="100.00")
    assert await shop.refused(event, amount="100.01") == [("INVALID", "amount")]


async def test_a_purchase_that_earned_nothing_gives_back_points_all_the_same() -> None:
    shop = await Shop.open()
    member, _, event = await bought(shop, 2000, "20", total="20.00", later=True)
    refund = await shop.back(event, amount="5")
    assert (refund.points, refund.restored_points) == (0, 500)
    assert await shop.balance(member) == (500, 0)
    await shop.verify()


async def pay_and_give_back(choose: Choose) -> None:
    """Buy something with points and money, give it back bit by bit, and count along in fractions."""
    shop = await shop_with_a_rule(earn_on_points_payments=choose((False, False, True)))
    await shop.rule("0.3", minimum_amount=Decimal("7.77"))
    await shop.rule(fixed=3)
    lines = [
        line(choose(("10.00", "33.33", "0.01", "0")), None, choose(("1", "3", "0.35"))) for _ in range(3)
    ]
    total = sum((each.amount for each in lines), Decimal(0))
    money = min(total, choose((Decimal("3.33"), Decimal("0.01"), Decimal(1000), total / 2)))
    points = choose((1, 7, 333, 10_000))
    member, paid, event = await bought(shop, points, str(money.quantize(Decimal("0.01"))), *lines)
    left, restored, turns = total, 0, 0
    while left:
        turns += 1
        # Cent by cent a large purchase would never come to an end.
        if turns < 20 and choose((True, True, False)):
            refund = await shop.back(
                event, amount=str(min(left, choose((Decimal("0.01"), Decimal(5), left))))
            )
        else:
            refund = await shop.back(event)
        left -= refund.amount
        restored += refund.restored_points
        gone = Fraction(points) * Fraction(total - left) / Fraction(total)
        assert restored == int(gone + Fraction(1, 2))
        assert (await paid.row())["restored"] == restored
    assert await paid.state() == (("CANCELLED", points, 0) if total else ("CONFIRMED", 0, 1))
    if total:
        has, owes = await shop.balance(member)
        event_left = event.points if any(not each.amount for each in lines) else 0
        assert points <= has - owes <= points + event_left
    await shop.verify()


@pytest.mark.parametrize("examples", EXAMPLES)
async def test_whatever_is_paid_and_given_back_comes_out_even(examples: int) -> None:
    await for_examples(examples, pay_and_give_back)
