"""Limits, through the database: who is turned away, what is trimmed, and that none is passed."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.campaigns.checks import NewCampaign
from app.campaigns.service import create_campaign
from app.earning.events import Event, Incoming
from app.earning.processing import earn_batch
from app.earning.reads import get_explanations
from app.earning.recording import record_now, store
from app.earning.rule_service import update_rule
from app.earning.rules import Frequency, Period, Rule, RuleLimits
from app.errors import ErrorCode
from app.ledger.reads import get_balances
from app.members.reads import MemberRow
from app.programs.models import Program
from tests.helpers import (
    by_id,
    find_differences,
    new_member,
    new_program,
    new_rule,
    policy_of,
    purchase,
    rolling,
    set_now,
    stamp_all,
)

CLIENTS = 32


async def new_limited(program: Program, *, name: str = "Limited", **limits: object) -> Rule:
    """Make a rule of a point per unit of money with limits."""
    return await new_rule(program, name=name, limits=RuleLimits(**limits))  # type: ignore[arg-type]


async def buy(
    program: Program, member: MemberRow, amount: int | str = 10, at: datetime | None = None
) -> Event:
    (recorded,) = await record_now(program.id, [Incoming(purchase(amount, occurred_at=at), by_id(member))])
    assert recorded.event, recorded.errors
    return recorded.event


async def points(program: Program, member: MemberRow, *at: datetime, amount: int = 10) -> list[int]:
    """Buy at each of these times, and return what each purchase earned."""
    return [(await buy(program, member, amount, each)).points for each in at]


async def reasons(program: Program, event: Event) -> list[tuple[str, str]]:
    """Return why each rule paid for an event or did not."""
    (outcomes,) = await get_explanations(program.id, [event.id])
    return [(outcome.reason, outcome.message) for outcome in outcomes]


def days(*numbers: int, hour: int = 12) -> list[datetime]:
    """Return noon of days of March 2026, in UTC."""
    return [datetime(2026, 3, number, hour, tzinfo=UTC) for number in numbers]


@pytest.fixture(autouse=True)
def _later(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 6, 1)


async def test_a_rule_pays_so_many_times_in_each_calendar_period() -> None:
    for per, expected in (
        (Period.DAY, [10, 10, 10, 10, 10]),
        (Period.WEEK, [10, 0, 0, 10, 0]),
        (Period.MONTH, [10, 0, 0, 0, 0]),
        (Period.YEAR, [10, 0, 0, 0, 0]),
    ):
        program = await new_program()
        await new_limited(program, frequency=Frequency(1, per))
        member = await new_member(program)
        # From Thursday to Monday and Tuesday: the week begins on Monday.
        assert await points(program, member, *days(5, 6, 8, 9, 10)) == expected, per
        assert not await find_differences(program.id)


async def test_a_day_ends_at_midnight_of_the_program() -> None:
    zone = ZoneInfo("Asia/Tokyo")
    program = await new_program(timezone="Asia/Tokyo")
    await new_limited(program, frequency=Frequency(1, Period.DAY))
    member = await new_member(program)
    late, next_day = (
        datetime(2026, 3, 2, 23, 59, tzinfo=zone),
        datetime(2026, 3, 3, 0, 1, tzinfo=zone),
    )
    event = await buy(program, member, at=late - timedelta(hours=3))
    assert (event.points, await points(program, member, late, next_day)) == (10, [0, 10])
    turned_away = await buy(program, member, at=late - timedelta(minutes=5))
    assert await reasons(program, turned_away) == [
        (
            "FREQUENCY_REACHED",
            "The rule pays once a day, and has done so."
            " The next time is possible from 3 March 2026, 00:00 (Asia/Tokyo) on.",
        )
    ]


async def test_a_cooldown_ends_to_the_second_and_reaches_back_to_what_comes_in_late() -> None:
    program = await new_program()
    await new_limited(program, cooldown_minutes=60)
    member = await new_member(program)
    (noon,) = days(2)
    just_before = noon + timedelta(minutes=60) - timedelta(seconds=1)
    at_the_end = noon + timedelta(minutes=60)
    assert await points(program, member, noon, just_before, at_the_end) == [10, 0, 10]
    assert await points(program, member, noon - timedelta(minutes=59)) == [0]
    assert await points(program, member, noon - timedelta(minutes=60)) == [10]


async def test_a_member_is_paid_so_many_times_in_all() -> None:
    program = await new_program()
    await new_limited(program, max_times_per_member=2)
    member, other = await new_member(program), await new_member(program)
    assert await points(program, member, *days(1, 5, 9)) == [10, 10, 0]
    assert await points(program, other, *days(9)) == [10]


async def test_what_was_trimmed_to_nothing_uses_up_no_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await new_program(max_points_per_day=10)
    await new_rule(program, name="First", priority=1)
    await new_limited(program, max_times_per_member=1)
    member = await new_member(program)
    # The first rule takes the whole day's room; on the second day it leaves five.
    assert await points(program, member, *days(2)) == [10]
    assert await points(program, member, *days(3), amount=5) == [10]


async def test_a_rule_gives_no_more_than_its_day_and_its_transaction_allow() -> None:
    program = await new_program()
    await new_limited(program, max_points_per_transaction=30, max_points_per_day=50)
    member = await new_member(program)
    assert await points(program, member, *days(2, 2, 2), amount=40) == [30, 20, 0]
    assert await points(program, member, *days(3), amount=10) == [10]
    assert not await find_differences(program.id)


async def test_sales_that_come_in_late_meet_the_factor_and_the_caps_of_their_days() -> None:
    program = await new_program(max_points_per_day=100)
    await new_rule(program)
    first, _, last = days(2, 3, 4, hour=0)
    await create_campaign(
        program.id,
        NewCampaign(name="Two days", starts_at=first, ends_at=last, multiplier=Decimal(3)),
    )
    member = await new_member(program)
    assert await points(program, member, *days(1, 2, 3, 4)) == [10, 30, 30, 10]
    assert await points(program, member, *days(2, 3), amount=30) == [70, 70]
    assert await points(program, member, *days(5)) == [10]


async def test_one_order_delivered_five_times_and_once_with_another_amount() -> None:
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    order = Incoming(purchase(25, "order-1"), by_id(member))
    one, two = await asyncio.gather(record_now(program.id, [order]), record_now(program.id, [order]))
    assert sorted((one[0].replayed, two[0].replayed)) == [False, True]
    for _ in range(3):
        (again,) = await record_now(program.id, [order])
        assert again.replayed
    (other,) = await record_now(program.id, [Incoming(purchase(26, "order-1"), by_id(member))])
    assert [error.code for error in other.errors] == [ErrorCode.IDEMPOTENCY_CONFLICT]
    assert await total(program, [member]) == 25
    assert not await find_differences(program.id)


async def test_points_of_31_january_with_a_month_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 31, 12)
    program = await new_program()
    await new_rule(program, expiry=rolling(1))
    member = await new_member(program)
    await buy(program, member)
    set_now(monkeypatch, 2026, 2, 28, 23, 59, 59)
    assert await total(program, [member]) == 10
    set_now(monkeypatch, 2026, 3, 1)
    assert await total(program, [member]) == 0


async def total(program: Program, members: Sequence[MemberRow]) -> int:
    """Return the points of members together."""
    found = await get_balances(await policy_of(program), [member.id for member in members])
    return sum(each.available + each.pending for each in found if each)


async def at_once(program: Program, members: Sequence[MemberRow], way: str) -> None:
    """Have 32 clients buy at the same time, each for 7, in turn for these members."""
    events = [Incoming(purchase(7), by_id(members[n % len(members)])) for n in range(CLIENTS)]
    if way == "now":
        await asyncio.gather(*(record_now(program.id, [event]) for event in events))
        return
    stored = await asyncio.gather(*(store(program.id, [event]) for event in events))
    assert all(each.event for (each,) in stored)
    await asyncio.gather(*(earn_batch(batch) for batch in await stamp_all(program) * 2))


both_ways = pytest.mark.parametrize("way", ["now", "workers"])


@both_ways
async def test_a_budget_is_given_to_the_last_point_and_not_one_more(way: str) -> None:
    program = await new_program()
    rule = await new_limited(program, budget=100)
    members = [await new_member(program) for _ in range(CLIENTS)]
    await at_once(program, members, way)
    assert await total(program, members) == 100
    assert not await find_differences(program.id)
    await update_rule(program.id, rule.id, {"limits": RuleLimits(budget=110)})
    await at_once(program, members, way)
    assert await total(program, members) == 110
    assert not await find_differences(program.id)


@both_ways
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_points_per_day": 100}, 100),
        ({"frequency": Frequency(3, Period.WEEK)}, 21),
        ({"max_times_per_member": 5}, 35),
        ({"cooldown_minutes": 600}, 7),
        ({"budget": 50, "max_points_per_day": 60}, 50),
    ],
)
async def test_a_member_of_many_clients_gets_what_there_is(
    way: str, limits: dict[str, Any], expected: int
) -> None:
    program = await new_program()
    await new_limited(program, **limits)
    member = await new_member(program)
    await at_once(program, [member], way)
    assert await total(program, [member]) == expected
    assert not await find_differences(program.id)


async def test_a_budget_that_is_set_later_counts_what_was_given_before() -> None:
    program = await new_program()
    rule = await new_rule(program)
    member = await new_member(program)
    await buy(program, member, 70)
    await update_rule(program.id, rule.id, {"limits": RuleLimits(budget=100)})
    event = await buy(program, member, 70)
    assert event.points == 30
    spent = await buy(program, member, 5)
    ((reason, message),) = await reasons(program, spent)
    assert (reason, message) == ("BUDGET_SPENT", "The rule's budget is 100 points, and none was left.")
    assert not await find_differences(program.id)
