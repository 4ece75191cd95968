"""Check-ins: a code that is shown in a store, scanned by a member who is there.

What a code says is found out by itself; all the rest is decided while the member's account is locked,
so that of many calls at once one is the check-in, and the others are told of it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app import clock
from app.database import retrying, transaction
from app.earning.batch import Earned, count, lock, why_not
from app.earning.engine import evaluate
from app.earning.events import (
    EVENT_COLUMNS,
    EVENT_TABLES,
    OWN_PREFIX,
    Event,
    Incoming,
    OwnDeed,
    event_from_row,
)
from app.earning.limit_messages import local_time
from app.earning.limits import Waiting
from app.earning.outcomes import Reason, TooManyPoints, Verdict
from app.earning.recording import record_within
from app.earning.rules import EventKind
from app.earning.ruleset import Facts, RuleSet
from app.earning.simulation import outlook
from app.errors import ErrorCode, Refused, refuse
from app.ids import key_id, new_id
from app.members.reads import MemberRef, find_states
from app.stores.codes import CheckInCodes, CodeContent
from app.stores.distance import distance_meters
from app.stores.inputs import check_position
from app.stores.reads import StoreRef, find_stores
from app.stores.stores import Store
from app.validation import Problems

RETRY = timedelta(seconds=60)
"""For so long a printed code that is scanned again in the same store is the same visit."""

_BY_CODE = f"""
SELECT {EVENT_COLUMNS} FROM {EVENT_TABLES} WHERE e.program_id = $1 AND e.external_id = $2
"""  # noqa: S608 - nothing but constants

_JUST_NOW = f"""
SELECT {EVENT_COLUMNS} FROM {EVENT_TABLES}
WHERE e.program_id = $1 AND e.member_id = $2 AND e.kind = 'CHECK_IN' AND e.store_id = $3
    AND e.occurred_at > $4
ORDER BY e.occurred_at DESC, e.id DESC LIMIT 1
"""  # noqa: S608 - nothing but constants

_CLOSED = {Reason.FREQUENCY_REACHED, Reason.COOLING_DOWN, Reason.MEMBER_LIMIT_REACHED}


class CheckedIn(NamedTuple):
    """A check-in that is recorded, and whether it was there before."""

    event: Event
    replayed: bool


@dataclass(frozen=True, slots=True)
class _Scan:
    """What came in: a code of the program, who scanned it, where (in degrees) and when (UTC)."""

    program_id: UUID
    event_id: UUID
    member: MemberRef
    code: CodeContent
    position: tuple[float, float] | None
    moment: datetime

    def external_id(self, member_id: UUID) -> str:
        """Return the id of the visit: of a code with an end, the same one whenever the member scans it."""
        once = self.event_id if self.code.expires_at is None else self.code.serial
        return f"{OWN_PREFIX}check-in:{key_id('check-in', member_id, once).hex}"


async def check_in(
    program_id: UUID,
    member: MemberRef,
    code: str,
    codes: CheckInCodes,
    *,
    latitude: float | None = None,
    longitude: float | None = None,
) -> CheckedIn:
    """Record a member's visit to the store whose code they scanned, and earn its points.

    A code with an end is spent once by each member; again, even after its end, it is answered with the
    visit that it was spent for. One to print that is scanned again within a minute is answered so, too,
    unless a limit says when the next time is.

    Args:
        latitude, longitude: where the member is, in degrees, for stores with a radius; not kept.

    Raises:
        Refused: INVALID for `code`, a position that cannot be or one that is missing; NOT_FOUND for the
            member; NOT_ELIGIBLE for a member who cannot earn, a code that is over and a member who is too
            far away; LIMIT_REACHED for `code` when every rule that would pay waits: it says until when.
        Unavailable: the database stayed away or busy; nothing was recorded.
    """
    problems = Problems()
    check_position(latitude, longitude, problems)
    try:
        content = codes.content(program_id, code)
    except Refused as refused:
        raise Refused([*refused.errors, *problems.errors]) from None
    problems.refuse_any()
    position = None if latitude is None or longitude is None else (latitude, longitude)
    # The time at which it came in: a code does not run out while its scan waits for others.
    scan = _Scan(program_id, new_id(), member, content, position, clock.now())
    earned: list[Earned] = []

    async def work() -> CheckedIn:
        async with transaction() as sql:
            checked_in, earned[:] = await _check_in(sql, scan)
        return checked_in

    checked_in = await retrying(work)
    count(earned)
    return checked_in


async def _check_in(sql: asyncpg.Connection, scan: _Scan) -> tuple[CheckedIn, list[Earned]]:
    """Record a visit, or find it, inside a transaction; return what is to be counted after it, too."""
    (state,) = await find_states(sql, scan.program_id, [scan.member])
    if state is None:
        raise refuse(ErrorCode.NOT_FOUND, why_not(None) or "", "member", scan.member.field)
    (store,) = await find_stores(sql, scan.program_id, [StoreRef(id=scan.code.store_id)])
    if store is None:
        raise refuse(ErrorCode.INVALID, "The store that the code was made for is not there.", "code")
    locked = await lock(sql, scan.program_id, [state.id])
    spent = scan.code.expires_at is not None and await _spent(sql, scan, state.id)
    # First of all: a retry is answered as the first time, whatever has changed since.
    if spent:
        return CheckedIn(spent, replayed=True), []
    if (reason := why_not(locked.status.get(state.id))) is not None:
        raise refuse(ErrorCode.NOT_ELIGIBLE, reason, "member")
    scan.code.check_time(scan.moment, store.zone)
    _check_distance(store, scan.position)
    facts = Facts(EventKind.CHECK_IN, scan.moment, store_id=store.id)
    await _check_limits(sql, locked.rule_set, Waiting(scan.event_id, state.id, facts, store.zone))
    # Whoever may not come again is told so; without a limit a second scan is the first one's retry.
    if scan.code.expires_at is None and (visit := await _just_now(sql, scan, state.id)):
        return CheckedIn(visit, replayed=True), []
    deed = OwnDeed(scan.external_id(state.id), None, scan.moment)
    incoming = Incoming(deed, scan.member, StoreRef(id=store.id), EventKind.CHECK_IN)
    (recorded,), earned = await record_within(sql, scan.program_id, [incoming], scan.moment)
    if recorded.event is None:
        raise Refused(recorded.errors)
    return CheckedIn(recorded.event, recorded.replayed), earned


async def _spent(sql: asyncpg.Connection, scan: _Scan, member_id: UUID) -> Event | None:
    """Return the visit that a code with an end was spent for by a member; None when it was not."""
    row = await sql.fetchrow(_BY_CODE, scan.program_id, scan.external_id(member_id))
    return None if row is None else event_from_row(row)


async def _just_now(sql: asyncpg.Connection, scan: _Scan, member_id: UUID) -> Event | None:
    """Return a member's visit to the store that is too fresh for the next one; None when there is none."""
    since = scan.moment - RETRY
    row = await sql.fetchrow(_JUST_NOW, scan.program_id, member_id, scan.code.store_id, since)
    return None if row is None else event_from_row(row)


def _check_distance(store: Store, position: tuple[float, float] | None) -> None:
    """Refuse a visit from too far away, or, where a store has a radius, from nowhere."""
    if store.radius_meters is None:
        return
    if position is None:
        message = f"{store.name} asks for your position: it takes check-ins within {store.radius_meters:,} m."
        raise refuse(ErrorCode.INVALID, message, "latitude")
    assert store.latitude is not None
    assert store.longitude is not None
    away = distance_meters(store.latitude, store.longitude, *position)
    if away > store.radius_meters:
        message = (
            f"You are about {_about(away)} away from {store.name};"
            f" check-ins count within {store.radius_meters:,} m."
        )
        raise refuse(ErrorCode.NOT_ELIGIBLE, message, "latitude")


def _about(meters: float) -> str:
    """Return a distance to two or three digits; upwards, so that it is never told as the radius itself."""
    if (tens := ceil(meters / 10) * 10) < 1000:
        return f"{tens} m"
    if (hundreds := ceil(meters / 100)) < 100:
        return f"{hundreds / 10:.1f} km"
    return f"{ceil(meters / 1000):,} km"


async def _check_limits(sql: asyncpg.Connection, rule_set: RuleSet, visit: Waiting) -> None:
    """Refuse a visit that no rule pays for because each that would has paid lately, or often enough."""
    candidates = rule_set.candidates(visit.facts)
    if not any(rule.turns_away for rule, _ in candidates):
        return
    standing, rooms = await outlook(sql, rule_set, visit)
    verdicts: dict[UUID, Verdict] = {}
    try:
        evaluate(rule_set, visit.facts, standing, rooms, candidates=candidates, verdicts=verdicts)
    except TooManyPoints:
        # A rule is there; recording says what has to be said about it.
        return
    # Of a budget that is spent there is nothing to wait for.
    closed = [
        rule for rule, _ in candidates if verdicts[rule.id].reason in _CLOSED and rooms.of(rule).budget != 0
    ]
    if not closed or any(verdict.reason is Reason.PAID for verdict in verdicts.values()):
        return
    times = [
        again
        for rule in closed
        if (again := rooms.again(rule)) is not None and (rule.ends_at is None or again < rule.ends_at)
    ]
    message = "You have checked in as often as is possible."
    if times:
        assert visit.zone
        possible = local_time(min(times), visit.zone)
        message = f"You have checked in already: the next time is possible from {possible} on."
    raise refuse(ErrorCode.LIMIT_REACHED, message, "code")
