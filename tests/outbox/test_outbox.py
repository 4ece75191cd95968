"""Work that was left behind reaches a worker, whatever happens to the queue that told of it."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from app import clock
from app.database import DatabaseAway, connection, transaction
from app.earning.events import Incoming
from app.earning.processing import earn_batch
from app.earning.recording import store
from app.errors import Unavailable
from app.ids import new_id
from app.jobs.health import Waiting, waiting
from app.ledger.reads import get_balances
from app.members.reads import MemberRow
from app.outbox.consuming import MAX_PATIENCE, consume
from app.outbox.service import (
    BATCH_ITEMS,
    LEASE,
    MAX_FAILURES,
    MAX_LEASE,
    MAX_SENT,
    Claim,
    Queue,
    fail,
    finish,
    read_batch,
    stamp,
    take_back,
)
from app.outbox.service import leave as left_behind
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
    while found := await stamp([Queue.EARNING], now):
        batches += [each.batch for each in found]
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
    await take_back([Queue.EARNING], NOW + LEASE)
    assert (await rows_of(program_id)) == [row]
    assert await take_back([Queue.EARNING], NOW + LEASE + SECOND) >= 1
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
            await take_back([Queue.EARNING], now + lease)
        now += lease
        leases.append((lease - 5 * SECOND).total_seconds())
    assert leases == [10, 20, 40, 80, 160, 320, 600, 600, 600]


async def test_very_many_attempts_still_come_up_again() -> None:
    program_id = new_id()
    await leave(program_id, 1)
    await stamp_everything()
    async with connection() as sql:
        await sql.execute("UPDATE outbox SET attempts = 2000000000 WHERE program_id = $1", program_id)
    await take_back([Queue.EARNING], NOW + MAX_LEASE + SECOND)
    assert (await rows_of(program_id))[0]["batch"] is None


async def test_a_claim_names_each_member_once() -> None:
    program_id, members = new_id(), sorted(new_id() for _ in range(3))
    await leave(program_id, 2, members=[members[2], members[0]])
    await leave(program_id, 2, members=[members[1], members[2]])
    await stamp_everything()
    batch = (await rows_of(program_id))[0]["batch"]
    async with transaction() as sql:
        assert await read_batch(sql, batch) == Claim(program_id, members)
        assert await finish(sql, batch)
        assert await read_batch(sql, batch) is None
        assert not await finish(sql, batch)
    assert await rows_of(program_id) == []


async def failed_jobs(program_id: UUID) -> list[asyncpg.Record]:
    async with connection() as sql:
        return await sql.fetch("SELECT * FROM failed_job WHERE program_id = $1 ORDER BY subject", program_id)


async def test_of_a_batch_that_failed_only_those_are_left_who_failed_by_themselves() -> None:
    program_id, members = new_id(), [new_id() for _ in range(4)]
    await leave(program_id, 2, members=members[:2])
    await leave(program_id, 2, members=members[2:])
    await leave(program_id, 3, members=members[1:])
    await stamp_everything()
    batch = (await rows_of(program_id))[0]["batch"]
    assert await fail(batch, {members[1]: "No."}, NOW) == 0
    rows = await rows_of(program_id)
    assert [row["members"] for row in rows] == [[members[1]], [members[1]]]
    assert {(row["batch"], row["failures"], row["first_failed_at"]) for row in rows} == {(None, 1, NOW)}
    assert await fail(batch, {members[1]: "No."}, NOW) == 0
    assert await rows_of(program_id) == rows, "who comes late changes nothing"


async def test_a_batch_of_which_nobody_failed_by_itself_is_done() -> None:
    program_id = new_id()
    await leave(program_id, 1)
    await stamp_everything()
    assert await fail((await rows_of(program_id))[0]["batch"], {}, NOW) == 0
    assert await rows_of(program_id) == []


async def test_what_failed_is_sent_again_within_seconds_and_after_three_times_put_aside() -> None:
    program, subject = await new_program(), new_id()
    await leave(program.id, 1, members=[subject])
    now = NOW
    for failures in range(1, MAX_FAILURES):
        await stamp_everything(now)
        (row,) = await rows_of(program.id)
        assert await fail(row["batch"], {subject: f"Error {failures}"}, now) == 0
        (row,) = await rows_of(program.id)
        wait = row["not_before"] - now
        assert 0.5 * SECOND <= wait / 2 ** (failures - 1) <= 1.5 * SECOND
        await stamp_everything(row["not_before"] - timedelta(milliseconds=1))
        assert (await rows_of(program.id))[0]["batch"] is None, "it waits a little"
        now = row["not_before"]
    await stamp_everything(now)
    error = "Error 3: " + "x" * 5000
    assert await fail((await rows_of(program.id))[0]["batch"], {subject: error}, now) == 1
    assert await rows_of(program.id) == []
    (failed,) = await failed_jobs(program.id)
    assert (failed["queue"], failed["subject"], failed["attempts"]) == ("earning", subject, MAX_FAILURES)
    assert (failed["first_failed_at"], failed["last_failed_at"]) == (NOW, now)
    assert failed["payload"] == {"members": [str(subject)]}
    assert failed["error"] == error[:2000]


async def test_what_was_put_aside_and_fails_again_is_counted_on() -> None:
    program, subject = await new_program(), new_id()
    for times in (1, 2):
        await leave(program.id, 1, members=[subject])
        now = NOW + times * timedelta(days=1)
        for _ in range(MAX_FAILURES):
            await stamp_everything(now)
            await fail((await rows_of(program.id))[0]["batch"], {subject: f"Day {times}"}, now)
            now += 10 * SECOND
        (failed,) = await failed_jobs(program.id)
        assert (failed["attempts"], failed["error"]) == (times * MAX_FAILURES, f"Day {times}")
        assert failed["first_failed_at"] == NOW + timedelta(days=1)
        assert failed["last_failed_at"] == now - 10 * SECOND


async def test_an_error_with_characters_that_cannot_be_stored_is_put_aside_all_the_same() -> None:
    program, subject = await new_program(), new_id()
    await leave(program.id, 1, members=[subject])

    async def work(*_: object) -> int:
        raise ValueError("zero \0, half \ud800")

    now = NOW
    for _ in range(MAX_FAILURES):
        await stamp_everything(now)
        await consume(Queue.EARNING, (await rows_of(program.id))[0]["batch"], work)
        now += timedelta(days=3650)
    assert [row["error"] for row in await failed_jobs(program.id)] == ["ValueError: zero \ufffd, half ?"]


async def test_what_never_gets_through_though_it_might_pass_is_put_aside_and_holds_up_nobody() -> None:
    program, stuck, other = await new_program(), new_id(), new_id()
    await leave(program.id, 2, members=[stuck, other])
    done = []

    async def work(program_id: UUID, members: list[UUID], batch: UUID | None) -> int:
        if stuck in members:
            raise DatabaseAway("busy") from asyncpg.LockNotAvailableError("somebody holds it")
        done.extend(members)
        return len(members)

    now, deliveries = NOW, 0
    while await rows_of(program.id):
        deliveries += 1
        await stamp_everything(now)
        batch = (await rows_of(program.id))[0]["batch"]
        if deliveries <= MAX_PATIENCE:
            with pytest.raises(Unavailable):
                await consume(Queue.EARNING, batch, work)
            now += MAX_LEASE + SECOND
            await take_back([Queue.EARNING], now)
        else:
            await consume(Queue.EARNING, batch, work)
            now = clock.now() + 30 * SECOND
    assert done == [other]
    assert deliveries == MAX_PATIENCE + MAX_FAILURES
    (failed,) = await failed_jobs(program.id)
    assert (failed["subject"], failed["error"]) == (stuck, "LockNotAvailableError: somebody holds it")


async def test_one_turn_of_a_relay_takes_a_bounded_part_of_what_waits() -> None:
    program_id = new_id()
    await leave(program_id, *[BATCH_ITEMS] * 12)
    turns = []
    while found := await stamp([Queue.EARNING], NOW):
        turns.append(len(found))
    assert max(turns) <= MAX_SENT
    assert len(turns) >= 12 / MAX_SENT
    assert None not in {row["batch"] for row in await rows_of(program_id)}


async def test_each_job_is_a_batch_of_its_own() -> None:
    program_id = new_id()
    async with transaction() as sql:
        for _ in range(2):
            await left_behind(sql, Queue.JOBS, program_id, [new_id()], NOW)
    while await stamp([Queue.JOBS], NOW):
        pass
    assert len({row["batch"] for row in await rows_of(program_id)}) == 2
    async with connection() as sql:
        await sql.execute("DELETE FROM outbox WHERE program_id = $1", program_id)


async def test_another_batch_is_left_alone() -> None:
    program_id, member = new_id(), new_id()
    await leave(program_id, BATCH_ITEMS, BATCH_ITEMS, members=[member])
    await stamp_everything()
    mine, other = (row["batch"] for row in await rows_of(program_id))
    async with transaction() as sql:
        assert await finish(sql, mine)
        assert not await finish(sql, mine)
        assert not await finish(sql, None)
    assert [row["batch"] for row in await rows_of(program_id)] == [other]


async def test_losing_the_whole_queue_costs_a_lease_and_nothing_else() -> None:
    program, member = await with_one_event()
    (lost,) = await stamp_all(program)
    # Whoever was told is gone; nobody takes the batch.
    await take_back([Queue.EARNING], clock.now() + LEASE + SECOND)
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
        await take_back([Queue.EARNING], clock.now() + LEASE + SECOND)
        (again,) = await stamp_all(program)
        fast[0] = await earn_batch(again)

    monkeypatch.setattr("app.outbox.consuming.outbox.read_batch", overtaken)
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
    program, _ = await with_one_event()
    (waits,) = await waiting(program.id)
    assert (waits.queue, waits.items) == ("earning", 1)
    before = {each.queue: each.items for each in await waiting()}
    other = new_id()
    await leave(other, 7)
    assert await waiting(other) == [Waiting("earning", NOW, 7)]
    everything = {each.queue: each for each in await waiting()}
    assert everything["earning"].items == before["earning"] + 7
    assert everything["earning"].oldest <= NOW
    for batch in await stamp_all(program):
        await earn_batch(batch)
    assert "earning" not in {each.queue for each in await waiting(program.id)}
