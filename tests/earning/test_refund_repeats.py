"""Refunds told twice, and many at once: each happens once, and together they take no more than there was."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from app.database import transaction
from app.earning import refunding
from app.earning.events import Event, Incoming
from app.earning.recording import record_now
from app.earning.refunding import EventRef, refund_purchase
from app.earning.remainders import Wish
from app.earning.rules import RuleLimits
from app.errors import Refused
from tests.earning.shop import Shop, line, part
from tests.helpers import by_id, purchase

CONFLICT = ("IDEMPOTENCY_CONFLICT", "external_id")


async def test_the_same_refund_again_is_answered_as_the_first_time() -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, "100.00", "11.00")
    when = datetime.now(UTC)
    first = await shop.refund(event, part(1), name="r1", occurred_at=when)
    again = await shop.refund(event, part(1), name="r1", occurred_at=when)
    assert (first.replayed, again.replayed) == (False, True)
    assert first.refunds == again.refunds
    assert await shop.net(member) == [11]
    # By whatever name the purchase goes, and however its numbers are written.
    ref = EventRef(external_id=event.external_id)
    same = await refund_purchase(
        shop.program.id, ref, "r1", occurred_at=when, lines=[Wish(1, Decimal("1.00"))]
    )
    assert same == again
    await shop.verify()


async def test_the_same_refund_of_everything_again_is_no_refund_of_nothing() -> None:
    shop = await Shop.open()
    await shop.rule()
    event = await shop.buy(await shop.member(), "100.00")
    first = await shop.refund(event, name="r1")
    assert await shop.refund(event, name="r1") == first._replace(replayed=True)


@pytest.mark.parametrize(
    ("parts", "fields"),
    [
        ([part(1, "2")], {}),
        ([part(2)], {}),
        ([part(1, "1", "5")], {}),
        ([part(1)], {"amount": "1"}),
        ([part(1)], {"occurred_at": datetime.now(UTC)}),
        ([], {}),
        ([], {"amount": "1"}),
    ],
)
async def test_the_same_id_with_other_content_is_a_conflict(
    parts: list[Wish], fields: dict[str, Any]
) -> None:
    shop = await Shop.open()
    await shop.rule()
    event = await shop.buy(await shop.member(), line("60", quantity="3"), "11.00")
    await shop.refund(event, part(1), name="r1")
    assert await shop.refused(event, *parts, name="r1", **fields) == [CONFLICT]


async def test_the_same_id_for_another_purchase_is_a_conflict_whoever_bought_it() -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, "60")
    await shop.refund(event, name="r1")
    for other in (await shop.buy(member, "60"), await shop.buy(await shop.member(), "60")):
        assert await shop.refused(other, name="r1") == [CONFLICT]


async def test_a_refund_and_a_return_share_their_ids() -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, line("60", "toy", "3"))
    await shop.returned(member, ("toy", "1"), name="back")
    assert await shop.refused(event, part(1), name="back") == [CONFLICT]
    await shop.refund(event, part(1), name="r1")
    with pytest.raises(Refused) as refused:
        await shop.returned(member, ("toy", "1"), name="r1")
    assert [(error.code, error.field) for error in refused.value.errors] == [
        ("IDEMPOTENCY_CONFLICT", ("external_id",))
    ]


async def test_what_was_refused_can_be_put_right_under_the_same_id() -> None:
    shop = await Shop.open()
    await shop.rule()
    event = await shop.buy(await shop.member(), "60")
    assert await shop.refused(event, part(1, "2"), name="r1") == [("INVALID", "lines", "0", "quantity")]
    refunded = await shop.refund(event, part(1), name="r1")
    assert (refunded.replayed, refunded.refunds[0].points) == (False, 60)


async def test_what_the_database_did_not_keep_is_done_again_and_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    await shop.buy(member, line("60", "toy", "2"), at=datetime(2026, 3, 2, tzinfo=UTC))
    failures = [asyncpg.SerializationError("try again"), asyncpg.DeadlockDetectedError("and again")]

    @asynccontextmanager
    async def failing() -> AsyncIterator[asyncpg.Connection]:
        async with transaction() as sql:
            yield sql
            if failures:
                raise failures.pop()

    monkeypatch.setattr(refunding, "transaction", failing)
    returned = await shop.returned(member, ("toy", "3"))
    assert not failures
    assert ([each.points for each in returned.refunds], len(returned.unmatched)) == ([60], 1)
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_other_programs_have_ids_of_their_own() -> None:
    for _ in range(2):
        shop = await Shop.open()
        await shop.rule()
        event = await shop.buy(await shop.member(), "60")
        assert not (await shop.refund(event, name="r1")).replayed


async def test_the_same_refund_at_once_takes_back_once() -> None:
    shop = await Shop.open()
    await shop.rule()
    member = await shop.member()
    event = await shop.buy(member, line("60", quantity="3"))
    answers = await asyncio.gather(*(shop.refund(event, part(1), name="r1") for _ in range(8)))
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 7
    assert {answer.refunds[0].id for answer in answers} == {answers[0].refunds[0].id}
    assert await shop.net(member) == [40]
    await shop.verify()


async def test_one_id_at_once_for_purchases_of_two_members_is_one_refund() -> None:
    shop = await Shop.open()
    await shop.rule()
    members = [await shop.member(), await shop.member()]
    events = [await shop.buy(each, "60") for each in members]
    tried = (shop.refund(events[n % 2], name="r1") for n in range(8))
    answers = await asyncio.gather(*tried, return_exceptions=True)
    done = [each for each in answers if not isinstance(each, BaseException)]
    refused = [each for each in answers if isinstance(each, Refused)]
    assert (len(done), len(refused), sum(not each.replayed for each in done)) == (4, 4, 1)
    assert {error.code for each in refused for error in each.errors} == {"IDEMPOTENCY_CONFLICT"}
    assert sorted(await shop.net(*members)) == [0, 60]
    await shop.verify()


async def test_many_refunds_of_one_purchase_at_once_never_take_too_much() -> None:
    shop = await Shop.open()
    await shop.rule("1.7")
    await shop.rule(fixed=9, minimum_amount=Decimal(40))
    member = await shop.member()
    event = await shop.buy(member, line("60", quantity="10"), total="60")
    assert event.points == 111
    tried = (shop.refund(event, part(1)) for _ in range(16))
    answers = await asyncio.gather(*tried, return_exceptions=True)
    done = [each for each in answers if not isinstance(each, BaseException)]
    assert len(done) == 10
    assert sum(each.refunds[0].points for each in done) == 111
    refused = [error.code for each in answers if isinstance(each, Refused) for error in each.errors]
    assert refused == ["WRONG_STATE"] * 6
    assert await shop.net(member) == [0]
    await shop.verify()


async def test_refunds_and_purchases_at_once_never_overdraw_a_budget() -> None:
    shop = await Shop.open()
    rule = await shop.rule(limits=RuleLimits(budget=300))
    members = [await shop.member() for _ in range(6)]
    events = [await shop.buy(member, line("50", quantity="5")) for member in members]
    assert await shop.spent(rule) == 300

    async def refund(event: Event) -> None:
        for _ in range(3):
            await shop.refund(event, part(1))

    async def buy(n: int) -> int:
        content = purchase("20")
        (recorded,) = await record_now(shop.program.id, [Incoming(content, by_id(members[n % 6]))])
        assert recorded.event
        return recorded.event.points

    results = await asyncio.gather(*(refund(event) for event in events), *(buy(n) for n in range(12)))
    given = sum(results[6:])
    assert given <= 180
    assert await shop.spent(rule) == 300 - 180 + given
    assert sum(await shop.net(*members)) == 300 - 180 + given
    # What is left of the budget is there for the next one.
    last = await shop.buy(members[0], total="1000")
    assert last.points == 180 - given
    await shop.verify()


async def test_refunds_of_several_members_under_several_budgets_do_not_wait_for_each_other() -> None:
    shop = await Shop.open()
    for priority in (1, 2, 3):
        await shop.rule(limits=RuleLimits(budget=10_000), priority=priority)
    members = [await shop.member() for _ in range(8)]
    events = [await shop.buy(member, line("50", quantity="5")) for member in members]

    async def back(event: Event) -> None:
        for _ in range(5):
            await shop.refund(event, part(1), occurred_at=datetime.now(UTC) + timedelta(minutes=1))

    async with asyncio.timeout(60):
        await asyncio.gather(
            *(back(event) for event in events), *(shop.buy(member, total="5") for member in members)
        )
    assert await shop.net(*members) == [15] * 8
    await shop.verify()
