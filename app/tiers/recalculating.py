"""Recalculating the tiers of a whole program: in slices of many members, each in a few statements.

Most of a slice is one statement: it adds up what counts today, finds the tier for it, moves up whoever stands
below it, and notes when time alone may change something. Whoever stands above what counts today, was given a
tier by hand, or has a past that decides as well, is looked at one by one, as after an event.
"""

from datetime import UTC, date, datetime
from uuid import UUID

import asyncpg
import orjson

from app import clock
from app.days import local_date, start_of_day
from app.jobs.jobs import Job, advance
from app.live.hints import touch
from app.messages.topics import Topic
from app.tiers.counting import ONLY, SOURCES
from app.tiers.policy import TierDowngrade, TierPolicy, TierWindow
from app.tiers.qualification import Window
from app.tiers.standings import CHUNK, SOURCE, Ground, evaluate_within, load_ground, told_tier

SLICE = 25_000
"""Members in one transaction."""

# A plan that is kept was made for other tables: those of a program that has no standings yet, say.
_PLAN_ANEW = "SET LOCAL plan_cache_mode = force_custom_plan"

_FIRST = UUID(int=0)
_BEGINNING = datetime(1, 1, 2, tzinfo=UTC)

# Both ends of a slice are known to its statement: so it reads its part of each table, not all of it.
_LAST = """
SELECT id FROM (SELECT id FROM member WHERE program_id = $1 AND id > $2 ORDER BY id LIMIT $3) slice
ORDER BY id DESC LIMIT 1
"""

# Whoever changes meanwhile stands otherwise than was read, and is left alone: what changed them has looked.
_SLICE = """
WITH slice AS MATERIALIZED (
    SELECT m.id FROM member m WHERE m.program_id = $1 AND m.id > $3 AND m.id <= $4
), counted AS MATERIALIZED (
    SELECT e.member_id, sum(x.value) FILTER (WHERE {within} AND e.occurred_at <= $6) AS qualifying,
        min(x.day) FILTER (WHERE {within}) AS first, {past} AS has_past, bool_or(e.occurred_at > $6) AS ahead
    FROM slice JOIN event e ON e.member_id = slice.id {joined}
    CROSS JOIN LATERAL (SELECT ({value})::numeric AS value, (e.occurred_at AT TIME ZONE $5)::date AS day) x
    WHERE {only} AND e.occurred_at >= $7 AND x.value > 0 AND ($2 OR NOT $2)
    GROUP BY e.member_id
), found AS MATERIALIZED (
    SELECT slice.id, coalesce(c.qualifying, 0) AS qualifying, c.first, s.member_id IS NULL AS fresh,
        coalesce(array_position($8::uuid[], s.tier_id), 0) AS stood, s.due_at,
        width_bucket(coalesce(c.qualifying, 0), $9::numeric[]) AS rank,
        coalesce(c.ahead OR c.has_past AND coalesce(s.evaluated_at <= $15, TRUE), FALSE) OR {all} OR EXISTS (
            SELECT FROM member_tier g WHERE g.member_id = slice.id AND NOT g.automatic
                AND g.member_id > $3 AND g.member_id <= $4) AS special
    FROM slice LEFT JOIN counted c ON c.member_id = slice.id
    LEFT JOIN tier_standing s ON s.member_id = slice.id
        AND s.program_id = $1 AND s.member_id > $3 AND s.member_id <= $4
), sorted AS MATERIALIZED (
    SELECT f.*, special OR rank < stood AS exact, CASE WHEN rank > 0 THEN {due} END AS due FROM found f
), moved AS (
    UPDATE tier_standing s SET tier_id = ($8::uuid[])[f.rank], due_at = f.due, evaluated_at = $6
    FROM sorted f
    WHERE s.program_id = $1 AND s.member_id > $3 AND s.member_id <= $4
        AND s.member_id = f.id AND NOT f.exact AND NOT f.fresh
        AND coalesce(array_position($8::uuid[], s.tier_id), 0) = f.stood
        AND (f.rank > f.stood OR s.due_at IS DISTINCT FROM f.due)
    RETURNING s.member_id, f.rank, f.stood, f.qualifying
), opened AS (
    INSERT INTO tier_standing (member_id, program_id, tier_id, due_at, evaluated_at)
    SELECT f.id, $1, ($8::uuid[])[f.rank], f.due, $6 FROM sorted f
    WHERE NOT f.exact AND f.fresh AND f.rank > 0
    ON CONFLICT DO NOTHING RETURNING member_id
), risen AS MATERIALIZED (
    SELECT member_id, rank, stood, qualifying FROM moved WHERE rank > stood
    UNION ALL
    SELECT o.member_id, f.rank, 0, f.qualifying FROM opened o JOIN sorted f ON f.id = o.member_id
), history AS (
    INSERT INTO member_tier (id, program_id, member_id, tier_id, since, reason, source, recorded_at,
        automatic)
    SELECT gen_random_uuid(), $1, r.member_id, ($8::uuid[])[r.rank], $6,
        trim_scale(r.qualifying) || ' counted; ' || ($10::text[])[r.rank] || ' needs '
            || trim_scale(($9::numeric[])[r.rank]) || '.',
        $11, $6, TRUE
    FROM risen r
), told AS (
    INSERT INTO message (id, program_id, topic, member_id, payload, created_at)
    SELECT gen_random_uuid(), $1, $14, r.member_id, jsonb_build_object('from', ($12::jsonb)->r.stood,
        'to', ($12::jsonb)->r.rank, 'qualifying', trim_scale(r.qualifying)::text,
        'at', $13::text), $6
    FROM risen r
)
SELECT (SELECT count(*) FROM slice) AS members,
    ARRAY(SELECT id FROM sorted WHERE exact ORDER BY id) AS exact, ARRAY(SELECT member_id FROM risen) AS risen
"""


def _statement(ground: Ground, now: datetime) -> str:
    """Return the statement of a slice for a program's policy; what is filled in are constants and dates."""
    policy = ground.policy.tiers
    joined, value = SOURCES[policy.basis]
    today = local_date(now, ground.policy.zone)
    within, due = "TRUE", "NULL::timestamptz"
    if policy.window is TierWindow.ROLLING_MONTHS:
        within = f"(x.day + make_interval(months => {policy.months}))::date >= DATE '{today}'"
        # At the earliest when the first leaves; an hour before, for days that begin twice.
        last = f"(first + make_interval(months => {policy.months}))::date"
        due = f"({last} + {1 + policy.grace_days})::timestamp AT TIME ZONE $5 - interval '1 hour'"
    elif policy.window is TierWindow.CALENDAR_YEAR:
        within = f"x.day >= DATE '{today.year}-01-01'"
        lost = Window(policy, ground.policy.zone).lost_at(date(today.year + 1, 1, 1))
        due = f"TIMESTAMPTZ '{lost}'"
    if policy.downgrade is TierDowngrade.NEVER:
        due = "NULL::timestamptz"
    past = f"coalesce(bool_or(NOT ({within})), FALSE)" if _past_decides(policy) else "FALSE"
    return _SLICE.format(
        joined=joined,
        value=value,
        only=ONLY[policy.basis],
        within=within,
        past=past,
        due=due,
        all="TRUE" if _reordered(ground) else "FALSE",
    )


def _reordered(ground: Ground) -> bool:
    """Tell whether tiers ever stood in another order: then what was reached once may stand higher today."""
    return any(
        sorted(ground.ladder, key=lambda rung: rung.threshold(moment)) != list(ground.ladder)
        for rung in ground.ladder
        for moment, _ in rung.thresholds[1:]
    ) or sorted(ground.ladder, key=lambda rung: rung.thresholds[0][1]) != list(ground.ladder)


def _past_decides(policy: TierPolicy) -> bool:
    """Tell whether what does not count any more can still keep somebody in a tier."""
    return policy.window is not TierWindow.LIFETIME and (
        policy.grace_days > 0 or policy.downgrade is not TierDowngrade.TO_QUALIFIED
    )


def _since(ground: Ground, now: datetime) -> datetime:
    """Return before when nothing needs to be read."""
    policy = ground.policy.tiers
    if policy.window is TierWindow.LIFETIME or _past_decides(policy):
        return _BEGINNING
    first = Window(policy, ground.policy.zone).counts_from(local_date(now, ground.policy.zone))
    return start_of_day(first, ground.policy.zone)


def _changed_at(ground: Ground) -> datetime:
    """Return when what tiers are judged by may have changed last."""
    return max([ground.policy.updated_at, *(since for rung in ground.ladder for since, _ in rung.thresholds)])


async def recalculate(sql: asyncpg.Connection, job: Job) -> bool:
    """Recalculate the tiers of the next SLICE members of a program; return whether there are more.

    Whoever qualifies for more than they have moves up as of now. Nobody moves down before their term ends.

    Args:
        sql: a connection inside a transaction that holds the job; its state is the last member looked at.
    """
    now = clock.now()
    ground = await load_ground(sql, job.program_id)
    total = job.total
    if total is None:
        total = await sql.fetchval("SELECT count(*) FROM member WHERE program_id = $1", job.program_id)
    after = UUID(job.state["after"]) if "after" in job.state else _FIRST
    last = await sql.fetchval(_LAST, job.program_id, after, SLICE)
    if last is None:
        await advance(sql, job, job.done, max(total, job.done), job.state)
        return False
    await sql.execute(_PLAN_ANEW)
    row = await sql.fetchrow(
        _statement(ground, now),
        job.program_id,
        ground.policy.earn_on_points_payments,
        after,
        last,
        ground.policy.timezone,
        now,
        _since(ground, now),
        [rung.tier_id for rung in ground.ladder],
        [tier.threshold for tier in ground.tiers if tier.rank],
        [tier.name for tier in ground.tiers if tier.rank],
        SOURCE,
        orjson.dumps([told_tier(ground.tier(rank)) for rank in range(len(ground.ladder) + 1)]),
        now.isoformat().replace("+00:00", "Z"),
        Topic.TIER_UP,
        _changed_at(ground),
    )
    for start in range(0, len(row["exact"]), CHUNK):
        await evaluate_within(sql, job.program_id, row["exact"][start : start + CHUNK], now)
    touch(row["risen"])
    done = job.done + row["members"]
    await advance(sql, job, done, max(total, done), {"after": str(last)})
    # Whoever enrolled between the two statements may have made the slice a little longer.
    more: bool = row["members"] >= SLICE
    return more
