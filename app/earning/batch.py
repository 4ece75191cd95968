"""Earning a batch of events inside a transaction: the one path for now, for workers and for imports.

The order of locks is always: accounts in the order of their ids, then everything else. Whoever holds
an account alone decides about its member's events, counters and awards.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import structlog

from app.days import end_of_day, local_date, start_of_day
from app.earning import rulesets
from app.earning.engine import evaluate
from app.earning.limits import Book, Rooms, Waiting
from app.earning.outcomes import Award, TooManyPoints
from app.earning.receipts import NO_ROOMS, Context, KeptRooms, encode
from app.earning.rules import EventKind
from app.earning.ruleset import NOTHING_MET, Candidate, RuleSet, Standing
from app.earning.telling import Given, points_earned
from app.ids import key_id, new_id
from app.ledger.expiry import NEVER
from app.ledger.operations import MAX_POINTS, EntryKind, Operation
from app.ledger.service import post, terms
from app.members.inputs import MemberStatus
from app.messages.topics import Topic
from app.metrics import EVENTS_PROCESSED, POINTS_EARNED
from app.programs.policy import ProgramPolicy
from app.tiers.policy import TierBasis
from app.tiers.reads import tiers_at

log = structlog.get_logger("laurel.earning")

_LOCK = """
SELECT a.id, greatest(a.lifetime_earned, a.available + a.pending + a.reserved) AS held, m.status,
    p.rules_version
FROM account a JOIN member m ON m.id = a.member_id JOIN program p ON p.id = a.program_id
WHERE a.id = ANY($2::uuid[]) AND a.program_id = $1
ORDER BY a.id FOR NO KEY UPDATE OF a
"""

_PEEK = _LOCK.replace("FOR NO KEY UPDATE OF a", "")

_KEEP = """
WITH outcome AS ( /* scoped by: account */
    INSERT INTO event_outcome (event_id, points, rejection, rules_version, context, processed_at)
    SELECT t.*, $6 FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::jsonb[]) AS t
), counted AS (
    INSERT INTO earning_counter (member_id, subject, day, points)
    SELECT t.member_id, $10, t.day, t.points
    FROM unnest($7::uuid[], $8::date[], $9::bigint[]) AS t(member_id, day, points)
    ON CONFLICT (member_id, subject, day) DO UPDATE SET points = earning_counter.points + excluded.points
), spent AS (
    UPDATE earning_budget b SET spent = b.spent + t.points
    FROM unnest($21::uuid[], $22::bigint[]) AS t(rule_id, points) WHERE b.rule_id = t.rule_id
), told AS (
    INSERT INTO message (id, program_id, topic, member_id, payload, created_at)
    SELECT t.id, $10, $26, t.member_id, t.payload, $6
    FROM unnest($23::uuid[], $24::uuid[], $25::jsonb[]) AS t(id, member_id, payload)
)
INSERT INTO award (event_id, rule_id, rule_version, desired, points, remaining, entry_sequence, steps,
    day, available_at, expires_at)
SELECT event_id, rule_id, rule_version, desired, points, points, sequence, steps, day, available_at,
    expires_at
FROM unnest($11::uuid[], $12::uuid[], $13::integer[], $14::bigint[], $15::bigint[], $16::bigint[],
        $17::jsonb[], $18::date[], $19::timestamptz[], $20::timestamptz[])
    AS t(event_id, rule_id, rule_version, desired, points, sequence, steps, day, available_at, expires_at)
"""


# Whose tier may change, and who may have brought a friend.
_LEAVE_BEHIND = """
WITH climbing AS (
    INSERT INTO outbox (queue, program_id, members, items, created_at)
    SELECT 'tiers', $1, $2::uuid[], cardinality($2::uuid[]), $4 WHERE cardinality($2::uuid[]) > 0
)
INSERT INTO outbox (queue, program_id, members, items, created_at)
SELECT 'referrals', $1, array_agg(r.referred_id), count(*), $4 FROM referral r
WHERE r.program_id = $1 AND r.referred_id = ANY($3::uuid[]) AND r.status <> 'REJECTED' AND NOT EXISTS (
    SELECT FROM referral_credit c
    WHERE c.referral_id = r.id AND c.trigger = 'FIRST_PURCHASE' AND c.taken_back_at IS NULL)
HAVING count(*) > 0
"""


class Earned(NamedTuple):
    """What became of one event: its points, or why it could not be processed."""

    points: int
    rejection: str | None


class _Span(NamedTuple):
    """From when on points can be spent, and the last second at which they can; None where there is none."""

    available_at: datetime
    expires_at: datetime | None


TOO_MANY = f"The member would have more points than can be counted ({MAX_POINTS})."


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


async def peek_held(sql: asyncpg.Connection, program_id: UUID, member_id: UUID) -> int:
    """Return what `Locked.held` would say of a member; nothing is locked for it."""
    (row,) = await sql.fetch(_PEEK, program_id, [member_id])
    held: int = row["held"]
    return held


def check_sum(held: int, awards: Sequence[Award]) -> None:
    """Check that an account can count what it is to be given.

    Raises:
        TooManyPoints: it could not.
    """
    if held + sum(award.points for award in awards) > MAX_POINTS:
        raise TooManyPoints


def why_not(status: str | None) -> str | None:
    """Return why a member cannot earn; None for one who can."""
    if status == MemberStatus.ACTIVE:
        return None
    return (
        "There is no such member." if status is None else f"The member is {status.lower()} and earns nothing."
    )


class _Granted(NamedTuple):
    """An award of an event, with the days of its points."""

    event: Waiting
    award: Award
    day: date
    matures_on: date
    expires_on: date


async def standings(sql: asyncpg.Connection, rule_set: RuleSet, events: Sequence[Waiting]) -> list[Standing]:
    """Return the tier and the factors that each event meets, in their order."""
    tiers: Sequence[UUID | None] = [None] * len(events)
    if rule_set.has_tiers:
        moments = [(event.member_id, event.facts.occurred_at) for event in events]
        tiers = await tiers_at(sql, rule_set.policy.program_id, moments)
    return [rule_set.standing(event.facts, tier) for event, tier in zip(events, tiers, strict=True)]


class _Batch:
    """Events on their way to their points, one after the other."""

    def __init__(self, locked: Locked, moment: datetime) -> None:
        self._locked = locked
        self._rules = locked.rule_set
        self._held = dict(locked.held)
        self._today = local_date(moment, self._rules.policy.zone)
        self.book = Book(self._rules.policy)
        self.earned: list[Earned] = []
        self.granted: list[_Granted] = []
        self.contexts: list[bytes | None] = []
        self._plain = encode(Context.of(self._rules.policy, NOTHING_MET, NO_ROOMS))

    def earn(
        self, event: Waiting, rules: RuleSet, candidates: Sequence[Candidate], standing: Standing
    ) -> None:
        """Decide what an event earns by the rules of its time, and count it."""
        rooms = self.book.rooms(event)
        awards, rejection = self._decide(event, rules, candidates, standing, rooms)
        points = sum(award.points for award in awards)
        if points:
            self._held[event.member_id] += points
            self.book.take(rooms.place, event.facts.occurred_at, awards)
        self.granted += [
            _Granted(event, award, rooms.place.day, *days_of(rules, award.rule_id, self._today))
            for award in awards
        ]
        self.earned.append(Earned(points, rejection))
        # What was turned away was decided by no rule.
        self.contexts.append(None if rejection else self._context(standing, rooms.kept()))

    def _context(self, standing: Standing, rooms: KeptRooms) -> bytes:
        if standing is NOTHING_MET and rooms is NO_ROOMS:
            # Nearly always, where there are neither tiers nor limits.
            return self._plain
        return encode(Context.of(self._rules.policy, standing, rooms))

    def _decide(
        self,
        event: Waiting,
        rules: RuleSet,
        candidates: Sequence[Candidate],
        standing: Standing,
        rooms: Rooms,
    ) -> tuple[Sequence[Award], str | None]:
        """Return what an event earns, or why it earns nothing and never will."""
        rejection = why_not(self._locked.status.get(event.member_id))
        if rejection is not None:
            return (), rejection
        try:
            awards = evaluate(rules, event.facts, standing, rooms, candidates=candidates)
            check_sum(self._held.get(event.member_id, 0), awards)
        except TooManyPoints:
            return (), TOO_MANY
        except Exception:
            # One event that the engine cannot digest must not hold up the others.
            log.exception("event_not_processed", event_id=str(event.id))
            return (), f"It could not be processed; the log says more about event {event.id}."
        return awards, None


def days_of(rule_set: RuleSet, rule_id: UUID, today: date) -> tuple[date, date]:
    """Return the first and the last local day on which points that a rule gives today can be spent."""
    policy, rule = rule_set.policy, rule_set.compiled[rule_id].definition
    pending = policy.pending_days if rule.pending_days is None else rule.pending_days
    matures_on = date.fromordinal(today.toordinal() + pending)
    return matures_on, (rule.expiry or policy.expiry).last_day(matures_on)


def span_of(matures_on: date, expires_on: date, policy: ProgramPolicy, moment: datetime) -> _Span:
    """Return from when until when points can be spent that are written at a moment (UTC)."""
    today = local_date(moment, policy.zone)
    return _Span(
        moment if matures_on <= today else start_of_day(matures_on, policy.zone),
        None if expires_on == NEVER else end_of_day(expires_on, policy.zone),
    )


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
    batch = _Batch(locked, moment)
    rules = await rulesets.then(sql, locked.rule_set, [event.facts for event in events])
    candidates = [each.candidates(event.facts) for each, event in zip(rules, events, strict=True)]
    met = await standings(sql, locked.rule_set, events)
    await batch.book.read(sql, zip(events, candidates, strict=True))
    for each in zip(events, rules, candidates, met, strict=True):
        batch.earn(*each)
    await _keep(sql, locked.rule_set.policy, events, batch, moment)
    await _leave_behind(sql, locked.rule_set, events, batch.earned, moment)
    return batch.earned


def count(earned: Sequence[Earned]) -> None:
    """Count events that have been earned, for those who watch."""
    POINTS_EARNED.inc(sum(each.points for each in earned))
    EVENTS_PROCESSED.inc(len(earned))


async def _keep(
    sql: asyncpg.Connection, policy: ProgramPolicy, events: Sequence[Waiting], batch: _Batch, moment: datetime
) -> None:
    """Write awards into the ledger, and keep them with the events' outcomes and the days' sums."""
    granted, given = batch.granted, batch.book.given
    spans = {
        days: span_of(*days, policy, moment)
        for days in {(each.matures_on, each.expires_on) for each in granted}
    }
    sequences = await _post(sql, policy, granted, moment)
    told = points_earned(
        [Given(each.event, each.award, *spans[each.matures_on, each.expires_on]) for each in granted]
    )
    await sql.execute(
        _KEEP,
        [event.id for event in events],
        [each.points for each in batch.earned],
        [each.rejection for each in batch.earned],
        [None if context is None else policy.version for context in batch.contexts],
        batch.contexts,
        moment,
        [member for member, _ in given],
        [day for _, day in given],
        list(given.values()),
        policy.program_id,
        [each.event.id for each in granted],
        [each.award.rule_id for each in granted],
        [each.award.rule_version for each in granted],
        [each.award.desired for each in granted],
        [each.award.points for each in granted],
        sequences,
        [msgspec.json.encode(each.award.steps) for each in granted],
        [each.day for each in granted],
        [spans[each.matures_on, each.expires_on].available_at for each in granted],
        [spans[each.matures_on, each.expires_on].expires_at for each in granted],
        list(batch.book.by_rule),
        list(batch.book.by_rule.values()),
        [new_id() for _ in told],
        [message.member_id for message in told],
        [message.encoded for message in told],
        Topic.POINTS_EARNED,
    )


async def _post(
    sql: asyncpg.Connection, policy: ProgramPolicy, granted: Sequence[_Granted], moment: datetime
) -> list[int | None]:
    """Write the awards into the ledger; return the sequence of each one's entry, None for no points."""
    operations = [
        Operation(
            account_id=event.member_id,
            kind=EntryKind.EARN,
            amount=award.points,
            key=key_id("award", event.id, award.rule_id),
            request_hash=award.points,
            occurred_at=event.facts.occurred_at,
            matures_on=matures_on,
            expires_on=expires_on,
            source="event",
            source_id=event.id,
            reason=award.rule_name,
        )
        for event, award, _, matures_on, expires_on in granted
        if award.points
    ]
    sequences = iter(await post(sql, terms(policy, moment), operations))
    return [next(sequences).sequence if award.points else None for _, award, *_ in granted]


async def _leave_behind(
    sql: asyncpg.Connection,
    rule_set: RuleSet,
    events: Sequence[Waiting],
    earned: Sequence[Earned],
    moment: datetime,
) -> None:
    """Leave to workers what events bring about beside their points: other tiers, referrals to be credited."""
    taken = [(event, each) for event, each in zip(events, earned, strict=True) if each.rejection is None]
    climbing: set[UUID] = set()
    if rule_set.can_climb:
        by_points = rule_set.policy.tiers.basis is TierBasis.POINTS_EARNED
        climbing = {
            event.member_id
            for event, each in taken
            if (each.points if by_points else event.facts.kind is EventKind.PURCHASE)
        }
    buying: set[UUID] = set()
    if rule_set.rewards_first_purchases:
        buying = {event.member_id for event, _ in taken if event.facts.kind is EventKind.PURCHASE}
    if climbing or buying:
        await sql.execute(_LEAVE_BEHIND, rule_set.policy.program_id, sorted(climbing), sorted(buying), moment)
