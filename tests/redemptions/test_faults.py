"""Requests that are broken off, and connections that break: everything or nothing, and once."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from app.coalescing import Coalescer
from app.database import connection, transaction
from app.errors import Unavailable
from app.members.reads import MemberRow
from app.programs.models import Program
from app.redemptions import booking
from app.redemptions.inputs import Wanted
from app.redemptions.steps import capture
from app.redemptions.taking import Taken, take
from app.settings import Settings
from tests.helpers import new_program
from tests.redemptions.making import (
    VAULT,
    all_at_once,
    balance_of,
    check_books,
    coalescing,
    load,
    new_reward,
    redeem,
    redeemed,
    rich_member,
    somebody_waits,
    tally,
    wanted,
)

NAME = "laurel-tests"


@pytest.fixture
async def killer(settings: Settings) -> Any:
    """A connection of its own, with which those of this process can be ended."""
    assert settings.database_url
    sql = await asyncpg.connect(settings.database_url)
    yield sql
    await sql.close()


async def kill_connections(killer: asyncpg.Connection, *, busy: bool) -> int:
    """End the connections of this process, or those that are at work; return how many that were."""
    rows = await killer.fetch(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = $1 AND datname = current_database() AND (state <> 'idle' OR NOT $2)
        """,
        NAME,
        busy,
    )
    return len(rows)


async def a_busy_shop() -> tuple[Program, list[MemberRow], list[Wanted]]:
    """Return a program, its members, and forty requests of them for pieces and codes."""
    program = await new_program()
    members = [await rich_member(program, 10_000) for _ in range(8)]
    plain, pool = await new_reward(program, stock=100), await new_reward(program, "VOUCHER")
    await load(program, pool, *(f"C{n:03}" for n in range(100)))
    requests = [
        wanted(
            members[n % 8], (plain, pool)[n // 8 % 2], quantity=1 + n % 2, hold_seconds=(None, 60)[n % 3 == 0]
        )
        for n in range(40)
    ]
    return program, members, requests


async def everything_is_there_once(
    program: Program, members: list[MemberRow], requests: list[Wanted]
) -> None:
    """Repeat all requests: in the end there is one redemption of each, whatever came before."""
    results = await redeem(program.id, requests)
    assert tally(results).keys() <= {"OK", "REPLAYED"}
    assert len({each.redemption.id for each in results if each.redemption}) == len(requests)
    for member in members:
        balance = await balance_of(program, member)
        assert balance.available == 10_000 - 100 * sum(
            each.quantity for each in requests if each.member.id == member.id
        )
    await check_books(program)


@pytest.mark.parametrize("seed", range(3))
async def test_requests_that_are_broken_off_anywhere_leave_everything_or_nothing(seed: int) -> None:
    program, members, requests = await a_busy_shop()
    generator = random.Random(seed)
    for start in range(0, 40, 5):
        task = asyncio.create_task(redeem(program.id, requests[start : start + 5]))
        await asyncio.sleep(generator.uniform(0, 0.012))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await check_books(program)
    await everything_is_there_once(program, members, requests)


async def test_a_request_that_is_broken_off_while_it_waits_holds_nothing_up(
    killer: asyncpg.Connection,
) -> None:
    program = await new_program()
    member, reward = await rich_member(program), await new_reward(program, stock=1)
    request = wanted(member, reward)
    async with killer.transaction():
        await killer.execute("SELECT FROM reward_stock WHERE reward_id = $1 FOR UPDATE", reward.id)
        task = asyncio.create_task(redeem(program.id, [request]))
        await somebody_waits(killer.get_server_pid())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (taken,) = await redeem(program.id, [request])
    assert not taken.replayed
    assert taken.redemption is not None
    await check_books(program)


async def test_connections_that_break_under_batches_leave_everything_or_nothing(
    killer: asyncpg.Connection,
) -> None:
    program, members, requests = await a_busy_shop()
    killed = 0

    async def kill() -> None:
        nonlocal killed
        for _ in range(12):
            killed += await kill_connections(killer, busy=True)
            await asyncio.sleep(0.004)

    async def ask(batch: Sequence[Wanted]) -> list[Taken] | None:
        try:
            return await redeem(program.id, batch)
        except Unavailable:
            return None

    works = [lambda start=start: ask(requests[start : start + 4]) for start in range(0, 40, 4)]
    works.insert(0, kill)  # type: ignore[arg-type]
    answers = [each for each in await all_at_once(works) if each is not None]
    assert killed > 0
    told = {each.redemption.id for batch in answers for each in batch if each.redemption}
    results = await redeem(program.id, requests)
    # What somebody was told is there.
    assert told <= {each.redemption.id for each in results if each.redemption}
    await everything_is_there_once(program, members, requests)


async def test_a_connection_that_is_lost_with_the_commit_costs_nothing_and_gives_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The database has committed, and nobody heard of it: the batch is done again, and finds itself done."""
    program, members, requests = await a_busy_shop()
    lost = 0

    class Lost:
        def __init__(self) -> None:
            self.inner = transaction()

        async def __aenter__(self) -> asyncpg.Connection:
            return await self.inner.__aenter__()

        async def __aexit__(self, *error: Any) -> bool | None:
            nonlocal lost
            done = await self.inner.__aexit__(*error)
            if error[0] is None and lost < 2:
                lost += 1
                raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            return done

    monkeypatch.setattr("app.redemptions.taking.transaction", Lost)
    assert tally(await redeem(program.id, requests)) == {"REPLAYED": 40}
    assert lost == 2
    await everything_is_there_once(program, members, requests)


async def test_a_batch_that_fails_at_its_end_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    program, members, requests = await a_busy_shop()
    with monkeypatch.context() as patch:
        patch.setattr(
            booking, "_KEEP", booking._KEEP.replace("SELECT count(*)", "SELECT 1 / (count(*) - 40)")
        )
        with pytest.raises(asyncpg.DivisionByZeroError):
            await redeem(program.id, requests)
    for member in members:
        assert (await balance_of(program, member)).available == 10_000
    await check_books(program)
    assert tally(await redeem(program.id, requests)) == {"OK": 40}
    await everything_is_there_once(program, members, requests)


async def test_of_a_batch_one_that_cannot_be_done_does_not_harm_the_others() -> None:
    """The pool of one reward has fewer codes than are counted: whoever asks for those gets an error."""
    program, members, requests = await a_busy_shop()
    broken = await new_reward(program, "VOUCHER")
    async with transaction() as sql:
        await sql.execute("UPDATE reward_stock SET codes = 5 WHERE reward_id = $1", broken.id)
    async with coalescing() as coalescer:
        answers = await all_at_once(
            [
                lambda each=each: coalescer.do(program.id, each)
                for each in [*requests[:10], wanted(members[0], broken), *requests[10:]]
            ],
            failing=True,
        )
    assert [n for n, each in enumerate(answers) if isinstance(each, BaseException)] == [10]
    assert isinstance(answers[10], AssertionError)
    async with transaction() as sql:
        await sql.execute("UPDATE reward_stock SET codes = 0 WHERE reward_id = $1", broken.id)
    await everything_is_there_once(program, members, requests)


async def test_stopping_the_coalescer_finishes_what_is_under_way_and_what_waits() -> None:
    program, members, requests = await a_busy_shop()
    begun = asyncio.Event()

    async def slowly(program_id: UUID, batch: Sequence[Wanted]) -> list[Taken]:
        begun.set()
        await asyncio.sleep(0.02)
        return await take(program_id, batch, VAULT)

    coalescer = Coalescer(slowly, "redeem")
    await coalescer.start()
    tasks = [asyncio.create_task(coalescer.do(program.id, each)) for each in requests[:20]]
    await begun.wait()
    tasks += [asyncio.create_task(coalescer.do(program.id, each)) for each in requests[20:]]
    await asyncio.sleep(0)
    await coalescer.stop()
    assert all(task.done() for task in tasks)
    assert tally([task.result() for task in tasks]) == {"OK": 40}
    with pytest.raises(Unavailable):
        await coalescer.do(program.id, requests[0])
    await everything_is_there_once(program, members, requests)


async def test_whoever_leaves_the_coalescer_early_leaves_the_others_alone() -> None:
    program, members, requests = await a_busy_shop()
    async with coalescing() as coalescer:
        tasks = [asyncio.create_task(coalescer.do(program.id, each)) for each in requests]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in answers] == [n % 3 == 0 for n in range(40)]
    await everything_is_there_once(program, members, requests)


async def test_a_step_whose_connection_breaks_is_done_once(killer: asyncpg.Connection) -> None:
    program = await new_program()
    member, reward = await rich_member(program), await new_reward(program, stock=5)
    reserved = await redeemed(program, member, reward, hold_seconds=60)
    waiting = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"
    async with killer.transaction():
        await killer.execute("SELECT FROM account WHERE id = $1 FOR UPDATE", member.id)
        own = killer.get_server_pid()
        task = asyncio.create_task(capture(program.id, reserved.id, "key"))
        await somebody_waits(own)
        async with connection() as sql:
            assert await sql.fetch(waiting, own)
    done = await task
    again = await capture(program.id, reserved.id, "key")
    assert again.redemption == done.redemption
    balance = await balance_of(program, member)
    assert (balance.available, balance.reserved, balance.lifetime_spent) == (900, 0, 100)
    await check_books(program)
