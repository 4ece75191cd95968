"""Doing what arrives at the same moment in one transaction.

A commit waits for the disk, whether it carries one request or fifty. A lane takes everything that
queued up while its previous transaction ran; nobody waits for a timer, so a lone request is as fast
as it would be by itself. The other lane steps in when many are waiting, and when a transaction takes
long, which may wait for somebody else: two small batches side by side would take more work than one.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar
from uuid import UUID

from app.errors import Unavailable

_LANES = 2
_MAX_BATCH = 100
_MANY = 16
_LONG_SECONDS = 0.05
_MAX_WAITING = 5000
_STOP_SECONDS = 5

Request = TypeVar("Request")
Result = TypeVar("Result")


class Coalescer(Generic[Request, Result]):
    """Does one kind of work for all requests of a process, in whose event loop it is started and stopped.

    Args:
        work: does requests of one program in one transaction, each by itself, and returns what became
            of each in the same order.
        name: of the work, for those who look at tasks.
    """

    def __init__(
        self, work: Callable[[UUID, Sequence[Request]], Awaitable[Sequence[Result]]], name: str
    ) -> None:
        self._work = work
        self._name = name
        self._queue: list[tuple[UUID, Request, asyncio.Future[Result]]] = []
        self._wake = asyncio.Event()
        self._lanes: list[asyncio.Task[None]] = []
        self._fresh = set[object]()
        """Batches under way that were begun only just now."""
        self._stopping = False

    async def start(self) -> None:
        """Start the lanes, in the event loop that is running."""
        self._stopping = False
        self._lanes = [asyncio.create_task(self._lane(), name=f"{self._name}-{n}") for n in range(_LANES)]

    async def stop(self) -> None:
        """Finish what has queued up, and stop; what is not done within five seconds is undone."""
        # A lane that was cancelled would undo what it has under way, which is in the queue no longer.
        self._stopping = True
        self._wake.set()
        if self._lanes:
            _, late = await asyncio.wait(self._lanes, timeout=_STOP_SECONDS)
            for lane in late:
                lane.cancel()
            await asyncio.gather(*self._lanes, return_exceptions=True)
        for _, _, future in self._queue:
            future.cancel()
        self._queue = []

    async def do(self, program_id: UUID, request: Request) -> Result:
        """Do one request, as `work` does, together with whatever else has arrived.

        Raises:
            Unavailable: more is waiting than can be served soon, or the process is stopping, or the
                database is away.
        """
        if self._stopping:
            raise Unavailable("Laurel is stopping; try again.")
        if len(self._queue) >= _MAX_WAITING:
            raise Unavailable("Too many requests are waiting; try again.")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append((program_id, request, future))
        if self._is_due():
            self._wake.set()
        return await future

    def _is_due(self) -> bool:
        """Tell whether a lane that is free should take what is waiting."""
        if not self._fresh or self._stopping:
            return bool(self._queue)
        return len(self._queue) >= _MANY

    async def _lane(self) -> None:
        while True:
            while not self._is_due():
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
            batch = object()
            self._fresh.add(batch)
            alarm = asyncio.get_running_loop().call_later(_LONG_SECONDS, self._help_out, batch)
            try:
                await self._take()
            finally:
                alarm.cancel()
                self._fresh.discard(batch)

    def _help_out(self, batch: object) -> None:
        """Have the other lane help, for this batch may be waiting for somebody else."""
        self._fresh.discard(batch)
        self._wake.set()

    async def _take(self) -> None:
        """Do what is waiting, as much as fits into a batch."""
        taken, self._queue = self._queue[:_MAX_BATCH], self._queue[_MAX_BATCH:]
        programs: dict[UUID, list[tuple[Request, asyncio.Future[Result]]]] = defaultdict(list)
        for program_id, request, future in taken:
            programs[program_id].append((request, future))
        try:
            for program_id, group in programs.items():
                await self._do(program_id, group)
        finally:
            # Nobody else knows of those that a lane took and could not do any more.
            for _, _, future in taken:
                future.cancel()

    async def _do(self, program_id: UUID, group: list[tuple[Request, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._work(program_id, [request for request, _ in group])
        except Exception as error:
            if len(group) == 1:
                if not group[0][1].done():
                    group[0][1].set_exception(error)
                return
            # Only the one that is to blame may suffer: each by itself, unless the database is away.
            for waiting in group:
                if isinstance(error, Unavailable):
                    if not waiting[1].done():
                        waiting[1].set_exception(error)
                else:
                    await self._do(program_id, [waiting])
            return
        for (_, future), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)
