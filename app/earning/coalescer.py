"""Recording what arrives at the same moment in one transaction.

A commit waits for the disk, whether it carries one event or fifty. Each lane takes everything
that queued up while its previous transaction ran; nobody waits for a timer, so a lone event is
as fast as it would be by itself.
"""

import asyncio
from collections import defaultdict
from uuid import UUID

from app.earning.events import Incoming
from app.earning.recording import Recorded, record_now
from app.errors import Unavailable

_LANES = 2
_MAX_BATCH = 100
_MAX_WAITING = 5000
_STOP_SECONDS = 5

_Waiting = tuple[UUID, Incoming, asyncio.Future[Recorded]]


class Coalescer:
    """Records events for all requests of one process, in whose event loop it is started and stopped."""

    def __init__(self) -> None:
        self._queue: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._lanes: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Start the lanes, in the event loop that is running."""
        self._stopping = False
        self._lanes = [asyncio.create_task(self._lane(), name=f"recording-{n}") for n in range(_LANES)]

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

    async def record(self, program_id: UUID, event: Incoming) -> Recorded:
        """Record one event and earn its points, as `record_now` does.

        Raises:
            Unavailable: more is waiting than can be served soon, or the process is stopping, or the
                database is away.
        """
        if self._stopping:
            raise Unavailable("Laurel is stopping; try again.")
        if len(self._queue) >= _MAX_WAITING:
            raise Unavailable("Too many events are waiting; try again.")
        future: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        self._queue.append((program_id, event, future))
        self._wake.set()
        return await future

    async def _lane(self) -> None:
        while True:
            while not self._queue:
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
            taken, self._queue = self._queue[:_MAX_BATCH], self._queue[_MAX_BATCH:]
            programs: dict[UUID, list[_Waiting]] = defaultdict(list)
            for waiting in taken:
                programs[waiting[0]].append(waiting)
            for group in programs.values():
                await self._record(group)

    async def _record(self, group: list[_Waiting]) -> None:
        try:
            results = await record_now(group[0][0], [event for _, event, _ in group])
        except asyncio.CancelledError:
            for _, _, future in group:
                future.cancel()
            raise
        except Exception as error:
            if len(group) == 1:
                if not group[0][2].done():
                    group[0][2].set_exception(error)
                return
            # Only the one that is to blame may suffer: each by itself, unless the database is away.
            for waiting in group:
                if isinstance(error, Unavailable):
                    if not waiting[2].done():
                        waiting[2].set_exception(error)
                else:
                    await self._record([waiting])
            return
        for (_, _, future), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)
