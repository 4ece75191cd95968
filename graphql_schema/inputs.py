"""From input objects to what services take."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import strawberry
from strawberry.types.arguments import InputContext
from strawberry.types.base import (
    StrawberryList,
    StrawberryMaybe,
    StrawberryOptional,
    has_object_definition,
)
from strawberry.types.lazy_type import LazyType

from app.members import reads
from graphql_schema.nodes import key_of

Class = TypeVar("Class", bound=type)
_Convert = Callable[[Any], Any]


def planned(cls: Class) -> Class:
    """Have an input type filled by a plan that is made once; for a decorator above `strawberry.input`.

    Strawberry works out the name and the type of each field anew for each object, which takes most
    of the time of a request with many. What comes out is the same; tests compare the two.
    """
    plan: _Convert | None = None

    def fill(type_: type, value: Mapping[str, Any], context: InputContext) -> Any:
        nonlocal plan
        if plan is None:
            plan = _filling(type_, context)
        return plan(value)

    cls.__strawberry_definition__.from_input = fill  # type: ignore[attr-defined]
    return cls


def _filling(cls: Any, context: InputContext) -> _Convert:
    """Return what makes an object of an input type of what graphql-core has checked and coerced."""
    definition = cls.__strawberry_definition__
    steps = []
    for field in definition.fields:
        type_ = field.resolve_type(type_definition=definition)
        name = context.config.name_converter.from_field(field)
        steps.append((name, field.python_name, _converting(type_, context)))
    # What a nullable field without a default has when it is left out.
    left_out = {
        field.python_name: None
        for field in definition.fields
        if field.default_value is MISSING and field.default_factory is MISSING
    }

    def fill(value: Mapping[str, Any]) -> Any:
        filled: dict[str, Any] = left_out.copy()
        for name, python_name, convert in steps:
            if name in value:
                part = value[name]
                if convert is not None and part is not None and part is not strawberry.UNSET:
                    part = convert(part)
                filled[python_name] = part
        return cls(**filled)

    return fill


def _converting(type_: Any, context: InputContext) -> _Convert | None:
    """Return what converts a value of a type that is there; None where it stays what it is."""
    assert not isinstance(type_, StrawberryMaybe), "inputs tell what was left out by UNSET"
    while isinstance(type_, StrawberryOptional | LazyType):
        type_ = type_.of_type if isinstance(type_, StrawberryOptional) else type_.resolve_type()
    if isinstance(type_, StrawberryList):
        convert = _converting(type_.of_type, context)
        if convert is None:
            # A copy, for graphql-core hands the same default to everybody.
            return list
        return lambda values: [None if each is None else convert(each) for each in values]
    # Enums have a definition of another kind.
    return _filling(type_, context) if has_object_definition(type_) else None


def given(input: Any) -> dict[str, Any]:
    """Return the fields of an input that have a value, null left out: what a new object is made of."""
    return {name: value for name, value in changes(input).items() if value is not None}


def changes(input: Any) -> dict[str, Any]:
    """Return the fields of an input that were sent, null included: what an update changes."""
    return {
        each.name: value
        for each in fields(input)
        if (value := getattr(input, each.name)) is not strawberry.UNSET
    }


@planned
@strawberry.input(one_of=True, description="Names a member in one way.")
class MemberRef:
    id: strawberry.ID | None = strawberry.field(description="The member's id here.", default=strawberry.UNSET)
    external_id: str | None = strawberry.field(
        description="The member's id in your own systems.", default=strawberry.UNSET
    )
    email: str | None = strawberry.field(
        description="The member's e-mail address; upper and lower case are the same.",
        default=strawberry.UNSET,
    )

    def value(self) -> reads.MemberRef:
        """Return the reference for services; an id that is none of a member names nobody."""
        if self.external_id is not strawberry.UNSET:
            return reads.MemberRef(external_id=self.external_id)
        if self.email is not strawberry.UNSET:
            return reads.MemberRef(email=self.email)
        return reads.MemberRef(id=key_of(self.id or "", "Member"))
