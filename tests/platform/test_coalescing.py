"""When a lane takes what is waiting, and when the other one steps in."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from app import coalescing
from app.coalescing import Coalescer
from app.ids import new_id

PROGRAM = new_id()


class Work:
    """Work whose batches end when they are told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self._gates: list[asyncio.Event] = []

    async def do(self, _: UUID, requests: Sequence[int]) -> list[int]:
        gate = asyncio.Event()
        self.batches.append(list(requests))
        self._gates.append(gate)
        await gate.wait()
        return [-each for each in requests]

    def end(self, number: int) -> None:
        self._gates[number].set()

    def end_all(self) -> None:
        for gate in self._gates:
            gate.set()


@asynccontextmanager
async def lanes(work: Work) -> AsyncIterator[Coalescer[int, int]]:
    """Run a coalescer over work; whatever is under way at the end is let go."""
    coalescer = Coalescer(work.do, "testing")
    await coalescer.start()
    try:
        yield coalescer
    finally:
        stopping = asyncio.create_task(coalescer.stop())
        async with asyncio.timeout(10):
            while not stopping.done():
                work.end_all()
                await asyncio.sleep(0.001)


def ask(coalescer: Coalescer[int, int], *requests: int) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(coalescer.do(PROGRAM, each)) for each in requests]


async def turns() -> None:
    """Let everybody run who can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch takes long."""
    monkeypatch.setattr(coalescing, "_LONG_SECONDS", 60)


@pytest.mark.usefixtures("patient")
async def test_a_few_that_come_meanwhile_are_done_together_afterwards() -> None:
    work = Work()
    async with lanes(work) as coalescer:
        first = ask(coalescer, 1)
        await turns()
        others = ask(coalescer, 2, 3)
        await turns()
        others += ask(coalescer, 4)
        await turns()
        assert work.batches == [[1]]
        work.end(0)
        assert await first[0] == -1
        await turns()
        assert work.batches == [[1], [2, 3, 4]]
        work.end(1)
        assert [await each for each in others] == [-2, -3, -4]


@pytest.mark.usefixtures("patient")
async def test_many_that_come_meanwhile_are_done_by_the_other_lane() -> None:
    work = Work()
    async with lanes(work) as coalescer:
        ask(coalescer, 0)
        await turns()
        many = list(range(1, coalescing._MANY + 1))
        asked = ask(coalescer, *many)
        await turns()
        assert work.batches == [[0], many]
        work.end(1)
        assert [await each for each in asked] == [-each for each in many]


async def test_the_other_lane_steps_in_where_one_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "_LONG_SECONDS", 0.01)
    work = Work()
    async with lanes(work) as coalescer, asyncio.timeout(10):
        ask(coalescer, 1)
        await turns()
        (waiting,) = ask(coalescer, 2)
        await asyncio.sleep(0.2)
        assert work.batches == [[1], [2]]
        work.end(1)
        assert await waiting == -2
        # The first is still under way: whoever comes now need not wait for it, nor for anything else.
        (later,) = ask(coalescer, 3)
        await turns()
        assert work.batches == [[1], [2], [3]]
        work.end(2)
        assert await later == -3


@pytest.mark.usefixtures("patient")
async def test_what_waits_is_done_when_the_process_stops() -> None:
    work = Work()
    async with lanes(work) as coalescer:
        asked = ask(coalescer, 1)
        await turns()
        asked += ask(coalescer, 2)
        await turns()
    assert [await each for each in asked] == [-1, -2]
