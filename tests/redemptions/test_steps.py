"""Each step in each state, once and again, by the program and by the member; what is refused, and how."""

from collections.abc import Awaitable, Callable
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from app.catalog.rewards import Reward, RewardStatus
from app.catalog.service import set_reward_status, update_reward
from app.errors import Refused
from app.members.reads import MemberRow
from app.programs.models import Program
from app.redemptions.expiring import release_due
from app.redemptions.reads import get_redemptions
from app.redemptions.redemptions import Redemption, RedemptionStatus
from app.redemptions.steps import Stepped, cancel, capture, fulfil, use_code
from tests.helpers import new_member, new_program, set_now
from tests.redemptions.making import (
    VAULT,
    ask,
    balance_of,
    check_books,
    codes_had,
    codes_of,
    earn,
    lots_of,
    new_reward,
    pass_time,
    redeem,
    redeemed,
    refusal,
    rich_member,
    stock_of,
    wanted,
)

A_DAY = 24 * 3600


class World(NamedTuple):
    program: Program
    member: MemberRow
    reward: Reward


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A program with a rich member, and a voucher for 100 points whose codes are made."""
    set_now(monkeypatch, 2026, 5, 5, 12)
    program = await new_program()
    reward = await new_reward(program, "VOUCHER", generate_codes=True, stock=10)
    return World(program, await rich_member(program), reward)


async def one_in(world: World, state: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Redemption, str]:
    """Return a redemption in a state, and its code."""
    program, member, reward = world
    hold = 60 if state in ("RESERVED", "EXPIRED", "RUN OUT") else None
    redemption = await redeemed(program, member, reward, hold_seconds=hold)
    (code,) = await codes_had(program, redemption)
    if state in ("EXPIRED", "RUN OUT"):
        pass_time(monkeypatch, seconds=60)
    if state == "EXPIRED":
        await release_due(program.id)
    elif state == "FULFILLED":
        await fulfil(program.id, redemption.id, "before")
    elif state == "USED":
        await use_code(program.id, code, "before", VAULT)
    elif state == "CANCELLED":
        await cancel(program.id, redemption.id, "before", "before")
    return redemption, code


Step = Callable[[World, UUID, str], Awaitable[Stepped]]
STEPS: dict[str, Step] = {
    "captured": lambda world, id, code: capture(world.program.id, id, "key"),
    "cancelled": lambda world, id, code: cancel(world.program.id, id, "Sorry", "key"),
    "fulfilled": lambda world, id, code: fulfil(world.program.id, id, "parcel 7"),
    "used": lambda world, id, code: use_code(world.program.id, code, "key", VAULT),
}
BECOMES = {
    ("RESERVED", "captured"): "CONFIRMED",
    ("RESERVED", "cancelled"): "CANCELLED",
    ("CONFIRMED", "cancelled"): "CANCELLED",
    ("CONFIRMED", "fulfilled"): "FULFILLED",
    ("CONFIRMED", "used"): "USED",
    ("FULFILLED", "used"): "USED",
}
STATES = (*RedemptionStatus, "RUN OUT")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("step", STEPS)
async def test_every_step_in_every_state(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str, step: str
) -> None:
    redemption, code = await one_in(world, state, monkeypatch)
    (before,) = await get_redemptions(world.program.id, [redemption.id]) if state != "RUN OUT" else (None,)
    if (state, step) in BECOMES:
        done = await STEPS[step](world, redemption.id, code)
        assert (str(done.redemption.status), done.replayed) == (BECOMES[state, step], False)
        again = await STEPS[step](world, redemption.id, code)
        assert (again.redemption, again.replayed) == (done.redemption, True)
        assert await get_redemptions(world.program.id, [redemption.id]) == [done.redemption]
    elif step == "used" and state in ("EXPIRED", "RUN OUT"):
        # It was made for a reservation that nobody has seen.
        expected = "WRONG_STATE" if state == "RUN OUT" else "NOT_FOUND"
        assert (await refusal(STEPS[step](world, redemption.id, code)))[0] == expected
        assert (await refusal(STEPS[step](world, redemption.id, code)))[0] == "NOT_FOUND"
    else:
        told = "EXPIRED" if state == "RUN OUT" else state
        for _ in range(2):
            refused = await refusal(STEPS[step](world, redemption.id, code))
            if (state, step) == ("USED", "used"):
                assert refused == (
                    "WRONG_STATE",
                    "The code was USED on 2026-05-05 12:00 UTC, and cannot be used again.",
                )
            elif (state, step) == ("USED", "cancelled"):
                assert refused == ("WRONG_STATE", "The redemption is USED, and cannot be cancelled.")
            else:
                assert refused == ("WRONG_STATE", f"The redemption is {told}, and cannot be {step}.")
        (after,) = await get_redemptions(world.program.id, [redemption.id])
        assert before is None or after == before
    if state == "RUN OUT":
        (after,) = await get_redemptions(world.program.id, [redemption.id])
        assert after is not None
        assert after.status is RedemptionStatus.EXPIRED
        assert (await balance_of(world.program, world.member)).available == 1000
        assert (await stock_of(world.program, world.reward)).taken == 0
    await check_books(world.program)


async def test_a_repeated_step_answers_with_the_redemption_as_it_is_now(world: World) -> None:
    program, member, reward = world
    request = wanted(member, reward, hold_seconds=60, quantity=2)
    (reserved,) = await redeem(program.id, [request])
    assert reserved.redemption is not None
    reserved_id = reserved.redemption.id
    await capture(program.id, reserved_id, "key")
    first, second = await codes_had(program, reserved.redemption)
    await use_code(program.id, first, "first", VAULT)
    await fulfil(program.id, reserved_id, "shipped")
    used = (await use_code(program.id, second, "second", VAULT)).redemption
    assert used.status is RedemptionStatus.USED
    (again,) = await redeem(program.id, [request])
    assert (again.redemption, again.replayed) == (used, True)
    for step in (
        capture(program.id, reserved_id, "key"),
        use_code(program.id, first, "first", VAULT),
        use_code(program.id, f"  {second} ", "second", VAULT),
        fulfil(program.id, reserved_id, "shipped"),
    ):
        assert await step == Stepped(used, replayed=True)
    assert (await refusal(fulfil(program.id, reserved_id, "lost")))[0] == "WRONG_STATE"


async def test_a_request_that_is_repeated_after_its_reservation_ran_out_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = wanted(world.member, world.reward, hold_seconds=60)
    await redeem(world.program.id, [request])
    pass_time(monkeypatch, seconds=60)
    (again,) = await redeem(world.program.id, [request])
    assert again.replayed
    assert again.redemption is not None
    assert again.redemption.status is RedemptionStatus.EXPIRED
    assert (await balance_of(world.program, world.member)).available == 1000


async def test_a_request_is_repeated_whatever_has_become_of_the_reward_the_member_and_the_points(
    world: World,
) -> None:
    program, member, reward = world
    request = wanted(member, reward, quantity=10)
    (first,) = await redeem(program.id, [request])
    await update_reward(program.id, reward.id, {"points": 5000})
    await set_reward_status(program.id, reward.id, RewardStatus.ARCHIVED)
    (again,) = await redeem(program.id, [request])
    assert (again.redemption, again.replayed) == (first.redemption, True)


@pytest.mark.parametrize(
    "other", [{"quantity": 2}, {"order_id": "17"}, {"member": None}, {"reward_id": None}, {"points": 4}]
)
async def test_another_request_under_the_same_key_is_a_conflict(world: World, other: dict[str, Any]) -> None:
    program, member, reward = world
    first = wanted(member, reward, key="key")
    assert (await redeem(program.id, [first]))[0].redemption
    if "member" in other:
        second = wanted(await rich_member(program), reward, key="key")
    elif "reward_id" in other:
        second = wanted(member, await new_reward(program), key="key")
    else:
        second = first._replace(**other)
    (refused,) = await redeem(program.id, [second])
    assert codes_of(refused) == ["IDEMPOTENCY_CONFLICT"]
    assert refused.errors[0].field == ("idempotency_key",)


async def test_the_same_order_amount_in_other_digits_is_the_same_request() -> None:
    program = await new_program()
    member, reward = await rich_member(program), await new_reward(program, "DISCOUNT")
    request = wanted(member, reward, points=100, order_amount=Decimal("10"))
    await redeem(program.id, [request])
    (again,) = await redeem(program.id, [request._replace(order_amount=Decimal("10.000"))])
    assert again.replayed


async def test_another_step_under_the_same_key_is_a_conflict(world: World) -> None:
    program, member, reward = world
    one, two = [await redeemed(program, member, reward, hold_seconds=60, quantity=2) for _ in range(2)]
    await capture(program.id, one.id, "key", 150)
    for step in (
        capture(program.id, one.id, "key"),
        capture(program.id, one.id, "key", 151),
        capture(program.id, two.id, "key", 150),
    ):
        assert await refusal(step) == (
            "IDEMPOTENCY_CONFLICT",
            "The key was used before, for another request.",
        )
    await cancel(program.id, two.id, "Sorry", "key")
    assert (await refusal(cancel(program.id, two.id, "Really", "key")))[0] == "IDEMPOTENCY_CONFLICT"
    assert (await refusal(cancel(program.id, one.id, "Sorry", "key")))[0] == "IDEMPOTENCY_CONFLICT"
    first, second = await codes_had(program, one)
    await use_code(program.id, first, "key", VAULT)
    assert (await refusal(use_code(program.id, second, "key", VAULT)))[0] == "IDEMPOTENCY_CONFLICT"


async def test_what_is_refused_leaves_the_key_unused(world: World) -> None:
    program, member, reward = world
    dear = wanted(member, reward, quantity=11, key="key")
    (refused,) = await redeem(program.id, [dear])
    assert codes_of(refused) == ["OUT_OF_STOCK", "INSUFFICIENT_POINTS"]
    (done,) = await redeem(program.id, [dear._replace(quantity=1, hold_seconds=60)])
    assert done.redemption is not None
    reserved = done.redemption
    for points in (0, 101, -1, 2**63, 2**70, -(2**80)):
        assert await refusal(capture(program.id, reserved.id, "key", points)) == (
            "INVALID",
            "Between 1 and 100 points can be captured: as many were reserved.",
        )
    (code,) = await codes_had(program, reserved)
    assert (await refusal(use_code(program.id, code, "key", VAULT)))[0] == "WRONG_STATE"
    assert not (await capture(program.id, reserved.id, "key", 100)).replayed
    assert not (await use_code(program.id, code, "key", VAULT)).replayed
    assert (await refusal(cancel(program.id, reserved.id, "No", "key")))[0] == "WRONG_STATE"
    await check_books(program)


async def test_keys_of_members_collide_with_nobodys(world: World) -> None:
    program, member, reward = world
    other = await rich_member(program)
    requests = [
        wanted(member, reward, key="1", hold_seconds=60),
        wanted(member, reward, key="1", hold_seconds=60, caller=member.id),
        wanted(other, reward, key="1", hold_seconds=60, caller=other.id),
    ]
    taken = await redeem(program.id, requests)
    assert [each.replayed for each in taken] == [False] * 3
    ids = [each.redemption.id for each in taken if each.redemption]
    assert len(set(ids)) == 3
    assert [each.replayed for each in await redeem(program.id, requests)] == [True] * 3
    await capture(program.id, ids[0], "1")
    assert not (await capture(program.id, ids[1], "1", caller=member.id)).replayed
    assert not (await cancel(program.id, ids[2], "No", "1", caller=other.id)).replayed
    assert (await cancel(program.id, ids[2], "No", "1", caller=other.id)).replayed
    await check_books(program)


async def test_members_see_and_change_nothing_of_others_and_spend_what_they_reserved_whole(
    world: World,
) -> None:
    program, member, reward = world
    other = await rich_member(program)
    reserved = await redeemed(program, other, reward, hold_seconds=60)
    for step in (
        capture(program.id, reserved.id, "key", caller=member.id),
        cancel(program.id, reserved.id, "No", "key", caller=member.id),
    ):
        assert await refusal(step) == ("NOT_FOUND", "There is no such redemption.")
    own = await redeemed(program, member, reward, hold_seconds=60)
    assert await refusal(capture(program.id, own.id, "key", 50, caller=member.id)) == (
        "INVALID",
        "The reward has a fixed price: capture all of its points.",
    )
    await capture(program.id, own.id, "key", 100, caller=member.id)
    assert (await refusal(cancel(program.id, own.id, "No", "key", caller=member.id)))[0] == "NOT_ELIGIBLE"
    discount = await new_reward(program, "DISCOUNT")
    held = await redeemed(program, member, discount, points=200, hold_seconds=60)
    done = await capture(program.id, held.id, "discount", 30, caller=member.id)
    assert (done.redemption.points, done.redemption.amount) == (30, Decimal("0.30"))


async def test_a_member_does_not_find_a_draft_and_the_program_is_told_what_it_is(world: World) -> None:
    program, member, _ = world
    draft = await new_reward(program, status=RewardStatus.DRAFT)
    mine = await ask(program, member, draft, caller=member.id)
    assert [(str(each.code), each.field) for each in mine.errors] == [("NOT_FOUND", ("reward_id",))]
    assert codes_of(await ask(program, member, draft)) == ["NOT_ELIGIBLE"]


async def test_nothing_of_another_program_is_found(world: World) -> None:
    program, member, reward = world
    elsewhere = await new_program()
    stranger = await rich_member(elsewhere)
    redemption = await redeemed(program, member, reward)
    (code,) = await codes_had(program, redemption)
    assert codes_of(await ask(elsewhere, stranger, reward)) == ["NOT_FOUND"]
    assert codes_of(await ask(elsewhere, member, await new_reward(elsewhere))) == ["NOT_FOUND"]
    for step in (
        capture(elsewhere.id, redemption.id, "key"),
        cancel(elsewhere.id, redemption.id, "No", "key"),
        fulfil(elsewhere.id, redemption.id),
        use_code(elsewhere.id, code, "key", VAULT),
    ):
        assert (await refusal(step))[0] == "NOT_FOUND"


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ""},
        {"key": "k" * 256},
        {"key": "tab\there"},
        {"key": "nul\0"},
        {"quantity": 0},
        {"quantity": -5},
        {"quantity": 101},
        {"quantity": 2**80},
        {"hold_seconds": 0},
        {"hold_seconds": 30 * A_DAY + 1},
        {"hold_seconds": -(2**70)},
        {"points": 0},
        {"points": -1},
        {"points": 2**53},
        {"points": 2**90},
        {"order_id": ""},
        {"order_id": "x" * 256},
        {"order_id": "\0"},
        {"order_amount": Decimal("-0.01")},
        {"order_amount": Decimal("NaN")},
        {"order_amount": Decimal("sNaN")},
        {"order_amount": Decimal("-Infinity")},
        {"order_amount": Decimal("1E+13")},
        {"order_amount": Decimal("1E+999999")},
        {"order_amount": Decimal("0.0000001")},
        {"order_amount": Decimal("1E-999999")},
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_told_with_its_field_and_costs_the_others_nothing(
    world: World, wrong: dict[str, Any]
) -> None:
    program, member, reward = world
    bad, good = await redeem(
        program.id, [wanted(member, reward)._replace(**wrong), wanted(member, reward, quantity=2)]
    )
    (name,) = wrong
    field = "idempotency_key" if name == "key" else name
    assert [(str(each.code), each.field) for each in bad.errors] == [("INVALID", (field,))]
    assert good.redemption is not None


async def test_reasons_notes_and_keys_of_steps_are_checked(world: World) -> None:
    redemption = await redeemed(world.program, world.member, world.reward)
    for reason in ("", "   ", "x" * 501, "nul\0"):
        with pytest.raises(Refused) as refused:
            await cancel(world.program.id, redemption.id, reason, "")
        assert [each.field for each in refused.value.errors] == [("reason",), ("idempotency_key",)]
        assert (await refusal(fulfil(world.program.id, redemption.id, reason)))[0] == "INVALID"
    assert (await refusal(use_code(world.program.id, "nobody's", "key", VAULT)))[0] == "NOT_FOUND"


@pytest.mark.parametrize("hold", [1, 30 * A_DAY])
async def test_a_reservation_lasts_as_long_as_was_asked(
    world: World, monkeypatch: pytest.MonkeyPatch, hold: int
) -> None:
    program, member, reward = world
    reserved = await redeemed(program, member, reward, hold_seconds=hold)
    until = pass_time(monkeypatch, seconds=hold, microseconds=-1)
    await release_due(program.id)
    (still,) = await get_redemptions(program.id, [reserved.id])
    assert still == reserved
    assert still.reserved_until is not None
    assert (still.reserved_until - until).microseconds == 1
    pass_time(monkeypatch, microseconds=1)
    await release_due(program.id)
    (gone,) = await get_redemptions(program.id, [reserved.id])
    assert gone is not None
    assert gone.status is RedemptionStatus.EXPIRED
    await check_books(program)


async def test_of_a_partial_capture_the_rest_goes_back_to_what_expires_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 1)
    program = await new_program()
    member, reward = await new_member(program), await new_reward(program, points=250)
    march, june, october = date(2026, 3, 31), date(2026, 6, 30), date(2026, 10, 31)
    for day in (june, october, march):
        await earn(program, member, 100, day)
    reserved = await redeemed(program, member, reward, hold_seconds=60)
    assert await lots_of(member) == {october: 50}
    done = (await capture(program.id, reserved.id, "key", 120)).redemption
    assert (done.points, done.restored) == (120, 0)
    assert await lots_of(member) == {june: 80, october: 100}
    assert (await balance_of(program, member)).lifetime_spent == 120
    done = (await cancel(program.id, reserved.id, "No", "key")).redemption
    assert (done.points, done.restored) == (120, 120)
    assert await lots_of(member) == {march: 100, june: 100, october: 100}
    balance = await balance_of(program, member)
    assert (balance.available, balance.reserved, balance.lifetime_spent) == (300, 0, 0)
    await check_books(program)


async def test_a_redemption_with_a_used_code_cannot_be_cancelled(world: World) -> None:
    program, member, reward = world
    redemption = await redeemed(program, member, reward, quantity=2)
    first, second = await codes_had(program, redemption)
    assert (await use_code(program.id, first, "1", VAULT)).redemption.status is RedemptionStatus.CONFIRMED
    assert await refusal(cancel(program.id, redemption.id, "No", "key")) == (
        "WRONG_STATE",
        "One of its codes has been USED; the redemption cannot be cancelled.",
    )
    assert (await refusal(use_code(program.id, first, "2", VAULT)))[0] == "WRONG_STATE"
    await fulfil(program.id, redemption.id)
    assert (await use_code(program.id, second, "3", VAULT)).redemption.status is RedemptionStatus.USED


async def test_another_note_does_not_replace_the_first(world: World) -> None:
    redemption = await redeemed(world.program, world.member, world.reward)
    await fulfil(world.program.id, redemption.id)
    assert (await fulfil(world.program.id, redemption.id)).replayed
    assert (await refusal(fulfil(world.program.id, redemption.id, "x")))[0] == "WRONG_STATE"
