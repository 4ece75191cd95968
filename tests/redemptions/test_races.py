"""Many members and many requests at once, on connections of their own: what may not depend on luck."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.catalog.rewards import RewardLimits, RewardStatus
from app.catalog.service import set_reward_status, update_reward
from app.database import transaction
from app.errors import Refused
from app.ledger.adjusting import adjust_points
from app.redemptions.expiring import release, sweep
from app.redemptions.redemptions import RedemptionStatus
from app.redemptions.steps import cancel, capture, fulfil, use_code
from app.redemptions.taking import Taken
from tests.api.statements import counting
from tests.helpers import by_id, new_program
from tests.redemptions.making import (
    VAULT,
    WAYS,
    Way,
    all_at_once,
    balance_of,
    check_books,
    codes_had,
    codes_of,
    load,
    new_reward,
    pass_time,
    redeem,
    redeemed,
    rich_member,
    somebody_waits,
    stock_of,
    tally,
    wanted,
)

each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name.replace(" ", "-"))


@each_way
async def test_fifty_members_race_for_the_last_seven_pieces_and_seven_get_one(way: Way) -> None:
    program = await new_program()
    reward = await new_reward(program, stock=7)
    members = [await rich_member(program, 100) for _ in range(50)]
    results = await way.ask(program, [wanted(member, reward) for member in members])
    assert tally(results) == {"OK": 7, "OUT_OF_STOCK": 43}
    for member, result in zip(members, results, strict=True):
        balance = await balance_of(program, member)
        assert (balance.available, balance.reserved) == (0 if result.redemption else 100, 0)
    assert (await stock_of(program, reward)).left == 0
    await check_books(program)


@each_way
async def test_the_last_seven_codes_go_to_seven_members_each_code_to_one(way: Way) -> None:
    program = await new_program()
    reward = await new_reward(program, "VOUCHER")
    codes = [f"CODE-{n}" for n in range(7)]
    await load(program, reward, *codes)
    members = [await rich_member(program, 100) for _ in range(30)]
    results = await way.ask(program, [wanted(member, reward) for member in members])
    assert tally(results) == {"OK": 7, "OUT_OF_STOCK": 23}
    given = [await codes_had(program, each.redemption) for each in results if each.redemption]
    assert sorted(given) == [[code] for code in codes]
    await check_books(program)


async def test_two_reserves_a_redeem_and_an_adjustment_race_for_the_same_hundred_points() -> None:
    program = await new_program()
    reward = await new_reward(program)
    winners = Counter[str]()
    for n in range(12):
        member = await rich_member(program, 100)

        async def adjust(member: Any = member, n: int = n) -> str:
            try:
                await adjust_points(program.id, by_id(member), -100, "A race", f"race-{n}")
            except Refused as refused:
                (error,) = refused.errors
                assert error.code == "INSUFFICIENT_POINTS"
                return "refused"
            return "adjusted"

        async def ask(hold: int | None, member: Any = member) -> str:
            (taken,) = await redeem(program.id, [wanted(member, reward, hold_seconds=hold)])
            if taken.redemption is None:
                assert codes_of(taken) == ["INSUFFICIENT_POINTS"]
                return "refused"
            return str(taken.redemption.status)

        works: list[Callable[[], Awaitable[str]]] = [
            lambda: ask(60),
            lambda: ask(60),
            lambda: ask(None),
            adjust,
        ]
        random.Random(n).shuffle(works)
        outcomes = Counter(await all_at_once(works))
        assert outcomes.pop("refused") == 3
        winners.update(outcomes)
        balance = await balance_of(program, member)
        assert (balance.available, balance.reserved) == (0, 100 if "RESERVED" in outcomes else 0)
    assert winners.total() == 12
    await check_books(program)


@each_way
async def test_of_twenty_redeems_of_a_tenth_of_the_balance_ten_succeed(way: Way) -> None:
    program = await new_program()
    reward = await new_reward(program)
    member = await rich_member(program, 1000)
    results = await way.ask(program, [wanted(member, reward) for _ in range(20)])
    assert tally(results) == {"OK": 10, "INSUFFICIENT_POINTS": 10}
    assert (await balance_of(program, member)).available == 0
    await check_books(program)


@each_way
@pytest.mark.parametrize("hold", [None, 60], ids=["redeem", "reserve"])
async def test_the_same_key_many_times_at_once_is_one_redemption_and_one_answer(
    way: Way, hold: int | None
) -> None:
    program = await new_program()
    reward = await new_reward(program)
    member = await rich_member(program, 1000)
    same = wanted(member, reward, hold_seconds=hold)
    results = await way.ask(program, [same] * 20)
    assert tally(results) == {"OK": 1, "REPLAYED": 19}
    assert len({each.redemption for each in results}) == 1
    assert (await balance_of(program, member)).available == 900
    assert (await stock_of(program, reward)).taken == 1
    await check_books(program)


@each_way
async def test_two_members_under_one_key_of_the_program_one_wins_and_the_other_is_told(way: Way) -> None:
    program = await new_program()
    # Of several rewards, so that the row that they share does not put them in order.
    rewards = [await new_reward(program) for _ in range(4)]
    members = [await rich_member(program, 1000) for _ in range(8)]
    requests = [
        wanted(member, rewards[n % 4], key=f"key-{key}")
        for key in range(5)
        for n, member in enumerate(members)
    ]
    random.Random(1).shuffle(requests)
    results = await way.ask(program, requests)
    assert tally(results) == {"OK": 5, "IDEMPOTENCY_CONFLICT": 35}
    assert len({each.redemption.member_id for each in results if each.redemption}) <= 5
    await check_books(program)


@each_way
async def test_many_rewards_in_opposite_orders_never_wait_in_a_circle(way: Way) -> None:
    program = await new_program()
    rewards = [await new_reward(program, stock=1000) for _ in range(6)]
    members = [await rich_member(program, 10_000) for _ in range(6)]
    requests = [wanted(member, reward) for member in members for reward in rewards for _ in range(3)]
    random.Random(7).shuffle(requests)
    results = await way.ask(program, requests)
    assert tally(results) == {"OK": 108}
    for reward in rewards:
        assert (await stock_of(program, reward)).taken == 18
    await check_books(program)


async def test_batches_with_the_same_members_rewards_and_keys_in_opposite_orders_never_deadlock() -> None:
    program = await new_program()
    rewards = [await new_reward(program) for _ in range(4)]
    members = [await rich_member(program, 10_000) for _ in range(4)]
    for round_ in range(4):
        # Each member's own requests, and under the same keys of the program those of another.
        one = [wanted(members[n % 2], rewards[n % 2], key=f"{round_}-{n}") for n in range(20)]
        other = [
            wanted(members[2 + n % 2], rewards[2 + n % 2], key=f"{round_}-{n}") for n in reversed(range(20))
        ]
        async with counting() as counted:
            answers = await all_at_once([lambda each=each: redeem(program.id, each) for each in (one, other)])
        assert sorted(tally(answer).keys() == {"OK"} for answer in answers) == [False, True]
        assert sum((tally(answer) for answer in answers), Counter()) == {"OK": 20, "IDEMPOTENCY_CONFLICT": 20}
        # Who lost a key tries again once, and only that: a deadlock would cost a second, too.
        assert counted.transactions <= 3
    await check_books(program)


async def test_keys_are_claimed_in_one_order_whatever_the_order_of_the_requests() -> None:
    program = await new_program()
    reward, member = await new_reward(program), await rich_member(program)
    requests = [wanted(member, reward, key=key) for key in ("b", "a")]
    claim = """
        INSERT INTO idempotency_key (program_id, operation, key, request_hash, subject_id, created_at)
        VALUES ($1, 'redeem', $2, 1, $1, now())
    """

    async def other_batch() -> None:
        async with transaction() as sql:
            await sql.execute(claim, program.id, "a")
            await somebody_waits(sql.get_server_pid())
            # Whoever waits for the first key must not have the second one already.
            await sql.execute("SET LOCAL lock_timeout = '300ms'")
            await sql.execute(claim, program.id, "b")

    async def batch() -> list[Taken]:
        await asyncio.sleep(0.05)
        return await redeem(program.id, requests)

    async with counting() as counted:
        _, results = await all_at_once([other_batch, batch])
    assert tally(results) == {"IDEMPOTENCY_CONFLICT": 2}
    assert counted.transactions == 3
    assert (await balance_of(program, member)).available == 1000


async def test_the_same_key_inside_one_batch_is_one_redemption() -> None:
    program = await new_program()
    reward = await new_reward(program, stock=5)
    member, other = await rich_member(program, 1000), await rich_member(program, 1000)
    same = wanted(member, reward)
    results = await redeem(
        program.id,
        [
            same,
            wanted(other, reward),
            same,
            same._replace(quantity=2),
            wanted(other, reward, key=same.key),
            same._replace(hold_seconds=60),
        ],
    )
    first, _, again, more, others, reserved = results
    assert (again.redemption, again.replayed) == (first.redemption, True)
    assert codes_of(more) == codes_of(others) == ["IDEMPOTENCY_CONFLICT"]
    # A key stands for one redemption and for one reservation.
    assert reserved.redemption is not None
    assert reserved.redemption.status is RedemptionStatus.RESERVED
    assert (await stock_of(program, reward)).taken == 3
    await check_books(program)


async def test_a_refused_request_leaves_its_key_to_the_next_one_in_the_batch() -> None:
    program = await new_program()
    reward = await new_reward(program)
    member = await rich_member(program, 100)
    dear = wanted(member, reward, quantity=2)
    results = await redeem(program.id, [dear, dear._replace(quantity=1), dear])
    assert [codes_of(each) if each.redemption is None else "OK" for each in results] == [
        ["INSUFFICIENT_POINTS"],
        "OK",
        ["IDEMPOTENCY_CONFLICT"],
    ]


@each_way
async def test_a_limit_of_the_member_holds_against_everything_at_once(way: Way) -> None:
    program = await new_program()
    reward = await new_reward(program, limits=RewardLimits(max_per_member=3))
    members = [await rich_member(program, 10_000) for _ in range(2)]
    results = await way.ask(
        program,
        [wanted(member, reward, hold_seconds=(None, 60)[n % 2]) for member in members for n in range(10)],
    )
    assert tally(results) == {"OK": 6, "LIMIT_REACHED": 14}
    await check_books(program)


@each_way
async def test_no_more_than_there_are_to_be_are_given_at_once(way: Way) -> None:
    program = await new_program()
    reward = await new_reward(program, limits=RewardLimits(max_total=5))
    members = [await rich_member(program, 1000) for _ in range(20)]
    results = await way.ask(program, [wanted(member, reward) for member in members])
    assert tally(results) == {"OK": 5, "LIMIT_REACHED": 15}
    await check_books(program)


async def test_capture_and_cancel_at_once_one_of_them_happens() -> None:
    program = await new_program()
    reward = await new_reward(program, stock=100)
    seen = Counter[str]()
    for n in range(10):
        member = await rich_member(program, 100)
        reserved = await redeemed(program, member, reward, hold_seconds=60)

        async def step(what: int, n: int = n, reserved: Any = reserved) -> str:
            try:
                if what % 2:
                    await capture(program.id, reserved.id, f"capture-{n}-{what}")
                    return "captured"
                await cancel(
                    program.id, reserved.id, "A race", f"cancel-{n}-{what}", caller=reserved.member_id
                )
            except Refused as refused:
                return str(refused.errors[0].code)
            return "cancelled"

        outcomes = Counter(await all_at_once([lambda what=what: step(what) for what in range(6)]))
        done = "captured" if outcomes["captured"] else "cancelled"
        assert outcomes.pop(done) == 1
        assert outcomes.total() == 5
        assert outcomes.keys() <= {"WRONG_STATE", "NOT_ELIGIBLE"}
        seen[done] += 1
        assert (await balance_of(program, member)).available == (100 if done == "cancelled" else 0)
    assert (await stock_of(program, reward)).taken == seen["captured"]
    await check_books(program)


async def test_a_code_is_used_once_under_twenty_calls_at_once() -> None:
    program = await new_program()
    reward = await new_reward(program, "VOUCHER", generate_codes=True)
    redemption = await redeemed(program, await rich_member(program), reward, quantity=2)
    first, second = await codes_had(program, redemption)

    async def use(n: int) -> str:
        try:
            return str(
                (await use_code(program.id, (first, second)[n % 2], f"use-{n}", VAULT)).redemption.status
            )
        except Refused as refused:
            (error,) = refused.errors
            assert "USED" in error.message
            return str(error.code)

    outcomes = await all_at_once([lambda n=n: use(n) for n in range(20)])
    assert Counter(outcomes) == {"CONFIRMED": 1, "USED": 1, "WRONG_STATE": 18}
    again = await all_at_once([lambda: use_code(program.id, first, "use-again", VAULT)] * 3, failing=True)
    assert all(isinstance(each, Refused) for each in again)


async def test_a_step_under_one_key_many_times_at_once_is_done_once() -> None:
    program = await new_program()
    reward = await new_reward(program, stock=100)
    for n in range(4):
        member = await rich_member(program, 100)
        reserved = await redeemed(program, member, reward, hold_seconds=60)
        done = await all_at_once([lambda id=reserved.id, n=n: capture(program.id, id, f"k{n}")] * 8)
        assert Counter(each.replayed for each in done) == {False: 1, True: 7}
        done = await all_at_once([lambda id=reserved.id, n=n: cancel(program.id, id, "No", f"k{n}")] * 8)
        assert Counter(each.replayed for each in done) == {False: 1, True: 7}
        assert len({each.redemption for each in done}) == 1
        assert (await balance_of(program, member)).available == 100
    assert (await stock_of(program, reward)).taken == 0
    await check_books(program)


async def test_steps_of_two_members_under_one_key_at_once_one_wins() -> None:
    program = await new_program()
    reward = await new_reward(program)
    for n in range(5):
        reserved = [
            await redeemed(program, await rich_member(program, 100), reward, hold_seconds=60)
            for _ in range(4)
        ]
        outcomes = await all_at_once(
            [lambda each=each, n=n: capture(program.id, each.id, f"key-{n}") for each in reserved],
            failing=True,
        )
        refused = [each for each in outcomes if isinstance(each, Refused)]
        assert [str(each.errors[0].code) for each in refused] == ["IDEMPOTENCY_CONFLICT"] * 3
    await check_books(program)


async def test_takes_cancels_and_releases_of_the_same_rewards_never_wait_in_a_circle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several redemptions of the same rewards come back at once, while others are taken."""
    program = await new_program()
    rewards = [await new_reward(program, stock=500) for _ in range(3)]
    pool = await new_reward(program, "VOUCHER")
    await load(program, pool, *(f"C{n}" for n in range(40)))
    rewards.append(pool)
    members = [await rich_member(program, 100_000) for _ in range(6)]
    generator = random.Random(3)
    reserved = [
        await redeemed(program, member, reward, hold_seconds=1) for member in members for reward in rewards
    ]
    lasting = [
        await redeemed(program, member, reward, hold_seconds=(None, 600)[n % 2])
        for member in members
        for n, reward in enumerate(rewards[:3])
    ]
    pass_time(monkeypatch, seconds=2)
    works: list[Callable[[], Awaitable[Any]]] = [sweep, sweep]
    for _ in range(4):
        some = generator.sample(reserved, 12)
        works.append(lambda some=some: release(program.id, some))
    works += [
        lambda each=each: cancel(program.id, each.id, "A race", f"cancel-{each.id}") for each in lasting
    ]
    for _ in range(8):
        requests = [wanted(generator.choice(members), generator.choice(rewards)) for _ in range(10)]
        works.append(lambda requests=requests: redeem(program.id, requests))
    generator.shuffle(works)
    await all_at_once(works)
    await sweep()
    await check_books(program)


async def test_nobody_gets_a_reward_after_pausing_it_has_returned() -> None:
    program = await new_program()
    for status in (RewardStatus.PAUSED, RewardStatus.ARCHIVED):
        reward = await new_reward(program, stock=1000)
        over = asyncio.Event()
        members = [await rich_member(program, 1000) for _ in range(20)]

        async def stop(reward: Any = reward, status: Any = status, over: Any = over) -> None:
            await set_reward_status(program.id, reward.id, status)
            over.set()

        async def ask(member: Any, reward: Any = reward, over: Any = over) -> tuple[bool, Taken]:
            late = over.is_set()
            (taken,) = await redeem(program.id, [wanted(member, reward)])
            return late, taken

        works: list[Callable[[], Awaitable[Any]]] = [lambda each=each: ask(each) for each in members]
        works.insert(8, stop)
        outcomes = [each for each in await all_at_once(works) if each is not None]
        assert not any(late and taken.redemption for late, taken in outcomes)
        assert all(codes_of(taken) == ["NOT_ELIGIBLE"] for _, taken in outcomes if taken.redemption is None)
        taken_before = (await stock_of(program, reward)).taken
        assert taken_before == sum(taken.redemption is not None for _, taken in outcomes)
        (late_one,) = await redeem(program.id, [wanted(members[0], reward)])
        assert codes_of(late_one) == ["NOT_ELIGIBLE"]
    await check_books(program)


async def test_a_price_that_changes_meanwhile_is_the_old_or_the_new_one_never_a_mixture() -> None:
    program = await new_program()
    reward = await new_reward(program, "GIFT_CARD", points=100, face_value=10, generate_codes=True)
    members = [await rich_member(program, 1000) for _ in range(24)]

    async def change() -> None:
        await update_reward(program.id, reward.id, {"points": 300, "name": "Dearer"})

    works: list[Callable[[], Awaitable[Any]]] = [
        lambda each=each: redeem(program.id, [wanted(each, reward)]) for each in members
    ]
    works.insert(10, change)
    outcomes = [each[0].redemption for each in await all_at_once(works) if each is not None]
    assert {(each.points, each.reward_name == "Dearer") for each in outcomes} <= {(100, False), (300, True)}
    for member, redemption in zip(members, outcomes, strict=True):
        assert (await balance_of(program, member)).available == 1000 - redemption.points
    await check_books(program)


async def test_stock_that_is_changed_while_members_redeem_is_never_exceeded() -> None:
    program = await new_program()
    reward = await new_reward(program, stock=5)
    members = [await rich_member(program, 10_000) for _ in range(5)]
    changes = [0, 3, 1, 4]

    async def change(stock: int) -> None:
        await update_reward(program.id, reward.id, {"stock": stock})

    works: list[Callable[[], Awaitable[Any]]] = [
        lambda n=n: redeem(program.id, [wanted(members[n % 5], reward, quantity=1 + n % 3)])
        for n in range(30)
    ]
    for n, stock in enumerate(changes):
        works.insert(3 + 6 * n, lambda stock=stock: change(stock))
    outcomes = [each[0] for each in await all_at_once(works) if each is not None]
    given = sum(each.redemption.quantity for each in outcomes if each.redemption)
    stock = await stock_of(program, reward)
    assert stock.taken == given <= 5 + sum(changes)
    assert stock.capacity is not None
    assert stock.taken <= stock.capacity
    # What is said afterwards is what is left, whatever was given before.
    await change(2)
    results = await redeem(program.id, [wanted(member, reward) for member in members])
    assert tally(results) == {"OK": 2, "OUT_OF_STOCK": 3}
    await check_books(program)


async def test_a_batch_of_redeems_costs_seven_statements_in_one_transaction() -> None:
    program = await new_program()
    rewards = [await new_reward(program, stock=1000), await new_reward(program)]
    members = [await rich_member(program, 10_000) for _ in range(5)]
    await redeem(program.id, [wanted(members[0], rewards[0])])
    requests = [wanted(member, reward) for member in members for reward in rewards for _ in range(3)]
    for batch in ([requests[0]], requests[1:]):
        async with counting() as counted:
            assert tally(await redeem(program.id, batch)).keys() == {"OK"}
        assert counted.numbers == (7, 1), counted.statements
    async with counting() as counted:
        assert tally(await redeem(program.id, requests)).keys() == {"REPLAYED"}
    assert counted.numbers == (5, 1), counted.statements
    # Limits cost one more, and so do the codes of a pool.
    vouchers = await new_reward(program, "VOUCHER", limits=RewardLimits(max_per_member=10))
    await load(program, vouchers, *(f"V-{n}" for n in range(100)))
    async with counting() as counted:
        await redeem(program.id, [wanted(member, vouchers, hold_seconds=9) for member in members])
    assert counted.numbers == (9, 1), counted.statements


async def test_fulfilling_at_once_with_the_same_note_is_done_once() -> None:
    program = await new_program()
    redemption = await redeemed(program, await rich_member(program), await new_reward(program))
    done = await all_at_once([lambda: fulfil(program.id, redemption.id, "parcel 7")] * 6)
    assert Counter(each.replayed for each in done) == {False: 1, True: 5}
