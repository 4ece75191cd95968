"""Reservations that ran out count as given back from their moment on, though no worker comes by.

Every test moves the clock to just that moment, and asks.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app import clock
from app.database import connection
from app.redemptions import expiring
from app.redemptions.expiring import release_due, sweep
from app.redemptions.reads import find_redemptions
from tests.api.burning import with_codes
from tests.api.client import ADJUST, REFUND, RETURN, Api, World, make_world, unique, uuid_of
from tests.api.statements import counting
from tests.helpers import find_differences
from tests.redemptions.making import all_at_once

EVERYTHING = """query ($id: ID!) {
    member(by: {id: $id}) {
        balance { available reserved } redemptions(first: 50) { nodes { status } }
    }
    redemptions(first: 50) { nodes { status member { balance { available reserved } } } }
}"""
TURNED = """query ($id: ID!) {
    redemptions(first: 50) { nodes { status } }
    member(by: {id: $id}) {
        redemptions(first: 50) { nodes { status } } balance { available reserved }
    }
}"""
OWN = """{ viewer { redemptions(first: 50) { nodes { status } } balance { available reserved } } }"""
WITH_STATUS = """query ($id: ID!, $status: RedemptionStatus, $first: Int!, $after: String) {
    redemptions(status: $status, first: $first, after: $after) {
        nodes { id status } pageInfo { hasNextPage endCursor }
    }
    member(by: {id: $id}) {
        redemptions(status: $status, first: $first, after: $after) {
            nodes { id status } pageInfo { hasNextPage endCursor }
        }
    }
}"""
CATALOG = """query ($for: MemberRef, $only: Boolean) {
    catalog(first: 50, forMember: $for, filter: {redeemableOnly: $only}) {
        nodes { id stock eligibility { redeemable reasons } }
    }
}"""
REWARD = "query ($id: ID!) { reward(id: $id) { stock eligibility { redeemable reasons } } }"
NODE = "query ($id: ID!) { node(id: $id) { ... on Reward { stock } ... on Redemption { status } } }"
QUOTE = """query ($member: ID!) {
    quotePointsPayment(member: {id: $member}, orderAmount: "100") { points reward { id } }
}"""
LEDGER = "{ viewer { ledger(first: 3) { nodes { kind points } } } }"

HOLD = 60


class Clock:
    """A clock that stands still. Tokens have times of their own, so that it stands close to the real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = datetime.now(UTC)
        monkeypatch.setattr(clock, "now", lambda: self.now)
        self.until = self.now + timedelta(seconds=HOLD)

    def just_before(self) -> None:
        self.now = self.until - timedelta(microseconds=1)

    def run_out(self) -> None:
        """Let it be the moment at which what was reserved at first has run out."""
        self.now = self.until


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """When everything is reserved, in a process that has put off nothing."""
    monkeypatch.setattr(expiring, "_put_off", expiring._Memory())
    monkeypatch.setattr(expiring, "_held", expiring._Memory())
    return Clock(monkeypatch)


@pytest.fixture
async def world(api: Api, time: Clock) -> World:
    """A program in which a point is given for every euro."""
    world = await make_world(api)
    await world.rule()
    return world


async def other_member(world: World, points: int = 0) -> str:
    member = (await world.enrol())["id"]
    if points:
        await world.adjust(points, member={"id": member})
    return str(member)


async def on_hold(world: World, count: int = 1, **reward: Any) -> str:
    """Let the world's member spend all its points on holds of 100 points; return the reward."""
    await world.adjust(100 * count)
    made = (await world.reward(**reward))["id"]
    for _ in range(count):
        await world.reserve(made, holdSeconds=HOLD)
    return str(made)


async def assert_in_order(world: World) -> None:
    assert not await find_differences(world.program_id)


# Refunds and adjustments


async def test_a_refund_takes_points_that_came_back_and_writes_nothing_off(world: World, time: Clock) -> None:
    bought = (await world.purchase("100"))["event"]["id"]
    reward = (await world.reward())["id"]
    await world.reserve(reward, holdSeconds=HOLD)
    time.run_out()
    done = await world.done(REFUND, purchase={"id": bought}, externalId="back")
    (refund,) = done["refunds"]
    assert (refund["points"], refund["debt"], refund["writtenOff"]) == (100, 0, 0)
    assert done["member"]["balance"] == {"available": 0, "pending": 0, "debt": 0}
    await assert_in_order(world)


async def test_goods_that_come_back_take_points_that_came_back(api: Api, time: Clock) -> None:
    world = await make_world(api, debtLimit=1000)
    await world.rule()
    await world.purchase(None, lines=[{"sku": "mug", "amount": "100"}])
    await world.reserve((await world.reward())["id"], holdSeconds=HOLD)
    time.run_out()
    item = {"sku": "mug", "quantity": "1", "amount": "100"}
    done = await world.done(RETURN, member={"id": world.member}, externalId="back", items=[item])
    (refund,) = done["refunds"]
    assert (refund["points"], refund["debt"], refund["writtenOff"]) == (100, 0, 0)
    assert done["member"]["balance"] == {"available": 0, "pending": 0, "debt": 0}
    await assert_in_order(world)


async def test_a_refund_takes_its_points_from_the_lot_of_its_purchase(world: World, time: Clock) -> None:
    bought = (await world.purchase("100"))["event"]["id"]
    await world.reserve((await world.reward())["id"], holdSeconds=HOLD)
    await world.adjust(100)
    time.run_out()
    await world.done(REFUND, purchase={"id": bought}, externalId="back")
    async with connection() as sql:
        left = await sql.fetch(
            "SELECT sequence, remaining FROM lot WHERE account_id = $1 ORDER BY sequence",
            uuid_of(world.member),
        )
    assert [row["remaining"] for row in left] == [0, 100]
    await assert_in_order(world)


async def test_points_that_came_back_can_be_taken_by_hand(world: World, time: Clock) -> None:
    await on_hold(world)
    time.just_before()
    base = {"member": {"id": world.member}, "points": -100, "reason": "x"}
    assert await world.refused(ADJUST, **base, idempotencyKey="early") == [
        ("INSUFFICIENT_POINTS", ["points"])
    ]
    time.run_out()
    for replayed in (False, True):
        done = await world.done(ADJUST, **base, idempotencyKey="then")
        assert done["replayed"] is replayed
        assert (done["entry"]["kind"], done["entry"]["availableAfter"]) == ("ADJUST", 0)
    await assert_in_order(world)


async def test_many_adjustments_at_once_take_what_came_back_once(world: World, time: Clock) -> None:
    await on_hold(world, 5)
    time.run_out()

    async def take() -> str:
        said = {"points": -100, "reason": "x", "idempotencyKey": unique("key")}
        payload = await world.do(ADJUST, member={"id": world.member}, **said)
        return str(payload["userErrors"][0]["code"] if payload["userErrors"] else "OK")

    seen = Counter(await all_at_once([take] * 8))
    assert seen == {"OK": 5, "INSUFFICIENT_POINTS": 3}
    await assert_in_order(world)


# Balances and redemptions


@pytest.mark.parametrize("query", [EVERYTHING, TURNED, OWN], ids=["first", "last", "own"])
async def test_balance_and_redemptions_of_one_request_agree(world: World, time: Clock, query: str) -> None:
    await on_hold(world, 3)
    token = world.token if query is OWN else world.key
    variables = {} if query is OWN else {"id": world.member}
    for move, seen in ((time.just_before, (0, 300, "RESERVED")), (time.run_out, (300, 0, "EXPIRED"))):
        move()
        found = [*seen_in(await world.api.call(query, variables, token))]
        assert {each for each in found if isinstance(each, tuple)} == {seen[:2]}
        assert {each for each in found if isinstance(each, str)} == {seen[2]}
    await assert_in_order(world)


def seen_in(data: Any) -> list[Any]:
    """Return every status and every balance of an answer."""
    if isinstance(data, list):
        return [found for each in data for found in seen_in(each)]
    if not isinstance(data, dict):
        return []
    found = [found for each in data.values() for found in seen_in(each)]
    if "reserved" in data:
        found.append((data["available"], data["reserved"]))
    if "status" in data:
        found.append(data["status"])
    return found


async def test_the_ledger_has_the_entry_of_what_came_back(world: World, time: Clock) -> None:
    await on_hold(world)
    time.run_out()
    data = await world.api.call(LEDGER, token=world.token)
    latest = data["viewer"]["ledger"]["nodes"][0]
    assert (latest["kind"], latest["points"]) == ("RESTORE", 100)


@pytest.mark.parametrize("status", ["RESERVED", "EXPIRED", None])
async def test_redemptions_in_a_state_are_all_those_in_it_now(
    world: World, time: Clock, status: str | None
) -> None:
    reward = await on_hold(world, 7)
    await world.adjust(200)
    lasting = [(await world.reserve(reward, holdSeconds=HOLD + 1))["redemption"]["id"] for _ in range(2)]
    time.run_out()
    for where in ("program", "member"):
        found, after = [], None
        while True:
            asked = {"id": world.member, "status": status, "first": 3, "after": after}
            data = await world.call(WITH_STATUS, asked)
            page = (data if where == "program" else data["member"])["redemptions"]
            found += page["nodes"]
            if not page["pageInfo"]["hasNextPage"]:
                break
            assert len(page["nodes"]) == 3
            after = page["pageInfo"]["endCursor"]
        states = Counter(each["status"] for each in found)
        assert states == {
            key: count for key, count in {"EXPIRED": 7, "RESERVED": 2}.items() if status in (None, key)
        }
        if status != "EXPIRED":
            assert {each["id"] for each in found if each["status"] == "RESERVED"} == set(lasting)


async def test_a_redemption_is_found_expired_by_its_id(world: World, time: Clock) -> None:
    await world.adjust(100)
    made = (await world.reserve((await world.reward())["id"], holdSeconds=HOLD))["redemption"]["id"]
    time.run_out()
    assert (await world.call(NODE, {"id": made}))["node"] == {"status": "EXPIRED"}


# The catalog


@pytest.mark.parametrize(
    ("reward", "before"),
    [({"stock": 2}, "OUT_OF_STOCK"), ({"limits": {"maxTotal": 2}}, "LIMIT_REACHED"), ({}, "OUT_OF_STOCK")],
    ids=["stock", "limit", "codes"],
)
async def test_the_catalog_shows_pieces_that_others_let_run_out(
    world: World, time: Clock, reward: dict[str, Any], before: str
) -> None:
    made = await on_hold(world, 2, **reward) if reward else await with_codes(world, "A", "B")
    if not reward:
        await world.adjust(200)
        await world.reserve(made, quantity=2, holdSeconds=HOLD)
    buyer = await other_member(world, 100)
    token = await world.token_for(buyer)
    stock = None if "limits" in reward else 2
    time.just_before()
    (shown,) = (await world.call(CATALOG, {"for": {"id": buyer}, "only": False}))["catalog"]["nodes"]
    assert shown["stock"] == (None if stock is None else 0)
    assert shown["eligibility"] == {"redeemable": False, "reasons": [before]}
    time.run_out()
    expected = {"stock": stock, "eligibility": {"redeemable": True, "reasons": []}}
    for only in (True, False):
        for asked, caller in (({"for": {"id": buyer}}, world.key), ({}, token)):
            data = await world.api.call(CATALOG, asked | {"only": only}, caller)
            assert data["catalog"]["nodes"] == [{"id": made} | expected]
    assert (await world.api.call(REWARD, {"id": made}, token))["reward"] == expected
    await world.redeem(made, member={"id": buyer})
    await assert_in_order(world)


@pytest.mark.parametrize("only", [True, False])
async def test_the_first_page_of_the_catalog_releases(world: World, time: Clock, only: bool) -> None:
    made = await on_hold(world, stock=1, limits={"maxPerMember": 1})
    time.run_out()
    data = await world.api.call(CATALOG, {"only": only}, world.token)
    shown = {"id": made, "stock": 1, "eligibility": {"redeemable": True, "reasons": []}}
    assert data["catalog"]["nodes"] == [shown]


async def test_the_reward_of_a_redemption_and_of_its_id_has_what_came_back(world: World, time: Clock) -> None:
    made = await on_hold(world, stock=1)
    time.run_out()
    assert (await world.call(NODE, {"id": made}))["node"] == {"stock": 1}
    query = "{ redemptions(first: 1) { nodes { status reward { stock } } } }"
    shown = (await world.call(query))["redemptions"]["nodes"]
    assert shown == [{"status": "EXPIRED", "reward": {"stock": 1}}]


async def test_a_quote_counts_points_and_pieces_that_came_back(world: World, time: Clock) -> None:
    discount = (await world.reward("DISCOUNT", limits={"maxTotal": 1}))["id"]
    await world.adjust(100)
    await world.reserve(discount, points=100, orderAmount="100", holdSeconds=HOLD)
    buyer = await other_member(world, 50)
    time.run_out()
    for member, points in ((buyer, 50), (world.member, 100)):
        found = (await world.call(QUOTE, {"member": member}))["quotePointsPayment"]
        assert found == {"points": points, "reward": {"id": discount}}


async def test_each_field_of_a_mutation_sees_what_ran_out_before_it(
    world: World, monkeypatch: pytest.MonkeyPatch, time: Clock
) -> None:
    """The clock goes on in between: the second does not go by what the first of them had found."""
    await on_hold(world)
    rest = 'reason: "x", idempotencyKey: $key}) { member { balance { available reserved } } }'
    query = f"""mutation ($id: ID!, $key: String!, $other: String!) {{
        a: adjustPoints(input: {{member: {{id: $id}}, points: 1, {rest}
        b: adjustPoints(input: {{member: {{id: $id}}, points: 1, {rest.replace("$key", "$other")}
    }}"""
    real = release_due

    async def then_run_out(program_id: UUID) -> int:
        count = await real(program_id)
        time.run_out()
        return count

    monkeypatch.setattr("graphql_schema.reservations.release_due", then_run_out)
    data = await world.call(query, {"id": world.member, "key": unique("a"), "other": unique("b")})
    seen = [data[name]["member"]["balance"] for name in ("a", "b")]
    assert seen == [{"available": 1, "reserved": 100}, {"available": 102, "reserved": 0}]


# Many at once


async def test_fifty_readers_and_sweeps_at_once_never_contradict_themselves(
    world: World, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some read with one process's turns, some with another's, and workers sweep meanwhile."""
    monkeypatch.setattr(expiring, "_PATIENCE_SECONDS", 20)
    reward = await on_hold(world)

    async def read(query: str) -> list[Any]:
        # As another process does, which does not know who else releases.
        if query is TURNED:
            expiring._turns.clear()
        return seen_in(await world.call(query, {"id": world.member}))

    def reader(query: str) -> Callable[[], Awaitable[Any]]:
        return lambda: read(query)

    expected = {(100, 0), "EXPIRED"}
    for turn in range(6):
        readers = [reader(EVERYTHING if n % 2 else TURNED) for n in range(50)]
        time.now += timedelta(seconds=HOLD)
        works = [sweep, *readers, sweep] if turn % 2 else [*readers, sweep, sweep]
        for seen in await all_at_once(works):
            assert isinstance(seen, int) or set(seen) == expected
        await world.reserve(reward, holdSeconds=HOLD)
    await assert_in_order(world)


async def test_readers_wait_for_a_sweep_that_is_in_the_middle(
    world: World, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep elsewhere has given the points back, and has not committed yet."""
    monkeypatch.setattr(expiring, "_PATIENCE_SECONDS", 20)
    await on_hold(world)
    time.run_out()
    async with connection() as sql, sql.transaction():
        (row,) = await sql.fetch(
            "SELECT id FROM redemption WHERE program_id = $1 FOR UPDATE", world.program_id
        )
        swept = asyncio.create_task(sweep())
        await asyncio.sleep(0.1)
        reading = [asyncio.create_task(world.call(EVERYTHING, {"id": world.member})) for _ in range(4)]
        await asyncio.sleep(0.2)
        assert not any(each.done() for each in (swept, *reading))
        (reserved,) = await find_redemptions(sql, world.program_id, [row["id"]])
        assert reserved is not None
        assert reserved.status == "RESERVED"
    for data in await asyncio.gather(*reading):
        assert set(seen_in(data)) == {(100, 0), "EXPIRED"}
    assert await swept >= 0
    await assert_in_order(world)


async def test_an_account_that_somebody_holds_keeps_nobody_else_from_reading(
    world: World, monkeypatch: pytest.MonkeyPatch, time: Clock
) -> None:
    monkeypatch.setattr(expiring, "_PATIENCE_SECONDS", 0.1)
    reward = await on_hold(world, stock=5)
    other = await other_member(world, 100)
    await world.reserve(reward, member={"id": other}, holdSeconds=HOLD)
    time.run_out()
    query = """query ($id: ID!) { member(by: {id: $id}) {
        balance { available reserved } redemptions { nodes { status } } } }"""
    async with connection() as sql, sql.transaction():
        await sql.execute("SELECT FROM account WHERE id = $1 FOR UPDATE", uuid_of(world.member))
        async with asyncio.timeout(5):
            # What is held is shown as it stands, and the other's is there.
            assert seen_in(await world.call(query, {"id": world.member})) == [(0, 100), "RESERVED"]
            assert seen_in(await world.call(query, {"id": other})) == [(100, 0), "EXPIRED"]
            # Nobody waits for it again, for a moment.
            monkeypatch.setattr(expiring, "_PATIENCE_SECONDS", 60)
            assert await release_due(world.program_id) == 0
    # Who needs the points waits for nothing but the lock.
    await world.redeem(reward)
    await assert_in_order(world)


async def test_what_nobody_can_release_is_tried_once_however_many_read(
    world: World, monkeypatch: pytest.MonkeyPatch, time: Clock
) -> None:
    tried = list[UUID]()
    reward = await on_hold(world)
    other = await other_member(world, 100)
    await world.reserve(reward, member={"id": other}, holdSeconds=HOLD)
    time.run_out()
    real = expiring.end

    async def end(sql: Any, policy: Any, redemptions: Any, *rest: Any) -> Any:
        tried.extend(each.member_id for each in redemptions)
        assert uuid_of(world.member) not in {each.member_id for each in redemptions}, "books disagree"
        return await real(sql, policy, redemptions, *rest)

    monkeypatch.setattr(expiring, "end", end)
    for seen in await all_at_once([lambda: world.call(TURNED, {"id": world.member})] * 10):
        assert sorted(map(str, set(seen_in(seen["member"])))) == ["(0, 100)", "RESERVED"]
        assert Counter(each["status"] for each in seen["redemptions"]["nodes"]) == {
            "RESERVED": 1,
            "EXPIRED": 1,
        }
    await sweep()
    # With the others', and by itself.
    assert tried.count(uuid_of(world.member)) == 2
    monkeypatch.setattr(expiring, "end", real)
    monkeypatch.setattr(expiring, "_put_off", expiring._Memory())
    assert await release_due(world.program_id) == 1
    await assert_in_order(world)


async def test_more_than_one_batch_is_released_before_reading(
    world: World, monkeypatch: pytest.MonkeyPatch, time: Clock
) -> None:
    monkeypatch.setattr(expiring, "_BATCH", 3)
    await on_hold(world, 8)
    time.run_out()
    assert set(seen_in(await world.call(TURNED, {"id": world.member}))) == {(800, 0), "EXPIRED"}


async def test_nothing_due_is_one_statement_and_other_programs_are_left_alone(
    world: World, api: Api, time: Clock
) -> None:
    other = await make_world(api)
    await on_hold(other)
    time.run_out()
    async with counting() as counted:
        assert await release_due(world.program_id) == 0
    assert counted.numbers == (1, 0)
    assert await release_due(other.program_id) == 1
