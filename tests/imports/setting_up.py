"""Programs that are set up as a world of the independent calculation says, and what became of them."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID

import pytest

from app import clock
from app.campaigns.audience import Audience
from app.campaigns.checks import NewCampaign
from app.campaigns.service import create_campaign
from app.database import connection, transaction
from app.earning.rule_service import create_rule
from app.earning.rules import (
    EventKind,
    Frequency,
    Period,
    PointsPerAmount,
    ProductFilter,
    RuleDefinition,
    RuleLimits,
    RuleStacking,
    RuleStatus,
)
from app.ids import new_id
from app.ledger.operations import EntryKind, Operation, Status
from app.ledger.service import apply, terms
from app.members.inputs import NewMember
from app.members.reads import MemberRef
from app.members.service import enroll_members
from app.programs.policies import load_policy
from app.programs.policy import MultiplierStacking, Rounding
from app.tiers.inputs import NewTier
from app.tiers.service import create_tier, set_member_tier
from tests.helpers import set_now
from tests.imports.independent import Result
from tests.imports.world import Rule, World
from tests.programs.making import make_program

_BEFORE = (2010, 11, 1)
"""When programs are set up: rules whose window has ended cannot be made."""


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def _maybe(value: Fraction | None) -> Decimal | None:
    return None if value is None else _decimal(value)


def _definition(rule: Rule, tiers: dict[str, UUID]) -> RuleDefinition:
    by_amount = rule.per is not None
    gives = rule.times is None
    return RuleDefinition(
        rule.name,
        EventKind.PURCHASE,
        points_per_amount=PointsPerAmount(_decimal(rule.per)) if rule.per is not None else None,
        fixed_points=rule.fixed,
        multiplier=_maybe(rule.times),
        minimum_amount=_maybe(rule.minimum),
        products=ProductFilter(
            *map(tuple, map(sorted, (rule.skus, rule.categories, rule.brands, rule.not_skus))),
            tuple(sorted(rule.not_categories)),
        )
        if rule.filtered
        else None,
        audience=Audience(tuple(tiers[name] for name in rule.tiers)) if rule.tiers else None,
        stacking=(RuleStacking.REPLACE if rule.replaces else RuleStacking.ADD) if by_amount else None,
        limits=RuleLimits(
            max_points_per_transaction=rule.per_purchase,
            max_points_per_day=rule.per_day,
            frequency=Frequency(rule.often[0], Period(rule.often[1])) if rule.often else None,
            cooldown_minutes=rule.pause_minutes,
            max_times_per_member=rule.at_most,
        ),
        tier_multiplier_applies=rule.by_tier if gives else None,
        campaign_multiplier_applies=rule.by_campaign if gives else None,
        starts_at=rule.starts,
        ends_at=rule.ends,
        priority=rule.priority,
    )


async def set_up(world: World, monkeypatch: pytest.MonkeyPatch, **settings: object) -> UUID:
    """Make a program as a world says, by its services, and return its id."""
    with monkeypatch.context() as then:
        set_now(then, *_BEFORE)
        program = await make_program(
            currency="GBP",
            timezone=world.zone,
            rounding=Rounding(world.rounding),
            multiplier_stacking=MultiplierStacking(world.stacking),
            max_points_per_day=world.cap,
            debt_limit=world.debt_limit,
            **settings,
        )
        tiers = {}
        for number, (name, factor) in enumerate(world.tiers.items(), start=1):
            threshold = Decimal(0 if name == world.start else number * 100)
            tier = NewTier(name=name, threshold=threshold, multiplier=_decimal(factor))
            tiers[name] = (await create_tier(program.id, tier)).id
        for campaign in world.campaigns:
            new = NewCampaign(
                name=campaign.name,
                starts_at=campaign.starts,
                ends_at=campaign.ends,
                multiplier=_decimal(campaign.factor),
                audience=Audience(tuple(tiers[name] for name in campaign.tiers)),
            )
            await create_campaign(program.id, new)
        for rule in world.rules:
            await create_rule(program.id, _definition(rule, tiers), RuleStatus.ACTIVE)
        await _give_tiers(program.id, world, tiers)
    return program.id


async def _give_tiers(program_id: UUID, world: World, tiers: dict[str, UUID]) -> None:
    joined = datetime(*_BEFORE, tzinfo=UTC)
    members = list(world.given)
    for start in range(0, len(members), 500):
        chunk = members[start : start + 500]
        await enroll_members(program_id, [NewMember(external_id=name, joined_at=joined) for name in chunk])
    for member, history in world.given.items():
        for number, given in enumerate(history):
            tier = None if given.tier is None else tiers[given.tier]
            ref = MemberRef(external_id=member)
            await set_member_tier(program_id, ref, tier, given.since, given.until, f"Change {number}")


async def spend_everything(program_id: UUID) -> None:
    """Let every member spend all that there is."""
    now = clock.now()
    async with transaction() as sql:
        rows = await sql.fetch("SELECT id, available FROM account WHERE program_id = $1", program_id)
        operations = [
            Operation(row["id"], EntryKind.REDEEM, row["available"], new_id(), 0, now)
            for row in rows
            if row["available"] > 0
        ]
        outcomes = await apply(sql, terms(await load_policy(sql, program_id), now), operations)
    assert all(outcome.status is Status.APPLIED for outcome in outcomes)


class Books(NamedTuple):
    """What became of members and purchases, in terms that can be compared.

    Attributes:
        members: available and pending points (negative for debt), and what was earned and spent in a
            lifetime, by member.
        awards: points granted and kept, by order and rule; without those of no points.
    """

    members: dict[str, tuple[int, int, int]]
    awards: dict[tuple[str, str], tuple[int, int]]


async def books_of(program_id: UUID) -> Books:
    """Return what a program's books say."""
    async with connection() as sql:
        accounts = await sql.fetch(
            "SELECT m.external_id, a.available + a.pending AS held, a.lifetime_earned, a.lifetime_spent"
            " FROM member m JOIN account a ON a.member_id = m.id WHERE m.program_id = $1",
            program_id,
        )
        awards = await sql.fetch(
            "SELECT e.external_id, r.definition->>'name' AS rule, a.points, a.remaining"
            " FROM event e JOIN award a ON a.event_id = e.id JOIN earning_rule r ON r.id = a.rule_id"
            " WHERE e.program_id = $1 AND a.points > 0",
            program_id,
        )
    return Books(
        {row[0]: (row["held"], row["lifetime_earned"], row["lifetime_spent"]) for row in accounts},
        {(row[0], row["rule"]): (row["points"], row["remaining"]) for row in awards},
    )


def expected_books(world: World, result: Result) -> Books:
    """Return what the books must say."""
    members = dict.fromkeys(world.given, (0, 0, 0))
    for name, account in result.accounts.items():
        members[name] = (account.available, account.available + account.spent, account.spent)
    awards = {
        (order.id, rule): (points, order.kept[rule])
        for order in result.orders.values()
        for rule, points in order.granted.items()
        if points
    }
    return Books(members, awards)


def differences(books: Books, expected: Books) -> list[str]:
    """Return where books differ from what they must say, a few of each kind."""
    found = []
    for what in ("awards", "members"):
        ours, theirs = getattr(books, what), getattr(expected, what)
        keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        found += [f"{what}: {key}: {ours.get(key)}, not {theirs.get(key)}" for key in keys[:5]]
        if keys[5:]:
            found.append(f"{what}: and {len(keys) - 5} more")
    return found
