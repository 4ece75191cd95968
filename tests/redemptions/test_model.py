"""Redemptions against their model: random histories with a moving clock, compared after every step."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from app import clock
from app.catalog.rewards import RewardLimits
from app.database import connection
from app.errors import Refused
from app.ledger.adjusting import adjust_points
from app.ledger.operations import EntryKind
from app.members.reads import MemberRow
from app.programs.models import Program
from app.redemptions.expiring import release_due, sweep
from app.redemptions.inputs import Wanted
from app.redemptions.reads import get_redemptions
from app.redemptions.standings import load_members
from app.redemptions.steps import cancel, capture, fulfil, use_code
from tests.helpers import by_id, find_differences, new_member, new_program, post
from tests.redemptions.making import VAULT, balance_of, check_books, earn, load, new_reward, redeem
from tests.redemptions.model import Burned, Offer, Purse, Shop

T = TypeVar("T")
EXAMPLES = [8, pytest.param(20, marks=pytest.mark.deep)]
STEPS = 25
DEEP_SEEDS = tuple(int(seed) for seed in os.environ.get("REDEMPTION_SEEDS", "1 2 3").split())
DEEP_STEPS = int(os.environ.get("REDEMPTION_STEPS", "2500"))
ZONES = ("UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/Los_Angeles")
DEBT_LIMIT = 150


class Choose(Protocol):
    """Choose one of several things; the first is the simplest."""

    def __call__(self, things: Sequence[T]) -> T: ...


@dataclass
class World:
    """A program, its members and rewards: in the database, and as a model."""

    choose: Choose
    program: Program
    members: list[MemberRow]
    shop: Shop
    sent: list[tuple[Wanted, Burned]] = field(default_factory=list)
    earned: list[tuple[int, int, int]] = field(default_factory=list)
    """Member, place of the entry, points that can still be taken back."""
    steps: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    @classmethod
    async def open(cls, choose: Choose, monkeypatch: pytest.MonkeyPatch) -> "World":
        zone = choose(ZONES)
        shop = Shop(ZoneInfo(zone), datetime(2026, 1, 30, 22, 30, tzinfo=UTC), [], [])
        monkeypatch.setattr(clock, "now", lambda: shop.now)
        program = await new_program(timezone=zone, debt_limit=DEBT_LIMIT)
        members = [await new_member(program) for _ in range(2)]
        shop.purses += [Purse(DEBT_LIMIT) for _ in members]
        few = await new_reward(program, points=30, stock=4)
        limits = RewardLimits(max_per_member=3, max_per_member_per_month=2, max_total=4)
        limited = await new_reward(program, points=20, limits=limits)
        pool = await new_reward(program, "VOUCHER", points=10)
        codes = [f"C{n}" for n in range(9)]
        await load(program, pool, *codes)
        discount = await new_reward(program, "DISCOUNT")
        shop.offers += [
            Offer(few.id, 30, stock=4),
            Offer(limited.id, 20, per_member=3, per_month=2, total=4),
            Offer(pool.id, 10, codes=codes),
            Offer(discount.id, None),
        ]
        return cls(choose, program, members, shop)

    async def step(self) -> None:
        """Do one thing, in both places, and compare."""
        self.steps += 1
        acts = (
            *[self.earn] * 4,
            *[self.take] * 8,
            *[self.go_on] * 6,
            *[self.pass_time] * 4,
            *[self.take_again, self.adjust, self.claw_back, self.read, self.sweep],
        )
        act = self.choose(acts)
        self.seen[f"{act.__name__} {await act()}"] += 1
        await self.compare()

    # Steps

    async def earn(self) -> str:
        member, points = self.choose((0, 1)), self.choose((10, 50, 100, 37))
        waits = self.choose((0, 0, 0, 1, 5))
        matures = self.shop.today + timedelta(days=waits)
        expires = self.choose((date.max, *(matures + timedelta(days=days) for days in (0, 1, 3, 20))))
        number = await earn(self.program, self.members[member], points, expires, matures)
        self.shop.settle(member).give(number, points, expires, matures, self.shop.today)
        self.earned.append((member, number, points))
        return "pending" if waits else "now"

    async def adjust(self) -> str:
        member, points = self.choose((0, 1)), self.choose((20, -10, -60))
        purse = self.shop.settle(member)
        if points < 0:
            self.shop.release_of_member(member)
        try:
            done = await adjust_points(
                self.program.id, by_id(self.members[member]), points, "Model", f"adjust-{self.steps}"
            )
        except Refused as refused:
            refusal = [str(error.code) for error in refused.errors]
        else:
            refusal = []
        assert refusal == (["INSUFFICIENT_POINTS"] if points < min(0, -purse.available) else [])
        if refusal:
            return "INSUFFICIENT_POINTS"
        if points > 0:
            purse.give(done.sequence, points, date.max, self.shop.today, self.shop.today)
        else:
            purse.take(-points)
            purse.earned += points
        return "more" if points > 0 else "less"

    async def claw_back(self) -> str:
        if not self.earned:
            return "nothing"
        n = self.choose(range(len(self.earned)))
        member, number, left = self.earned[n]
        points = self.choose((left, max(1, left // 2)))
        if not left:
            return "nothing"
        await post(self.program, self.members[member], EntryKind.CLAWBACK, points, reference=number)
        purse = self.shop.settle(member)
        purse.claw_back(number, points)
        self.earned[n] = member, number, left - points
        return "debt" if purse.debt else "done"

    async def take(self) -> str:
        member, offer = self.choose((0, 1)), self.choose(self.shop.offers)
        quantity = 1 if offer.points is None else self.choose((1, 1, 2, 3))
        points = offer.points * quantity if offer.points else self.choose((1, 25, 70))
        hold = self.choose((None, 1, 3600, 2 * 24 * 3600, 30 * 24 * 3600))
        request = Wanted(
            by_id(self.members[member]),
            offer.id,
            f"take-{self.steps}",
            quantity,
            None if offer.points else points,
            hold_seconds=hold,
        )
        (taken,) = await redeem(self.program.id, [request])
        against = self.shop.take(member, offer, quantity, points)
        assert {str(error.code) for error in taken.errors} == against
        if taken.redemption is None:
            return "+".join(sorted(against))
        burned = self.shop.burn(taken.redemption.id, member, offer, quantity, points, hold)
        self.sent.append((request, burned))
        return burned.status

    async def take_again(self) -> str:
        """Repeat a request: it is answered with what has become of it."""
        if not self.sent:
            return "nothing"
        request, burned = self.choose(self.sent)
        (taken,) = await redeem(self.program.id, [request])
        self.shop.release_of_member(burned.member)
        assert taken.replayed
        assert taken.redemption is not None
        assert (taken.redemption.id, taken.redemption.status) == (burned.id, burned.status)
        return burned.status

    async def go_on(self) -> str:
        """Capture, cancel, fulfil or use something."""
        open_ = [each for each in self.shop.burned if each.status not in ("CANCELLED", "EXPIRED", "USED")]
        if not open_:
            return "nothing"
        burned = self.choose(open_)
        before = burned.status
        what = self.choose(("capture", "cancel", "fulfil", "use"))
        if what == "use" and not burned.codes:
            return "nothing"
        fewer = self.choose((burned.points, max(1, burned.points // 3)))
        code = self.choose(burned.codes) if burned.codes else ""
        ran_out = self.shop.ran_out(burned)
        try:
            if what == "capture":
                await capture(self.program.id, burned.id, f"key-{self.steps}", fewer)
            elif what == "cancel":
                await cancel(self.program.id, burned.id, "Model", f"key-{self.steps}")
            elif what == "fulfil":
                await fulfil(self.program.id, burned.id, f"note {self.steps}")
            else:
                await use_code(self.program.id, code, f"key-{self.steps}", VAULT)
        except Refused as refused:
            (error,) = refused.errors
            assert str(error.code) == "WRONG_STATE"
            if ran_out:
                assert "EXPIRED" in error.message
                self.shop.end(burned, "EXPIRED")
                return f"{what} EXPIRED"
            assert not self.allowed(burned, what, code), (burned, what, error)
            return f"{what} {before} refused"
        assert not ran_out
        assert self.allowed(burned, what, code)
        if what == "capture":
            self.shop.capture(burned, fewer)
        elif what == "cancel":
            self.shop.end(burned, "CANCELLED")
        elif what == "fulfil":
            burned.status = "FULFILLED"
        else:
            burned.used.append(code)
            if len(burned.used) == burned.quantity:
                burned.status = "USED"
        return f"{what} {before}"

    @staticmethod
    def allowed(burned: Burned, what: str, code: str) -> bool:
        if what == "capture":
            return burned.status == "RESERVED"
        if what == "cancel":
            return burned.status in ("RESERVED", "CONFIRMED") and not burned.used
        if what == "fulfil":
            return burned.status == "CONFIRMED"
        return burned.status in ("CONFIRMED", "FULFILLED") and code not in burned.used

    async def pass_time(self) -> str:
        seconds, hours, days = self.choose(
            ((1, 0, 0), (0, 1, 0), (0, 7, 0), (0, 0, 1), (0, 0, 4), (0, 0, 31))
        )
        self.shop.now += timedelta(days, seconds, hours=hours)
        return "done"

    async def read(self) -> str:
        if not self.shop.burned:
            return "nothing"
        burned = self.choose(self.shop.burned)
        await release_due(self.program.id)
        self.shop.sweep()
        (found,) = await get_redemptions(self.program.id, [burned.id])
        assert found is not None
        assert found.status == burned.status
        return burned.status

    async def sweep(self) -> str:
        await sweep()
        self.shop.sweep()
        return "done"

    # Comparing

    async def compare(self) -> None:
        ids = [member.id for member in self.members]
        await load_members(self.program.id, ids)
        async with connection() as sql:
            lots = await sql.fetch(
                "SELECT account_id, sequence, remaining, pending FROM lot WHERE account_id = ANY($1::uuid[])",
                ids,
            )
            sums = await sql.fetch(
                """
                SELECT account_id, sum(available_change), sum(pending_change), sum(reserved_change)
                FROM ledger_entry WHERE account_id = ANY($1::uuid[]) GROUP BY 1
                """,
                ids,
            )
            redemptions = await sql.fetch(
                "SELECT id, status, points, restored FROM redemption WHERE program_id = $1", self.program.id
            )
        by_entries = {row[0]: tuple(map(int, row[1:])) for row in sums}
        for n, member in enumerate(self.members):
            purse = self.shop.settle(n)
            balance = await balance_of(self.program, member)
            assert balance[1:7] == (
                purse.available,
                purse.pending,
                purse.reserved,
                purse.earned,
                purse.spent,
                purse.expired,
            )
            assert by_entries.get(member.id, (0, 0, 0)) == balance[1:4]
            left = {
                row["sequence"]: (row["remaining"], row["pending"])
                for row in lots
                if row["account_id"] == member.id and row["remaining"]
            }
            assert left == {lot.number: (lot.left, lot.pending) for lot in purse.lots if lot.left}
        assert {row["id"]: tuple(row)[1:] for row in redemptions} == {
            each.id: (each.status, each.points, each.restored) for each in self.shop.burned
        }

    async def check(self) -> None:
        """Compare once more, and let Laurel compare its own books."""
        assert not await find_differences(self.program.id)
        await check_books(self.program)
        for burned in self.shop.burned:
            async with connection() as sql:
                given: list[UUID] = await sql.fetch(
                    "SELECT id FROM reward_code WHERE redemption_id = $1", burned.id
                )
            assert len(given) == len(burned.codes)


async def _in_a_thread(work: Callable[[Callable[[Coroutine[Any, Any, T]], T]], None]) -> None:
    """Run code that does not await in a thread; what it calls runs in this loop."""
    loop = asyncio.get_running_loop()

    def call(coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=60)

    await asyncio.to_thread(work, call)


@pytest.mark.parametrize("examples", EXAMPLES)
async def test_redemptions_do_what_their_model_does(monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    seen: Counter[str] = Counter()

    def histories(call: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        @profile(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.binary(min_size=9 * STEPS, max_size=9 * STEPS))
        def history(choices: bytes) -> None:
            left = iter(choices)

            def choose(things: Sequence[T]) -> T:
                return things[next(left, 0) % len(things)]

            world: World = call(World.open(choose, monkeypatch))
            for _ in range(STEPS):
                call(world.step())
            call(world.check())
            seen.update(world.seen)

        history()

    await _in_a_thread(histories)
    assert seen.total() > examples * STEPS / 4


@pytest.mark.deep
@pytest.mark.parametrize("seed", DEEP_SEEDS)
async def test_redemptions_do_what_their_model_does_for_long(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    seen: Counter[str] = Counter()
    generator = random.Random(seed)
    while seen.total() < DEEP_STEPS:
        world = await World.open(generator.choice, monkeypatch)
        for _ in range(generator.choice((20, 60, 250))):
            await world.step()
        await world.check()
        seen.update(world.seen)
    expected = {
        *(
            "take CONFIRMED",
            "take RESERVED",
            "take OUT_OF_STOCK",
            "take LIMIT_REACHED",
            "take INSUFFICIENT_POINTS",
        ),
        *("take INSUFFICIENT_POINTS+NOT_ELIGIBLE", "take_again EXPIRED", "read EXPIRED", "claw_back debt"),
        *(
            "go_on capture RESERVED",
            "go_on cancel RESERVED",
            "go_on cancel CONFIRMED",
            "go_on capture EXPIRED",
        ),
        *(
            "go_on use CONFIRMED",
            "go_on use FULFILLED",
            "go_on fulfil CONFIRMED",
            "adjust INSUFFICIENT_POINTS",
        ),
    }
    assert not expected - seen.keys(), "the generator never met some outcomes"
