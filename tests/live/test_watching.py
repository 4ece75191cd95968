"""Balances, tiers and jobs are told at once and after every change, whatever is away meanwhile."""

import asyncio
from time import monotonic
from unittest.mock import patch
from uuid import UUID

import pytest

from app.database import DatabaseAway, transaction
from app.jobs.jobs import JobName, advance, end, get_jobs, lock_job, queue_job
from app.live import hints, sources
from app.live.hub import Hub, Source
from app.settings import Settings
from tests.api.client import World, make_world, uuid_of
from tests.helpers import work_all
from tests.live.talking import BALANCE, BALANCE_OF, talking

JOB = "subscription ($job: ID!) { job(id: $job) { id name status done total error endedAt } }"
RECALCULATE = "mutation { recalculateTiers { job { id status } userErrors { code } } }"
TIER = "subscription { tier { current { name } next { name } qualifying missing } }"


async def test_a_balance_is_told_at_once_and_after_every_change(url: str, world: World) -> None:
    async with talking(url, world.token) as talk:
        await talk.subscribe(BALANCE)
        assert await talk.next() == {"available": 0, "pending": 0, "reserved": 0}
        for points, available in ((5, 5), (7, 12)):
            await world.adjust(points)
            assert (await talk.next(seconds=1))["available"] == available
        reward = await world.reward(points=4)
        await world.reserve(reward["id"])
        assert await talk.next() == {"available": 8, "pending": 0, "reserved": 4}
        await talk.say("complete", id="1")
        await world.adjust(1)
        await talk.nothing(0.2)


async def test_a_key_names_the_member_and_a_token_sees_its_own_only(url: str, world: World) -> None:
    other = await world.enrol()
    stranger = await make_world(world.api)
    async with talking(url, world.key) as talk:
        await talk.subscribe(BALANCE_OF, of={"externalId": world.external_id})
        assert await talk.next() == {"available": 0}
        await talk.subscribe(BALANCE, id="2")
        assert await talk.error("2") == "BAD_USER_INPUT"
        await talk.subscribe(BALANCE_OF, id="2", of={"id": stranger.member})
        assert await talk.error("2") == "BAD_USER_INPUT"
    async with talking(url, world.token) as talk:
        await talk.subscribe(BALANCE_OF, of={"id": world.member})
        assert await talk.next() == {"available": 0}
        await talk.subscribe(BALANCE_OF, id="2", of={"id": other["id"]})
        assert await talk.error("2") == "BAD_USER_INPUT"
        await talk.subscribe('subscription { job(id: "x") { id } }', id="3")
        assert await talk.error("3") == "FORBIDDEN"


async def test_many_changes_at_once_end_with_the_last_state_and_tell_nothing_twice(
    url: str, world: World
) -> None:
    async with talking(url, world.token) as talk, talking(url, world.key) as other:
        await talk.subscribe(BALANCE)
        await other.subscribe(BALANCE_OF, of={"id": world.member})
        await asyncio.gather(*(world.adjust(1) for _ in range(30)))
        for each in (talk, other):
            seen = [(await each.next())["available"]]
            while seen[-1] != 30:
                seen.append((await each.next())["available"])
            assert seen == sorted(set(seen))
            await each.nothing(0.1)


async def test_a_job_is_told_until_it_ends(url: str, world: World) -> None:
    job = await queue_job(world.program_id, JobName.RECALCULATE_TIERS)
    made = (await world.call(RECALCULATE))["recalculateTiers"]
    assert made["job"]["status"] == "QUEUED"
    assert uuid_of(made["job"]["id"]) == job.id
    async with talking(url, world.key) as talk:
        await talk.subscribe(JOB, job=made["job"]["id"])
        assert (await talk.next())["status"] == "QUEUED"
        for done in (1, 2):
            async with transaction() as sql:
                locked = await lock_job(sql, world.program_id, job.id)
                assert locked
                await advance(sql, locked, done, 2, {})
            told = await talk.next()
            assert (told["status"], told["done"], told["total"]) == ("RUNNING", done, 2)
        async with transaction() as sql:
            await end(sql, locked, "it broke")
        told = await talk.next()
        assert (told["status"], told["error"]) == ("FAILED", "it broke")
        assert told["endedAt"]
        assert await talk.hear() == {"type": "complete", "id": "1"}
        # One that has ended is told once, and one that is nobody's not at all.
        await talk.subscribe(JOB, job=made["job"]["id"])
        assert (await talk.next())["status"] == "FAILED"
        assert (await talk.hear())["type"] == "complete"
        await talk.subscribe(JOB, job=world.member)
        assert await talk.error() == "BAD_USER_INPUT"


async def test_a_member_sees_the_tier_that_a_purchase_brings(url: str, world: World) -> None:
    await world.tier(name="Start")
    await world.tier("10", name="Gold")
    await world.rule()
    async with talking(url, world.token) as talk:
        await talk.subscribe(TIER)
        assert await talk.next() == {
            "current": {"name": "Start"}, "next": {"name": "Gold"}, "qualifying": "0", "missing": "10",
        }  # fmt: skip
        await world.purchase("12")
        await work_all(world)  # type: ignore[arg-type] # anything with the program's id
        seen = await talk.next()
        while seen["current"]["name"] != "Gold":
            seen = await talk.next()
        assert seen == {"current": {"name": "Gold"}, "next": None, "qualifying": "12", "missing": None}


async def test_without_any_hint_a_change_is_told_within_seconds(url: str, world: World) -> None:
    async with talking(url, world.token) as talk:
        await talk.subscribe(BALANCE)
        await talk.next()
        with patch.object(hints.Publisher, "add", lambda *_: None):
            await world.adjust(3)
        started = monotonic()
        assert (await talk.next())["available"] == 3
        assert monotonic() - started < 3


async def test_with_redis_away_and_postgresql_away_watches_stay_and_catch_up(
    settings: Settings, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    calls = 0

    async def versions(ids: list[UUID]) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise DatabaseAway("away")
        return await sources.BALANCES.versions(ids)

    async def load(program_id: UUID, ids: list[UUID]) -> object:
        if calls == 3:
            raise DatabaseAway("away")
        return await sources.BALANCES.load(program_id, ids)

    source = Source("balances", versions, load)  # type: ignore[arg-type]
    async with Hub(away) as hub:
        with hub.watch(source, world.program_id, uuid_of(world.member)) as watch:
            assert (await watch.next()).available == 0
            await world.adjust(4)
            async with asyncio.timeout(10):
                assert (await watch.next()).available == 4
        assert calls == 4
        assert not hub._topics


async def test_a_thousand_watchers_cost_one_statement(settings: Settings, world: World) -> None:
    compared: list[int] = []
    loaded: list[int] = []

    async def versions(ids: list[UUID]) -> object:
        compared.append(len(ids))
        return await sources.BALANCES.versions(ids)

    async def load(program_id: UUID, ids: list[UUID]) -> object:
        loaded.append(len(ids))
        return await sources.BALANCES.load(program_id, ids)

    source = Source("balances", versions, load)  # type: ignore[arg-type]
    members = [uuid_of((await world.enrol())["id"]) for _ in range(10)]
    async with Hub(settings) as hub:
        watching = [hub.watch(source, world.program_id, member) for member in members for _ in range(100)]
        watches = [each.__enter__() for each in watching]
        await asyncio.gather(*(watch.next() for watch in watches))
        assert (compared, loaded) == ([10], [10])
        for each in watching:
            each.__exit__()


async def test_a_new_watch_is_never_told_what_was_before_it_began(settings: Settings, world: World) -> None:
    """Somebody who has just seen a purchase go through must not be told the balance before it."""
    member = uuid_of(world.member)
    async with Hub(settings) as hub:
        with hub.watch(sources.BALANCES, world.program_id, member) as first:
            assert (await first.next()).available == 0
            for total in range(1, 21):
                await world.adjust(1)
                with hub.watch(sources.BALANCES, world.program_id, member) as watch:
                    assert (await watch.next()).available == total


async def test_a_job_that_somebody_deletes_ends_its_watch(settings: Settings, world: World) -> None:
    job = await queue_job(world.program_id, JobName.RECALCULATE_TIERS)
    assert (await get_jobs(world.program_id, [job.id]))[0] == job
    async with Hub(settings) as hub:
        with hub.watch(sources.JOBS, world.program_id, job.id) as watch:
            assert await watch.next() == job
            async with transaction() as sql:
                await sql.execute("DELETE FROM job WHERE program_id = $1 AND id = $2", job.program_id, job.id)
            assert await watch.next() is None
