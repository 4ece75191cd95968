"""Stores: set up, changed field by field, never deleted; and the codes that are shown in them."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

import asyncpg

from app import clock
from app.database import retrying, transaction
from app.errors import ErrorCode, Refused, refuse
from app.ids import new_id
from app.programs.inputs import check_timezone
from app.programs.service import check_zone
from app.stores.codes import LONGEST_SECONDS, SHORTEST_SECONDS, CheckInCode, CheckInCodes
from app.stores.inputs import StoreContent, check_content
from app.stores.reads import StoreRef, find_stores, get_store
from app.stores.stores import Store
from app.validation import Problems

MAX_STORES = 10_000
"""Stores of one program."""

CONTENT = ("external_id", "name", "timezone", "latitude", "longitude", "radius_meters")
"""What can be said of a store, and changed."""

_COUNT = "SELECT count(*) FROM store WHERE program_id = $1"
_INSERT = """
INSERT INTO store (id, program_id, external_id, name, timezone, latitude, longitude, radius_meters,
    created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
"""
_UPDATE = """
UPDATE store SET external_id = $3, name = $4, timezone = $5, latitude = $6, longitude = $7,
    radius_meters = $8, updated_at = $9
WHERE id = $1 AND program_id = $2
"""


async def create_store(program_id: UUID, content: StoreContent) -> Store:
    """Set up a store; the same again, with no other content, answers with the store that is there.

    Raises:
        Refused: INVALID with everything that is wrong, ALREADY_EXISTS for the external id of a store
            with other content, or LIMIT_REACHED when there are MAX_STORES stores.
    """
    _refuse_wrong(content)
    await _check_zone(content.timezone)
    store_id, moment = new_id(), clock.now()

    async def create() -> Store:
        async with transaction() as sql:
            settled = _settled(content, await _lock(sql, program_id))
            (there,) = await find_stores(sql, program_id, [StoreRef(external_id=content.external_id)])
            if there is not None:
                if _content(there) == settled:
                    return there
                raise _taken()
            if await sql.fetchval(_COUNT, program_id) >= MAX_STORES:
                raise refuse(ErrorCode.LIMIT_REACHED, f"A program has at most {MAX_STORES:,} stores.")
            said = asdict(settled)
            await sql.execute(_INSERT, store_id, program_id, *(said[name] for name in CONTENT), moment)
            return Store(store_id, program_id, **said, created_at=moment, updated_at=moment)

    return await retrying(create)


async def update_store(program_id: UUID, store_id: UUID, changes: Mapping[str, Any]) -> Store:
    """Change some of what is known of a store, and return it. Check-ins keep the days that they counted for.

    Args:
        changes: only what is to change, by the names in CONTENT; None stands for the program's zone,
            and clears position and radius.

    Raises:
        Refused: NOT_FOUND, INVALID with everything that is wrong with what would come out, or
            ALREADY_EXISTS for the external id of another store.
    """
    assert changes.keys() <= set(CONTENT), changes.keys()
    await _check_zone(changes.get("timezone"))
    moment = clock.now()

    async def update() -> Store:
        async with transaction() as sql:
            zone = await _lock(sql, program_id)
            (store,) = await find_stores(sql, program_id, [StoreRef(id=store_id)])
            if store is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such store.", "id")
            before = _content(store)
            settled = _settled(replace(before, **changes), zone)
            if settled == before:
                return store
            _refuse_wrong(settled)
            if settled.external_id != before.external_id:
                (other,) = await find_stores(sql, program_id, [StoreRef(external_id=settled.external_id)])
                if other is not None:
                    raise _taken()
            said = asdict(settled)
            await sql.execute(_UPDATE, store_id, program_id, *(said[name] for name in CONTENT), moment)
            return replace(store, **said, updated_at=moment)

    return await retrying(update)


async def create_check_in_code(
    codes: CheckInCodes, program_id: UUID, store: StoreRef, valid_for_seconds: int | None
) -> CheckInCode:
    """Make a code to show in a store for some time, or, with None, to print.

    Raises:
        Refused: INVALID for a time outside of 5 to 31,536,000 seconds, NOT_FOUND for the store.
    """
    problems = Problems()
    if valid_for_seconds is not None:
        problems.whole(valid_for_seconds, SHORTEST_SECONDS, LONGEST_SECONDS, "valid_for_seconds")
    found = await get_store(program_id, store)
    if found is None:
        problems.add("There is no such store.", "store", store.field, code=ErrorCode.NOT_FOUND)
    problems.refuse_any()
    assert found
    return codes.make(program_id, found.id, valid_for_seconds, clock.now())


async def _lock(sql: asyncpg.Connection, program_id: UUID) -> str:
    """Let changes of a program's stores happen one after the other, and return the program's zone.

    Whoever counts the stores, or looks whether an external id is free, is then right until the end.
    """
    zone: str = await sql.fetchval("SELECT timezone FROM program WHERE id = $1 FOR NO KEY UPDATE", program_id)
    return zone


async def _check_zone(timezone: str | None) -> None:
    """Refuse a zone that only the database server does not know; what nobody knows is told with the rest."""
    problems = Problems()
    if timezone is not None:
        check_timezone(timezone, problems)
        if not problems.errors:
            await check_zone(timezone)


def _refuse_wrong(content: StoreContent) -> None:
    problems = Problems()
    check_content(content, problems)
    problems.refuse_any()


def _settled(content: StoreContent, zone: str) -> StoreContent:
    return content if content.timezone is not None else replace(content, timezone=zone)


def _content(store: Store) -> StoreContent:
    return StoreContent(**{name: getattr(store, name) for name in CONTENT})


def _taken() -> Refused:
    return refuse(ErrorCode.ALREADY_EXISTS, "Another store has this external id.", "external_id")
