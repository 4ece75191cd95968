"""Many clients on few accounts, at once, on a real server: what may not depend on luck."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, date, datetime
from typing import TypeVar
from uuid import UUID

import asyncpg
import pytest

from app.ids import new_id
from app.ledger.operations import EntryKind, Operation, Outcome, Status, Terms
from app.ledger.service import apply, settle
from app.settings import Settings
from tests.helpers import find_differences

T = TypeVar("T")

TWINS = 30
CONNECTIONS = 20  # in each of pytest's processes, of the 100 that the server allows
TODAY = date(2026, 3, 2)
TERMS = Terms(datetime(2026, 3, 2, 12, tzinfo=UTC), TODAY, "UTC", None, date(2026, 1, 1), 1_000_000)


@pytest.fixture(scope="module")
async def clients(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """A pool in which everybody has a connection already, so that a race begins with the statement."""
    pool = await asyncpg.create_pool(
        settings.database_url, min_size=CONNECTIONS, max_size=CONNECTIONS, command_timeout=60
    )
    async with pool:
        yield pool


@pytest.fixture
def program_id() -> UUID:
    return new_id()


async def open_accounts(clients: asyncpg.Pool, program_id: UUID, count: int, points: int = 0) -> list[UUID]:
    """Open accounts, each with some points that never expire."""
    accounts = [new_id() for _ in range(count)]
    await clients.executemany(
        "INSERT INTO account (id, program_id, member_id, active_on) VALUES ($1, $2, $1, $3)",
        [(account, program_id, TODAY) for account in accounts],
    )
    if points:
        await do(clients, *(operation(account, EntryKind.EARN, points) for account in accounts))
    return accounts


def operation(
    account: UUID,
    kind: EntryKind,
    amount: int,
    reference: int | None = None,
    key: UUID | None = None,
    expires_on: date = date.max,
) -> Operation:
    gives = kind is EntryKind.EARN or (kind is EntryKind.ADJUST and amount > 0)
    return Operation(
        account_id=account,
        kind=kind,
        amount=amount,
        key=key or new_id(),
        request_hash=amount,
        occurred_at=TERMS.recorded_at,
        reference=reference,
        matures_on=TODAY if gives else None,
        expires_on=expires_on if gives else None,
    )


async def do(clients: asyncpg.Pool, *operations: Operation, terms: Terms = TERMS) -> list[Outcome]:
    """Apply operations in one transaction of some client's."""
    async with clients.acquire() as sql, sql.transaction():
        return await apply(sql, terms, operations)


async def all_at_once(works: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Let everybody go at the same moment; nobody takes longer than a minute."""
    gate = asyncio.Event()

    async def behind_the_gate(work: Callable[[], Awaitable[T]]) -> T:
        await gate.wait()
        return await work()

    async with asyncio.timeout(60):
        tasks = [asyncio.create_task(behind_the_gate(work)) for work in works]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks)


async def balance(clients: asyncpg.Pool, account: UUID) -> tuple[int, int, int, int]:
    """Return what is available, pending and reserved, and how many entries there are."""
    return tuple(
        await clients.fetchrow(
            "SELECT available, pending, reserved, sequence FROM account WHERE id = $1", account
        )
    )


async def test_of_thirty_twins_one_is_applied_and_the_others_are_told_the_same(
    clients: asyncpg.Pool, program_id: UUID
) -> None:
    (account,) = await open_accounts(clients, program_id, 1, points=1000)
    for amount in (7, 11, 13):
        twin = operation(account, EntryKind.REDEEM, amount)
        outcomes = [
            outcome for (outcome,) in await all_at_once([lambda twin=twin: do(clients, twin)] * TWINS)
        ]
        assert Counter(outcome.status for outcome in outcomes) == {
            Status.APPLIED: 1,
            Status.REPLAYED: TWINS - 1,
        }
        assert len({outcome[1:] for outcome in outcomes}) == 1
    assert await balance(clients, account) == (1000 - 31, 0, 0, 4)
    assert not await find_differences(program_id)


async def test_of_twins_with_two_bodies_one_body_wins(clients: asyncpg.Pool, program_id: UUID) -> None:
    (account,) = await open_accounts(clients, program_id, 1)
    key = new_id()
    works = [
        lambda amount=amount: do(clients, operation(account, EntryKind.EARN, amount, key=key))
        for amount in (10, 20) * 15
    ]
    outcomes = [outcome for (outcome,) in await all_at_once(works)]
    assert Counter(outcome.status for outcome in outcomes) == {
        Status.APPLIED: 1,
        Status.REPLAYED: 14,
        Status.KEY_REUSED: 15,
    }
    assert (await balance(clients, account))[0] in (10, 20)


async def test_of_fifty_redeems_of_a_tenth_exactly_ten_succeed(
    clients: asyncpg.Pool, program_id: UUID
) -> None:
    (account,) = await open_accounts(clients, program_id, 1)
    # Several lots, so that some redeem has to take from two of them.
    await do(clients, *(operation(account, EntryKind.EARN, 25) for _ in range(40)))
    works = [lambda: do(clients, operation(account, EntryKind.REDEEM, 100)) for _ in range(50)]
    outcomes = [outcome for (outcome,) in await all_at_once(works)]
    assert Counter(outcome.status for outcome in outcomes) == {Status.APPLIED: 10, Status.INSUFFICIENT: 40}
    applied = sorted(outcome.available for outcome in outcomes if outcome.status is Status.APPLIED)
    assert applied == list(range(0, 1000, 100))
    assert await balance(clients, account) == (0, 0, 0, 50)
    assert not await find_differences(program_id)


@pytest.mark.parametrize("seed", range(5))
async def test_the_same_points_go_to_one_of_reserve_redeem_and_adjust(
    clients: asyncpg.Pool, program_id: UUID, seed: int
) -> None:
    (account,) = await open_accounts(clients, program_id, 1, points=100)
    wishes = [
        operation(account, kind, -100 if kind is EntryKind.ADJUST else 100)
        for kind in (EntryKind.RESERVE, EntryKind.REDEEM, EntryKind.ADJUST) * 5
    ]
    random.Random(seed).shuffle(wishes)
    outcomes = await all_at_once([lambda wish=wish: do(clients, wish) for wish in wishes])
    winners = [
        wish.kind
        for wish, (outcome,) in zip(wishes, outcomes, strict=True)
        if outcome.status is Status.APPLIED
    ]
    assert len(winners) == 1
    assert await balance(clients, account) == (0, 0, 100 if winners == [EntryKind.RESERVE] else 0, 2)
    assert not await find_differences(program_id)


async def test_a_reservation_is_captured_or_given_back_but_never_both(
    clients: asyncpg.Pool, program_id: UUID
) -> None:
    (account,) = await open_accounts(clients, program_id, 1, points=100)
    ((reserved,),) = [await do(clients, operation(account, EntryKind.RESERVE, 100))]
    works = [
        lambda kind=kind: do(clients, operation(account, kind, 30, reference=reserved.sequence))
        for kind in (EntryKind.REDEEM, EntryKind.RESTORE) * 10
    ]
    outcomes = [outcome for (outcome,) in await all_at_once(works)]
    assert Counter(outcome.status for outcome in outcomes) == {Status.APPLIED: 3, Status.EXCESSIVE: 17}
    available, _, left, _ = await balance(clients, account)
    assert left == 10
    assert available in (0, 30, 60, 90)
    assert not await find_differences(program_id)


async def test_many_refunds_at_once_take_back_no_more_than_was_earned(
    clients: asyncpg.Pool, program_id: UUID
) -> None:
    (account,) = await open_accounts(clients, program_id, 1, points=100)
    works = [lambda: do(clients, operation(account, EntryKind.CLAWBACK, 40, reference=1)) for _ in range(10)]
    outcomes = [outcome for (outcome,) in await all_at_once(works)]
    assert Counter(outcome.status for outcome in outcomes) == {Status.APPLIED: 2, Status.EXCESSIVE: 8}
    assert (await balance(clients, account))[0] == 20


@pytest.mark.parametrize("kind", [EntryKind.EARN, EntryKind.RESERVE, EntryKind.ADJUST])
async def test_what_undoes_nothing_cannot_refer_to_an_entry(
    clients: asyncpg.Pool, program_id: UUID, kind: EntryKind
) -> None:
    """It would count as undone what it refers to, and so keep a refund from its points."""
    (account,) = await open_accounts(clients, program_id, 1, points=100)
    with pytest.raises(asyncpg.CheckViolationError, match="ledger_entry_reference_kind"):
        await do(clients, operation(account, kind, 40, reference=1))
    assert await balance(clients, account) == (100, 0, 0, 1)


async def test_batches_in_opposite_orders_never_wait_for_each_other(
    clients: asyncpg.Pool, program_id: UUID
) -> None:
    accounts = await open_accounts(clients, program_id, 12, points=10)

    async def batches(seed: int) -> None:
        shuffle = random.Random(seed).shuffle
        for _ in range(6):
            order = list(accounts) if seed % 2 else accounts[::-1]
            if seed % 3 == 0:
                shuffle(order)
            # A deadlock would be an error here: nothing is tried again.
            outcomes = await do(clients, *(operation(account, EntryKind.EARN, 1) for account in order))
            assert all(outcome.status is Status.APPLIED for outcome in outcomes)
            async with clients.acquire() as sql, sql.transaction():
                await settle(sql, TERMS, order)

    await all_at_once([lambda seed=seed: batches(seed) for seed in range(20)])
    for account in accounts:
        assert await balance(clients, account) == (10 + 120, 0, 0, 121)
    assert not await find_differences(program_id)


async def test_no_snapshot_ever_shows_another_total(clients: asyncpg.Pool, program_id: UUID) -> None:
    """Points move between accounts, here a spend and there an earn, and back again; the total stays."""
    accounts = await open_accounts(clients, program_id, 5, points=200)
    moves: list[tuple[UUID, int, UUID, int, int]] = []
    writing = True
    tally: Counter[str] = Counter()

    class Rollback(Exception):
        pass

    async def together(*operations: Operation) -> list[Outcome] | None:
        try:
            async with clients.acquire() as sql, sql.transaction():
                outcomes = await apply(sql, TERMS, operations)
                if any(outcome.status is not Status.APPLIED for outcome in outcomes):
                    raise Rollback
                assert all(outcome.taken in (None, operation.amount)
                           for operation, outcome in zip(operations, outcomes, strict=True))  # fmt: skip
                return outcomes
        except Rollback:
            tally["rolled back"] += 1
            return None

    async def writer(seed: int) -> None:
        generator = random.Random(seed)
        for _ in range(40):
            if moves and generator.random() < 0.4:
                source, spend, target, earn, amount = generator.choice(moves)
                part = generator.randint(1, amount)
                done = await together(
                    operation(source, EntryKind.RESTORE, part, reference=spend),
                    operation(target, EntryKind.CLAWBACK, part, reference=earn),
                )
                tally["returned"] += done is not None
            else:
                source, target = generator.sample(accounts, 2)
                amount = generator.randint(1, 150)
                done = await together(
                    operation(source, EntryKind.REDEEM, amount), operation(target, EntryKind.EARN, amount)
                )
                if done:
                    tally["moved"] += 1
                    moves.append((source, done[0].sequence or 0, target, done[1].sequence or 0, amount))

    async def reader() -> None:
        while writing:
            async with clients.acquire() as sql, sql.transaction(isolation="repeatable_read", readonly=True):
                total = await sql.fetchval(
                    "SELECT sum(available) FROM account WHERE program_id = $1", program_id
                )
                in_lots = await sql.fetchval(
                    "SELECT coalesce(sum(remaining), 0) FROM lot WHERE account_id = ANY($1::uuid[])", accounts
                )
                held = await sql.fetchval(
                    "SELECT sum(greatest(available, 0)) FROM account WHERE program_id = $1", program_id
                )
                entries = await sql.fetchval(
                    "SELECT sum(available_change) FROM ledger_entry WHERE account_id = ANY($1::uuid[])",
                    accounts,
                )
            assert (total, entries) == (1000, 1000)
            assert in_lots == held
            tally["read"] += 1
            await asyncio.sleep(0.002)

    async def writers() -> None:
        nonlocal writing
        try:
            async with asyncio.TaskGroup() as group:
                for seed in range(16):
                    group.create_task(writer(seed))
        finally:
            writing = False

    await all_at_once([writers, reader, reader, reader])
    assert tally["moved"] > 100, tally
    assert tally["returned"] > 20, tally
    assert tally["rolled back"] > 20, tally
    assert tally["read"] > 5, tally
    assert not await find_differences(program_id)


async def test_points_that_die_at_midnight_are_never_spent_after_it(
    clients: asyncpg.Pool, program_id: UUID
) -> None:
    accounts = await open_accounts(clients, program_id, 8)
    for account in accounts:
        await do(clients, operation(account, EntryKind.EARN, 100, expires_on=TODAY))
    tomorrow = TERMS._replace(today=date(2026, 3, 3), recorded_at=datetime(2026, 3, 3, 0, 0, 1, tzinfo=UTC))

    async def sweep() -> None:
        async with clients.acquire() as sql, sql.transaction():
            await settle(sql, tomorrow, accounts)

    async def redeem(account: UUID) -> Status:
        (outcome,) = await do(clients, operation(account, EntryKind.REDEEM, 100), terms=tomorrow)
        return outcome.status

    works: list[Callable[[], Awaitable[Status | None]]] = [sweep] * 6
    works += [lambda account=account: redeem(account) for account in accounts * 3]
    random.Random(1).shuffle(works)
    assert set(await all_at_once(works)) == {None, Status.INSUFFICIENT}
    for account in accounts:
        assert await balance(clients, account) == (0, 0, 0, 2)
    assert not await find_differences(program_id)
