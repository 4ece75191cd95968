"""Finding out who has reached or lost a tier: when something happened, and when time alone has changed it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg
import structlog

from app import clock
from app.database import TRANSIENT, connection, retrying, transaction
from app.errors import Unavailable
from app.ids import new_id, to_global_id
from app.live.hints import touch
from app.messages.leaving import Message, leave
from app.messages.topics import Topic
from app.metrics import ERRORS
from app.money import trim
from app.outbox import service as outbox
from app.outbox.service import Queue
from app.programs.policies import load_policy
from app.programs.policy import ProgramPolicy
from app.tiers.counting import read_counted
from app.tiers.history import Decision, Given, decide, in_force, rank_of
from app.tiers.policy import TierDowngrade
from app.tiers.qualification import Climb, Rung, climb, rungs
from app.tiers.reads import load_tiers
from app.tiers.tiers import Tier, starting_tier

log = structlog.get_logger("laurel.tiers")

CHUNK = 500
"""Members in one transaction."""

SOURCE = "laurel"
"""Who has given a tier that Laurel found out."""

_INSTANT = timedelta(microseconds=1)

# Nobody else's statement changes what it finds; who is new is seen by the next one.
_OPEN = """
INSERT INTO tier_standing (member_id, program_id, evaluated_at)
SELECT m.id, m.program_id, '-infinity' FROM member m WHERE m.program_id = $1 AND m.id = ANY($2::uuid[])
ORDER BY m.id ON CONFLICT DO NOTHING
"""

_LOCK = """
SELECT member_id, tier_id, due_at, evaluated_at = '-infinity' AS fresh FROM tier_standing
WHERE program_id = $1 AND member_id = ANY($2::uuid[]) ORDER BY member_id FOR NO KEY UPDATE
"""

_HISTORY = """
SELECT member_id, tier_id, since, until, automatic, earned_tier_id, recorded_at FROM member_tier
WHERE program_id = $1 AND member_id = ANY($2::uuid[]) ORDER BY member_id, recorded_at, id
"""

_ADD = """
INSERT INTO member_tier (id, program_id, member_id, tier_id, since, until, reason, source, recorded_at,
    automatic)
SELECT t.id, $1, t.member_id, t.tier_id, t.since, t.until, t.reason, $2, t.recorded_at, TRUE
FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::timestamptz[], $8::text[],
        $9::timestamptz[])
    AS t(id, member_id, tier_id, since, until, reason, recorded_at)
"""

_STAND = """
UPDATE tier_standing s SET tier_id = t.tier_id, due_at = t.due_at, evaluated_at = $2
FROM unnest($3::uuid[], $4::uuid[], $5::timestamptz[]) AS t(member_id, tier_id, due_at)
WHERE s.program_id = $1 AND s.member_id = t.member_id
"""

_DUE = """
SELECT member_id, program_id, due_at FROM tier_standing /* scoped by: worker */
WHERE due_at <= $1 AND (due_at, member_id) > ($2, $3) ORDER BY due_at, member_id LIMIT $4
"""


class Ground(NamedTuple):
    """What the tiers of a program's members are judged by."""

    policy: ProgramPolicy
    tiers: Sequence[Tier]
    ladder: Sequence[Rung]

    @property
    def ranks(self) -> Mapping[UUID, int]:
        """The rank of each tier."""
        return {tier.id: tier.rank for tier in self.tiers}

    def tier(self, rank: int) -> Tier | None:
        """Return the tier of a rank; None where a program has none for where everybody starts."""
        return starting_tier(self.tiers) if rank == 0 else self.tiers_by_rank[rank]

    def tier_id(self, rank: int) -> UUID | None:
        """Return how a history names the tier of a rank: where everybody starts needs no tier."""
        return None if rank == 0 else self.tiers_by_rank[rank].id

    @property
    def tiers_by_rank(self) -> Mapping[int, Tier]:
        """The tiers by their rank."""
        return {tier.rank: tier for tier in self.tiers}


async def load_ground(sql: asyncpg.Connection, program_id: UUID) -> Ground:
    """Return what the tiers of a program's members are judged by.

    Raises:
        Refused: there is no such program.
    """
    tiers = await load_tiers(sql, program_id)
    return Ground(await load_policy(sql, program_id), tiers, rungs(tiers))


async def read_climbs(
    sql: asyncpg.Connection, ground: Ground, members: Sequence[UUID], now: datetime
) -> dict[UUID, Climb]:
    """Return what members have earned by now, by member; one statement for all of them."""
    policy = ground.policy
    counted = await read_counted(
        sql, policy.program_id, policy.tiers.basis, policy.earn_on_points_payments, members
    )
    return {
        member: climb(policy.tiers, policy.zone, ground.ladder, counted[member], now) for member in members
    }


async def evaluate_members(program_id: UUID, members: list[UUID], batch: UUID | None) -> int:
    """Find out what tiers members of a program have now, and keep and tell what has changed.

    Safe to run twice and on two workers at once: who comes second finds everything told.

    Args:
        batch: of the outbox, deleted with the last of it.

    Returns:
        How many members were looked at.

    Raises:
        Unavailable: the database stayed away or busy; what is not done stays in the outbox.
    """
    chunks = [members[start : start + CHUNK] for start in range(0, len(members), CHUNK)]
    for chunk in chunks:

        async def work(chunk: list[UUID] = chunk) -> None:
            async with transaction() as sql:
                await evaluate_within(sql, program_id, chunk, clock.now())
                if chunk is chunks[-1]:
                    await outbox.finish(sql, batch)

        await retrying(work)
    return len(members)


async def evaluate_within(
    sql: asyncpg.Connection, program_id: UUID, members: Sequence[UUID], now: datetime
) -> dict[UUID, UUID | None]:
    """Find out members' tiers as a part of a larger transaction; their standings are held until it ends.

    Seven statements, however many members.

    Returns:
        The tier that each has earned, whatever they were given by hand; None for where everybody starts.
    """
    standings = await _lock(sql, program_id, members)
    if not standings:
        return {}
    ground = await load_ground(sql, program_id)
    ids = [row["member_id"] for row in standings]
    histories, recorded = await read_histories(sql, ground, ids)
    climbs = await read_climbs(sql, ground, ids, now)
    never_down = ground.policy.tiers.downgrade is TierDowngrade.NEVER
    changes = _Changes(ground, now)
    for row in standings:
        member = row["member_id"]
        history = histories[member]
        decision = decide(history, climbs[member], now, never_down=never_down)
        told = in_force(history, now).rank if row["fresh"] else rank_of(row["tier_id"], ground.ranks)
        changes.add(member, decision, climbs[member], told, recorded.get(member))
    await changes.write(sql)
    return {member: ground.tier_id(own.rank) for member, own in climbs.items()}


async def _lock(sql: asyncpg.Connection, program_id: UUID, members: Sequence[UUID]) -> list[asyncpg.Record]:
    """Hold the standings of members until the transaction ends, opened where there are none; return them."""
    rows: list[asyncpg.Record] = await sql.fetch(_LOCK, program_id, list(members))
    if len(rows) < len(set(members)):
        await sql.execute(_OPEN, program_id, list(members))
        rows = await sql.fetch(_LOCK, program_id, list(members))
    return rows


async def read_histories(
    sql: asyncpg.Connection, ground: Ground, members: Sequence[UUID]
) -> tuple[dict[UUID, list[Given]], dict[UUID, datetime]]:
    """Return members' histories in order of recording, and when each was added to last."""
    histories: dict[UUID, list[Given]] = {member: [] for member in members}
    recorded: dict[UUID, datetime] = {}
    ranks = ground.ranks
    for row in await sql.fetch(_HISTORY, ground.policy.program_id, list(members)):
        histories[row["member_id"]].append(
            Given(
                rank_of(row["tier_id"], ranks),
                _aware(row["since"]),
                None if row["until"] is None else _aware(row["until"]),
                row["automatic"],
                rank_of(row["earned_tier_id"], ranks),
            )
        )
        recorded[row["member_id"]] = row["recorded_at"]
    return histories, recorded


def _aware(moment: datetime) -> datetime:
    # asyncpg reads what stands for the beginning and the end of all time without a zone.
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class _Changes:
    """What is to be written about some members."""

    def __init__(self, ground: Ground, now: datetime) -> None:
        self._ground = ground
        self._now = now
        self._additions: list[tuple[UUID, UUID, UUID | None, datetime, datetime | None, str, datetime]] = []
        self._standings: list[tuple[UUID, UUID | None, datetime | None]] = []
        self._messages: list[Message] = []
        self._moved: list[UUID] = []

    def add(
        self, member: UUID, decision: Decision, climb: Climb, told: int, recorded: datetime | None
    ) -> None:
        """Take in what was decided about a member, who was last told of a rank."""
        # The one written last is the one recorded last, also where clocks of processes differ a little.
        moment = self._now if recorded is None else max(self._now, recorded + _INSTANT)
        for rank, since, until in decision.additions:
            reason = self._reason(rank, climb.qualifying)
            self._additions.append(
                (new_id(), member, self._ground.tier_id(rank), since, until, reason, moment)
            )
        self._standings.append((member, self._ground.tier_id(decision.rank), decision.due_at))
        if decision.rank != told:
            self._moved.append(member)
            self._messages.append(tier_message(self._ground, member, told, decision.rank, climb, self._now))

    def _reason(self, rank: int, qualifying: Decimal) -> str:
        if rank == 0:
            return f"{trim(qualifying):f} counted, which is not enough for a tier."
        tier = self._ground.tiers_by_rank[rank]
        return f"{trim(qualifying):f} counted; {tier.name} needs {trim(tier.threshold):f}."

    async def write(self, sql: asyncpg.Connection) -> None:
        """Write it, in three statements at most."""
        program_id = self._ground.policy.program_id
        if self._additions:
            await sql.execute(_ADD, program_id, SOURCE, *map(list, zip(*self._additions, strict=True)))
        await sql.execute(_STAND, program_id, self._now, *map(list, zip(*self._standings, strict=True)))
        await leave(sql, program_id, self._messages, self._now)
        if self._moved:
            touch(self._moved)


def tier_message(
    ground: Ground, member: UUID, before: int, after: int, climb: Climb, now: datetime
) -> Message:
    """Return what others are told of a member who has another tier now."""
    payload = {
        "from": told_tier(ground.tier(before)),
        "to": told_tier(ground.tier(after)),
        "qualifying": f"{trim(climb.qualifying):f}",
        "at": now,
    }
    return Message(Topic.TIER_UP if after > before else Topic.TIER_DOWN, member, payload)


def told_tier(tier: Tier | None) -> dict[str, object] | None:
    """Return how messages name a tier; None where everybody starts without one."""
    if tier is None:
        return None
    return {"tierId": to_global_id("Tier", tier.id), "name": tier.name, "rank": tier.rank}


async def sweep() -> int:
    """Look at every member whose tier time alone may have changed, in every program; return how many.

    One statement by an index where nothing is due. Safe to run twice and on two workers at once; what was
    missed is found out later, and dated when it came about.

    Raises:
        Unavailable: the database is away or busy.
    """
    total = 0
    now = clock.now()
    last: tuple[datetime, UUID] = (datetime.min.replace(tzinfo=now.tzinfo), UUID(int=0))
    while True:
        async with connection() as sql:
            rows = await sql.fetch(_DUE, now, *last, CHUNK)
        programs: dict[UUID, list[UUID]] = {}
        for row in rows:
            programs.setdefault(row["program_id"], []).append(row["member_id"])
        for program_id, members in programs.items():
            await _evaluate_apart(program_id, members)
            total += len(members)
        if len(rows) < CHUNK:
            return total
        last = (rows[-1]["due_at"], rows[-1]["member_id"])


async def _evaluate_apart(program_id: UUID, members: list[UUID]) -> None:
    """Evaluate members; what is wrong with one of them is put aside, and does not hold up the others."""
    try:
        await evaluate_members(program_id, members, None)
    except (*TRANSIENT, Unavailable):
        raise
    except Exception as error:
        if len(members) > 1:
            middle = len(members) // 2
            await _evaluate_apart(program_id, members[:middle])
            await _evaluate_apart(program_id, members[middle:])
            return
        ERRORS.labels("tiers").inc()
        log.exception("tier_not_found_out", member_id=str(members[0]))
        await _put_aside(program_id, members[0], f"{type(error).__name__}: {error}")


async def _put_aside(program_id: UUID, member: UUID, error: str) -> None:
    now = clock.now()
    async with transaction() as sql:
        await outbox.put_aside(sql, Queue.TIERS, program_id, {member: error}, 1, now, now)
        await sql.execute(
            "UPDATE tier_standing SET due_at = NULL WHERE program_id = $1 AND member_id = $2",
            program_id, member,
        )  # fmt: skip
