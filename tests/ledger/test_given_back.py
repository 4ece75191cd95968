"""What comes back to who owes: what lives pays the debt, what expired meanwhile pays nothing."""

from datetime import UTC, date, datetime, timedelta

import pytest

from app.database import connection
from app.ledger.checks import CHECKS
from app.ledger.expiry import NEVER
from app.ledger.operations import EntryKind, Outcome, Status
from app.ledger.reads import Balance, get_balances, list_entries
from app.ledger.settling import settle_accounts
from app.members.reads import MemberRow
from app.paging import Page
from app.programs.models import Program
from tests.helpers import find_differences, inactivity, new_member, new_program, policy_of, post, set_now
from tests.redemptions.making import earn, lots_of

SOON, LATER, LATEST = date(2026, 1, 20), date(2026, 3, 1), date(2026, 4, 1)
CHECK = "what an entry took from lots is what it changed"


class Books:
    """A member who spent everything and then owes, at a time when the lots that end SOON have ended."""

    def __init__(self, program: Program, member: MemberRow, spend: int) -> None:
        self.program, self.member, self.spend = program, member, spend

    @classmethod
    async def open(
        cls,
        monkeypatch: pytest.MonkeyPatch,
        lots: dict[date, int],
        *,
        debt: int,
        kind: EntryKind = EntryKind.REDEEM,
        inactive_months: int | None = None,
    ) -> "Books":
        set_now(monkeypatch, 2026, 1, 10, 12)
        policy = {"expiry": inactivity(inactive_months)} if inactive_months else {}
        program = await new_program(debt_limit=1000, **policy)
        member = await new_member(program)
        first = await earn(program, member, debt, NEVER)
        await post(program, member, EntryKind.REDEEM, debt)
        for expires_on, points in lots.items():
            await earn(program, member, points, expires_on)
        spend = await post(program, member, kind, sum(lots.values()))
        assert spend.sequence is not None
        await post(program, member, EntryKind.CLAWBACK, debt, reference=first)
        set_now(monkeypatch, 2026, 2, 1, 12)
        books = cls(program, member, spend.sequence)
        assert (await books.balance()).available == -debt
        return books

    async def give_back(self, points: int, reference: int | None = None) -> Outcome:
        outcome = await post(
            self.program, self.member, EntryKind.RESTORE, points, reference=reference or self.spend
        )
        assert outcome.status is Status.APPLIED
        return outcome

    async def balance(self) -> Balance:
        (balance,) = await get_balances(await policy_of(self.program), [self.member.id])
        assert balance
        return balance

    async def story(self) -> list[tuple[str, int]]:
        """Return the entries that followed the debt."""
        (result,) = await list_entries([self.member.id], Page(size=50))
        told = [(str(entry.kind), entry.available_change) for entry in reversed(result.items)]
        return told[[kind for kind, _ in told].index("CLAWBACK") + 1 :]

    async def check(self, available: int, lots: dict[date, int], next_due: date) -> None:
        """Compare what is left, and that nothing of it is overdue, or is missed by a sweep."""
        balance = await self.balance()
        assert (balance.available, await lots_of(self.member)) == (available, lots)
        assert balance.next_due == next_due
        assert sum(lots.values()) == max(0, available)
        assert await settle_accounts(await policy_of(self.program), [self.member.id]) == []
        assert await self.balance() == balance
        assert not await find_differences(self.program.id)


async def test_a_spend_that_is_cancelled_after_its_points_expired_pays_no_debt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books = await Books.open(monkeypatch, {SOON: 100}, debt=80)
    assert (await books.give_back(100)).available == 20
    await books.check(-80, {}, date.max)
    assert await books.story() == [("RESTORE", 100), ("EXPIRE", -100)]
    balance = await books.balance()
    assert (balance.lifetime_spent, balance.lifetime_expired) == (80, 100)


async def test_of_a_spend_that_comes_back_partly_expired_the_living_part_pays_the_debt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books = await Books.open(monkeypatch, {SOON: 50, LATER: 30, LATEST: 20}, debt=40)
    await books.give_back(100)
    # The soonest-expiring points that live pay: 30 of one lot, and 10 of the other.
    await books.check(10, {LATEST: 10}, LATEST + timedelta(days=1))
    assert await books.story() == [("RESTORE", 100), ("EXPIRE", -50)]


async def test_a_debt_beyond_what_lives_stays_a_debt(monkeypatch: pytest.MonkeyPatch) -> None:
    books = await Books.open(monkeypatch, {SOON: 50, LATER: 30, LATEST: 20}, debt=70)
    await books.give_back(100)
    await books.check(-20, {}, date.max)


async def test_a_part_that_comes_back_is_the_one_that_lives_longest_and_it_pays_the_debt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books = await Books.open(monkeypatch, {SOON: 50, LATER: 30, LATEST: 20}, debt=35)
    await books.give_back(40)
    await books.check(5, {LATEST: 5}, LATEST + timedelta(days=1))
    assert await books.story() == [("RESTORE", 40)]


async def test_what_has_paid_a_debt_does_not_come_back_again(monkeypatch: pytest.MonkeyPatch) -> None:
    books = await Books.open(monkeypatch, {SOON: 50, LATER: 50}, debt=60)
    await books.give_back(50)
    await books.check(-10, {}, date.max)
    # What is left of the spend is what expired: as if all had come back at once.
    await books.give_back(50)
    await books.check(-10, {}, date.max)
    assert await books.story() == [("RESTORE", 50), ("RESTORE", 50), ("EXPIRE", -50)]


async def test_a_reservation_that_is_released_pays_the_debt_with_what_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books = await Books.open(monkeypatch, {SOON: 50, LATER: 30, LATEST: 20}, debt=40, kind=EntryKind.RESERVE)
    await books.give_back(100)
    await books.check(10, {LATEST: 10}, LATEST + timedelta(days=1))
    balance = await books.balance()
    assert (balance.reserved, balance.lifetime_expired) == (0, 50)


async def test_what_a_capture_left_and_what_it_took_come_back_once_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books = await Books.open(monkeypatch, {SOON: 50, LATER: 30, LATEST: 20}, debt=40, kind=EntryKind.RESERVE)
    captured = await post(books.program, books.member, EntryKind.REDEEM, 70, reference=books.spend)
    await books.give_back(30)
    await books.check(-10, {}, date.max)
    await books.give_back(70, reference=captured.sequence)
    await books.check(10, {LATER: 10}, LATER + timedelta(days=1))
    assert await books.story() == [("REDEEM", 0), ("RESTORE", 30), ("RESTORE", 70), ("EXPIRE", -50)]


async def test_several_lots_that_expired_come_back_and_go_day_by_day(monkeypatch: pytest.MonkeyPatch) -> None:
    books = await Books.open(monkeypatch, {SOON: 10, SOON + timedelta(days=5): 20, LATER: 5}, debt=3)
    await books.give_back(35)
    await books.check(2, {LATER: 2}, LATER + timedelta(days=1))
    assert await books.story() == [("RESTORE", 35), ("EXPIRE", -10), ("EXPIRE", -20)]


async def test_the_last_day_of_a_lot_still_pays_a_debt(monkeypatch: pytest.MonkeyPatch) -> None:
    books = await Books.open(monkeypatch, {date(2026, 2, 1): 100}, debt=80)
    await books.give_back(100)
    await books.check(20, {date(2026, 2, 1): 20}, date(2026, 2, 2))


async def test_without_a_debt_what_expired_expires_and_what_lives_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books = await Books.open(monkeypatch, {SOON: 50, LATER: 30, LATEST: 20}, debt=40)
    await earn(books.program, books.member, 40, NEVER)
    await books.give_back(100)
    await books.check(50, {LATER: 30, LATEST: 20}, LATER + timedelta(days=1))


async def test_points_that_only_inactivity_ends_live_when_they_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books = await Books.open(monkeypatch, {NEVER: 100}, debt=80, inactive_months=3)
    await books.give_back(100)
    # Active on 10 January: idle from 11 April on.
    await books.check(20, {NEVER: 20}, date(2026, 4, 11))
    assert await books.story() == [("RESTORE", 100)]


async def test_what_comes_back_to_an_account_that_fell_idle_pays_the_debt_before_it_expires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books = await Books.open(monkeypatch, {SOON: 30, NEVER: 70}, debt=50, inactive_months=1)
    now = set_now(monkeypatch, 2026, 3, 15, 12)
    await books.give_back(100)
    await books.check(0, {}, date.max)
    assert await books.story() == [("RESTORE", 100), ("EXPIRE", -30), ("EXPIRE", -20)]
    (result,) = await list_entries([books.member.id], Page(size=2))
    assert {entry.occurred_at for entry in result.items} == {now}


async def test_books_in_which_the_debt_was_not_paid_with_what_lives_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books = await Books.open(monkeypatch, {SOON: 50, LATER: 30, LATEST: 20}, debt=40)
    restored = await books.give_back(100)
    assert CHECK in CHECKS
    async with connection() as sql:
        await sql.execute(
            "UPDATE allocation SET amount = amount - 1"
            " WHERE account_id = $1 AND sequence = $2 AND expires_on = $3",
            books.member.id,
            restored.sequence,
            LATEST,
        )
    assert CHECK in {finding.check for finding in await find_differences(books.program.id)}


async def test_books_of_processes_of_the_version_before_are_sound_and_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books = await Books.open(monkeypatch, {SOON: 20, LATER: 50, LATEST: 30}, debt=40)
    moment = datetime(2026, 2, 1, 12, tzinfo=UTC)
    async with connection() as sql:
        status = await sql.fetchval(
            """
            SELECT o_status FROM ledger_apply($1, 'RESTORE', 60, $2, NULL, NULL, gen_random_uuid(), 1, $3,
                NULL, NULL, NULL, $3, '2026-02-01', 'UTC', NULL, '2026-01-10', 1000)
            """,
            books.member.id,
            books.spend,
            moment,
        )
    assert status == "APPLIED"
    await books.check(20, {LATEST: 20}, LATEST + timedelta(days=1))
    # 30 and 30 have come back, or paid; 20 that live and 20 that expired have not.
    await books.give_back(40)
    await books.check(40, {LATEST: 20, LATER: 20}, LATER + timedelta(days=1))
