"""Delivering webhooks: each member's messages in their order, and different members' at the same time.

A session delivers one webhook while it holds its lease. What fails holds up the later messages of the same
member alone; when all that is tried fails, the receiver is taken to be down and is asked now and then.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

import httpx
import structlog

from app import clock
from app.catalog.vault import SealBroken, Vault
from app.errors import Unavailable
from app.metrics import ERRORS, WEBHOOK_DELIVERIES, WEBHOOKS_DISABLED
from app.webhooks import backoff, deliveries
from app.webhooks.deliveries import LEASE, NOBODY, Claim, Failed, LeaseLost, Results
from app.webhooks.letters import Letter, body_of, headers_of
from app.webhooks.sending import Outcome, Sender

log = structlog.get_logger("laurel.webhooks")

_MAX_SESSIONS = 64
_CLAIMS = 8
_STATEMENTS = 3
"""Sessions that use the database at once: the pool is there for the other queues, too."""

_LINES = 16
"""Members of one webhook to whom messages are sent at once: requests that its receiver sees at once."""

_KEEP_SECONDS = 0.1
_KEEP_RESULTS = 200
_RENEW_SECONDS = 3.0
_AWAY_SECONDS = 0.5
_FILL_SECONDS = 0.25
_BROKEN = timedelta(minutes=1)
_GRACE_SECONDS = 8.0
_END_SECONDS = 4.0
# A request that is begun then has ended when the lease may be another's.
_MARGIN_SECONDS = 16.0
_SAY_SECONDS = 60.0


class Deliverer:
    """Delivers webhooks in one process. Use it as an async context manager."""

    def __init__(self, sender: Sender, vault: Vault) -> None:
        self._sender = sender
        self._vault = vault
        self._sessions: dict[asyncio.Task[None], _Session] = {}
        self._statements = asyncio.Semaphore(_STATEMENTS)
        self._said: dict[UUID, float] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        """Begin nothing more, let what is under way end within some seconds, and give the leases back."""
        for session in self._sessions.values():
            session.stop()
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=_GRACE_SECONDS)
        for task in list(self._sessions):
            task.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=_END_SECONDS)

    async def begin(self) -> int:
        """Begin to deliver webhooks that have something to be sent and are nobody's; return how many.

        Raises:
            Unavailable: the database is away or busy.
        """
        limit = min(_CLAIMS, _MAX_SESSIONS - len(self._sessions))
        if limit <= 0:
            return 0
        claimed = await deliveries.claim(limit, clock.now())
        for each in claimed:
            session = _Session(each, self._sender, self._vault, self._statements, self._may_say)
            task = asyncio.create_task(session.run())
            self._sessions[task] = session
            task.add_done_callback(lambda done: self._sessions.pop(done, None))
        return len(claimed)

    async def finish(self) -> None:
        """Wait until nothing is under way."""
        while self._sessions:
            await asyncio.wait(self._sessions)

    def _may_say(self, webhook_id: UUID) -> bool:
        """Tell whether the log may have a line on a webhook that fails: one a minute."""
        moment = time.monotonic()
        if moment - self._said.get(webhook_id, -_SAY_SECONDS) < _SAY_SECONDS:
            return False
        if len(self._said) >= 1_000:
            self._said.clear()
        self._said[webhook_id] = moment
        return True


class _Session:
    """The delivery of one webhook, for as long as there is something to send."""

    def __init__(
        self,
        claimed: Claim,
        sender: Sender,
        vault: Vault,
        statements: asyncio.Semaphore,
        may_say: Callable[[UUID], bool],
    ) -> None:
        self._claimed = claimed
        self._sender = sender
        self._vault = vault
        self._statements = statements
        self._may_say = may_say
        host = httpx.URL(claimed.url).host
        self._log = log.bind(webhook=str(claimed.id), program=str(claimed.program_id), host=host)
        self._secret = b""
        self._waiting: deque[tuple[UUID, list[Letter]]] = deque()
        self._running: dict[UUID, asyncio.Task[None]] = {}
        self._ended: set[UUID] = set()
        """Members whose results are not written down yet: what is taken anew must not be theirs."""
        self._failing: set[int] = set()
        """What failed since a message was taken last."""
        self._results = Results()
        self._wake = asyncio.Event()
        self._stopping = False
        self._pausing = False
        self._releasing = True
        self._more = True
        self._filled_at = self._kept_at = 0.0
        self._leased_until = time.monotonic() + LEASE.total_seconds()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Deliver until there is nothing to send, then give the lease back."""
        try:
            self._secret = self._vault.open(self._claimed.secret, self._claimed.id)
            while await self._step():
                pass
        except LeaseLost:
            self._releasing = False
            self._log.info("webhook_lease_lost")
        except SealBroken as error:
            self._log.error("webhook_secret_broken", error=str(error))
            self._claimed.last_error = str(error)
            self._claimed.paused_until = clock.now() + _BROKEN
            with suppress(LeaseLost, Unavailable):
                await self._keep()
        except Exception:
            # The lease runs out by itself, which is the pause before the next attempt.
            self._releasing = False
            ERRORS.labels("webhooks").inc()
            self._log.exception("webhook_broke")
        finally:
            await self._end()

    async def _end(self) -> None:
        """Cancel what is under way, write down what came of the rest, and give the lease back."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_END_SECONDS / 4)
        with suppress(LeaseLost, Unavailable, TimeoutError):
            async with asyncio.timeout(_END_SECONDS / 2):
                if self._releasing and self._results:
                    await self._keep()
                if self._releasing:
                    await deliveries.release(self._claimed, self._more, clock.now())

    async def _step(self) -> bool:
        """Write down what has come, begin what is next, and wait a little; return whether there is more."""
        try:
            if self._results or self._ended or time.monotonic() - self._kept_at > _RENEW_SECONDS:
                await self._keep()
            idle = not self._running and not self._waiting
            if not self._over and (idle or (len(self._waiting) < _LINES and self._fill_is_due())):
                await self._fill()
        except Unavailable:
            # What runs goes on, for as long as the lease is certainly ours.
            if self._left() < 0:
                raise LeaseLost from None
            await asyncio.sleep(_AWAY_SECONDS)
            return True
        self._begin()
        if not self._running:
            self._more = self._over
            return bool(self._results or self._ended)
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_KEEP_SECONDS):
                await self._wake.wait()
        return True

    @property
    def _over(self) -> bool:
        return self._stopping or self._pausing or self._results.disabled or self._left() < 0

    @property
    def _probing(self) -> bool:
        return self._claimed.failures >= backoff.PAUSE_AFTER

    def _left(self) -> float:
        """Return for how many seconds more a request can be begun that ends under our lease."""
        return self._leased_until - _MARGIN_SECONDS - time.monotonic()

    def _fill_is_due(self) -> bool:
        return time.monotonic() - self._filled_at > _FILL_SECONDS

    async def _fill(self) -> None:
        """Take what can be sent next, into lines of a member each."""
        busy = {*self._running, *self._ended, *(member for member, _ in self._waiting)}
        async with self._statements:
            letters = await deliveries.take(self._claimed, busy, self._probing, clock.now())
        self._filled_at = time.monotonic()
        lines: dict[UUID, list[Letter]] = defaultdict(list)
        for letter in letters:
            lines[letter.member_id or NOBODY].append(letter)
        self._waiting.extend(lines.items())

    def _begin(self) -> None:
        """Begin as many lines as may run at once."""
        if self._over:
            self._waiting.clear()
        while self._waiting and len(self._running) < (1 if self._probing else _LINES):
            member, letters = self._waiting.popleft()
            self._running[member] = asyncio.create_task(self._line(member, letters))

    async def _line(self, member: UUID, letters: list[Letter]) -> None:
        """Send the messages of a member, one after the other, up to the first that is not taken."""
        try:
            for letter in letters:
                if self._over or not self._note(letter, await self._attempt(letter)):
                    break
        finally:
            self._ended.add(member)
            del self._running[member]
            self._begin()
            if not self._running or not self._waiting or len(self._results.delivered) >= _KEEP_RESULTS:
                self._wake.set()

    async def _attempt(self, letter: Letter) -> Outcome:
        try:
            body = body_of(letter)
            headers = headers_of(letter, body, self._secret, clock.now())
        except Exception as error:
            # A message that cannot be sent must not keep the others from being sent.
            ERRORS.labels("webhooks").inc()
            self._log.exception("webhook_message_broke", position=letter.position)
            return Outcome(f"{type(error).__name__}: {error}")
        return await self._sender.send(self._claimed.url, headers, body)

    def _note(self, letter: Letter, outcome: Outcome) -> bool:
        """Note what came of an attempt; return whether the message was taken."""
        claimed = self._claimed
        if outcome.error is None:
            if self._probing:
                self._results.recovered = True
                self._log.info("webhook_recovered", failing_since=claimed.failing_since)
            claimed.failures, claimed.failing_since, claimed.paused_until = 0, None, None
            self._pausing = False
            self._failing.clear()
            self._results.delivered.append(letter)
            return True
        now = clock.now()
        claimed.last_error = outcome.error
        claimed.failing_since = claimed.failing_since or now
        self._failing.add(letter.position)
        # That one message alone fails time and again says nothing of the receiver.
        if not self._pausing and (letter.attempts == 0 or self._probing or len(self._failing) > 1):
            claimed.failures += 1
        first = letter.first_failed_at or now
        next_at: datetime | None = backoff.next_attempt(letter.attempts + 1, first, now)
        if outcome.gone or now - claimed.failing_since >= backoff.PATIENCE:
            self._results.disabled = True
        elif now - first >= backoff.PATIENCE:
            next_at = None
        if self._probing and not self._pausing:
            self._pausing = True
            claimed.paused_until = backoff.next_probe(claimed.failures, now)
        self._results.failed.append(Failed(letter, next_at, first, outcome.error))
        return False

    async def _keep(self) -> None:
        """Write down what came of attempts, and hold the lease for longer."""
        results, self._results = self._results, Results()
        ended = set(self._ended)
        began = time.monotonic()
        try:
            async with self._statements:
                await deliveries.keep(self._claimed, results, clock.now())
        except BaseException:
            later = self._results
            self._results = Results(
                results.delivered + later.delivered,
                results.failed + later.failed,
                results.recovered or later.recovered,
                results.disabled or later.disabled,
            )
            raise
        self._stopping = self._stopping or results.disabled
        self._ended -= ended
        self._kept_at, self._leased_until = began, began + LEASE.total_seconds()
        self._tell(results)

    def _tell(self, results: Results) -> None:
        """Count and log what was written down."""
        given_up = sum(each.next_at is None for each in results.failed)
        WEBHOOK_DELIVERIES.labels("delivered").inc(len(results.delivered))
        WEBHOOK_DELIVERIES.labels("failed").inc(len(results.failed) - given_up)
        WEBHOOK_DELIVERIES.labels("given_up").inc(given_up)
        claimed = self._claimed
        if given_up:
            self._log.error("webhook_deliveries_given_up", messages=given_up, error=claimed.last_error)
        if results.disabled:
            WEBHOOKS_DISABLED.inc()
            since = claimed.failing_since
            self._log.error("webhook_disabled", failing_since=since, error=claimed.last_error)
        elif results.failed and self._may_say(claimed.id):
            self._log.warning(
                "webhook_failing",
                messages=len(results.failed),
                error=claimed.last_error,
                failing_since=claimed.failing_since,
                paused_until=claimed.paused_until,
            )
