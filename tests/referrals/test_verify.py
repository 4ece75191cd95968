"""What proves referrals is itself proven: every corruption is found, and sound books give nothing."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

import pytest

from app.database import connection, transaction
from app.ledger.referral_checks import REFERRAL_CHECKS
from app.programs.models import Program
from tests.helpers import find_differences, new_member, new_program, work_all
from tests.referrals.making import BUYING, buy, friend_rule, new_friend, refund, suspend


class Books(NamedTuple):
    """A program with referrals in every state, and the ids of all that a corruption names."""

    program: Program
    ids: Mapping[str, UUID]


@pytest.fixture
async def books() -> Books:
    """Friends: one credited for a purchase, one taken back, one pending, one rejected; another member."""
    program = await new_program()
    await friend_rule(program, 100, 30, BUYING)
    ada, eve = await new_member(program), await new_member(program)
    credited, taken, pending = [await new_friend(program, ada) for _ in range(3)]
    await suspend(program, eve)
    rejected = await new_friend(program, eve)
    await buy(program, credited)
    sale = await buy(program, taken)
    await work_all(program)
    await refund(program, sale)
    await work_all(program)
    ids = {"ada": ada.id, "eve": eve.id, "program": program.id}
    async with connection() as sql:
        for name, member in (
            ("credited", credited), ("taken", taken), ("pending", pending), ("rejected", rejected)
        ):  # fmt: skip
            ids[f"friend_{name}"] = member.id
            ids[name] = await sql.fetchval("SELECT id FROM referral WHERE referred_id = $1", member.id)
        row = await sql.fetchrow(
            "SELECT * FROM referral_credit WHERE referral_id = $1 AND trigger = 'FIRST_PURCHASE'",
            ids["credited"],
        )
    ids |= {"hers": row["referrer_event_id"], "theirs": row["referred_event_id"], "sale": sale}
    assert await find_differences(program.id) == []
    return Books(program, ids)


(STATUS, ACCOUNTS, CREDIT, EVENTS, BELONGING, NOTHING, LOST, WAITS) = REFERRAL_CHECKS  # in their order

_CREDIT = "UPDATE referral_credit SET {} WHERE referral_id = {} AND trigger = 'FIRST_PURCHASE'"

CORRUPTIONS = (
    (STATUS, "UPDATE referral SET status = 'PENDING' WHERE id = :credited"),
    (STATUS, "UPDATE referral SET status = 'CREDITED', credited_at = now() WHERE id = :pending"),
    (STATUS, "UPDATE referral SET credited_at = NULL WHERE id = :credited"),
    (STATUS, "UPDATE referral SET credited_at = now() WHERE id = :taken"),
    (
        STATUS,
        "UPDATE referral SET status = 'REJECTED', rejection = 'LIMIT_REACHED', credited_at = NULL"
        " WHERE id = :credited",
    ),
    (STATUS, "UPDATE referral SET credited_at = now() WHERE id = :rejected"),
    (ACCOUNTS, "UPDATE referral SET program_id = gen_random_uuid() WHERE id = :pending"),
    (ACCOUNTS, "UPDATE referral SET referred_id = gen_random_uuid() WHERE id = :pending"),
    (ACCOUNTS, "UPDATE referral SET referrer_id = gen_random_uuid() WHERE id = :pending"),
    (CREDIT, "UPDATE referral SET referrer_id = :eve WHERE id = :credited"),
    (CREDIT, _CREDIT.format("referred_id = :eve", ":credited")),
    (CREDIT, _CREDIT.format("occurred_at = occurred_at + interval '1 second'", ":credited")),
    (CREDIT, _CREDIT.format("purchase_id = :sale", ":credited")),
    (CREDIT, _CREDIT.format("purchase_id = gen_random_uuid()", ":credited")),
    (
        CREDIT,
        "UPDATE referral_credit SET round = 1 WHERE referral_id = :credited AND trigger = 'REGISTRATION'",
    ),
    (EVENTS, _CREDIT.format("referrer_event_id = :theirs", ":credited")),
    (EVENTS, _CREDIT.format("referred_event_id = gen_random_uuid()", ":credited")),
    (EVENTS, _CREDIT.format("rule_ids = ARRAY[gen_random_uuid()]", ":credited")),
    (EVENTS, _CREDIT.format("round = 1", ":credited")),
    (EVENTS, "UPDATE event SET external_id = 'another' WHERE id = :hers"),
    (EVENTS, "UPDATE event SET occurred_at = occurred_at + interval '1 second' WHERE id = :theirs"),
    (BELONGING, _CREDIT.format("referred_event_id = NULL", ":credited")),
    (BELONGING, _CREDIT.format("referrer_event_id = NULL", ":credited")),
    (NOTHING, _CREDIT.format("taken_back_at = now()", ":credited")),
    (NOTHING, "UPDATE award SET remaining = 1 WHERE event_id = (SELECT referred_event_id FROM referral_credit"
        " WHERE referral_id = :taken AND trigger = 'FIRST_PURCHASE')"),
    (LOST, _CREDIT.format("written_off = 1", ":taken")),
    (LOST, _CREDIT.format("written_off = 1", ":credited")),
    (STATUS, _CREDIT.format("written_off = 1", ":taken")),
    (WAITS, _CREDIT.format("credited_at = NULL", ":credited")),
    (WAITS, _CREDIT.format("taken_back_at = NULL", ":taken")),
    (WAITS, "UPDATE award SET remaining = remaining - 1 WHERE event_id = :hers"),
)  # fmt: skip


@pytest.mark.parametrize(("check", "statement"), CORRUPTIONS)
async def test_corruption_is_found(books: Books, check: str, statement: str) -> None:
    for name in sorted(books.ids, key=len, reverse=True):
        statement = statement.replace(f":{name}", f"'{books.ids[name]}'")
    async with transaction() as sql:
        done = await sql.execute(statement)
    assert done.split()[-1] == "1", f"not one row was corrupted: {statement}"
    assert check in {finding.check for finding in await find_differences(books.program.id)}


def test_every_check_has_a_corruption() -> None:
    assert {check for check, _ in CORRUPTIONS} == set(REFERRAL_CHECKS)
