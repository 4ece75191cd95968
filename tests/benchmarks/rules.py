"""What every kind of rule costs: storing and earning events with all of them on, and with one plain rule."""

import time
from datetime import UTC, datetime
from decimal import Decimal

from app import clock
from app.campaigns.audience import Audience
from app.campaigns.checks import NewCampaign
from app.campaigns.service import create_campaign
from app.database import connection
from app.earning.rule_service import create_rule
from app.earning.rules import (
    EventKind,
    Frequency,
    Period,
    PointsPerAmount,
    ProductFilter,
    RuleDefinition,
    RuleLimits,
    RuleStatus,
)
from app.members.reads import MemberRef
from app.tiers.inputs import NewTier
from app.tiers.service import create_tier, set_member_tier
from tests.benchmarks.harness import (
    Bench,
    Figure,
    Servers,
    connected,
    in_turns,
    make_program,
    member_name,
    run,
)
from tests.benchmarks.worker import Events, earn_stored

_RULES = 50
_MEMBERS = 1000
"""Each comes back every few seconds, so that limits have something to say."""
_MEMBERS_WITH_A_TIER = 500


def _rate(points: str) -> PointsPerAmount:
    return PointsPerAmount(Decimal(points))


def _definitions() -> list[RuleDefinition]:
    """Return rules of every sort beside the plain one: what a purchase of the benchmark meets, and others.

    It earns by the plain rule, in whose place another one pays for one in seven articles, both
    multiplied; the rules with a limit have paid their part soon, and are looked up all the same.
    """
    purchase = EventKind.PURCHASE
    limits = RuleLimits(max_points_per_day=5_000, budget=100_000_000)
    meets = [
        RuleDefinition("Two for this", purchase, points_per_amount=_rate("2"), priority=3,
            products=ProductFilter(skus=("SKU-00001",), brands=("Ours",)), limits=limits),
        RuleDefinition("Tea counts double", purchase, multiplier=Decimal(2),
            products=ProductFilter(categories=("Tea",), excluded_skus=("SKU-00002",))),
        RuleDefinition("Big basket", purchase, fixed_points=5, minimum_amount=Decimal(500)),
        RuleDefinition("Once a month", purchase, fixed_points=10,
            limits=RuleLimits(frequency=Frequency(1, Period.MONTH))),
        RuleDefinition("Now and then", purchase, fixed_points=3, limits=RuleLimits(cooldown_minutes=400_000)),
        RuleDefinition("A welcome", purchase, fixed_points=50, limits=RuleLimits(max_times_per_member=1)),
    ]  # fmt: skip
    others = [
        RuleDefinition(f"Goods {n}", purchase, points_per_amount=_rate("3"), limits=limits,
            products=ProductFilter(skus=(f"SKU-{n:05}",), brands=(f"Brand {n}",)))
        for n in range(_RULES - len(meets) - 1)
    ]  # fmt: skip
    return meets + others


async def _furnish(bench: Bench) -> None:
    """Give a program, which has one plain rule, all the rest: rules, tiers, campaigns."""
    program_id = bench.program.id
    for definition in _definitions():
        await create_rule(program_id, definition, RuleStatus.ACTIVE)
    tiers = [
        await create_tier(
            program_id, NewTier(name=name, threshold=Decimal(threshold), multiplier=Decimal(multiplier))
        )
        for name, threshold, multiplier in (("Blue", 0, "1"), ("Silver", 500, "1.5"), ("Gold", 1000, "2"))
    ]
    for n in range(_MEMBERS_WITH_A_TIER):
        await set_member_tier(
            program_id,
            MemberRef(external_id=member_name(n)),
            tiers[1 + n % 2].id,
            datetime(2026, 1, 1, tzinfo=UTC),
            None,
            "Benchmark",
        )
    window = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    for name, multiplier, audience in (("Year", "1.1", ()), ("Gold only", "3", (tiers[2].id,))):
        await create_campaign(
            program_id,
            NewCampaign(
                name=name,
                starts_at=window[0],
                ends_at=window[1],
                multiplier=Decimal(multiplier),
                audience=Audience(tiers=audience),
            ),
        )


_AWARDS = """
SELECT count(a.event_id) / count(DISTINCT e.id)::float8 FROM event e LEFT JOIN award a ON a.event_id = e.id
WHERE e.program_id = $1 AND e.recorded_at >= $2
"""


async def _awards_each(bench: Bench, since: datetime) -> float:
    """Return how many awards an event of a program had on average."""
    async with connection() as sql:
        return float(await sql.fetchval(_AWARDS, bench.program.id, since))


async def _rate_of(events: Events, *, earned: bool = True) -> float:
    """Return events a second that `recordEvents` stores in this process alone.

    Args:
        earned: count the time until their points are earned, too.
    """
    started = time.perf_counter()
    await events.store()
    stored = time.perf_counter() - started
    done = await earn_stored()
    return done / (time.perf_counter() - started if earned else stored)


async def _measure(servers: Servers, quick: bool) -> list[Figure]:
    rounds, per_round = (3, 2_000) if quick else (7, 5_000)
    settings = await servers.new_database()
    async with connected(settings):
        plain = await make_program(_MEMBERS)
        rich = await make_program(_MEMBERS, slug="rich", max_points_per_day=2_000)
        await _furnish(rich)
        with_one, with_all = Events(plain, per_round, _MEMBERS), Events(rich, per_round, _MEMBERS)
        for events in (with_one, with_all):
            await _rate_of(events)
        since = clock.now()
        stored = await in_turns(
            rounds, lambda: _rate_of(with_all, earned=False), lambda: _rate_of(with_one, earned=False)
        )
        measured = await in_turns(rounds, lambda: _rate_of(with_all), lambda: _rate_of(with_one))
        awards = await _awards_each(rich, since)
    await servers.drop_database(settings)
    rules = f"{_RULES} rules of every sort"
    note = f"{awards:.1f} awards for each event, against one"
    against = "the same with one plain rule"
    return [
        stored.figure(f"recordEvents, stored, {rules}", 0.6, "events/s", against),
        measured.figure(f"recordEvents, stored and earned, {rules}", 0.6, "events/s", against, notes=[note]),
    ]


def figures(servers: Servers, quick: bool) -> list[Figure]:
    """Measure what every kind of rule costs beside one plain rule."""
    result: list[Figure] = run(_measure(servers, quick))
    return result
