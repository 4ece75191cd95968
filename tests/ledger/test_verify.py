"""What proves the books is itself proven: every corruption is found, and sound books give nothing."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg
import pytest

from app.database import connection, transaction
from app.earning.events import Incoming
from app.earning.recording import record_now, store
from app.earning.refunding import EventRef, refund_purchase
from app.earning.remainders import Wish
from app.earning.rules import ProductFilter, RuleLimits
from app.ids import new_id
from app.ledger.checks import CHECKS
from app.ledger.operations import EntryKind
from app.ledger.verify import EVERY_CHECK, MAX_FINDINGS, verify
from app.members.reads import MemberRow
from app.programs.models import Program
from tests.helpers import (
    Line,
    by_id,
    find_differences,
    new_member,
    new_program,
    new_rule,
    post,
    purchase,
    rolling,
    set_now,
)

# Sequences of the entries that the books below come to; asserted where they are made.
EARNED, REDEEMED, RESERVED, CLAWED_BACK, LATER = 1, 3, 5, 8, 14


class Books(NamedTuple):
    """A program with books of every kind, and the member whose books they are."""

    program: Program
    member: MemberRow
    event: UUID
    refunded: UUID
    waiting: UUID
    budget: UUID


@pytest.fixture
async def books(monkeypatch: pytest.MonkeyPatch) -> Books:
    """Two members: one with an entry of every kind, an event that was earned and one that waits.

    The last purchase was refunded twice. The second refund gave points again: with it a rule that pays
    little, in the place of another, did not reach its minimum any more.
    """
    set_now(monkeypatch, 2026, 1, 31, 10)
    program = await new_program(expiry=rolling(1), debt_limit=100)
    await new_rule(program, 2)
    member, other = await new_member(program), await new_member(program)
    (recorded,) = await record_now(
        program.id,
        [Incoming(purchase("50.00", lines=[Line("a", Decimal(20)), Line("b", Decimal(30))]), by_id(member))],
    )
    await record_now(program.id, [Incoming(purchase("5.00"), by_id(other))])
    assert recorded.event
    await post(program, member, EntryKind.ADJUST, 30)
    await post(program, member, EntryKind.REDEEM, 110)
    await post(program, member, EntryKind.RESTORE, 15, reference=REDEEMED)
    await post(program, member, EntryKind.RESERVE, 20)
    await post(program, member, EntryKind.REDEEM, 12, reference=RESERVED)
    await post(program, member, EntryKind.ADJUST, -5)
    await post(program, member, EntryKind.CLAWBACK, 40, reference=EARNED)
    set_now(monkeypatch, 2026, 2, 1, 10)
    await post(program, member, EntryKind.EARN, 70, available_on=date(2026, 2, 11))
    set_now(monkeypatch, 2026, 2, 20, 10)
    await post(program, member, EntryKind.EARN, 60, available_on=date(2026, 3, 1))
    set_now(monkeypatch, 2026, 3, 20, 10)
    await post(program, member, EntryKind.EARN, 9)
    budget = await new_rule(program, fixed=25, limits=RuleLimits(budget=60))
    toys = ProductFilter(("toy",))
    await new_rule(program, "0.1", products=toys, minimum_amount=Decimal(50))
    lines = [Line("toy", Decimal(60), Decimal(6)), Line("other", Decimal(40))]
    (refunded,) = await record_now(program.id, [Incoming(purchase(None, lines=lines), by_id(member))])
    await record_now(program.id, [Incoming(purchase("5.00"), by_id(other))])
    assert refunded.event
    for name, wish in (("r1", Wish(2, Decimal(1))), ("r2", Wish(1, Decimal(2)))):
        await refund_purchase(program.id, EventRef(id=refunded.event.id), name, lines=[wish])
    (stored,) = await store(program.id, [Incoming(purchase(10), by_id(member))])
    assert stored.event
    kinds = await _column("SELECT kind FROM ledger_entry WHERE account_id = $1 ORDER BY sequence", member.id)
    assert kinds == [
        *("EARN", "ADJUST", "REDEEM", "RESTORE", "RESERVE", "REDEEM", "ADJUST", "CLAWBACK"),
        *("EARN", "RELEASE", "EARN", "RELEASE", "EXPIRE", "EARN"),
        *("EARN", "EARN", "EARN", "CLAWBACK", "EARN", "CLAWBACK"),
    ]
    return Books(program, member, recorded.event.id, refunded.event.id, stored.event.id, budget.id)


async def _column(statement: str, *args: object) -> list[object]:
    async with connection() as sql:
        return [row[0] for row in await sql.fetch(statement, *args)]


async def corrupt(books: Books, statement: str) -> None:
    """Change the books behind the ledger's back; :account, :event, :refunded and so on stand for ids."""
    ids = {"account": books.member.id} | books._asdict()
    for name in ("account", "event", "refunded", "waiting", "budget"):
        statement = statement.replace(f":{name}", f"'{ids[name]}'")
    async with transaction() as sql:
        done = await sql.execute(statement)
    assert done.split()[-1] == "1", f"not one row was corrupted: {statement}"


# By check: a corruption of one row that it has to find; others may find it too.
CORRUPTIONS = {
    "the balance is the sum of its entries": """
        UPDATE account SET available = available + 1, lifetime_earned = lifetime_earned + 1
        WHERE id = :account""",
    "entries are numbered 1, 2, 3 without a gap": f"""
        UPDATE ledger_entry SET sequence = 99 WHERE account_id = :account AND sequence = {LATER}""",
    "each entry's sums follow from those before it": """
        UPDATE ledger_entry SET pending_after = pending_after + 1
        WHERE account_id = :account AND sequence = 2""",
    "each entry changed what it says": f"""
        UPDATE ledger_entry SET amount = amount + 1 WHERE account_id = :account AND sequence = {RESERVED}""",
    "lots hold what is available and pending": f"""
        UPDATE lot SET remaining = remaining - 1 WHERE account_id = :account AND sequence = {LATER}""",
    "a lot has left what entries have not taken": f"""
        UPDATE allocation SET amount = amount - 1 WHERE account_id = :account AND sequence = {CLAWED_BACK}""",
    "every earn has its lot, and every lot its earn": f"""
        UPDATE lot SET expires_on = expires_on + 1 WHERE account_id = :account AND sequence = {LATER}""",
    "allocations belong to an entry and a lot": f"""
        UPDATE allocation SET sequence = 99 WHERE account_id = :account AND sequence = {CLAWED_BACK}""",
    "what an entry took from lots is what it changed": f"""
        UPDATE allocation SET sequence = {EARNED}
        WHERE account_id = :account AND sequence = {CLAWED_BACK}""",
    "no more is undone than was done": f"""
        UPDATE ledger_entry SET amount = 101 WHERE account_id = :account AND sequence = {CLAWED_BACK}""",
    "lifetime sums follow from the entries": """
        UPDATE account SET lifetime_earned = lifetime_earned + 1, lifetime_spent = lifetime_spent + 1
        WHERE id = :account""",
    "no account is due later than its lots": """
        UPDATE account SET next_due = 'infinity' WHERE id = :account""",
    "every award is one earn of the same points": """
        UPDATE award SET points = points - 1, remaining = points - 1 WHERE event_id = :event""",
    "every earn from an event is an award": """
        DELETE FROM award WHERE event_id = :event""",
    "an event's points are those of its awards": """
        UPDATE event_outcome SET points = points + 1 WHERE event_id = :event""",
    "every event either waits or has an outcome": """
        DELETE FROM event_outcome WHERE event_id = :event""",
    "whoever has events waiting stands in the outbox, or among what failed": """
        DELETE FROM outbox WHERE :account = ANY(members)""",
    "every member has an account, and every account its member": """
        DELETE FROM member WHERE id = :account""",
    "whatever is kept of an account has that account": """
        DELETE FROM account WHERE id = :account""",
    "every event belongs to an account of its program": """
        UPDATE event SET program_id = gen_random_uuid() WHERE id = :event""",
    "every outcome, award, refund and place in the queue has its event": """
        DELETE FROM event WHERE id = :event""",
    "every earn from an event tells of that event": """
        UPDATE event SET occurred_at = occurred_at - interval '1 second' WHERE id = :event""",
    "a purchase's amount is the sum of its lines": """
        UPDATE event SET amount = amount + 1 WHERE id = :event""",
    "an award is what its receipt says": """
        UPDATE award SET desired = desired + 1 WHERE event_id = :event""",
    "an award tells the days of its earn": """
        UPDATE award SET expires_at = expires_at + interval '1 day' WHERE event_id = :event""",
    "a day's counter is the sum of its awards": """
        DELETE FROM earning_counter WHERE member_id = :account AND day = '2026-01-31'""",
    "an award has left what refunds have not taken": """
        UPDATE award SET remaining = remaining - 1 WHERE event_id = :refunded AND remaining = 80""",
    "what refunds took is in the ledger": """
        UPDATE refund_award SET points = points + 1 WHERE event_id = :refunded AND points = 6""",
    "a refund tells what its entries took": """
        UPDATE refund SET points = points + 1 WHERE event_id = :refunded AND amount = 40""",
    "what a refund wrote off is told award by award": """
        UPDATE refund_award SET written_off = written_off + 1 WHERE event_id = :refunded AND points = 6""",
    "no more of a purchase is refunded than it came to": """
        UPDATE refund SET amount = amount + 41 WHERE event_id = :refunded AND amount = 40""",
    "a rule's budget has spent what its awards have": """
        UPDATE earning_budget SET spent = spent + 1 WHERE rule_id = :budget""",
    "an account was last active when its entries say": """
        UPDATE account SET active_on = '2001-01-01' WHERE id = :account""",
    "what is reserved is what open reservations hold": """
        UPDATE account SET reserved = reserved + 1, lifetime_earned = lifetime_earned + 1
        WHERE id = :account""",
}


def test_every_check_has_a_corruption_that_it_finds() -> None:
    assert CORRUPTIONS.keys() == CHECKS.keys(), "add a corruption for every check"


@pytest.mark.parametrize("check", CORRUPTIONS)
async def test_one_corrupted_row_is_found(books: Books, check: str) -> None:
    assert not await find_differences(books.program.id)
    await corrupt(books, CORRUPTIONS[check])
    findings = await find_differences(books.program.id)
    # A budget is everybody's: it goes by the name of its rule.
    whose = books.budget if "budget" in check else books.member.id
    assert {(finding.check, finding.account_id) for finding in findings} >= {(check, whose)}
    assert {finding.account_id for finding in findings} == {whose}, "the other member is innocent"
    (finding,) = [each for each in findings if each.check == check][:1]
    assert finding.kept != finding.computed


OTHERS = (
    ("every event either waits or has an outcome", "DELETE FROM event_queue WHERE event_id = :waiting"),
    ("every earn has its lot, and every lot its earn", "DELETE FROM lot WHERE :mine AND sequence = 2"),
    (
        "every earn has its lot, and every lot its earn",
        "DELETE FROM ledger_entry WHERE :mine AND sequence = 2",
    ),
    ("entries are numbered 1, 2, 3 without a gap", "DELETE FROM ledger_entry WHERE :mine AND sequence = 7"),
    (
        "every award is one earn of the same points",
        "UPDATE award SET entry_sequence = 2 WHERE event_id = :event",
    ),
    ("no more is undone than was done", "UPDATE ledger_entry SET amount = 21 WHERE :mine AND sequence = 6"),
    ("each entry changed what it says", "UPDATE ledger_entry SET reference = 1 WHERE :mine AND sequence = 6"),
    (
        "each entry changed what it says",
        "UPDATE ledger_entry SET kind = 'RELEASE' WHERE :mine AND sequence = 13",
    ),
    (
        "every member has an account, and every account its member",
        "DELETE FROM account WHERE id = :account",
    ),
    ("every earn from an event tells of that event", "DELETE FROM event WHERE id = :event"),
    (
        "every outcome, award, refund and place in the queue has its event",
        "DELETE FROM event WHERE id = :waiting",
    ),
    ("every event belongs to an account of its program", "DELETE FROM account WHERE id = :account"),
    (
        "an award is what its receipt says",
        "UPDATE award SET points = points - 1, remaining = points - 1 WHERE event_id = :event",
    ),
    ("an award is what its receipt says", "UPDATE award SET steps = '[]' WHERE event_id = :event"),
    (
        "an award is what its receipt says",
        "UPDATE award SET steps = jsonb_set(steps, '{0,before}', '\"1\"') WHERE event_id = :event",
    ),
    (
        "an award is what its receipt says",
        "UPDATE award SET steps = jsonb_insert(steps, '{0}', steps->0) WHERE event_id = :event",
    ),
    (
        "an award tells the days of its earn",
        "UPDATE award SET available_at = available_at - interval '1 second' WHERE event_id = :event",
    ),
    ("an award tells the days of its earn", "UPDATE award SET expires_at = NULL WHERE event_id = :event"),
    (
        "a day's counter is the sum of its awards",
        "UPDATE earning_counter SET points = 0 WHERE member_id = :account AND day = '2026-01-31'",
    ),
    (
        "a day's counter is the sum of its awards",
        "UPDATE earning_counter SET day = day + 1 WHERE member_id = :account AND day = '2026-01-31'",
    ),
    (
        "an account was last active when its entries say",
        "UPDATE account SET active_on = '2026-03-21' WHERE id = :account",
    ),
    (
        "an account was last active when its entries say",
        "UPDATE account SET active_on = '2026-03-01' WHERE id = :account",
    ),
    (
        "what is reserved is what open reservations hold",
        "DELETE FROM ledger_entry WHERE :mine AND sequence = 6",
    ),
    (
        "an award has left what refunds have not taken",
        "DELETE FROM refund_award WHERE event_id = :refunded AND points = 6",
    ),
    (
        "what refunds took is in the ledger",
        "DELETE FROM refund_award WHERE event_id = :refunded AND points = -80",
    ),
    (
        "what refunds took is in the ledger",
        "UPDATE refund_award SET reference = 1 WHERE event_id = :refunded AND points = 6",
    ),
    (
        "a refund tells what its entries took",
        "UPDATE refund SET written_off = 1 WHERE event_id = :refunded AND amount = 40",
    ),
    (
        "a refund tells what its entries took",
        "UPDATE refund SET debt = 1 WHERE event_id = :refunded AND amount = 40",
    ),
    (
        "no more of a purchase is refunded than it came to",
        "UPDATE refund SET whole = true WHERE event_id = :refunded AND amount = 40",
    ),
    (
        "a rule's budget has spent what its awards have",
        "DELETE FROM earning_budget WHERE rule_id = :budget",
    ),
)


@pytest.mark.parametrize(("check", "corruption"), OTHERS)
async def test_other_ways_to_corrupt_are_found_too(books: Books, check: str, corruption: str) -> None:
    await corrupt(books, corruption.replace(":mine", "account_id = :account"))
    assert check in {finding.check for finding in await find_differences(books.program.id)}


async def test_another_program_is_not_looked_at(books: Books) -> None:
    other = await new_program()
    await corrupt(books, CORRUPTIONS["the balance is the sum of its entries"])
    assert not await find_differences(other.id)
    everywhere = await find_differences(None)
    assert books.member.id in {finding.account_id for finding in everywhere}


# What nothing ties to a program is found only where all programs are looked at.
ADRIFT = {
    "an event's outcome": (
        "every outcome, award, refund and place in the queue has its event",
        "INSERT INTO event_outcome (event_id, points, processed_at) VALUES ($1, 0, now())",
    ),
    "a queued event": (
        "every outcome, award, refund and place in the queue has its event",
        "INSERT INTO event_queue (member_id, occurred_at, event_id) VALUES ($1, now(), gen_random_uuid())",
    ),
    "a refund": (
        "every outcome, award, refund and place in the queue has its event",
        "WITH request AS (INSERT INTO refund_request VALUES (gen_random_uuid(), gen_random_uuid(), 'x',"
        " gen_random_uuid(), 'ITEMS', 1, now(), now(), '[]') RETURNING id, program_id)"
        " INSERT INTO refund SELECT gen_random_uuid(), id, program_id, $1, 5, '[]', false, 0, 0, 0"
        " FROM request",
    ),
    "an award": (
        "every outcome, award, refund and place in the queue has its event",
        "INSERT INTO award (event_id, rule_id, rule_version, desired, points, remaining, available_at, steps)"
        " VALUES ($1, gen_random_uuid(), 1, 1, 0, 0, now(), '[]')",
    ),
    "a lot": (
        "whatever is kept of an account has that account",
        "INSERT INTO lot VALUES ($1, 'infinity', 1, '2026-01-01', 5, 5, false, true)",
    ),
    "an allocation": (
        "whatever is kept of an account has that account",
        "INSERT INTO allocation VALUES ($1, 1, 1, 'infinity', 5)",
    ),
    "a counter": (
        "whatever is kept of an account has that account",
        "INSERT INTO earning_counter VALUES ($1, gen_random_uuid(), '2026-01-01', 5)",
    ),
}


@pytest.mark.parametrize("thing", ADRIFT)
async def test_what_belongs_to_nobody_is_found_among_all_programs(books: Books, thing: str) -> None:
    check, statement = ADRIFT[thing]
    nobody = new_id()
    async with connection() as sql:
        changed = sql.transaction()
        await changed.start()
        try:
            await sql.execute(statement, nobody)
            accounts = "SELECT * FROM account WHERE $1::uuid IS NULL OR program_id = $1"
            found = {
                program_id: await sql.fetch(f"WITH a AS ({accounts}) {CHECKS[check]}", program_id)
                for program_id in (None, books.program.id)
            }
        finally:
            await changed.rollback()
    assert nobody in {row[0] for row in found[None]}
    assert not found[books.program.id]


async def test_a_purchase_with_limits_and_lines_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sound books with what the others have not: lines, a cap that is reached, points that wait, a zone."""
    set_now(monkeypatch, 2026, 3, 28, 23, 30)
    program = await new_program(
        expiry=rolling(1), max_points_per_day=15, pending_days=1, timezone="Europe/London"
    )
    await new_rule(program, "1.5")
    await new_rule(program, fixed=3)
    member = await new_member(program)
    lines = [Line("a", Decimal("4.10")), Line("b", Decimal("3.31"))]
    for amount, of in ((None, lines), ("3.33", None), (8, None)):
        (recorded,) = await record_now(program.id, [Incoming(purchase(amount, lines=of), by_id(member))])
        assert recorded.event
    assert (
        await _column("SELECT available_at FROM award WHERE event_id = $1", recorded.event.id)
        == [datetime(2026, 3, 29, tzinfo=UTC)] * 2
    )
    assert not await find_differences(program.id)
    set_now(monkeypatch, 2026, 4, 5, 23, 30)
    await post(program, member, EntryKind.REDEEM, 2)
    assert not await find_differences(program.id)


async def test_a_check_tells_of_no_more_than_it_promises() -> None:
    program = await new_program()
    members = MAX_FINDINGS + 3
    async with transaction() as sql:
        await sql.execute(
            "INSERT INTO account (id, program_id, member_id, active_on, available, lifetime_earned)"
            " SELECT gen_random_uuid(), $1, gen_random_uuid(), '2026-01-01', 5, 5"
            " FROM generate_series(1, $2)",
            program.id,
            members,
        )
    findings = {name: found async for name, found in verify(program.id)}
    assert findings.keys() == EVERY_CHECK.keys()
    assert len(findings["the balance is the sum of its entries"]) == MAX_FINDINGS


async def test_looking_is_harmless_beside_a_writer(books: Books) -> None:
    async with connection() as sql, sql.transaction():
        await sql.fetch("SELECT FROM account WHERE id = $1 FOR UPDATE", books.member.id)
        assert not await find_differences(books.program.id)


# What cannot be computed a second time, or does not matter.
UNPROVEN = {
    "account.next_due",  # may be early; late is found
    "ledger_entry.matures_on",  # where the points could be spent at once, the ledger goes by its own day
    "lot.matures_on",  # once it has matured
    "lot.pending",  # once it is used up
    "ledger_entry.request_hash",  # the caller's
    "award.day",  # once nothing of it is left
    "event_outcome.rules_version",  # a version's rules may be those of the next
}
_EVENTS = "event_id IN (SELECT id FROM event WHERE member_id = $1)"
# By table: which of its rows are in a member's books.
OWN = {
    "account": "id = $1",
    "ledger_entry": "account_id = $1",
    "lot": "account_id = $1",
    "allocation": "account_id = $1",
    "earning_counter": "member_id = $1",
    "event_outcome": _EVENTS,
    "award": _EVENTS,
    "refund": _EVENTS,
    "refund_award": _EVENTS,
    "earning_budget": f"rule_id IN (SELECT rule_id FROM award WHERE {_EVENTS})",
}
NUMBERS = """
SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
WHERE table_schema = 'public' AND data_type IN ('bigint', 'date', 'boolean')
  AND table_name = ANY($1::text[]) ORDER BY 1, 2
"""


@pytest.mark.deep
async def test_every_number_in_the_books_is_proven_or_guarded(books: Books) -> None:
    """Change every number of every row a little: the database refuses it, or a check finds it."""
    unseen: dict[str, list[str]] = {}
    async with connection() as sql:
        for table, column, kind in await sql.fetch(NUMBERS, list(OWN)):
            # How much of a clawback was written off is told by its amount alone.
            but = "AND kind <> 'CLAWBACK'" if (table, column) == ("ledger_entry", "amount") else ""
            rows = await sql.fetch(
                f"SELECT ctid::text FROM {table} WHERE {OWN[table]} {but}", books.member.id
            )
            change = f"NOT {column}" if kind == "boolean" else f"{column} + 1"
            for row in rows:
                changed = sql.transaction()
                await changed.start()
                try:
                    finite = f"AND {column} < 'infinity'" if kind == "date" else f"AND {column} IS NOT NULL"
                    statement = f"UPDATE {table} SET {column} = {change} WHERE ctid = '{row[0]}' {finite}"
                    if await sql.execute(statement) == "UPDATE 0":
                        continue
                    if not await _found(sql, books.program.id):
                        unseen.setdefault(f"{table}.{column}", []).append(row[0])
                except asyncpg.IntegrityConstraintViolationError:
                    pass
                finally:
                    await changed.rollback()
    assert unseen.keys() <= UNPROVEN, unseen


async def _found(sql: asyncpg.Connection, program_id: UUID) -> bool:
    for check in EVERY_CHECK.values():
        rows = await sql.fetch(
            f"WITH a AS (SELECT * FROM account WHERE program_id = $1) {check} LIMIT 1", program_id
        )
        if rows:
            return True
    return False
