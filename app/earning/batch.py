"""Earning a batch of events inside a transaction: the one path for now, for workers and for imports.

The order of locks is always: accounts in the order of their ids, then everything else. Whoever holds
an account alone decides about its member's events, counters and awards.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import structlog

from app.clock import end_of_day, local_date, start_of_day
from app.earning import rulesets
from app.earning.engine import Award, RuleSet, TooManyPoints, evaluate
from app.ids import key_id
from app.ledger.expiry import NEVER
from app.ledger.operations import MAX_POINTS, EntryKind, Operation, Status
from app.ledger.service import MAX_BATCH, apply, terms
from app.members.inputs import MemberStatus
from app.metrics import EVENTS_PROCESSED, POINTS_EARNED
from app.programs.policy import ProgramPolicy

log = structlog.get_logger("laurel.earning")

_LOCK = """
SELECT a.id, greatest(a.lifetime_earned, a.available + a.pending + a.reserved) AS held, m.status,
    p.rules_version
FROM account a JOIN member m ON m.id = a.member_id JOIN program p ON p.id = a.program_id
WHERE a.id = ANY($2::uuid[]) AND a.program_id = $1
ORDER BY a.id FOR NO KEY UPDATE OF a
"""

_COUNTERS = """
SELECT c.member_id, c.day, c.points /* scoped by: account */
FROM unnest($2::uuid[], $3::date[]) AS t(member_id, day)
JOIN earning_counter c ON c.member_id = t.member_id AND c.subject = $1 AND c.day = t.day
"""

_KEEP = """
WITH outcome AS ( /* scoped by: account */
    INSERT INTO event_outcome (event_id, points, rejection, processed_at)
    SELECT t.*, $4 FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS t
), counted AS (
    INSERT INTO earning_counter (member_id, subject, day, points)
    SELECT t.member_id, $8, t.day, t.points
    FROM unnest($5::uuid[], $6::date[], $7::bigint[]) AS t(member_id, day, points)
    ON CONFLICT (member_id, subject, day) DO UPDATE SET points = earning_counter.points + excluded.points
)
INSERT INTO award (event_id, rule_id, rule_version, desired, points, entry_sequence, steps,
    available_at, expires_at)
SELECT t.*, $16::timestamptz, $17::timestamptz
FROM unnest($9::uuid[], $10::uuid[], $11::integer[], $12::bigint[], $13::bigint[], $14::bigint[],
    $15::jsonb[]) AS t
"""


class Waiting(NamedTuple):
    """An event that is to be earned."""

    id: UUID
    member_id: UUID
    occurred_at: datetime
    amount: Decimal


class Earned(NamedTuple):
    """What became of one event: its points, or why it could not be processed."""

    points: int
    rejection: str | None


class Locked(NamedTuple):
    """What the accounts of a batch look like, while they are ours."""

    rule_set: RuleSet
    held: dict[UUID, int]
    """Points in the account, by member; the most it has to be able to count."""
    status: dict[UUID, MemberStatus]


async def lock(sql: asyncpg.Connection, program_id: UUID, members: Sequence[UUID]) -> Locked:
    """Lock the accounts of members until the transaction ends, and read what earning needs of them."""
    rows = await sql.fetch(_LOCK, program_id, members)
    version = rows[0]["rules_version"] if rows else None
    return Locked(
        await rulesets.current(sql, program_id, version),
        {row["id"]: row["held"] for row in rows},
        {row["id"]: MemberStatus(row["status"]) for row in rows},
    )


def why_not(status: str | None) -> str | None:
    """Return why a member cannot earn; None for one who can."""
    if status == MemberStatus.ACTIVE:
        return None
    return (
        "There is no such member." if status is None else f"The member is {status.lower()} and earns nothing."
    )


async def _rooms(
    sql: asyncpg.Connection, rule_set: RuleSet, events: Sequence[Waiting]
) -> dict[tuple[UUID, date], int] | None:
    """Return what the program's daily cap leaves, by member and local day; None without a cap."""
    cap = rule_set.policy.max_points_per_day
    if cap is None:
        return None
    zone = rule_set.policy.zone
    rooms = dict.fromkeys(((event.member_id, local_date(event.occurred_at, zone)) for event in events), cap)
    members, days = zip(*rooms, strict=True)
    for row in await sql.fetch(_COUNTERS, rule_set.policy.program_id, members, days):
        rooms[row["member_id"], row["day"]] = max(0, cap - row["points"])
    return rooms


def _decide(
    locked: Locked, event: Waiting, room: int | None, held: int
) -> tuple[Sequence[Award], str | None]:
    """Return what an event earns, or why it earns nothing and never will."""
    rejection = why_not(locked.status.get(event.member_id))
    if rejection is not None:
        return (), rejection
    try:
        awards = evaluate(locked.rule_set, event.occurred_at, event.amount, room)
        if held + sum(award.points for award in awards) > MAX_POINTS:
            raise TooManyPoints
    except TooManyPoints:
        return (), f"The member would have more points than can be counted ({MAX_POINTS})."
    except Exception:
        # One event that the engine cannot digest must not hold up the others.
        log.exception("event_not_processed", event_id=str(event.id))
        return (), f"It could not be processed; the log says more about event {event.id}."
    return awards, None


async def earn(
    sql: asyncpg.Connection, locked: Locked, events: Sequence[Waiting], moment: datetime
) -> list[Earned]:
    """Earn events whose accounts are locked, in the order given, and keep everything about it.

    Args:
        events: at most MAX_BATCH, each member's in order of occurrence; not earned before.
        moment: the time of recording (UTC), by which the ledger goes.

    Returns:
        What became of each event, in the same order; `count` it once it is committed.
    """
    zone = locked.rule_set.policy.zone
    rooms = await _rooms(sql, locked.rule_set, events)
    held = dict(locked.held)
    earned: list[Earned] = []
    granted: list[tuple[Waiting, Award]] = []
    counted: dict[tuple[UUID, date], int] = {}
    for event in events:
        day = (event.member_id, local_date(event.occurred_at, zone))
        room = None if rooms is None else rooms[day]
        awards, rejection = _decide(locked, event, room, held.get(event.member_id, 0))
        points = sum(award.points for award in awards)
        if points:
            held[event.member_id] += points
            # Counted without a cap as well: one may be set in the middle of a day.
            counted[day] = counted.get(day, 0) + points
            if rooms is not None:
                rooms[day] -= points
        granted += [(event, award) for award in awards]
        earned.append(Earned(points, rejection))
    await _keep(sql, locked.rule_set.policy, events, earned, granted, counted, moment)
    return earned


def count(earned: Sequence[Earned]) -> None:
    """Count events that have been earned, for those who watch."""
    POINTS_EARNED.inc(sum(each.points for each in earned))
    EVENTS_PROCESSED.inc(len(earned))


async def _keep(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    events: Sequence[Waiting],
    earned: Sequence[Earned],
    granted: Sequence[tuple[Waiting, Award]],
    counted: Mapping[tuple[UUID, date], int],
    moment: datetime,
) -> None:
    """Write awards into the ledger, and keep them with the events' outcomes and the days' sums."""
    today = local_date(moment, policy.zone)
    matures_on = date.fromordinal(today.toordinal() + policy.pending_days)
    expires_on = policy.expiry.last_day(matures_on)
    sequences = await _post(sql, policy, granted, matures_on, expires_on, moment)
    await sql.execute(
        _KEEP,
        [event.id for event in events],
        [each.points for each in earned],
        [each.rejection for each in earned],
        moment,
        [member for member, _ in counted],
        [day for _, day in counted],
        list(counted.values()),
        policy.program_id,
        [event.id for event, _ in granted],
        [award.rule_id for _, award in granted],
        [award.rule_version for _, award in granted],
        [award.desired for _, award in granted],
        [award.points for _, award in granted],
        sequences,
        [msgspec.json.encode(award.steps) for _, award in granted],
        moment if matures_on <= today else start_of_day(matures_on, policy.zone),
        None if expires_on == NEVER else end_of_day(expires_on, policy.zone),
    )


async def _post(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    granted: Sequence[tuple[Waiting, Award]],
    matures_on: date,
    expires_on: date,
    moment: datetime,
) -> list[int | None]:
    """Write the awards into the ledger; return the sequence of each one's entry, None for no points."""
    operations = [
        Operation(
            account_id=event.member_id,
            kind=EntryKind.EARN,
            amount=award.points,
            key=key_id("award", event.id, award.rule_id),
            request_hash=award.points,
            occurred_at=event.occurred_at,
            matures_on=matures_on,
            expires_on=expires_on,
            source="event",
            source_id=event.id,
            reason=award.rule_name,
        )
        for event, award in granted
        if award.points
    ]
    outcomes = []
    for start in range(0, len(operations), MAX_BATCH):
        outcomes += await apply(sql, terms(policy, moment), operations[start : start + MAX_BATCH])
    if any(outcome.status is not Status.APPLIED for outcome in outcomes):
        # All that a caller can cause was ruled out above, under the same locks.
        raise AssertionError(f"awards were refused by the ledger: {outcomes}")
    sequences = iter(outcomes)
    return [next(sequences).sequence if award.points else None for _, award in granted]
