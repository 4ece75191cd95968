"""What those who waited for a reward find: the reward as whoever had it before them has left it."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.redemptions.expiring import release
from app.redemptions.steps import cancel
from app.settings import Settings
from tests.helpers import new_program
from tests.redemptions.making import (
    balance_of,
    check_books,
    codes_of,
    load,
    new_reward,
    pass_time,
    redeem,
    redeemed,
    rich_member,
    somebody_waits,
    stock_of,
    wanted,
)


@pytest.fixture
async def other(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """A connection of somebody else's, who has what is left of a reward."""
    assert settings.database_url
    sql = await asyncpg.connect(settings.database_url)
    yield sql
    await sql.close()


CHANGED = "UPDATE reward SET version = version + 1, {} WHERE id = $1"
NEW_VERSION = "UPDATE reward_stock SET version = version + 1 WHERE reward_id = $1"


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([CHANGED.format("status = 'PAUSED'"), NEW_VERSION], ["NOT_ELIGIBLE"]),
        ([CHANGED.format("ends_at = now()"), NEW_VERSION], ["NOT_ELIGIBLE"]),
        ([CHANGED.format("points = 5000"), NEW_VERSION], ["INSUFFICIENT_POINTS"]),
        ([CHANGED.format("points = 250"), NEW_VERSION], 250),
        ([CHANGED.format("max_per_member = 1"), NEW_VERSION], 100),
        ([CHANGED.format("max_total = 3"), NEW_VERSION], ["LIMIT_REACHED"]),
        (["UPDATE reward_stock SET taken = 5 WHERE reward_id = $1"], ["OUT_OF_STOCK"]),
        (["UPDATE reward_stock SET capacity = 3 WHERE reward_id = $1"], ["OUT_OF_STOCK"]),
        (["UPDATE reward_stock SET taken = 4 WHERE reward_id = $1"], 100),
        (
            ["UPDATE reward_stock SET drawn_at = now(), winner_id = reward_id WHERE reward_id = $1"],
            ["NOT_ELIGIBLE"],
        ),
    ],
    ids=str,
)
async def test_who_waited_for_a_reward_meets_it_as_it_is_then(
    other: asyncpg.Connection, statements: list[str], expected: list[str] | int
) -> None:
    program = await new_program()
    reward, member = await new_reward(program, stock=5), await rich_member(program, 1000)
    async with other.transaction():
        await other.execute("UPDATE reward_stock SET taken = 3 WHERE reward_id = $1", reward.id)
        task = asyncio.create_task(redeem(program.id, [wanted(member, reward)]))
        await somebody_waits(other.get_server_pid())
        for statement in statements:
            await other.execute(statement, reward.id)
    (taken,) = await task
    if isinstance(expected, int):
        assert taken.redemption is not None
        assert taken.redemption.points == expected
        assert (await balance_of(program, member)).available == 1000 - expected
    else:
        assert codes_of(taken) == expected
        assert (await balance_of(program, member)).available == 1000


async def test_several_that_come_back_at_once_are_added_to_what_others_have_left(
    other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = await new_program()
    rewards = [await new_reward(program, "VOUCHER", stock=50) for _ in range(2)]
    for n, reward in enumerate(rewards):
        await load(program, reward, *(f"{n}-{code}" for code in range(20)))
    members = [await rich_member(program) for _ in range(3)]
    held = [
        await redeemed(program, member, reward, quantity=2, hold_seconds=60)
        for member in members
        for reward in rewards
    ]
    pass_time(monkeypatch, seconds=60)
    async with other.transaction():
        # Somebody else takes and gives back, of both, while six reservations of three members come back.
        for reward in rewards[::-1]:
            await other.execute(
                "UPDATE reward_stock SET taken = taken + 10, codes = codes - 1 WHERE reward_id = $1",
                reward.id,
            )
        task = asyncio.create_task(release(program.id, held))
        await somebody_waits(other.get_server_pid())
        for reward in rewards:
            await other.execute("UPDATE reward_stock SET codes = codes - 2 WHERE reward_id = $1", reward.id)
    assert await task == 6
    for reward in rewards:
        stock = await stock_of(program, reward)
        assert (stock.taken, stock.codes) == (10, 20 - 3)
        await other.execute(
            "UPDATE reward_stock SET taken = taken - 10, codes = codes + 3 WHERE reward_id = $1", reward.id
        )
    await check_books(program)


async def test_a_cancel_that_waits_for_a_reward_gives_back_one_piece(other: asyncpg.Connection) -> None:
    program = await new_program()
    reward, member = await new_reward(program, stock=5), await rich_member(program)
    redemption = await redeemed(program, member, reward, quantity=2)
    async with other.transaction():
        await other.execute("UPDATE reward_stock SET taken = taken + 3 WHERE reward_id = $1", reward.id)
        task = asyncio.create_task(cancel(program.id, redemption.id, "No", "key"))
        await somebody_waits(other.get_server_pid())
    await task
    assert (await stock_of(program, reward)).taken == 3
    await other.execute("UPDATE reward_stock SET taken = 0 WHERE reward_id = $1", reward.id)
    await check_books(program)
