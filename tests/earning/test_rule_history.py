"""Late events go by the rules of the time at which they happened."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.database import connection
from app.earning import rulesets
from app.earning.events import Event, Incoming
from app.earning.reads import get_awards, get_explanations
from app.earning.recording import record_now, store
from app.earning.refunding import EventRef, refund_purchase
from app.earning.rule_service import set_rule_status, update_rule
from app.earning.rules import PointsPerAmount, ProductFilter, RuleStatus
from app.earning.simulation import simulate
from app.members.reads import MemberRow
from app.programs.models import Program
from app.programs.service import update_program
from tests.earning.test_limits import total
from tests.helpers import (
    Line,
    by_id,
    earn_all,
    find_differences,
    new_member,
    new_program,
    new_rule,
    purchase,
    set_now,
)

MORNING = datetime(2026, 3, 2, 8, tzinfo=UTC)


def at(hour: int) -> datetime:
    return MORNING.replace(hour=hour)


async def buy(program: Program, member: MemberRow, when: datetime) -> Event:
    (recorded,) = await record_now(program.id, [Incoming(purchase(10, occurred_at=when), by_id(member))])
    assert recorded.event, recorded.errors
    return recorded.event


async def why(program: Program, event: Event) -> list[tuple[str, int]]:
    """Return why each rule paid for an event, or did not, and which version it was."""
    (outcomes,) = await get_explanations(program.id, [event.id])
    return [(outcome.reason, outcome.rule_version) for outcome in outcomes]


async def test_late_sale_meets_the_version_and_the_status_of_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 2, 9)
    program = await new_program()
    rule = await new_rule(program, 2)
    set_now(monkeypatch, 2026, 3, 2, 11)
    await update_rule(program.id, rule.id, {"points_per_amount": PointsPerAmount(Decimal(1))})
    set_now(monkeypatch, 2026, 3, 2, 13)
    await set_rule_status(program.id, rule.id, RuleStatus.PAUSED)
    set_now(monkeypatch, 2026, 3, 2, 15)
    await set_rule_status(program.id, rule.id, RuleStatus.ACTIVE)
    set_now(monkeypatch, 2026, 3, 2, 17)
    await set_rule_status(program.id, rule.id, RuleStatus.ARCHIVED)
    set_now(monkeypatch, 2026, 3, 2, 20)
    member = await new_member(program)
    events = [await buy(program, member, at(hour)) for hour in (9, 10, 11, 12, 13, 14, 15, 16, 17, 18)]
    assert [event.points for event in events] == [20, 20, 10, 10, 0, 0, 10, 10, 0, 0]
    assert [await why(program, event) for event in events[1::2]] == [
        [("PAID", 1)], [("PAID", 2)], [("NOT_ACTIVE", 3)], [("PAID", 4)], [],
    ]  # fmt: skip
    ((award,),) = await get_awards(program.id, [events[0].id])
    assert award.rule_version == 1
    refunded = await refund_purchase(program.id, EventRef(id=events[1].id), "r", amount=Decimal(4))
    assert refunded.refunds[0].points == 8
    assert not await find_differences(program.id)


async def test_what_happened_before_any_rule_was_made_meets_those_of_today(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 2, 9)
    program = await new_program()
    first = await new_rule(program, 2)
    set_now(monkeypatch, 2026, 3, 2, 11)
    await update_rule(program.id, first.id, {"points_per_amount": PointsPerAmount(Decimal(3))})
    second = await new_rule(program, 5, status=RuleStatus.DRAFT)
    set_now(monkeypatch, 2026, 3, 2, 13)
    await set_rule_status(program.id, second.id, RuleStatus.ACTIVE)
    set_now(monkeypatch, 2026, 3, 2, 20)
    member = await new_member(program)
    # Before the first rule; between the two; while the second was a draft; at last.
    moments = [MORNING - timedelta(days=365), at(10), at(12), at(14)]
    assert [(await buy(program, member, when)).points for when in moments] == [80, 20, 30, 80]


async def test_sale_that_waited_for_a_worker_meets_the_rule_that_was_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 2, 9)
    program = await new_program()
    rule = await new_rule(program, 2)
    member = await new_member(program)
    set_now(monkeypatch, 2026, 3, 2, 10)
    await store(program.id, [Incoming(purchase(10), by_id(member))])
    set_now(monkeypatch, 2026, 3, 2, 11)
    await set_rule_status(program.id, rule.id, RuleStatus.PAUSED)
    await earn_all(program)
    assert await total(program, [member]) == 20


async def test_sale_that_waited_meets_a_filter_that_no_rule_has_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 2, 9)
    program = await new_program()
    await new_rule(program)
    tea = await new_rule(program, 3, products=ProductFilter(skus=("tea",)))
    member = await new_member(program)
    set_now(monkeypatch, 2026, 3, 2, 10)
    lines = [Line("tea", Decimal(4)), Line("cup", Decimal(6))]
    await store(program.id, [Incoming(purchase(None, lines=lines), by_id(member))])
    set_now(monkeypatch, 2026, 3, 2, 11)
    await set_rule_status(program.id, tea.id, RuleStatus.ARCHIVED)
    await earn_all(program)
    assert await total(program, [member]) == 18


async def test_simulation_of_a_late_sale_tells_what_recording_it_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 2, 9)
    program = await new_program()
    rule = await new_rule(program, 2)
    set_now(monkeypatch, 2026, 3, 2, 11)
    await update_rule(program.id, rule.id, {"points_per_amount": PointsPerAmount(Decimal(1))})
    set_now(monkeypatch, 2026, 3, 2, 12)
    member = await new_member(program)
    sale = Incoming(purchase(10, occurred_at=at(10)), by_id(member))
    assert (await simulate(program.id, sale)).points == 20
    (recorded,) = await record_now(program.id, [sale])
    assert recorded.event
    assert recorded.event.points == 20


async def test_reading_an_explanation_changes_nothing_of_what_is_earned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 3, 2, 9)
    program = await new_program()
    rule = await new_rule(program, 2)
    set_now(monkeypatch, 2026, 3, 2, 11)
    await update_rule(program.id, rule.id, {"points_per_amount": PointsPerAmount(Decimal(1))})
    now = set_now(monkeypatch, 2026, 3, 2, 12)
    member = await new_member(program)
    await buy(program, member, now)
    await update_program(program.id, {"pending_days": 7})
    await store(program.id, [Incoming(purchase(10, occurred_at=at(10)), by_id(member))])
    rulesets._cache.clear()
    await earn_all(program)
    async with connection() as sql:
        ids = [row["id"] for row in await sql.fetch("SELECT id FROM event WHERE program_id = $1", program.id)]
    assert len(await get_explanations(program.id, ids)) == 2
    late = await buy(program, member, at(10))
    ((award,),) = await get_awards(program.id, [late.id])
    assert award.available_at == datetime(2026, 3, 9, tzinfo=UTC)
