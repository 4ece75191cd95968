"""Recording events: at once with their points, or stored for a worker. One event is a batch of one."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg

from app import clock
from app.database import retrying, transaction
from app.earning import rulesets
from app.earning.batch import Earned, count, earn, lock, why_not
from app.earning.events import (
    EVENT_COLUMNS,
    EVENT_TABLES,
    MAX_EVENTS,
    Event,
    Incoming,
    Prepared,
    event_from_row,
    same_content,
)
from app.earning.limits import Waiting
from app.earning.preparing import prepare
from app.earning.rules import EventKind
from app.errors import ErrorCode, UserError
from app.ids import new_id
from app.members.reads import find_states
from app.metrics import EVENTS_STORED
from app.outbox.service import Queue
from app.redemptions import payments
from app.stores.reads import find_stores

_INSERT = """
INSERT INTO event (id, program_id, member_id, external_id, kind, occurred_at, recorded_at, amount, body,
    store_id, redemption_id, points_amount)
SELECT id, $1, member_id, external_id, kind, occurred_at, $7, amount, body, store_id, redemption_id,
    points_amount
FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::numeric[], $8::jsonb[], $9::text[],
        $10::uuid[], $11::uuid[], $12::numeric[])
    AS t(id, member_id, external_id, occurred_at, amount, body, kind, store_id, redemption_id, points_amount)
ON CONFLICT DO NOTHING
"""

_INSERT_NOW = _INSERT + "RETURNING id"

_STORE = f"""
WITH stored AS ({_INSERT} RETURNING id, member_id, occurred_at),
queued AS (
    INSERT INTO event_queue (member_id, occurred_at, event_id) SELECT member_id, occurred_at, id FROM stored
), left_behind AS (
    INSERT INTO outbox (queue, program_id, members, items, created_at)
    SELECT $13, $1, array_agg(DISTINCT member_id), count(*), $7 FROM stored HAVING count(*) > 0
)
SELECT id FROM stored
"""  # noqa: S608 - nothing but constants

_KNOWN = f"""
SELECT {EVENT_COLUMNS} FROM {EVENT_TABLES} WHERE e.program_id = $1 AND e.external_id = ANY($2::text[])
"""  # noqa: S608 - nothing but constants


class Recorded(NamedTuple):
    """What became of one event that came in: an event, or what is wrong with it."""

    event: Event | None
    replayed: bool = False
    errors: tuple[UserError, ...] = ()


def _conflict(external_id: str) -> Recorded:
    message = f"The event {external_id} was recorded before with another content; it stays as it was."
    return Recorded(None, errors=(UserError(ErrorCode.IDEMPOTENCY_CONFLICT, message, ("external_id",)),))


def _refused(prepared: Prepared, reason: str, code: ErrorCode) -> Recorded:
    ref = prepared.member
    field = ("member",) if code is not ErrorCode.NOT_FOUND else ("member", ref.field)
    return Recorded(None, errors=(UserError(code, reason, field),))


class _Batch:
    """A batch on its way in: what is settled so far, and what is still to be written."""

    def __init__(self, size: int) -> None:
        self.results: list[Recorded | None] = [None] * size
        self.prepared: dict[int, Prepared] = {}
        self.zones: dict[UUID, ZoneInfo] = {}
        """The zones of stores, by store."""

    def settle(self, n: int, result: Recorded) -> None:
        self.results[n] = result
        self.prepared.pop(n, None)

    def fresh(self, inserted: set[UUID]) -> list[tuple[int, Prepared]]:
        """Return those that were new, by position."""
        return [(n, each) for n, each in self.prepared.items() if each.id in inserted]

    def finished(self) -> list[Recorded]:
        assert all(self.results)
        return self.results  # type: ignore[return-value]


async def _check(
    sql: asyncpg.Connection, program_id: UUID, events: Sequence[Incoming], now: datetime
) -> _Batch:
    """Check every event by itself, and find whom it is about."""
    batch = _Batch(len(events))
    policy = (await rulesets.current(sql, program_id)).policy
    for n, incoming in enumerate(events):
        outcome = prepare(incoming, policy, now, new_id())
        if isinstance(outcome, Prepared):
            batch.prepared[n] = outcome
        else:
            batch.settle(n, Recorded(None, errors=tuple(outcome)))
    positions = list(batch.prepared)
    rows = await find_states(sql, program_id, [batch.prepared[n].member for n in positions])
    barred = [n for n, row in zip(positions, rows, strict=True) if row and why_not(row.status)]
    # A retry is answered as the first time, whatever has become of the member since.
    known = await _known(sql, program_id, [batch.prepared[n].external_id for n in barred]) if barred else {}
    for n, row in zip(positions, rows, strict=True):
        reason = why_not(row.status if row else None)
        if row is None:
            batch.settle(n, _refused(batch.prepared[n], reason or "", ErrorCode.NOT_FOUND))
        elif reason is not None and batch.prepared[n].external_id not in known:
            batch.settle(n, _refused(batch.prepared[n], reason, ErrorCode.NOT_ELIGIBLE))
        else:
            batch.prepared[n].member_id = row.id
    await _find_stores(sql, program_id, batch)
    await _find_payments(sql, program_id, batch)
    return batch


async def _find_stores(sql: asyncpg.Connection, program_id: UUID, batch: _Batch) -> None:
    """Find where events happened, of those that say so."""
    placed = [(n, each, each.store) for n, each in batch.prepared.items() if each.store is not None]
    if not placed:
        return
    stores = await find_stores(sql, program_id, [ref for _, _, ref in placed])
    for (n, each, ref), store in zip(placed, stores, strict=True):
        if store is None:
            error = UserError(ErrorCode.NOT_FOUND, "There is no such store.", ("store", ref.field))
            batch.settle(n, Recorded(None, errors=(error,)))
        else:
            each.store_id = store.id
            batch.zones[store.id] = store.zone


async def _find_payments(sql: asyncpg.Connection, program_id: UUID, batch: _Batch) -> None:
    """Find the redemptions that paid for a part of purchases, of those that name one."""
    named = [(n, each) for n, each in batch.prepared.items() if each.redemption_id is not None]
    if not named:
        return
    ids = [each.redemption_id for _, each in named if each.redemption_id is not None]
    found = await payments.find_payments(sql, program_id, ids)
    refused = _claim(named, found)
    if not any(refused):
        return
    # A retry is answered as the first time, whatever has become of the redemption since.
    known = await _known(sql, program_id, [each.external_id for _, each in named])
    for n, each in named:
        if each.external_id in known:
            batch.settle(n, _replayed(known[each.external_id], each))
    left = [(pair, payment) for pair, payment in zip(named, found, strict=True) if pair[0] in batch.prepared]
    refused = _claim([pair for pair, _ in left], [payment for _, payment in left])
    for ((n, _), _), error in zip(left, refused, strict=True):
        if error is not None:
            batch.settle(n, Recorded(None, errors=(error,)))


def _claim(
    named: Sequence[tuple[int, Prepared]], found: Sequence[payments.Payment | None]
) -> list[UserError | None]:
    """Have redemptions pay for purchases, each for the first in the batch; return what stands against it."""
    claimed: dict[UUID, str] = {}
    refused = []
    for (_, each), payment in zip(named, found, strict=True):
        assert each.amount is not None
        error = payments.why_not(payment, each.member_id, each.amount, each.external_id)
        if error is None and payment is not None:
            # The same purchase twice in a batch is a replay.
            if claimed.setdefault(payment.id, each.external_id) != each.external_id:
                error = payments.taken(claimed[payment.id])
            else:
                each.points_amount = payment.amount
        refused.append(error)
    return refused


async def _known(sql: asyncpg.Connection, program_id: UUID, external_ids: Sequence[str]) -> dict[str, Event]:
    """Return the events that are there already, by external id."""
    rows = await sql.fetch(_KNOWN, program_id, external_ids)
    return {row["external_id"]: event_from_row(row) for row in rows}


def _columns(batch: _Batch, program_id: UUID, now: datetime) -> list[object]:
    # Whoever inserts an id waits for whoever is inserting it too: in one order for all, nobody waits in a
    # circle. Of two with the same id the first stays the first.
    prepared = sorted(batch.prepared.values(), key=lambda each: each.external_id)
    return [
        program_id,
        [each.id for each in prepared],
        [each.member_id for each in prepared],
        [each.external_id for each in prepared],
        [each.occurred_at for each in prepared],
        [each.amount for each in prepared],
        now,
        [each.encoded for each in prepared],
        [each.kind for each in prepared],
        [each.store_id for each in prepared],
        [each.redemption_id for each in prepared],
        [each.points_amount for each in prepared],
    ]


async def _answer_known(sql: asyncpg.Connection, program_id: UUID, batch: _Batch) -> None:
    """Answer for the events that are left in the batch, which were there before: as they are now."""
    if batch.prepared:
        known = await _known(sql, program_id, [each.external_id for each in batch.prepared.values()])
        for n, each in list(batch.prepared.items()):
            event = known.get(each.external_id)
            if event is not None:
                batch.settle(n, _replayed(event, each))
            else:
                # Neither written nor known: meanwhile another purchase has taken its redemption.
                assert each.redemption_id is not None
                batch.settle(n, Recorded(None, errors=(payments.taken(),)))


def _replayed(event: Event, prepared: Prepared) -> Recorded:
    """Answer for an event that was there before."""
    same = same_content(event, prepared)
    return Recorded(event, True) if same else _conflict(prepared.external_id)


def _event(prepared: Prepared, now: datetime) -> Event:
    assert prepared.member_id
    return Event(
        prepared.id,
        prepared.member_id,
        prepared.external_id,
        prepared.kind,
        prepared.occurred_at,
        now,
        prepared.amount,
        prepared.body,
        prepared.store_id,
        redemption_id=prepared.redemption_id,
        points_amount=prepared.points_amount,
    )


async def record_now(program_id: UUID, events: Sequence[Incoming]) -> list[Recorded]:
    """Record events and earn their points, all in one transaction, each event by itself.

    An event that was recorded before is answered as it is now; one that is still waiting for a
    worker stays with the worker. Events recorded now do not wait for those.

    Args:
        events: at most MAX_EVENTS, of one program; each member's are earned in order of occurrence.

    Returns:
        What became of each, in the same order: the event with its points, or its errors.

    Raises:
        Unavailable: the database stayed away or busy; nothing was recorded.
    """
    earned: list[Earned] = []

    async def work() -> list[Recorded]:
        async with transaction() as sql:
            results, earned[:] = await record_within(sql, program_id, events, clock.now())
        return results

    results = await retrying(work)
    count(earned)
    return results


async def store(program_id: UUID, events: Sequence[Incoming]) -> list[Recorded]:
    """Store events durably for a worker to earn, all in one transaction, each event by itself.

    Args:
        events: at most MAX_EVENTS, of one program.

    Returns:
        What became of each, in the same order: the event (QUEUED, or as it is), or its errors.

    Raises:
        Unavailable: the database stayed away or busy; nothing was stored.
    """

    async def write(sql: asyncpg.Connection, batch: _Batch, now: datetime) -> None:
        rows = await sql.fetch(_STORE, *_columns(batch, program_id, now), Queue.EARNING)
        for n, each in batch.fresh({row["id"] for row in rows}):
            batch.settle(n, Recorded(_event(each, now)))

    async def work() -> list[Recorded]:
        async with transaction() as sql:
            return await _write(sql, program_id, events, clock.now(), write)

    results = await retrying(work)
    EVENTS_STORED.inc(sum(1 for each in results if each.event and not each.replayed))
    return results


async def record_within(
    sql: asyncpg.Connection, program_id: UUID, events: Sequence[Incoming], now: datetime
) -> tuple[list[Recorded], list[Earned]]:
    """Record events and earn their points as a part of a larger transaction, as `record_now` does.

    Args:
        sql: a connection inside a transaction; the accounts of the members stay locked until it ends.
        events: at most MAX_EVENTS, of one program.
        now: the time of recording (UTC).

    Returns:
        What became of each, in the same order; and what is to be handed to `count` after the commit.
    """
    earned: list[Earned] = []

    async def write(sql: asyncpg.Connection, batch: _Batch, now: datetime) -> None:
        earned[:] = await _insert_and_earn(sql, program_id, batch, now)

    return await _write(sql, program_id, events, now, write), earned


_Write = Callable[[asyncpg.Connection, _Batch, datetime], Awaitable[None]]


async def _write(
    sql: asyncpg.Connection, program_id: UUID, events: Sequence[Incoming], now: datetime, write: _Write
) -> list[Recorded]:
    """Check events, write those that are sound, and answer for those that were there before."""
    assert len(events) <= MAX_EVENTS
    batch = await _check(sql, program_id, events, now)
    if batch.prepared:
        await write(sql, batch, now)
        # Afterwards: an event may stand in the batch twice, and its second is a replay.
        await _answer_known(sql, program_id, batch)
    return batch.finished()


async def _insert_and_earn(
    sql: asyncpg.Connection, program_id: UUID, batch: _Batch, now: datetime
) -> list[Earned]:
    """Write the events of a batch that are new, and earn their points."""
    everybody = {each.member_id for each in batch.prepared.values() if each.member_id}
    locked = await lock(sql, program_id, list(everybody))
    rows = await sql.fetch(_INSERT_NOW, *_columns(batch, program_id, now))
    fresh = batch.fresh({row["id"] for row in rows})
    if not fresh:
        return []
    recorded = sorted(
        (_event(each, now) for _, each in fresh), key=lambda event: (event.member_id, event.occurred_at)
    )
    waiting = [
        Waiting(event.id, event.member_id, event.facts(), _zone(event, batch.zones), event.external_id)
        for event in recorded
    ]
    earned = await earn(sql, locked, waiting, now)
    for event, outcome in zip(recorded, earned, strict=True):
        event.points, event.rejection, event.processed_at = outcome.points, outcome.rejection, now
    by_id = {event.id: event for event in recorded}
    for n, each in fresh:
        batch.settle(n, Recorded(by_id[each.id]))
    return earned


def _zone(event: Event, zones: Mapping[UUID, ZoneInfo]) -> ZoneInfo | None:
    """Return the zone in which an event's days are counted: for a visit the store's, else the program's."""
    return zones.get(event.store_id) if event.kind is EventKind.CHECK_IN and event.store_id else None
