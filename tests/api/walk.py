"""Every way through the schema to every field, as operations that can be sent."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InterfaceTypeDefinitionNode,
    ObjectTypeDefinitionNode,
    get_named_type,
    is_leaf_type,
    is_list_type,
    is_required_argument,
    is_required_input_field,
    parse,
)
from graphql.type import GraphQLNonNull

from graphql_schema.root import laurel_schema

LITERALS = {
    "ID": '"none"',
    "String": '"text"',
    "Int": "1",
    "Float": "1.5",
    "Boolean": "true",
    "Points": "1",
    "Decimal": '"1"',
    "DateTime": '"2026-03-01T09:30:00Z"',
    "Date": '"2026-03-01"',
    "JSON": "{}",
}
# What the client's key does not know, and the shortest way to name it.
ONE_OF = {
    "MemberRef": '{externalId: "nobody"}',
    "EventRef": '{externalId: "nothing"}',
    "StoreRef": '{externalId: "nowhere"}',
}


@dataclass(frozen=True)
class Need:
    """What `@requires` says that a field needs: one of the scopes, and whether a member will do."""

    scopes: frozenset[str]
    member: bool


@dataclass(frozen=True)
class Step:
    """One field on the way, and the object type that it leads to."""

    parent: str
    field: str
    leads_to: str


@dataclass(frozen=True)
class Way:
    """A way from a root field to one field of an object type."""

    operation: str
    steps: tuple[Step, ...]
    type_name: str
    field: str

    @property
    def coordinate(self) -> str:
        return f"{self.type_name}.{self.field}"

    def __str__(self) -> str:
        return f"{'.'.join(step.field for step in self.steps)}.{self.coordinate}".lstrip(".")


@cache
def schema() -> GraphQLSchema:
    """Return the product's schema as clients see it."""
    return laurel_schema()._schema


@cache
def needs() -> dict[tuple[str, str], Need]:
    """Return what `@requires` says of each field in the exported schema; those that inherit are missing."""
    found: dict[tuple[str, str], Need] = {}
    for definition in parse(laurel_schema().as_str()).definitions:
        if not isinstance(definition, ObjectTypeDefinitionNode | InterfaceTypeDefinitionNode):
            continue
        for field in definition.fields or ():
            for directive in field.directives or ():
                if directive.name.value == "requires":
                    said: dict[str, Any] = {each.name.value: each.value for each in directive.arguments}
                    if "inherited" in said:
                        continue
                    scopes = said["scope"].value.split(" | ") if "scope" in said else ()
                    need = Need(frozenset(scopes), said["member"].value)
                    found[definition.name.value, field.name.value] = need
    return found


def literal(type_: Any) -> str:
    """Return a value of an input type that is good enough to reach the resolver."""
    type_ = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
    if is_list_type(type_):
        return f"[{literal(type_.of_type)}]"
    if isinstance(type_, GraphQLEnumType):
        return next(iter(type_.values))
    if isinstance(type_, GraphQLInputObjectType):
        if type_.name in ONE_OF:
            return ONE_OF[type_.name]
        fields = {name: each.type for name, each in type_.fields.items() if is_required_input_field(each)}
        # Of @oneOf inputs, none of whose fields is required, the first.
        fields = fields or dict([(name, each.type) for name, each in type_.fields.items()][:1])
        return "{" + ", ".join(f"{name}: {literal(each)}" for name, each in fields.items()) + "}"
    return LITERALS[type_.name]


def arguments(args: dict[str, GraphQLArgument]) -> str:
    """Return the required arguments of a field as a client writes them."""
    given = [f"{name}: {literal(arg.type)}" for name, arg in args.items() if is_required_argument(arg)]
    return f"({', '.join(given)})" if given else ""


def _leads_to(field: GraphQLField) -> list[GraphQLObjectType]:
    """Return the object types that a field can lead to; none for plain values."""
    named = get_named_type(field.type)
    if isinstance(named, GraphQLInterfaceType):
        return list(schema().get_possible_types(named))
    return [named] if isinstance(named, GraphQLObjectType) else []


def object_types() -> list[GraphQLObjectType]:
    """Return all object types but those of introspection.

    What is subscribed to does not come over HTTP: tests/api/test_subscriptions.py walks it.
    """
    return [
        type_
        for type_ in schema().type_map.values()
        if isinstance(type_, GraphQLObjectType) and not type_.name.startswith(("__", "Subscription"))
    ]


@cache
def _shortest() -> dict[str, tuple[str, tuple[Step, ...]]]:
    """Return the shortest way to each object type: the operation, and the fields to go through."""
    found: dict[str, tuple[str, tuple[Step, ...]]] = {"Query": ("query", ()), "Mutation": ("mutation", ())}
    queue = deque(found)
    while queue:
        name = queue.popleft()
        operation, steps = found[name]
        type_ = schema().type_map[name]
        assert isinstance(type_, GraphQLObjectType)
        for field_name, field in type_.fields.items():
            for target in _leads_to(field):
                if target.name not in found:
                    found[target.name] = (operation, (*steps, Step(name, field_name, target.name)))
                    queue.append(target.name)
    return found


def ways() -> Iterator[Way]:
    """Return a way to every field of every object type through every field that leads to its type."""
    shortest = _shortest()
    for type_ in object_types():
        if type_.name in ("Query", "Mutation"):
            for name in type_.fields:
                yield Way(type_.name.lower(), (), type_.name, name)
            continue
        for parent in object_types():
            operation, steps = shortest[parent.name]
            for field_name, field in parent.fields.items():
                if type_ in _leads_to(field):
                    way = (*steps, Step(parent.name, field_name, type_.name))
                    for name in type_.fields:
                        yield Way(operation, way, type_.name, name)


def document(way: Way) -> str:
    """Return the operation that goes a way and selects the field at its end."""
    type_ = schema().type_map[way.type_name]
    assert isinstance(type_, GraphQLObjectType)
    field = type_.fields[way.field]
    inner = way.field + arguments(field.args)
    if not is_leaf_type(get_named_type(field.type)):
        inner += " { __typename }"
    for step in reversed(way.steps):
        parent = schema().type_map[step.parent]
        assert isinstance(parent, GraphQLObjectType)
        through = parent.fields[step.field]
        if isinstance(get_named_type(through.type), GraphQLInterfaceType):
            inner = f"... on {step.leads_to} {{ {inner} }}"
        inner = f"{step.field}{arguments(through.args)} {{ {inner} }}"
    return f"{way.operation} {{ {inner} }}"


def demands(way: Way) -> list[Need]:
    """Return what the directives on a way ask for, the field's own last; empty for one that asks nothing."""
    places = [(step.parent, step.field) for step in way.steps] + [(way.type_name, way.field)]
    return [needs()[place] for place in places if place in needs()]


HERE = "\0"
"""Stands in a document for the value that is tried."""

ANY_NODE = """{
    __typename id ... on Program { slug } ... on Member { email } ... on Event { data }
    ... on LedgerEntry { reason } ... on Award { steps { label } } ... on EarningRule { ruleName: name }
    ... on Refund { refunded: amount } ... on Store { storeName: name }
    ... on Tier { tierName: name } ... on Campaign { campaignName: name }
    ... on Reward { rewardName: name } ... on Redemption { orderId codes }
}"""
"""Something of every type that members may read."""

REFERENCES = {"ID", "MemberRef", "EventRef", "StoreRef"}
CURSORS = {"after", "before"}


@dataclass(frozen=True)
class Place:
    """Where a client names something that may be another's: a root field, and a path in its arguments."""

    operation: str
    field: str
    path: tuple[str, ...]
    kind: str
    """ID, MemberRef, EventRef, StoreRef or cursor."""

    def __str__(self) -> str:
        return ".".join((self.field, *self.path))

    def document(self, value: str) -> str:
        """Return an operation that has a value, written as a literal, in this place."""
        root = schema().type_map[self.operation.capitalize()]
        assert isinstance(root, GraphQLObjectType)
        field = root.fields[self.field]
        given = []
        for name, arg in field.args.items():
            if name == self.path[0]:
                given.append(f"{name}: {_with(arg.type, self.path[1:])}")
            elif is_required_argument(arg):
                given.append(f"{name}: {literal(arg.type)}")
        body = selection(field.type)
        return f"{self.operation} {{ {self.field}({', '.join(given)}) {body} }}".replace(HERE, value)


def _with(type_: Any, path: tuple[str, ...]) -> str:
    """Return a literal of a type with HERE at the end of a path."""
    type_ = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
    if is_list_type(type_):
        return f"[{_with(type_.of_type, path)}]"
    if not path:
        return HERE
    assert isinstance(type_, GraphQLInputObjectType)
    fields = {
        name: literal(each.type) for name, each in type_.fields.items() if is_required_input_field(each)
    }
    fields[path[0]] = _with(type_.fields[path[0]].type, path[1:])
    return "{" + ", ".join(f"{name}: {value}" for name, value in fields.items()) + "}"


def _references(type_: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    named = get_named_type(type_)
    if named.name in REFERENCES:
        yield path, named.name
    elif path[-1] in CURSORS and len(path) == 1:
        yield path, "cursor"
    elif isinstance(named, GraphQLInputObjectType):
        for name, field in named.fields.items():
            yield from _references(field.type, (*path, name))


def places() -> list[Place]:
    """Return every place of every root field where a client names an object or a place in a list."""
    return [
        Place(root.lower(), name, path, kind)
        for root in ("Query", "Mutation")
        for name, field in schema().type_map[root].fields.items()  # type: ignore[attr-defined]
        for argument, arg in field.args.items()
        for path, kind in _references(arg.type, (argument,))
    ]


def selection(type_: Any, depth: int = 4) -> str:
    """Return a selection of everything down to a depth; empty for plain values."""
    named = get_named_type(type_)
    if isinstance(named, GraphQLInterfaceType):
        return ANY_NODE
    if not isinstance(named, GraphQLObjectType):
        return ""
    parts = ["__typename"]
    for name, field in named.fields.items():
        if is_leaf_type(get_named_type(field.type)):
            parts.append(name)
        elif depth > 1 and name != "edges":
            parts.append(f"{name} {selection(field.type, depth - 1)}")
    return "{ " + " ".join(parts) + " }"
