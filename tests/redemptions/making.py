"""Rewards, and members who burn points on them, made by the real services."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from app import clock, days
from app.catalog.codes import open_codes, upload_codes
from app.catalog.inputs import RewardContent
from app.catalog.reads import get_rewards
from app.catalog.rewards import Reward, RewardKind, RewardLimits, RewardStatus, Stock
from app.catalog.service import create_reward
from app.catalog.vault import Vault
from app.coalescing import Coalescer
from app.database import connection, transaction
from app.errors import Refused
from app.ids import new_id
from app.ledger.operations import EntryKind, Operation, Status
from app.ledger.reads import Balance, get_balances
from app.ledger.service import apply, terms
from app.members.reads import MemberRow
from app.programs.models import Program
from app.redemptions.inputs import Wanted
from app.redemptions.redemptions import Redemption
from app.redemptions.taking import Taken, take
from tests.helpers import by_id, find_differences, new_member, policy_of, post

NEVER = date.max
VAULT = Vault("a secret of the tests")
_serial = count(1)


async def new_reward(program: Program, kind: str = "PRODUCT", **content: Any) -> Reward:
    """Set up a reward: for 100 points (a DISCOUNT: 100 for one unit of money), unless told otherwise."""
    base: dict[str, Any] = {"kind": RewardKind(kind), "name": f"Reward {next(_serial)}"}
    if kind == "DISCOUNT":
        base["points_per_currency_unit"] = 100
    else:
        base["points"] = 100
    if kind == "GIFT_CARD":
        base["face_value"] = 10
    said = base | content
    for name in ("points_per_currency_unit", "face_value"):
        if said.get(name) is not None:
            said[name] = Decimal(said[name])
    return await create_reward(program.id, RewardContent(**said), VAULT)


async def rich_member(program: Program, points: int = 1000) -> MemberRow:
    """Enrol a member who has points to spend."""
    member = await new_member(program)
    if points:
        await post(program, member, EntryKind.ADJUST, points)
    return member


def wanted(member: MemberRow, reward: Reward, **said: Any) -> Wanted:
    """Return a request with a key of its own: one piece, at once, unless told otherwise."""
    return Wanted(**({"member": by_id(member), "reward_id": reward.id, "key": new_id().hex} | said))


async def ask(program: Program, member: MemberRow, reward: Reward, **said: Any) -> Taken:
    """Redeem or reserve, and return what became of it."""
    (taken,) = await take(program.id, [wanted(member, reward, **said)], VAULT)
    return taken


async def redeemed(program: Program, member: MemberRow, reward: Reward, **said: Any) -> Redemption:
    """Redeem, or with `hold_seconds` reserve, what nothing must stand against."""
    taken = await ask(program, member, reward, **said)
    assert taken.redemption is not None, taken.errors
    return taken.redemption


async def balance_of(program: Program, member: MemberRow) -> Balance:
    """Return a member's balance as of now."""
    (balance,) = await get_balances(await policy_of(program), [member.id])
    assert balance is not None
    return balance


def codes_of(taken: Taken) -> list[str]:
    """Return the codes of the errors of a request that was refused."""
    assert taken.redemption is None
    return [str(error.code) for error in taken.errors]


def pass_time(monkeypatch: pytest.MonkeyPatch, **time: float) -> datetime:
    """Let time pass, given as the arguments of `timedelta`; the clock stands from then on."""
    moment = clock.now() + timedelta(**time)
    monkeypatch.setattr(clock, "now", lambda: moment)
    return moment


async def stock_of(program: Program, reward: Reward) -> Stock:
    """Return what is left of a reward now."""
    (found,) = await get_rewards(program.id, [reward.id])
    assert found is not None
    return found.stock


async def earn(
    program: Program, member: MemberRow, points: int, expires_on: date, matures_on: date | None = None
) -> int:
    """Give points that live until a day, and return the place of their entry."""
    now = clock.now()
    policy = await policy_of(program)
    operation = Operation(
        account_id=member.id,
        kind=EntryKind.EARN,
        amount=points,
        key=new_id(),
        request_hash=points,
        occurred_at=now,
        matures_on=matures_on or days.local_date(now, policy.zone),
        expires_on=expires_on,
    )
    async with transaction() as sql:
        (outcome,) = await apply(sql, terms(policy, now), [operation])
    assert outcome.status is Status.APPLIED
    assert outcome.sequence is not None
    return outcome.sequence


async def in_debt(program: Program, debt: int) -> MemberRow:
    """Enrol a member who owes points; the program's debt limit has to allow for it."""
    member = await new_member(program)
    entry = await earn(program, member, debt, NEVER)
    await post(program, member, EntryKind.REDEEM, debt)
    await post(program, member, EntryKind.CLAWBACK, debt, reference=entry)
    return member


async def lots_of(member: MemberRow) -> dict[date, int]:
    """Return the points that are left in lots, by the last day on which they can be spent."""
    lots: Counter[date] = Counter()
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT expires_on, remaining FROM lot WHERE account_id = $1 AND remaining > 0", member.id
        )
    for row in rows:
        lots[row["expires_on"]] += row["remaining"]
    return dict(lots)


async def load(program: Program, reward: Reward, *codes: str) -> None:
    """Load codes into the pool of a reward."""
    assert (await upload_codes(program.id, reward.id, codes, VAULT)).added == len(codes)


async def codes_had(program: Program, redemption: Redemption) -> list[str]:
    """Return the codes of a redemption, whoever may see them."""
    async with connection() as sql:
        return (await open_codes(sql, VAULT, program.id, [redemption.id]))[redemption.id]


async def refusal(step: Awaitable[object]) -> tuple[str, str]:
    """Return the code and the sentence with which something is refused, for one reason."""
    try:
        await step
    except Refused as refused:
        (error,) = refused.errors
        return str(error.code), error.message
    raise AssertionError("it was not refused")


async def all_at_once(works: Sequence[Callable[[], Awaitable[Any]]], *, failing: bool = False) -> list[Any]:
    """Let everybody go at the same moment; nobody takes longer than half a minute.

    Args:
        failing: what is raised is returned with the results, in its place.
    """
    gate = asyncio.Event()

    async def behind_the_gate(work: Callable[[], Awaitable[Any]]) -> Any:
        await gate.wait()
        return await work()

    async with asyncio.timeout(30):
        tasks = [asyncio.create_task(behind_the_gate(work)) for work in works]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=failing)


async def redeem(program_id: UUID, requests: Sequence[Wanted]) -> list[Taken]:
    """Do the work of a coalescer of redemptions."""
    return await take(program_id, requests, VAULT)


async def somebody_waits(blocked_by: int) -> None:
    """Wait until a connection waits for what another one, by its server process, has locked."""
    async with asyncio.timeout(5), connection() as sql:
        waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid)))"
        while not await sql.fetchval(waits, blocked_by):
            await asyncio.sleep(0.005)
            # Within a transaction connections that are new would not be seen.
            await sql.execute("SELECT pg_stat_clear_snapshot()")


@asynccontextmanager
async def coalescing() -> AsyncIterator[Coalescer[Wanted, Taken]]:
    """Run a coalescer of redemptions, as a process of the API does."""
    coalescer = Coalescer(redeem, "redeem")
    await coalescer.start()
    try:
        yield coalescer
    finally:
        await coalescer.stop()


async def _one_by_one(program: Program, requests: Sequence[Wanted]) -> list[Taken]:
    taken = await all_at_once([lambda each=each: redeem(program.id, [each]) for each in requests])
    return [each for (each,) in taken]


async def _in_batches(program: Program, requests: Sequence[Wanted]) -> list[Taken]:
    """Cut them into batches of many sizes, each of which has its requests in an order of its own."""
    generator = random.Random(len(requests))
    places = list(range(len(requests)))
    generator.shuffle(places)
    batches = []
    while places:
        size = generator.choice((1, 2, 5, 10))
        batches.append(places[:size])
        places = places[size:]
    answers = await all_at_once(
        [lambda batch=batch: redeem(program.id, [requests[n] for n in batch]) for batch in batches]
    )
    found = {
        n: each
        for batch, answer in zip(batches, answers, strict=True)
        for n, each in zip(batch, answer, strict=True)
    }
    return [found[n] for n in range(len(requests))]


async def _coalesced(program: Program, requests: Sequence[Wanted]) -> list[Taken]:
    async with coalescing() as coalescer:
        return await all_at_once([lambda each=each: coalescer.do(program.id, each) for each in requests])


async def _by_two_processes(program: Program, requests: Sequence[Wanted]) -> list[Taken]:
    async with coalescing() as one, coalescing() as other:
        return await all_at_once(
            [
                lambda n=n, each=each: (one, other)[n % 2].do(program.id, each)
                for n, each in enumerate(requests)
            ]
        )


class Way(NamedTuple):
    """A way in which many requests can arrive at once."""

    name: str
    ask: Callable[[Program, Sequence[Wanted]], Awaitable[list[Taken]]]


WAYS = (
    Way("one by one", _one_by_one),
    Way("in batches", _in_batches),
    Way("coalesced", _coalesced),
    Way("by two processes", _by_two_processes),
)


def tally(results: Sequence[Taken]) -> Counter[str]:
    """Count what became of requests: OK, REPLAYED, or the codes of what stands against them."""
    return Counter(
        ("REPLAYED" if each.replayed else "OK") if each.redemption is not None else "+".join(codes_of(each))
        for each in results
    )


async def check_books(program: Program) -> None:
    """Hold the ledger against itself, and what is taken and free of each reward against its redemptions."""
    assert not await find_differences(program.id)
    async with connection() as sql:
        rows = await sql.fetch(
            """
            SELECT r.name, c.taken, c.codes, (
                    SELECT coalesce(sum(d.quantity), 0) FROM redemption d
                    WHERE d.reward_id = r.id AND d.status NOT IN ('CANCELLED', 'EXPIRED')
                ) AS in_force, (
                    SELECT count(*) FROM reward_code k WHERE k.reward_id = r.id AND k.redemption_id IS NULL
                ) AS free, (
                    SELECT count(*) FROM redemption d
                    WHERE d.reward_id = r.id AND r.kind IN ('VOUCHER', 'GIFT_CARD')
                        AND (SELECT count(*) FROM reward_code k WHERE k.redemption_id = d.id) <> CASE
                            WHEN coalesce(d.confirmed_at, 'infinity') > d.ended_at THEN 0 ELSE d.quantity END
                ) AS miscounted
            FROM reward r JOIN reward_stock c ON c.reward_id = r.id WHERE r.program_id = $1
            """,
            program.id,
        )
        held = await sql.fetch(
            """
            SELECT a.id, a.reserved, (SELECT coalesce(sum(d.points), 0) FROM redemption d
                WHERE d.member_id = a.id AND d.status = 'RESERVED') AS by_redemptions
            FROM account a WHERE a.program_id = $1
            """,
            program.id,
        )
    for row in rows:
        assert row["taken"] == row["in_force"], row
        assert row["codes"] is None or row["codes"] == row["free"], row
        assert row["miscounted"] == 0, row
    for row in held:
        assert row["reserved"] == row["by_redemptions"], row


def reward_like(kind: str = "PRODUCT", **fields: Any) -> Reward:
    """Return a reward that is nowhere stored: an active one for 100 points, unless told otherwise."""
    moment = clock.now()
    base: dict[str, Any] = {
        "id": new_id(),
        "program_id": new_id(),
        "version": 1,
        "kind": RewardKind(kind),
        "status": RewardStatus.ACTIVE,
        "name": "A reward",
        "description": None,
        "image_url": None,
        "points": 100,
        "points_per_currency_unit": None,
        "face_value": None,
        "generate_codes": False,
        "limits": RewardLimits(),
        "starts_at": None,
        "ends_at": None,
        "tiers": (),
        "draw_seed": None,
        "draw_seed_hash": None,
        "created_at": moment,
        "updated_at": moment,
        "stock": Stock(),
    }
    return Reward(**(base | fields))
