"""Stores are found by either name, many at once, and listed oldest first."""

import asyncio
from uuid import uuid4

import pytest

from app.database import connection
from app.paging import make_page
from app.stores.reads import StoreRef, find_stores, get_store, get_stores, list_stores
from tests.programs.making import make_program
from tests.stores.making import make_store


async def test_references_of_both_kinds_are_resolved_in_their_order_by_two_statements() -> None:
    program, other = await make_program(), await make_program()
    first, second = await make_store(program.id, external_id="a"), await make_store(program.id)
    theirs = await make_store(other.id, external_id="b")
    refs = [
        StoreRef(external_id="a"),
        StoreRef(id=second.id),
        StoreRef(external_id="A"),
        StoreRef(id=theirs.id),
        StoreRef(external_id="b"),
        StoreRef(id=first.id),
        StoreRef(external_id="nul\0"),
        StoreRef(external_id="\ud800"),
        StoreRef(id=uuid4()),
        StoreRef(external_id="a"),
    ]
    async with connection() as sql:
        statements: list[str] = []
        with sql.query_logger(lambda query: statements.append(query.query)):
            found = await find_stores(sql, program.id, refs)
        # asyncpg tells its listeners a moment later.
        await asyncio.sleep(0.01)
        assert found == [first, second, None, None, None, first, None, None, None, first]
        # And asyncpg asks what the types are, once for each connection.
        assert sum("JOIN store" in statement for statement in statements) == 2
        assert await find_stores(sql, program.id, []) == []


def test_a_reference_names_a_store_in_exactly_one_way() -> None:
    assert (StoreRef(id=uuid4()).field, StoreRef(external_id="a").field) == ("id", "external_id")
    with pytest.raises(AssertionError):
        StoreRef()
    with pytest.raises(AssertionError):
        StoreRef(id=uuid4(), external_id="a")


async def test_stores_come_in_the_order_of_their_ids_and_only_from_the_program() -> None:
    program, other = await make_program(), await make_program()
    stores = [await make_store(program.id) for _ in range(3)]
    theirs = await make_store(other.id)
    wanted = [stores[2].id, theirs.id, stores[0].id, uuid4(), stores[2].id]
    assert await get_stores(program.id, wanted) == [stores[2], None, stores[0], None, stores[2]]
    assert await get_stores(program.id, []) == []
    assert await get_store(program.id, StoreRef(id=theirs.id)) is None
    assert await get_store(other.id, StoreRef(id=theirs.id)) == theirs


async def test_list_is_read_in_pages_from_both_ends_oldest_first() -> None:
    program = await make_program()
    stores = [await make_store(program.id) for _ in range(5)]
    await make_store((await make_program()).id)

    page = await list_stores(program.id, make_page(first=3))
    assert (page.items, page.has_next, page.has_previous) == (stores[:3], True, False)
    page = await list_stores(program.id, make_page(first=3, after=(stores[2].id,)))
    assert (page.items, page.has_next, page.has_previous) == (stores[3:], False, True)
    page = await list_stores(program.id, make_page(last=2, before=(stores[3].id,)))
    assert (page.items, page.has_next, page.has_previous) == (stores[1:3], True, True)
