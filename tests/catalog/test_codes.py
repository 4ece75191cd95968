"""Pools of codes: what is loaded, what is left alone, and what nobody can read in the database."""

import asyncio
import re
from collections import Counter
from time import perf_counter
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from app.catalog.codes import MAX_CODES, Uploaded, check_codes, make_code, open_codes, upload_codes
from app.catalog.vault import SealBroken, Vault
from app.database import connection
from app.errors import ErrorCode, Refused
from app.ids import new_id
from app.programs.models import Program
from app.settings import Settings
from app.validation import Problems
from tests.catalog.making import new_reward
from tests.helpers import new_program

VAULT = Vault("the key of this installation")


@pytest.fixture
async def program() -> Program:
    return await new_program()


async def _pool(reward_id: UUID) -> list[str]:
    """Return the codes of a reward in the order in which they are given out."""
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT id, sealed FROM reward_code WHERE reward_id = $1 ORDER BY id", reward_id
        )
    return [VAULT.open(row["sealed"], row["id"]).decode() for row in rows]


async def _stock(reward_id: UUID) -> tuple[int | None, int]:
    async with connection() as sql:
        row = await sql.fetchrow("SELECT codes, low_codes FROM reward_stock WHERE reward_id = $1", reward_id)
    return row["codes"], row["low_codes"]


async def _give(code: str, program: Program, redemption_id: UUID) -> None:
    async with connection() as sql:
        await sql.execute(
            "UPDATE reward_code SET redemption_id = $3 WHERE program_id = $1 AND digest = $2",
            program.id,
            VAULT.digest(program.id, code),
            redemption_id,
        )


async def _refused(program: Program, reward_id: UUID, codes: Any = ("A",)) -> tuple[ErrorCode, Any]:
    with pytest.raises(Refused) as caught:
        await upload_codes(program.id, reward_id, codes, VAULT)
    (error,) = caught.value.errors
    return error.code, error.field


def test_a_made_code_is_four_groups_of_four_that_nobody_misreads() -> None:
    codes = [make_code() for _ in range(2000)]
    assert all(re.fullmatch(r"[2-9A-HJ-NP-Z]{4}(-[2-9A-HJ-NP-Z]{4}){3}", code) for code in codes)
    assert len(set(codes)) == 2000
    assert len(Counter("".join(codes))) == 33


async def test_codes_are_added_in_their_order_and_counted(program: Program) -> None:
    reward = await new_reward(program)
    codes = [f"CODE-{n}" for n in (3, 1, 2, *range(4, 26))]
    assert await upload_codes(program.id, reward, codes, VAULT) == Uploaded(25, 0)
    assert await upload_codes(program.id, reward, ["Z", "B"], VAULT) == Uploaded(2, 0)
    assert await _pool(reward) == [*codes, "Z", "B"]
    assert await _stock(reward) == (27, 2)


async def test_codes_that_are_there_already_are_left_alone(program: Program) -> None:
    reward, other = await new_reward(program), await new_reward(program, "GIFT_CARD")
    await upload_codes(program.id, reward, ["A", "B"], VAULT)
    assert await upload_codes(program.id, reward, ["B", "A"], VAULT) == Uploaded(0, 2)
    assert await upload_codes(program.id, other, ["A", "C"], VAULT) == Uploaded(1, 1)
    assert (await _pool(reward), await _pool(other)) == (["A", "B"], ["C"])
    assert (await _stock(reward), await _stock(other)) == ((2, 1), (1, 1))


async def test_a_code_that_somebody_has_is_not_free_again_when_it_is_loaded_again(program: Program) -> None:
    reward, redemption = await new_reward(program), new_id()
    await upload_codes(program.id, reward, ["A"], VAULT)
    await _give("A", program, redemption)
    assert await upload_codes(program.id, reward, ["A"], VAULT) == Uploaded(0, 1)
    async with connection() as sql:
        assert await open_codes(sql, VAULT, program.id, [redemption]) == {redemption: ["A"]}


async def test_an_upload_that_adds_nothing_leaves_the_mark_of_a_low_pool_where_it_was(
    program: Program,
) -> None:
    reward = await new_reward(program)
    await upload_codes(program.id, reward, [f"CODE-{n}" for n in range(100)], VAULT)
    async with connection() as sql:
        await sql.execute("UPDATE reward_stock SET codes = 10 WHERE reward_id = $1", reward)
    await upload_codes(program.id, reward, ["CODE-1"], VAULT)
    assert await _stock(reward) == (10, 10)


async def test_a_code_that_comes_twice_in_one_call_is_one_duplicate(program: Program) -> None:
    reward = await new_reward(program)
    assert await upload_codes(program.id, reward, ["A", " A\t", "a", "B", "B", "B"], VAULT) == Uploaded(3, 3)
    assert await _pool(reward) == ["A", "a", "B"]


async def test_another_program_may_have_the_same_code(program: Program) -> None:
    for each in (program, await new_program()):
        assert await upload_codes(each.id, await new_reward(each), ["A"], VAULT) == Uploaded(1, 0)


async def test_nothing_readable_is_in_the_database(program: Program) -> None:
    reward, code = await new_reward(program), "SUMMER-SECRET-2026"
    await upload_codes(program.id, reward, [code], VAULT)
    async with connection() as sql:
        (row,) = await sql.fetch("SELECT * FROM reward_code WHERE reward_id = $1", reward)
        dump = await sql.fetchval("SELECT r::text FROM reward_code r WHERE reward_id = $1", reward)
    for part in (code, "SUMMER", "SECRET"):
        assert part not in dump
        assert part.encode().hex() not in dump
        assert not any(part.encode() in value for value in row.values() if isinstance(value, bytes))


async def test_another_key_cannot_open_what_is_in_the_database(program: Program) -> None:
    reward, redemption = await new_reward(program), new_id()
    await upload_codes(program.id, reward, ["A"], VAULT)
    await _give("A", program, redemption)
    async with connection() as sql:
        with pytest.raises(SealBroken):
            await open_codes(sql, Vault("another key"), program.id, [redemption])


async def test_a_pool_is_not_filled_up_under_another_key(program: Program) -> None:
    reward = await new_reward(program)
    await upload_codes(program.id, reward, ["A"], VAULT)
    with pytest.raises(SealBroken):
        await upload_codes(program.id, reward, ["A", "B"], Vault("another key"))
    assert await _pool(reward) == ["A"]
    assert await _stock(reward) == (1, 1)


async def test_uploads_of_overlapping_codes_at_once_lose_nothing_and_double_nothing(program: Program) -> None:
    rewards = [await new_reward(program), await new_reward(program)]
    codes = [f"CODE-{n}" for n in range(3000)]
    parts = [codes[:2000], codes[1000:], codes[::-1], codes[500:2500]]
    done = await asyncio.gather(
        *(upload_codes(program.id, rewards[n % 2], part, VAULT) for n, part in enumerate(parts))
    )
    assert sum(each.added for each in done) == 3000
    assert [each.added + each.duplicates for each in done] == [len(part) for part in parts]
    pools = [await _pool(reward) for reward in rewards]
    assert sorted(pools[0] + pools[1]) == sorted(codes)
    assert [(await _stock(reward))[0] for reward in rewards] == [len(pool) for pool in pools]


async def _somebody_waits_for(pid: int) -> bool:
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND $1 = ANY(pg_blocking_pids(pid)))"
    async with connection() as sql:
        return await sql.fetchval(waiting, pid)


@pytest.mark.parametrize("ends", [False, True])
async def test_an_upload_waits_for_a_change_of_the_reward_and_never_in_a_circle(
    settings: Settings, program: Program, ends: bool
) -> None:
    reward = await new_reward(program)
    # Not one of the pool's: what a task starts within its transaction would be part of that.
    sql = await asyncpg.connect(settings.database_url)
    async with sql.transaction():
        await sql.execute("SELECT FROM reward_stock WHERE reward_id = $1 FOR NO KEY UPDATE", reward)
        upload = asyncio.create_task(upload_codes(program.id, reward, ["A"], VAULT))
        for _ in range(500):
            if await _somebody_waits_for(sql.get_server_pid()):
                break
            await asyncio.sleep(0.01)
        else:
            pytest.fail("The upload did not wait.")
        start = perf_counter()
        await sql.execute("UPDATE reward SET name = 'New', generate_codes = $2 WHERE id = $1", reward, ends)
        if ends:
            await sql.execute("UPDATE reward_stock SET codes = NULL WHERE reward_id = $1", reward)
        assert perf_counter() - start < 0.5
    await sql.close()
    if ends:
        with pytest.raises(Refused, match="made by Laurel"):
            await upload
        assert await _pool(reward) == []
    else:
        assert await upload == Uploaded(1, 0)
        assert await _stock(reward) == (1, 1)


async def test_ten_thousand_codes_are_loaded_in_less_than_a_second(program: Program) -> None:
    reward = await new_reward(program)
    codes = [make_code() for _ in range(MAX_CODES)]
    start = perf_counter()
    assert await upload_codes(program.id, reward, codes, VAULT) == Uploaded(MAX_CODES, 0)
    assert perf_counter() - start < 1
    assert await _stock(reward) == (10_000, 1000)
    assert await upload_codes(program.id, reward, codes, VAULT) == Uploaded(0, MAX_CODES)


async def test_redemptions_have_their_codes_in_order_and_only_in_their_program(program: Program) -> None:
    reward, first, second, none = await new_reward(program), new_id(), new_id(), new_id()
    await upload_codes(program.id, reward, ["C", "A", "B", "Ü"], VAULT)
    for code, redemption in (("B", first), ("C", first), ("Ü", second)):
        await _give(code, program, redemption)
    async with connection() as sql:
        opened = await open_codes(sql, VAULT, program.id, [second, first, none])
        assert opened == {second: ["Ü"], first: ["C", "B"], none: []}
        assert await open_codes(sql, VAULT, (await new_program()).id, [first]) == {first: []}
        assert await open_codes(sql, VAULT, program.id, []) == {}


async def test_a_reward_that_takes_no_codes_is_refused_and_the_reason_told(program: Program) -> None:
    strangers = await new_reward(await new_program())
    for reward_id, code in (
        (new_id(), ErrorCode.NOT_FOUND),
        (strangers, ErrorCode.NOT_FOUND),
        (await new_reward(program, "PRODUCT"), ErrorCode.INVALID),
        (await new_reward(program, generate_codes=True), ErrorCode.WRONG_STATE),
        (await new_reward(program, status="ARCHIVED"), ErrorCode.WRONG_STATE),
    ):
        assert await _refused(program, reward_id) == (code, ("reward_id",))
    assert await _pool(strangers) == []


@pytest.mark.parametrize("status", ["DRAFT", "ACTIVE", "PAUSED"])
async def test_a_pool_can_be_filled_before_a_reward_starts_and_while_it_rests(
    program: Program, status: str
) -> None:
    reward = await new_reward(program, "GIFT_CARD", status=status)
    assert await upload_codes(program.id, reward, ["A"], VAULT) == Uploaded(1, 0)


async def test_one_bad_code_keeps_a_whole_call_out_and_is_told_by_its_place(program: Program) -> None:
    reward = await new_reward(program)
    for bad in ("", "  ", "A\0B", "A\nB", "A\u200bB", "A\udc80", "x" * 256):
        assert await _refused(program, reward, ["GOOD", bad]) == (ErrorCode.INVALID, ("codes", "1"))
    assert await _refused(program, reward, []) == (ErrorCode.INVALID, ("codes",))
    assert await _refused(program, reward, ["A"] * (MAX_CODES + 1)) == (ErrorCode.INVALID, ("codes",))
    assert await _pool(reward) == []


def test_of_many_bad_codes_the_first_hundred_are_told_without_repeating_any() -> None:
    problems = Problems()
    check_codes(["good", *(f"SECRET\t{n}" for n in range(5000))], problems)
    assert [error.field for error in problems.errors] == [("codes", str(n)) for n in range(1, 101)]
    assert not any("SECRET" in error.message for error in problems.errors)


def test_codes_as_long_as_can_be_and_with_spaces_and_signs_inside_are_good() -> None:
    problems = Problems()
    good = ["x" * 255, "A B", "É-1/2_3", "12345"]
    assert check_codes([f"  {code} " for code in good], problems) == good
    assert problems.errors == ()
