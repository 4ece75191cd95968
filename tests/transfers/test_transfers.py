"""Points move from one member to another: with their expiry, once, and visible on their way."""

import asyncio
from datetime import UTC, date, datetime

import pytest

from app.database import connection, transaction
from app.ids import to_global_id
from app.ledger.expiry import NEVER
from app.ledger.operations import MAX_POINTS, EntryKind
from app.members.reads import MemberRef
from app.outbox.service import Queue
from app.redemptions.expiring import release_due
from app.transfers.arriving import arrive_members
from app.transfers.sending import Sending, send
from tests.helpers import (
    by_id,
    find_differences,
    inactivity,
    new_member,
    new_program,
    post,
    set_now,
    stamp_all,
    work_all,
)
from tests.redemptions.making import balance_of, earn, new_reward, redeemed, rich_member
from tests.transfers.making import (
    APRIL,
    MARCH,
    MAY,
    entries,
    lots,
    messages,
    refused,
    sent,
    set_status,
    total,
    transfers,
)


async def test_points_leave_are_in_transit_and_arrive_with_the_expiry_of_each_lot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = set_now(monkeypatch, 2026, 3, 2, 10)
    program = await new_program()
    ann, bob = await new_member(program), await new_member(program)
    for points, day in ((10, APRIL), (20, MARCH), (30, MAY), (5, APRIL), (7, NEVER)):
        await earn(program, ann, points, day)
    await earn(program, ann, 50, MARCH, date(2026, 3, 20))
    first = await sent(program, ann, bob, 45)
    assert not first.replayed
    assert await entries(ann) == [
        *(("EARN", points, None) for points in (10, 20, 30, 5, 7)),
        ("EARN", 0, None),
        ("REDEEM", -45, f"To {bob.external_id}"),
    ]
    ann_has, bob_has = await balance_of(program, ann), await balance_of(program, bob)
    assert (ann_has.available, ann_has.pending, ann_has.in_transit, ann_has.lifetime_spent) == (27, 50, 0, 45)
    assert (bob_has.available, bob_has.in_transit, bob_has.lifetime_earned) == (0, 45, 0)
    assert await transfers(program) == [("IN_TRANSIT", 45, 0)]
    assert not await find_differences(program.id)

    set_now(monkeypatch, 2026, 3, 2, 11)
    await work_all(program)
    assert await lots(bob) == {MARCH: 20, APRIL: 15, MAY: 10}
    assert await lots(ann) == {MAY: 20, NEVER: 7}
    assert await entries(bob) == [("EARN", points, f"From {ann.external_id}") for points in (20, 15, 10)]
    assert (await balance_of(program, bob))[1:8] == (45, 0, 0, 45, 0, 0, date(2026, 4, 1))
    assert (await balance_of(program, bob)).in_transit == 0
    assert await transfers(program) == [("ARRIVED", 45, 0)]
    async with connection() as sql:
        when = await sql.fetch(
            "SELECT DISTINCT occurred_at, recorded_at, matures_on FROM ledger_entry WHERE account_id = $1",
            bob.id,
        )
        (transfer_id,) = await sql.fetchrow("SELECT id FROM transfer WHERE program_id = $1", program.id)
    assert [tuple(row) for row in when] == [(now, datetime(2026, 3, 2, 11, tzinfo=UTC), date(2026, 3, 2))]
    ids = {"transferId": to_global_id("Transfer", transfer_id)}
    to, from_ = (
        {"toMemberId": to_global_id("Member", bob.id)},
        {"fromMemberId": to_global_id("Member", ann.id)},
    )
    assert await messages(program, "transfer.sent") == [(ann.id, ids | to | {"points": 45, "available": 27})]
    assert await messages(program, "transfer.received") == [
        (bob.id, ids | from_ | {"points": 45, "expired": 0, "available": 45})
    ]
    assert not await find_differences(program.id)


async def test_the_same_key_sends_once_and_answers_with_the_same_entry() -> None:
    program = await new_program()
    ann, bob, eve = (
        await rich_member(program),
        await new_member(program, email="b@c.org"),
        await new_member(program),
    )
    first = await sent(program, ann, bob, 100, "key")
    again = await sent(program, ann, bob, 100, "key")
    assert (again.sequence, again.replayed) == (first.sequence, True)
    conflict = [("IDEMPOTENCY_CONFLICT", ("idempotency_key",))]
    for sender, receiver, points in ((ann, bob, 101), (ann, eve, 100), (bob, ann, 100)):
        assert await refused(program, Sending(by_id(sender), by_id(receiver), points, "key")) == conflict
    await work_all(program)
    # However little is left, however the receiver is named, and whatever became of them.
    await post(program, ann, EntryKind.ADJUST, -900)
    await set_status(program, bob, "CLOSED")
    third = await sent(program, ann, bob, 100, "key")
    assert (third.sequence, third.replayed) == (first.sequence, True)
    other_name = Sending(by_id(ann), MemberRef(email="B@C.org"), 100, "key")
    assert await refused(program, other_name._replace(points=7)) == conflict
    assert await transfers(program) == [("ARRIVED", 100, 0)]
    # A member's own keys are another's than the program's; a reservation's or a redemption's, too.
    own = Sending(by_id(ann), by_id(eve), 1, "key", caller=ann.id)
    assert await refused(program, own) == [("INSUFFICIENT_POINTS", ("points",))]
    assert not await find_differences(program.id)


async def test_a_transfer_that_nothing_stands_for_is_refused_and_changes_nothing() -> None:
    program, elsewhere = await new_program(), await new_program()
    ann, bob = await rich_member(program, 100), await new_member(program)
    stranger = await rich_member(elsewhere)
    good = Sending(by_id(ann), by_id(bob), 10, "key")
    for points in (0, -1, MAX_POINTS + 1):
        assert await refused(program, good._replace(points=points)) == [("INVALID", ("points",))]
    several = await refused(program, good._replace(points=0, key=""))
    assert several == [("INVALID", ("points",)), ("INVALID", ("idempotency_key",))]
    nobody = good._replace(sender=by_id(stranger), receiver=MemberRef(external_id="nobody"))
    missing = [("NOT_FOUND", ("from", "id")), ("NOT_FOUND", ("to", "external_id"))]
    assert await refused(program, nobody) == missing
    assert await refused(program, good._replace(receiver=by_id(ann))) == [("INVALID", ("to",))]
    assert await refused(program, good._replace(points=101)) == [("INSUFFICIENT_POINTS", ("points",))]
    for status in ("SUSPENDED", "CLOSED"):
        await set_status(program, bob, status)
        assert await refused(program, good) == [("NOT_ELIGIBLE", ("to",))]
        back = good._replace(sender=by_id(bob), receiver=by_id(ann))
        assert await refused(program, back) == [("NOT_ELIGIBLE", ("from",))]
        # A member's own token learns no more than that there is nobody, whatever stands under its key.
        own = good._replace(caller=ann.id)
        assert await refused(program, own) == [("NOT_FOUND", ("to", "id"))]
    eve = await new_member(program)
    await sent(program, ann, eve, 1)
    await send(program.id, Sending(by_id(ann), by_id(eve), 1, "used", caller=ann.id))
    # Nor is there a way to find out without the points, or under a key that was used.
    nobody = MemberRef(external_id="nobody")
    for receiver in (by_id(bob), nobody, by_id(eve)):
        own = good._replace(caller=ann.id, receiver=receiver)
        short = [("INSUFFICIENT_POINTS", ("points",))]
        assert await refused(program, own._replace(points=99)) == short
        conflict = [("IDEMPOTENCY_CONFLICT", ("idempotency_key",))]
        assert await refused(program, own._replace(key="used")) == conflict
    own = good._replace(caller=ann.id, receiver=nobody)
    assert await refused(program, own) == [("NOT_FOUND", ("to", "external_id"))]
    assert await transfers(program) == [("IN_TRANSIT", 1, 0), ("IN_TRANSIT", 1, 0)]
    assert (await balance_of(program, ann)).available == 98
    assert not await find_differences(program.id)


async def test_a_debt_can_send_nothing_and_is_paid_first_by_what_arrives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 2, 10)
    program = await new_program(debt_limit=1000)
    ann, bob = await new_member(program), await new_member(program)
    entry = await earn(program, bob, 25, MAY)
    await post(program, bob, EntryKind.REDEEM, 25)
    await post(program, bob, EntryKind.CLAWBACK, 25, reference=entry)
    assert (await balance_of(program, bob)).available == -25
    owing = Sending(by_id(bob), by_id(ann), 1, "owing")
    assert await refused(program, owing) == [("INSUFFICIENT_POINTS", ("points",))]
    for day in (MARCH, APRIL):
        await earn(program, ann, 20, day)
    await sent(program, ann, bob, 40)
    await work_all(program)
    assert (await balance_of(program, bob)).available == 15
    assert await lots(bob) == {APRIL: 15}
    assert not await find_differences(program.id)


async def test_what_expires_on_the_way_is_counted_and_told_and_not_earned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 31, 20)
    program = await new_program(timezone="Europe/Berlin")
    ann, bob = await new_member(program), await new_member(program)
    for points, day in ((10, MARCH), (20, APRIL), (30, MAY)):
        await earn(program, ann, points, day)
    for points in (7, 13, 40):
        await sent(program, ann, bob, points)
    assert (await balance_of(program, bob)).in_transit == 60
    # Two hours later it is April there.
    set_now(monkeypatch, 2026, 3, 31, 22, 30)
    assert (await balance_of(program, bob)).in_transit == 50
    everything = await total(program)
    await work_all(program)
    assert await transfers(program) == [("ARRIVED", 7, 7), ("ARRIVED", 13, 3), ("ARRIVED", 40, 0)]
    assert await lots(bob) == {APRIL: 20, MAY: 30}
    told = [said for _, said in await messages(program, "points.expired")]
    sums = ["points", "available", "pending", "day"]
    assert [[said[name] for name in sums] for said in told] == [
        [7, 0, 0, "2026-04-01"],
        [3, 10, 0, "2026-04-01"],
    ]
    received = [said for _, said in await messages(program, "transfer.received")]
    assert [(said["points"], said["expired"], said["available"]) for said in received] == [
        (0, 7, 0), (10, 3, 10), (40, 0, 50),
    ]  # fmt: skip
    assert await total(program) == everything
    assert not await find_differences(program.id)


async def test_a_suspended_receiver_still_gets_what_was_on_its_way() -> None:
    program = await new_program()
    ann, bob = await rich_member(program), await new_member(program)
    await sent(program, ann, bob, 100)
    await set_status(program, bob, "SUSPENDED")
    await set_status(program, ann, "CLOSED")
    await work_all(program)
    assert (await balance_of(program, bob)).available == 100
    assert await transfers(program) == [("ARRIVED", 100, 0)]


async def test_what_a_closed_membership_cannot_have_goes_back_and_what_expired_comes_back_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 31, 10)
    program = await new_program()
    ann, bob = await new_member(program), await new_member(program)
    await earn(program, ann, 10, MARCH)
    await earn(program, ann, 20, MAY)
    await sent(program, ann, bob, 25)
    everything = await total(program)
    await set_status(program, bob, "CLOSED")
    set_now(monkeypatch, 2026, 4, 1, 10)
    await work_all(program)
    assert await transfers(program) == [("RETURNED", 25, 0)]
    assert await lots(ann) == {MAY: 20}
    assert await entries(bob) == []
    assert (await entries(ann))[3:] == [
        ("RESTORE", 25, f"Back from {bob.external_id}"),
        ("EXPIRE", -10, None),
    ]
    ann_has = await balance_of(program, ann)
    assert (ann_has.available, ann_has.lifetime_spent, ann_has.lifetime_expired) == (20, 0, 10)
    ((whose, said),) = await messages(program, "transfer.returned")
    assert (whose, said["points"], said["toMemberId"]) == (ann.id, 25, to_global_id("Member", bob.id))
    assert len(await messages(program, "points.expired")) == 1
    assert await total(program) == everything
    assert not await find_differences(program.id)


async def test_what_nobody_could_count_goes_back_and_the_rest_arrives() -> None:
    program = await new_program()
    ann, bob = await rich_member(program, 1000), await rich_member(program, MAX_POINTS - 100)
    for points in (60, 50, 40):
        await sent(program, ann, bob, points)
    await work_all(program)
    assert await transfers(program) == [("ARRIVED", 60, 0), ("RETURNED", 50, 0), ("ARRIVED", 40, 0)]
    assert (await balance_of(program, bob)).available == MAX_POINTS
    assert (await balance_of(program, ann)).available == 900
    assert not await find_differences(program.id)


async def test_reservations_of_the_sender_that_ran_out_are_released_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 2, 10)
    program = await new_program()
    ann, bob = await rich_member(program, 100), await new_member(program)
    mug = await new_reward(program)
    await redeemed(program, ann, mug, hold_seconds=60)
    whole = Sending(by_id(ann), by_id(bob), 100, "key")
    assert await refused(program, whole) == [("INSUFFICIENT_POINTS", ("points",))]
    set_now(monkeypatch, 2026, 3, 2, 10, 2)
    await sent(program, ann, bob, 100)
    assert await release_due(program.id) == 0
    assert not await find_differences(program.id)


async def test_points_that_live_as_long_as_their_account_move_to_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 31, 10)
    program = await new_program(expiry=inactivity(1))
    ann, bob = await rich_member(program, 100), await new_member(program)
    set_now(monkeypatch, 2026, 2, 20, 10)
    await sent(program, ann, bob, 60)
    set_now(monkeypatch, 2026, 3, 20, 10)
    await work_all(program)
    # Sending and receiving both are signs of life.
    assert (await balance_of(program, ann)).available == 40
    set_now(monkeypatch, 2026, 4, 20, 10)
    assert (await balance_of(program, ann)).available == 0
    assert (await balance_of(program, bob)).available == 60
    set_now(monkeypatch, 2026, 4, 21, 10)
    assert (await balance_of(program, bob)).available == 0
    assert not await find_differences(program.id)


async def test_there_and_back_at_once_and_the_same_points_twice() -> None:
    program = await new_program()
    ann, bob = await rich_member(program, 100), await rich_member(program, 100)
    done = await asyncio.gather(
        *(sent(program, *pair, 60) for pair in ((ann, bob), (bob, ann), (ann, bob), (bob, ann))),
        *(sent(program, ann, bob, 40, "the same") for _ in range(4)),
        return_exceptions=True,
    )
    by_pair = [sum(not isinstance(done[n], BaseException) for n in pair) for pair in ((0, 2), (1, 3))]
    same = [each for each in done[4:] if not isinstance(each, BaseException)]
    assert by_pair == [1, 1]
    assert len(same) == 4
    assert [each.replayed for each in same].count(False) == 1
    assert await total(program) == 200
    assert not await find_differences(program.id)
    batches = await stamp_all(program, Queue.TRANSFERS)
    members = [ann.id, bob.id]
    await asyncio.gather(
        *(arrive_members(program.id, members, batch) for batch in (*batches, *batches, None)),
        *(sent(program, ann, bob, 1) for _ in range(3)),
        return_exceptions=True,
    )
    await work_all(program)
    assert {status for status, _, _ in await transfers(program)} == {"ARRIVED"}
    assert await total(program) == 200
    assert not await find_differences(program.id)


async def test_what_fails_for_one_sender_keeps_nothing_from_the_others_and_is_put_aside() -> None:
    program = await new_program()
    ann, bob, eve = [await rich_member(program) for _ in range(3)]
    for sender in (ann, bob, ann):
        await sent(program, sender, eve, 10)
    await set_status(program, eve, "CLOSED")
    async with transaction() as sql:
        await sql.execute("DELETE FROM allocation WHERE account_id = $1", ann.id)
    batches = await stamp_all(program, Queue.TRANSFERS)
    with pytest.raises(Exception, match="cannot be given back"):
        await arrive_members(program.id, [eve.id], batches[0])
    statuses = [status for status, _, _ in await transfers(program)]
    assert statuses == ["IN_TRANSIT", "RETURNED", "IN_TRANSIT"]
    assert await stamp_all(program, Queue.TRANSFERS) == batches


async def test_more_than_one_transaction_holds_are_worked_off(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await new_program()
    ann, bob = await rich_member(program), await new_member(program)
    for _ in range(7):
        await sent(program, ann, bob, 1)
    monkeypatch.setattr("app.transfers.arriving._BATCH", 3)
    assert await arrive_members(program.id, [bob.id], None) == 7
    assert await arrive_members(program.id, [bob.id], None) == 0
