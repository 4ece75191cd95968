"""The total of a program never changes, whatever is sent, whoever dies in between, and however late it is."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest

from app import clock
from app.errors import Refused
from app.members.reads import MemberRow
from app.outbox import service as outbox
from app.outbox.consuming import consume
from app.outbox.service import Queue
from app.programs.models import Program
from app.transfers import arriving
from app.transfers.arriving import arrive_members
from tests.helpers import find_differences, new_member, new_program, set_now, work_all
from tests.redemptions.making import balance_of, earn
from tests.transfers.making import lots, sent, set_status, total, transfers

MEMBERS = 20
START = date(2026, 3, 1)


class Killed(BaseException):
    """The end of a worker: nothing that handles errors gets to see it as one of those."""


def dying(monkeypatch: pytest.MonkeyPatch, chance: random.Random) -> None:
    """Have workers die between the steps of their work, before and after each commit."""

    def killing(call: Callable[..., Any]) -> Callable[..., Any]:
        async def killed(*args: Any, **options: Any) -> Any:
            if chance.random() < 0.08:
                raise Killed
            done = await call(*args, **options)
            if chance.random() < 0.08:
                raise Killed
            return done

        return killed

    for name in ("_arrive", "_return", "_earn", "post", "leave"):
        monkeypatch.setattr(arriving, name, killing(getattr(arriving, name)))


async def worker(chance: random.Random, until: asyncio.Event) -> None:
    """Be a worker that dies and comes back, and hears of some batches twice."""
    told: list[Any] = []
    while not until.is_set():
        told += await outbox.stamp([Queue.TRANSFERS], clock.now())
        for each in chance.sample(told, len(told)):
            try:
                await consume(each.queue, each.batch, arrive_members)
            except Killed:
                await outbox.give_back([each.batch])
        told = chance.sample(told, len(told) // 2)
        await asyncio.sleep(0.002)


SEEDS = [1, *(pytest.param(seed, marks=pytest.mark.deep) for seed in range(2, 12))]


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_total_stays_under_random_transfers_with_two_workers_that_die(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    moment = set_now(monkeypatch, START.year, START.month, START.day, 10)
    program = await new_program()
    members = [await new_member(program) for _ in range(MEMBERS)]
    for member in members:
        for _ in range(3):
            await earn(program, member, chance.randint(1, 100), START + timedelta(chance.randint(0, 8)))
    everything = await total(program)
    done = asyncio.Event()
    with monkeypatch.context() as patch:
        dying(patch, chance)
        workers = [asyncio.create_task(worker(random.Random(seed + n), done)) for n in (100, 200)]
        for day in range(4):
            now = moment + timedelta(days=day)
            patch.setattr(clock, "now", lambda now=now: now)
            await asyncio.gather(*(some(program, members, chance) for _ in range(4)))
            assert await total(program) == everything
            for closing in members[2 * day : 2 * day + 2]:
                await sent_by_whoever_can(program, members[-5:], closing)
                await set_status(program, closing, "CLOSED")
        done.set()
        await asyncio.gather(*workers)
    await sent_by_whoever_can(program, members[-5:], members[8])
    await set_status(program, members[8], "CLOSED")
    last = moment + timedelta(days=4)
    monkeypatch.setattr(clock, "now", lambda: last)
    await work_all(program)
    states = Counter(status for status, _, _ in await transfers(program))
    assert states.keys() == {"ARRIVED", "RETURNED"}
    assert sum(states.values()) > 50
    assert sum(expired for _, _, expired in await transfers(program)) > 0
    for member in members:
        assert (await balance_of(program, member)).available == sum((await lots(member)).values())
    assert await total(program) == everything
    assert not await find_differences(program.id)


async def some(program: Program, members: list[MemberRow], chance: random.Random) -> None:
    """Send a few times between any two members, as many points as they may have or not."""
    for _ in range(10):
        sender, receiver = chance.sample(members, 2)
        key = f"key-{chance.randint(1, 10_000)}"
        for _ in range(chance.choice((1, 1, 2))):
            try:
                await sent(program, sender, receiver, chance.randint(1, 60), key)
            except Refused as refused:
                codes = {str(error.code) for error in refused.errors}
                assert codes <= {"INSUFFICIENT_POINTS", "NOT_ELIGIBLE", "IDEMPOTENCY_CONFLICT"}
        await asyncio.sleep(0.001)


async def sent_by_whoever_can(program: Program, senders: list[MemberRow], receiver: MemberRow) -> None:
    """Send points to one member from each of some who have enough."""
    for sender in senders:
        with contextlib.suppress(Refused):
            await sent(program, sender, receiver, 3)


async def test_the_day_changes_while_points_are_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that begins on one day and goes on on the next: what is over by then is not earned."""
    yesterday = set_now(monkeypatch, 2026, 3, 31, 23, 59)
    program = await new_program()
    ann, bob = await new_member(program), await new_member(program)
    for n in range(3):
        await earn(program, ann, 10 + n, date(2026, 3, 31) + timedelta(n))
        await sent(program, ann, bob, 10 + n)
    everything = await total(program)
    moments = iter([yesterday] * 2 + [yesterday + timedelta(minutes=2)] * 1000)
    monkeypatch.setattr(clock, "now", lambda: next(moments))
    monkeypatch.setattr(arriving, "_BATCH", 1)
    await arrive_members(program.id, [bob.id], None)
    set_now(monkeypatch, 2026, 4, 1, 1)
    assert sum((await lots(bob)).values()) >= 23
    assert await total(program) == everything
    await balance_of(program, bob)
    assert await total(program) == everything
    assert not await find_differences(program.id)
