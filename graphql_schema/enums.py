"""Enums of the domain, as the API shows them: every value described."""

from enum import Enum
from typing import TypeVar

import strawberry

E = TypeVar("E", bound=type[Enum])


def enum_type(enum: E, *, description: str, values: dict[str, str], name: str | None = None) -> E:
    """Make an enum of the domain part of the schema, under its own name or another.

    Args:
        values: the description of each value; none may be missing.
    """
    assert values.keys() == enum.__members__.keys(), f"describe every value of {enum.__name__}"
    strawberry.enum(enum, name=name, description=description)
    for value in enum.__strawberry_definition__.values:  # type: ignore[attr-defined]
        value.description = values[value.name]
    return enum
