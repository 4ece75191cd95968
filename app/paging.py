"""Keyset paging: which rows a page asks for, the SQL that finds them, and what is left over."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from app.errors import ErrorCode, refuse

KeyValue = UUID | int | datetime | str
Key = tuple[KeyValue, ...]
Row = TypeVar("Row")

DEFAULT_SIZE = 20
MAX_SIZE = 100

_COLUMN = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?")


@dataclass(frozen=True, slots=True)
class Page:
    """A request for `size` rows after and before two keys, counted from the end when `backward`."""

    size: int = DEFAULT_SIZE
    backward: bool = False
    after: Key | None = None
    before: Key | None = None


@dataclass(frozen=True, slots=True)
class PageResult(Generic[Row]):
    """The rows of a page in the list's own order, and whether the list goes on at either end."""

    items: Sequence[Row]
    has_next: bool
    has_previous: bool


@dataclass(frozen=True, slots=True)
class Keyset:
    """The parts of a statement that fetches a page, and one row more to tell whether there are more."""

    where: str
    order_by: str
    limit: int
    args: Key


def make_page(
    first: int | None = None,
    last: int | None = None,
    after: Key | None = None,
    before: Key | None = None,
) -> Page:
    """Make a page of `first` rows, or the `last` ones; 20 from the start when neither is given.

    Raises:
        Refused: both are given, or one is not between 1 and 100.
    """
    if first is not None and last is not None:
        raise refuse(ErrorCode.INVALID, "Give first or last, not both.", "last")
    name, size = ("last", last) if last is not None else ("first", DEFAULT_SIZE if first is None else first)
    if not 1 <= size <= MAX_SIZE:
        raise refuse(ErrorCode.INVALID, f"{name} must be between 1 and {MAX_SIZE}.", name)
    return Page(size, last is not None, after, before)


def keyset(columns: Sequence[str], *, descending: bool = False, page: Page, first_param: int = 1) -> Keyset:
    """Return the conditions, order and limit that fetch a page of rows ordered by `columns`.

    Args:
        columns: what the list is ordered by; together unique, none of them nullable.
        descending: the direction of all of them.
        page: what to fetch; its keys have one value for each column.
        first_param: the number of the statement's first free parameter; `args` go there.

    A backward page comes in reverse: hand the rows to `page_result`, which turns them round.
    """
    assert columns
    assert all(_COLUMN.fullmatch(column) for column in columns), columns
    conditions: list[str] = []
    args: list[KeyValue] = []
    for key, is_after in ((page.after, True), (page.before, False)):
        if key is None:
            continue
        assert len(key) == len(columns), "a key has one value for each column"
        start = first_param + len(args)
        params = ", ".join(_param(start + position, value) for position, value in enumerate(key))
        # Rows are compared as wholes, because that is what an index on all columns can answer.
        operator = ">" if is_after != descending else "<"
        conditions.append(f"({', '.join(columns)}) {operator} ({params})")
        args.extend(key)
    direction = "DESC" if descending != page.backward else "ASC"
    return Keyset(
        where=" AND ".join(conditions) or "TRUE",
        order_by=", ".join(f"{column} {direction}" for column in columns),
        limit=page.size + 1,
        args=tuple(args),
    )


def _param(number: int, value: KeyValue) -> str:
    # Whatever the column's size: a cursor that somebody made up must not overflow it.
    return f"${number}::bigint" if isinstance(value, int) else f"${number}"


def page_result(rows: Sequence[Row], page: Page) -> PageResult[Row]:
    """Return the page that `rows`, fetched as `keyset` says, hold.

    Nothing is known of the side that a key cuts off but that the key's own row stands there.
    """
    assert len(rows) <= page.size + 1, "more rows than were asked for"
    more = len(rows) > page.size
    items = rows[: page.size] if more else rows
    if page.backward:
        return PageResult(items[::-1], page.before is not None, more or page.after is not None)
    return PageResult(items, more or page.before is not None, page.after is not None)
