"""What the scalars take, and what they give."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import strawberry
from graphql import GraphQLError
from hypothesis import given
from hypothesis import strategies as st
from strawberry.schema.config import StrawberryConfig

from graphql_schema import scalars
from graphql_schema.scalars import JSON, MAX_POINTS, SCALARS, Points


@strawberry.type
class Query:
    @strawberry.field
    def points(self, value: Points) -> str:
        return repr(value)

    @strawberry.field
    def decimal(self, value: Decimal) -> str:
        return repr(value)

    @strawberry.field
    def instant(self, value: datetime) -> str:
        return value.isoformat()

    @strawberry.field
    def day(self, value: date) -> str:
        return value.isoformat()

    @strawberry.field
    def json(self, value: JSON) -> JSON:
        return value


SCHEMA = strawberry.Schema(Query, config=StrawberryConfig(scalar_map=SCALARS))
TYPES = {"points": "Points", "decimal": "Decimal", "instant": "DateTime", "day": "Date", "json": "JSON"}


def literal(field: str, text: str) -> Any:
    result = SCHEMA.execute_sync(f"{{ {field}(value: {text}) }}")
    if result.errors:
        return result.errors[0].message
    assert result.data
    return result.data[field]


def variable(field: str, value: object) -> Any:
    query = f"query($v: {TYPES[field]}!) {{ {field}(value: $v) }}"
    result = SCHEMA.execute_sync(query, variable_values={"v": value})
    if result.errors:
        return result.errors[0].message
    assert result.data
    return result.data[field]


@pytest.mark.parametrize("value", [0, 1, -1, MAX_POINTS, -MAX_POINTS])
def test_points_are_whole_numbers_that_javascript_can_hold(value: int) -> None:
    assert variable("points", value) == repr(value)
    assert literal("points", str(value)) == repr(value)
    assert scalars.serialize_points(value) == value


@pytest.mark.parametrize("value", [MAX_POINTS + 1, 10**4000, 1.0, 1.5, True, "1", [1], {"a": 1}])
def test_points_refuse_everything_else_in_a_variable(value: object) -> None:
    assert "Points must be a whole number" in variable("points", value)


@pytest.mark.parametrize("text", ["9007199254740992", "1.0", "1e3", '"1"', "true", "ONE", "9" * 1500])
def test_points_refuse_everything_else_in_a_document(text: str) -> None:
    assert "Points must be a whole number" in literal("points", text)


@pytest.mark.parametrize("value", [True, 1.0, "1", Decimal(1), None, MAX_POINTS + 1])
def test_points_that_are_none_do_not_leave(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        scalars.serialize_points(value)


@pytest.mark.parametrize(
    ("value", "parsed"),
    [("12.50", "12.50"), ("-0.000001", "-0.000001"), ("0", "0"), ("9" * 20, "9" * 20), (7, "7")],
)
def test_decimals_are_exact(value: object, parsed: str) -> None:
    assert variable("decimal", value) == repr(Decimal(parsed))


def test_decimal_literals_are_exact_because_they_are_text() -> None:
    assert literal("decimal", "12.50") == "Decimal('12.50')"
    assert literal("decimal", '"12.50"') == "Decimal('12.50')"
    assert literal("decimal", "12") == "Decimal('12')"


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "Infinity",
        "-inf",
        "1e400000",
        "1E2",
        " 1",
        "1 ",
        "1_000",
        "+1",
        ".5",
        "1.",
        "",
        "1.1234567",
        "9" * 21,
        "٣",
        "0x10",
        "1,5",
        "1\n",
        True,
        [],
        {},
        10**20,
        10**4000,
    ],
)
def test_decimals_refuse_what_is_not_plain_finite_and_bounded(value: object) -> None:
    assert "Decimal must be" in variable("decimal", value)


def test_a_decimal_in_a_json_float_is_told_to_be_a_string() -> None:
    assert "write it as a string" in variable("decimal", 12.5)


@pytest.mark.parametrize("text", ["1e5", "1.1234567", "true", "[1]", '"NaN"'])
def test_decimal_literals_have_the_same_bounds(text: str) -> None:
    assert "Decimal must be" in literal("decimal", text)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_decimals_leave_in_plain_notation(value: Decimal) -> None:
    text = scalars.serialize_decimal(value)
    assert "E" not in text.upper()
    assert Decimal(text) == value


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), 1.5, "1", 1, None])
def test_decimals_that_are_none_do_not_leave(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        scalars.serialize_decimal(value)


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("2026-03-01T09:30:00Z", "2026-03-01T09:30:00+00:00"),
        ("2026-03-01t09:30:00z", "2026-03-01T09:30:00+00:00"),
        ("2026-03-01T09:30:00.25+02:00", "2026-03-01T07:30:00.250000+00:00"),
        ("2026-03-01T00:00:00.123456789-10:30", "2026-03-01T10:30:00.123456+00:00"),
        ("1000-01-01T00:00:00Z", "1000-01-01T00:00:00+00:00"),
    ],
)
def test_instants_come_in_with_any_offset_and_are_kept_in_utc(value: str, parsed: str) -> None:
    assert variable("instant", value) == parsed
    assert literal("instant", f'"{value}"') == parsed


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-01",
        "2026-03-01T09:30:00",
        "2026-03-01 09:30:00Z",
        "2026-13-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "0999-12-31T23:59:59Z",
        "9001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "20260301T093000Z",
        "2026-02-30T00:00:00Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T09:30Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-10:00",
        "2026-03-01T09:30:00+0200",
        "٢٠٢٦-03-01T09:30:00Z",
        "",
        1,
        True,
        None,
        [],
    ],
)
def test_instants_without_an_offset_or_outside_the_calendar_are_refused(value: object) -> None:
    assert "DateTime" in variable("instant", value)


def test_instants_leave_in_utc_with_microseconds_only_where_there_are_some() -> None:
    assert scalars.serialize_date_time(datetime(2026, 3, 1, 9, 30, tzinfo=UTC)) == "2026-03-01T09:30:00Z"
    assert (
        scalars.serialize_date_time(datetime(1, 1, 1, 0, 0, 0, 5, tzinfo=UTC))
        == "0001-01-01T00:00:00.000005Z"
    )
    tokyo = timezone(timedelta(hours=9))
    assert scalars.serialize_date_time(datetime(2026, 3, 1, 9, tzinfo=tokyo)) == "2026-03-01T00:00:00Z"


@pytest.mark.parametrize("value", [datetime(2026, 1, 1), date(2026, 1, 1), "2026-01-01T00:00:00Z", 0, None])
def test_naive_times_do_not_leave(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        scalars.serialize_date_time(value)


@pytest.mark.parametrize(
    "value", ["2026-02-30", "20260301", "2026-3-1", "2026-03-01T00:00:00Z", "", 20260301]
)
def test_days_are_written_one_way(value: object) -> None:
    assert variable("day", "2026-03-01") == "2026-03-01"
    assert "Date must be" in variable("day", value)
    with pytest.raises(TypeError):
        scalars.serialize_date(datetime(2026, 3, 1, tzinfo=UTC))


@pytest.mark.parametrize(("field", "text"), [("instant", "2026"), ("instant", "NOW"), ("day", "20260301")])
def test_numbers_and_names_are_no_dates(field: str, text: str) -> None:
    assert "must be" in literal(field, text)


texts = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=20)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(json_values.filter(lambda value: value is not None))
def test_any_json_value_comes_through_as_it_is(value: object) -> None:
    assert variable("json", value) == value


def test_json_literals_take_variables_inside() -> None:
    query = "query($v: JSON) { json(value: {a: [1, $v, 2.5], b: $v, c: {d: null, e: true}}) }"
    given_value = SCHEMA.execute_sync(query, variable_values={"v": {"x": "y"}})
    assert given_value.data == {
        "json": {"a": [1, {"x": "y"}, 2.5], "b": {"x": "y"}, "c": {"d": None, "e": True}}
    }
    omitted = SCHEMA.execute_sync(query)
    assert omitted.data == {"json": {"a": [1, None, 2.5], "c": {"d": None, "e": True}}}


@pytest.mark.parametrize("text", ["{a: NAME}", "9" * 1500, "1e400", "[" * 30 + "]" * 30])
def test_json_literals_refuse_what_json_does_not_have(text: str) -> None:
    assert "JSON" in literal("json", text)


def test_json_is_bounded_in_depth_and_size() -> None:
    deep: Any = "bottom"
    for _ in range(21):
        deep = [deep]
    assert "20 levels" in variable("json", deep)
    assert variable("json", deep[0]) == deep[0]
    assert "65536 bytes" in variable("json", "x" * 65536)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1: 2}, {"a": Decimal(1)}, [object()], (1,), 2**70]
)
def test_what_json_cannot_say_is_refused_coming_in(value: object) -> None:
    with pytest.raises(GraphQLError):
        scalars.parse_json(value)


@pytest.mark.parametrize("value", [float("nan"), {1: 2}, {"a": Decimal(1)}, (1,)])
def test_what_json_cannot_say_does_not_leave(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        scalars.serialize_json(value)
