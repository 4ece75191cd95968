"""Reservations that run out: swept, released by who needs what they hold, captured at the last moment."""

from collections import Counter
from datetime import datetime, timedelta
from unittest.mock import Mock

import pytest

from app import clock
from app.database import connection
from app.errors import Refused
from app.paging import Page
from app.redemptions import expiring
from app.redemptions.expiring import release, release_due, release_of_members, sweep
from app.redemptions.reads import get_redemptions, list_of_members, list_redemptions
from app.redemptions.redemptions import Redemption, RedemptionStatus
from app.redemptions.steps import cancel, capture
from tests.helpers import new_program, set_now
from tests.redemptions.making import (
    WAYS,
    Way,
    all_at_once,
    ask,
    balance_of,
    check_books,
    codes_had,
    codes_of,
    load,
    new_reward,
    pass_time,
    redeem,
    redeemed,
    rich_member,
    stock_of,
    tally,
    wanted,
)


@pytest.fixture(autouse=True)
async def moment(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """A moment of which nobody else's reservations know: what other tests left is swept before it."""
    monkeypatch.setattr(expiring, "_put_off", expiring._Memory())
    set_now(monkeypatch, 2126, 1, 1)
    await sweep()
    return set_now(monkeypatch, 2026, 5, 5, 12)


async def test_two_sweeps_at_once_release_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = [await new_program() for _ in range(3)]
    for program in programs:
        reward, pool = await new_reward(program, stock=20), await new_reward(program, "VOUCHER")
        await load(program, pool, *(f"C{n}" for n in range(10)))
        members = [await rich_member(program) for _ in range(3)]
        for member in members:
            for _ in range(3):
                await redeemed(program, member, reward, hold_seconds=60)
            await redeemed(program, member, pool, quantity=2, hold_seconds=60)
            await redeemed(program, member, reward, hold_seconds=61)
            await redeemed(program, member, reward)
    pass_time(monkeypatch, seconds=60)
    swept = await all_at_once([sweep] * 3)
    assert sum(swept) == 3 * 3 * 4
    assert await sweep() == 0
    for program in programs:
        async with connection() as sql:
            rows = await sql.fetch("SELECT status FROM redemption WHERE program_id = $1", program.id)
        assert Counter(row["status"] for row in rows) == {"EXPIRED": 12, "RESERVED": 3, "CONFIRMED": 3}
        await check_books(program)


async def test_more_than_one_batch_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.redemptions.expiring._BATCH", 4)
    program = await new_program()
    member, reward = await rich_member(program, 5000), await new_reward(program)
    await redeem(program.id, [wanted(member, reward, hold_seconds=1 + n) for n in range(10)])
    pass_time(monkeypatch, seconds=9)
    assert await sweep() == 9
    await check_books(program)


async def test_capture_and_release_at_the_very_moment_one_of_them_happens(moment: datetime) -> None:
    """Half of the clocks are a moment late: those who capture believe that they are in time."""
    program = await new_program()
    reward = await new_reward(program, stock=100)
    seen = Counter[str]()
    for n in range(12):
        member = await rich_member(program, 100)
        reserved = await redeemed(program, member, reward, hold_seconds=60)
        now = iter([moment + timedelta(seconds=60, microseconds=-(k % 2)) for k in range(100)])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clock, "now", lambda now=now: next(now))

            async def do(n: int = n, reserved: Redemption = reserved) -> str:
                try:
                    await capture(program.id, reserved.id, f"{n}")
                except Refused as refused:
                    (error,) = refused.errors
                    assert error.message == "The redemption is EXPIRED, and cannot be captured."
                    return "EXPIRED"
                return "CONFIRMED"

            works = [do, lambda reserved=reserved: release(program.id, [reserved])]
            outcome, released = (await all_at_once(works if n % 2 else works[::-1]))[:: 1 if n % 2 else -1]
        (after,) = await get_redemptions(program.id, [reserved.id])
        assert after is not None
        assert after.status == outcome
        assert not (released and outcome == "CONFIRMED")
        seen[outcome] += 1
        assert (await balance_of(program, member)).available == (100 if outcome == "EXPIRED" else 0)
    assert (await stock_of(program, reward)).taken == seen["CONFIRMED"]
    await check_books(program)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name.replace(" ", "-"))
async def test_members_race_for_pieces_that_ran_out_and_not_one_piece_is_left_over(
    monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    program = await new_program()
    reward = await new_reward(program, stock=7)
    holders = [await rich_member(program, 100) for _ in range(7)]
    for holder in holders:
        await redeemed(program, holder, reward, hold_seconds=60)
    members = [await rich_member(program, 100) for _ in range(20)]
    pass_time(monkeypatch, seconds=60)
    results = await way.ask(program, [wanted(member, reward) for member in members])
    assert tally(results) == {"OK": 7, "OUT_OF_STOCK": 13}
    for holder in holders:
        assert (await balance_of(program, holder)).available == 100
    await check_books(program)


async def test_points_that_ran_out_are_there_for_many_requests_of_the_member_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.redemptions.expiring._BATCH", 4)
    program = await new_program()
    reward, members = await new_reward(program), [await rich_member(program, 1000) for _ in range(3)]
    await redeem(
        program.id, [wanted(member, reward, hold_seconds=60) for member in members for _ in range(10)]
    )
    pass_time(monkeypatch, seconds=60)
    works = [
        lambda: redeem(program.id, [wanted(member, reward, quantity=5) for member in members])
        for _ in range(3)
    ]
    results = [each for batch in await all_at_once(works) for each in batch]
    assert tally(results) == {"OK": 6, "INSUFFICIENT_POINTS": 3}
    await check_books(program)


async def test_what_a_program_releases_is_on_every_page(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await new_program()
    member, reward = await rich_member(program, 5000), await new_reward(program)
    lasting = await redeemed(program, member, reward, hold_seconds=600)
    await redeem(program.id, [wanted(member, reward, hold_seconds=60) for _ in range(9)])
    pass_time(monkeypatch, seconds=60)
    assert await release_due(program.id) == 9
    page = Page(3)
    found = await list_redemptions(program.id, page, RedemptionStatus.RESERVED)
    assert [each.id for each in found.items] == [lasting.id]
    found = await list_redemptions(program.id, page, RedemptionStatus.EXPIRED)
    assert (len(found.items), found.has_next) == (3, True)
    (found,) = await list_of_members(program.id, [member.id], page)
    assert {each.status for each in found.items} == {RedemptionStatus.EXPIRED}
    assert (await balance_of(program, member)).reserved == 100
    await check_books(program)


async def test_those_that_ran_out_are_released_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await new_program()
    member, reward = await rich_member(program), await new_reward(program)
    short, lasting = [await redeemed(program, member, reward, hold_seconds=hold) for hold in (60, 61)]
    pass_time(monkeypatch, seconds=60)
    assert await release_due(program.id) == 1
    gone, still = await get_redemptions(program.id, [short.id, lasting.id])
    assert gone is not None
    assert (gone.status, gone.ended_at) == (RedemptionStatus.EXPIRED, clock.now())
    assert still == lasting


async def test_an_account_whose_books_disagree_holds_up_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Mock()
    monkeypatch.setattr("app.redemptions.expiring.log", told)
    program = await new_program()
    reward = await new_reward(program, stock=10)
    members = [await rich_member(program, 200) for _ in range(5)]
    held = [await redeemed(program, member, reward, hold_seconds=60) for member in members]
    broken = members[2]
    async with connection() as sql:
        # The lot has no room for what is to come back.
        await sql.execute(
            "UPDATE allocation SET amount = amount - 60 WHERE account_id = $1 AND amount > 0", broken.id
        )
    pass_time(monkeypatch, seconds=60)
    try:
        assert await sweep() == 4
        told.exception.assert_called_once_with("reservation_not_released", redemption_id=str(held[2].id))
        # Nobody tries it again for a while: not who sweeps, nor who reads, nor who needs the points.
        assert await sweep() == await release_due(program.id) == 0
        # Others have the pieces, and the member what is not held.
        results = await redeem(program.id, [wanted(member, reward, quantity=1) for member in members])
        assert tally(results) == {"OK": 5}
        assert codes_of(await ask(program, broken, reward)) == ["INSUFFICIENT_POINTS"]
        assert codes_of(await ask(program, members[0], reward, quantity=9)) == [
            "OUT_OF_STOCK",
            "INSUFFICIENT_POINTS",
        ]
        told.exception.assert_called_once()
        with pytest.raises(Exception, match="cannot be given back"):
            await cancel(program.id, held[2].id, "No", "key")
    finally:
        async with connection() as sql:
            await sql.execute(
                "UPDATE allocation SET amount = amount + 60 WHERE account_id = $1 AND amount = 40", broken.id
            )
    assert await sweep() == 0
    monkeypatch.setattr(expiring, "_put_off", expiring._Memory())
    assert await sweep() == 1
    await check_books(program)


async def test_codes_of_reservations_that_ran_out_are_given_again_and_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = await new_program()
    reward, member = await new_reward(program, "VOUCHER"), await rich_member(program)
    await load(program, reward, "A", "B", "C", "D")
    short = await redeemed(program, member, reward, quantity=2, hold_seconds=60)
    await redeemed(program, member, reward, hold_seconds=600)
    assert await codes_had(program, short) == ["A", "B"]
    pass_time(monkeypatch, seconds=60)
    following = await redeemed(program, member, reward, quantity=3)
    assert await codes_had(program, following) == ["A", "B", "D"]
    assert await codes_had(program, short) == []
    await check_books(program)


async def test_a_release_that_waits_for_a_capture_leaves_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await new_program()
    member, reward = await rich_member(program, 100), await new_reward(program)
    reserved = await redeemed(program, member, reward, hold_seconds=60)
    await capture(program.id, reserved.id, "key")
    pass_time(monkeypatch, seconds=60)
    # What was read before the capture.
    assert await release(program.id, [reserved]) == 0
    assert await release_of_members(program.id, [member.id]) == 0
    await check_books(program)
