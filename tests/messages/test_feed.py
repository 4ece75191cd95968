"""The feed of messages: numbers without a gap, readable in their order, whoever numbers and reads meanwhile."""

from app import clock
from app.database import transaction
from app.messages.feed import get_messages, list_messages, number_waiting
from app.messages.leaving import Message, leave
from app.messages.topics import Topic
from app.paging import make_page
from app.programs.models import Program
from tests.helpers import new_member, new_program


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
