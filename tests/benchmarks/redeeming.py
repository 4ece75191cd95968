"""Points burned over HTTP, on many rewards and all on one, and the catalog as members read it."""

import asyncio
import statistics
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from app import clock
from app.access.tokens import LONGEST_SECONDS, MemberTokens
from app.catalog.inputs import RewardContent
from app.catalog.rewards import Reward, RewardKind, RewardLimits
from app.catalog.service import create_reward
from app.catalog.vault import Vault
from app.database import connection
from app.ids import to_global_id
from app.keyring import secret_key
from app.ledger.verify import verify
from app.members.reads import MemberRef, find_states
from app.redemptions.inputs import Wanted
from app.redemptions.taking import take
from app.settings import Settings
from app.tiers.inputs import NewTier
from app.tiers.service import create_tier, set_member_tier
from tests.api.client import running
from tests.api.statements import counting
from tests.benchmarks.harness import (
    TRIVIAL,
    Bench,
    Figure,
    Load,
    Rounds,
    Sender,
    Servers,
    connected,
    fill_accounts,
    make_program,
    member_name,
    run,
    serving,
)
from tests.platform.instance import free_port

MEMBERS = 10_000
REWARDS = 20
PRICE = 10
_LOTS = 5
_POINTS = 1_000
"""Of each lot: enough for far more redemptions than a member gets to."""
_STOCK = 100_000_000
_CATALOG = 500
_PAGE = 50
_MOST_STATEMENTS = 6
_WARM_UP = 10
_READERS = 200
"""Members who read the catalog in turns, each with a token."""
_VAULT = Vault("a secret of the benchmarks")

REDEEM = """mutation Redeem($input: RedeemInput!) { redeem(input: $input) {
  redemption { id status } userErrors { code } } }"""

RESERVE = """mutation Reserve($input: ReserveInput!) { reserve(input: $input) {
  redemption { id status } userErrors { code } } }"""

CAPTURE = """mutation Capture($input: CaptureInput!) { capture(input: $input) {
  redemption { id status } userErrors { code } } }"""

CATALOG = """{ catalog(first: 50) {
  edges { cursor node { id kind name description imageUrl status points stock startsAt endsAt
    limits { maxPerMember maxPerMemberPerMonth maxTotal }
    tiers { id name }
    eligibility { redeemable reasons pointsMissing } } }
  pageInfo { hasNextPage endCursor } } }"""

_SPENT = """
SELECT (SELECT count(*) FROM redemption WHERE program_id = $1 AND status = 'CONFIRMED') AS redeemed,
    (SELECT count(*) FROM redemption WHERE program_id = $1 AND status = 'RESERVED') AS reserved,
    (SELECT sum(s.taken)::bigint FROM reward_stock s JOIN reward r ON r.id = s.reward_id
        WHERE r.program_id = $1) AS taken,
    (SELECT sum(available + reserved)::bigint FROM account WHERE program_id = $1) AS left,
    (SELECT sum(reserved)::bigint FROM account WHERE program_id = $1) AS set_aside
"""


class Shop(NamedTuple):
    """A program whose members have points, rewards without end, and one of which there are many pieces."""

    bench: Bench
    rewards: list[Reward]
    stocked: Reward


async def make_shop(members: int = MEMBERS) -> Shop:
    """Make the program, its members' points and its rewards, in the database that is connected."""
    bench = await make_program(members)
    await fill_accounts(bench.program, _LOTS, _POINTS)
    rewards = [await create_reward(bench.program.id, _content(f"Reward {n}"), _VAULT) for n in range(REWARDS)]
    stocked = await create_reward(bench.program.id, _content("The one", stock=_STOCK), _VAULT)
    return Shop(bench, rewards, stocked)


def _content(name: str, **said: Any) -> RewardContent:
    return RewardContent(**({"kind": RewardKind.PRODUCT, "name": name, "points": PRICE} | said))


def _bodies(query: str, rewards: Sequence[Reward], key: str) -> list[dict[str, Any]]:
    """Return requests of members by chance, one body for each reward."""
    return [
        {
            "query": query,
            "variables": {
                "input": {
                    "member": {"externalId": "########"},
                    "rewardId": to_global_id("Reward", reward.id),
                    "idempotencyKey": f"{key}-@@@@@@@@",
                }
            },
        }
        for reward in rewards
    ]


async def _redemptions(servers: Servers, rounds: int, seconds: float) -> list[Figure]:
    settings = await servers.new_database()
    async with connected(settings):
        shop = await make_shop()
    port, other_port = free_port(), free_port()

    def sender(bodies: list[dict[str, Any]], to: int = port, connections: int = 32, **more: Any) -> Sender:
        spec = Load(
            to, shop.bench.key, bodies, connections, seconds,
            members=MEMBERS, must_contain='"userErrors":[]', **more,
        )  # fmt: skip
        return Sender(spec)

    many = sender(_bodies(REDEEM, shop.rewards, "many"))
    one = sender(_bodies(REDEEM, [shop.stocked], "one"))
    body = {"redemptionId": "$$$$$$$$", "idempotencyKey": "capture-$$$$$$$$"}
    capture = {"query": CAPTURE, "variables": {"input": body}}
    pair = sender(_bodies(RESERVE, shop.rewards, "pair"), then=capture)
    halves = [
        sender(_bodies(REDEEM, [shop.stocked], f"half-{to}"), to, connections=16) for to in (port, other_port)
    ]
    trivial = Sender(Load(port, shop.bench.key, [{"query": TRIVIAL}], seconds=seconds))
    sides = [many, one, trivial]
    with serving(servers, settings, port):
        for each in sides:
            await each.rate()
            each.slices.clear()
        for number in range(rounds):
            for each in sides if number % 2 == 0 else reversed(sides):
                await each.rate()
        await pair.rate()
        with serving(servers, settings, other_port):
            both = [await _together(halves) for _ in range(3)]
            alone = [await one.rate() for _ in range(3)]
    async with connected(settings):
        await _prove(shop)
    await servers.drop_database(settings)

    def rates(side: Sender) -> list[float]:
        return [each.rate for each in side.slices[:rounds]]

    name = f"redeem over HTTP, 32 connections, {REWARDS} rewards"
    spread = Rounds(rates(many), rates(trivial)).figure(
        name, 0.3, "requests/s", "{ __typename }, same server"
    )
    spread.notes += [
        many.latency("redeem"),
        trivial.latency("{ __typename }"),
        f"reserve and capture, 32 connections: {pair.slices[0].rate:,.0f} pairs/s",
    ]
    stock = Rounds(rates(one), rates(many)).figure(
        "redeem over HTTP, all of one reward with stock", 0.5, "requests/s", f"the same of {REWARDS} rewards"
    )
    shares = [ours / limit for ours, limit in zip(rates(one), rates(trivial), strict=True)]
    stock.notes += [
        one.latency("redeem"),
        f"as a share of {{ __typename }}: {statistics.median(shares):.2f}",
        f"through two server processes: {statistics.median(both):,.0f} requests/s,"
        f" through one beside them: {statistics.median(alone):,.0f}",
    ]
    return [spread, stock]


async def _together(senders: Sequence[Sender]) -> float:
    """Return the sum of the rates of senders that send at the same time."""
    return sum(await asyncio.gather(*(each.rate() for each in senders)))


async def _prove(shop: Shop) -> None:
    """See that the books are in order, and that nothing was spent but for what was redeemed."""
    program_id = shop.bench.program.id
    found = [each async for _, findings in verify(program_id) for each in findings]
    assert not found, found[0]
    async with connection() as sql:
        row = await sql.fetchrow(_SPENT, program_id)
    assert row["set_aside"] == PRICE * row["reserved"], row
    assert MEMBERS * _LOTS * _POINTS - row["left"] == PRICE * row["redeemed"], row
    assert row["taken"] == row["redeemed"] + row["reserved"], row


def _assortment(tiers: Sequence[UUID]) -> list[RewardContent]:
    """Return a catalog: every third reward has stock, every fourth limits, every fifth is for a tier."""
    contents = []
    for n in range(_CATALOG):
        limits = RewardLimits(max_per_member=3, max_per_member_per_month=2) if n % 4 == 0 else RewardLimits()
        contents.append(
            _content(
                f"Something nice {n}",
                description=f"What number {n} is like, and what somebody gets for so many points.",
                image_url=f"https://shop.example/pictures/{n}.jpg",
                points=PRICE * (1 + n % 1000),
                stock=_STOCK if n % 3 == 0 else None,
                limits=limits,
                tiers=(tiers[n % len(tiers)],) if n % 5 == 0 else (),
            )
        )
    return contents


async def _make_catalog(tokens: MemberTokens) -> list[str]:
    """Make a program with a catalog in the database that is connected, and return its readers' tokens."""
    bench = await make_program(MEMBERS)
    program_id = bench.program.id
    await fill_accounts(bench.program, _LOTS, _POINTS)
    tiers = [
        await create_tier(program_id, NewTier(name=name, threshold=Decimal(threshold)))
        for name, threshold in (("Leaf", 0), ("Branch", 500), ("Tree", 5000))
    ]
    rewards = [
        await create_reward(program_id, content, _VAULT)
        for content in _assortment([tier.id for tier in tiers])
    ]
    limited = [reward for reward in rewards[:50] if reward.limits.count_members and not reward.tiers]
    readers = [MemberRef(external_id=member_name(n)) for n in range(_READERS)]
    for number, ref in enumerate(readers):
        if number % 3:
            await set_member_tier(program_id, ref, tiers[number % 3].id, None, None, "For the benchmark")
    for reward in limited:
        wanted = [Wanted(ref, reward.id, f"{reward.id}-{number}") for number, ref in enumerate(readers)]
        taken = await take(program_id, wanted, _VAULT)
        assert all(each.redemption for each in taken), taken[0].errors
    async with connection() as sql:
        members = await find_states(sql, program_id, readers)
    return [
        tokens.issue(program_id, member.id, LONGEST_SECONDS, clock.now()).token
        for member in members
        if member
    ]


async def _statements(settings: Settings, token: str) -> int:
    """Return how many statements one page takes.

    A connection that has never met a statement asks what it needs to know of its types: that is done first.
    """
    async with running(settings) as api, counting() as counted:
        for _ in range(_WARM_UP):
            counted.all.clear()
            page = await api.call(CATALOG, token=token)
            assert len(page["catalog"]["edges"]) == _PAGE, page
    return len(counted.statements)


async def _pages(servers: Servers, rounds: int, seconds: float) -> Figure:
    settings = await servers.new_database()
    async with connected(settings):
        tokens = await _make_catalog(MemberTokens(secret_key(settings)))
        statements = await _statements(settings, tokens[0])
    port, page = free_port(), {"query": CATALOG}
    alone, many = (
        Sender(Load(port, "", [page], connections, seconds, must_contain='"pointsMissing":', keys=tokens))
        for connections in (1, 32)
    )
    trivial = Sender(Load(port, "", [{"query": TRIVIAL}], seconds=seconds, keys=tokens))
    sides = [alone, many, trivial]
    with serving(servers, settings, port):
        await many.rate()
        many.slices.clear()
        for number in range(rounds):
            for each in sides if number % 2 == 0 else reversed(sides):
                await each.rate()
    await servers.drop_database(settings)
    figure = Figure(
        f"catalog, {_PAGE} of {_CATALOG} with eligibility: SQL statements",
        statements,
        _MOST_STATEMENTS,
        statements / _MOST_STATEMENTS,
        1,
        "",
        "what a page may take",
        at_most=True,
    )
    rate = statistics.median(each.rate for each in many.slices)
    limit = statistics.median(each.rate for each in trivial.slices)
    figure.notes += [
        alone.latency("1 connection"),
        many.latency("32 connections"),
        f"32 connections: {rate:,.0f} pages/s; {{ __typename }}: {limit:,.0f} requests/s",
    ]
    return figure


async def _measure(servers: Servers, quick: bool) -> list[Figure]:
    rounds, seconds = (3, 1.5) if quick else (7, 3.0)
    return [
        *await _redemptions(servers, rounds, seconds),
        await _pages(servers, 3 if quick else 5, seconds),
    ]


def figures(servers: Servers, quick: bool) -> list[Figure]:
    """Measure redeeming, with stock and without, and the catalog."""
    result: list[Figure] = run(_measure(servers, quick))
    return result
