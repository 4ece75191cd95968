"""Joining, and telling all about oneself: what pays by itself when members are enrolled and updated."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from app import clock
from app.database import connection
from app.earning import batch as batches
from app.earning.events import Incoming
from app.earning.outcomes import Reason, StepKind
from app.earning.reads import get_awards, get_explanations
from app.earning.recording import record_now
from app.earning.rule_service import set_rule_status
from app.earning.rules import Action, EventKind, RuleLimits, RuleStatus
from app.errors import Refused
from app.imports.purchases import Order, OrderLine
from app.imports.service import import_purchases
from app.members.inputs import MemberStatus, NewMember
from app.members.reads import MemberRef, MemberRow, get_member
from app.members.service import enroll_member, enroll_members, update_member
from app.metrics import EVENTS_PROCESSED, POINTS_EARNED
from app.programs.models import Program
from tests.api.statements import counting
from tests.campaigns.making import make_campaign
from tests.earning.celebrating import WHOLE, Told, action_rule, own_events, points_of, told
from tests.helpers import (
    by_id,
    find_differences,
    new_member,
    new_program,
    new_rule,
    purchase,
    set_now,
)
from tests.tiers.making import make_tier

_serial = count(1)

JOINED = Told("registration", 10)
COMPLETED = Told("profile", 20)


def whole(**profile: Any) -> dict[str, Any]:
    """Return a whole profile, with an address that nobody has."""
    return WHOLE | {"email": f"ada{next(_serial)}@example.com"} | profile


async def paying_program(**settings: Any) -> Program:
    """Make a program that pays 10 points for joining and 20 for a whole profile."""
    program = await new_program(**settings)
    await action_rule(program, Action.REGISTRATION, 10)
    await action_rule(program, Action.PROFILE_COMPLETED, 20)
    return program


async def change(program: Program, member: MemberRow, **changes: Any) -> MemberRow:
    return await update_member(program.id, by_id(member), changes)


# Joining


async def test_joining_pays_at_once() -> None:
    program = await paying_program()
    member = await new_member(program)
    assert await told(program, member) == [JOINED]
    assert await points_of(program, member) == 10
    assert not await find_differences(program.id)


async def test_a_member_who_is_brought_over_joined_when_they_joined() -> None:
    program = await paying_program()
    joined_at = datetime(2019, 5, 17, 8, 30, tzinfo=UTC)
    member = await new_member(program, joined_at=joined_at)
    (event,) = await own_events(program, member)
    assert (event.occurred_at, event.points) == (joined_at, 10)
    assert event.recorded_at > joined_at


async def test_joining_before_events_can_lie_is_recorded_as_of_the_first_moment() -> None:
    program = await paying_program()
    member = await new_member(program, joined_at=datetime(1931, 1, 1, tzinfo=UTC))
    (event,) = await own_events(program, member)
    assert (event.occurred_at, event.points) == (datetime(1970, 1, 1, tzinfo=UTC), 10)


async def test_joining_a_few_minutes_ahead_of_our_clock_pays() -> None:
    program = await paying_program()
    member = await new_member(program, joined_at=clock.now() + timedelta(minutes=4))
    assert await told(program, member) == [JOINED]


async def test_enrolling_again_pays_nothing_again() -> None:
    program = await paying_program()
    new = NewMember(external_id="A", **whole())
    member, _ = await enroll_member(program.id, new)
    for again in (new, NewMember(external_id="A"), NewMember(external_id="A", **whole())):
        assert await enroll_member(program.id, again) == (member, True)
    assert await told(program, member) == [JOINED, COMPLETED]


async def test_who_joined_before_there_was_a_rule_gets_nothing_for_it() -> None:
    program = await new_program()
    member = await new_member(program, external_id="A")
    await action_rule(program, Action.REGISTRATION)
    await enroll_member(program.id, NewMember(external_id="A"))
    await change(program, member, **whole())
    assert await told(program, member) == []


async def test_enrolments_at_the_same_time_pay_one_member_once() -> None:
    program = await paying_program()
    new = NewMember(external_id="A", **whole())
    results = await asyncio.gather(*(enroll_member(program.id, new) for _ in range(10)))
    assert len({member.id for member, _ in results}) == 1
    assert await told(program, results[0][0]) == [JOINED, COMPLETED]
    assert not await find_differences(program.id)


async def test_a_refused_enrolment_leaves_nothing() -> None:
    program = await paying_program()
    profile = whole()
    first = await new_member(program, **profile)
    with pytest.raises(Refused):
        await enroll_member(program.id, NewMember(external_id="B", **profile))
    assert await points_of(program, first) == 30
    assert await kept(program) == 2


async def test_member_and_points_come_together_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await paying_program()
    member = await new_member(program)

    async def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(batches, "_keep", fail)
        with pytest.raises(ZeroDivisionError):
            await enroll_member(program.id, NewMember(external_id="A"))
        with pytest.raises(ZeroDivisionError):
            await change(program, member, **whole())
    assert await get_member(program.id, MemberRef(external_id="A")) is None
    assert await get_member(program.id, by_id(member)) == member
    await change(program, member, **whole())
    assert await told(program, member) == [JOINED, COMPLETED]
    assert not await find_differences(program.id)


async def test_a_rule_pays_for_joining_within_its_window_alone() -> None:
    program = await new_program()
    start, end = datetime(2024, 1, 1, tzinfo=UTC), clock.now() + timedelta(days=1)
    await action_rule(program, Action.REGISTRATION, starts_at=start, ends_at=end)
    before = await new_member(program, joined_at=start - timedelta(seconds=1))
    within = await new_member(program, joined_at=start)
    now = await new_member(program)
    assert [await points_of(program, each) for each in (before, within, now)] == [0, 10, 10]


async def test_points_are_counted_for_those_who_watch() -> None:
    program = await paying_program()
    before = POINTS_EARNED._value.get(), EVENTS_PROCESSED._value.get()
    member = await new_member(program)
    assert (POINTS_EARNED._value.get(), EVENTS_PROCESSED._value.get()) == (before[0] + 10, before[1] + 1)
    await change(program, member, **whole())
    assert (POINTS_EARNED._value.get(), EVENTS_PROCESSED._value.get()) == (before[0] + 30, before[1] + 2)


# Many at once


async def kept(program: Program) -> int:
    async with connection() as sql:
        return await sql.fetchval("SELECT count(*) FROM event WHERE program_id = $1", program.id)


async def test_a_thousand_members_with_two_events_each_are_enrolled_in_one_go() -> None:
    program = await paying_program()
    batch = [
        NewMember(external_id=f"M{n}", **(whole() if n % 4 else {"name": "Somebody"})) for n in range(1000)
    ]
    before = POINTS_EARNED._value.get()
    results = await enroll_members(program.id, batch)
    assert not any(result.replayed for result in results)
    assert await kept(program) == 1750
    assert POINTS_EARNED._value.get() - before == 1000 * 10 + 750 * 20
    for n, points in ((0, 10), (1, 30), (999, 30), (996, 10)):
        member = results[n].member
        assert member
        assert await points_of(program, member) == points
    assert not await find_differences(program.id)


async def test_batches_that_overlap_pay_everybody_once() -> None:
    program = await paying_program()
    await action_rule(program, Action.REGISTRATION, 1, limits=RuleLimits(budget=60))
    await action_rule(program, Action.PROFILE_COMPLETED, 1, limits=RuleLimits(budget=50))
    batch = [NewMember(external_id=f"M{n}", **whole()) for n in range(80)]
    await asyncio.gather(*(enroll_members(program.id, batch[n::-1] + batch[n:]) for n in range(0, 80, 10)))
    async with connection() as sql:
        total = await sql.fetchval("SELECT sum(available) FROM account WHERE program_id = $1", program.id)
    assert await kept(program) == 160
    assert total == 80 * 30 + 60 + 50
    assert not await find_differences(program.id)


async def test_members_whom_an_import_enrols_are_paid_for_joining() -> None:
    program = await paying_program()
    await new_rule(program)
    line = OrderLine("tea", None, None, None, None, Decimal(5))
    orders = [
        Order(f"order-{n}", f"customer-{n % 3}", datetime(2025, 3, n + 1, tzinfo=UTC), [line], [n])
        for n in range(9)
    ]
    summary = await import_purchases(program.id, orders, enroll=True)
    assert (summary.enrolled, summary.points) == (3, 45)
    member = await get_member(program.id, MemberRef(external_id="customer-1"))
    assert member
    assert await points_of(program, member) == 25
    assert not await find_differences(program.id)


async def test_programs_without_such_rules_pay_for_nothing_in_statements() -> None:
    program = await new_program()
    await new_rule(program)
    await action_rule(program, "QUIZ")
    member = await new_member(program)

    async def statements(work: Any) -> int:
        async with counting() as counted:
            await work
        return len(counted.statements)

    assert await statements(enroll_member(program.id, NewMember(external_id="A", **whole()))) == 1
    # Found, locked and changed.
    assert await statements(change(program, member, name="Ada")) == 3
    assert await statements(change(program, member, **whole())) == 4
    assert await kept(program) == 0


# The profile


@pytest.mark.parametrize("missing", ["email", "phone", "name", "birthday"])
async def test_a_profile_is_complete_with_the_last_of_four(missing: str) -> None:
    program = await paying_program()
    profile = whole()
    member = await new_member(program, **(profile | {missing: None}))
    assert await told(program, member) == [JOINED]
    await change(program, member, locale="de-DE")
    assert await told(program, member) == [JOINED]
    await change(program, member, **{missing: profile[missing]})
    assert await told(program, member) == [JOINED, COMPLETED]
    assert await points_of(program, member) == 30


async def test_a_profile_is_completed_in_the_moment_of_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 3, 1, 12)
    program = await paying_program()
    member = await new_member(program)
    then = set_now(monkeypatch, 2026, 3, 9, 17, 30)
    await change(program, member, **whole())
    joined, completed = await own_events(program, member)
    assert (joined.occurred_at, joined.recorded_at) == (member.joined_at, member.joined_at)
    assert (completed.occurred_at, completed.recorded_at) == (then, then)


async def test_a_profile_pays_once_for_good() -> None:
    program = await paying_program()
    member = await new_member(program, **whole())
    assert await told(program, member) == [JOINED, COMPLETED]
    for changes in (
        {"phone": None},
        {"phone": "1"},
        {"name": "Ada King"},
        {"birthday": date(1990, 1, 1)},
        {},
    ):
        await change(program, member, **changes)
    assert await told(program, member) == [JOINED, COMPLETED]


@pytest.mark.parametrize("changes", [{"locale": "de"}, {"name": WHOLE["name"]}, {}])
async def test_a_rule_that_is_newer_than_the_profile_pays_with_the_next_update(
    changes: dict[str, Any],
) -> None:
    program = await new_program()
    member = await new_member(program, **whole())
    await change(program, member, locale="en")
    await action_rule(program, Action.PROFILE_COMPLETED, 20)
    await change(program, member, **changes)
    assert await told(program, member) == [COMPLETED]


@pytest.mark.parametrize("status", [RuleStatus.DRAFT, RuleStatus.PAUSED])
async def test_a_rule_that_rests_uses_up_nothing(status: RuleStatus) -> None:
    program = await new_program()
    rule = await action_rule(program, Action.PROFILE_COMPLETED, 20, status=status)
    member = await new_member(program, **whole())
    await change(program, member, locale="de")
    assert await told(program, member) == []
    await set_rule_status(program.id, rule.id, RuleStatus.ACTIVE)
    await change(program, member, locale="en")
    assert await told(program, member) == [COMPLETED]


async def test_a_rule_that_has_not_begun_uses_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 3, 1)
    program = await new_program()
    await action_rule(program, Action.PROFILE_COMPLETED, 20, starts_at=datetime(2026, 3, 2, tzinfo=UTC))
    member = await new_member(program, **whole())
    assert await told(program, member) == []
    set_now(monkeypatch, 2026, 3, 2)
    await change(program, member, locale="en")
    assert await told(program, member) == [COMPLETED]


async def test_who_is_suspended_is_paid_when_they_are_back() -> None:
    program = await paying_program()
    member = await new_member(program)
    await change(program, member, status=MemberStatus.SUSPENDED)
    assert (await change(program, member, **whole())).phone == WHOLE["phone"]
    await change(program, member, locale="de")
    assert await told(program, member) == [JOINED]
    await change(program, member, status=MemberStatus.ACTIVE)
    assert await told(program, member) == [JOINED, COMPLETED]
    assert not await find_differences(program.id)


async def test_who_is_suspended_or_closed_by_the_same_update_earns_nothing() -> None:
    program = await paying_program()
    for status in (MemberStatus.SUSPENDED, MemberStatus.CLOSED):
        member = await new_member(program)
        changed = await change(program, member, **whole(status=status))
        assert (changed.status, changed.name) == (status, WHOLE["name"])
        await change(program, member, locale="de")
        assert await told(program, member) == [JOINED]


async def test_updates_at_the_same_time_pay_once() -> None:
    program = await paying_program()
    profile = whole(birthday=None)
    members = [await new_member(program, **(whole() | {"phone": None})) for _ in range(3)]
    for member in members:
        await change(program, member, birthday=None)
    del profile["email"]
    await asyncio.gather(
        *(
            change(program, member, **{name: value})
            for name, value in (("phone", "1"), ("birthday", date(1990, 1, 1)), ("locale", "de"))
            for member in members * 4
        )
    )
    for member in members:
        assert await told(program, member) == [JOINED, COMPLETED]
    assert not await find_differences(program.id)


async def deadlocks() -> int:
    async with connection() as sql:
        return await sql.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")


async def test_updates_and_purchases_of_the_same_members_do_not_wait_in_a_circle() -> None:
    program = await paying_program(max_points_per_day=1_000_000)
    await new_rule(program)
    members = [await new_member(program, **whole(phone=None)) for _ in range(8)]
    rounds: list[Any] = []
    for n in range(6):
        order = members[n:] + members[:n]
        rounds.append(record_now(program.id, [Incoming(purchase(1), by_id(each)) for each in order]))
        rounds += [change(program, each, phone=str(n)) for each in order]
    before = await deadlocks()
    await asyncio.gather(*rounds)
    assert await deadlocks() == before
    for member in members:
        assert await points_of(program, member) == 10 + 20 + 6
    assert not await find_differences(program.id)


# Factors, limits, explanations


async def test_a_campaign_counts_where_it_lists_actions() -> None:
    program, other = await paying_program(), await paying_program()
    window = {
        "starts_at": datetime(2020, 1, 1, tzinfo=UTC),
        "ends_at": clock.now() + timedelta(days=1),
        "multiplier": Decimal(3),
    }
    await make_campaign(program.id, applies_to=(EventKind.ACTION,), **window)
    await make_campaign(other.id, applies_to=(EventKind.PURCHASE, EventKind.CHECK_IN), **window)
    assert await points_of(program, await new_member(program)) == 30
    assert await points_of(other, await new_member(other)) == 10
    # By when the member joined, not by when we were told.
    before = await new_member(program, joined_at=datetime(2019, 12, 31, tzinfo=UTC))
    assert await points_of(program, before) == 10


async def test_the_tier_counts_where_the_rule_says_so() -> None:
    program = await new_program()
    await make_tier(program.id, multiplier=Decimal(2))
    plain = await action_rule(program, Action.REGISTRATION, 10)
    doubled = await action_rule(program, Action.REGISTRATION, 7, tier_multiplier_applies=True)
    member = await new_member(program)
    (event,) = await own_events(program, member)
    (awards,) = await get_awards(program.id, [event.id])
    assert {award.rule_id: award.points for award in awards} == {plain.id: 10, doubled.id: 14}
    steps = {award.rule_id: [step.kind for step in award.steps] for award in awards}
    assert StepKind.TIER_MULTIPLIER in steps[doubled.id]
    assert StepKind.TIER_MULTIPLIER not in steps[plain.id]


async def test_such_an_event_is_explained_like_any_other() -> None:
    program = await new_program()
    paid = await action_rule(program, Action.REGISTRATION)
    other = await action_rule(program, "QUIZ")
    paused = await action_rule(program, Action.REGISTRATION, status=RuleStatus.PAUSED)
    member = await new_member(program)
    (event,) = await own_events(program, member)
    (outcomes,) = await get_explanations(program.id, [event.id])
    assert {outcome.rule_id: outcome.reason for outcome in outcomes} == {
        paid.id: Reason.PAID,
        other.id: Reason.OTHER_ACTION,
        paused.id: Reason.NOT_ACTIVE,
    }
    (awards,) = await get_awards(program.id, [event.id])
    assert awards[0].steps[0].label == "10 points for joining"


async def test_the_cap_of_the_day_trims_what_joining_and_profile_pay_together() -> None:
    program = await paying_program(max_points_per_day=25)
    member = await new_member(program, **whole())
    assert await told(program, member) == [JOINED, Told("profile", 15)]
    assert not await find_differences(program.id)
