"""Giveaways: one winner, whom anybody can work out again from what is public."""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from app.catalog.reads import get_rewards
from app.catalog.rewards import Reward, RewardKind, RewardStatus
from app.catalog.service import set_reward_status, update_reward
from app.catalog.vault import SealBroken, Vault
from app.database import connection
from app.errors import ErrorCode, Refused
from app.ids import new_id
from app.members.reads import MemberRow
from app.paging import Page
from app.programs.models import Program
from app.redemptions import giveaways
from app.redemptions.giveaways import Drawn, Entry, draw, entry_of, list_entries
from app.redemptions.redemptions import Redemption, RedemptionStatus
from app.redemptions.steps import Stepped, cancel, capture, fulfil
from app.redemptions.taking import Taken
from tests.helpers import find_differences, new_program, set_now
from tests.redemptions.making import VAULT, ask, codes_of, new_reward, redeemed, rich_member


def winner_of(seed: str, entries: Sequence[tuple[str, int]]) -> str:
    """Repeat a draw as the API describes it; entries are (key, tickets)."""
    tickets = [(key, n) for key, tickets in entries for n in range(1, tickets + 1)]
    numbers = {
        ticket: hashlib.sha256(f"{seed}:{ticket[0]}:{ticket[1]}".encode()).hexdigest() for ticket in tickets
    }
    return min(tickets, key=numbers.__getitem__)[0]


async def fresh(reward: Reward) -> Reward:
    """Return a reward as it is now."""
    (found,) = await get_rewards(reward.program_id, [reward.id])
    assert found
    return found


def seed_of(reward: Reward) -> bytes:
    """Return the seed of a giveaway, as only the vault can."""
    assert reward.draw_seed
    return VAULT.open(reward.draw_seed, reward.id)


async def all_entries(reward: Reward, size: int = 7) -> list[Entry]:
    """Walk through the list of entries, page by page."""
    entries: list[Entry] = []
    while True:
        page = Page(size, after=(entries[-1].id,) if entries else None)
        (result,) = await list_entries(reward.program_id, [reward.id], page)
        entries += result.items
        if not result.has_next:
            return entries


async def draw_now(reward: Reward, key: str | None = None) -> Drawn:
    return await draw(reward.program_id, reward.id, key or new_id().hex, VAULT)


async def refused(reward: Reward, key: str | None = None) -> tuple[str, str, tuple[str, ...] | None]:
    """Draw what cannot be drawn, and return the code, the message and the field."""
    with pytest.raises(Refused) as caught:
        await draw_now(reward, key)
    (error,) = caught.value.errors
    return error.code, error.message, error.field


async def filled(program: Program, entries: int = 8) -> Reward:
    """Set up a giveaway in which some take part, with one ticket, with two, with three."""
    reward = await new_reward(program, "GIVEAWAY", points=10)
    for n in range(entries):
        await redeemed(program, await rich_member(program), reward, quantity=n % 3 + 1)
    return reward


async def test_draw_can_be_repeated_from_what_is_public() -> None:
    program = await new_program()
    for _ in range(5):
        reward = await filled(program)
        drawn = await draw_now(reward)
        entries = await all_entries(reward, size=3)
        seed = seed_of(reward)
        assert hashlib.sha256(seed).digest() == reward.draw_seed_hash
        assert winner_of(seed.hex(), [(entry.key, entry.tickets) for entry in entries]) == drawn.winner.id.hex
        assert [entry.tickets for entry in entries] == [1, 2, 3, 1, 2, 3, 1, 2]
    assert not await find_differences(program.id)


async def test_draw_marks_the_reward_and_its_stock_with_the_same_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = await new_program()
    reward = await filled(program)
    moment = set_now(monkeypatch, 2999, 3, 1, 12)
    drawn = await draw_now(reward)
    after = await fresh(reward)
    assert (after.drawn_at, after.winner_id, after.updated_at) == (moment, drawn.winner.id, moment)
    async with connection() as sql:
        versions = await sql.fetchrow(
            "SELECT r.version, c.version AS stock FROM reward r JOIN reward_stock c ON c.reward_id = r.id"
            " WHERE r.program_id = $1 AND r.id = $2",
            program.id,
            reward.id,
        )
    assert tuple(versions) == (reward.version + 1, reward.version + 1)
    changed = await update_reward(program.id, reward.id, {"name": "Over"})
    assert (changed.name, changed.winner_id, changed.version) == ("Over", drawn.winner.id, reward.version + 2)


async def test_only_what_is_confirmed_takes_part() -> None:
    program = await new_program()
    reward = await new_reward(program, "GIVEAWAY", points=10)
    member = await rich_member(program)
    reserved = await redeemed(program, member, reward, hold_seconds=900)
    cancelled = await redeemed(program, member, reward)
    await cancel(program.id, cancelled.id, "A mistake", new_id().hex)
    released = await redeemed(program, member, reward, hold_seconds=900)
    await cancel(program.id, released.id, "Another one", new_id().hex)
    assert await all_entries(reward) == []
    assert (await refused(reward))[0] == ErrorCode.WRONG_STATE
    captured = await redeemed(program, member, reward, hold_seconds=900, quantity=2)
    captured = (await capture(program.id, captured.id, new_id().hex)).redemption
    entered = await redeemed(program, member, reward)
    entered = (await fulfil(program.id, entered.id)).redemption
    assert await all_entries(reward) == [
        Entry(captured.id, 2, captured.confirmed_at),
        Entry(entered.id, 1, entered.confirmed_at),
    ]
    assert [entry_of(each) for each in (captured, entered)] == await all_entries(reward)
    assert [entry_of(each) for each in (reserved, released)] == [None, None]
    drawn = await draw_now(reward)
    assert drawn.winner.id in (captured.id, entered.id)
    with pytest.raises(Refused, match="RESERVED stays so"):
        await capture(program.id, reserved.id, new_id().hex)
    with pytest.raises(Refused, match="winner has been drawn"):
        await cancel(program.id, captured.id, "Too late", new_id().hex)
    late = await ask(program, member, reward)
    assert codes_of(late) == [ErrorCode.NOT_ELIGIBLE]
    assert len(await all_entries(reward)) == 2
    assert not await find_differences(program.id)


async def test_same_key_is_answered_with_the_same_winner_and_another_key_is_told_when_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = await new_program()
    reward, other = await filled(program), await filled(program)
    set_now(monkeypatch, 2999, 3, 1, 12)
    drawn = await draw_now(reward, "spring")
    set_now(monkeypatch, 2999, 3, 2, 12)
    again = await draw_now(reward, "spring")
    assert (drawn.replayed, again) == (False, Drawn(drawn.winner, replayed=True))
    assert await refused(reward, "summer") == (
        ErrorCode.WRONG_STATE,
        "The giveaway was drawn on 2999-03-01 12:00 UTC.",
        ("reward_id",),
    )
    code, _, field = await refused(other, "spring")
    assert (code, field) == (ErrorCode.IDEMPOTENCY_CONFLICT, ("idempotency_key",))
    assert not (await draw_now(other, "summer")).replayed, "a draw that was refused keeps no key"


async def test_what_cannot_be_drawn_is_refused() -> None:
    program, stranger = await new_program(), await new_program()
    reward = await filled(program, 1)
    with pytest.raises(Refused) as caught:
        await draw(stranger.id, reward.id, "key", VAULT)
    assert [(each.code, each.field) for each in caught.value.errors] == [("NOT_FOUND", ("reward_id",))]
    for kind in RewardKind:
        if kind is not RewardKind.GIVEAWAY:
            code, message, field = await refused(await new_reward(program, kind))
            assert (code, field) == (ErrorCode.INVALID, ("reward_id",))
            assert kind in message
    draft = await new_reward(program, "GIVEAWAY", status=RewardStatus.DRAFT)
    assert await refused(draft) == (
        ErrorCode.WRONG_STATE,
        "The giveaway is a DRAFT: nobody could enter yet.",
        ("reward_id",),
    )
    empty = await new_reward(program, "GIVEAWAY")
    assert (await refused(empty))[:2] == (
        ErrorCode.WRONG_STATE,
        "The giveaway has no entries to draw from.",
    )
    for key in ("", "x" * 256, "a\nb"):
        with pytest.raises(Refused) as caught:
            await draw(program.id, reward.id, key, VAULT)
        assert [(each.code, each.field) for each in caught.value.errors] == [
            ("INVALID", ("idempotency_key",))
        ]
    with pytest.raises(SealBroken):
        await draw(program.id, reward.id, "key", Vault("another secret"))
    assert (await fresh(reward)).drawn_at is None
    for status in (RewardStatus.PAUSED, RewardStatus.ARCHIVED):
        over = await filled(program, 2)
        await set_reward_status(program.id, over.id, status)
        assert (await draw_now(over)).winner.reward_id == over.id


async def test_two_draws_at_once_have_one_winner() -> None:
    program = await new_program()
    for n in range(10):
        reward = await filled(program, 4)
        same = n % 2 == 0
        keys = ["key"] * 4 if same else [f"key {each}" for each in range(4)]
        keys = [f"{key} {n}" for key in keys]
        results = await asyncio.gather(*(draw_now(reward, key) for key in keys), return_exceptions=True)
        drawn = [each for each in results if isinstance(each, Drawn)]
        assert len({each.winner.id for each in drawn}) == 1
        assert sum(not each.replayed for each in drawn) == 1
        assert len(drawn) == (4 if same else 1)
        for each in results:
            if isinstance(each, Refused):
                assert each.errors[0].code is ErrorCode.WRONG_STATE
            else:
                assert isinstance(each, Drawn)


async def test_who_enters_captures_or_cancels_during_the_draw_is_wholly_in_it_or_wholly_out() -> None:
    program = await new_program()
    members = [await rich_member(program) for _ in range(12)]
    for n in range(8):
        reward = await filled(program, 2)
        held = [await redeemed(program, each, reward, hold_seconds=900) for each in members[:4]]
        sure = [await redeemed(program, each, reward) for each in members[4:8]]
        drawn, captures, cancels, asks = await _race(program, reward, held, sure, members[8:], n)
        entries = {each.id: each.tickets for each in await all_entries(reward)}
        keys = [(each.hex, tickets) for each, tickets in entries.items()]
        assert winner_of(seed_of(reward).hex(), keys) == drawn.winner.id.hex
        for redemption, result in zip(held, captures, strict=True):
            assert (redemption.id in entries) == isinstance(result, Stepped), result
        for redemption, result in zip(sure, cancels, strict=True):
            assert (redemption.id in entries) == isinstance(result, Refused), result
        accepted = [each.redemption.id for each in asks if each.redemption]
        assert len(entries) == 2 + sum(each.id in entries for each in [*held, *sure]) + len(accepted)
        assert {each for each, tickets in entries.items() if tickets == 5} == set(accepted)
    assert not await find_differences(program.id)


async def _race(
    program: Program,
    reward: Reward,
    held: Sequence[Redemption],
    sure: Sequence[Redemption],
    late: Sequence[MemberRow],
    seed: int,
) -> tuple[Drawn, list[Any], list[Any], list[Taken]]:
    """Draw while some capture, some cancel, and some enter with five tickets, all within 30 ms."""
    chance = random.Random(seed)

    async def after(seconds: float, work: Awaitable[Any]) -> Any:
        await asyncio.sleep(seconds)
        return await work

    work: list[Awaitable[Any]] = [
        *(capture(program.id, each.id, new_id().hex) for each in held),
        *(cancel(program.id, each.id, "No", new_id().hex) for each in sure),
        *(ask(program, each, reward, quantity=5) for each in late),
    ]
    racing = [after(chance.random() * 0.03, each) for each in work]
    drawn, *results = await asyncio.gather(after(0.015, draw_now(reward)), *racing, return_exceptions=True)
    assert isinstance(drawn, Drawn), drawn
    captures, cancels = results[: len(held)], results[len(held) : len(held) + len(sure)]
    return drawn, captures, cancels, results[len(held) + len(sure) :]


async def test_what_was_only_reserved_at_the_draw_is_given_back_and_never_captured() -> None:
    program = await new_program()
    reward, member = await filled(program, 2), await rich_member(program)
    held = await redeemed(program, member, reward, hold_seconds=900)
    await draw_now(reward)
    with pytest.raises(Refused) as refused:
        await capture(program.id, held.id, "late")
    assert [error.code for error in refused.value.errors] == [ErrorCode.WRONG_STATE]
    cancelled = await cancel(program.id, held.id, "Too late", "key", caller=member.id)
    assert cancelled.redemption.status is RedemptionStatus.CANCELLED
    assert not await find_differences(program.id)


async def test_seed_can_be_read_nowhere_before_the_draw() -> None:
    program = await new_program()
    with capture_logs() as logs:
        reward = await filled(program, 3)
        await set_reward_status(program.id, reward.id, RewardStatus.PAUSED)
    seed = seed_of(reward)
    assert seed.hex() not in repr(logs)
    assert seed.hex() not in repr(reward)
    assert repr(seed) not in repr(reward)
    async with connection() as sql:
        tables = [
            row[0] for row in await sql.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        assert {"reward", "reward_stock", "redemption", "message", "idempotency_key"} <= set(tables)
        for table in tables:
            # As text, bytes are hexadecimal, too.
            found = await sql.fetchval(
                f'SELECT count(*) FROM "{table}" t WHERE strpos(t::text, $1) > 0', seed.hex()
            )
            assert found == 0, table
        assert await sql.fetchval("SELECT count(*) FROM reward t WHERE strpos(t::text, $1) > 0", "\\x01") > 0
    with capture_logs() as logs:
        await draw_now(reward)
    assert seed.hex() not in repr(logs)


async def test_lists_of_several_giveaways_come_at_once_and_other_rewards_have_none() -> None:
    program, stranger = await new_program(), await new_program()
    first, second = await filled(program, 3), await filled(program, 5)
    product = await new_reward(program)
    await redeemed(program, await rich_member(program), product)
    theirs = await filled(stranger, 2)
    wanted = [second.id, product.id, first.id, theirs.id]
    pages = await list_entries(program.id, wanted, Page(4))
    assert [(len(page.items), page.has_next) for page in pages] == [
        (4, True),
        (0, False),
        (3, False),
        (0, False),
    ]
    everybody = await all_entries(second)
    (last,) = await list_entries(program.id, [second.id], Page(2, backward=True))
    assert list(last.items) == everybody[-2:]
    assert (last.has_previous, last.has_next) == (True, False)
    assert [entry.id for entry in everybody] == sorted(entry.id for entry in everybody)


FIXED_KEYS = [hashlib.md5(b"entry %d" % n).hexdigest() for n in range(12)]
FIXED_TICKETS = [1, 2, 3, 4] * 3


async def insert_entries(program: Program, reward: Reward) -> None:
    """Put entries with fixed keys into a giveaway, so that what is drawn is the same each time."""
    async with connection() as sql:
        await sql.execute(
            """
            INSERT INTO redemption (id, program_id, member_id, reward_id, reward_name, status, quantity,
                points, redeem_entry, confirmed_at, source, created_at, updated_at)
            SELECT t.id, $1, gen_random_uuid(), $2, 'Draw', 'CONFIRMED', t.quantity, 1, 1, now(), 'test',
                now(), now()
            FROM unnest($3::uuid[], $4::integer[]) AS t(id, quantity)
            """,
            program.id,
            reward.id,
            [UUID(hex=key) for key in FIXED_KEYS],
            FIXED_TICKETS,
        )


async def test_every_ticket_wins_equally_often_and_the_database_draws_as_anybody_does() -> None:
    """Seeds and keys are fixed: what comes out is the same each time."""
    program = await new_program()
    reward = await new_reward(program, "GIVEAWAY")
    await insert_entries(program, reward)
    draws = 3000
    wins: Counter[str] = Counter()
    entries = list(zip(FIXED_KEYS, FIXED_TICKETS, strict=True))
    states = [RedemptionStatus.CONFIRMED]
    async with connection() as sql:
        for n in range(draws):
            seed = hashlib.sha256(b"seed %d" % n).hexdigest()
            won = await sql.fetchval(giveaways._WINNER, program.id, reward.id, states, seed)
            assert won.hex == winner_of(seed, entries)
            wins[won.hex] += 1
        await sql.execute("DELETE FROM redemption WHERE program_id = $1", program.id)
    expected = {key: draws * tickets / sum(FIXED_TICKETS) for key, tickets in entries}
    chi_square = sum((wins[key] - each) ** 2 / each for key, each in expected.items())
    # 11 degrees of freedom: less than this in 95 of 100 fair lotteries, and in this one.
    assert chi_square < 19.7
