"""What this process remembers of credentials that it has checked, for two seconds at the most."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from uuid import UUID
from weakref import WeakSet

from app.access.principal import Principal

MAX_AGE_SECONDS = 2.0
"""How long a revocation may take to reach a process that did not make it."""

_KNOWN = 10_000
_UNKNOWN = 1_000

_caches: "WeakSet[CredentialCache]" = WeakSet()


class Checked(NamedTuple):
    """The outcome of looking a credential up: nobody, or a caller until it ends (monotonic seconds)."""

    principal: Principal | None
    ends_at: float = float("inf")


class CredentialCache:
    """Callers by the digest of their credential; who is asked for often stays, the others make room.

    Requests that arrive while a credential is looked up wait for that one look, so that a busy key
    costs one query in two seconds. Digests that open nothing are remembered apart from the others:
    guessing cannot push anybody out.
    """

    def __init__(self, max_age_seconds: float = MAX_AGE_SECONDS) -> None:
        self._max_age = max_age_seconds
        self._known: OrderedDict[bytes, Checked] = OrderedDict()
        self._unknown: OrderedDict[bytes, Checked] = OrderedDict()
        self._looks: dict[tuple[int, bytes], asyncio.Task[Checked]] = {}
        self._epoch = 0
        _caches.add(self)

    def peek(self, digest: bytes) -> Principal | None:
        """Return the caller of a digest that is remembered and still holds, else None."""
        checked = self._known.get(digest)
        if checked is None:
            return None
        if checked.ends_at <= time.monotonic():
            del self._known[digest]
            return None
        self._known.move_to_end(digest)
        return checked.principal

    async def find(self, digest: bytes, look: Callable[[], Awaitable[Checked]]) -> Principal | None:
        """Return the caller of a digest, looking it up when it is not remembered; None for nobody.

        Args:
            look: asks the database. What it raises is raised here and not remembered.
        """
        if principal := self.peek(digest):
            return principal
        unknown = self._unknown.get(digest)
        if unknown is not None and unknown.ends_at > time.monotonic():
            return None
        place = self._epoch, digest
        task = self._looks.get(place)
        if task is None:
            task = asyncio.create_task(self._look(digest, look))
            self._looks[place] = task
            task.add_done_callback(lambda done: self._seen(place, done))
        # A client that hangs up must not take the answer away from the others who wait for it.
        return (await asyncio.shield(task)).principal

    async def _look(self, digest: bytes, look: Callable[[], Awaitable[Checked]]) -> Checked:
        # The age counts from before the query: what is revoked while it runs still ends in time.
        epoch, ends_at = self._epoch, time.monotonic() + self._max_age
        checked = await look()
        if epoch == self._epoch:
            store, size = (self._known, _KNOWN) if checked.principal else (self._unknown, _UNKNOWN)
            store[digest] = Checked(checked.principal, min(ends_at, checked.ends_at))
            store.move_to_end(digest)
            if len(store) > size:
                store.popitem(last=False)
        return checked

    def _seen(self, place: tuple[int, bytes], done: asyncio.Task[Checked]) -> None:
        self._looks.pop(place, None)
        # Asked for, so that an error nobody waits for any more is not reported as lost.
        if not done.cancelled():
            done.exception()

    def forget(self, credential: str) -> None:
        """Drop a caller by name, and what is being looked up at this moment with it."""
        self._epoch += 1
        gone = [
            digest
            for digest, checked in self._known.items()
            if checked.principal and checked.principal.credential == credential
        ]
        for digest in gone:
            del self._known[digest]


def key_credential(key_id: UUID) -> str:
    """Return the name by which logs, limits and caches know an API key."""
    return f"key:{key_id}"


def member_credential(member_id: UUID) -> str:
    """Return the name by which logs, limits and caches know a member: all their tokens are one."""
    return f"member:{member_id}"


def forget(credential: str) -> None:
    """Let a change of a key or a member count at once in this process; call it after the commit."""
    for cache in _caches:
        cache.forget(credential)
