"""Connections: Relay's lists over keyset pages, with cursors that only their own list takes."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

import orjson
import strawberry

from app.errors import ErrorCode, refuse
from app.paging import Key, KeyValue, Page, PageResult, make_page
from graphql_schema.access import INHERITED, object_type

Node = TypeVar("Node")
Row = TypeVar("Row")

FIRST = "How many, counted from the start: 1 to 100. 20 when neither first nor last is given."
LAST = "How many, counted from the end: 1 to 100."
AFTER = "Only what comes after this cursor."
BEFORE = "Only what comes before this cursor."

_MAX_CURSOR_LENGTH = 500
_MAX_INT = 2**63
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@object_type(description="Where a page ends, and whether the list goes on.", access=INHERITED)
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether there is more after this page.")
    has_previous_page: bool = strawberry.field(description="Whether there is more before this page.")
    start_cursor: str | None = strawberry.field(
        description="The cursor of the page's first item; null for an empty page."
    )
    end_cursor: str | None = strawberry.field(
        description="The cursor of the page's last item; null for an empty page."
    )


@object_type(description="An item of a list, and its place there.", access=INHERITED)
class Edge(Generic[Node]):
    cursor: str = strawberry.field(description="The item's place, for after and before.")
    node: Node = strawberry.field(description="The item.")


@object_type(description="One page of a list.", access=INHERITED)
class Connection(Generic[Node]):
    edges: list[Edge[Node]] = strawberry.field(description="The page's items, with their cursors.")
    nodes: list[Node] = strawberry.field(description="The page's items.")
    page_info: PageInfo = strawberry.field(description="Where the page ends, and whether the list goes on.")


class _EdgeView:
    """An edge whose cursor is worked out when it is selected."""

    __slots__ = ("_key", "_list_name", "node")

    def __init__(self, list_name: str, key: Key, node: Any) -> None:
        self._list_name = list_name
        self._key = key
        self.node = node

    @property
    def cursor(self) -> str:
        return encode_cursor(self._list_name, self._key)


class _ConnectionView:
    """A connection whose parts are worked out when they are selected."""

    __slots__ = ("_key", "_list_name", "_make", "_nodes", "_result")

    def __init__(
        self,
        list_name: str,
        result: PageResult[Any],
        make: Callable[[Any], Any],
        key: Callable[[Any], Key],
    ) -> None:
        self._list_name = list_name
        self._result = result
        self._make = make
        self._key = key
        self._nodes: list[Any] | None = None

    @property
    def nodes(self) -> list[Any]:
        if self._nodes is None:
            self._nodes = [self._make(row) for row in self._result.items]
        return self._nodes

    @property
    def edges(self) -> list[_EdgeView]:
        rows = zip(self._result.items, self.nodes, strict=True)
        return [_EdgeView(self._list_name, self._key(row), node) for row, node in rows]

    @property
    def page_info(self) -> PageInfo:
        rows = self._result.items
        return PageInfo(
            has_next_page=self._result.has_next,
            has_previous_page=self._result.has_previous,
            start_cursor=encode_cursor(self._list_name, self._key(rows[0])) if rows else None,
            end_cursor=encode_cursor(self._list_name, self._key(rows[-1])) if rows else None,
        )


def connection(
    list_name: str,
    result: PageResult[Row],
    node: Callable[[Row], Node],
    key: Callable[[Row], Key],
) -> Connection[Node]:
    """Return a page as the API gives it.

    Args:
        list_name: what `page_of` was given; it goes into the cursors.
        result: the page's rows.
        node: makes the API's object of a row.
        key: returns the values of the columns that the list is ordered by.
    """
    # The executor asks for attributes only, so what nobody selects is never made.
    return cast("Connection[Node]", _ConnectionView(list_name, result, node, key))


async def by_page(
    keys: Sequence[tuple[UUID, Page]],
    load: Callable[[Sequence[UUID], Page], Awaitable[Sequence[PageResult[Row]]]],
) -> list[PageResult[Row]]:
    """Load pages that belong to several objects, with one call for all objects of the same page."""
    owners: dict[Page, list[UUID]] = {}
    for owner, page in keys:
        owners.setdefault(page, []).append(owner)
    found = {
        (owner, page): result
        for page, each in owners.items()
        for owner, result in zip(each, await load(each, page), strict=True)
    }
    return [found[key] for key in keys]


def page_of(
    list_name: str,
    types: Sequence[type],
    *,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    before: str | None = None,
) -> Page:
    """Return the page that a field's arguments ask for.

    Args:
        list_name: names the list in its cursors, so that those of other lists are told apart.
        types: the types of the columns that the list is ordered by: UUID, int, datetime or str.

    Raises:
        Refused: a size is out of range, both are given, or a cursor is not one of this list.
    """
    return make_page(
        first,
        last,
        None if after is None else decode_cursor(list_name, types, after, "after"),
        None if before is None else decode_cursor(list_name, types, before, "before"),
    )


def encode_cursor(list_name: str, key: Key) -> str:
    """Return the cursor that stands for a key of a list. Raises TypeError for other types of values."""
    raw = orjson.dumps([list_name, *(_to_json(value) for value in key)])
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_cursor(list_name: str, types: Sequence[type], cursor: str, argument: str) -> Key:
    """Return the key that a cursor stands for.

    Raises:
        Refused: it is not a cursor that this list gave; the field at fault is `argument`.
    """
    try:
        if len(cursor) > _MAX_CURSOR_LENGTH or not cursor.isascii():
            raise ValueError
        parts = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(parts, list) or len(parts) != len(types) + 1:
            raise ValueError
        if parts[0] == list_name:
            return tuple(_from_json(part, type_) for part, type_ in zip(parts[1:], types, strict=True))
    except (ValueError, OverflowError, binascii.Error):
        raise refuse(ErrorCode.INVALID, f"{argument} is not a cursor.", argument) from None
    raise refuse(ErrorCode.INVALID, f"{argument} is a cursor of another list.", argument)


def _to_json(value: KeyValue) -> str | int:
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, datetime):
        # Microseconds as an integer: what PostgreSQL compares, without rounding on the way.
        return (value - _EPOCH) // _MICROSECOND
    if type(value) is int or type(value) is str:
        return value
    raise TypeError(f"a cursor cannot hold {value!r}")


def _from_json(part: object, type_: type) -> KeyValue:
    if isinstance(part, str) and type_ is UUID and len(part) == 32:
        return UUID(hex=part)
    # PostgreSQL has no text with a NUL in it, and would refuse the whole statement.
    if isinstance(part, str) and type_ is str and "\0" not in part:
        return part
    if type(part) is int and -_MAX_INT <= part < _MAX_INT:
        if type_ is int:
            return part
        if type_ is datetime:
            return _EPOCH + part * _MICROSECOND
    raise ValueError
