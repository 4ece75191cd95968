"""The ledger against its model: random histories, in which every step has to come to the same.

A history is driven by choices. Hypothesis makes them in the ordinary run, so that a failure shrinks
to the shortest history that shows it; a seeded generator makes long histories in the deep run.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from app.database import connection
from app.ids import new_id
from app.ledger.operations import MAX_POINTS, EntryKind, Operation, Outcome, Status, Terms
from app.ledger.service import apply, settle
from tests.helpers import find_differences
from tests.ledger.model import FOREVER, Account, Entry, months_later

T = TypeVar("T")

EXAMPLES = [50, pytest.param(150, marks=pytest.mark.deep)]
STEPS = 30
DEEP_SEEDS = tuple(int(seed) for seed in os.environ.get("LEDGER_SEEDS", "1 2 3 4").split())
DEEP_OPERATIONS = int(os.environ.get("LEDGER_OPERATIONS", "6000"))

KINDS = (
    *[EntryKind.EARN] * 6,
    *[EntryKind.REDEEM] * 3,
    *[EntryKind.RESERVE] * 3,
    *[EntryKind.RESTORE] * 4,
    *[EntryKind.CLAWBACK] * 3,
    *[EntryKind.ADJUST] * 2,
)
DEBT_LIMITS = (0, 50, 10_000)
ZONES = ("UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/Santiago")


EXPECTED = {
    f"{kind} {status}"
    for kind in set(KINDS)
    for status in ("APPLIED", "REPLAYED", "KEY_REUSED", "NO_ACCOUNT", "INVALID")
} | {
    *("EARN TOO_MANY", "ADJUST INSUFFICIENT", "RESERVE INSUFFICIENT", "REDEEM INSUFFICIENT"),
    *("REDEEM EXCESSIVE", "RESTORE EXCESSIVE", "CLAWBACK EXCESSIVE"),
    *("REDEEM NO_REFERENCE", "RESTORE NO_REFERENCE", "CLAWBACK NO_REFERENCE"),
}


class Choose(Protocol):
    """Choose one of several things; the first is the simplest."""

    def __call__(self, things: Sequence[T]) -> T: ...


@dataclass
class World:
    """Some accounts, twice: in the database, and as models of it."""

    choose: Choose
    call: Callable[[Coroutine[Any, Any, Any]], Any]
    sql: asyncpg.Connection
    program_id: UUID
    today: date
    size: int
    accounts: dict[UUID, Account] = field(default_factory=dict)
    sent: list[Operation] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    situations: Counter[str] = field(default_factory=Counter)
    inactive_months: int | None = None
    inactive_since: date = date(2024, 1, 1)
    debt_limit: int = 0
    zone: str = "UTC"

    def open(self) -> None:
        """Make the accounts."""
        self.zone = self.choose(ZONES)
        self.inactive_months, self.inactive_since = self.choose((None, None, 1, 12)), self.today
        for _ in range(self.size):
            self.accounts[new_id()] = Account(self.today)
        rows = [(account, self.program_id, account, self.today) for account in self.accounts]
        statement = "INSERT INTO account (id, program_id, member_id, active_on) VALUES ($1, $2, $3, $4)"
        self.call(self.sql.executemany(statement, rows))

    @property
    def terms(self) -> Terms:
        """What holds on this day."""
        moment = datetime(self.today.year, self.today.month, self.today.day, 12, tzinfo=UTC)
        return Terms(
            moment, self.today, self.zone, self.inactive_months, self.inactive_since, self.debt_limit
        )

    # Steps

    def step(self) -> None:
        """Do one thing, in both places, and compare."""
        self.choose((*[self.move_points] * 16, *[self.move_time] * 3, self.change_policy, self.settle_all))()

    def move_time(self) -> None:
        """Go to another day: near, far, the last of a month, the turn of February, or one day back."""
        day = self.today
        to = self.choose((*["next"] * 4, *["near"] * 4, "month_end", "month", "february", "far", "back"))
        if to in ("next", "back"):
            day += timedelta(days=1 if to == "next" else -1)
        elif to == "near":
            day += timedelta(days=self.choose(range(2, 20)))
        elif to == "month_end":
            day = months_later(day.replace(day=1), 1) - timedelta(days=1)
        elif to == "month":
            day = months_later(day, self.choose((1, 2, 3)))
        elif to == "february":
            day = date(day.year + (day.month > 2), 2, 27) + timedelta(days=self.choose(range(3)))
        else:
            day += timedelta(days=self.choose(range(50, 500)))
        self.today = max(day, self.today - timedelta(days=1))

    def change_policy(self) -> None:
        """Change the debt limit and what is counted as idle; the latter counts anew from today."""
        self.debt_limit = self.choose(DEBT_LIMITS)
        months = self.choose((None, 1, 2, 12))
        if months != self.inactive_months:
            self.inactive_months, self.inactive_since = months, self.today

    def settle_all(self) -> None:
        """Sweep."""
        terms = self.terms
        for account in self.accounts.values():
            account.settle(terms)
        self.call(settle(self.sql, terms, list(self.accounts)))
        self.compare_books(list(self.accounts))

    def move_points(self) -> None:
        """Apply some operations, cut into batches anywhere."""
        operations: list[Operation] = []
        expected: list[Outcome] = []
        terms = self.terms
        for _ in range(self.choose((1, 1, 1, 2, 3, 8))):
            operation = self._operation()
            operations.append(operation)
            account = self.accounts.get(operation.account_id)
            if account is None:
                expected.append(Outcome(Status.NO_ACCOUNT, None, None, None, None, None, None))
            else:
                debt, pending = account.debt, account.pending
                expected.append(account.apply(operation, terms))
                self._note(account, operation, expected[-1], debt, pending)
            self.seen[f"{operation.kind} {expected[-1].status}"] += 1
        self.sent += operations
        start = 0
        while start < len(operations):
            size = self.choose((len(operations) - start, 1, 2))
            batch = operations[start : start + size]
            outcomes = self.call(apply(self.sql, terms, batch))
            for operation, mine, theirs in zip(batch, expected[start:], outcomes, strict=False):
                assert theirs == mine, f"{operation}\n{terms}\nmodel: {mine}\nledger: {theirs}"
            start += size
        self.compare_books([op.account_id for op in operations if op.account_id in self.accounts])

    def _note(
        self, account: Account, operation: Operation, outcome: Outcome, debt: int, pending: int
    ) -> None:
        """Note the situations that have to come up, or the history has proven little."""
        kind = operation.kind
        if outcome.status is not Status.APPLIED:
            return
        if kind is EntryKind.RESTORE:
            assert operation.reference
            spend = account.entries[operation.reference - 1]
            shared = any(entry.out is spend.out for entry in account.entries if entry is not spend)
            self.situations["captured spend given back"] += spend.kind is EntryKind.REDEEM and shared
            self.situations["given back in debt"] += debt > 0
            assert outcome.sequence
            dead = sum(entry.amount for entry in account.entries[outcome.sequence :])
            self.situations["came back expired"] += dead > 0
            self.situations["came back expired in debt"] += debt > 0 and dead == operation.amount
            self.situations["came back partly expired in debt"] += debt > 0 and 0 < dead < operation.amount
        elif kind is EntryKind.CLAWBACK:
            assert outcome.taken is not None
            self.situations["written off"] += outcome.taken < operation.amount
            self.situations["became a debt"] += bool(outcome.debt)
            self.situations["more debt on a debt"] += bool(outcome.debt) and debt > 0
            self.situations["taken from pending"] += account.pending < pending

    # What to ask for

    def _operation(self) -> Operation:
        how = self.choose((*["new"] * 12, "replay", "reuse", "stranger"))
        if how in ("replay", "reuse") and self.sent:
            earlier = self.sent[-1 - self.choose(range(min(20, len(self.sent))))]
            if how == "reuse":
                return earlier._replace(request_hash=earlier.request_hash + 1)
            return earlier
        account_id = new_id() if how == "stranger" else self.choose(list(self.accounts))
        account = self.accounts.get(account_id, Account(self.today))
        kind = self.choose(KINDS)
        reference, amount = self._reference_and_amount(account, kind)
        gives = kind is EntryKind.EARN or (kind is EntryKind.ADJUST and amount > 0)
        matures_on = self.today + timedelta(days=self.choose((0, 0, 0, 1, 7, 31, -2))) if gives else None
        key = new_id()
        return Operation(
            account_id=account_id,
            kind=kind,
            amount=amount,
            key=key,
            request_hash=self.choose((0, 1, -(2**63), 2**62)),
            occurred_at=datetime(2024, 1, 1, tzinfo=UTC),
            reference=reference,
            matures_on=matures_on,
            expires_on=self._expiry(matures_on) if matures_on else None,
            source="test" if kind is EntryKind.EARN else None,
            source_id=key if kind is EntryKind.EARN else None,
        )

    def _expiry(self, matures_on: date) -> date:
        choice = self.choose((*("never", "soon", "month", "year", "same_day") * 4, "before"))
        if choice == "never":
            return FOREVER
        if choice == "month":
            return months_later(matures_on, 1)
        if choice == "year":
            return date(matures_on.year, 12, 31)
        return matures_on + timedelta(days={"soon": 5, "same_day": 0, "before": -1}[choice])

    def _reference_and_amount(self, account: Account, kind: EntryKind) -> tuple[int | None, int]:
        undoes = {
            EntryKind.REDEEM: {EntryKind.RESERVE},
            EntryKind.RESTORE: {EntryKind.RESERVE, EntryKind.REDEEM},
            EntryKind.CLAWBACK: {EntryKind.EARN},
        }
        if kind in undoes and (kind is not EntryKind.REDEEM or self.choose((True, False))):
            open_ones = [
                n
                for n, entry in enumerate(account.entries, start=1)
                if entry.kind in undoes[kind] and entry.undone < entry.amount
            ]
            if open_ones and self.choose((True, True, True, True, False)):
                number = open_ones[-1 - self.choose(range(min(8, len(open_ones))))]
                return number, self._part(account.entries[number - 1])
            some = self.choose((0, 1, len(account.entries) + 1, len(account.entries)))
            return some, self.choose((1, 30, 0, -1))
        odd = self.choose((*[False] * 30, True))
        if kind is EntryKind.ADJUST:
            return None, self.choose(
                (0, -MAX_POINTS - 1) if odd else (25, -10, -account.available or 1, 1, -150)
            )
        if odd:
            return None, self.choose((0, -5, MAX_POINTS, MAX_POINTS + 1))
        if kind is EntryKind.EARN:
            return None, self.choose((10, 1, 40, 77, 200))
        whole = max(1, account.available)
        return None, self.choose((5, 1, 30, whole, whole + 1, (whole + 1) // 2, (whole + 1) // 3))

    def _part(self, entry: Entry) -> int:
        left = entry.amount - entry.undone
        return self.choose((left, 1, (left + 1) // 2, left + 1))

    # What has to be the same

    def compare_books(self, accounts: Sequence[UUID]) -> None:
        """Compare lots and sums of accounts."""
        if accounts:
            books = self.call(_books(self.sql, accounts))
            for account_id, kept in books.items():
                assert kept == _model_books(self.accounts[account_id])

    def compare_entries(self) -> None:
        """Compare the whole story of every account."""
        for account_id, account in self.accounts.items():
            self._note_what_happened_by_itself(account)
            kept = self.call(self.sql.fetch(_ENTRIES, account_id))
            expected = [
                (n, entry.kind, entry.amount, *entry.outcome[2:5], entry.key)
                for n, entry in enumerate(account.entries, start=1)
            ]
            assert [tuple(row) for row in kept] == expected

    def _note_what_happened_by_itself(self, account: Account) -> None:
        owed = False
        for entry in account.entries:
            self.situations["a release"] += entry.kind is EntryKind.RELEASE
            self.situations["a release paid a debt"] += entry.kind is EntryKind.RELEASE and owed
            self.situations["an earn paid a debt"] += entry.kind is EntryKind.EARN and owed
            self.situations["an expiry"] += entry.kind is EntryKind.EXPIRE
            owed = (entry.outcome.available or 0) < 0
        self.situations["an expiry of what never expires"] += account.expired > sum(
            lot.original for lot in account.lots if lot.expires_on != FOREVER
        )


_ENTRIES = """
SELECT sequence, kind, amount, available_after, pending_after, reserved_after, key
FROM ledger_entry WHERE account_id = $1 ORDER BY sequence
"""
_SUMS = """
SELECT id, available, pending, reserved, sequence, active_on,
    lifetime_earned, lifetime_spent, lifetime_expired
FROM account WHERE id = ANY($1::uuid[])
"""
_LOTS = """
SELECT account_id, sequence, matures_on, expires_on, original, remaining, pending AND open
FROM lot WHERE account_id = ANY($1::uuid[]) ORDER BY sequence
"""


async def _books(sql: asyncpg.Connection, accounts: Sequence[UUID]) -> dict[UUID, Any]:
    lots: dict[UUID, list[Any]] = {account: [] for account in accounts}
    for row in await sql.fetch(_LOTS, accounts):
        lots[row[0]].append(tuple(row)[1:])
    return {row[0]: (tuple(row)[1:], lots[row[0]]) for row in await sql.fetch(_SUMS, accounts)}


def _model_books(account: Account) -> Any:
    lots = [
        (lot.sequence, lot.matures_on, lot.expires_on, lot.original, lot.left, lot.pending and lot.left > 0)
        for lot in account.lots
    ]
    sums = (account.available, account.pending, account.reserved, len(account.entries), account.active_on)
    return (*sums, account.earned, account.spent, account.expired), lots


@pytest.fixture
async def sql() -> AsyncIterator[asyncpg.Connection]:
    async with connection() as held:
        yield held


async def _in_a_thread(work: Callable[[Callable[[Coroutine[Any, Any, T]], T]], None]) -> None:
    """Run code that does not await in a thread; what it calls runs in this loop."""
    loop = asyncio.get_running_loop()

    def call(coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=60)

    await asyncio.to_thread(work, call)


@pytest.mark.parametrize("examples", EXAMPLES)
async def test_ledger_does_what_its_model_does(sql: asyncpg.Connection, examples: int) -> None:
    program_id = new_id()
    seen: Counter[str] = Counter()

    def histories(call: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        @profile(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.data())
        def history(data: st.DataObject) -> None:
            def choose(things: Sequence[T]) -> T:
                return things[data.draw(st.integers(0, len(things) - 1))]

            today = choose((date(2024, 1, 31), date(2023, 12, 30), date(2024, 2, 28), date(2025, 6, 15)))
            world = World(choose, call, sql, program_id, today, size=2)
            world.open()
            for _ in range(STEPS):
                world.step()
            world.compare_entries()
            seen.update(world.seen)

        history()

    await _in_a_thread(histories)
    assert not await find_differences(program_id)
    assert seen.total() > examples * STEPS / 4


@pytest.mark.deep
@pytest.mark.parametrize("seed", DEEP_SEEDS)
async def test_ledger_does_what_its_model_does_for_long(sql: asyncpg.Connection, seed: int) -> None:
    program_id = new_id()
    seen: Counter[str] = Counter()
    situations: Counter[str] = Counter()

    def histories(call: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        generator = random.Random(seed)
        while seen.total() < DEEP_OPERATIONS:
            # Short histories of few accounts meet each other's edges, long ones those of age.
            size, steps = generator.choice(((1, 60), (3, 200), (10, 1000)))
            today = date(2024, 1, 1) + timedelta(days=generator.randrange(800))
            world = World(generator.choice, call, sql, program_id, today, size)
            world.open()
            for _ in range(steps):
                world.step()
            world.compare_entries()
            seen.update(world.seen)
            situations.update(world.situations)

    await _in_a_thread(histories)
    assert not await find_differences(program_id)
    assert not EXPECTED - seen.keys(), "the generator never met some outcomes"
    assert all(situations.values()), f"the generator never met some situations: {situations}"
    print(f"seed {seed}: {seen.total()} operations, {dict(seen)}, {dict(situations)}")
