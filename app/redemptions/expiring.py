"""Reservations that run out: released by whoever needs what they hold or shows it, and swept by the workers.

From the moment on at which its time is over a reservation counts as given back, whether or not a worker came
by. So whoever reads what reservations change (balances, redemptions, what is left of rewards) releases first
what is due of the program, and whoever changes a member's points first what is due of the member's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime
from time import monotonic
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

import asyncpg
import structlog

from app import clock
from app.database import connection, retrying, transaction
from app.errors import Unavailable
from app.metrics import ERRORS, REDEMPTIONS
from app.redemptions.redemptions import COLUMNS, Redemption, RedemptionStatus, redemption_from_row
from app.redemptions.returning import end
from app.redemptions.standings import lock_members

log = structlog.get_logger("laurel.redemptions")

T = TypeVar("T")

_BATCH = 200
_MAX_BATCHES = 10
"""Of reservations of the same program or members, before somebody gives up."""
_ATTEMPTS = 5
_PUT_OFF_SECONDS = 60.0
_PATIENCE_SECONDS = 2.0
"""So long whoever only reads waits for an account or a reward that somebody holds."""
_SWEEP_PATIENCE_SECONDS = 10.0
_HELD_SECONDS = 5.0

_DUE = f"""
SELECT {COLUMNS} FROM redemption /* scoped by: worker */
WHERE status = 'RESERVED' AND reserved_until <= $1"""  # noqa: S608 - nothing but constants
_IN_ORDER = f"{_DUE} AND id <> ALL($2::uuid[]) {{}} ORDER BY reserved_until, id LIMIT $3"
_DUE_ANYWHERE = _IN_ORDER.format("")
_DUE_OF_PROGRAM = _IN_ORDER.format("AND program_id = $4")
_DUE_OF_MEMBERS = _IN_ORDER.format("AND program_id = $4 AND member_id = ANY($5::uuid[])")
_DUE_OF_REWARDS = _IN_ORDER.format("AND program_id = $4 AND reward_id = ANY($5::uuid[])")
_HAS_RUN_OUT = """
SELECT EXISTS (SELECT FROM redemption
    WHERE program_id = $1 AND member_id = $2 AND status = 'RESERVED' AND reserved_until <= $3
        AND id <> ALL($4::uuid[]))
"""
_HOLDING = """
SELECT DISTINCT reward_id FROM redemption
WHERE program_id = $1 AND reward_id = ANY($2::uuid[]) AND status = 'RESERVED' AND reserved_until <= $3
"""
# In one order for all: of several that pay a debt the first to run out is the first to come back.
_STILL_DUE = f"{_DUE} AND program_id = $2 AND id = ANY($3::uuid[]) ORDER BY reserved_until, id"
_LOCK_FREE = """
SELECT id FROM account WHERE program_id = $1 AND id = ANY($2::uuid[]) ORDER BY id
FOR NO KEY UPDATE SKIP LOCKED
"""


class _Memory:
    """Reservations that are left alone for a while."""

    def __init__(self) -> None:
        self._until: dict[UUID, float] = {}

    def add(self, redemption_ids: Iterable[UUID], seconds: float) -> None:
        self._until.update(dict.fromkeys(redemption_ids, monotonic() + seconds))

    @property
    def ids(self) -> list[UUID]:
        now = monotonic()
        for each in [each for each, until in self._until.items() if until <= now]:
            del self._until[each]
        return list(self._until)


_put_off = _Memory()
"""What nobody can release, because the books of its account disagree: tried again a minute later."""
_held = _Memory()
"""What somebody holds for longer than readers and sweeps wait; those who need it wait for it all the same."""


async def release_due(program_id: UUID) -> int:
    """Release what ran out of a program's reservations, so that what is read next knows of none.

    One statement by an index where nothing is due. At most 2,000 are released; what somebody else is about
    to release is waited for. What stays is shown as it stands: what cannot be released because the books of
    an account disagree, and for a moment what somebody holds who takes longer than others can wait.

    Returns:
        How many were released here.

    Raises:
        Unavailable: the database is away or busy.
    """
    total = 0
    for _ in range(_MAX_BATCHES):
        due = await _due_of_program(program_id)
        if not due:
            break
        turn = _turn(program_id)
        waits = turn.locked()
        # One after the other: they would stand in line for the same accounts, with a connection each.
        async with turn:
            if waits:
                due = await _due_of_program(program_id)
            total += await release(program_id, due, _PATIENCE_SECONDS)
        if len(due) < _BATCH:
            break
    return total


_turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()


def _turn(program_id: UUID) -> asyncio.Lock:
    """Return the lock under which this process releases for those who read a program."""
    found = _turns.get(program_id)
    if found is None:
        found = _turns[program_id] = asyncio.Lock()
    return found


async def _due_of_program(program_id: UUID) -> list[Redemption]:
    return await _find(_DUE_OF_PROGRAM, [*_put_off.ids, *_held.ids], program_id)


async def release_of_members(program_id: UUID, member_ids: Collection[UUID]) -> int:
    """Release all that ran out of members' reservations; return how many that were."""
    return await _release_of(program_id, _DUE_OF_MEMBERS, member_ids, _MAX_BATCHES * _BATCH)


async def release_of_rewards(program_id: UUID, reward_ids: Collection[UUID]) -> int:
    """Release what ran out of reservations of rewards, 200 at the most; return how many that were."""
    return await _release_of(program_id, _DUE_OF_REWARDS, reward_ids, 1)


async def _release_of(program_id: UUID, statement: str, ids: Collection[UUID], enough: int) -> int:
    total = 0
    for _ in range(_MAX_BATCHES):
        due = await _find(statement, _put_off.ids, program_id, list(ids))
        total += await release(program_id, due)
        if len(due) < _BATCH or total >= enough:
            break
    return total


async def _find(statement: str, left_alone: Sequence[UUID], *args: Any) -> list[Redemption]:
    async with connection() as sql:
        rows = await sql.fetch(statement, clock.now(), left_alone, _BATCH, *args)
    return [redemption_from_row(row) for row in rows]


async def sweep() -> int:
    """Release every reservation that ran out, in every program; return how many that were.

    One statement by an index where nothing is due. Safe to run twice, and on any number of workers at once.
    Of an account whose books disagree the reservations stay for a minute, and the log says so; what somebody
    holds for long stays for a few seconds.

    Raises:
        Unavailable: the database is away or busy.
    """
    total = 0
    while due := await _find(_DUE_ANYWHERE, [*_put_off.ids, *_held.ids]):
        programs: dict[UUID, list[Redemption]] = {}
        for each in due:
            programs.setdefault(each.program_id, []).append(each)
        for program_id, redemptions in programs.items():
            total += await release(program_id, redemptions, _SWEEP_PATIENCE_SECONDS)
        if len(due) < _BATCH:
            break
    return total


class _RunOut(Exception):
    """A member has reservations that ran out: they are released first, in a transaction of their own."""

    def __init__(self, program_id: UUID, member_id: UUID) -> None:
        super().__init__(program_id, member_id)
        self.program_id = program_id
        self.member_id = member_id


async def check_run_out(sql: asyncpg.Connection, program_id: UUID, member_id: UUID, moment: datetime) -> None:
    """Start the work that `releasing` does again, where a member has reservations that ran out.

    Args:
        sql: a connection inside the transaction of that work, before it changes the member's points.
    """
    if await sql.fetchval(_HAS_RUN_OUT, program_id, member_id, moment, _put_off.ids):
        raise _RunOut(program_id, member_id)


async def releasing(work: Callable[[], Awaitable[T]]) -> T:
    """Do work that takes a member's points, as `retrying` does; what ran out of theirs is released first.

    Args:
        work: opens its own transaction, is safe to repeat, and calls `check_run_out` in it.

    Raises:
        Unavailable: the database stayed away or busy; nothing was done.
    """
    for _ in range(_ATTEMPTS):
        try:
            return await retrying(work)
        except _RunOut as found:
            # What is left of them after this nobody can release.
            await release_of_members(found.program_id, [found.member_id])
    raise Unavailable("Reservations of the member run out one after the other; try again.")


async def with_reservations_due(
    sql: asyncpg.Connection, program_id: UUID, reward_ids: Collection[UUID], moment: datetime
) -> set[UUID]:
    """Return those of the rewards of which reservations hold pieces that ran out.

    Args:
        sql: a connection inside a transaction that holds what is left of the rewards: so nobody releases
            any in between.
    """
    rows = await sql.fetch(_HOLDING, program_id, list(reward_ids), moment)
    return {row["reward_id"] for row in rows}


async def release(program_id: UUID, redemptions: Sequence[Redemption], patience: float | None = None) -> int:
    """Release reservations of one program that ran out; return how many that were.

    Safe to call twice and at once: what somebody else released, or captured just in time, is left alone.
    What belongs to an account whose books disagree stays as it is for a minute, and the log says so.

    Args:
        patience: so many seconds it waits for what others hold, and then leaves that alone for a moment;
            as long as everybody waits, and again, when left out.

    Raises:
        Unavailable: the database stayed away or busy; never when there is a patience.
    """
    # What is free comes first: nobody else's points are held while somebody's are waited for.
    released, locked = await _release(program_id, redemptions, patience, wait=False)
    more, _ = await _release(program_id, locked, patience, wait=True)
    return released + more


async def _release(
    program_id: UUID, redemptions: Sequence[Redemption], patience: float | None, *, wait: bool
) -> tuple[int, list[Redemption]]:
    """Release reservations in one transaction; return how many, and those of accounts that others hold.

    Args:
        wait: for those, so that there are none in the end.
    """
    if not redemptions:
        return 0, []
    ids = [each.id for each in redemptions]

    async def work() -> tuple[int, list[Redemption]]:
        async with transaction() as sql:
            if patience is not None:
                await sql.execute(f"SET LOCAL lock_timeout = {int(patience * 1000)}")
            accounts = sorted({each.member_id for each in redemptions})
            if not wait:
                accounts = [row["id"] for row in await sql.fetch(_LOCK_FREE, program_id, accounts)]
            mine = frozenset(accounts)
            locked = [each for each in redemptions if each.member_id not in mine]
            if not mine:
                return 0, locked
            members = await lock_members(sql, program_id, accounts)
            taken = [each.id for each in redemptions if each.member_id in mine]
            rows = await sql.fetch(_STILL_DUE, members.moment, program_id, taken)
            due = [redemption_from_row(row) for row in rows]
            if due:
                policy = members.grounds.policy
                await end(sql, policy, due, RedemptionStatus.EXPIRED, None, members.moment)
            return len(due), locked

    try:
        released, locked = await retrying(work, attempts=4 if patience is None else 2)
    except Unavailable:
        if patience is None:
            raise
        _held.add(ids, _HELD_SECONDS)
        return 0, []
    except (asyncpg.PostgresError, AssertionError):
        if len(redemptions) == 1:
            _put_off.add(ids, _PUT_OFF_SECONDS)
            ERRORS.labels("redemptions").inc()
            log.exception("reservation_not_released", redemption_id=str(ids[0]))
            return 0, []
        # Halves, until those to blame stand alone: they must not hold up the others.
        middle = len(redemptions) // 2
        released, locked = await _release(program_id, redemptions[:middle], patience, wait=wait)
        more, others = await _release(program_id, redemptions[middle:], patience, wait=wait)
        return released + more, locked + others
    REDEMPTIONS.labels("expired").inc(released)
    return released, locked
