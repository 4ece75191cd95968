"""Whole histories of purchases and refunds, made up at random: what holds after each step, and at the end.

A history is driven by numbers. Hypothesis chooses them in the ordinary run, so that a failure shrinks
to the shortest history that shows it; a seeded generator makes long ones in the deep run.
"""

import asyncio
import os
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from app.database import connection
from app.earning import rulesets
from app.earning.engine import evaluate
from app.earning.events import Body, Event, PurchaseLine, facts
from app.earning.receipts import decode
from app.earning.refunds import Refund
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
from app.members.reads import MemberRow
from app.programs.policy import Rounding
from tests.earning.shop import Shop, at, line, part
from tests.helpers import set_now
from tests.tiers.making import make_tier

T = TypeVar("T")

EXAMPLES = [15, pytest.param(40, marks=pytest.mark.deep)]
DEEP_SEEDS = tuple(int(seed) for seed in os.environ.get("REFUND_SEEDS", "1 2 3 4").split())
DEEP_HISTORIES = int(os.environ.get("REFUND_HISTORIES", "150"))

TOY, HAT, TEA = "toy", "hat", "tea"
FILTERS = (
    *(None, None, ProductFilter((TOY,)), ProductFilter((HAT, TEA))),
    *(ProductFilter(excluded_skus=(TOY,)), ProductFilter((TOY, HAT), excluded_skus=(HAT,))),
)
MINIMUMS = (None, None, Decimal(10), Decimal("25.01"))
RATES = ("1", "0.3", "2.5", "7")
WITHIN_A_DAY = (
    *(RuleLimits(), RuleLimits(), RuleLimits(max_points_per_transaction=20)),
    *(RuleLimits(max_points_per_day=40), RuleLimits(frequency=Frequency(1, Period.DAY))),
)
BEYOND_A_DAY = (
    *(RuleLimits(frequency=Frequency(2, Period.WEEK)), RuleLimits(cooldown_minutes=1500)),
    *(
        RuleLimits(max_times_per_member=2),
        RuleLimits(budget=60),
        RuleLimits(budget=30, max_points_per_day=25),
    ),
)


class Choose:
    """Choose by numbers, one after the other; when there are none left the first and simplest."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = iter(numbers)

    def __call__(self, things: Sequence[T]) -> T:
        return things[next(self._numbers, 0) % len(things)]


def some_rule(choose: Choose, limits: Sequence[RuleLimits]) -> RuleDefinition:
    kind = choose(("rate", "rate", "fixed", "multiplier"))
    rate = PointsPerAmount(Decimal(choose(RATES))) if kind == "rate" else None
    multiplies = kind == "multiplier"
    return RuleDefinition(
        name=kind,
        trigger=EventKind.PURCHASE,
        points_per_amount=rate,
        fixed_points=choose((1, 15)) if kind == "fixed" else None,
        multiplier=choose((Decimal(2), Decimal("0.5"), Decimal("1.25"))) if multiplies else None,
        products=choose(FILTERS),
        minimum_amount=choose(MINIMUMS),
        stacking=choose((None, RuleStacking.ADD, RuleStacking.REPLACE)) if rate else None,
        limits=RuleLimits() if multiplies else choose(limits),
        priority=choose((0, 0, 1)),
    )


async def some_shop(choose: Choose, limits: Sequence[RuleLimits], rules: int) -> Shop:
    shop = await Shop.open(
        rounding=choose(tuple(Rounding)),
        max_points_per_day=choose((None, None, 50, 90)),
        timezone=choose(("UTC", "Asia/Tokyo")),
    )
    if choose((False, True)):
        await make_tier(shop.program.id, multiplier=choose((Decimal(2), Decimal("1.1"))))
    for _ in range(rules):
        await create_rule(shop.program.id, some_rule(choose, limits), RuleStatus.ACTIVE)
    return shop


def some_lines(choose: Choose) -> list[Any]:
    """Return lines of a purchase; none for one that has but a total."""
    return [
        line(
            choose(("10.00", "33.33", "0.01", "7.77", "0")),
            choose((TOY, HAT, TEA)),
            choose(("1", "3", "0.350")),
        )
        for _ in range(choose((1, 2, 3, 0)))
    ]


@dataclass
class Bought:
    """A purchase, and by plain counting what is left of it."""

    event: Event
    member: MemberRow
    left: Decimal
    quantities: list[Decimal]
    amounts: list[Decimal]
    whole: bool = False

    @classmethod
    def of(cls, event: Event, member: MemberRow) -> "Bought":
        assert event.amount is not None
        lines = event.body.lines
        return cls(
            event, member, event.amount, [each.quantity for each in lines], [each.amount for each in lines]
        )

    @property
    def is_nothing(self) -> bool:
        lines = self.event.body.lines
        there = [line for line, quantity in zip(lines, self.quantities, strict=True) if quantity]
        if self.whole or (lines and not there):
            return True
        return not self.left and bool(self.event.amount) and (not there or any(line.amount for line in there))

    def take(self, refund: Refund) -> None:
        """Count off what a refund gave back, after a look at what it was worth."""
        for back in refund.lines:
            n, of = back.number - 1, self.event.body.lines[back.number - 1]
            gone = of.quantity - self.quantities[n]
            worth = _half_up(of.amount * (gone + back.quantity) / of.quantity)
            if gone + back.quantity == of.quantity:
                worth = of.amount
            # Less only where money had gone back for no line.
            share = worth - _half_up(of.amount * gone / of.quantity)
            assert back.amount == min(share, self.left, self.amounts[n])
            self.quantities[n] -= back.quantity
            self.amounts[n] -= back.amount
            self.left -= back.amount
        self.left -= refund.amount - sum(back.amount for back in refund.lines)
        self.whole = self.whole or refund.whole

    async def earns(self, shop: Shop) -> int:
        """Return what the rest earns, by the engine and the receipt."""
        if self.is_nothing:
            return 0
        rest = tuple(
            PurchaseLine(of.sku, amount)
            for of, amount, quantity in zip(self.event.body.lines, self.amounts, self.quantities, strict=True)
            if quantity
        )
        async with connection() as sql:
            row = await sql.fetchrow(
                "SELECT rules_version, context FROM event_outcome WHERE event_id = $1", self.event.id
            )
            context = decode(row["context"])
            by = rulesets.Decided(row["rules_version"], self.event.facts(), context)
            (rules,) = await rulesets.past(sql, shop.program.id, [by])
        about = facts(EventKind.PURCHASE, self.event.occurred_at, self.left, Body(rest), None)
        return sum(award.points for award in evaluate(rules, about, context.standing, context.rooms))


def _half_up(amount: Decimal) -> Decimal:
    cents, rest = divmod(amount * 100, 1)
    return (cents + (rest * 2 >= 1)) / 100


@dataclass
class History:
    """A shop with two members, and everything that happens there."""

    choose: Choose
    shop: Shop
    members: Sequence[MemberRow]
    bought: list[Bought] = field(default_factory=list)
    granted: dict[Any, int] = field(default_factory=dict)

    async def buy(self) -> None:
        member, lines = self.choose(self.members), some_lines(self.choose)
        event = await self.shop.buy(
            member,
            *lines,
            total=None if lines else self.choose(("20", "99.99", "0")),
            at=at(self.choose((2, 3, 4, 9)), self.choose((10, 16, 9))),
            later=self.choose((False, True)),
        )
        self.bought.append(Bought.of(event, member))

    async def refund(self) -> None:
        left = [each for each in self.bought if not each.is_nothing]
        if not left:
            return
        of = self.choose(left)
        how = self.choose(("piece", "amount", "whole", "pieces"))
        pieces = [n for n, quantity in enumerate(of.quantities) if quantity]
        if how == "amount" and of.left:
            amount = min(of.left, Decimal(self.choose(("1", "0.01", "12.34", "1000"))))
            refund = await self.shop.back(of.event, amount=str(amount))
        elif how.startswith("piece") and pieces:
            n = self.choose(pieces)
            quantity = min(of.quantities[n], Decimal(self.choose(("1", "0.1", "2"))))
            parts = [part(n + 1, str(quantity))]
            if how == "pieces":
                parts += [part(m + 1, str(of.quantities[m])) for m in pieces if m != n]
            refund = await self.shop.back(of.event, *parts)
        else:
            refund = await self.shop.back(of.event)
        await self.check(of, refund)

    async def bring_back(self) -> None:
        """Return goods without a receipt."""
        if not self.bought:
            return
        member = self.choose(self.members)
        refunded = await self.shop.returned(member, (self.choose((TOY, HAT)), self.choose(("1", "0.5", "4"))))
        by_event = {each.event.id: each for each in self.bought}
        for refund in refunded.refunds:
            await self.check(by_event[refund.event_id], refund)

    async def work(self) -> None:
        await self.shop.work()

    async def check(self, of: Bought, refund: Refund) -> None:
        """Look whether a purchase has earned what the rest of it earns, and never more than was granted."""
        of.take(refund)
        async with connection() as sql:
            points, remaining = await sql.fetchrow(
                "SELECT coalesce(sum(points), 0)::bigint, coalesce(sum(remaining), 0)::bigint"
                " FROM award WHERE event_id = $1",
                of.event.id,
            )
        assert remaining == min(points, await of.earns(self.shop))
        assert self.granted.get(of.event.id, points) - refund.points == remaining
        self.granted[of.event.id] = remaining
        assert refund.written_off == 0

    async def end(self) -> None:
        """Give everything back, and look whether anything is left."""
        await self.shop.verify()
        while any(not each.is_nothing for each in self.bought):
            await self.refund()
        assert await self.shop.net(*self.members) == [0, 0]
        await self.shop.verify()
        async with connection() as sql:
            days = await sql.fetch(
                "SELECT points FROM earning_counter WHERE member_id = ANY($1::uuid[])",
                [member.id for member in self.members],
            )
            budgets = await sql.fetch(
                "SELECT spent FROM earning_budget b JOIN earning_rule r ON r.id = b.rule_id"
                " WHERE r.program_id = $1",
                self.shop.program.id,
            )
        assert {row[0] for row in (*days, *budgets)} <= {0}


async def live(choose: Choose, steps: int) -> None:
    """Let a history happen from its beginning to its end."""
    shop = await some_shop(choose, WITHIN_A_DAY + BEYOND_A_DAY, choose((1, 2, 3, 5)))
    history = History(choose, shop, [await shop.member() for _ in range(2)])
    for _ in range(steps):
        step = choose(
            (history.buy, history.buy, history.refund, history.refund, history.bring_back, history.work)
        )
        await step()
    await history.end()


async def _in_a_thread(work: Callable[[Callable[[Coroutine[Any, Any, None]], None]], None]) -> None:
    """Run code that does not await in a thread; what it calls runs in this loop."""
    loop = asyncio.get_running_loop()

    def call(coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=120)

    await asyncio.to_thread(work, call)


async def for_examples(count: int, live: Callable[[Choose], Coroutine[Any, Any, None]]) -> None:
    """Let histories happen by numbers that Hypothesis chooses."""

    def examples(call: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        @profile(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.integers(0, 59), min_size=40, max_size=160))
        def example(numbers: list[int]) -> None:
            call(live(Choose(numbers)))

        example()

    await _in_a_thread(examples)


@pytest.fixture(autouse=True)
def _late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything happens in March 2026, and is told of on its last day."""
    set_now(monkeypatch, 2026, 3, 31, 23)


@pytest.mark.parametrize("examples", EXAMPLES)
async def test_whatever_is_bought_and_given_back_nets_to_nothing(examples: int) -> None:
    await for_examples(examples, lambda choose: live(choose, 10))


@pytest.mark.deep
@pytest.mark.parametrize("seed", DEEP_SEEDS)
async def test_whatever_is_bought_and_given_back_nets_to_nothing_for_long(seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(DEEP_HISTORIES):
        numbers = (generator.randrange(60) for _ in iter(int, 1))
        await live(Choose(numbers), generator.choice((5, 15, 60)))


@dataclass(frozen=True)
class Deed:
    """Something to be told: a purchase, or a refund of the purchase before it on the same day."""

    when: datetime
    lines: Sequence[Any] = ()
    amount: str | None = None


def some_day(choose: Choose, day: int) -> list[Deed]:
    """Return what a member does on one day."""
    deeds = []
    for hour in range(9, 9 + choose((1, 2, 3))):
        deeds.append(Deed(at(day, hour), some_lines(choose) or [line("50", TOY)]))
        if choose((False, True)):
            deeds.append(Deed(at(day, hour, 30), (), choose(("0.01", "5", "1000"))))
    return deeds


async def tell(shop: Shop, member: MemberRow, deeds: Sequence[Deed]) -> None:
    """Tell what a member did, in the order given."""
    last: dict[int, Event] = {}
    for deed in deeds:
        if deed.lines:
            last[deed.when.day] = await shop.buy(member, *deed.lines, at=deed.when)
            continue
        event = last[deed.when.day]
        amount = min(Decimal(deed.amount or 0), event.amount or Decimal(0))
        if amount:
            await shop.refund(event, amount=str(amount), occurred_at=deed.when)


async def tell_twice(choose: Choose) -> None:
    """Tell of several days in their order, and in another one: the points are the same."""
    shop = await some_shop(choose, WITHIN_A_DAY, choose((1, 2, 4)))
    days = [some_day(choose, day) for day in (2, 3, 5)]
    punctual, late = await shop.member(), await shop.member()
    await tell(shop, punctual, [deed for day in days for deed in day])
    mixed = []
    waiting = [list(day) for day in days]
    while waiting:
        day = choose(waiting[::-1])
        mixed.append(day.pop(0))
        waiting = [each for each in waiting if each]
    await tell(shop, late, mixed)
    one, other = await shop.net(punctual, late)
    assert one == other
    await shop.verify()


@pytest.mark.parametrize("examples", EXAMPLES)
async def test_the_order_in_which_days_are_told_changes_nothing(examples: int) -> None:
    await for_examples(examples, tell_twice)


@pytest.mark.deep
@pytest.mark.parametrize("seed", DEEP_SEEDS)
async def test_the_order_in_which_days_are_told_changes_nothing_for_long(seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(DEEP_HISTORIES):
        await tell_twice(Choose(generator.randrange(60) for _ in iter(int, 1)))
