"""Cursors: a place in a list, as text that only its own list takes."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson

from app.errors import ErrorCode, refuse
from app.paging import Key, KeyValue

_MAX_CURSOR_LENGTH = 500
_MAX_INT = 2**63
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


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
