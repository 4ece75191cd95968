"""Work that was left behind reaches a worker, whatever happens to the queue that told of it."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from app import clock
from app.database import connection, transaction
from app.earning.events import Incoming
from app.earning.processing import earn_batch
from app.earning.recording import store
from app.ids import new_id
from app.ledger.reads import get_balances
from app.members.reads import MemberRow
from app.outbox.service import (
    BATCH_ITEMS,
    LEASE,
    MAX_LEASE,
    Claim,
    Queue,
    finish,
    read_batch,
    reduce,
    stamp,
    take_back,
    waiting,
)
from app.programs.models import Program
from tests.helpers import (
    by_id,
    find_differences,
    new_member,
    new_program,
    new_rule,
    policy_of,
    purchase,
    stamp_all,
)

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


async def leave(program_id: UUID, *items: int, members: list[UUID] | None = None) -> None:
    """Leave rows of so many items behind."""
    async with connection() as sql:
        await sql.executemany(
            "INSERT INTO outbox (queue, program_id, members, items, created_at)"
            " VALUES ('earning', $1, $2, $3, $4)",
            [(program_id, members or [new_id()], each, NOW) for each in items],
        )


async def rows_of(program_id: UUID) -> list[asyncpg.Record]:
    async with connection() as sql:
        return await sql.fetch("SELECT * FROM outbox WHERE program_id = $1 ORDER BY id", program_id)


async def stamp_everything(now: datetime = NOW) -> list[UUID]:
    """Stamp until nothing is left, and return all the batches."""
    batches: list[UUID] = []
    while found := await stamp(Queue.EARNING, now):
        batches += found
    return batches


async def with_one_event() -> tuple[Program, MemberRow]:
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    await store(program.id, [Incoming(purchase(10), by_id(member))])
    return program, member


async def available(program: Program, member: MemberRow) -> int:
    (balance,) = await get_balances(await policy_of(program), [member.id])
    assert balance
    return balance.available


async def test_work_is_put_into_batches_of_one_program_and_a_bounded_size() -> None:
    programs = [new_id(), new_id()]
    for _ in range(4):
        for program_id in programs:
            await leave(program_id, 200, 1)
    batches = await stamp_everything()
    assert len(batches) == len(set(batches))
    for program_id in programs:
        rows = await rows_of(program_id)
        assert {row["batch"] for row in rows} <= set(batches)
        sizes = Counter[UUID]()
        for row in rows:
            sizes[row["batch"]] += row["items"]
            assert (row["sent_at"], row["attempts"]) == (NOW, 1)
        assert sum(sizes.values()) == 804
        assert max(sizes.values()) <= BATCH_ITEMS
        assert len(sizes) == 2
    first, second = [{row["batch"] for row in await rows_of(program_id)} for program_id in programs]
    assert not first & second


async def test_one_row_that_is_larger_than_a_batch_is_a_batch_of_its_own() -> None:
    program_id = new_id()
    await leave(program_id, BATCH_ITEMS * 2, 1, BATCH_ITEMS * 2)
    await stamp_everything()
    assert len({row["batch"] for row in await rows_of(program_id)}) == 3


async def test_relays_that_run_at_once_stamp_each_row_once() -> None:
    program_id = new_id()
    await leave(program_id, *[50] * 60)
    async with asyncio.timeout(30):
        found = await asyncio.gather(*(stamp_everything() for _ in range(4)))
    batches = [batch for each in found for batch in each]
    assert len(batches) == len(set(batches))
    rows = await rows_of(program_id)
    assert {row["attempts"] for row in rows} == {1}
    assert {row["batch"] for row in rows} <= set(batches)


async def test_a_batch_is_taken_back_after_its_lease_and_not_before() -> None:
    program_id = new_id()
    await leave(program_id, 1)
    await stamp_everything()
    (row,) = await rows_of(program_id)
    await take_back(Queue.EARNING, NOW + LEASE)
    assert (await rows_of(program_id)) == [row]
    assert await take_back(Queue.EARNING, NOW + LEASE + SECOND) >= 1
    (row,) = await rows_of(program_id)
    assert (row["batch"], row["attempts"]) == (None, 1)


async def test_each_further_attempt_has_twice_the_lease_up_to_a_limit() -> None:
    program_id = new_id()
    await leave(program_id, 1)
    now, leases = NOW, []
    for _ in range(9):
        await stamp_everything(now)
        lease = timedelta()
        while (await rows_of(program_id))[0]["batch"] is not None:
            lease += 5 * SECOND
            assert lease < 2 * MAX_LEASE
            await take_back(Queue.EARNING, now + lease)
        now += lease
        leases.append((lease - 5 * SECOND).total_seconds())
    assert leases == [10, 20, 40, 80, 160, 320, 600, 600, 600]


async def test_very_many_attempts_still_come_up_again() -> None:
    program_id = new_id()
    await leave(program_id, 1)
    await stamp_everything()
    async with connection() as sql:
        await sql.execute("UPDATE outbox SET attempts = 2000000000 WHERE program_id = $1", program_id)
    await take_back(Queue.EARNING, NOW + MAX_LEASE + SECOND)
    assert (await rows_of(program_id))[0]["batch"] is None


async def test_a_claim_names_each_member_once() -> None:
    program_id, members = new_id(), sorted(new_id() for _ in range(3))
    await leave(program_id, 2, members=[members[2], members[0]])
    await leave(program_id, 2, members=[members[1], members[2]])
    await stamp_everything()
    batch = (await rows_of(program_id))[0]["batch"]
    async with transaction() as sql:
        assert await read_batch(sql, batch) == Claim(program_id, members)
        await finish(sql, batch)
        assert await read_batch(sql, batch) is None
        await finish(sql, batch)
    assert await rows_of(program_id) == []


async def test_reducing_leaves_the_members_who_could_not_be_served() -> None:
    program_id, members = new_id(), [new_id() for _ in range(4)]
    await leave(program_id, 2, members=members[:2])
    await leave(program_id, 2, members=members[2:])
    await leave(program_id, 3, members=members[1:])
    await stamp_everything()
    batch = (await rows_of(program_id))[0]["batch"]
    async with transaction() as sql:
        await reduce(sql, batch, [members[1]])
    assert [row["members"] for row in await rows_of(program_id)] == [[members[1]], [members[1]]]
    async with transaction() as sql:
        await reduce(sql, batch, [])
    assert await rows_of(program_id) == []


async def test_another_batch_is_left_alone() -> None:
    program_id, member = new_id(), new_id()
    await leave(program_id, BATCH_ITEMS, BATCH_ITEMS, members=[member])
    await stamp_everything()
    mine, other = (row["batch"] for row in await rows_of(program_id))
    async with transaction() as sql:
        await reduce(sql, mine, [])
        await finish(sql, mine)
    assert [row["batch"] for row in await rows_of(program_id)] == [other]


async def test_losing_the_whole_queue_costs_a_lease_and_nothing_else() -> None:
    program, member = await with_one_event()
    (lost,) = await stamp_all(program)
    # Whoever was told is gone; nobody takes the batch.
    await take_back(Queue.EARNING, clock.now() + LEASE + SECOND)
    assert await earn_batch(lost) == 0
    (again,) = await stamp_all(program)
    assert again != lost
    assert await earn_batch(again) == 1
    assert await available(program, member) == 10
    assert await rows_of(program.id) == []


async def test_a_batch_told_twice_is_done_once() -> None:
    program, member = await with_one_event()
    (batch,) = await stamp_all(program)
    assert [await earn_batch(batch) for _ in range(3)] == [1, 0, 0]
    assert await available(program, member) == 10


async def test_a_slow_worker_whose_batch_was_taken_back_does_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program, member = await with_one_event()
    (slow,) = await stamp_all(program)
    original = read_batch
    fast: list[int] = []

    async def overtaken(sql: asyncpg.Connection, batch: UUID) -> Claim | None:
        """Read the batch; then somebody else takes it back and does it all before we go on."""
        claim = await original(sql, batch)
        if batch == slow and not fast:
            fast.append(0)
            work = asyncio.create_task(overtake())
            await work
        return claim

    async def overtake() -> None:
        await take_back(Queue.EARNING, clock.now() + LEASE + SECOND)
        (again,) = await stamp_all(program)
        fast[0] = await earn_batch(again)

    monkeypatch.setattr("app.earning.processing.outbox.read_batch", overtaken)
    async with asyncio.timeout(30):
        assert await earn_batch(slow) == 0
    assert fast == [1]
    assert await available(program, member) == 10
    assert await rows_of(program.id) == []
    assert not await find_differences(program.id)


async def test_work_that_a_failed_transaction_left_is_not_there() -> None:
    program_id = new_id()

    async def fail() -> None:
        async with transaction() as sql:
            await sql.execute(
                "INSERT INTO outbox (queue, program_id, members, items, created_at)"
                " VALUES ('earning', $1, $2, 1, $3)",
                program_id,
                [new_id()],
                NOW,
            )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await rows_of(program_id) == []


async def test_what_waits_is_counted_and_its_age_told() -> None:
    _, before = await waiting(NOW)
    await leave(new_id(), 1)
    program, _ = await with_one_event()
    age, events = await waiting(NOW + timedelta(days=3650))
    assert events == before + 1
    assert age is not None
    assert age >= timedelta(days=3650).total_seconds()
    assert (await waiting(datetime(2000, 1, 1, tzinfo=UTC)))[0] == 0.0
    for batch in await stamp_all(program):
        await earn_batch(batch)
    assert (await waiting(NOW))[1] == before
