"""How the workers are doing, in numbers: what waits, since when, what failed, and who is there."""

from datetime import timedelta
from uuid import UUID

import pytest

from app import clock
from app.database import connection, transaction
from app.ids import new_id
from app.jobs.health import ALIVE, beat, get_health, leave, workers_and_failures
from app.outbox import service as outbox
from app.outbox.service import Queue
from tests.helpers import new_program


async def row_of(worker_id: UUID) -> object:
    async with connection() as sql:
        return await sql.fetchrow(
            "SELECT host, queues, started_at, seen_at FROM worker WHERE id = $1", worker_id
        )


async def test_health_counts_what_waits_and_what_failed_of_one_program() -> None:
    program, other = await new_program(), await new_program()
    assert (await get_health(program.id))[:3] == (None, 0, 0)
    now = clock.now()
    everything = await get_health()
    failed = (await workers_and_failures())[1].get("tiers", 0)
    async with transaction() as sql:
        for each, seconds in ((program, 90), (program, 30), (other, 300)):
            members = [new_id(), new_id()]
            await outbox.leave(sql, Queue.TIERS, each.id, members, now - timedelta(seconds=seconds))
        await outbox.put_aside(sql, Queue.TIERS, program.id, {new_id(): "No."}, 3, now, now)
    health = await get_health(program.id)
    assert (health.waiting, health.failed) == (4, 1)
    assert health.oldest_waiting_seconds is not None
    assert 90 <= health.oldest_waiting_seconds < 120
    after = await get_health()
    assert (after.waiting, after.failed) == (everything.waiting + 6, everything.failed + 1)
    assert (await workers_and_failures())[1]["tiers"] == failed + 1
    assert after.oldest_waiting_seconds is not None
    assert after.oldest_waiting_seconds >= 300
    async with connection() as sql:
        await sql.execute("DELETE FROM outbox WHERE program_id = ANY($1)", [program.id, other.id])


async def test_a_worker_is_there_while_its_heart_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    started = clock.now()
    workers = [new_id() for _ in range(3)]

    async def at(seconds: float) -> int:
        moment = started + timedelta(seconds=seconds)
        monkeypatch.setattr(clock, "now", lambda: moment)
        return (await get_health()).workers

    before = await at(0)
    for worker in workers:
        await beat(worker, "host:1", ["earning", "sweeps"], started)
    assert await at(0) == before + 3
    by_name = (await workers_and_failures())[0]
    assert by_name["sweeps"] >= 3
    assert by_name["earning"] >= 3
    assert await at(10) == before + 3
    await beat(workers[0], "host:1", ["earning", "sweeps"], started)
    await leave(workers[1])
    assert await at(10) == before + 2, "who says goodbye is gone at once"
    assert await at(ALIVE.total_seconds() + 1) <= before + 1, "who says nothing is gone soon"
    assert await row_of(workers[2]), "until it is forgotten"
    # A machine that slept, and with it the worker: it is the same one, and the others are forgotten.
    await at(2 * 3600)
    await beat(workers[0], "host:1", ["earning", "sweeps"], started)
    found = await row_of(workers[0])
    assert tuple(found) == ("host:1", ["earning", "sweeps"], started, clock.now())  # type: ignore[arg-type]
    assert await row_of(workers[2]) is None
    await leave(workers[0])
