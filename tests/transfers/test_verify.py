"""What proves transfers is itself proven: every corruption is found, sound books give nothing."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

import pytest

from app.database import connection, transaction
from app.ids import new_id
from app.ledger.transfer_checks import TRANSFER_CHECKS
from app.ledger.verify import EVERY_CHECK
from app.outbox import service as outbox
from app.outbox.service import Queue
from app.programs.models import Program
from tests.helpers import find_differences, new_member, new_program, set_now, work_all
from tests.redemptions.making import earn, rich_member
from tests.transfers.making import APRIL, MARCH, MAY, sent, set_status, transfers


class Books(NamedTuple):
    """A program with a transfer in every state, and the ids of all that a corruption names."""

    program: Program
    ids: Mapping[str, UUID]


@pytest.fixture
async def books(monkeypatch: pytest.MonkeyPatch) -> Books:
    """One sends to two: some of the first expires on the way, the second returns, the third waits."""
    set_now(monkeypatch, 2026, 3, 31, 10)
    program = await new_program()
    ann, bob, eve = await new_member(program), await rich_member(program), await new_member(program)
    for points, day in ((10, MARCH), (20, APRIL), (60, MAY)):
        await earn(program, ann, points, day)
    await sent(program, ann, bob, 49)
    await sent(program, ann, eve, 20)
    set_now(monkeypatch, 2026, 4, 1, 10)
    await set_status(program, eve, "CLOSED")
    await work_all(program)
    await sent(program, ann, bob, 30)
    assert await transfers(program) == [("ARRIVED", 49, 10), ("RETURNED", 20, 0), ("IN_TRANSIT", 30, 0)]
    async with connection() as sql:
        rows = await sql.fetch("SELECT id FROM transfer WHERE program_id = $1 ORDER BY id", program.id)
    arrived, returned, waiting = (row["id"] for row in rows)
    ids = {"arrived": arrived, "returned": returned, "waiting": waiting, "program": program.id}
    return Books(program, ids | {"ann": ann.id, "bob": bob.id, "eve": eve.id})


async def corrupt(books: Books, statement: str) -> None:
    """Change one row behind everybody's back; :arrived, :ann and so on stand for ids."""
    for name, value in books.ids.items():
        statement = statement.replace(f":{name}", f"'{value}'")
    async with transaction() as sql:
        done = await sql.execute(statement)
    assert done.split()[-1] == "1", f"not one row was corrupted: {statement}"


TENANT, SENT, ARRIVED, RETURNED, WAITING, BELONGING = TRANSFER_CHECKS

CORRUPTIONS = (
    (TENANT, "UPDATE transfer SET receiver_id = gen_random_uuid() WHERE id = :arrived"),
    (TENANT, "UPDATE transfer SET program_id = gen_random_uuid() WHERE id = :waiting"),
    (SENT, "UPDATE transfer SET points = points + 1 WHERE id = :waiting"),
    (SENT, "UPDATE transfer SET amounts[1] = amounts[1] + 1 WHERE id = :arrived"),
    (SENT, "UPDATE transfer SET expires_on[3] = 'infinity' WHERE id = :arrived"),
    (SENT, "UPDATE transfer SET entry = 1 WHERE id = :returned"),
    (SENT, "UPDATE transfer SET created_at = created_at + interval '1 second' WHERE id = :waiting"),
    (SENT, "UPDATE ledger_entry SET source = NULL WHERE source_id = :waiting"),
    (ARRIVED, "UPDATE transfer SET expired = 9 WHERE id = :arrived"),
    (ARRIVED, "UPDATE transfer SET expired = 1 WHERE id = :returned"),
    (ARRIVED, "UPDATE transfer SET status = 'ARRIVED', ended_at = now() WHERE id = :waiting"),
    (ARRIVED, "UPDATE transfer SET status = 'IN_TRANSIT', ended_at = NULL, expired = 0 WHERE id = :arrived"),
    (ARRIVED, "UPDATE transfer SET receiver_id = :eve WHERE id = :arrived"),
    (ARRIVED, "DELETE FROM ledger_entry WHERE source_id = :arrived AND kind = 'EARN' AND amount = 20"),
    (
        ARRIVED,
        "UPDATE ledger_entry SET expires_on = expires_on + 1 WHERE source_id = :arrived AND amount = 20",
    ),
    (RETURNED, "UPDATE transfer SET status = 'RETURNED', ended_at = now() WHERE id = :waiting"),
    (RETURNED, "UPDATE transfer SET status = 'ARRIVED' WHERE id = :returned"),
    (RETURNED, "DELETE FROM ledger_entry WHERE source_id = :returned AND kind = 'RESTORE'"),
    (
        RETURNED,
        "UPDATE ledger_entry SET source = 'redemption' WHERE source_id = :returned AND kind = 'RESTORE'",
    ),
    (WAITING, "DELETE FROM outbox WHERE queue = 'transfers' AND program_id = :program"),
    (WAITING, "UPDATE outbox SET queue = 'tiers' WHERE queue = 'transfers' AND program_id = :program"),
    (BELONGING, "DELETE FROM transfer WHERE id = :arrived"),
    (BELONGING, "UPDATE ledger_entry SET source_id = gen_random_uuid() WHERE source_id = :waiting"),
    (
        BELONGING,
        "UPDATE ledger_entry SET kind = 'ADJUST' WHERE source_id = :arrived AND amount = 20",
    ),
    (
        BELONGING,
        "UPDATE ledger_entry SET source_id = :returned WHERE source_id = :arrived AND amount = 20",
    ),
)


def test_every_check_has_a_corruption_that_it_finds() -> None:
    assert {check for check, _ in CORRUPTIONS} == TRANSFER_CHECKS.keys()
    assert TRANSFER_CHECKS.keys() <= EVERY_CHECK.keys()


@pytest.mark.parametrize(("check", "corruption"), CORRUPTIONS)
async def test_one_corrupted_row_is_found(books: Books, check: str, corruption: str) -> None:
    assert not await find_differences(books.program.id)
    await corrupt(books, corruption)
    findings = [each for each in await find_differences(books.program.id) if each.check == check]
    assert findings
    # A transfer goes by its sender, an entry by its account.
    assert {each.account_id for each in findings} <= {books.ids["ann"], books.ids["bob"]}
    assert all(each.kept != each.computed for each in findings)
    other = await new_program()
    assert not await find_differences(other.id)


async def test_what_failed_for_good_waits_there_and_not_in_the_outbox(books: Books) -> None:
    await corrupt(books, "DELETE FROM outbox WHERE queue = 'transfers' AND program_id = :program")
    assert {each.check for each in await find_differences(books.program.id)} == {WAITING}
    async with transaction() as sql:
        await sql.execute(
            "INSERT INTO failed_job (id, program_id, queue, subject, payload, error, attempts,"
            " first_failed_at, last_failed_at) VALUES ($1, $2, $3, $4, '{}', 'no', 3, now(), now())",
            new_id(), books.program.id, Queue.TRANSFERS, books.ids["bob"],
        )  # fmt: skip
    assert not await find_differences(books.program.id)
    assert outbox.MAX_FAILURES == 3
