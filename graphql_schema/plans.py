"""What the fast executor works out once: how each field of a selection set is read and completed."""

from collections.abc import Callable
from enum import EnumMeta
from functools import lru_cache
from types import CoroutineType, GeneratorType, WrapperDescriptorType
from typing import Any, NamedTuple

from graphql import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLID,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLString,
    Undefined,
    is_leaf_type,
)
from strawberry.types.cast import TYPE_CAST_ATTRIBUTE

_SPECIFIED = (GraphQLString, GraphQLID, GraphQLBoolean)
_SAME = {"String": str, "ID": str, "Boolean": bool}
LISTS = frozenset({list, tuple})
DONE = frozenset({dict, list, type(None)})
"""The classes of completed values, which are not worth asking whether they can be awaited."""

_TELLING = {"__await__", "__getattr__", "__getattribute__"}
_MAX_KNOWN_CLASSES = 10_000
_known_classes: dict[type, bool] = {}


def is_plain(cls: type) -> bool:
    """Tell whether instances of a class can be neither awaited nor raised nor be `Undefined`."""
    known = _known_classes.get(cls)
    if known is None:
        if len(_known_classes) >= _MAX_KNOWN_CLASSES:
            _known_classes.clear()
        # What counts is what instances have, so the classes' own class is left out of the search.
        found = {
            name: base.__dict__[name] for base in cls.__mro__[::-1] for name in _TELLING & vars(base).keys()
        }
        known = _known_classes[cls] = not (
            issubclass(cls, BaseException | CoroutineType | GeneratorType)
            or cls is type(Undefined)
            or "__await__" in found
            # A class that makes up its attributes may make up that one for an instance.
            or "__getattr__" in found
            or not isinstance(found["__getattribute__"], WrapperDescriptorType)
        )
    return known


class Read:
    """Stands for an object of which one attribute has been read: whichever is asked for, this is it."""

    __slots__ = ("outcome",)

    def __init__(self, value: Any = None, error: Exception | None = None) -> None:
        object.__setattr__(self, "outcome", (value, error))

    def __getattribute__(self, _name: str) -> Any:
        value, error = object.__getattribute__(self, "outcome")
        if error is not None:
            raise error
        return value


LEAF, OBJECT, LIST, CONSTANT, REFERENCE = range(5)


class Step(NamedTuple):
    """How one field of a selection set is read and completed."""

    name: str
    details: Any
    kind: int
    attribute: str = ""
    nullable: bool = True
    same: type | None = None
    """The class whose values are leaves as they are."""
    complete: Any = None
    """What turns a value into a leaf; the field's definition for objects; a constant itself."""


class PlanCache:
    """Plans, with the collected fields that they belong to.

    Collected fields are known by their identity, so they are kept here as long as their plans.
    """

    __slots__ = ("plans", "root", "subfields")

    def __init__(self) -> None:
        self.root: Any = None
        self.subfields: dict[Any, Any] = {}
        self.plans: dict[tuple[int, GraphQLObjectType], tuple[Any, list[Step]]] = {}


def nullable_type(type_: Any) -> Any:
    return type_.of_type if isinstance(type_, GraphQLNonNull) else type_


def _enum_names(enum: Any) -> Callable[[Any], Any]:
    """Return a faster way to the name of an enum's value, where there is one."""
    reference: Callable[[Any], Any] = enum.coerce_output_value
    members: Any = getattr(enum, "wrapped_cls", None)
    if not isinstance(members, EnumMeta):
        return reference
    # Asking the reference for each member keeps every peculiarity of how it names them.
    names: dict[int, Any] = {}
    member: Any
    for member in members:
        try:
            names[id(member)] = reference(member)
        except Exception:
            return reference

    def complete(value: Any) -> Any:
        # By identity, because members that mix in str or int are equal to other values.
        return names.get(id(value)) if type(value) is members else reference(value)

    return complete


def _complete_int(value: Any) -> Any:
    if type(value) is int and -0x8000_0000 <= value <= 0x7FFF_FFFF:
        return value
    return GraphQLInt.coerce_output_value(value)


@lru_cache(maxsize=1000)
def _leaf(type_: Any) -> tuple[type | None, Callable[[Any], Any]]:
    """Return the class of values that are leaves as they are, and what completes the others."""
    if isinstance(type_, GraphQLEnumType):
        return None, _enum_names(type_)
    if type_ is GraphQLInt:
        return None, _complete_int
    return _SAME.get(type_.name if type_ in _SPECIFIED else ""), type_.coerce_output_value


def leaves_of(type_: Any, nullable: bool, items: Any) -> list[Any] | None:
    """Return a list's completed leaves; None when one is out of the ordinary, for the reference."""
    same, complete = _leaf(type_)
    leaves: list[Any] = []
    for item in items:
        if type(item) is same or (item is None and nullable):
            leaves.append(item)
            continue
        if item is None or not is_plain(type(item)):
            return None
        try:
            leaf = complete(item)
        except Exception:
            return None
        if leaf is None or leaf is Undefined:
            return None
        leaves.append(leaf)
    return leaves


def is_own(type_: Any, value: Any) -> bool:
    """Tell whether Strawberry's `is_type_of` says yes because a value is of the type's own class."""
    definition = type_.extensions.get("strawberry-definition")
    return (
        definition is not None
        and definition.is_type_of is None
        and type(value) is definition.origin
        and getattr(value, TYPE_CAST_ATTRIBUTE, None) is None
    )


def plan_field(schema: GraphQLSchema, parent_type: Any, name: str, details: Any) -> Step:
    """Return how a field of a selection set is to be executed on a type."""
    node = details[0].node
    reference = Step(name, details, REFERENCE)
    field = schema.get_field(parent_type, node.name.value)
    if field is None or field.args or node.arguments:
        return reference
    if node.name.value == "__typename":
        return Step(name, details, CONSTANT, complete=parent_type.name)
    declared: Any = field.extensions.get("strawberry-definition")
    # The name tells Strawberry's plain getter from resolvers that only look like the default.
    if (
        getattr(field.resolve, "__name__", "") != "_get_basic_result"
        or not declared.is_basic_field
        or declared.default_resolver is not getattr
    ):
        return reference
    nullable = not isinstance(field.type, GraphQLNonNull)
    inner = nullable_type(field.type)
    if is_leaf_type(inner):
        same, complete = _leaf(inner)
        return Step(name, details, LEAF, declared.python_name, nullable, same, complete)
    if isinstance(inner, GraphQLObjectType | GraphQLList):
        kind = OBJECT if isinstance(inner, GraphQLObjectType) else LIST
        return Step(name, details, kind, declared.python_name, nullable, None, field)
    return reference
