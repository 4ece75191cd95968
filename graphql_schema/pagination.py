"""Connections: Relay's lists over keyset pages, with cursors that only their own list takes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

import strawberry

from app.cursors import decode_cursor, encode_cursor
from app.paging import Key, Page, PageResult, make_page
from graphql_schema.access import INHERITED, object_type

Node = TypeVar("Node")
Row = TypeVar("Row")

FIRST = "How many, counted from the start: 1 to 100. 20 when neither first nor last is given."
LAST = "How many, counted from the end: 1 to 100."
AFTER = "Only what comes after this cursor."
BEFORE = "Only what comes before this cursor."


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
