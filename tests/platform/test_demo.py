"""The demo program: filled once, finished after an interruption, and with something for every query."""

import dataclasses
from uuid import uuid4

import pytest

from app import demo, demo_friends, demo_rewards
from app.campaigns.campaigns import CampaignStatus
from app.campaigns.reads import list_campaigns
from app.catalog.rewards import RewardKind
from app.catalog.vault import Vault
from app.database import connection
from app.paging import make_page
from app.programs.service import create_program
from app.redemptions.redemptions import RedemptionStatus
from tests.helpers import find_differences, work_all

VAULT = Vault("a secret of the tests")
TABLES = (
    "store", "tier", "earning_rule", "campaign", "member", "member_tier", "event", "refund", "reward",
    "reward_code", "redemption", "idempotency_key", "referral", "referral_credit", "transfer",
)  # fmt: skip
STEPS = (
    *((demo, step) for step in (
        "create_store", "create_tier", "create_rule", "create_campaign", "enroll_members", "set_member_tier",
        "record_now", "evaluate_members", "refund_purchase", "return_items", "adjust_points",
    )),
    *((demo_rewards, step) for step in (
        "create_reward", "upload_codes", "adjust_points", "take", "cancel", "capture", "fulfil", "use_code",
    )),
    *((demo_friends, step) for step in (
        "enroll_members", "record_now", "credit_members", "send", "arrive_members",
    )),
)  # fmt: skip
ONCE = {
    *((demo, step) for step in ("enroll_members", "return_items")),
    *((demo_rewards, step) for step in ("upload_codes", "cancel", "capture", "use_code")),
    *((module, step) for module, step in STEPS if module is demo_friends),
}
"""Steps that are taken once: broken off when they are done."""

PAID_BY = """
SELECT r.definition->>'name' FROM award a JOIN event e ON e.id = a.event_id
JOIN earning_rule r ON r.id = a.rule_id WHERE e.program_id = $1 AND a.points > 0
"""
STATES = "SELECT status FROM redemption WHERE program_id = $1"
KINDS = "SELECT kind FROM reward WHERE program_id = $1"
TIERS = """
SELECT t.name, g.automatic, count(DISTINCT g.member_id) FROM member_tier g JOIN tier t ON t.id = g.tier_id
WHERE g.program_id = $1 GROUP BY t.name, g.automatic
"""
REFERRALS = """
SELECT referral.status || coalesce(' ' || rejection, '') FROM referral JOIN member m ON m.id = referrer_id
WHERE referral.program_id = $1 AND m.external_id = 'demo-0001'
"""
TRANSFERS = "SELECT status FROM transfer WHERE program_id = $1"
TOPICS = "SELECT DISTINCT topic FROM message WHERE program_id = $1"
LABELS = """
SELECT step->>'kind' FROM award a JOIN event e ON e.id = a.event_id, jsonb_array_elements(a.steps) AS step
WHERE e.program_id = $1
"""


class BrokenOffError(Exception):
    """Stands for whatever ends a start in the middle."""


async def new_demo():
    """Return an empty program like the demo."""
    program, _ = await create_program(dataclasses.replace(demo.PROGRAM, slug=f"demo-{uuid4().hex[:12]}"))
    return program


async def contents(program):
    """Return how many rows of a program each table holds, and how many entries its accounts have."""
    async with connection() as sql:
        rows = {
            table: await sql.fetchval(f"SELECT count(*) FROM {table} WHERE program_id = $1", program.id)
            for table in TABLES
        }
        entries = await sql.fetchval("SELECT sum(sequence) FROM account WHERE program_id = $1", program.id)
    return rows | {"entries": entries}


async def found(statement, program):
    """Return the different values of the only column that a statement finds in a program."""
    async with connection() as sql:
        return {row[0] for row in await sql.fetch(statement, program.id)}


async def test_broken_off_at_every_step_the_demo_is_finished_as_if_nothing_had_happened(monkeypatch):
    program, other = await new_demo(), await new_demo()
    for module, step in STEPS:
        done = getattr(module, step)
        calls = 0

        async def stumble(*args, done=done, once=(module, step) in ONCE, **kwargs):
            nonlocal calls
            calls += 1
            if calls == 2:
                raise BrokenOffError
            result = await done(*args, **kwargs)
            if once:
                raise BrokenOffError
            return result

        with monkeypatch.context() as patch:
            patch.setattr(module, step, stumble)
            with pytest.raises(BrokenOffError):
                await demo.fill(program, VAULT)
    await demo.fill(program, VAULT)
    await demo.fill(other, VAULT)
    assert await contents(program) == await contents(other)
    assert await find_differences(program.id) == []


async def test_a_demo_that_is_filled_again_stays_as_it_is():
    program = await new_demo()
    await demo.fill(program, VAULT)
    before = await contents(program)
    await demo.fill(program, VAULT)
    assert await contents(program) == before


async def test_the_demo_has_something_for_every_query():
    program = await new_demo()
    await demo.fill(program, VAULT)
    there = await contents(program)
    assert all(there.values()), there
    silent = {"Happy birthday", "Lumen counts double", "Coffee is worth more, too"}
    names = await found("SELECT definition->>'name' FROM earning_rule WHERE program_id = $1", program)
    assert await found(PAID_BY, program) == names - silent
    assert await found(LABELS, program) >= {
        "BASE", "PRODUCT_MULTIPLIER", "TIER_MULTIPLIER", "CAMPAIGN_MULTIPLIER", "ROUNDING",
        "TRANSACTION_LIMIT", "BUDGET",
    }  # fmt: skip
    for status in (CampaignStatus.ACTIVE, CampaignStatus.ENDED):
        assert len((await list_campaigns(program.id, make_page(), program.created_at, {status})).items) == 1
    assert await found(KINDS, program) == set(RewardKind)
    assert await found(STATES, program) == set(RedemptionStatus) - {RedemptionStatus.EXPIRED}
    assert await found("SELECT points_amount FROM event WHERE program_id = $1", program) == {None, 25}


async def test_members_of_the_demo_have_climbed_brought_friends_and_sent_points_without_a_worker():
    program = await new_demo()
    await demo.fill(program, VAULT)
    async with connection() as sql:
        climbed = {(row[0], row[1]): row[2] for row in await sql.fetch(TIERS, program.id)}
    assert set(climbed) == {("Blossom", True), ("Gold", True), ("Blossom", False), ("Gold", False)}
    assert climbed["Blossom", True] > climbed["Gold", True] > 5
    assert await found(REFERRALS, program) == {"CREDITED", "PENDING", "REJECTED SAME_IDENTITY"}
    assert await found(TRANSFERS, program) == {"ARRIVED"}
    assert await found(TOPICS, program) >= {
        "points.earned", "tier.up", "referral.credited", "referral.rejected", "transfer.received",
        "redemption.confirmed", "points.taken_back",
    }  # fmt: skip
    # Workers who come to it later find all of it done.
    before = await contents(program)
    await work_all(program)
    assert await contents(program) == before
    assert await find_differences(program.id) == []
