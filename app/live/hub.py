"""What is watched live in one process: read from PostgreSQL on a hint, and every second or two anyway.

However many watch, one statement tells which of all watched things have changed, and only those are
read again. A hint that is lost, or a Redis that is away, costs no more than the time to the next look.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple, Self
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.errors import Unavailable
from app.live.hints import CHANNEL, cancelled
from app.metrics import ERRORS
from app.settings import Settings

log = structlog.get_logger("laurel.live")

_LOOK_SECONDS = 1.5
# Hints that come within it are one look; what is seen live is late by half of it.
_GATHER_SECONDS = 0.02
_PAUSE_SECONDS = 1.0
_TELL_SECONDS = 10.0
_COMPARED_AT_ONCE = 5_000
_READ_AT_ONCE = 500
# Of the pool's connections these are the most that watching takes.
_READS_AT_ONCE = 3

_NOTHING: Any = object()


class Source(NamedTuple):
    """How things of one kind are read. Both functions may raise Unavailable."""

    name: str
    versions: Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, Hashable]]]
    """Tells of many things, of any programs, something that changes when they change; one statement."""
    load: Callable[[UUID, Sequence[UUID]], Awaitable[Sequence[Any]]]
    """Returns the states of things of one program, in their order; None for what is not there."""


class Watch:
    """One watcher of one thing. It keeps the latest state only, however slowly it is asked."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._state: Any = _NOTHING
        self._told: Any = _NOTHING

    def tell(self, state: Any) -> None:
        """Note the state as it is now."""
        self._state = state
        self._changed.set()

    async def next(self) -> Any:
        """Return the state as soon as it is another than the last one; None for what is not there."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._told is _NOTHING or self._state != self._told:
                self._told = self._state
                return self._told


class _Topic:
    """One thing that somebody watches."""

    def __init__(self, source: Source, program_id: UUID, id: UUID) -> None:
        self.source = source
        self.program_id = program_id
        self.id = id
        self.version: Hashable = _NOTHING
        self.state: Any = None
        self.watches: set[Watch] = set()
        self.joining: set[Watch] = set()
        """Who came after the last look began, and must not be told anything older."""
        self.busy = False
        self.again = False

    def tell(self, watches: Iterable[Watch]) -> None:
        for watch in watches:
            watch.tell(self.state)


class _Watching:
    """Holds a watch for as long as it is entered."""

    def __init__(self, hub: "Hub", source: Source, program_id: UUID, id: UUID) -> None:
        self._hub = hub
        self._what = source, program_id, id
        self._watch = Watch()

    def __enter__(self) -> Watch:
        self._topic = self._hub.join(self._watch, *self._what)
        return self._watch

    def __exit__(self, *error: object) -> None:
        self._hub.leave(self._watch, self._topic)


class Hub:
    """Watches for one process. Use it as an async context manager.

    An outage of PostgreSQL or Redis ends no watch: what changed meanwhile is told afterwards.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url
        self._redis = Redis.from_url(settings.redis_url, socket_timeout=1, socket_connect_timeout=1)
        self._topics: dict[UUID, dict[str, _Topic]] = {}
        self._waiting: set[_Topic] = set()
        self._wake = asyncio.Event()
        self._watched = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._reads: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(_READS_AT_ONCE)
        self._told_at = -_TELL_SECONDS

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._listen())]
        return self

    async def __aexit__(self, *error: object) -> None:
        await cancelled([*self._tasks, *self._reads])
        with suppress(RedisError, OSError):
            await self._redis.aclose()

    def watch(self, source: Source, program_id: UUID, id: UUID) -> _Watching:
        """Watch a thing of a program within a `with`; the first state comes as soon as it has been read.

        Whether there is such a thing, and whether it may be seen, the caller has checked.
        """
        return _Watching(self, source, program_id, id)

    def join(self, watch: Watch, source: Source, program_id: UUID, id: UUID) -> _Topic:
        """Have a watch told of a thing, from now on until `leave`."""
        there = self._topics.setdefault(id, {})
        topic = there.get(source.name)
        if topic is None:
            topic = there[source.name] = _Topic(source, program_id, id)
        assert topic.program_id == program_id
        topic.joining.add(watch)
        self._look_at([topic])
        self._watched.set()
        return topic

    def leave(self, watch: Watch, topic: _Topic) -> None:
        """Tell a watch nothing more."""
        topic.watches.discard(watch)
        topic.joining.discard(watch)
        if not topic.watches and not topic.joining:
            there = self._topics[topic.id]
            if there.get(topic.source.name) is topic:
                del there[topic.source.name]
            if not there:
                del self._topics[topic.id]
            self._waiting.discard(topic)
        if not self._topics:
            self._watched.clear()

    def _look_at(self, topics: Iterable[_Topic]) -> None:
        for topic in topics:
            if topic.busy:
                topic.again = True
            else:
                self._waiting.add(topic)
        self._wake.set()

    async def _run(self) -> None:
        looked_at = 0.0
        while True:
            await self._watched.wait()
            loop = asyncio.get_running_loop()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(looked_at + _LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            if loop.time() >= looked_at + _LOOK_SECONDS:
                looked_at = loop.time()
                self._look_at([topic for there in self._topics.values() for topic in there.values()])
                self._wake.clear()
            topics, self._waiting = self._waiting, set()
            by_source = defaultdict(list)
            for topic in topics:
                # What is being read is looked at again afterwards: an older state must not come last.
                if topic.busy:
                    topic.again = True
                else:
                    by_source[topic.source.name].append(topic)
            for some in by_source.values():
                for start in range(0, len(some), _COMPARED_AT_ONCE):
                    await self._compare(some[start : start + _COMPARED_AT_ONCE])
            await asyncio.sleep(_GATHER_SECONDS)

    async def _compare(self, topics: list[_Topic]) -> None:
        """Have those of some things of one kind read that are not as they were, or were never read."""
        # Whoever joins while the statement runs waits for the next one.
        joined = [(topic, topic.joining) for topic in topics]
        for topic in topics:
            topic.watches |= topic.joining
            topic.joining = set()
        try:
            versions = await topics[0].source.versions([topic.id for topic in topics])
        except Exception as error:
            for topic, watches in joined:
                # Those who left meanwhile must not come back.
                topic.joining |= watches & topic.watches
                topic.watches -= watches
            self._failed(error, topics)
            return
        changed = defaultdict(list)
        for topic, watches in joined:
            version = versions.get(topic.id)
            if version != topic.version:
                changed[topic.program_id].append((topic, version))
            else:
                topic.tell(watches & topic.watches)
        for program_id, some in changed.items():
            for start in range(0, len(some), _READ_AT_ONCE):
                part = some[start : start + _READ_AT_ONCE]
                for topic, _ in part:
                    topic.busy = True
                task = asyncio.create_task(self._read(program_id, part))
                self._reads.add(task)
                task.add_done_callback(self._reads.discard)

    async def _read(self, program_id: UUID, topics: list[tuple[_Topic, Hashable]]) -> None:
        """Read things of one kind and program, and tell those who watch them."""
        try:
            async with self._turns:
                states = await topics[0][0].source.load(program_id, [topic.id for topic, _ in topics])
        except Exception as error:
            for topic, _ in topics:
                topic.busy, topic.version = False, _NOTHING
            self._failed(error, [topic for topic, _ in topics])
            return
        for (topic, version), state in zip(topics, states, strict=True):
            topic.busy = False
            topic.version, topic.state = version, state
            topic.tell(topic.watches)
        again = [topic for topic, _ in topics if topic.again or topic.joining]
        for topic in again:
            topic.again = False
        self._look_at(topic for topic in again if topic.watches or topic.joining)

    def _failed(self, error: Exception, topics: Sequence[_Topic]) -> None:
        """Look at things again after a pause; why it did not go the database's own log line tells."""
        if not isinstance(error, Unavailable) and monotonic() - self._told_at >= _TELL_SECONDS:
            self._told_at = monotonic()
            ERRORS.labels("live").inc()
            log.error("live_failed", things=len(topics), exc_info=error)
        asyncio.get_running_loop().call_later(
            _PAUSE_SECONDS, lambda: self._look_at(t for t in topics if t.watches or t.joining)
        )

    async def _listen(self) -> None:
        """Take hints from Redis for as long as anybody watches; without Redis the looks have to do."""
        away = False
        while True:
            await self._watched.wait()
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(CHANNEL)
                    while self._topics:
                        message = await channel.get_message(timeout=_PAUSE_SECONDS)
                        if away:
                            away = False
                            log.info("hints_are_back")
                        if message is not None:
                            self._take(message["data"])
            except (RedisError, OSError) as error:
                if not away:
                    away = True
                    log.warning("hints_are_away", error=repr(error))
                await asyncio.sleep(_PAUSE_SECONDS)

    def _take(self, data: bytes) -> None:
        for start in range(0, len(data) - 15, 16):
            there = self._topics.get(UUID(bytes=data[start : start + 16]))
            if there:
                self._look_at(there.values())
