"""What always fails is put aside with its error, holds up nobody, and is done when its cause is mended."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from tests.trust.books import check, drained
from tests.trust.place import Place, until
from tests.trust.tills import Shop

PUT_ASIDE_SECONDS = 20

_FAILED = "{ failedJobs(first: 10) { edges { node { id name error attempts } } } }"
_HEALTH = "{ workerHealth { oldestWaitingSeconds waiting failed workers } }"
_RETRY = "mutation ($id: ID!) { retryFailedJob(id: $id) { job { id } userErrors { message } } }"
_JOB = "query ($id: ID!) { node(id: $id) { ... on Job { name status error } } }"

# Something that a person has to put right: the ledger takes nothing more for one account.
_BREAK = """
CREATE FUNCTION trust_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the books are closed'; END $$;
CREATE TRIGGER trust_refuse BEFORE INSERT ON ledger_entry FOR EACH ROW
    WHEN (NEW.account_id = '{account}') EXECUTE FUNCTION trust_refuse();
"""
_MEND = "DROP TRIGGER IF EXISTS trust_refuse ON ledger_entry; DROP FUNCTION IF EXISTS trust_refuse"
_ACCOUNT = """
SELECT m.id FROM member m JOIN program p ON p.id = m.program_id WHERE p.slug = $1 AND m.external_id = $2
"""
_PAYLOAD = """
SELECT f.payload, f.subject, m.id AS member FROM failed_job f JOIN program p ON p.id = f.program_id
JOIN member m ON m.program_id = p.id WHERE p.slug = $1 AND m.external_id = $2
"""
_WAITING_OTHERS = """
SELECT count(*) FROM event_queue q JOIN member m ON m.id = q.member_id JOIN program p ON p.id = m.program_id
WHERE p.slug = $1 AND m.external_id <> $2
"""


async def run(place: Place, shop: Shop, statement: str, *args: str) -> Any:
    async with place.sql() as sql:
        return await sql.fetchrow(statement, shop.slug, *args)


@asynccontextmanager
async def closed_books(place: Place, shop: Shop, member: str) -> AsyncIterator[None]:
    """Have everything fail that is to be written in a member's account."""
    account = (await run(place, shop, _ACCOUNT, member))["id"]
    async with place.sql() as sql:
        await sql.execute(_BREAK.format(account=account))
        try:
            yield
        finally:
            await sql.execute(_MEND)


async def failed_jobs(shop: Shop) -> list[dict[str, Any]]:
    return [edge["node"] for edge in (await shop.ask(_FAILED))["edges"]]


async def retry(shop: Shop, failed_id: str) -> dict[str, Any]:
    """Retry a failed job, and return how that ended."""
    job_id = (await shop.ask(_RETRY, id=failed_id))["job"]["id"]

    async def ended() -> Any:
        job = await shop.ask(_JOB, id=job_id)
        return job if job["status"] in ("SUCCEEDED", "FAILED") else None

    return dict(await until(ended, 20, "the retry has ended", every=0.05))


async def test_a_job_that_always_fails_does_not_hold_up_the_others_and_is_done_when_retried(
    place: Place, shop: Shop
) -> None:
    broken, *others = shop.members
    async with closed_books(place, shop, broken):
        started = monotonic()
        await shop.send(shop.batch(300))

        async def others_have_earned() -> bool:
            return (await run(place, shop, _WAITING_OTHERS, broken))["count"] == 0

        await until(others_have_earned, 8, "the others of the same batch have earned")
        held_up = monotonic() - started
        await shop.send(shop.batch(200, others))
        await until(others_have_earned, 8, "those who come later earn as well")

        async def put_aside() -> Any:
            return await failed_jobs(shop)

        (failed,) = await until(put_aside, PUT_ASIDE_SECONDS, "the work is put aside", every=0.1)
        print(f"\n  the others earned after {held_up:.2f} s, put aside after {monotonic() - started:.2f} s")
        assert (failed["name"], failed["attempts"]) == ("earning", 3)
        assert "the books are closed" in failed["error"]
        row = await run(place, shop, _PAYLOAD, broken)
        assert row["payload"] == f'{{"members": ["{row["member"]}"]}}'
        assert row["subject"] == row["member"]
        health = await shop.ask(_HEALTH)
        assert (health["waiting"], health["failed"], health["oldestWaitingSeconds"]) == (0, 1, None)
        assert health["workers"] >= 1

        job = await retry(shop, failed["id"])
        assert (job["name"], job["status"]) == ("failed_job.retry", "FAILED"), "its cause is still there"
        assert "the books are closed" in job["error"]
        assert [each["attempts"] for each in await failed_jobs(shop)] == [4]

    job = await retry(shop, failed["id"])
    assert (job["status"], job["error"]) == ("SUCCEEDED", None)
    assert await failed_jobs(shop) == []
    await drained(place, monotonic())
    await check(place, shop)
