"""Limits of rules for referrals: they count the friends of whoever brought them."""

import asyncio

import pytest

from app.earning.rules import Frequency, Period, RuleLimits
from app.jobs.running import WORK
from app.outbox.service import Queue
from tests.helpers import new_member, new_program, set_now, work_all
from tests.referrals.making import (
    BUYING,
    PENDING,
    available,
    buy,
    credited,
    differences,
    friend_rule,
    new_friend,
    refund,
    rejected,
    seen,
    told,
    worked,
)

ONE_FRIEND = RuleLimits(max_times_per_member=1)


@pytest.mark.parametrize("fixed", [100, None])
async def test_so_many_friends_and_no_more_even_where_only_the_friend_is_paid(fixed: int | None) -> None:
    program = await new_program()
    await friend_rule(program, fixed, 30, limits=RuleLimits(max_times_per_member=2))
    ada = await new_member(program)
    friends = [await new_friend(program, ada) for _ in range(3)]
    await work_all(program)
    points = fixed or 0
    assert [await seen(each) for each in friends] == [
        credited(points, 30),
        credited(points, 30),
        rejected("LIMIT_REACHED"),
    ]
    assert await differences(program) == []
    assert "LIMIT_REACHED" in str(await told(ada))


@pytest.mark.parametrize(
    "limits",
    [RuleLimits(frequency=Frequency(1, Period.DAY)), RuleLimits(cooldown_minutes=60)],
)
async def test_frequency_and_cooldown_go_by_the_friends(
    monkeypatch: pytest.MonkeyPatch, limits: RuleLimits
) -> None:
    set_now(monkeypatch, 2026, 3, 2, 10)
    program = await new_program()
    await friend_rule(program, limits=limits)
    ada = await new_member(program)
    first = await new_friend(program, ada)
    second = await new_friend(program, ada)
    set_now(monkeypatch, 2026, 3, 3, 10)
    third = await new_friend(program, ada)
    await work_all(program)
    assert await seen(first) == credited(100, 30)
    assert await seen(second) == rejected("LIMIT_REACHED")
    assert await seen(third) == credited(100, 30)


@pytest.mark.parametrize(
    ("program_settings", "limits", "second"),
    [
        ({}, RuleLimits(max_points_per_day=150), credited(50, 30)),
        ({}, RuleLimits(max_points_per_day=100), rejected("LIMIT_REACHED")),
        ({}, RuleLimits(budget=240), credited(100, 10)),
        ({}, RuleLimits(budget=130), rejected("LIMIT_REACHED")),
        ({"max_points_per_day": 100}, RuleLimits(), rejected("LIMIT_REACHED")),
    ],
)
async def test_limits_that_trim_leave_less_or_turn_away(
    program_settings: dict[str, int], limits: RuleLimits, second: object
) -> None:
    program = await new_program(**program_settings)
    await friend_rule(program, limits=limits)
    ada = await new_member(program)
    friends = [await new_friend(program, ada) for _ in range(2)]
    await work_all(program)
    assert await seen(friends[0]) == credited(100, 30)
    assert await seen(friends[1]) == second
    assert await differences(program) == []


async def test_one_rule_may_be_at_its_limit_while_another_pays_both_sides() -> None:
    program = await new_program()
    await friend_rule(program, 100, 30, limits=ONE_FRIEND)
    await friend_rule(program, 10, 3)
    ada = await new_member(program)
    friends = [await new_friend(program, ada) for _ in range(2)]
    await work_all(program)
    assert [await seen(each) for each in friends] == [credited(110, 33), credited(10, 3)]


async def test_a_limit_at_joining_leaves_the_first_purchase_to_come() -> None:
    program = await new_program()
    await friend_rule(program, 100, 30, limits=ONE_FRIEND)
    await friend_rule(program, 10, 3, BUYING)
    ada = await new_member(program)
    friends = [await new_friend(program, ada) for _ in range(2)]
    await work_all(program)
    assert [await seen(each) for each in friends] == [credited(100, 30), PENDING]
    for each in friends:
        await buy(program, each)
    await work_all(program)
    assert [await seen(each) for each in friends] == [credited(110, 33), credited(10, 3)]


async def test_what_was_taken_back_leaves_room_for_another_friend() -> None:
    program = await new_program()
    await friend_rule(program, trigger=BUYING, limits=ONE_FRIEND)
    ada = await new_member(program)
    ben, cleo = await new_friend(program, ada), await new_friend(program, ada)
    sale = await buy(program, ben)
    assert await worked(program, ben) == credited(100, 30)
    await refund(program, sale)
    await work_all(program)
    await buy(program, cleo)
    assert await worked(program, cleo) == credited(100, 30)
    await buy(program, ben)
    assert await worked(program, ben) == rejected("LIMIT_REACHED")


async def test_two_friends_at_once_find_room_for_one() -> None:
    program = await new_program()
    await friend_rule(program, limits=ONE_FRIEND)
    ada = await new_member(program)
    friends = [await new_friend(program, ada) for _ in range(4)]
    credit = WORK[Queue.REFERRALS]
    await asyncio.gather(*(credit(program.id, [each.id], None) for each in friends))
    results = [await seen(each) for each in friends]
    assert results.count(credited(100, 30)) == 1
    assert results.count(rejected("LIMIT_REACHED")) == 3
    assert await available(ada) == 100
    await work_all(program)
    assert await differences(program) == []
