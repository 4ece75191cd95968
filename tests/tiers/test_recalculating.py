"""Recalculating a whole program: the same as looking at each member, as a job with progress."""

import random
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from app import clock
from app.database import connection
from app.earning.events import Incoming
from app.earning.recording import store
from app.earning.refunding import EventRef, refund_purchase
from app.jobs.jobs import JobName, JobStatus, get_jobs, queue_job
from app.members.reads import MemberRow
from app.programs.models import Program
from app.programs.service import update_program
from app.tiers import recalculating
from app.tiers.policy import TierBasis, TierDowngrade, TierPolicy, TierWindow
from app.tiers.service import set_member_tier, update_tier
from app.tiers.standings import evaluate_members
from tests.helpers import by_id, earn_all, new_member, purchase, set_now, work_all
from tests.tiers.climbing import program_of
from tests.tiers.making import make_tier, tier_at

BERLIN = ZoneInfo("Europe/Berlin")


async def buy_unnoticed(program: Program, member: MemberRow, *bought: tuple[datetime, int]) -> list[str]:
    """Have a member buy things in the past, without anybody looking at their tier."""
    incoming = [Incoming(purchase(amount, occurred_at=at), by_id(member)) for at, amount in bought]
    await store(program.id, incoming)
    await earn_all(program)
    async with connection() as sql:
        await sql.execute("DELETE FROM outbox WHERE program_id = $1 AND queue = 'tiers'", program.id)
    return [each.content.external_id for each in incoming]


async def recalculated(program: Program) -> Any:
    """Recalculate a program's tiers, and return the job as it is then."""
    queued = await queue_job(program.id, JobName.RECALCULATE_TIERS)
    await work_all(program)
    (job,) = await get_jobs(program.id, [queued.id])
    return job


async def tiers_now(program: Program, members: list[MemberRow]) -> list[UUID | None]:
    return [await tier_at(program.id, member.id, clock.now()) for member in members]


async def looked_at_again(program: Program, members: list[MemberRow]) -> list[UUID | None]:
    """Look at each member as after an event; what that finds ought to have been found."""
    await evaluate_members(program.id, [member.id for member in members], None)
    return await tiers_now(program, members)


@pytest.mark.parametrize("seed", range(6))
async def test_it_finds_what_looking_at_each_member_finds(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(recalculating, "SLICE", 7)
    now = set_now(monkeypatch, 2026, 6, 20, 12)
    window = list(TierWindow)[seed % 3]
    policy = TierPolicy(
        chance.choice(list(TierBasis)),
        window,
        chance.choice([1, 6, 12]) if window is TierWindow.ROLLING_MONTHS else None,
        chance.choice(list(TierDowngrade)),
        chance.choice([0, 0, 30]),
    )
    scale = 1 if policy.basis is TierBasis.PURCHASES else 60
    program, tiers = await program_of(policy, *(n * scale for n in (1, 2, 4)))
    members = [await new_member(program) for _ in range(16)]
    for member in members:
        days = sorted(chance.randrange(1, 700) for _ in range(chance.randrange(5)))
        bought = [(now - timedelta(days=n), chance.randrange(20, 120)) for n in days]
        ids = await buy_unnoticed(program, member, *bought) if bought else []
        if ids and chance.random() < 0.4:
            await refund_purchase(program.id, EventRef(external_id=chance.choice(ids)), f"{ids[0]}-back")
        if chance.random() < 0.2:
            given = chance.choice([None, *tiers])
            await set_member_tier(program.id, by_id(member), given, None, None, "By hand")
    async with connection() as sql:
        await sql.execute("DELETE FROM outbox WHERE program_id = $1 AND queue = 'tiers'", program.id)
    for change in range(3):
        job = await recalculated(program)
        assert (job.status, job.done, job.total) == (JobStatus.SUCCEEDED, 16, 16)
        found = await tiers_now(program, members)
        assert found == await looked_at_again(program, members), policy
        if change == 0:
            set_now(monkeypatch, 2026, 6, 21, 12)
            lowered = Decimal(scale) / 2 if scale > 1 else Decimal(3)
            await update_tier(program.id, tiers[chance.randrange(3)], {"threshold": lowered})
        else:
            now = set_now(monkeypatch, 2027, 1, chance.randrange(1, 28))


async def test_progress_is_told_slice_by_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    program, (silver,) = await program_of(TierPolicy(TierBasis.AMOUNT_SPENT), 100)
    members = [await new_member(program) for _ in range(5)]
    await buy_unnoticed(program, members[3], (clock.now(), 100))
    monkeypatch.setattr(recalculating, "SLICE", 2)
    seen: list[tuple[int, int | None]] = []
    original = recalculating.advance

    async def watched(sql: Any, job: Any, done: int, total: int | None, state: Any) -> None:
        seen.append((done, total))
        await original(sql, job, done, total, state)

    monkeypatch.setattr(recalculating, "advance", watched)
    job = await recalculated(program)
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert (job.status, job.done, job.total, job.error) == (JobStatus.SUCCEEDED, 5, 5, None)
    assert await tiers_now(program, members) == [None, None, None, silver, None]


async def test_a_second_run_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 6, 20)
    policy = TierPolicy(TierBasis.AMOUNT_SPENT, TierWindow.ROLLING_MONTHS, 12)
    program, (silver,) = await program_of(policy, 100)
    member = await new_member(program)
    await buy_unnoticed(program, member, (clock.now(), 150))
    await recalculated(program)
    async with connection() as sql:
        counts = "SELECT (SELECT count(*) FROM member_tier WHERE program_id = $1),"
        counts += " (SELECT xmin::text FROM tier_standing WHERE program_id = $1)"
        before = tuple(await sql.fetchrow(counts, program.id))
    await recalculated(program)
    async with connection() as sql:
        assert tuple(await sql.fetchrow(counts, program.id)) == before == (1, before[1])
    assert silver


async def test_tiers_and_policies_that_change_recalculate_by_themselves() -> None:
    program, _ = await program_of(TierPolicy(TierBasis.AMOUNT_SPENT), 100)
    member = await new_member(program)
    await buy_unnoticed(program, member, (clock.now(), 50))
    low = await make_tier(program.id, 50)
    await work_all(program)
    assert await tiers_now(program, [member]) == [low.id]
    await update_program(program.id, {"tier_policy": TierPolicy(TierBasis.PURCHASES)})
    await work_all(program)
    assert await tiers_now(program, [member]) == [None]


async def test_what_is_queued_is_not_queued_again() -> None:
    program, _ = await program_of(TierPolicy(), 100)
    first = await queue_job(program.id, JobName.RECALCULATE_TIERS)
    assert await queue_job(program.id, JobName.RECALCULATE_TIERS) == first
    await work_all(program)
    assert (await queue_job(program.id, JobName.RECALCULATE_TIERS)).id != first.id
