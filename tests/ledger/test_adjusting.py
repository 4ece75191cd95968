"""Adjusting a balance by hand: checked, once for each key, never below zero."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from app.errors import ErrorCode, Refused
from app.ledger.adjusting import Adjustment, adjust_points
from app.ledger.operations import MAX_POINTS, EntryKind
from app.ledger.reads import get_balances
from app.members.inputs import MemberStatus
from app.members.reads import MemberRef, MemberRow
from app.members.service import update_member
from app.programs.models import Program
from tests.helpers import by_id, find_differences, new_member, new_program, policy_of, post


async def available(program: Program, member: MemberRow) -> int:
    (balance,) = await get_balances(await policy_of(program), [member.id])
    assert balance
    return balance.available


async def adjust(
    program: Program, member: MemberRow, points: int = 10, reason: str = "Goodwill", key: str = "key"
) -> Adjustment:
    return await adjust_points(program.id, by_id(member), points, reason, key)


async def refusal(*args: Any, **kwargs: Any) -> list[tuple[ErrorCode, tuple[str, ...] | None]]:
    with pytest.raises(Refused) as caught:
        await adjust(*args, **kwargs)
    return [(error.code, error.field) for error in caught.value.errors]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"points": 0}, "points"),
        ({"points": MAX_POINTS + 1}, "points"),
        ({"points": -MAX_POINTS - 1}, "points"),
        ({"reason": ""}, "reason"),
        ({"reason": "  "}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "a\0b"}, "reason"),
        ({"reason": "half \ud800"}, "reason"),
        ({"key": ""}, "idempotency_key"),
        ({"key": "x" * 256}, "idempotency_key"),
        ({"key": "a\0"}, "idempotency_key"),
        ({"key": "\udfff"}, "idempotency_key"),
    ],
)
async def test_what_is_wrong_is_told_by_field_and_changes_nothing(wrong: dict[str, Any], field: str) -> None:
    program = await new_program()
    member = await new_member(program)
    assert await refusal(program, member, **wrong) == [(ErrorCode.INVALID, (field,))]
    assert await available(program, member) == 0


async def test_everything_that_is_wrong_is_told_at_once() -> None:
    program = await new_program()
    errors = await refusal(program, await new_member(program), points=0, reason="", key="")
    assert [field for _, field in errors] == [("points",), ("reason",), ("idempotency_key",)]


async def test_points_are_added_and_taken() -> None:
    program = await new_program()
    member = await new_member(program)
    assert (await adjust(program, member, 30, key="a")).sequence == 1
    assert (await adjust(program, member, -12, key="b")).sequence == 2
    assert await available(program, member) == 18
    assert not await find_differences(program.id)


async def test_a_balance_does_not_go_below_zero_and_the_key_stays_free() -> None:
    program = await new_program()
    member = await new_member(program)
    await adjust(program, member, 10, key="a")
    assert await refusal(program, member, -11, key="b") == [(ErrorCode.INSUFFICIENT_POINTS, ("points",))]
    await adjust(program, member, 1, key="c")
    assert not (await adjust(program, member, -11, key="b")).replayed
    assert await available(program, member) == 0


async def test_a_key_is_replayed_for_the_same_request_even_when_it_could_not_be_done_again() -> None:
    program = await new_program()
    member = await new_member(program, email="ada@example.com")
    await adjust(program, member, 10, key="a")
    first = await adjust(program, member, -10, key="b")
    again = await adjust_points(program.id, MemberRef(email="ADA@example.com"), -10, "Goodwill", "b")
    assert (again.sequence, first.replayed, again.replayed) == (first.sequence, False, True)
    assert await available(program, member) == 0


async def test_a_key_stands_for_one_adjustment_in_the_whole_program() -> None:
    program, other_program = await new_program(), await new_program()
    member, other = await new_member(program), await new_member(program)
    await adjust(program, member)
    conflict = [(ErrorCode.IDEMPOTENCY_CONFLICT, ("idempotency_key",))]
    assert await refusal(program, member, 11) == conflict
    assert await refusal(program, member, reason="Correction") == conflict
    assert await refusal(program, other) == conflict
    assert await available(program, other) == 0
    assert not (await adjust(other_program, await new_member(other_program))).replayed


async def test_of_twenty_twins_at_once_one_is_applied() -> None:
    program = await new_program()
    member = await new_member(program)
    async with asyncio.timeout(30):
        done = await asyncio.gather(*(adjust(program, member) for _ in range(20)))
    assert Counter(each.replayed for each in done) == {False: 1, True: 19}
    assert {each.sequence for each in done} == {1}
    assert await available(program, member) == 10


async def test_of_two_members_at_once_one_gets_the_key() -> None:
    program = await new_program()
    members = [await new_member(program) for _ in range(6)]
    async with asyncio.timeout(30):
        done = await asyncio.gather(*(adjust(program, each) for each in members), return_exceptions=True)
    assert Counter(type(each) for each in done) == {Adjustment: 1, Refused: 5}
    assert sum([await available(program, each) for each in members]) == 10


async def test_racing_adjustments_never_take_more_than_there_is() -> None:
    program = await new_program()
    member = await new_member(program)
    await adjust(program, member, 100, key="start")
    async with asyncio.timeout(30):
        done = await asyncio.gather(
            *(adjust(program, member, -30, key=f"k{n}") for n in range(12)), return_exceptions=True
        )
    assert Counter(type(each) for each in done) == {Adjustment: 3, Refused: 9}
    assert await available(program, member) == 10
    assert not await find_differences(program.id)


async def test_a_closed_balance_stays_and_a_suspended_one_can_be_corrected() -> None:
    program = await new_program()
    member = await new_member(program)
    await adjust(program, member, key="before")
    await update_member(program.id, by_id(member), {"status": MemberStatus.SUSPENDED})
    await adjust(program, member, -1, key="while suspended")
    await update_member(program.id, by_id(member), {"status": MemberStatus.CLOSED})
    assert await refusal(program, member, key="after") == [(ErrorCode.WRONG_STATE, ("member",))]
    assert (await adjust(program, member, key="before")).replayed
    assert await available(program, member) == 9


async def test_nobody_and_a_stranger_are_unknown() -> None:
    program, stranger = await new_program(), await new_member(await new_program())
    for ref in (by_id(stranger), MemberRef(external_id="nobody"), MemberRef(email="\0")):
        with pytest.raises(Refused) as caught:
            await adjust_points(program.id, ref, 1, "x", "key")
        (error,) = caught.value.errors
        assert (error.code, error.field) == (ErrorCode.NOT_FOUND, ("member", ref.field))


async def test_more_than_can_be_counted_is_refused() -> None:
    program = await new_program()
    member = await new_member(program)
    await adjust(program, member, MAX_POINTS, key="a")
    assert await refusal(program, member, 1, key="b") == [(ErrorCode.LIMIT_REACHED, ("points",))]
    await adjust(program, member, -MAX_POINTS, key="c")
    assert await available(program, member) == 0
    await adjust(program, member, MAX_POINTS, key="d")
    assert not await find_differences(program.id)


async def test_an_adjustment_pays_a_debt_first() -> None:
    program = await new_program(debt_limit=100)
    member = await new_member(program)
    await post(program, member, EntryKind.EARN, 50)
    await post(program, member, EntryKind.REDEEM, 50)
    await post(program, member, EntryKind.CLAWBACK, 40, reference=1)
    assert await available(program, member) == -40
    await adjust(program, member, 30, key="a")
    assert await refusal(program, member, -1, key="b") == [(ErrorCode.INSUFFICIENT_POINTS, ("points",))]
    await adjust(program, member, 30, key="c")
    assert await available(program, member) == 20
    assert not await find_differences(program.id)
