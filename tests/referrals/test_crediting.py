"""Referrals from enrolment to their points: who is credited, when, and by which rules."""

from tests.helpers import new_member, new_program
from tests.referrals.making import (
    BUYING,
    PENDING,
    available,
    buy,
    credited,
    friend_rule,
    new_friend,
    seen,
    worked,
)


async def test_joining_with_a_code_is_pending_until_a_worker_credits_both_sides() -> None:
    program = await new_program()
    await friend_rule(program, 100, 30)
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    assert await seen(ben) == PENDING
    assert await worked(program, ben) == credited(100, 30)
    assert (await available(ada), await available(ben)) == (100, 30)
    assert await worked(program, ben) == credited(100, 30)


async def test_the_first_purchase_brings_the_points_and_no_later_one_does() -> None:
    program = await new_program()
    await friend_rule(program, 100, 30, BUYING)
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    assert await worked(program, ben) == PENDING
    await buy(program, ben)
    assert await worked(program, ben) == credited(100, 30)
    await buy(program, ben)
    assert await worked(program, ben) == credited(100, 30)
    assert await available(ada) == 100
