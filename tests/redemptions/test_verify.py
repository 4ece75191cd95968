"""What proves the burning of points is itself proven: every corruption is found, sound books give nothing."""

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg
import pytest

from app.catalog.codes import open_codes, upload_codes
from app.database import connection, transaction
from app.earning.events import Incoming
from app.earning.recording import record_now
from app.earning.refunding import EventRef, refund_purchase
from app.ids import new_id
from app.ledger.burning_checks import BURNING_CHECKS
from app.ledger.verify import EVERY_CHECK
from app.programs.models import Program
from app.redemptions.expiring import release_of_members
from app.redemptions.giveaways import draw
from app.redemptions.steps import cancel, capture, fulfil, use_code
from tests.helpers import by_id, find_differences, new_program, new_rule, purchase, set_now
from tests.redemptions.making import VAULT, new_reward, redeemed, rich_member


class Books(NamedTuple):
    """A program in which points were burned in every way, and the ids of all that a corruption names."""

    program: Program
    member: UUID
    ids: Mapping[str, UUID]


@pytest.fixture
async def books(monkeypatch: pytest.MonkeyPatch) -> Books:
    """A member with a redemption in every state, of every kind of reward; another who has one, too."""
    set_now(monkeypatch, 2026, 3, 2, 10)
    program = await new_program()
    await new_rule(program, 1)
    member, other = await rich_member(program, 5000), await rich_member(program)
    pool = await new_reward(program, "VOUCHER", stock=50)
    await upload_codes(program.id, pool.id, [f"code {n}" for n in range(9)], VAULT)
    card = await new_reward(program, "GIFT_CARD", generate_codes=True, face_value="2.50")
    mug = await new_reward(program, stock=10)
    discount = await new_reward(program, "DISCOUNT", points_per_currency_unit="3.5")
    raffle = await new_reward(program, "GIVEAWAY")

    shown = await redeemed(program, member, pool, quantity=2)
    void = await redeemed(program, member, pool)
    used = await redeemed(program, member, card, quantity=2)
    held = await redeemed(program, member, pool, quantity=2, hold_seconds=7200)
    ran_out = await redeemed(program, member, card, hold_seconds=60)
    dropped = await redeemed(program, member, pool, hold_seconds=600)
    captured = await redeemed(program, member, mug, quantity=3, hold_seconds=600)
    sent = await redeemed(program, member, mug)
    paid = await redeemed(program, member, discount, points=500, order_amount=Decimal(400))
    spent = await redeemed(program, member, discount, points=100)
    entry = await redeemed(program, member, raffle)
    await redeemed(program, other, mug)
    await redeemed(program, other, pool, hold_seconds=7200)

    set_now(monkeypatch, 2026, 3, 2, 10, 5)
    assert await release_of_members(program.id, [member.id]) == 1
    await capture(program.id, captured.id, "capture", 250)
    await cancel(program.id, dropped.id, "Changed her mind", "cancel 1")
    await cancel(program.id, void.id, "Sold out", "cancel 2")
    await fulfil(program.id, sent.id, "Parcel 17")
    async with connection() as sql:
        codes = (await open_codes(sql, VAULT, program.id, [used.id]))[used.id]
    for code in codes:
        await use_code(program.id, code, code, VAULT)
    for name, redemption in (("part", paid), ("whole", spent)):
        bought = Incoming(purchase("200.00", name), by_id(member), redemption_id=redemption.id)
        (recorded,) = await record_now(program.id, [bought])
        assert recorded.event, recorded.errors
    for name, amount in (("part", Decimal(50)), ("whole", None)):
        await refund_purchase(program.id, EventRef(external_id=name), f"{name} back", amount=amount)
    assert (await draw(program.id, raffle.id, "draw", VAULT)).winner.id == entry.id
    async with connection() as sql:
        states = await sql.fetch(
            "SELECT id, status, restored FROM redemption WHERE member_id = $1", member.id
        )
        part = await sql.fetchval("SELECT id FROM event WHERE redemption_id = $1", paid.id)
    assert {row["id"]: (row["status"], row["restored"]) for row in states} == {
        shown.id: ("CONFIRMED", 0),
        void.id: ("CANCELLED", 100),
        used.id: ("USED", 0),
        held.id: ("RESERVED", 0),
        ran_out.id: ("EXPIRED", 0),
        dropped.id: ("CANCELLED", 0),
        captured.id: ("CONFIRMED", 0),
        sent.id: ("FULFILLED", 0),
        paid.id: ("CONFIRMED", 125),
        spent.id: ("CANCELLED", 100),
        entry.id: ("CONFIRMED", 0),
    }
    ids = {
        "pool": pool.id, "card": card.id, "mug": mug.id, "discount": discount.id, "raffle": raffle.id,
        "shown": shown.id, "void": void.id, "used": used.id, "held": held.id, "ran_out": ran_out.id,
        "dropped": dropped.id, "captured": captured.id, "sent": sent.id, "paid": paid.id, "spent": spent.id,
        "entry": entry.id, "part": part, "account": member.id, "program": program.id,
    }  # fmt: skip
    return Books(program, member.id, ids)


async def corrupt(books: Books, statement: str) -> None:
    """Change one row behind everybody's back; :shown, :pool and so on stand for ids."""
    for name in sorted(books.ids, key=len, reverse=True):
        statement = statement.replace(f":{name}", f"'{books.ids[name]}'")
    async with transaction() as sql:
        done = await sql.execute(statement)
    assert done.split()[-1] == "1", f"not one row was corrupted: {statement}"


_A_CODE = "(SELECT id FROM reward_code WHERE redemption_id = {} LIMIT 1)"
_ENTRY = "account_id = :account AND source_id = {} AND kind = '{}'"

(ENTRIES, BELONGING, TENANT, WORTH, STOCK, TAKEN, POOL, PIECES, CODES, KEYS, WINNER, PAYMENT, GIVEN_BACK) = (
    BURNING_CHECKS  # in their order
)

# A check, and a corruption of one row that it has to find; others may find it too.
CORRUPTIONS = (
    (ENTRIES, "UPDATE redemption SET points = points + 1 WHERE id = :shown"),
    (ENTRIES, "UPDATE redemption SET points = points + 1 WHERE id = :held"),
    (ENTRIES, "UPDATE redemption SET points = 251 WHERE id = :captured"),
    (ENTRIES, "UPDATE redemption SET restored = 1 WHERE id = :sent"),
    (ENTRIES, "UPDATE redemption SET restored = 99 WHERE id = :void"),
    (ENTRIES, "UPDATE redemption SET restored = 1 WHERE id = :dropped"),
    (ENTRIES, "UPDATE redemption SET reserve_entry = reserve_entry + 1 WHERE id = :held"),
    (ENTRIES, "UPDATE redemption SET redeem_entry = redeem_entry + 1 WHERE id = :shown"),
    (ENTRIES, "UPDATE redemption SET status = 'CANCELLED', ended_at = now() WHERE id = :held"),
    (ENTRIES, "UPDATE redemption SET status = 'CANCELLED', ended_at = now() WHERE id = :sent"),
    (ENTRIES, "UPDATE redemption SET status = 'RESERVED', ended_at = NULL WHERE id = :ran_out"),
    (ENTRIES, "UPDATE redemption SET reserve_entry = NULL, reserved_until = NULL WHERE id = :captured"),
    (ENTRIES, "UPDATE redemption SET confirmed_at = confirmed_at - interval '1 second' WHERE id = :captured"),
    (ENTRIES, "UPDATE redemption SET created_at = created_at - interval '1 second' WHERE id = :shown"),
    (ENTRIES, "UPDATE redemption SET fulfilled_at = NULL WHERE id = :sent"),
    (ENTRIES, f"DELETE FROM ledger_entry WHERE {_ENTRY.format(':used', 'REDEEM')}"),
    (ENTRIES, f"UPDATE ledger_entry SET source = 'luck' WHERE {_ENTRY.format(':ran_out', 'RESTORE')}"),
    (ENTRIES, f"UPDATE ledger_entry SET source_id = :held WHERE {_ENTRY.format(':shown', 'REDEEM')}"),
    (BELONGING, "DELETE FROM redemption WHERE id = :held"),
    (BELONGING, f"UPDATE ledger_entry SET source_id = :held WHERE {_ENTRY.format(':shown', 'REDEEM')}"),
    (BELONGING, f"UPDATE ledger_entry SET source_id = :held WHERE {_ENTRY.format(':ran_out', 'RESTORE')}"),
    (
        BELONGING,
        "UPDATE ledger_entry SET source = 'redemption', source_id = :held"
        " WHERE account_id = :account AND kind = 'ADJUST'",
    ),
    (TENANT, "UPDATE redemption SET program_id = gen_random_uuid() WHERE id = :shown"),
    (TENANT, "UPDATE redemption SET reward_id = gen_random_uuid() WHERE id = :shown"),
    (TENANT, "UPDATE redemption SET member_id = gen_random_uuid() WHERE id = :shown"),
    (WORTH, "UPDATE redemption SET amount = amount + 1 WHERE id = :used"),
    (WORTH, "UPDATE redemption SET face_value = NULL WHERE id = :used"),
    (WORTH, "UPDATE redemption SET rate = 100 WHERE id = :shown"),
    (WORTH, "UPDATE redemption SET amount = amount + 0.01 WHERE id = :paid"),
    (WORTH, "UPDATE redemption SET amount = amount - 0.01 WHERE id = :spent"),
    (WORTH, "UPDATE redemption SET order_amount = 142 WHERE id = :paid"),
    (WORTH, "UPDATE redemption SET rate = NULL WHERE id = :paid"),
    (WORTH, "UPDATE redemption SET quantity = 2 WHERE id = :paid"),
    (STOCK, "UPDATE reward SET version = 2 WHERE id = :pool"),
    (STOCK, "DELETE FROM reward_stock WHERE reward_id = :mug"),
    (TAKEN, "UPDATE reward_stock SET taken = taken + 1 WHERE reward_id = :mug"),
    (TAKEN, "UPDATE redemption SET quantity = quantity + 1 WHERE id = :sent"),
    (TAKEN, "UPDATE redemption SET status = 'EXPIRED', ended_at = now() WHERE id = :held"),
    (TAKEN, "UPDATE redemption SET status = 'CONFIRMED', ended_at = NULL WHERE id = :void"),
    (POOL, "UPDATE reward_stock SET codes = codes + 1 WHERE reward_id = :pool"),
    (POOL, "UPDATE reward_stock SET codes = NULL WHERE reward_id = :pool"),
    (POOL, "UPDATE reward_stock SET codes = 0 WHERE reward_id = :card"),
    (
        POOL,
        "UPDATE reward_code SET made = true WHERE id = (SELECT id FROM reward_code"
        " WHERE reward_id = :pool AND redemption_id IS NULL LIMIT 1)",
    ),
    (POOL, f"UPDATE reward_code SET redemption_id = NULL WHERE id = {_A_CODE.format(':held')}"),
    (PIECES, f"DELETE FROM reward_code WHERE id = {_A_CODE.format(':shown')}"),
    (PIECES, f"UPDATE reward_code SET redemption_id = :held WHERE id = {_A_CODE.format(':shown')}"),
    (
        PIECES,
        "UPDATE reward_code SET redemption_id = :dropped WHERE id = (SELECT id FROM reward_code"
        " WHERE reward_id = :pool AND redemption_id IS NULL LIMIT 1)",
    ),
    (PIECES, f"UPDATE reward_code SET used_at = now() WHERE id = {_A_CODE.format(':held')}"),
    (PIECES, f"UPDATE reward_code SET used_at = now() WHERE id = {_A_CODE.format(':void')}"),
    (PIECES, f"UPDATE reward_code SET used_at = NULL WHERE id = {_A_CODE.format(':used')}"),
    (PIECES, "UPDATE redemption SET status = 'CONFIRMED' WHERE id = :used"),
    (PIECES, "UPDATE redemption SET status = 'USED' WHERE id = :shown"),
    (PIECES, "UPDATE redemption SET status = 'USED' WHERE id = :captured"),
    (PIECES, "UPDATE redemption SET used_at = now() WHERE id = :shown"),
    (
        CODES,
        f"UPDATE reward_code SET redemption_id = gen_random_uuid() WHERE id = {_A_CODE.format(':shown')}",
    ),
    (CODES, f"UPDATE reward_code SET redemption_id = :used WHERE id = {_A_CODE.format(':shown')}"),
    (CODES, f"UPDATE reward_code SET program_id = gen_random_uuid() WHERE id = {_A_CODE.format(':shown')}"),
    (
        CODES,
        "UPDATE reward_code SET reward_id = :mug WHERE id = (SELECT id FROM reward_code"
        " WHERE reward_id = :pool AND redemption_id IS NULL LIMIT 1)",
    ),
    (KEYS, "UPDATE idempotency_key SET subject_id = gen_random_uuid() WHERE subject_id = :shown"),
    (KEYS, "UPDATE idempotency_key SET subject_id = :shown WHERE subject_id = :held"),
    (
        KEYS,
        "UPDATE idempotency_key SET subject_id = :held WHERE program_id = :program AND operation = 'capture'",
    ),
    (KEYS, "UPDATE idempotency_key SET subject_id = :held WHERE program_id = :program AND key = 'cancel 1'"),
    (KEYS, "UPDATE idempotency_key SET operation = 'redeem:0123' WHERE subject_id = :shown"),
    (WINNER, "UPDATE reward_stock SET winner_id = :sent WHERE reward_id = :raffle"),
    (WINNER, "UPDATE reward_stock SET winner_id = gen_random_uuid() WHERE reward_id = :raffle"),
    (WINNER, "UPDATE reward_stock SET drawn_at = now(), winner_id = :sent WHERE reward_id = :mug"),
    (WINNER, "UPDATE redemption SET status = 'CANCELLED', ended_at = now() WHERE id = :entry"),
    (PAYMENT, "UPDATE event SET points_amount = points_amount - 0.01 WHERE id = :part"),
    (PAYMENT, "UPDATE event SET redemption_id = :held WHERE id = :part"),
    (PAYMENT, "UPDATE event SET redemption_id = gen_random_uuid() WHERE id = :part"),
    (GIVEN_BACK, "UPDATE refund SET restored_points = restored_points + 1 WHERE event_id = :part"),
    (GIVEN_BACK, "UPDATE refund SET restored_points = restored_points - 1 WHERE event_id = :part"),
    (GIVEN_BACK, "UPDATE redemption SET restored = 1 WHERE id = :sent"),
    (
        GIVEN_BACK,
        "UPDATE refund SET restored_points = 101 WHERE event_id IN"
        " (SELECT id FROM event WHERE redemption_id = :spent)",
    ),
)


def test_every_check_has_a_corruption_that_it_finds() -> None:
    assert {check for check, _ in CORRUPTIONS} == BURNING_CHECKS.keys(), "add a corruption for every check"


async def test_sound_books_give_nothing(books: Books) -> None:
    assert not await find_differences(books.program.id)


@pytest.mark.parametrize(("check", "corruption"), CORRUPTIONS)
async def test_one_corrupted_row_is_found(books: Books, check: str, corruption: str) -> None:
    await corrupt(books, corruption)
    findings = [each for each in await find_differences(books.program.id) if each.check == check]
    assert findings
    assert all(each.kept and each.computed and each.kept != each.computed for each in findings)
    assert {each.account_id for each in findings} <= {books.member, *await _everybodys(books)}


async def _everybodys(books: Books) -> set[UUID]:
    """Return the ids of what is nobody's alone, or has lost whom it belonged to."""
    async with connection() as sql:
        lost = await sql.fetch(
            "SELECT member_id FROM redemption WHERE id = $1 UNION SELECT subject_id FROM idempotency_key"
            " WHERE program_id = $2",
            books.ids["shown"],
            books.program.id,
        )
    return {books.ids[name] for name in ("pool", "card", "mug", "discount", "raffle")} | {
        row[0] for row in lost
    }


@pytest.mark.parametrize("check", BURNING_CHECKS)
async def test_another_program_is_not_looked_at(books: Books, check: str) -> None:
    other = await new_program()
    corruption = next(each for name, each in CORRUPTIONS if name == check)
    await corrupt(books, corruption)
    assert not await find_differences(other.id)
    assert {each.check for each in await find_differences(books.program.id)} >= {check}
    async with connection() as sql:
        accounts = "WITH a AS (SELECT * FROM account WHERE $1::uuid IS NULL OR program_id = $1)"
        assert await sql.fetch(f"{accounts} {BURNING_CHECKS[check]}", None)


# What cannot be computed a second time, or does not matter.
UNPROVEN = {
    "redemption.reserved_until",  # as long as the caller wanted
    "redemption.fulfilled_at",  # whenever that was
    "redemption.ended_at",
    "redemption.updated_at",
    "redemption.order_amount",  # the caller's
    "redemption.quantity",  # of what is over, and neither had codes nor a face value
    "reward_code.id",  # the vault alone knows whether the code opens with it
    "reward_code.made",  # of a code that somebody has: its reward may have had a pool since
    "reward_code.created_at",
    "reward_stock.capacity",  # what somebody set
    "reward_stock.low_stock",
    "reward_stock.low_codes",
    "reward_stock.drawn_at",
}
OWN = {
    "redemption": "program_id = $1",
    "reward_code": "program_id = $1",
    "reward_stock": "reward_id IN (SELECT id FROM reward WHERE program_id = $1)",
}
NUMBERS = """
SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = ANY($1::text[])
  AND data_type IN ('bigint', 'integer', 'numeric', 'boolean', 'uuid', 'timestamp with time zone')
ORDER BY 1, 2
"""
_CHANGES = {
    "boolean": "NOT {}",
    "uuid": "gen_random_uuid()",
    "timestamp with time zone": "{} + interval '1 s'",
}


@pytest.mark.deep
async def test_every_number_that_burning_keeps_is_proven_or_guarded(books: Books) -> None:
    """Change every number, id and time of every row: the database refuses it, or a check finds it."""
    unseen: dict[str, list[str]] = {}
    async with connection() as sql:
        for table, column, kind in await sql.fetch(NUMBERS, list(OWN)):
            rows = await sql.fetch(f"SELECT ctid::text FROM {table} WHERE {OWN[table]}", books.program.id)
            change = _CHANGES.get(kind, "{} + 1").format(column)
            for row in rows:
                changed = sql.transaction()
                await changed.start()
                try:
                    there = f"ctid = '{row[0]}' AND {column} IS NOT NULL"
                    done = await sql.execute(f"UPDATE {table} SET {column} = {change} WHERE {there}")
                    if done != "UPDATE 0" and not await _found(sql, books.program.id):
                        unseen.setdefault(f"{table}.{column}", []).append(row[0])
                except asyncpg.IntegrityConstraintViolationError:
                    pass
                finally:
                    await changed.rollback()
    assert unseen.keys() <= UNPROVEN, unseen


async def _found(sql: asyncpg.Connection, program_id: UUID) -> bool:
    accounts = "WITH a AS (SELECT * FROM account WHERE program_id = $1)"
    for check in reversed(EVERY_CHECK.values()):
        if await sql.fetch(f"{accounts} {check} LIMIT 1", program_id):
            return True
    return False


async def test_what_belongs_to_no_program_is_found_among_all(books: Books) -> None:
    nobody = new_id()
    async with connection() as sql:
        changed = sql.transaction()
        await changed.start()
        try:
            await sql.execute(
                "INSERT INTO reward_code (id, program_id, reward_id, digest, sealed, created_at)"
                " VALUES ($1, $1, $1, decode(repeat('00', 32), 'hex'), '', now())",
                nobody,
            )
            check = BURNING_CHECKS[CODES]
            accounts = "WITH a AS (SELECT * FROM account WHERE $1::uuid IS NULL OR program_id = $1)"
            everywhere = await sql.fetch(f"{accounts} {check}", None)
            here = await sql.fetch(f"{accounts} {check}", books.program.id)
        finally:
            await changed.rollback()
    assert nobody in {row[0] for row in everywhere}
    assert not here
