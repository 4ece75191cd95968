"""Tiers that are reached and lost: through events, refunds, hands, and time."""

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from app import clock
from app.database import connection
from app.earning.refunding import EventRef, refund_purchase
from app.jobs.jobs import JobName, queue_job
from app.ledger.operations import EntryKind
from app.members.reads import MemberRow
from app.programs.models import Program
from app.programs.service import update_program
from app.tiers.policy import TierBasis, TierDowngrade, TierPolicy, TierWindow
from app.tiers.service import set_member_tier, update_tier
from app.tiers.standings import evaluate_members, sweep
from tests.helpers import by_id, new_member, post, set_now, work_all
from tests.tiers.climbing import ROLLING, SPENT, buy, program_of, progress_of, tier_of, told
from tests.tiers.making import tier_at

BERLIN = ZoneInfo("Europe/Berlin")


def at(*moment: int) -> datetime:
    return datetime(*moment, tzinfo=BERLIN)  # type: ignore[arg-type,misc]


async def give(program: Program, member: MemberRow, tier: object, until: datetime | None = None) -> None:
    await set_member_tier(program.id, by_id(member), tier, None, until, "By hand")  # type: ignore[arg-type]


async def test_a_purchase_lifts_a_member_once_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 6, 1, 12)
    program, (silver, gold) = await program_of(SPENT, 100, 1000)
    member = await new_member(program)
    assert await tier_of(program, member) is None
    await buy(program, member, (at(2026, 5, 1), 99))
    assert await tier_of(program, member) is None
    await buy(program, member, (at(2026, 5, 2), 1))
    assert await tier_of(program, member) == silver
    await evaluate_members(program.id, [member.id], None)
    await buy(program, member, (at(2026, 5, 3), 1))
    assert await told(program, member) == [("tier.up", "Tier 100")]
    found = await progress_of(program, member)
    assert (found.qualifying, found.missing, found.next and found.next.id) == (101, 899, gold)


@pytest.mark.parametrize(
    ("basis", "qualifying"),
    [(TierBasis.POINTS_EARNED, 60), (TierBasis.AMOUNT_SPENT, 60), (TierBasis.PURCHASES, 2)],
)
async def test_spending_never_lowers_a_tier_and_a_refund_lowers_what_qualifies(
    monkeypatch: pytest.MonkeyPatch, basis: TierBasis, qualifying: int
) -> None:
    set_now(monkeypatch, 2026, 6, 1, 12)
    program, (low, high) = await program_of(TierPolicy(basis), 1, 3 if basis is TierBasis.PURCHASES else 100)
    member = await new_member(program)
    first, second, third = await buy(
        program, member, (at(2026, 5, 1), 40), (at(2026, 5, 2), 30), (at(2026, 5, 3), 30)
    )
    assert await tier_of(program, member) == high
    await post(program, member, EntryKind.REDEEM, 90)
    await evaluate_members(program.id, [member.id], None)
    assert await tier_of(program, member) == high
    await refund_purchase(program.id, EventRef(external_id=first), "r1", amount=Decimal(10))
    await refund_purchase(program.id, EventRef(external_id=third), "r2")
    await work_all(program)
    found = await progress_of(program, member)
    assert (found.current and found.current.id, found.qualifying) == (low, qualifying)
    assert [topic for topic, _ in await told(program, member)] == ["tier.up", "tier.down"]
    assert second


async def test_a_member_reaches_a_tier_and_loses_it_by_a_refund_on_the_same_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 6, 1, 8)
    policy = ROLLING._replace(grace_days=30)
    program, (silver, gold) = await program_of(policy, 100, 1000)
    member = await new_member(program)
    await buy(program, member, (at(2026, 5, 1), 100))
    (big,) = await buy(program, member, (at(2026, 6, 1, 9), 900))
    assert await tier_of(program, member) == gold
    now = set_now(monkeypatch, 2026, 6, 1, 15)
    await refund_purchase(program.id, EventRef(external_id=big), "back")
    await work_all(program)
    assert await tier_of(program, member) == silver
    assert [name for _, name in await told(program, member)] == ["Tier 100", "Tier 1000", "Tier 100"]
    # What happened in between, and comes in late, meets the tier that the member had then.
    assert await tier_at(program.id, member.id, at(2026, 6, 1, 10)) == gold
    assert await tier_at(program.id, member.id, now) == silver


async def test_the_nightly_run_was_missed_for_two_days(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2025, 6, 10, 12)
    program, (silver, gold) = await program_of(ROLLING._replace(grace_days=5), 100, 1000)
    member = await new_member(program)
    await buy(program, member, (at(2025, 6, 10, 11), 1000))
    keeps = at(2026, 6, 16)
    assert (await progress_of(program, member)).keeps_until == keeps
    await buy(program, member, (at(2025, 6, 10, 11, 30), 1))
    set_now(monkeypatch, 2026, 6, 15, 21, 59)
    await sweep()
    assert await tier_of(program, member) == gold
    set_now(monkeypatch, 2026, 6, 18, 0)
    assert await tier_of(program, member) == gold
    await sweep()
    assert await tier_of(program, member) is None
    # However late it was noticed, it was lost when it was lost.
    assert await tier_at(program.id, member.id, keeps - timedelta(seconds=1)) == gold
    assert await tier_at(program.id, member.id, keeps) is None
    assert [topic for topic, _ in await told(program, member)] == ["tier.up", "tier.down"]
    assert silver


async def test_two_sweeps_and_two_workers_at_once_find_it_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2025, 12, 1)
    policy = TierPolicy(TierBasis.AMOUNT_SPENT, TierWindow.CALENDAR_YEAR)
    program, (silver,) = await program_of(policy, 100)
    members = [await new_member(program) for _ in range(20)]
    for member in members:
        await buy(program, member, (at(2025, 11, 1), 100))
    set_now(monkeypatch, 2026, 1, 1)
    ids = [member.id for member in members]
    await asyncio.gather(sweep(), sweep(), evaluate_members(program.id, ids, None))
    for member in members:
        assert [topic for topic, _ in await told(program, member)] == ["tier.up", "tier.down"]
        assert await tier_of(program, member) is None
    async with connection() as sql:
        rows = await sql.fetchval("SELECT count(*) FROM member_tier WHERE program_id = $1", program.id)
    assert rows == 2 * len(members)
    assert silver


async def test_a_late_event_meets_the_tier_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 6, 1)
    program, (silver,) = await program_of(ROLLING, 100)
    member = await new_member(program)
    # Two years of purchases that come in today: reached, lost, and reached again.
    await buy(program, member, (at(2024, 1, 10), 100), (at(2026, 5, 1), 100))
    for moment, tier in (
        (at(2024, 1, 9), None),
        (at(2024, 1, 10), silver),
        (at(2025, 1, 10, 23), silver),
        (at(2025, 1, 11), None),
        (at(2026, 5, 1), silver),
        (clock.now(), silver),
    ):
        assert await tier_at(program.id, member.id, moment) == tier, moment


async def test_what_is_given_by_hand_stays_for_its_time_and_is_not_taken_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 6, 1)
    program, (silver, gold, platinum) = await program_of(SPENT, 100, 1000, 5000)
    member = await new_member(program)
    until = at(2026, 9, 1)
    await give(program, member, gold, until)
    assert await tier_of(program, member) == gold
    assert (await progress_of(program, member)).keeps_until == until
    await buy(program, member, (at(2026, 5, 1), 100))
    assert await tier_of(program, member) == gold
    set_now(monkeypatch, 2026, 9, 1)
    await sweep()
    assert await tier_of(program, member) == silver
    await buy(program, member, (at(2026, 8, 1), 1000))
    assert await tier_of(program, member) == gold
    # Taken away by hand: what was earned before does not bring it back, what is newly reached does.
    await give(program, member, None)
    await evaluate_members(program.id, [member.id], None)
    assert await tier_of(program, member) is None
    await buy(program, member, (at(2026, 8, 2), 3000))
    assert await tier_of(program, member) is None
    await buy(program, member, (at(2026, 8, 3), 900))
    assert await tier_of(program, member) == platinum
    ups = ["tier.up", "tier.down", "tier.up", "tier.down", "tier.up"]
    assert [topic for topic, _ in await told(program, member)] == ups


async def test_changing_a_threshold_lifts_at_once_and_demotes_nobody_before_the_term_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 1, 10)
    program, (silver,) = await program_of(ROLLING, 100)
    rich, poor = await new_member(program), await new_member(program)
    await buy(program, rich, (at(2026, 1, 5), 120))
    await buy(program, poor, (at(2026, 1, 6), 60))
    set_now(monkeypatch, 2026, 2, 1)
    await update_tier(program.id, silver, {"threshold": Decimal(200)})
    await work_all(program)
    assert await tier_of(program, rich) == silver
    await buy(program, rich, (at(2026, 1, 20), 10))
    assert (await progress_of(program, rich)).keeps_until == at(2027, 1, 6)
    set_now(monkeypatch, 2026, 3, 1)
    await update_tier(program.id, silver, {"threshold": Decimal(50)})
    await work_all(program)
    assert await tier_of(program, poor) == silver
    assert await tier_at(program.id, poor.id, at(2026, 2, 28)) is None
    await update_tier(program.id, silver, {"threshold": Decimal(5000)})
    await work_all(program)
    set_now(monkeypatch, 2027, 1, 21)
    await sweep()
    assert [await tier_of(program, each) for each in (rich, poor)] == [None, None]


async def test_a_policy_that_changes_counts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 6, 1)
    program, (silver,) = await program_of(ROLLING._replace(downgrade=TierDowngrade.NEVER), 100)
    member = await new_member(program)
    await buy(program, member, (at(2020, 1, 1), 100))
    assert await tier_of(program, member) == silver
    await update_program(program.id, {"tier_policy": ROLLING})
    await work_all(program)
    assert await tier_of(program, member) is None
    await update_program(program.id, {"tier_policy": TierPolicy(TierBasis.PURCHASES)})
    await work_all(program)
    assert (await progress_of(program, member)).qualifying == 1


async def test_what_was_given_by_hand_is_there_again_when_what_came_above_it_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 6, 1)
    program, (silver, gold, platinum) = await program_of(SPENT, 100, 200, 300)
    until = at(2026, 9, 1)
    for hand, bought, kept in ((gold, 0, gold), (None, 250, None), (silver, 0, silver)):
        member = await new_member(program)
        if bought:
            await buy(program, member, (at(2026, 4, 1), bought))
        await give(program, member, hand, until)
        (last,) = await buy(program, member, (at(2026, 5, 1), 300 - bought))
        assert await tier_of(program, member) == platinum
        await refund_purchase(program.id, EventRef(external_id=last), f"{last}-back")
        await work_all(program)
        for _ in range(2):
            assert await tier_of(program, member) == kept
            assert (await progress_of(program, member)).keeps_until == (until if kept else None)
            await queue_job(program.id, JobName.RECALCULATE_TIERS)
            await work_all(program)
        set_now(monkeypatch, 2026, 9, 1)
        await sweep()
        assert await tier_of(program, member) == (gold if bought else None)
        set_now(monkeypatch, 2026, 6, 1)


async def test_a_purchase_by_a_clock_that_is_fast_counts_when_its_time_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2026, 6, 1, 12)
    program, (silver,) = await program_of(SPENT, 100)
    member = await new_member(program)
    await buy(program, member, (clock.now() + timedelta(minutes=4), 100))
    await queue_job(program.id, JobName.RECALCULATE_TIERS)
    await work_all(program)
    assert await tier_of(program, member) is None
    set_now(monkeypatch, 2026, 6, 1, 12, 4)
    await sweep()
    assert await tier_of(program, member) == silver
