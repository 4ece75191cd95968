"""Every list is read in pages, forward and backward, and stays in order while rows are added."""

import asyncio
from typing import Any

import pytest

from tests.api.client import CREATE_KEY, World, unique

LISTS = (
    "apiKeys", "members", "earningRules", "campaigns", "stores", "catalog", "ledger", "events", "redemptions",
    "messages",
)  # fmt: skip
NEWEST_FIRST = ("ledger", "events", "redemptions")


async def add(world: World, name: str) -> None:
    """Put one more row into a list."""
    if name == "apiKeys":
        await world.done(CREATE_KEY, name=unique("key"), scopes=["program:read"])
    elif name == "members":
        await world.enrol()
    elif name == "earningRules":
        await world.rule()
    elif name == "campaigns":
        await world.campaign()
    elif name == "stores":
        await world.store()
    elif name == "catalog":
        await world.reward()
    elif name == "redemptions":
        await world.adjust(1)
        await world.redeem((await world.reward(points=1))["id"])
    elif name in ("ledger", "messages"):
        await world.adjust(1)
    else:
        await world.purchase("1")


def query(name: str, arguments: str) -> str:
    listed = f"""{name}{arguments} {{
        nodes {{ id }} edges {{ cursor node {{ id }} }}
        pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }}
    }}"""
    return f"{{ viewer {{ {listed} }} }}" if name in NEWEST_FIRST else f"{{ {listed} }}"


async def page(world: World, name: str, **arguments: Any) -> Any:
    given = ", ".join(
        f'{key}: "{value}"' if isinstance(value, str) else f"{key}: {value}"
        for key, value in arguments.items()
    )
    token = world.token if name in NEWEST_FIRST else world.key
    data = await world.api.call(query(name, f"({given})" if given else ""), token=token)
    found = (data.get("viewer") or data)[name]
    assert found["nodes"] == [edge["node"] for edge in found["edges"]]
    info = found["pageInfo"]
    cursors = [edge["cursor"] for edge in found["edges"]]
    assert (info["startCursor"], info["endCursor"]) == (
        (cursors[0], cursors[-1]) if cursors else (None, None)
    )
    return found


def ids(page: Any) -> list[str]:
    return [node["id"] for node in page["nodes"]]


@pytest.mark.parametrize("name", LISTS)
async def test_list_is_read_forward_and_backward_while_rows_are_added(world: World, name: str) -> None:
    for _ in range(7):
        await add(world, name)
    before = ids(await page(world, name, first=100))
    assert len(before) == len(set(before)) >= 7

    forward: list[str] = []
    found = await page(world, name, first=3)
    assert found["pageInfo"]["hasPreviousPage"] is False
    while True:
        assert len(found["nodes"]) <= 3
        forward += ids(found)
        if not found["pageInfo"]["hasNextPage"]:
            break
        await add(world, name)
        found = await page(world, name, first=3, after=found["pageInfo"]["endCursor"])
        assert found["pageInfo"]["hasPreviousPage"] is True
    now = ids(await page(world, name, first=100))
    # What was added meanwhile comes at the end of a growing list, and before the first page of the others.
    assert forward == (before if name in NEWEST_FIRST else now)

    backward: list[str] = []
    found = await page(world, name, last=3)
    assert found["pageInfo"]["hasNextPage"] is False
    while True:
        backward = ids(found) + backward
        if not found["pageInfo"]["hasPreviousPage"]:
            break
        await add(world, name)
        found = await page(world, name, last=3, before=found["pageInfo"]["startCursor"])
        assert found["pageInfo"]["hasNextPage"] is True
    later = ids(await page(world, name, first=100))
    assert backward == (later if name in NEWEST_FIRST else now)


@pytest.mark.parametrize("name", LISTS)
async def test_page_between_two_cursors_holds_what_is_between(world: World, name: str) -> None:
    for _ in range(6):
        await add(world, name)
    edges = (await page(world, name, first=6))["edges"]
    between = await page(world, name, first=10, after=edges[0]["cursor"], before=edges[4]["cursor"])
    assert ids(between) == [edge["node"]["id"] for edge in edges[1:4]]
    ends = await page(world, name, last=2, after=edges[0]["cursor"], before=edges[4]["cursor"])
    assert ids(ends) == [edge["node"]["id"] for edge in edges[2:4]]
    assert (await page(world, name, first=5, after=edges[3]["cursor"], before=edges[3]["cursor"]))[
        "nodes"
    ] == []


@pytest.mark.parametrize("name", LISTS)
async def test_many_rows_added_at_once_are_all_listed_once(world: World, name: str) -> None:
    await asyncio.gather(*(add(world, name) for _ in range(25)))
    found, seen = await page(world, name, first=10), []
    while True:
        seen += ids(found)
        if not found["pageInfo"]["hasNextPage"]:
            break
        found = await page(world, name, first=10, after=found["pageInfo"]["endCursor"])
    assert len(seen) == len(set(seen)) >= 25


@pytest.mark.parametrize("name", LISTS)
async def test_page_has_twenty_rows_when_it_is_not_said(world: World, name: str) -> None:
    await asyncio.gather(*(add(world, name) for _ in range(22)))
    for given in ({}, {"first": "null"}):
        arguments = "" if not given else "(first: null, last: null, after: null, before: null)"
        token = world.token if name in NEWEST_FIRST else world.key
        data = await world.api.call(query(name, arguments), token=token)
        assert len((data.get("viewer") or data)[name]["nodes"]) == 20


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    ("arguments", "field", "says"),
    [
        ("first: 0", "first", "between 1 and 100"),
        ("first: -1", "first", "between 1 and 100"),
        ("first: 101", "first", "between 1 and 100"),
        ("last: 0", "last", "between 1 and 100"),
        ("last: 101", "last", "between 1 and 100"),
        ("first: 5, last: 5", "last", "not both"),
        ('after: "garbage"', "after", "not a cursor"),
        ('before: ""', "before", "not a cursor"),
        (r'after: "\u0000"', "after", "not a cursor"),
        ('after: "W10"', "after", "not a cursor"),
        ('after: "bnVsbA"', "after", "not a cursor"),
        ('after: "eyJhIjoxfQ"', "after", "not a cursor"),
        ('after: "WyJldmVudHMiLDEsMiwzXQ"', "after", "not a cursor"),
        ('after: "' + "W" * 5000 + '"', "after", "not a cursor"),
    ],
)
async def test_page_that_cannot_be_is_refused_by_argument(
    world: World, name: str, arguments: str, field: str, says: str
) -> None:
    token = world.token if name in NEWEST_FIRST else world.key
    answer = await world.api.post(query(name, f"({arguments})"), token=token)
    assert answer.codes == ["BAD_USER_INPUT"]
    assert answer.error["extensions"]["field"] == [field]
    assert says in answer.error["message"]


async def test_cursor_of_one_list_is_refused_by_the_others(world: World) -> None:
    for name in LISTS:
        await add(world, name)
    cursors = {name: (await page(world, name, first=1))["pageInfo"]["endCursor"] for name in LISTS}
    for name in LISTS:
        for other, cursor in cursors.items():
            if other == name:
                continue
            token = world.token if name in NEWEST_FIRST else world.key
            answer = await world.api.post(query(name, f'(after: "{cursor}")'), token=token)
            assert answer.codes == ["BAD_USER_INPUT"], (name, other)


async def test_late_event_takes_its_place_by_when_it_happened(world: World) -> None:
    for day in (10, 20, 15):
        await world.purchase("1", occurredAt=f"2026-01-{day}T00:00:00Z")
    events = "{ viewer { events { nodes { occurredAt } } } }"
    found = (await world.api.call(events, token=world.token))["viewer"]["events"]["nodes"]
    assert [event["occurredAt"][8:10] for event in found] == ["20", "15", "10"]


async def test_events_of_the_same_moment_are_paged_without_loss(world: World) -> None:
    moment = "2026-01-10T00:00:00Z"
    made = {(await world.purchase("1", occurredAt=moment))["event"]["id"] for _ in range(7)}
    found, seen = await page(world, "events", first=2), []
    while True:
        seen += ids(found)
        if not found["pageInfo"]["hasNextPage"]:
            break
        found = await page(world, "events", first=2, after=found["pageInfo"]["endCursor"])
    assert len(seen) == 7
    assert set(seen) == made


async def test_search_is_paged_like_the_whole_list(world: World) -> None:
    prefix = unique("Findme")
    made = [(await world.enrol(name=f"{prefix} {n}"))["id"] for n in range(5)]
    first = await page(world, "members", first=2, search=prefix)
    rest = await page(world, "members", first=5, after=first["pageInfo"]["endCursor"], search=prefix)
    assert ids(first) + ids(rest) == made
    assert ids(await page(world, "members", last=2, search=prefix)) == made[3:]
