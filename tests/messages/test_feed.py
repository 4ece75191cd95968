"""The feed of messages: numbers without a gap, readable in their order, whoever numbers and reads."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress

import pytest

from app import clock
from app.database import connection, transaction
from app.earning.events import Incoming
from app.earning.recording import record_now, record_within
from app.ids import to_global_id
from app.ledger.feed_checks import FEED_CHECKS
from app.members.reads import MemberRow
from app.messages import feed
from app.messages.feed import FeedMessage, get_messages, list_messages, number_program, number_waiting
from app.messages.leaving import Message, leave
from app.messages.topics import Topic
from app.paging import make_page
from app.programs.models import Program
from tests.helpers import by_id, find_differences, new_member, new_program, new_rule, purchase


async def write(program: Program, *messages: Message) -> None:
    async with transaction() as sql:
        await leave(sql, program.id, messages, clock.now())


def stock_low(n: int) -> Message:
    return Message(Topic.REWARD_STOCK_LOW, None, {"left": n})


async def test_the_feed_counts_from_one_and_is_read_from_any_position() -> None:
    program, other = await new_program(), await new_program()
    member = await new_member(program)
    assert (await list_messages(program.id, make_page())).items == []
    for n in range(1, 4):
        await write(program, stock_low(n), Message(Topic.POINTS_ADJUSTED, member.id, {"points": n}))
        await write(other, stock_low(n))
    page = await list_messages(program.id, make_page(4))
    assert [each.position for each in page.items] == [1, 2, 3, 4]
    assert page.has_next
    rest = await list_messages(program.id, make_page(10, after=(4,)))
    assert [(each.position, each.payload) for each in rest.items] == [(5, {"left": 3}), (6, {"points": 3})]
    await write(program, stock_low(4))
    assert await number_waiting() >= 1
    (last,) = (await list_messages(program.id, make_page(10, after=(6,)))).items
    assert (last.position, last.topic, last.payload) == (7, "reward.stock_low", {"left": 4})
    back = await list_messages(program.id, make_page(last=2, before=(7,)))
    assert [each.position for each in back.items] == [5, 6]
    assert await get_messages(program.id, [last.id]) == [last]
    assert await get_messages(other.id, [last.id]) == [None]

    async def positions(*topics: str, whose: bool = False) -> list[int]:
        found = await list_messages(program.id, make_page(), topics, member.id if whose else None)
        return [each.position for each in found.items]

    assert await positions("reward.*") == [1, 3, 5, 7]
    assert await positions("reward.*", "points.adjusted") == [1, 2, 3, 4, 5, 6, 7] == await positions("*")
    assert await positions(whose=True) == [2, 4, 6] == await positions("points.*", whose=True)
    assert await positions("tier.*", whose=True) == []


class _Undone(Exception):
    pass


async def test_a_change_that_is_undone_leaves_no_message() -> None:
    program = await new_program()
    await new_rule(program)
    member = await new_member(program)
    event = Incoming(purchase("7"), by_id(member))
    with suppress(_Undone):
        async with transaction() as sql:
            ((recorded,), _) = await record_within(sql, program.id, [event], clock.now())
            assert recorded.event
            raise _Undone
    assert (await list_messages(program.id, make_page())).items == []
    (recorded,) = await record_now(program.id, [event])
    await record_now(program.id, [event])
    assert recorded.event
    (message,) = (await list_messages(program.id, make_page())).items
    (award,) = message.payload.pop("awards")
    assert message.payload == {
        "eventId": to_global_id("Event", recorded.event.id),
        "externalId": recorded.event.external_id,
        "kind": "PURCHASE",
        "points": 7,
    }
    assert (award["points"], award["expiresAt"]) == (7, None)


_WRITERS = 6
_CHANGES = 30


async def _change(program: Program, members: Sequence[MemberRow], dice: random.Random) -> None:
    """Change balances one after the other; some of it is undone, some takes its time to be committed."""
    for n in range(_CHANGES):
        member = dice.choice(members)
        with suppress(_Undone):
            async with transaction() as sql:
                # The lock under which the changes of a member follow one another.
                after = await sql.fetchval(
                    "UPDATE account SET sequence = sequence + 1 WHERE id = $1 RETURNING sequence", member.id
                )
                message = Message(Topic.POINTS_ADJUSTED, member.id, {"sequence": after})
                await leave(sql, program.id, [message, stock_low(n)], clock.now())
                await asyncio.sleep(dice.choice((0, 0, 0.002, 0.02)))
                if dice.random() < 0.2:
                    raise _Undone


async def test_who_reads_on_while_many_write_and_number_misses_nothing() -> None:
    program = await new_program()
    members = [await new_member(program) for _ in range(4)]
    writing = asyncio.gather(*(_change(program, members, random.Random(seed)) for seed in range(_WRITERS)))
    read: list[FeedMessage] = []

    async def number() -> None:
        while not writing.done():
            await number_waiting()
            await asyncio.sleep(0.001)

    async def follow(rows: list[FeedMessage]) -> None:
        """Read on as a query of the feed alone does, whoever numbers."""
        done = False
        while not done:
            done = writing.done()
            if done:
                await number_program(program.id)
            async with connection() as sql:
                found = await sql.fetch(
                    "SELECT position, id, topic, member_id, payload, created_at FROM feed"
                    " WHERE program_id = $1 AND position > $2 ORDER BY position LIMIT 7",
                    program.id,
                    rows[-1].position if rows else 0,
                )
            rows += map(FeedMessage._make, found)
            done = done and not found
            await asyncio.sleep(0)

    other: list[FeedMessage] = []
    await asyncio.gather(writing, number(), number(), number(), follow(read), follow(other))
    assert [each.position for each in read] == list(range(1, len(read) + 1))
    assert read == other
    async with connection() as sql:
        (head,) = await sql.fetch("SELECT position FROM feed_head WHERE program_id = $1", program.id)
        sequences = await sql.fetch("SELECT id, sequence FROM account WHERE program_id = $1", program.id)
    assert head["position"] == len(read)
    # Each member's in the order of the changes, and none is missing.
    for row in sequences:
        told = [each.payload["sequence"] for each in read if each.member_id == row["id"]]
        assert told == list(range(1, row["sequence"] + 1))
    assert len(read) == 2 * sum(row["sequence"] for row in sequences) > 0


async def test_whoever_reads_waits_for_nobody_but_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker passes over a program whose head is held; a reader waits for it, and then knows it all."""
    monkeypatch.setattr(feed, "SLICE", 2)
    program = await new_program()
    await write(program, *[stock_low(n) for n in range(7)])
    await number_program(program.id)
    await write(program, stock_low(7))
    async with connection() as sql, sql.transaction():
        await sql.fetch("SELECT FROM feed_head WHERE program_id = $1 FOR UPDATE", program.id)
        async with asyncio.timeout(5):
            await number_waiting()
        async with connection() as other:
            left = await other.fetchval("SELECT count(*) FROM message WHERE program_id = $1", program.id)
        assert left == 1
        reading = asyncio.create_task(list_messages(program.id, make_page(100)))
        await asyncio.sleep(0.05)
        assert not reading.done()
    assert [each.payload["left"] for each in (await reading).items] == list(range(8))


FEED, AGAIN, MEMBER = FEED_CHECKS


@pytest.mark.parametrize(
    ("check", "corruption"),
    [
        (FEED, "UPDATE feed_head SET position = position + 1 WHERE program_id = $1"),
        (FEED, "DELETE FROM feed_head WHERE program_id = $1"),
        (FEED, "DELETE FROM feed WHERE program_id = $1 AND position = 2"),
        (FEED, "UPDATE feed SET position = 9 WHERE program_id = $1 AND position = 3"),
        (
            AGAIN,
            "INSERT INTO message (id, program_id, topic, payload, created_at)"
            " SELECT id, program_id, topic, payload, created_at FROM feed"
            " WHERE program_id = $1 AND position = 1",
        ),
        (MEMBER, "UPDATE feed SET member_id = gen_random_uuid() WHERE program_id = $1 AND position = 1"),
    ],
)
async def test_verify_finds_what_is_wrong_with_the_feed(check: str, corruption: str) -> None:
    program = await new_program()
    await write(program, *[stock_low(n) for n in range(3)])
    await number_program(program.id)
    await write(program, stock_low(3))
    assert not await find_differences(program.id)
    async with transaction() as sql:
        assert (await sql.execute(corruption, program.id)).split()[-1] == "1"
    assert {finding.check for finding in await find_differences(program.id)} == {check}


async def test_a_program_whose_feed_is_broken_does_not_hold_up_the_others() -> None:
    broken, sound = await new_program(), await new_program()

    async def tell(program: Program) -> None:
        async with transaction() as sql:
            await leave(sql, program.id, [Message(Topic.WEBHOOK_DISABLED, None, {})], clock.now())

    await tell(broken)
    await number_program(broken.id)
    async with connection() as sql:
        await sql.execute("UPDATE feed_head SET position = 0 WHERE program_id = $1", broken.id)
    await tell(broken)
    await tell(sound)
    try:
        while await number_waiting():
            pass
        async with connection() as sql:
            rows = await sql.fetch(
                "SELECT program_id FROM message WHERE program_id = ANY($1)", [broken.id, sound.id]
            )
        assert [row["program_id"] for row in rows] == [broken.id]
    finally:
        async with connection() as sql:
            await sql.execute("UPDATE feed_head SET position = 1 WHERE program_id = $1", broken.id)
