"""The scalars of the schema: strict in what they take, and exact in what they give.

A value that a client sent wrong raises GraphQLError, which the client sees. A value that
Laurel itself got wrong raises TypeError or ValueError, which ends up in the log.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NewType, NoReturn, TypeVar

import orjson
import strawberry
from graphql import (
    BooleanValueNode,
    FloatValueNode,
    GraphQLError,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    StringValueNode,
    Undefined,
    ValueNode,
    VariableNode,
)
from strawberry.types.scalar import ScalarDefinition

Points = NewType("Points", int)
JSON = NewType("JSON", object)
T = TypeVar("T")

MAX_POINTS = 2**53 - 1
MAX_INTEGER_DIGITS = 20
MAX_DECIMAL_PLACES = 6
MAX_JSON_DEPTH = 20
MAX_JSON_BYTES = 64 * 1024

_DECIMAL = re.compile(rf"-?[0-9]{{1,{MAX_INTEGER_DIGITS}}}(\.[0-9]{{1,{MAX_DECIMAL_PLACES}}})?", re.ASCII)
_DATE_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

_POINTS = "Points must be a whole number between -(2^53 - 1) and 2^53 - 1"
_DECIMALS = (
    f"Decimal must be a string of at most {MAX_INTEGER_DIGITS} digits before"
    f' and {MAX_DECIMAL_PLACES} after the point, such as "12.50"'
)
_FIRST_YEAR, _LAST_YEAR = 1000, 9000
_DATE_TIMES = (
    'DateTime must be RFC 3339 with an offset, such as "2026-03-01T09:30:00Z",'
    f" between the years {_FIRST_YEAR} and {_LAST_YEAR}"
)
_DATES = 'Date must be a day written YYYY-MM-DD, such as "2026-03-01"'


def _reject(expected: str, value: object) -> NoReturn:
    # Python refuses to write out thousands of digits.
    huge = isinstance(value, int) and value.bit_length() > 128
    shown = "a far larger number" if huge else value if isinstance(value, str) else repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
    raise GraphQLError(f"{expected}; got {shown}.")


def _show(node: ValueNode) -> str:
    return str(getattr(node, "value", node.kind))


def serialize_points(value: object) -> int:
    """Return points for an answer. Raises TypeError or ValueError for what are no points."""
    if type(value) is not int:
        raise TypeError(f"points are an int, not {value!r}")
    if not -MAX_POINTS <= value <= MAX_POINTS:
        raise ValueError(f"points out of range: {value}")
    return value


def parse_points(value: object) -> Points:
    """Return the points in a variable: a JSON integer in range. Raises GraphQLError."""
    if type(value) is not int or not -MAX_POINTS <= value <= MAX_POINTS:
        _reject(_POINTS, value)
    return Points(value)


def _parse_points_literal(node: ValueNode, _variables: object = None) -> Points:
    # The text is measured first: Python refuses to turn thousands of digits into an integer.
    if not isinstance(node, IntValueNode) or len(node.value) > 17:
        _reject(_POINTS, _show(node))
    return parse_points(int(node.value))


def serialize_decimal(value: object) -> str:
    """Return a decimal in plain notation with the places it has. Raises TypeError or ValueError."""
    if type(value) is not Decimal:
        raise TypeError(f"a decimal is a Decimal, not {value!r}")
    if not value.is_finite():
        raise ValueError(f"a decimal is finite, not {value}")
    return format(value, "f")


def parse_decimal(value: object) -> Decimal:
    """Return the decimal in a variable: a string in plain notation, or an integer.

    Raises:
        GraphQLError: it is neither, too long, or a JSON float, which cannot be exact.
    """
    if isinstance(value, str):
        if _DECIMAL.fullmatch(value):
            return Decimal(value)
        _reject(_DECIMALS, value)
    if type(value) is int:
        if abs(value) < 10**MAX_INTEGER_DIGITS:
            return Decimal(value)
        raise GraphQLError(f"{_DECIMALS}; the number is too large.")
    if isinstance(value, float):
        _reject("Decimal must be exact: write it as a string", value)
    _reject(_DECIMALS, value)


def _parse_decimal_literal(node: ValueNode, _variables: object = None) -> Decimal:
    # A literal's source text is exact, so a number with a point is taken here and not in variables.
    if isinstance(node, StringValueNode | IntValueNode | FloatValueNode):
        return parse_decimal(node.value)
    _reject(_DECIMALS, _show(node))


def serialize_date_time(value: object) -> str:
    """Return an instant in UTC, ending in Z. Raises TypeError or ValueError for naive times."""
    if not isinstance(value, datetime):
        raise TypeError(f"an instant is a datetime, not {value!r}")
    if value.tzinfo is not UTC:
        if value.utcoffset() is None:
            raise ValueError(f"an instant has an offset: {value!r}")
        value = value.astimezone(UTC)
    return f"{value.isoformat()[:-6]}Z"


def parse_date_time(value: object) -> datetime:
    """Return the instant in a variable, in UTC. Raises GraphQLError for anything but RFC 3339."""
    if not isinstance(value, str) or not _DATE_TIME.fullmatch(value):
        _reject(_DATE_TIMES, value)
    try:
        # Python keeps microseconds: digits beyond them are cut off, as PostgreSQL would round them.
        instant = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        _reject(_DATE_TIMES, value)
    # The ends of the calendar mean "infinity" to PostgreSQL, and calculations need room around a time.
    if not _FIRST_YEAR <= instant.year <= _LAST_YEAR:
        _reject(_DATE_TIMES, value)
    return instant


def serialize_date(value: object) -> str:
    """Return a day as YYYY-MM-DD. Raises TypeError for instants and anything else."""
    if type(value) is not date:
        raise TypeError(f"a day is a date, not {value!r}")
    return value.isoformat()


def parse_date(value: object) -> date:
    """Return the day in a variable. Raises GraphQLError for anything but YYYY-MM-DD."""
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        _reject(_DATES, value)
    try:
        return date.fromisoformat(value)
    except ValueError:
        _reject(_DATES, value)


def _check_json(value: object, depth: int = 0) -> None:
    """Raise ValueError for what is not JSON or is nested too deeply."""
    if depth > MAX_JSON_DEPTH:
        raise ValueError(f"JSON may be nested {MAX_JSON_DEPTH} levels deep")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError("JSON has text for keys")
            _check_json(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_json(item, depth + 1)
    elif isinstance(value, float):
        if not (value - value == 0):
            raise ValueError("JSON has no NaN and no Infinity")
    elif not isinstance(value, str | int | None):
        raise ValueError(f"JSON has no {type(value).__name__}")


def serialize_json(value: object) -> object:
    """Return a JSON value as it is. Raises ValueError for what JSON cannot say."""
    _check_json(value)
    return value


def parse_json(value: object) -> JSON:
    """Return any JSON value of at most 64 KiB and 20 levels. Raises GraphQLError."""
    try:
        _check_json(value)
        size = len(orjson.dumps(value))
    except (ValueError, TypeError) as error:
        raise GraphQLError(f"{error}.") from None
    if size > MAX_JSON_BYTES:
        raise GraphQLError(f"JSON may have {MAX_JSON_BYTES} bytes; this has {size}.")
    return JSON(value)


def _json_literal(node: ValueNode, variables: Mapping[str, Any]) -> object:
    """Return what a literal says; Undefined for a variable without a value, as while validating."""
    if isinstance(node, VariableNode):
        return variables.get(node.name.value, Undefined)
    if isinstance(node, ObjectValueNode):
        entries = ((entry.name.value, _json_literal(entry.value, variables)) for entry in node.fields)
        return {name: value for name, value in entries if value is not Undefined}
    if isinstance(node, ListValueNode):
        items = (_json_literal(item, variables) for item in node.values)
        return [None if item is Undefined else item for item in items]
    if isinstance(node, NullValueNode):
        return None
    if isinstance(node, IntValueNode) and len(node.value) <= 20:
        return int(node.value)
    if isinstance(node, FloatValueNode):
        return float(node.value)
    if isinstance(node, StringValueNode | BooleanValueNode):
        return node.value
    _reject("JSON must be an object, a list, a string, a number, true, false or null", _show(node))


def _parse_json_literal(node: ValueNode, variables: Mapping[str, Any] | None = None) -> JSON:
    value = _json_literal(node, variables or {})
    return parse_json(None if value is Undefined else value)


def _text_literal(parse: Callable[[object], T], expected: str) -> Callable[..., T]:
    def parse_literal(node: ValueNode, _variables: object = None) -> T:
        # Numbers and enum names carry their text as well, and are not strings.
        if not isinstance(node, StringValueNode):
            _reject(expected, _show(node))
        return parse(node.value)

    return parse_literal


_RFC_3339 = "https://datatracker.ietf.org/doc/html/rfc3339"

SCALARS: dict[object, ScalarDefinition] = {
    Points: strawberry.scalar(
        name="Points",
        description="Whole points: a JSON integer between -(2^53 - 1) and 2^53 - 1.",
        serialize=serialize_points,
        parse_value=parse_points,
        parse_literal=_parse_points_literal,
    ),
    Decimal: strawberry.scalar(
        name="Decimal",
        description=(
            'An exact decimal number, written as a string: "12.50". At most '
            f"{MAX_INTEGER_DIGITS} digits before the point and {MAX_DECIMAL_PLACES} after it."
        ),
        serialize=serialize_decimal,
        parse_value=parse_decimal,
        parse_literal=_parse_decimal_literal,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="RFC 3339 with an offset; answers are in UTC.",
        specified_by_url=_RFC_3339,
        serialize=serialize_date_time,
        parse_value=parse_date_time,
        parse_literal=_text_literal(parse_date_time, _DATE_TIMES),
    ),
    date: strawberry.scalar(
        name="Date",
        description="A day of the calendar, written YYYY-MM-DD.",
        specified_by_url=f"{_RFC_3339}#section-5.6",
        serialize=serialize_date,
        parse_value=parse_date,
        parse_literal=_text_literal(parse_date, _DATES),
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value, of at most 64 KiB and nested at most 20 levels deep.",
        specified_by_url="https://datatracker.ietf.org/doc/html/rfc8259",
        serialize=serialize_json,
        parse_value=parse_json,
        parse_literal=_parse_json_literal,
    ),
}
"""What `StrawberryConfig.scalar_map` takes."""
