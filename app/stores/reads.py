"""Stores, read: one, many at once in two statements at most, or a page of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from app.database import connection
from app.paging import Page, PageResult, keyset, page_result
from app.stores.stores import Store
from app.text import is_line

COLUMNS = (
    "id, program_id, external_id, name, timezone, latitude, longitude, radius_meters, created_at, updated_at"
)
_QUALIFIED = ", ".join(f"s.{column}" for column in COLUMNS.split(", "))


@dataclass(frozen=True, slots=True)
class StoreRef:
    """What names a store within a program: exactly one of the two."""

    id: UUID | None = None
    external_id: str | None = None

    def __post_init__(self) -> None:
        given = (self.id is not None) + (self.external_id is not None)
        assert given == 1, "a reference names a store in exactly one way"

    @property
    def field(self) -> str:
        """By what it names the store: the field to blame when there is none."""
        return "id" if self.id is not None else "external_id"


_BY_ID = (
    f"SELECT t.n, {_QUALIFIED} FROM unnest($2::uuid[]) WITH ORDINALITY AS t(value, n)"  # noqa: S608
    " JOIN store s ON s.program_id = $1 AND s.id = t.value"
)
_BY_EXTERNAL_ID = (
    f"SELECT t.n, {_QUALIFIED} FROM unnest($2::text[]) WITH ORDINALITY AS t(value, n)"  # noqa: S608
    " JOIN store s ON s.program_id = $1 AND s.external_id = t.value"
)


async def find_stores(
    sql: asyncpg.Connection, program_id: UUID, refs: Sequence[StoreRef]
) -> list[Store | None]:
    """Return the stores that references name, in their order, and None for those that name none.

    Args:
        sql: any connection; within a transaction it sees what that has written.
        refs: any mixture, repetitions too; one statement for each way of naming that is used.
    """
    found: list[Store | None] = [None] * len(refs)
    for statement, values in (
        (_BY_ID, [(ref.id, n) for n, ref in enumerate(refs) if ref.id is not None]),
        (
            _BY_EXTERNAL_ID,
            [(ref.external_id, n) for n, ref in enumerate(refs) if _storable(ref.external_id)],
        ),
    ):
        if not values:
            continue
        for row in await sql.fetch(statement, program_id, [value for value, _ in values]):
            found[values[row[0] - 1][1]] = Store(*row[1:])
    return found


def _storable(text: str | None) -> bool:
    # PostgreSQL has no NUL and no halves of surrogate pairs: asking for them would be an error there.
    return text is not None and is_line(text)


async def get_store(program_id: UUID, ref: StoreRef) -> Store | None:
    """Return one store of a program; None when the reference names none there."""
    async with connection() as sql:
        return (await find_stores(sql, program_id, [ref]))[0]


async def get_stores(program_id: UUID, store_ids: Sequence[UUID]) -> list[Store | None]:
    """Return stores of a program in the order of the ids given; None where it has none."""
    async with connection() as sql:
        return await find_stores(sql, program_id, [StoreRef(id=store_id) for store_id in store_ids])


async def list_stores(program_id: UUID, page: Page) -> PageResult[Store]:
    """Return a page of a program's stores, oldest first; the page's keys are (id,)."""
    part = keyset(("id",), page=page, first_param=2)
    async with connection() as sql:
        rows = await sql.fetch(
            f"SELECT {COLUMNS} FROM store WHERE program_id = $1 AND {part.where}"  # noqa: S608
            f" ORDER BY {part.order_by} LIMIT {part.limit}",
            program_id, *part.args,
        )  # fmt: skip
    return page_result([Store(*row) for row in rows], page)
