"""Birthdays and anniversaries, found day by day in each program's zone; days that were missed, too."""

from collections.abc import Sequence
from datetime import date, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import structlog

from app import clock
from app.database import TRANSIENT, connection
from app.days import local_date, start_of_day
from app.earning import rulesets
from app.earning.events import Incoming
from app.earning.occasions import day_event, day_prefix, paying_rules
from app.earning.recording import record_now, store
from app.earning.rules import Action
from app.earning.ruleset import RuleSet
from app.errors import Unavailable
from app.metrics import ERRORS

log = structlog.get_logger("laurel.earning")

MAX_DAYS = 366
"""Days before today that are caught up on; what is older is left out."""

_BATCH = 500
"""Members in one transaction."""

_ACTIONS = (Action.BIRTHDAY, Action.ANNIVERSARY)
_ONE_DAY = timedelta(days=1)
_FIRST = UUID(int=0)

_PROGRAMS = """
SELECT p.id, p.timezone, s.done_until, EXISTS (
    SELECT FROM earning_rule r WHERE r.program_id = p.id AND r.trigger = 'ACTION' AND r.status = 'ACTIVE'
        AND r.definition->>'action' = ANY($2::text[])
) AS celebrates
FROM program p LEFT JOIN calendar_sweep s ON s.program_id = p.id
WHERE p.id > $1 ORDER BY p.id LIMIT 100
"""

_STATE = """
SELECT p.rules_version, s.done_until
FROM program p LEFT JOIN calendar_sweep s ON s.program_id = p.id WHERE p.id = $1
"""

_DONE = """
INSERT INTO calendar_sweep (program_id, done_until) SELECT * FROM unnest($1::uuid[], $2::date[])
ON CONFLICT (program_id) DO UPDATE SET done_until = excluded.done_until
WHERE calendar_sweep.done_until < excluded.done_until
"""

# Rules that were active for their action at some moment of a span of time.
_ACTIVE_THEN = """
SELECT DISTINCT x.id FROM (
    SELECT r.id, v.status, v.definition->>'action' = r.definition->>'action' AS same, v.created_at AS since,
        lead(v.created_at) OVER (PARTITION BY v.rule_id ORDER BY v.version) AS until
    FROM earning_rule r JOIN earning_rule_version v ON v.rule_id = r.id
    WHERE r.program_id = $1 AND r.id = ANY($2::uuid[])
) x
WHERE x.status = 'ACTIVE' AND x.same AND x.since < $4 AND (x.until IS NULL OR x.until > $3)
"""

# Whose day it is comes from the index whatever the planner knows of the table, and each of them is looked up
# by id: both cost what that day's members cost, not what all members or events do.
_CANDIDATES = """
WITH found AS MATERIALIZED (
    SELECT id FROM member
    WHERE program_id = $1 AND status = 'ACTIVE' AND created_at < $2 AND id > $3 AND {matching}
)
SELECT f.id FROM found f
WHERE NOT EXISTS (
    SELECT FROM event e
    WHERE e.program_id = $1 AND e.external_id = $4 || replace(f.id::text, '-', '') OFFSET 0
)
ORDER BY f.id LIMIT $5
"""

_BIRTHDAYS = _CANDIDATES.format(
    matching="""birthday IS NOT NULL AND birthday <= $7
        AND extract(month FROM birthday) * 100 + extract(day FROM birthday) = ANY($6::numeric[])"""
)

_ANNIVERSARIES = _CANDIDATES.format(
    matching="""joined_at < $7
        AND extract(month FROM joined_at AT TIME ZONE 'UTC') * 100
            + extract(day FROM joined_at AT TIME ZONE 'UTC') = ANY($8::numeric[])
        AND extract(month FROM joined_at AT TIME ZONE $9) * 100
            + extract(day FROM joined_at AT TIME ZONE $9) = ANY($6::numeric[])"""
)


def days_kept(day: date) -> list[int]:
    """Return the days of the year that are celebrated on a day, each as month * 100 + day.

    That is the day itself, and on 28 February of a year without a 29th that one, too.
    """
    kept = [day.month * 100 + day.day]
    if kept == [228] and (day + _ONE_DAY).month == 3:
        kept.append(229)
    return kept


def days_around(kept: Sequence[int]) -> list[int]:
    """Return the days of the year on which it can be in UTC while it is one of those days in some zone."""
    around = set()
    for each in kept:
        # What is next to it depends on the year.
        for year in (2000, 2001):
            if each == 229 and year == 2001:
                continue
            day = date(year, *divmod(each, 100))
            neighbours = (day - _ONE_DAY, day, day + _ONE_DAY)
            around |= {neighbour.month * 100 + neighbour.day for neighbour in neighbours}
    return sorted(around)


async def _find(
    sql: asyncpg.Connection, program_id: UUID, action: Action, day: date, zone: ZoneInfo, after: UUID
) -> list[UUID]:
    """Return the next active members whose occasion of a local day is not recorded, by id, at most _BATCH."""
    kept = days_kept(day)
    enrolled_before = start_of_day(day + _ONE_DAY, zone)
    args = [program_id, enrolled_before, after, day_prefix(action, day), _BATCH, kept]
    if action is Action.BIRTHDAY:
        rows = await sql.fetch(_BIRTHDAYS, *args, day)
    else:
        year = start_of_day(day.replace(month=1, day=1), zone)
        rows = await sql.fetch(_ANNIVERSARIES, *args, year, days_around(kept), zone.key)
    return [row["id"] for row in rows]


async def _record(program_id: UUID, events: Sequence[Incoming]) -> int:
    """Record occasions; return how many were new.

    Whose books disagree does not hold up the others: their occasion is stored for the workers, which
    earn it when the books have been put right.
    """
    try:
        results = await record_now(program_id, events)
    except asyncpg.PostgresError:
        if len(events) > 1:
            middle = len(events) // 2
            return await _record(program_id, events[:middle]) + await _record(program_id, events[middle:])
        ERRORS.labels("earning").inc()
        log.exception("occasion_not_earned", external_id=events[0].content.external_id)
        results = await store(program_id, events)
    return sum(1 for each in results if each.event and not each.replayed)


async def _celebrate(program_id: UUID, action: Action, day: date, zone: ZoneInfo) -> int:
    """Record the occasions of one local day that are not recorded yet; return how many."""
    total, last = 0, _FIRST
    while True:
        async with connection() as sql:
            members = await _find(sql, program_id, action, day, zone, last)
        if members:
            events = [day_event(action, day, zone, member_id) for member_id in members]
            total += await _record(program_id, events)
            last = members[-1]
        if len(members) < _BATCH:
            return total


async def _actions(sql: asyncpg.Connection, rule_set: RuleSet, day: date, today: date) -> list[Action]:
    """Return what pays on a local day: what has a rule now that was active on that day."""
    begin = start_of_day(day, rule_set.policy.zone)
    rules = {action: paying_rules(rule_set, action, begin) for action in _ACTIONS}
    if day < today and any(rules.values()):
        end = start_of_day(day + _ONE_DAY, rule_set.policy.zone)
        ids = [rule_id for each in rules.values() for rule_id in each]
        rows = await sql.fetch(_ACTIVE_THEN, rule_set.policy.program_id, ids, begin, end)
        active = {row["id"] for row in rows}
        rules = {action: [each for each in ids if each in active] for action, ids in rules.items()}
    return [action for action, ids in rules.items() if ids]


async def _done(until: dict[UUID, date]) -> None:
    """Note the last local day of each program that is over and done; never an earlier one than before."""
    # In one order for everybody, so that two workers do not wait for each other.
    programs = sorted(until)
    async with connection() as sql:
        await sql.execute(_DONE, programs, [until[each] for each in programs])


def _is_behind(done: date | None, today: date) -> bool:
    return done is None or done < today - _ONE_DAY


async def sweep_program(program_id: UUID) -> int:
    """Record the birthdays and anniversaries of a program, day by day in its zone, up to today.

    It begins with the day after the last one that is done, at most MAX_DAYS ago, and in a program that
    was never swept with today. Today is looked at again in every sweep; a day is done when it has been
    looked at once after it was over. Days on which no rule paid for an occasion are not made up for
    when there is one later.

    Safe to run twice, on two workers at once, and to be killed at any moment.

    Returns:
        How many occasions were recorded.

    Raises:
        Unavailable: the database stayed away or busy; the next sweep goes on where this one ended.
    """
    total = 0
    while True:
        async with connection() as sql:
            version, done = await sql.fetchrow(_STATE, program_id)
            rule_set = await rulesets.current(sql, program_id, version)
            zone = rule_set.policy.zone
            # Before anything is looked at: what is over now was over during the whole look.
            today = local_date(clock.now(), zone)
            day = _next_day(done, today, rule_set)
            actions = await _actions(sql, rule_set, day, today)
        if _is_behind(done, day):
            await _done({program_id: day - _ONE_DAY})
        for action in actions:
            total += await _celebrate(program_id, action, day, zone)
        if day == today:
            return total
        await _done({program_id: day})


def _next_day(done: date | None, today: date, rule_set: RuleSet) -> date:
    """Return the local day to look at: the first that is not done, but for those that can be left out."""
    if done is None or rule_set.has_actions.isdisjoint(_ACTIONS):
        return today
    # Today also where a clock that was ahead has left a day that is still to come.
    return min(max(done + _ONE_DAY, today - timedelta(days=MAX_DAYS)), today)


async def _sweep_alone(program_id: UUID) -> int:
    """Sweep a program; what is wrong with one must not keep the others from their birthdays."""
    try:
        return await sweep_program(program_id)
    except (*TRANSIENT, Unavailable):
        raise
    except Exception:
        ERRORS.labels("calendar").inc()
        log.exception("program_not_swept", program_id=str(program_id))
        return 0


async def sweep() -> int:
    """Record the birthdays and anniversaries of every program; see `sweep_program`.

    A hundred programs cost one statement, and once a day a second one. A program with a rule for either
    costs one more, and one for each kind: a walk along an index over the members whose day it is, with
    one look at an index for each of them.
    """
    total = 0
    last = _FIRST
    while True:
        async with connection() as sql:
            programs = await sql.fetch(_PROGRAMS, last, list(_ACTIONS))
        if not programs:
            return total
        idle = {}
        for program in programs:
            if program["celebrates"]:
                total += await _sweep_alone(program["id"])
                continue
            today = local_date(clock.now(), ZoneInfo(program["timezone"]))
            if _is_behind(program["done_until"], today):
                idle[program["id"]] = today - _ONE_DAY
        if idle:
            await _done(idle)
        last = programs[-1]["id"]
