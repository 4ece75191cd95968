"""Reservations that run out are released by the workers, though nobody looks; each once, whatever happens."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any
from uuid import UUID

import orjson
import pytest

from app.database import connection, transaction
from app.redemptions import expiring
from app.redemptions.expiring import release, sweep
from app.redemptions.redemptions import Redemption
from tests.api.statements import counting
from tests.helpers import find_differences, new_program
from tests.redemptions.making import balance_of, new_reward, redeemed, rich_member
from tests.trust.place import START_SECONDS, Place, until
from tests.trust.tills import Shop

RESERVATIONS = 500
_AT_ONCE = 25

_REWARD = """mutation ($input: RewardInput!) {
    createReward(input: $input) { reward { id } userErrors { message } }
}"""
_ADJUST = "mutation ($input: AdjustPointsInput!) { adjustPoints(input: $input) { userErrors { message } } }"
_RESERVE = """mutation ($input: ReserveInput!) {
    reserve(input: $input) { redemption { id } userErrors { message } }
}"""

_BOOKS = """
SELECT count(*) FILTER (WHERE r.status = 'RESERVED') AS reserved,
    count(*) FILTER (WHERE r.status = 'EXPIRED') AS expired
FROM redemption r JOIN program p ON p.id = r.program_id WHERE p.slug = $1
"""
_POINTS = """
SELECT sum(a.available)::bigint AS available, sum(a.reserved)::bigint AS reserved
FROM account a JOIN program p ON p.id = a.program_id WHERE p.slug = $1
"""
_RESTORED = """
SELECT count(*) FROM ledger_entry e
JOIN account a ON a.id = e.account_id JOIN program p ON p.id = a.program_id
WHERE p.slug = $1 AND e.kind = 'RESTORE'
"""
_TAKEN = """
SELECT c.taken FROM reward_stock c
JOIN reward r ON r.id = c.reward_id JOIN program p ON p.id = r.program_id
WHERE p.slug = $1
"""
_HOLD_THE_LAST = """
SELECT r.id FROM redemption r JOIN program p ON p.id = r.program_id WHERE p.slug = $1
ORDER BY r.id DESC LIMIT 1 FOR UPDATE OF r
"""
_HOLD_AN_ACCOUNT = """
SELECT a.id FROM account a JOIN member m ON m.id = a.member_id JOIN program p ON p.id = a.program_id
WHERE p.slug = $1 AND m.external_id = $2 FOR UPDATE OF a
"""
_BLOCKED = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'laurel-worker' AND wait_event_type = 'Lock' AND query ~ $1
"""
_WORKERS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'laurel-worker'"
_LET_RUN_OUT = """
UPDATE redemption r SET reserved_until = now() - interval '1 second' FROM program p
WHERE p.id = r.program_id AND p.slug = $1
"""


async def make_reward(shop: Shop, **content: Any) -> str:
    """Set up a reward for 10 points, and give every member enough of them; return its id."""
    for n, member in enumerate(shop.members):
        points = {
            "member": {"externalId": member},
            "points": 10_000,
            "reason": "x",
            "idempotencyKey": f"p{n}",
        }
        await shop.post(_ADJUST, points)
    reward = {"kind": "PRODUCT", "name": "Mug", "points": 10} | content
    return str((await shop.post(_REWARD, reward))["reward"]["id"])


async def reserve(shop: Shop, reward: str, serial: int, hold_seconds: int) -> None:
    member = shop.members[serial % len(shop.members)]
    wanted = {"member": {"externalId": member}, "rewardId": reward, "idempotencyKey": f"r{serial}"}
    await shop.post(_RESERVE, wanted | {"holdSeconds": hold_seconds})


async def row(place: Place, statement: str, shop: Shop) -> Any:
    async with place.sql() as sql:
        return await sql.fetchrow(statement, shop.slug)


def counted(place: Place, shop: Shop, **counts: int) -> Callable[[], Awaitable[bool]]:
    """Return what tells whether so many redemptions are in so many states."""

    async def compare() -> bool:
        books = await row(place, _BOOKS, shop)
        return all(books[name] == count for name, count in counts.items())

    return compare


async def test_points_that_were_set_aside_come_back_by_themselves(place: Place, shop: Shop) -> None:
    reward = await make_reward(shop, stock=3)
    before = dict(await row(place, _POINTS, shop))
    await reserve(shop, reward, 0, hold_seconds=1)
    reserved = monotonic()
    assert dict(await row(place, _POINTS, shop)) == {"available": before["available"] - 10, "reserved": 10}
    assert (await row(place, _TAKEN, shop))["taken"] == 1
    await until(counted(place, shop, expired=1), 5, "the reservation is released")
    # One second on hold, one until the next sweep, and two for a slow machine.
    assert monotonic() - reserved < 4
    assert dict(await row(place, _POINTS, shop)) == before
    assert (await row(place, _TAKEN, shop))["taken"] == 0


async def many_on_hold(place: Place, shop: Shop) -> None:
    """Reserve RESERVATIONS pieces for all members, with a hold that is far from over."""
    reward = await make_reward(shop, stock=RESERVATIONS)
    for start in range(0, RESERVATIONS, _AT_ONCE):
        serials = range(start, start + _AT_ONCE)
        await asyncio.gather(*(reserve(shop, reward, serial, hold_seconds=3600) for serial in serials))
    assert (await row(place, _TAKEN, shop))["taken"] == RESERVATIONS


async def blocked(place: Place, query: str, count: int = 1) -> None:
    """Wait until workers stand still in a statement."""

    async def stands_still() -> bool:
        async with place.sql() as sql:
            return bool(await sql.fetchval(_BLOCKED, query) >= count)

    await until(stands_still, 8, f"{count} workers wait for a lock in {query}")


async def run_out(place: Place, shop: Shop) -> None:
    """Let the time of all reservations be over."""
    async with place.sql() as sql:
        await sql.execute(_LET_RUN_OUT, shop.slug)


async def assert_each_was_released_once(place: Place, shop: Shop, available: int) -> None:
    assert (await row(place, _RESTORED, shop))[0] == RESERVATIONS
    assert dict(await row(place, _POINTS, shop)) == {"available": available, "reserved": 0}
    assert (await row(place, _TAKEN, shop))["taken"] == 0
    verified = await place.command("verify", "--program", shop.slug)
    assert verified.returncode == 0, verified.stdout + verified.stderr


async def test_a_worker_that_is_killed_in_the_middle_of_a_sweep_releases_each_reservation_once(
    place: Place, shop: Shop
) -> None:
    await many_on_hold(place, shop)
    points = await row(place, _POINTS, shop)
    place.freeze(place.worker)
    await run_out(place, shop)
    async with place.sql() as sql, sql.transaction():
        await sql.fetch(_HOLD_THE_LAST, shop.slug)
        place.thaw(place.worker)
        # The points of the last batch are given back by then, and nothing of it is committed.
        await blocked(place, "UPDATE redemption")
        books = await row(place, _BOOKS, shop)
        assert 0 < books["expired"] < RESERVATIONS
        place.worker.kill()
    place.worker.spawn()
    await until(counted(place, shop, expired=RESERVATIONS), 20, "all are released")
    await assert_each_was_released_once(place, shop, points["available"] + points["reserved"])


async def test_two_workers_that_sweep_at_once_release_each_reservation_once(place: Place, shop: Shop) -> None:
    await many_on_hold(place, shop)
    points = await row(place, _POINTS, shop)
    other = place.add_worker()
    await until(lambda: connected(place, 2), START_SECONDS, "both workers are up")
    logs = place.log_places()
    async with place.sql() as sql, sql.transaction():
        await sql.fetch(_HOLD_AN_ACCOUNT, shop.slug, shop.members[0])
        await run_out(place, shop)
        # Both have found the same reservations.
        await blocked(place, "FOR NO KEY UPDATE", count=2)
    await until(counted(place, shop, expired=RESERVATIONS), 20, "all are released")
    await assert_each_was_released_once(place, shop, points["available"] + points["reserved"])

    async def told() -> bool:
        lines = [line for lines in place.logged(logs).values() for line in lines]
        counts = [orjson.loads(line)["reservations"] for line in lines if "reservations_expired" in line]
        return sum(counts) == RESERVATIONS

    await until(told, 5, "the workers have told of each reservation once")
    place.assert_calm(logs)
    assert other.stop() == 0


async def connected(place: Place, workers: int) -> bool:
    """Tell whether so many workers have connections to the database."""
    async with place.sql() as sql:
        return bool(await sql.fetchval(_WORKERS) >= workers)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[list[UUID]]:
    """What is tried to be released, in its order, by a process that has put off nothing yet."""
    tried: list[list[UUID]] = []

    async def counting_release(
        program_id: UUID, redemptions: Sequence[Redemption], patience: float | None = None
    ) -> int:
        tried.append([each.id for each in redemptions])
        return await release(program_id, redemptions, patience)

    monkeypatch.setattr(expiring, "release", counting_release)
    monkeypatch.setattr(expiring, "_put_off", expiring._Memory())
    return tried


async def states(*redemptions: Redemption) -> list[str]:
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT id, status FROM redemption WHERE id = ANY($1::uuid[])", [each.id for each in redemptions]
        )
    found = {row["id"]: row["status"] for row in rows}
    return [found[each.id] for each in redemptions]


async def test_an_account_whose_books_disagree_holds_up_nobody_and_is_left_alone_for_a_while(
    attempts: list[list[UUID]], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = await new_program()
    reward = await new_reward(program)
    broken, *others = [await rich_member(program) for _ in range(4)]
    stuck = [await redeemed(program, broken, reward, hold_seconds=60) for _ in range(2)]
    fine = [await redeemed(program, each, reward, hold_seconds=60) for each in others]
    async with transaction() as sql:
        await sql.execute(
            "UPDATE redemption SET reserved_until = now() - interval '1 s' WHERE program_id = $1", program.id
        )
        lost = await sql.fetch("DELETE FROM allocation WHERE account_id = $1 RETURNING *", broken.id)
    await sweep()
    assert await states(*fine) == ["EXPIRED"] * 3
    assert await states(*stuck) == ["RESERVED"] * 2
    attempts.clear()
    await sweep()
    late = await redeemed(program, others[0], reward, hold_seconds=60)
    async with transaction() as sql:
        await sql.execute("UPDATE redemption SET reserved_until = now() WHERE id = $1", late.id)
    await sweep()
    assert {each.id for each in stuck}.isdisjoint(each for tried in attempts for each in tried)
    assert await states(late, *stuck) == ["EXPIRED", "RESERVED", "RESERVED"]
    async with transaction() as sql:
        await sql.executemany("INSERT INTO allocation VALUES ($1, $2, $3, $4, $5)", lost)
    monkeypatch.setattr(expiring, "_put_off", expiring._Memory())
    await sweep()
    assert await states(*stuck) == ["EXPIRED"] * 2
    assert (await balance_of(program, broken)).available == 1000
    assert not await find_differences(program.id)


async def test_what_was_put_off_is_tried_again_when_its_time_is_over(
    attempts: list[list[UUID]], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = await new_program()
    member = await rich_member(program)
    stuck = await redeemed(program, member, await new_reward(program), hold_seconds=60)
    async with transaction() as sql:
        await sql.execute("UPDATE redemption SET reserved_until = now() WHERE id = $1", stuck.id)
        await sql.execute("DELETE FROM allocation WHERE account_id = $1", member.id)
    monkeypatch.setattr(expiring, "_PUT_OFF_SECONDS", 0.2)
    for _ in range(2):
        attempts.clear()
        await sweep()
        assert stuck.id in {each for tried in attempts for each in tried}
        await asyncio.sleep(0.25)
    async with transaction() as sql:
        # Nobody after us has to sweep it.
        await sql.execute(
            "UPDATE redemption SET reserved_until = now() + interval '1 year' WHERE id = $1", stuck.id
        )


async def test_a_sweep_with_nothing_to_do_is_one_statement() -> None:
    await sweep()
    async with counting() as counted:
        assert await sweep() == 0
    assert counted.numbers == (1, 0)
