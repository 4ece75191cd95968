"""The cases that others got wrong, one by one; those in which many race are in `test_races`."""

from datetime import date
from decimal import Decimal

import pytest

from app.catalog.service import update_reward
from app.ledger.operations import EntryKind
from app.members.service import update_member
from app.redemptions.redemptions import RedemptionStatus
from app.redemptions.steps import cancel, capture
from tests.helpers import by_id, new_member, new_program, post, set_now
from tests.redemptions.making import (
    ask,
    balance_of,
    check_books,
    codes_had,
    codes_of,
    earn,
    in_debt,
    load,
    lots_of,
    new_reward,
    pass_time,
    redeemed,
    refusal,
    rich_member,
    stock_of,
)

END_OF_MARCH, END_OF_JUNE = date(2026, 3, 31), date(2026, 6, 30)


async def test_a_price_that_changes_while_points_are_reserved_holds() -> None:
    program = await new_program()
    reward = await new_reward(program, "GIFT_CARD", points=100, face_value=10, generate_codes=True)
    member = await rich_member(program, 300)
    reserved = await redeemed(program, member, reward, quantity=2, hold_seconds=600)
    changes = {"points": 299, "face_value": Decimal(25), "name": "New"}
    await update_reward(program.id, reward.id, changes)
    done = await capture(program.id, reserved.id, "capture")
    assert (done.redemption.points, done.redemption.face_value, done.redemption.amount) == (200, 10, 20)
    assert done.redemption.reward_name == reserved.reward_name
    assert (await balance_of(program, member)).available == 100
    await check_books(program)


async def test_a_rate_that_changes_while_points_are_reserved_holds() -> None:
    program = await new_program()
    reward = await new_reward(program, "DISCOUNT", points_per_currency_unit=100)
    member = await rich_member(program, 1000)
    reserved = await redeemed(program, member, reward, points=500, order_amount=None, hold_seconds=600)
    await update_reward(program.id, reward.id, {"points_per_currency_unit": Decimal(200)})
    done = await capture(program.id, reserved.id, "capture", points=250)
    assert (done.redemption.amount, done.redemption.rate) == (Decimal("2.5"), 100)


async def test_of_points_of_march_and_june_those_of_june_are_left_after_march(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 2, 1)
    program = await new_program(timezone="Europe/Berlin")
    member, reward = await new_member(program), await new_reward(program)
    await earn(program, member, 100, END_OF_JUNE)
    await earn(program, member, 100, END_OF_MARCH)
    await redeemed(program, member, reward)
    assert await lots_of(member) == {END_OF_JUNE: 100}
    set_now(monkeypatch, 2026, 4, 1)
    balance = await balance_of(program, member)
    assert (balance.available, balance.lifetime_expired) == (100, 0)
    await check_books(program)


@pytest.mark.parametrize("hold", [None, 30 * 24 * 3600], ids=["spent", "reserved"])
async def test_what_is_cancelled_after_its_points_would_have_expired_comes_back_expired(
    monkeypatch: pytest.MonkeyPatch, hold: int | None
) -> None:
    set_now(monkeypatch, 2026, 3, 20)
    program = await new_program()
    member, reward = await new_member(program), await new_reward(program, points=150)
    await earn(program, member, 100, END_OF_MARCH)
    await earn(program, member, 100, END_OF_JUNE)
    redemption = await redeemed(program, member, reward, hold_seconds=hold)
    set_now(monkeypatch, 2026, 4, 2)
    assert (await balance_of(program, member)).available == 50
    done = await cancel(program.id, redemption.id, "She does not want it", "cancel")
    assert done.redemption.status is RedemptionStatus.CANCELLED
    balance = await balance_of(program, member)
    assert (balance.available, balance.reserved, balance.lifetime_expired) == (100, 0, 100)
    assert await lots_of(member) == {END_OF_JUNE: 100}
    await check_books(program)


async def test_a_reservation_that_outlives_its_points_can_still_be_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 31)
    program = await new_program()
    member, reward = await new_member(program), await new_reward(program)
    await earn(program, member, 100, END_OF_MARCH)
    reserved = await redeemed(program, member, reward, hold_seconds=3 * 24 * 3600)
    set_now(monkeypatch, 2026, 4, 2)
    assert (await capture(program.id, reserved.id, "capture")).redemption.points == 100
    balance = await balance_of(program, member)
    assert (balance.available, balance.lifetime_spent, balance.lifetime_expired) == (0, 100, 0)
    await check_books(program)


async def test_a_capture_after_the_reservation_ran_out_is_refused_and_the_points_are_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 1)
    program = await new_program()
    member, reward = await rich_member(program, 100), await new_reward(program, stock=1)
    reserved = await redeemed(program, member, reward, hold_seconds=60)
    pass_time(monkeypatch, seconds=60)
    for _ in range(2):
        assert await refusal(capture(program.id, reserved.id, "capture")) == (
            "WRONG_STATE",
            "The redemption is EXPIRED, and cannot be captured.",
        )
        balance = await balance_of(program, member)
        assert (balance.available, balance.reserved) == (100, 0)
        assert (await stock_of(program, reward)).left == 1
    await check_books(program)


async def test_a_capture_in_the_last_moment_is_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 3, 1)
    program = await new_program()
    member, reward = await rich_member(program, 100), await new_reward(program)
    reserved = await redeemed(program, member, reward, hold_seconds=60)
    pass_time(monkeypatch, seconds=60, microseconds=-1)
    assert (await capture(program.id, reserved.id, "capture")).redemption.points == 100


async def test_a_second_cancel_gives_nothing_back() -> None:
    program = await new_program()
    member, reward = await rich_member(program, 100), await new_reward(program, stock=5)
    redemption = await redeemed(program, member, reward)
    first = await cancel(program.id, redemption.id, "Broken", "one")
    again = await cancel(program.id, redemption.id, "Broken", "one")
    assert (first.replayed, again.replayed, again.redemption) == (False, True, first.redemption)
    assert await refusal(cancel(program.id, redemption.id, "Broken", "two")) == (
        "WRONG_STATE",
        "The redemption is CANCELLED, and cannot be cancelled.",
    )
    assert (await balance_of(program, member)).available == 100
    assert (await stock_of(program, reward)).taken == 0
    await check_books(program)


async def test_a_second_capture_spends_nothing() -> None:
    program = await new_program()
    member, reward = await rich_member(program, 300), await new_reward(program)
    reserved = await redeemed(program, member, reward, hold_seconds=60)
    first = await capture(program.id, reserved.id, "one")
    again = await capture(program.id, reserved.id, "one")
    assert (first.replayed, again.replayed, again.redemption) == (False, True, first.redemption)
    assert await refusal(capture(program.id, reserved.id, "two")) == (
        "WRONG_STATE",
        "The redemption is CONFIRMED, and cannot be captured.",
    )
    balance = await balance_of(program, member)
    assert (balance.available, balance.reserved, balance.lifetime_spent) == (200, 0, 100)
    await check_books(program)


async def test_a_pool_that_runs_dry_in_the_middle_of_a_quantity_gives_all_or_nothing() -> None:
    program = await new_program()
    member, reward = await rich_member(program, 1000), await new_reward(program, "VOUCHER")
    await load(program, reward, "A", "B", "C", "D", "E")
    first = await redeemed(program, member, reward, quantity=3)
    assert await codes_had(program, first) == ["A", "B", "C"]
    refused = await ask(program, member, reward, quantity=3)
    assert codes_of(refused) == ["OUT_OF_STOCK"]
    assert refused.errors[0].message == "Only 2 of it are left."
    assert (await balance_of(program, member)).available == 700
    second = await redeemed(program, member, reward, quantity=2)
    assert await codes_had(program, second) == ["D", "E"]
    await check_books(program)


async def test_stock_and_pool_together_give_no_more_than_the_smaller_of_them() -> None:
    program = await new_program()
    member, reward = await rich_member(program, 1000), await new_reward(program, "VOUCHER", stock=2)
    await load(program, reward, "A", "B", "C")
    assert codes_of(await ask(program, member, reward, quantity=3)) == ["OUT_OF_STOCK"]
    await redeemed(program, member, reward, quantity=2)
    assert codes_of(await ask(program, member, reward)) == ["OUT_OF_STOCK"]
    await check_books(program)


@pytest.mark.parametrize("status", ["SUSPENDED", "CLOSED"])
async def test_a_member_who_is_not_active_redeems_and_captures_nothing_but_can_be_given_back(
    status: str,
) -> None:
    program = await new_program()
    member, reward = await rich_member(program, 300), await new_reward(program)
    reserved = await redeemed(program, member, reward, hold_seconds=600)
    spent = await redeemed(program, member, reward)
    await update_member(program.id, by_id(member), {"status": status})
    for hold in (None, 60):
        refused = await ask(program, member, reward, hold_seconds=hold)
        assert codes_of(refused) == ["NOT_ELIGIBLE"]
        assert refused.errors[0].message == f"The member is {status.lower()} and redeems nothing."
    assert await refusal(capture(program.id, reserved.id, "capture")) == (
        "NOT_ELIGIBLE",
        f"The member is {status.lower()} and spends nothing.",
    )
    for redemption in (reserved, spent):
        await cancel(program.id, redemption.id, "Goodbye", f"cancel-{redemption.id}")
    assert (await balance_of(program, member)).available == 300
    await check_books(program)


async def test_a_suspended_member_who_comes_back_captures_under_the_same_key() -> None:
    program = await new_program()
    member, reward = await rich_member(program, 100), await new_reward(program)
    reserved = await redeemed(program, member, reward, hold_seconds=600)
    await update_member(program.id, by_id(member), {"status": "SUSPENDED"})
    assert (await refusal(capture(program.id, reserved.id, "key")))[0] == "NOT_ELIGIBLE"
    await update_member(program.id, by_id(member), {"status": "ACTIVE"})
    assert not (await capture(program.id, reserved.id, "key")).replayed


async def test_a_member_in_debt_redeems_nothing_and_hears_why() -> None:
    program = await new_program(debt_limit=1000)
    member, reward = await in_debt(program, 40), await new_reward(program)
    refused = await ask(program, member, reward)
    assert [error.message for error in refused.errors] == [
        "The member owes 40 points; the next points earned pay them first.",
        "The member has 0 points; 140 points more are needed.",
    ]
    await post(program, member, EntryKind.ADJUST, 139)
    assert codes_of(await ask(program, member, reward)) == ["INSUFFICIENT_POINTS"]
    await post(program, member, EntryKind.ADJUST, 1)
    await redeemed(program, member, reward)
    await check_books(program)


async def test_points_that_come_back_to_a_member_in_debt_pay_the_debt_first() -> None:
    program = await new_program(debt_limit=1000)
    member, reward = await new_member(program), await new_reward(program)
    entry = await earn(program, member, 100, END_OF_JUNE.replace(year=9000))
    reserved = await redeemed(program, member, reward, hold_seconds=600)
    await post(program, member, EntryKind.CLAWBACK, 60, reference=entry)
    assert (await balance_of(program, member)).available == -60
    await cancel(program.id, reserved.id, "Not any more", "cancel")
    assert (await balance_of(program, member)).available == 40
    assert sum((await lots_of(member)).values()) == 40
    await check_books(program)
