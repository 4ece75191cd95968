"""Limits per member, per member and month, and of a reward altogether, and what is over or not yet."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.catalog.rewards import RewardLimits, RewardStatus
from app.catalog.service import set_reward_status, update_reward
from app.redemptions.expiring import release_due
from app.redemptions.redemptions import Redemption
from app.redemptions.steps import cancel, capture
from app.redemptions.taking import Taken
from tests.helpers import new_member, new_program, set_now
from tests.redemptions.making import (
    ask,
    check_books,
    codes_of,
    load,
    new_reward,
    pass_time,
    redeem,
    redeemed,
    rich_member,
    stock_of,
    wanted,
)

A_DAY = 24 * 3600


def sentence(taken: Taken) -> str:
    (error,) = taken.errors
    assert error.code == "LIMIT_REACHED"
    assert error.field == ("reward_id",)
    return error.message


async def test_a_member_can_have_so_many_pieces_and_the_quantity_counts() -> None:
    program = await new_program()
    reward = await new_reward(program, limits=RewardLimits(max_per_member=3))
    member, other = await rich_member(program), await rich_member(program)
    await redeemed(program, member, reward, quantity=2)
    assert sentence(await ask(program, member, reward, quantity=2)) == (
        "Each member can have 3 of it, and this one has had 2."
    )
    await redeemed(program, member, reward, hold_seconds=60)
    assert codes_of(await ask(program, member, reward)) == ["LIMIT_REACHED"]
    assert codes_of(await ask(program, other, reward, quantity=4)) == ["LIMIT_REACHED"]
    await redeemed(program, other, reward, quantity=3)
    await check_books(program)


async def test_a_limit_of_one_member_is_kept_inside_one_batch() -> None:
    program = await new_program()
    reward = await new_reward(program, limits=RewardLimits(max_per_member=3, max_total=4))
    member, other = await rich_member(program), await rich_member(program)
    results = await redeem(
        program.id,
        [
            wanted(member, reward, quantity=2),
            wanted(member, reward, quantity=2),
            wanted(member, reward),
            wanted(member, reward),
            wanted(other, reward),
            wanted(other, reward),
        ],
    )
    assert [each.redemption is not None for each in results] == [True, False, True, False, True, False]
    assert sentence(results[-1]) == "All 4 that there are to be have been redeemed."


@pytest.mark.parametrize("over", ["cancelled reservation", "cancelled", "run out"])
async def test_what_was_cancelled_or_ran_out_gives_the_room_back(
    monkeypatch: pytest.MonkeyPatch, over: str
) -> None:
    set_now(monkeypatch, 2026, 5, 5)
    program = await new_program()
    limits = RewardLimits(max_per_member=1, max_per_member_per_month=1, max_total=1)
    reward, member = await new_reward(program, limits=limits), await rich_member(program)
    first = await redeemed(program, member, reward, hold_seconds=None if over == "cancelled" else 60)
    assert codes_of(await ask(program, member, reward)) == ["LIMIT_REACHED"]
    if over == "run out":
        pass_time(monkeypatch, seconds=60)
    else:
        await cancel(program.id, first.id, "No", "cancel")
    await redeemed(program, member, reward)
    assert codes_of(await ask(program, member, reward)) == ["LIMIT_REACHED"]
    await check_books(program)


async def test_room_of_all_that_others_let_run_out_serves_the_next_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 5, 5)
    program = await new_program()
    reward = await new_reward(program, limits=RewardLimits(max_total=1))
    await redeemed(program, await rich_member(program), reward, hold_seconds=60)
    member = await rich_member(program)
    assert codes_of(await ask(program, member, reward)) == ["LIMIT_REACHED"]
    pass_time(monkeypatch, seconds=60)
    await redeemed(program, member, reward)
    await check_books(program)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Pacific/Kiritimati", "America/Los_Angeles", "UTC"])
async def test_months_are_those_of_the_programs_zone(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    here = ZoneInfo(zone)
    last_moment = set_now(monkeypatch, 2026, 3, 31, 23, 59, 59, 999_999, tz=here)
    program = await new_program(timezone=zone)
    reward = await new_reward(program, limits=RewardLimits(max_per_member_per_month=2, max_per_member=5))
    member = await rich_member(program)
    await redeemed(program, member, reward, quantity=2)
    assert sentence(await ask(program, member, reward)) == (
        "Each member can have 2 of it a month, and this one has had 2."
    )
    midnight = set_now(monkeypatch, 2026, 4, 1, tz=here)
    assert midnight - last_moment == timedelta(microseconds=1)
    await redeemed(program, member, reward, quantity=2)
    assert codes_of(await ask(program, member, reward)) == ["LIMIT_REACHED"]
    set_now(monkeypatch, 2026, 5, 1, tz=here)
    assert sentence(await ask(program, member, reward, quantity=2)) == (
        "Each member can have 5 of it, and this one has had 4."
    )
    await redeemed(program, member, reward)


async def test_a_reservation_counts_for_the_month_in_which_it_was_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 31)
    program = await new_program()
    reward = await new_reward(program, limits=RewardLimits(max_per_member_per_month=1))
    member = await rich_member(program)
    reserved = await redeemed(program, member, reward, hold_seconds=3 * A_DAY)
    set_now(monkeypatch, 2026, 4, 1)
    await capture(program.id, reserved.id, "capture")
    await redeemed(program, member, reward)
    assert codes_of(await ask(program, member, reward)) == ["LIMIT_REACHED"]


async def test_limits_that_are_lowered_below_what_was_had_refuse_and_those_that_are_raised_serve() -> None:
    program = await new_program()
    reward, member = await new_reward(program), await rich_member(program)
    await redeemed(program, member, reward, quantity=3)
    for limits, refused in (
        (RewardLimits(max_total=2), True),
        (RewardLimits(max_per_member=1), True),
        (RewardLimits(max_per_member=4, max_total=4), False),
    ):
        await update_reward(program.id, reward.id, {"limits": limits})
        assert (not (await ask(program, member, reward)).redemption) is refused


async def test_everything_that_stands_against_it_is_told_at_once_what_cannot_be_helped_first() -> None:
    program = await new_program()
    member = await new_member(program)
    reward = await new_reward(
        program,
        stock=0,
        ends_at=datetime(2001, 1, 1, tzinfo=UTC),
        limits=RewardLimits(max_per_member=1),
    )
    await set_reward_status(program.id, reward.id, RewardStatus.PAUSED)
    refused = await ask(program, member, reward, quantity=2)
    assert codes_of(refused) == [
        "NOT_ELIGIBLE",
        "NOT_ELIGIBLE",
        "OUT_OF_STOCK",
        "LIMIT_REACHED",
        "INSUFFICIENT_POINTS",
    ]
    assert [error.field for error in refused.errors] == [("reward_id",)] * 4 + [("member",)]


async def test_a_reward_is_to_be_had_from_its_start_until_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = set_now(monkeypatch, 2026, 5, 1)
    ends = starts + timedelta(days=1)
    pass_time(monkeypatch, seconds=-1)
    program = await new_program()
    reward = await new_reward(program, starts_at=starts, ends_at=ends)
    member = await rich_member(program)
    for moment, message in (
        (starts - timedelta(microseconds=1), "The reward can be redeemed from 2026-05-01 00:00 UTC on."),
        (starts, None),
        (ends - timedelta(microseconds=1), None),
        (ends, "The reward's time is over."),
    ):
        monkeypatch.setattr("app.clock.now", lambda moment=moment: moment)
        taken = await ask(program, member, reward)
        assert [error.message for error in taken.errors] == ([] if message is None else [message])


async def test_points_and_pieces_of_what_ran_out_serve_the_next_request_without_a_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 5, 5)
    program = await new_program()
    reward, dear = await new_reward(program, stock=2), await new_reward(program, points=1000)
    vouchers = await new_reward(program, "VOUCHER", points=10)
    await load(program, vouchers, "A", "B")
    members = [await rich_member(program) for _ in range(3)]
    held: list[Redemption] = [
        await redeemed(program, members[0], reward, hold_seconds=1),
        await redeemed(program, members[1], reward, hold_seconds=1),
        await redeemed(program, members[1], vouchers, quantity=2, hold_seconds=1),
    ]
    pass_time(monkeypatch, seconds=1)
    # Others' pieces and codes, all in one batch, and the member's own points.
    results = await redeem(
        program.id,
        [
            wanted(members[2], reward, quantity=2),
            wanted(members[2], vouchers, quantity=2),
            wanted(members[0], dear),
        ],
    )
    assert [each.errors for each in results] == [(), (), ()]
    assert (await stock_of(program, reward)).left == 0
    assert len(held) == await release_due(program.id) + 3
    await check_books(program)
