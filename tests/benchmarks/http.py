"""The API over HTTP, in one server process with a load generator beside it."""

import sys
from typing import Any

from app.ledger.verify import verify
from tests.benchmarks.harness import (
    TRIVIAL,
    Figure,
    Load,
    Sender,
    Servers,
    connected,
    fill_accounts,
    in_turns,
    make_program,
    member_name,
    run,
    serving,
)
from tests.platform.instance import free_port

MEMBERS = 10_000
EVENTS = 500
LINES = 3
_PAGE = 20

RECORD = """mutation Record($input: PurchaseInput!) { recordPurchase(input: $input) {
  event { id status points amount } userErrors { code message field } } }"""

RECORD_MANY = """mutation RecordMany($input: [EventInput!]!) { recordEvents(input: $input) {
  accepted replayed userErrors { code message field } } }"""

MEMBER = """query Member($by: MemberRef!) { member(by: $by) { externalId
  balance { available pending reserved debt lifetimeEarned }
  ledger(first: 20) { nodes { id sequence kind points availableAfter reason occurredAt expiresAt }
    pageInfo { hasNextPage endCursor } } } }"""


def purchase(external_id: str, member: str, lines: int = LINES) -> dict[str, Any]:
    """Return a PurchaseInput with so many lines."""
    return {
        "member": {"externalId": member},
        "externalId": external_id,
        "occurredAt": "2026-02-03T14:05:00+01:00",
        "lines": [
            {
                "sku": f"SKU-{number:05}",
                "name": f"Article number {number}",
                "category": "Tea",
                "quantity": "2",
                "amount": f"{number + 4}.90",
            }
            for number in range(lines)
        ],
    }


def many(request: int) -> list[dict[str, Any]]:
    """Return the input of a `recordEvents` whose ids the load generator completes."""
    start = request * EVENTS
    return [
        {"purchase": purchase(f"@@@@@@@@-{n}", member_name((start + n) % MEMBERS))} for n in range(EVENTS)
    ]


async def _purchases(servers: Servers, rounds: int, seconds: float) -> Figure:
    settings = await servers.new_database()
    async with connected(settings):
        bench = await make_program(MEMBERS)
    port = free_port()
    body = {"query": RECORD, "variables": {"input": purchase("@@@@@@@@", "########")}}
    ours = Sender(
        Load(port, bench.key, [body], seconds=seconds, members=MEMBERS, must_contain='"userErrors":[]')
    )
    limit = Sender(Load(port, bench.key, [{"query": TRIVIAL}], seconds=seconds))
    with serving(servers, settings, port):
        await ours.rate()
        ours.slices.clear()
        turns = await in_turns(rounds, ours.rate, limit.rate)
    figure = turns.figure(
        "recordPurchase NOW over HTTP, 32 connections", 0.3, "requests/s", "{ __typename }, same server"
    )
    figure.notes += [ours.latency("recordPurchase"), limit.latency("{ __typename }")]
    await servers.drop_database(settings)
    return figure


async def _events(servers: Servers, rounds: int, seconds: float) -> Figure:
    settings = await servers.new_database()
    async with connected(settings):
        bench = await make_program(MEMBERS)
    port, noop_port = free_port(), free_port()
    bodies = [{"query": RECORD_MANY, "variables": {"input": many(request)}} for request in range(20)]

    def sender(to: int) -> Sender:
        return Sender(
            Load(to, bench.key, bodies, connections=4, seconds=seconds, must_contain=f'"accepted":{EVENTS},')
        )

    ours, limit = sender(port), sender(noop_port)
    with (
        serving(servers, settings, port),
        serving(servers, settings, noop_port, [sys.executable, "-m", "tests.benchmarks.noop_server"]),
    ):
        await ours.rate()
        await limit.rate()
        turns = await in_turns(rounds, ours.rate, limit.rate)
    for side in turns:
        side[:] = [rate * EVENTS for rate in side]
    name = f"recordEvents, {EVENTS} purchases of {LINES} lines: stored"
    figure = turns.figure(name, 0.5, "events/s", "a resolver that does nothing")
    await servers.drop_database(settings)
    return figure


async def _member_page(servers: Servers, rounds: int, seconds: float, quick: bool) -> list[Figure]:
    """Every member has a full page of entries in both databases, so that the answers are of one size."""
    sides = []
    for members, entries_each in ((500, _PAGE), (4_000 if quick else 20_000, 50)):
        settings = await servers.new_database()
        async with connected(settings):
            bench = await make_program(members)
            await fill_accounts(bench.program, entries_each)
            if members == 500:
                found = [each async for _, findings in verify(bench.program.id) for each in findings]
                assert not found, found[0]
        port = free_port()
        body = {"query": MEMBER, "variables": {"by": {"externalId": "########"}}}
        spec = Load(port, bench.key, [body], 16, seconds, members=members, must_contain='"sequence":')
        sides.append((settings, port, Sender(spec), members * entries_each))
    (few_settings, few_port, few, few_entries), (settings, port, sender, entries) = sides
    with serving(servers, few_settings, few_port), serving(servers, settings, port):
        await few.rate()
        await sender.rate()
        few.slices.clear()
        sender.slices.clear()
        turns = await in_turns(rounds, sender.rate, few.rate)
    for used in (few_settings, settings):
        await servers.drop_database(used)
    figure = turns.figure(
        f"member, balance, last 20 entries: of {entries:,}", 0.9, "requests/s", f"the same of {few_entries:,}"
    )
    figure.notes += [sender.latency(f"{entries:,} entries"), few.latency(f"{few_entries:,} entries")]
    return [figure]


async def _measure(servers: Servers, quick: bool) -> list[Figure]:
    rounds, seconds = (3, 1.5) if quick else (7, 3.0)
    return [
        await _purchases(servers, rounds, seconds),
        await _events(servers, rounds, seconds),
        *await _member_page(servers, rounds, seconds, quick),
    ]


def figures(servers: Servers, quick: bool) -> list[Figure]:
    """Measure (c), what is stored of (d), and (e)."""
    result: list[Figure] = run(_measure(servers, quick))
    return result
