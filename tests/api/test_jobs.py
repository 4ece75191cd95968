"""Jobs, what failed of them, and how the workers are doing, through the API."""

from datetime import timedelta
from uuid import uuid4

from app import clock
from app.database import transaction
from app.ids import to_global_id
from app.jobs import health
from app.outbox.service import Queue, put_aside
from tests.api.client import World, uuid_of
from tests.helpers import work_all

JOB = "{ id name status done total startedAt endedAt error }"
RECALCULATE = f"mutation {{ recalculateTiers {{ job {JOB} userErrors {{ code }} }} }}"
RETRY = f"""mutation ($id: ID!) {{
    retryFailedJob(id: $id) {{ job {JOB} userErrors {{ code field message }} }}
}}"""
FAILED = """query ($first: Int, $after: String) { failedJobs(first: $first, after: $after) {
    nodes { id name error attempts firstFailedAt lastFailedAt } pageInfo { hasNextPage endCursor }
} }"""
HEALTH = "{ workerHealth { oldestWaitingSeconds waiting failed workers } }"
NODE = f"query ($id: ID!) {{ node(id: $id) {{ id ... on Job {JOB} ... on FailedJob {{ attempts }} }} }}"


async def test_tiers_are_recalculated_by_a_job_that_can_be_seen(world: World) -> None:
    await world.tier()
    first = (await world.call(RECALCULATE))["recalculateTiers"]
    assert first["userErrors"] == []
    job = first["job"]
    assert (job["name"], job["status"], job["startedAt"]) == ("tiers.recalculate", "QUEUED", None)
    # One that waits has not looked at anything yet: it will do for the second call, too.
    assert (await world.call(RECALCULATE))["recalculateTiers"]["job"] == job
    await work_all(world)  # type: ignore[arg-type] # anything with the program's id
    done = (await world.call(NODE, {"id": job["id"]}))["node"]
    assert (done["status"], done["error"]) == ("SUCCEEDED", None)
    assert done["done"] == done["total"]
    assert done["endedAt"] >= done["startedAt"]
    assert (await world.call(RECALCULATE))["recalculateTiers"]["job"]["id"] != job["id"]


async def test_failed_work_is_listed_retried_and_gone_when_it_is_done(world: World) -> None:
    assert (await world.call(FAILED))["failedJobs"]["nodes"] == []
    now = clock.now()
    async with transaction() as sql:
        for error in ("first", "second"):
            errors = {uuid_of(world.member) if error == "first" else uuid4(): error}
            await put_aside(sql, Queue.EARNING, world.program_id, errors, 4, now - timedelta(hours=1), now)
    page = (await world.call(FAILED, {"first": 1}))["failedJobs"]
    (one,) = page["nodes"]
    assert (one["name"], one["error"], one["attempts"]) == ("earning", "first", 4)
    assert one["firstFailedAt"] < one["lastFailedAt"]
    rest = (await world.call(FAILED, {"after": page["pageInfo"]["endCursor"]}))["failedJobs"]
    assert [each["error"] for each in rest["nodes"]] == ["second"]
    assert (await world.call(HEALTH))["workerHealth"]["failed"] == 2
    assert (await world.call(NODE, {"id": one["id"]}))["node"] == {"id": one["id"], "attempts": 4}

    job = (await world.call(RETRY, {"id": one["id"]}))["retryFailedJob"]["job"]
    assert (job["name"], job["status"]) == ("failed_job.retry", "QUEUED")
    waiting = (await world.call(HEALTH))["workerHealth"]
    assert waiting["waiting"] >= 1
    assert waiting["oldestWaitingSeconds"] >= 0
    await work_all(world)  # type: ignore[arg-type] # anything with the program's id
    assert (await world.call(NODE, {"id": job["id"]}))["node"]["status"] == "SUCCEEDED"
    assert (await world.call(NODE, {"id": one["id"]}))["node"] is None
    refused = (await world.call(RETRY, {"id": one["id"]}))["retryFailedJob"]
    assert refused["job"] is None
    assert [(each["code"], each["field"]) for each in refused["userErrors"]] == [("NOT_FOUND", ["id"])]


async def test_health_counts_workers_that_were_seen_just_now(world: World) -> None:
    idle = (await world.call(HEALTH))["workerHealth"]
    assert (idle["oldestWaitingSeconds"], idle["waiting"], idle["failed"]) == (None, 0, 0)
    worker = uuid4()
    await health.beat(worker, "host", ["earning"], clock.now())
    assert (await world.call(HEALTH))["workerHealth"]["workers"] == idle["workers"] + 1
    await health.leave(worker)
    assert (await world.call(HEALTH))["workerHealth"]["workers"] == idle["workers"]


async def test_jobs_of_another_kind_or_program_are_not_there(world: World) -> None:
    for id in (to_global_id("Job", uuid4()), to_global_id("FailedJob", uuid4()), world.member):
        answer = await world.call(RETRY, {"id": id})
        assert [each["code"] for each in answer["retryFailedJob"]["userErrors"]] == ["NOT_FOUND"]
