"""A program's tiers recalculated, against one bare UPDATE of the same rows with the same sums.

Each step is done by ours, as the job that a worker runs, and then by the bare statement: in a table of the
same columns and indexes, to which it adds the sum. The bare one finds the same members, and nothing else;
ours also keeps the history of who moves, leaves their messages, and goes on where it was when it is stopped.
"""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from unittest.mock import patch
from uuid import UUID

from app import clock, days
from app.database import connection
from app.days import local_date
from app.jobs.jobs import JobName, JobStatus, get_jobs, queue_job
from app.jobs.running import run_jobs
from app.programs.policies import load_policy
from app.programs.policy import ProgramPolicy
from app.programs.service import update_program
from app.tiers.counting import ONLY, SOURCES
from app.tiers.inputs import NewTier
from app.tiers.policy import TierBasis, TierPolicy, TierWindow
from app.tiers.qualification import Window
from app.tiers.service import create_tier, update_tier
from tests.benchmarks.harness import Figure, Rounds, Servers, connected, make_program, run

MEMBERS, EVENTS = 1_000_000, 5_000_000
_QUICK_MEMBERS, _QUICK_EVENTS = 100_000, 500_000
_LOAD_SECONDS = 1800.0

# About a fifth, a twentieth and a hundredth of the members reach them; then each becomes easier to reach.
_POLICIES = (
    (TierPolicy(TierBasis.AMOUNT_SPENT, TierWindow.ROLLING_MONTHS, 12), (560, 680, 780)),
    (TierPolicy(TierBasis.POINTS_EARNED), (610, 710, 800)),
)
_EASIER = 60

# Each who lost a tier meanwhile is looked at alone, for the days on which that came about; those who sweep do
# so at the time, so that there is no goal for it.
_MISSED = "after 30 days without a sweep"

_MEMBERS = """
INSERT INTO member (id, program_id, external_id, status, joined_at, created_at, updated_at)
SELECT uuidv7(), $1, lpad(n::text, 8, '0'), 'ACTIVE', now(), now(), now()
FROM generate_series(0, $2::integer - 1) AS n
"""

_ACCOUNTS = """
INSERT INTO account (id, program_id, member_id, active_on)
SELECT id, program_id, id, CURRENT_DATE FROM member WHERE program_id = $1
"""

# As they come: in the order of time, each of another member, over fifteen months.
_EVENTS = """
INSERT INTO event (id, program_id, member_id, external_id, kind, occurred_at, recorded_at, amount, body)
SELECT uuidv7(), $1, m.id, n::text, 'PURCHASE', x.at, x.at, ((n * 48271::bigint) % 20000 + 1) / 100.0, $5
FROM generate_series(1, $2::integer) AS n
JOIN (SELECT row_number() OVER (ORDER BY id) - 1 AS number, id FROM member WHERE program_id = $1) m
    ON m.number = (n * 7919::bigint) % $3,
    LATERAL (SELECT $4::timestamptz - interval '15 months' * (1 - n::float8 / $2) AS at) x
ORDER BY n
"""

_OUTCOMES = """
INSERT INTO event_outcome (event_id, points, processed_at)
SELECT id, floor(amount), recorded_at FROM event WHERE program_id = $1 ORDER BY id
"""

_AWARDS = """
INSERT INTO award (event_id, rule_id, rule_version, desired, points, remaining, available_at, entry_sequence,
    steps)
SELECT e.id, r.id, 1, floor(e.amount), floor(e.amount), floor(e.amount), e.recorded_at, 1, '[]'
FROM event e, earning_rule r WHERE e.program_id = $1 AND r.program_id = $1 AND e.amount >= 1 ORDER BY e.id
"""

_BODY = {
    "lines": [
        {"sku": f"SKU-{n:05}", "name": f"Article number {n}", "category": "Tea", "quantity": "2",
         "amount": f"{n + 4}.90"}
        for n in range(3)
    ]
}  # fmt: skip

_TABLE = """
CREATE TABLE bare_standing (LIKE tier_standing INCLUDING ALL, qualifying numeric) WITH (fillfactor = 70);
INSERT INTO bare_standing (member_id, program_id, evaluated_at) SELECT id, program_id, now() FROM member;
"""

_BARE = """
UPDATE bare_standing s SET tier_id = c.tier_id, due_at = c.due, qualifying = c.qualifying, evaluated_at = $3
FROM (
    SELECT member_id, sum(value) AS qualifying,
        CASE WHEN sum(value) >= ($4::numeric[])[1] THEN {due} END AS due,
        ($5::uuid[])[width_bucket(sum(value), $4::numeric[])] AS tier_id
    FROM (
        SELECT e.member_id, ({value})::numeric AS value, (e.occurred_at AT TIME ZONE $7)::date AS day
        FROM event e {joined}
        WHERE e.program_id = $1 AND {only} AND e.occurred_at >= $6 AND e.occurred_at <= $3 AND ($2 OR NOT $2)
    ) x
    WHERE value > 0 AND {within} GROUP BY member_id
) c
WHERE s.member_id = c.member_id AND (s.tier_id, s.due_at) IS DISTINCT FROM (c.tier_id, c.due)
"""

_FRESH = "TRUNCATE tier_standing, member_tier, message, outbox"
_WRITTEN = "SELECT count(*) FROM tier_standing WHERE program_id = $1 AND evaluated_at >= $2"
_MOVED = "SELECT count(*) FROM member_tier WHERE program_id = $1 AND recorded_at >= $2"
_TABLES = "member, account, event, event_outcome, award, refund, bare_standing, tier_standing, member_tier"


@dataclass
class _Step:
    """What was measured of one step, in all rounds."""

    rounds: Rounds = field(default_factory=lambda: Rounds([], []))
    notes: list[str] = field(default_factory=list)


class _Shop:
    """A program with tiers, members and all that they ever bought."""

    def __init__(self, program_id: UUID, tiers: list[UUID]) -> None:
        self._id = program_id
        self._tiers = tiers
        self._thresholds: list[int] = []
        self._policy: ProgramPolicy

    async def follow(self, policy: TierPolicy) -> None:
        """Have tiers be reached in another way; the job that follows is ours to start."""
        await update_program(self._id, {"tier_policy": policy})
        async with connection() as sql:
            self._policy = await load_policy(sql, self._id)

    async def change(self, *thresholds: int) -> None:
        """Have the tiers begin elsewhere; the job that follows is ours to start."""
        for tier, threshold in zip(self._tiers, thresholds, strict=True):
            await update_tier(self._id, tier, {"threshold": Decimal(threshold)})
        async with connection() as sql:
            await sql.execute("DELETE FROM job WHERE program_id = $1", self._id)
            await sql.execute("DELETE FROM outbox WHERE program_id = $1", self._id)
        self._thresholds = list(thresholds)

    async def forget(self) -> None:
        """Have nobody been looked at yet."""
        async with connection() as sql:
            await sql.execute(_FRESH)
            await sql.execute("UPDATE bare_standing SET tier_id = NULL, due_at = NULL, qualifying = NULL")
        await self.tidy()

    async def tidy(self) -> None:
        """Tidy up behind what was written, so that the next one does not pay for it."""
        async with connection() as sql:
            await sql.execute(
                "VACUUM ANALYZE bare_standing, tier_standing, member_tier, message", timeout=600
            )
            await sql.execute("CHECKPOINT", timeout=600)

    async def ours(self) -> tuple[float, str]:
        """Run the job to its end; return the seconds, and what it has written."""
        since = clock.now()
        queued = await queue_job(self._id, JobName.RECALCULATE_TIERS)
        started = time.perf_counter()
        job = queued
        while job.status in (JobStatus.QUEUED, JobStatus.RUNNING):
            await run_jobs(self._id, [queued.id], None)
            (found,) = await get_jobs(self._id, [queued.id])
            assert found is not None
            job = found
        seconds = time.perf_counter() - started
        assert job.status is JobStatus.SUCCEEDED, job.error
        async with connection() as sql:
            await sql.execute("DELETE FROM outbox WHERE program_id = $1", self._id)
            written = await sql.fetchval(_WRITTEN, self._id, since)
            moved = await sql.fetchval(_MOVED, self._id, since)
        return seconds, f"{written:,} standings written, {moved:,} rows of history"

    async def bare(self) -> tuple[float, str]:
        """Run the bare statement; return the seconds, and what it has written."""
        tiers, now = self._policy.tiers, clock.now()
        joined, value = SOURCES[tiers.basis]
        due, within, since = "NULL::timestamptz", "TRUE", datetime(1, 1, 2, tzinfo=UTC)
        if tiers.window is not TierWindow.LIFETIME:
            day = f"((min(day) + make_interval(months => {tiers.months}))::date + 1)::timestamp"
            due = f"{day} AT TIME ZONE $7 - interval '1 hour'"
            zone = self._policy.zone
            today = local_date(now, zone)
            since = days.start_of_day(Window(tiers, zone).counts_from(today), zone)
            within = f"(day + make_interval(months => {tiers.months}))::date >= DATE '{today}'"
        statement = _BARE.format(due=due, value=value, joined=joined, only=ONLY[tiers.basis], within=within)
        async with connection() as sql:
            started = time.perf_counter()
            done: str = await sql.execute(
                statement, self._id, False, now, self._thresholds, self._tiers, since, self._policy.timezone,
                timeout=_LOAD_SECONDS,
            )  # fmt: skip
            seconds = time.perf_counter() - started
        return seconds, f"{int(done.split()[1]):,} written by the bare one"


@contextmanager
def _later(**by: float) -> Iterator[None]:
    """Have it be later than it is."""
    with patch.object(clock, "now", lambda: datetime.now(UTC) + timedelta(**by)):
        yield


async def make_shop(members: int, events: int) -> _Shop:
    """Make the program, and all that its members ever bought, in the database that is connected."""
    program = (await make_program(0)).program
    tiers = [
        (await create_tier(program.id, NewTier(name=f"Tier {rank}", threshold=Decimal(10**9 + rank)))).id
        for rank in (1, 2, 3)
    ]
    async with connection() as sql:
        for statement, *values in (
            (_MEMBERS, program.id, members),
            (_ACCOUNTS, program.id),
            (_EVENTS, program.id, events, members, clock.now(), _BODY),
            (_OUTCOMES, program.id),
            (_AWARDS, program.id),
            (_TABLE,),
            (f"VACUUM ANALYZE {_TABLES}",),
            ("CHECKPOINT",),
        ):
            await sql.execute(statement, *values, timeout=_LOAD_SECONDS)
    return _Shop(program.id, tiers)


async def _do(step: _Step, shop: _Shop, number: int) -> None:
    """Do a step on both sides; every other round begins with the bare statement."""
    sides: list[tuple[Callable[[], Awaitable[tuple[float, str]]], list[float]]] = [
        (shop.ours, step.rounds.ours),
        (shop.bare, step.rounds.limit),
    ]
    notes = {}
    for measure, into in sides if number % 2 == 0 else reversed(sides):
        seconds, notes[measure] = await measure()
        into.append(seconds)
    step.notes = [f"{notes[shop.ours]}; {notes[shop.bare]}"]
    await shop.tidy()


async def _steps(shop: _Shop, rounds: int, policy: TierPolicy, begin: tuple[int, ...]) -> dict[str, _Step]:
    """Measure all steps of a policy."""
    steps: dict[str, _Step] = {}

    async def do(name: str, number: int) -> None:
        await _do(steps.setdefault(name, _Step()), shop, number)

    await shop.follow(policy)
    for number in range(rounds):
        await shop.change(*begin)
        await shop.forget()
        await do("for the first time", number)
        await shop.change(*(threshold - _EASIER for threshold in begin))
        await do("thresholds lowered", number)
        await do("nothing changed", number)
        if policy.window is not TierWindow.LIFETIME:
            with _later(days=30):
                await do(_MISSED, number)
    return steps


async def _measure(servers: Servers, quick: bool) -> list[Figure]:
    members, events, rounds = (_QUICK_MEMBERS, _QUICK_EVENTS, 2) if quick else (MEMBERS, EVENTS, 2)
    settings = await servers.new_database()
    measured = []
    async with connected(settings):
        shop = await make_shop(members, events)
        for policy, begin in _POLICIES:
            basis = f"{policy.basis.value}, {policy.window.value}".replace("_", " ").lower()
            for name, step in (await _steps(shop, rounds, policy, begin)).items():
                title = f"tiers of {members:,} members, {events:,} events: {basis}, {name}"
                against = "one bare UPDATE of the same rows"
                goal = None if name == _MISSED else 2.0
                figure = step.rounds.figure(title, goal, "seconds", against, at_most=True)
                figure.notes += step.notes
                measured.append(figure)
    await servers.drop_database(settings)
    return measured


def figures(servers: Servers, quick: bool) -> list[Figure]:
    """Measure how long a program's tiers take."""
    result: list[Figure] = run(_measure(servers, quick))
    return result
