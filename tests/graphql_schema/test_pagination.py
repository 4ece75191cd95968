"""Walking through lists page by page."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cursors import decode_cursor, encode_cursor
from app.errors import Refused
from app.paging import Key, Page, keyset, make_page, page_result
from graphql_schema.pagination import connection, page_of

TYPES = (datetime, UUID)
instants = st.datetimes(timezones=st.just(UTC))
keys = st.tuples(instants, st.uuids())


def fetch(table: list[Key], page: Page, descending: bool) -> list[Key]:
    """Do what PostgreSQL does with a keyset, on tuples in memory."""
    rows = sorted(table, reverse=descending)
    found = [
        row
        for row in rows
        if (page.after is None or (row < page.after if descending else row > page.after))
        and (page.before is None or (row > page.before if descending else row < page.before))
    ]
    return (found[::-1] if page.backward else found)[: page.size + 1]


@given(st.sets(keys, max_size=40), st.integers(1, 7), st.booleans(), st.booleans())
def test_walking_a_list_either_way_visits_every_row_once_in_order(
    table: set[Any], size: int, descending: bool, backward: bool
) -> None:
    rows = sorted(table, reverse=descending)
    seen: list[Any] = []
    cursor = None
    while True:
        arguments: dict[str, Any] = (
            {"last": size, "before": cursor} if backward else {"first": size, "after": cursor}
        )
        page = page_of("Things", TYPES, **arguments)
        result = page_result(fetch(rows, page, descending), page)
        view = connection("Things", result, node=lambda row: row, key=lambda row: row)
        items = list(result.items)
        assert items == sorted(items, reverse=descending)
        seen = items + seen if backward else seen + items
        assert (result.has_next if backward else result.has_previous) == (cursor is not None)
        if not (result.has_previous if backward else result.has_next):
            break
        cursor = view.page_info.start_cursor if backward else view.page_info.end_cursor
    assert seen == rows


@given(st.sets(keys, min_size=2, max_size=20), st.integers(1, 20), st.booleans())
def test_after_and_before_together_cut_out_the_middle(table: set[Any], size: int, backward: bool) -> None:
    rows = sorted(table)
    page = Page(size, backward, rows[0], rows[-1])
    result = page_result(fetch(rows, page, descending=False), page)
    middle = rows[1:-1]
    assert list(result.items) == (middle[-size:] if backward else middle[:size])
    assert result.has_next
    assert result.has_previous


def test_a_keyset_becomes_sql_that_compares_rows_as_wholes() -> None:
    first, second = (
        (datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1)),
        (datetime(2026, 2, 1, tzinfo=UTC), UUID(int=2)),
    )
    found = keyset(("occurred_at", "id"), descending=True, page=Page(20, False, first, second), first_param=3)
    assert found.where == "(occurred_at, id) < ($3, $4) AND (occurred_at, id) > ($5, $6)"
    assert found.order_by == "occurred_at DESC, id DESC"
    assert found.limit == 21
    assert found.args == (*first, *second)


def test_a_backward_page_is_fetched_from_the_other_end() -> None:
    found = keyset(("e.sequence",), page=Page(5, backward=True, before=(9,)))
    assert found.where == "(e.sequence) < ($1::bigint)"
    assert (found.order_by, found.args) == ("e.sequence DESC", (9,))
    assert keyset(("id",), page=Page()).where == "TRUE"


def test_columns_are_names_and_nothing_else() -> None:
    with pytest.raises(AssertionError):
        keyset(("id; DROP TABLE member",), page=Page())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": 0}, "first must be between 1 and 100."),
        ({"first": 101}, "first must be between 1 and 100."),
        ({"last": -1}, "last must be between 1 and 100."),
        ({"first": 1, "last": 1}, "Give first or last, not both."),
    ],
)
def test_page_sizes_are_bounded(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(Refused, match=message):
        make_page(**arguments)


def test_a_page_has_twenty_rows_unless_it_says_otherwise() -> None:
    assert make_page() == Page(20)
    assert make_page(first=100).size == 100
    assert make_page(last=1) == Page(1, backward=True)


@given(
    instants,
    st.uuids(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40),
)
def test_cursors_give_back_the_key_they_were_made_of(
    when: datetime, key: UUID, number: int, text: str
) -> None:
    values = (when, key, number, text)
    cursor = encode_cursor("List", values)
    assert decode_cursor("List", (datetime, UUID, int, str), cursor, "after") == values


def cursor_of(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "=" * 9,
        "A" * 501,
        "bm90IGpzb24",
        cursor_of({}),
        cursor_of([]),
        cursor_of(["List"]),
        cursor_of(["List", 1]),
        cursor_of(["List", "a", "b"]),
        cursor_of(["List", 1.5, "0" * 32]),
        cursor_of(["List", 2**63 - 1, "0" * 32]),
        cursor_of(["List", True, "0" * 32]),
        cursor_of(["List", 0, "z" * 32]),
        cursor_of(["List", 2**64 - 1, "0" * 32]),
        cursor_of(["List", None, None]),
        "//////",
        "\x00",
    ],
)
def test_garbage_is_not_a_cursor(cursor: str) -> None:
    with pytest.raises(Refused, match="after is not a cursor") as caught:
        decode_cursor("List", TYPES, cursor, "after")
    assert caught.value.errors[0].field == ("after",)


@given(st.text(max_size=60))
def test_no_text_at_all_breaks_the_reading_of_cursors(text: str) -> None:
    with pytest.raises(Refused):
        page_of("List", TYPES, after=text)


def test_a_cursor_of_another_list_is_told_from_garbage() -> None:
    cursor = encode_cursor("Events", (datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1)))
    with pytest.raises(Refused, match="before is a cursor of another list"):
        page_of("Members", TYPES, before=cursor)


def test_text_that_postgresql_cannot_hold_is_not_in_a_cursor() -> None:
    with pytest.raises(Refused):
        decode_cursor("List", (str,), cursor_of(["List", "a\0b"]), "after")


def test_nothing_is_made_that_nobody_selects() -> None:
    made: list[int] = []
    page = Page(3)
    rows = [(number,) for number in range(3)]
    view = connection("List", page_result(rows, page), lambda row: made.append(row[0]), lambda row: row)
    assert not view.page_info.has_next_page
    assert made == []
    assert len(view.nodes) == len(view.edges) == 3
    assert made == [0, 1, 2]


def test_instants_keep_their_microseconds_in_cursors() -> None:
    when = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - timedelta(microseconds=1)
    assert decode_cursor("L", (datetime,), encode_cursor("L", (when,)), "after") == (when,)
