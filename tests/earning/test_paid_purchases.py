"""Purchases that name the points payment that covered a part of them: what is taken, and what is refused."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from app import clock
from app.earning.events import Event, Incoming
from app.earning.reads import find_event, get_explanations
from app.earning.recording import Recorded, record_now, store
from app.earning.simulation import simulate
from app.errors import Refused
from app.ids import new_id
from app.ledger.operations import EntryKind
from app.members.reads import MemberRow
from app.programs.service import update_program
from tests.earning.paying import Paid, pay, set_status
from tests.earning.shop import Shop
from tests.helpers import by_id, find_differences, new_member, new_program, post, purchase

Record = Callable[[UUID, Sequence[Incoming]], Awaitable[list[Recorded]]]


async def rich(shop: Shop, points: int = 10_000) -> MemberRow:
    """Enrol a member who has points to pay with."""
    member = await shop.member()
    await post(shop.program, member, EntryKind.ADJUST, points)
    return member


def paying(
    member: MemberRow, paid: Paid | UUID | None, amount: str = "100", name: str | None = None
) -> Incoming:
    """Return a purchase that a redemption pays a part of."""
    redemption_id = paid.id if isinstance(paid, Paid) else paid
    return Incoming(purchase(amount, name), by_id(member), redemption_id=redemption_id)


def errors(recorded: Recorded) -> list[tuple[str, ...]]:
    assert recorded.event is None
    return [(error.code, *(error.field or ())) for error in recorded.errors]


def message(recorded: Recorded) -> str:
    (error,) = recorded.errors
    return error.message


async def kept(shop: Shop, event: Event | None) -> Event:
    """Return an event as it is kept, after workers did what they had to."""
    assert event
    await shop.work()
    found = await find_event(shop.program.id, event.external_id)
    assert found
    return found


@pytest.mark.parametrize("record", [record_now, store])
async def test_the_part_that_a_redemption_paid_earns_nothing(record: Record) -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await rich(shop)
    paid = await pay(shop.program, member, 2000, "20.00")
    (recorded,) = await record(shop.program.id, [paying(member, paid)])
    event = await kept(shop, recorded.event)
    assert (event.points, event.redemption_id, event.points_amount) == (80, paid.id, Decimal("20.00"))
    (outcomes,) = await get_explanations(shop.program.id, [event.id])
    assert [outcome.points for outcome in outcomes] == [80]
    await shop.verify()


@pytest.mark.parametrize("record", [record_now, store])
async def test_it_earns_where_the_program_says_so(record: Record) -> None:
    shop = await Shop.open(earn_on_points_payments=True)
    await shop.rule()
    member = await rich(shop)
    (recorded,) = await record(
        shop.program.id, [paying(member, await pay(shop.program, member, 2000, "20.00"))]
    )
    event = await kept(shop, recorded.event)
    assert event.points == 100
    # What counted when it was earned counts when it is explained.
    await update_program(shop.program.id, {"earn_on_points_payments": False})
    (outcomes,) = await get_explanations(shop.program.id, [event.id])
    assert [outcome.points for outcome in outcomes] == [100]


async def test_a_purchase_may_be_paid_with_points_as_a_whole_and_not_by_more() -> None:
    shop = await Shop.open()
    await shop.rule(fixed=5)
    member = await rich(shop)
    paid = await pay(shop.program, member, 2000, "20.00")
    (less,) = await record_now(shop.program.id, [paying(member, paid, "19.99")])
    assert errors(less) == [("INVALID", "redemption_id")]
    assert message(less) == "The redemption takes 20.00 off, and the purchase comes to 19.99."
    (whole,) = await record_now(shop.program.id, [paying(member, paid, "20")])
    assert whole.event
    assert whole.event.points == 0
    (plain,) = await record_now(shop.program.id, [paying(member, None, "20")])
    assert plain.event
    assert plain.event.points == 5


async def test_what_is_not_this_members_redemption_is_none() -> None:
    shop, elsewhere = await Shop.open(), await Shop.open()
    member, other, stranger = await rich(shop), await rich(shop), await rich(elsewhere)
    nobodys: list[Paid | UUID] = [
        new_id(),
        await pay(shop.program, other, 100, "1"),
        await pay(elsewhere.program, stranger, 100, "1"),
        await pay(shop.program, other, 100, "1", status="CANCELLED"),
    ]
    recorded = await record_now(shop.program.id, [paying(member, paid) for paid in nobodys])
    assert [errors(each) for each in recorded] == [[("NOT_FOUND", "redemption_id")]] * 4
    assert {message(each) for each in recorded} == {"The member has no such redemption."}


async def test_a_redemption_of_another_kind_pays_for_nothing() -> None:
    shop = await Shop.open()
    member = await rich(shop)
    paid = await pay(shop.program, member, 100, "1", kind="GIFT_CARD")
    (recorded,) = await record_now(shop.program.id, [paying(member, paid)])
    assert errors(recorded) == [("INVALID", "redemption_id")]


@pytest.mark.parametrize(
    ("status", "tells"),
    [
        ("RESERVED", "The redemption is reserved: capture it before the purchase is recorded."),
        ("EXPIRED", "The redemption is expired and pays for nothing."),
        ("CANCELLED", "The redemption is cancelled and pays for nothing."),
        ("FULFILLED", None),
        ("USED", None),
    ],
)
async def test_only_a_redemption_that_stands_pays(status: str, tells: str | None) -> None:
    shop = await Shop.open()
    member = await rich(shop)
    paid = await pay(shop.program, member, 100, "1", status=status)
    (recorded,) = await record_now(shop.program.id, [paying(member, paid)])
    if tells is None:
        assert recorded.event
    else:
        assert errors(recorded) == [("WRONG_STATE", "redemption_id")]
        assert message(recorded) == tells


@pytest.mark.parametrize("record", [record_now, store])
async def test_a_redemption_pays_for_one_purchase_only(record: Record) -> None:
    shop = await Shop.open()
    member = await rich(shop)
    paid, other = [await pay(shop.program, member, 100, "1") for _ in range(2)]
    # Of two in a batch the first wins, whatever its name, and the others are none the worse for it.
    first, second, third = await record(
        shop.program.id,
        [paying(member, paid, name="z"), paying(member, paid, name="a"), paying(member, other)],
    )
    assert first.event
    assert third.event
    assert errors(second) == [("WRONG_STATE", "redemption_id")]
    (later,) = await record(shop.program.id, [paying(member, paid)])
    assert errors(later) == [("WRONG_STATE", "redemption_id")]
    assert message(later) == message(second) == "The redemption pays for the purchase z already."


@pytest.mark.parametrize("record", [record_now, store])
async def test_a_replay_is_answered_whatever_became_of_the_redemption(record: Record) -> None:
    shop = await Shop.open()
    member = await rich(shop)
    paid, other = [await pay(shop.program, member, 100, "1") for _ in range(2)]
    sale, new = paying(member, paid, name="sale"), paying(member, other)
    assert [each.replayed for each in await record(shop.program.id, [sale, sale])] == [False, True]
    assert [each.replayed for each in await record(shop.program.id, [sale])] == [True]
    await set_status(paid, "CANCELLED")
    replay, fresh = await record(shop.program.id, [sale, new])
    assert replay.replayed
    assert not replay.errors
    assert fresh.event
    assert not fresh.replayed


@pytest.mark.parametrize("record", [record_now, store])
async def test_the_same_purchase_with_another_payment_is_a_conflict(record: Record) -> None:
    shop = await Shop.open()
    member = await rich(shop)
    paid, other = [await pay(shop.program, member, 100, "1") for _ in range(2)]
    await record(shop.program.id, [paying(member, paid, name="sale"), paying(member, None, name="plain")])
    changed = [
        paying(member, other, name="sale"),
        paying(member, None, name="sale"),
        paying(member, new_id(), name="sale"),
        paying(member, other, name="plain"),
        # The conflict does not use up the redemption.
        paying(member, other, name="new"),
    ]
    *conflicts, new = await record(shop.program.id, changed)
    assert [errors(each) for each in conflicts] == [[("IDEMPOTENCY_CONFLICT", "external_id")]] * 4
    assert new.event
    assert new.event.redemption_id == other.id


@pytest.mark.parametrize("record", [record_now, store])
async def test_of_purchases_that_race_for_a_redemption_one_gets_it_and_nothing_else_is_lost(
    record: Record,
) -> None:
    shop = await Shop.open()
    await shop.rule()
    member, other = await rich(shop), await shop.member()
    for _ in range(5):
        paid = await pay(shop.program, member, 100, "1")
        batches = [[paying(member, paid), paying(other, None)] for _ in range(6)]
        results = await asyncio.gather(*(record(shop.program.id, batch) for batch in batches))
        assert sum(racing.event is not None for racing, _ in results) == 1
        assert all(beside.event for _, beside in results)
        lost = [errors(racing) for racing, _ in results if racing.event is None]
        assert lost == [[("WRONG_STATE", "redemption_id")]] * 5
    await shop.work()
    assert (await shop.balance(other))[0] == 5 * 6 * 100
    await shop.verify()


async def test_purchases_that_race_for_two_redemptions_in_another_order_do_not_wait_for_ever() -> None:
    shop = await Shop.open()
    member = await rich(shop)
    for _ in range(3):
        paid, other = [await pay(shop.program, member, 100, "1") for _ in range(2)]
        batches = [
            [paying(member, paid, name=f"a{new_id()}"), paying(member, other, name=f"b{new_id()}")],
            [paying(member, other, name=f"a{new_id()}"), paying(member, paid, name=f"b{new_id()}")],
        ]
        results = await asyncio.gather(*(store(shop.program.id, batch) for batch in batches))
        assert sum(each.event is not None for batch in results for each in batch) == 2


async def test_simulating_takes_the_payment_into_account_and_writes_nothing() -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await rich(shop)
    paid = await pay(shop.program, member, 2000, "20.00")
    sale = paying(member, paid, name="sale")
    for _ in range(2):
        assert (await simulate(shop.program.id, sale)).points == 80
    (recorded,) = await record_now(shop.program.id, [sale])
    assert recorded.event
    assert recorded.event.points == 80
    assert (await simulate(shop.program.id, sale)).points == 80
    for wrong in (paying(member, paid), paying(member, new_id())):
        with pytest.raises(Refused) as refused:
            await simulate(shop.program.id, wrong)
        assert refused.value.errors[0].field == ("redemption_id",)


async def test_other_things_that_are_wrong_come_first() -> None:
    program = await new_program()
    member = await new_member(program)
    future = Incoming(
        purchase(1, occurred_at=clock.now() + timedelta(hours=1)), by_id(member), redemption_id=new_id()
    )
    (recorded,) = await record_now(program.id, [future])
    assert errors(recorded) == [("INVALID", "occurred_at")]
    assert not await find_differences(program.id)
