"""Jobs are queued once, done in slices by whoever has a hand free, and end as what they came to."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from app import clock
from app.database import DatabaseAway, transaction
from app.errors import ErrorCode, Refused, Unavailable
from app.ids import new_id
from app.jobs import running
from app.jobs.failed import FailedJob, list_failed, retry_failed
from app.jobs.jobs import Job, JobName, JobStatus, advance, begin, get_jobs, queue_job, queue_within
from app.jobs.running import run_jobs
from app.outbox import service as outbox
from app.outbox.consuming import consume
from app.outbox.service import LEASE, MAX_FAILURES, Queue
from app.paging import Page
from app.programs.models import Program
from tests.helpers import new_program, stamp_all, work_all

SLICES = 4
RECALCULATE = JobName.RECALCULATE_TIERS

Slice = Callable[[asyncpg.Connection, Job], Awaitable[bool]]


class Counting:
    """A job of a few slices, which counts how often each of them was done and kept."""

    def __init__(self) -> None:
        self.begun = Counter[tuple[UUID, int]]()
        self.fails_at: int | None = None
        self.error: Exception = ZeroDivisionError("no more")
        self.pause = 0.0

    async def __call__(self, sql: asyncpg.Connection, job: Job) -> bool:
        at = job.state.get("at", 0)
        self.begun[job.id, at] += 1
        await asyncio.sleep(self.pause)
        await advance(sql, job, job.done + 10, 10 * SLICES, {"at": at + 1})
        if at == self.fails_at:
            raise self.error
        return bool(at + 1 < SLICES)


@pytest.fixture
def slices(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    monkeypatch.setitem(running.SLICES, RECALCULATE, counting)  # type: ignore[arg-type]
    return counting


async def now(job: Job) -> Job:
    (found,) = await get_jobs(job.program_id, [job.id])
    assert found
    return found


async def waiting(program: Program) -> list[UUID]:
    """Return the jobs that wait in the outbox, each as often as it does."""
    async with transaction() as sql:
        rows = await sql.fetch(
            "SELECT members FROM outbox WHERE program_id = $1 AND queue = 'jobs' ORDER BY id", program.id
        )
    return [each for row in rows for each in row["members"]]


async def fail_for_good(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the jobs of a program as often as it takes until what fails is put aside."""
    moment = clock.now()
    for _ in range(MAX_FAILURES):
        for batch in await stamp_all(program, Queue.JOBS):
            await consume(Queue.JOBS, batch, run_jobs)
        moment += timedelta(seconds=30)
        monkeypatch.setattr(clock, "now", lambda moment=moment: moment)


async def failed_of(program: Program) -> list[FailedJob]:
    return list((await list_failed(program.id, Page(10))).items)


async def test_a_job_that_is_queued_already_is_answered_with_and_done_once(slices: Counting) -> None:
    program, other = await new_program(), await new_program()
    jobs = await asyncio.gather(*(queue_job(program.id, RECALCULATE) for _ in range(5)))
    assert len({job.id for job in jobs}) == 1
    job = jobs[0]
    assert (job.status, job.done, job.total, job.started_at) == (JobStatus.QUEUED, 0, None, None)
    assert (await queue_job(other.id, RECALCULATE)).id != job.id
    subjects = [new_id(), new_id()]
    about = [await queue_job(program.id, RECALCULATE, subject) for subject in subjects * 2]
    assert len({each.id for each in about} | {job.id}) == 3, "what is about something else is another job"
    assert sorted(await waiting(program)) == sorted({each.id for each in (*about, job)})
    assert await get_jobs(other.id, [job.id]) == [None]
    await work_all(program)
    done = await now(job)
    assert (done.status, done.done, done.total, done.error) == (JobStatus.SUCCEEDED, 40, 40, None)
    assert done.started_at
    assert done.ended_at
    assert set(slices.begun.values()) == {1}
    assert (await queue_job(program.id, RECALCULATE)).id != job.id, "what has ended is done again"


async def test_one_who_asks_while_a_job_runs_gets_another_that_begins_afterwards(slices: Counting) -> None:
    program = await new_program()
    first = await queue_job(program.id, RECALCULATE)
    async with transaction() as sql:
        running_job = await begin(sql, program.id, first.id)
    assert running_job
    assert running_job.status is JobStatus.RUNNING
    second = await queue_job(program.id, RECALCULATE)
    assert second.id != first.id
    await work_all(program)
    assert [(await now(each)).status for each in (first, second)] == [JobStatus.SUCCEEDED] * 2


async def test_a_job_does_not_begin_before_the_change_is_committed_that_asked_for_it(
    slices: Counting,
) -> None:
    program = await new_program()
    job = await queue_job(program.id, RECALCULATE)
    (batch,) = await stamp_all(program, Queue.JOBS)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def change() -> None:
        async with transaction() as sql:
            assert (await queue_within(sql, program.id, RECALCULATE, None, new_id())).id == job.id
            asked.set()
            await go_on.wait()

    changing = asyncio.create_task(change())
    await asked.wait()
    working = asyncio.create_task(consume(Queue.JOBS, batch, run_jobs))
    await asyncio.sleep(0.1)
    assert not slices.begun
    go_on.set()
    await changing
    assert await working == SLICES


async def test_what_a_turn_does_not_finish_goes_on_in_the_next_where_it_was(
    slices: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = await new_program()
    job = await queue_job(program.id, RECALCULATE)
    monkeypatch.setattr(running, "_TURN_SECONDS", 0.02)
    slices.pause = 0.03
    seen = []
    while batches := await stamp_all(program, Queue.JOBS):
        for batch in batches:
            assert await consume(Queue.JOBS, batch, run_jobs) == 1
        seen.append(await now(job))
    assert [(each.done, each.status) for each in seen] == [
        *((10 * n, JobStatus.RUNNING) for n in range(1, SLICES)),
        (40, JobStatus.SUCCEEDED),
    ]
    assert len({each.started_at for each in seen}) == 1


async def test_two_workers_on_one_job_do_each_slice_once(slices: Counting) -> None:
    program = await new_program()
    job = await queue_job(program.id, RECALCULATE)
    (batch,) = await stamp_all(program, Queue.JOBS)
    slices.pause = 0.01
    done = await asyncio.gather(*(consume(Queue.JOBS, batch, run_jobs) for _ in range(3)))
    assert sum(done) >= SLICES
    assert (await now(job)).status is JobStatus.SUCCEEDED
    assert slices.begun == {(job.id, n): 1 for n in range(SLICES)}
    assert await waiting(program) == []


async def test_a_turn_that_takes_longer_than_its_lease_does_not_make_two_of_one_job(
    slices: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = await new_program()
    job = await queue_job(program.id, RECALCULATE)
    (batch,) = await stamp_all(program, Queue.JOBS)
    monkeypatch.setattr(running, "_TURN_SECONDS", 0.02)
    slices.pause = 0.05
    slow = asyncio.create_task(consume(Queue.JOBS, batch, run_jobs))
    await asyncio.sleep(0.03)
    assert await outbox.take_back([Queue.JOBS], clock.now() + LEASE + timedelta(seconds=1))
    await slow
    assert await waiting(program) == [job.id], "it waits once, for whoever has it now"
    await work_all(program)
    assert slices.begun == {(job.id, n): 1 for n in range(SLICES)}


async def test_a_worker_that_ends_in_the_middle_of_a_slice_leaves_it_to_the_next(slices: Counting) -> None:
    program = await new_program()
    job = await queue_job(program.id, RECALCULATE)
    (batch,) = await stamp_all(program, Queue.JOBS)
    slices.pause = 0.1
    dying = asyncio.create_task(consume(Queue.JOBS, batch, run_jobs))
    await asyncio.sleep(0.15)
    dying.cancel()
    await asyncio.wait([dying])
    left = await now(job)
    assert (left.status, left.done) == (JobStatus.RUNNING, 10)
    slices.pause = 0
    assert await consume(Queue.JOBS, batch, run_jobs) == SLICES - 1
    assert (await now(job)).status is JobStatus.SUCCEEDED
    assert slices.begun[job.id, 0] == 1, "what was kept is not done again"
    assert slices.begun[job.id, 1] == 2


async def test_a_job_that_fails_is_told_as_failed_and_goes_on_when_it_is_retried(
    slices: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = await new_program()
    bad, good = [await queue_job(program.id, RECALCULATE, new_id()) for _ in range(2)]
    slices.fails_at = 2
    original = slices.__call__

    async def one_of_them(sql: asyncpg.Connection, job: Job) -> bool:
        slices.fails_at = 2 if job.id == bad.id and mended is False else None
        return await original(sql, job)

    mended = False
    monkeypatch.setitem(running.SLICES, RECALCULATE, one_of_them)  # type: ignore[arg-type]
    await fail_for_good(program, monkeypatch)
    assert (await now(good)).status is JobStatus.SUCCEEDED, "the other is not held up"
    failed = await now(bad)
    assert (failed.status, failed.done) == (JobStatus.FAILED, 20)
    assert failed.error == "ZeroDivisionError: no more"
    assert failed.ended_at
    (aside,) = await failed_of(program)
    assert (aside.queue, aside.subject, aside.attempts) == ("jobs", bad.id, MAX_FAILURES)
    assert aside.payload == {"members": [str(bad.id)]}
    assert aside.error == failed.error
    assert slices.begun[bad.id, 0] == slices.begun[bad.id, 1] == 1
    assert slices.begun[bad.id, 2] == MAX_FAILURES
    assert await waiting(program) == []

    mended = True
    retry = await retry_failed(program.id, aside.id)
    assert (await retry_failed(program.id, aside.id)).id == retry.id, "who asks twice gets one"
    await work_all(program)
    assert (await now(retry)).status is JobStatus.SUCCEEDED
    done = await now(bad)
    assert (done.status, done.done, done.error) == (JobStatus.SUCCEEDED, 40, None)
    assert slices.begun[bad.id, 0] == 1, "it went on where it was"
    assert await failed_of(program) == []
    with pytest.raises(Refused) as refused:
        await retry_failed(program.id, aside.id)
    assert refused.value.errors[0].code is ErrorCode.NOT_FOUND


async def test_what_fails_while_it_is_retried_with_success_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program, member = await new_program(), new_id()

    async def put_aside(error: str) -> None:
        async with transaction() as sql:
            await outbox.put_aside(
                sql, Queue.EARNING, program.id, {member: error}, 3, clock.now(), clock.now()
            )

    async def work(*_: Any) -> int:
        await put_aside("A new one.")
        return 1

    await put_aside("The old one.")
    (failed,) = await failed_of(program)
    monkeypatch.setitem(running.WORK, Queue.EARNING, work)  # type: ignore[arg-type]
    job = await retry_failed(program.id, failed.id)
    await work_all(program)
    assert (await now(job)).status is JobStatus.SUCCEEDED
    assert [(each.error, each.attempts) for each in await failed_of(program)] == [("A new one.", 6)]


async def test_what_may_pass_is_not_a_failure(slices: Counting) -> None:
    program = await new_program()
    job = await queue_job(program.id, RECALCULATE)
    slices.fails_at = 1
    slices.error = DatabaseAway("away")
    (batch,) = await stamp_all(program, Queue.JOBS)
    with pytest.raises(Unavailable):
        await consume(Queue.JOBS, batch, run_jobs)
    left = await now(job)
    assert (left.status, left.done) == (JobStatus.RUNNING, 10)
    assert await failed_of(program) == []
    slices.fails_at = None
    assert await consume(Queue.JOBS, batch, run_jobs) == SLICES - 1
    assert (await now(job)).status is JobStatus.SUCCEEDED


async def test_failed_jobs_are_listed_in_pages_of_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    program, other = await new_program(), await new_program()
    members = [new_id() for _ in range(5)]
    async with transaction() as sql:
        for n, member in enumerate(members):
            await outbox.put_aside(
                sql, Queue.TIERS, program.id, {member: f"Error {n}"}, 3, clock.now(), clock.now()
            )
        await outbox.put_aside(sql, Queue.TIERS, other.id, {new_id(): "Other"}, 3, clock.now(), clock.now())
    first = await list_failed(program.id, Page(3))
    assert [each.subject for each in first.items] == members[:3]
    assert first.has_next
    second = await list_failed(program.id, Page(3, after=(first.items[-1].id,)))
    assert [each.subject for each in second.items] == members[3:]
    assert not second.has_next
    with pytest.raises(Refused):
        await retry_failed(other.id, first.items[0].id)
