"""A first purchase that is refunded as a whole takes back what it brought both sides, once."""

import asyncio
from decimal import Decimal

import pytest

from app.database import connection, transaction
from app.earning.refunding import EventRef, refund_purchase
from app.earning.remainders import Wish
from app.earning.rules import RuleLimits
from app.jobs.running import WORK
from app.ledger.operations import EntryKind
from app.members.reads import MemberRow
from app.outbox.service import Queue
from app.paging import Page
from app.programs.models import Program
from app.referrals import crediting, withdrawing, working
from app.referrals.reads import list_of_referrers
from app.tiers.policy import TierBasis, TierPolicy
from tests.helpers import Line, new_member, new_program, new_rule, post, work_all
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
from tests.tiers.climbing import tier_of
from tests.tiers.making import make_tier

CREDIT = WORK[Queue.REFERRALS]


async def two(program: Program) -> tuple[MemberRow, MemberRow]:
    """Return a member, and a friend whose first purchase pays both."""
    await friend_rule(program, 100, 30, BUYING)
    ada = await new_member(program)
    return ada, await new_friend(program, ada)


async def test_a_whole_refund_takes_both_credits_back_and_a_later_purchase_brings_them_anew() -> None:
    program = await new_program()
    ada, ben = await two(program)
    for _ in range(2):
        sale = await buy(program, ben)
        assert await worked(program, ben) == credited(100, 30)
        assert (await available(ada), await available(ben)) == (100, 30)
        await refund(program, sale)
        assert await worked(program, ben) == PENDING
        assert (await available(ada), await available(ben)) == (0, 0)
    for member, role in ((ada, "REFERRER"), (ben, "REFERRED")):
        topics = [topic for topic, _ in await told(member)]
        assert topics == ["referral.credited", "referral.taken_back"] * 2
        assert {payload["role"] for _, payload in await told(member)} == {role}


async def test_several_partial_refunds_come_to_a_whole_one() -> None:
    program = await new_program()
    ada, ben = await two(program)
    sale = await buy(program, ben, lines=[Line("a", Decimal(4)), Line("b", Decimal(6))])
    assert await worked(program, ben) == credited(100, 30)
    await refund_purchase(program.id, EventRef(id=sale), "r1", lines=[Wish(1, Decimal(1))])
    assert await worked(program, ben) == credited(100, 30)
    await refund_purchase(program.id, EventRef(id=sale), "r2", lines=[Wish(2, Decimal(1))])
    assert await worked(program, ben) == PENDING
    assert await available(ada) == 0


async def test_a_refund_of_another_purchase_takes_nothing() -> None:
    program = await new_program()
    ada, ben = await two(program)
    await buy(program, ben)
    second = await buy(program, ben)
    assert await worked(program, ben) == credited(100, 30)
    await refund(program, second)
    assert await worked(program, ben) == credited(100, 30)
    assert await available(ada) == 100


async def test_purchases_from_before_the_refund_are_no_later_ones() -> None:
    program = await new_program()
    _, ben = await two(program)
    first = await buy(program, ben)
    await buy(program, ben)
    await work_all(program)
    await refund(program, first)
    assert await worked(program, ben) == PENDING
    await buy(program, ben)
    assert await worked(program, ben) == credited(100, 30)


async def test_a_purchase_that_is_refunded_before_a_worker_comes_credits_nobody() -> None:
    program = await new_program()
    ada, ben = await two(program)
    await refund(program, await buy(program, ben))
    assert await worked(program, ben) == PENDING
    assert await available(ada) == 0
    await buy(program, ben)
    assert await worked(program, ben) == credited(100, 30)


async def test_a_refund_between_the_two_sides_takes_back_the_first_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = await new_program()
    ada, ben = await two(program)
    sale = await buy(program, ben)
    original = crediting.credit_referred

    async def refunded_first(*args: object) -> None:
        monkeypatch.undo()
        await refund(program, sale)
        await original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(working, "credit_referred", refunded_first)
    assert await worked(program, ben) == PENDING
    assert [topic for topic, _ in await told(ada)] == ["referral.credited", "referral.taken_back"]
    assert await told(ben) == []


async def test_what_was_spent_is_owed_or_written_off_as_in_any_refund() -> None:
    program = await new_program(debt_limit=70)
    ada, ben = await two(program)
    sale = await buy(program, ben)
    await work_all(program)
    await post(program, ada, EntryKind.REDEEM, 90)
    await refund(program, sale)
    assert await worked(program, ben) == credited(20, 0)
    assert (await available(ada), await available(ben)) == (-70, 0)
    assert [payload["points"] for topic, payload in await told(ada) if "taken" in topic] == [80]
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT f.points, f.debt, f.written_off FROM refund f"
            " JOIN refund_request q ON q.id = f.request_id"
            " WHERE q.program_id = $1 AND q.kind = 'REFERRAL' AND q.member_id = $2",
            program.id,
            ada.id,
        )
    assert [tuple(row) for row in rows] == [(80, 70, 20)]


async def test_points_that_were_spent_before_the_refund_are_not_paid_again_and_again() -> None:
    """Spent, refunded, bought anew: a pair would mint points without end, whatever the limits say."""
    program = await new_program()
    limits = RuleLimits(max_times_per_member=1, max_points_per_day=100, budget=150)
    await friend_rule(program, 100, 30, BUYING, limits=limits)
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    for n in range(3):
        sale = await buy(program, ben)
        assert await worked(program, ben) == credited(100, 30 if n == 0 else 0)
        if n == 0:
            await post(program, ada, EntryKind.REDEEM, 100)
        await refund(program, sale)
        assert await worked(program, ben) == credited(100, 0)
    assert (await available(ada), await available(ben)) == (0, 0)
    assert [topic for topic, _ in await told(ada)] == ["referral.credited"]
    # Nor by another friend: the referrer's limits still count the one who was paid for.
    cleo = await new_friend(program, ada)
    await buy(program, cleo)
    assert await worked(program, cleo) == rejected("LIMIT_REACHED")


async def test_what_the_friend_has_spent_frees_no_room_either() -> None:
    program = await new_program()
    await friend_rule(program, 100, 30, BUYING, limits=RuleLimits(max_times_per_member=1))
    ada = await new_member(program)
    ben, cleo = await new_friend(program, ada), await new_friend(program, ada)
    sale = await buy(program, ben)
    await work_all(program)
    await post(program, ben, EntryKind.REDEEM, 30)
    await refund(program, sale)
    assert await worked(program, ben) == credited(0, 30)
    await buy(program, ben)
    await buy(program, cleo)
    assert await worked(program, ben) == credited(0, 30)
    assert await seen(cleo) == rejected("LIMIT_REACHED")
    (read,) = (await list_of_referrers(program.id, [ada.id], Page(5)))[0].items[1:]
    assert (read.referrer_points, read.referred_points) == (0, 30)


async def test_a_refund_between_the_two_sides_of_what_was_spent_ends_it_credited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = await new_program()
    ada, ben = await two(program)
    sale = await buy(program, ben)
    original = crediting.credit_referred

    async def refunded_first(*args: object) -> None:
        monkeypatch.undo()
        await post(program, ada, EntryKind.REDEEM, 100)
        await refund(program, sale)
        await original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(working, "credit_referred", refunded_first)
    assert await worked(program, ben) == credited(100, 0)
    await buy(program, ben)
    assert await worked(program, ben) == credited(100, 0)


async def test_what_was_written_off_counts_towards_no_tier() -> None:
    program = await new_program(tier_policy=TierPolicy(TierBasis.POINTS_EARNED))
    tier = await make_tier(program.id, 100)
    ada, ben = await two(program)
    sale = await buy(program, ben)
    await work_all(program)
    assert await tier_of(program, ada) == tier.id
    await post(program, ada, EntryKind.REDEEM, 100)
    await refund(program, sale)
    assert await worked(program, ben) == credited(100, 0)
    assert await tier_of(program, ada) is None


async def test_a_purchase_that_came_to_nothing_is_no_first_purchase() -> None:
    program = await new_program()
    _, ben = await two(program)
    await buy(program, ben, "0")
    assert await worked(program, ben) == PENDING
    await buy(program, ben, "0.01")
    assert await worked(program, ben) == credited(100, 30)


async def test_budgets_and_days_get_their_points_back() -> None:
    program = await new_program(max_points_per_day=1000)
    await friend_rule(program, 100, 30, BUYING, limits=RuleLimits(budget=130, max_points_per_day=100))
    await new_rule(program, 1)
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    for _ in range(3):
        sale = await buy(program, ben)
        assert await worked(program, ben) == credited(100, 30)
        await refund(program, sale)
        assert await worked(program, ben) == PENDING


async def test_what_joining_brought_stays_when_the_purchase_goes_back() -> None:
    program = await new_program()
    await friend_rule(program, 10, 1)
    ada, ben = await two(program)
    sale = await buy(program, ben)
    assert await worked(program, ben) == credited(110, 31)
    await refund(program, sale)
    assert await worked(program, ben) == credited(10, 1)
    await buy(program, ben)
    assert await worked(program, ben) == credited(110, 31)
    assert await available(ada) == 110


@pytest.mark.parametrize("side", ["REFERRER", "REFERRED"])
async def test_a_worker_that_dies_between_the_two_sides_is_no_loss(
    monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """On the way there it dies before the friend's side; on the way back before, or after, the referrer's."""
    program = await new_program()
    ada, ben = await two(program)
    sale = await buy(program, ben)

    async def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(working, "credit_referred", dies)
        with pytest.raises(KeyboardInterrupt):
            await CREDIT(program.id, [ben.id], None)
    assert (await available(ada), await available(ben)) == (100, 0)
    assert (await seen(ben)).status == "PENDING"
    assert await differences(program) == []
    assert await worked(program, ben) == credited(100, 30)
    await refund(program, sale)
    original = withdrawing.take_back_side

    async def dies_at(*args: object) -> None:
        if args[-1] == side:
            raise KeyboardInterrupt
        await original(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(working, "take_back_side", dies_at)
        with pytest.raises(KeyboardInterrupt):
            await CREDIT(program.id, [ben.id], None)
    assert (await available(ada), await available(ben)) == ((100, 30) if side == "REFERRER" else (0, 30))
    assert await differences(program) == []
    assert await worked(program, ben) == PENDING
    assert (await available(ada), await available(ben)) == (0, 0)


async def test_workers_with_the_same_batch_do_everything_once() -> None:
    program = await new_program()
    await friend_rule(program, 10, 1)
    ada, ben = await two(program)
    sale = await buy(program, ben)
    await asyncio.gather(*(CREDIT(program.id, [ben.id], None) for _ in range(4)))
    assert await seen(ben) == credited(110, 31)
    await refund(program, sale)
    await asyncio.gather(*(CREDIT(program.id, [ben.id], None) for _ in range(4)))
    assert await worked(program, ben) == credited(10, 1)
    assert (await available(ada), await available(ben)) == (10, 1)
    assert [topic for topic, _ in await told(ada)] == ["referral.credited"] * 2 + ["referral.taken_back"]


async def test_a_refund_beside_the_worker_leaves_nothing_behind() -> None:
    program = await new_program()
    ada, ben = await two(program)
    for _ in range(5):
        sale = await buy(program, ben)
        await asyncio.gather(CREDIT(program.id, [ben.id], None), refund(program, sale))
        assert await worked(program, ben) == PENDING
        assert (await available(ada), await available(ben)) == (0, 0)


async def test_a_referral_that_was_rejected_stays_rejected() -> None:
    program = await new_program()
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    assert await worked(program, ben) == rejected("NO_ACTIVE_RULE")
    await friend_rule(program, trigger=BUYING)
    await refund(program, await buy(program, ben))
    await buy(program, ben)
    assert await worked(program, ben) == rejected("NO_ACTIVE_RULE")


async def test_work_that_is_left_twice_is_done_once() -> None:
    program = await new_program()
    _, ben = await two(program)
    await buy(program, ben)
    async with transaction() as sql:
        await sql.execute(
            "INSERT INTO outbox (queue, program_id, members, items, created_at)"
            " VALUES ('referrals', $1, $2, 1, now())",
            program.id,
            [ben.id, ben.id],
        )
    assert await worked(program, ben) == credited(100, 30)
