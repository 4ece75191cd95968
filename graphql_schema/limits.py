"""What a document may ask for at most, measured before it runs and kept with the document."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    is_list_type,
    value_from_ast_untyped,
)
from graphql.type import GraphQLField, GraphQLNonNull

from app.paging import DEFAULT_SIZE, MAX_SIZE
from app.settings import Settings

QUERY_TOO_COMPLEX = "QUERY_TOO_COMPLEX"

MAX_DOCUMENT_CHARS = 100_000
MAX_DIRECTIVES = 50
MAX_NODES = 100_000

_ENOUGH = 1 << 62


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits on one document; each operation is measured with its fragments written out."""

    depth: int = 12
    aliases: int = 30
    directives: int = MAX_DIRECTIVES
    tokens: int = 2000
    nodes: int = MAX_NODES

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the limits that the settings ask for."""
        return cls(
            depth=settings.max_query_depth,
            aliases=settings.max_query_aliases,
            tokens=settings.max_query_tokens,
        )


def too_complex(message: str, node: OperationDefinitionNode | None = None) -> GraphQLError:
    """Return the error for a document that goes beyond a limit."""
    return GraphQLError(message, node, extensions={"code": QUERY_TOO_COMPLEX})


@dataclass(frozen=True, slots=True)
class _Shape:
    depth: int = 0
    aliases: int = 0
    directives: int = 0


class _Measure:
    """Measures selections; each fragment once, however often and however deep it is spread."""

    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._shapes: dict[str, _Shape] = {}

    def fragment(self, name: str) -> _Shape:
        if name not in self._shapes:
            # Validation refuses cycles and unknown names; until then they count for nothing.
            self._shapes[name] = _Shape()
            if name in self._fragments:
                definition = self._fragments[name]
                self._shapes[name] = self.selections(definition.selection_set, _count(definition.directives))
        return self._shapes[name]

    def selections(self, selections: SelectionSetNode, directives: int = 0) -> _Shape:
        depth = aliases = 0
        for node in selections.selections:
            directives += _count(node.directives)
            if isinstance(node, FieldNode):
                aliases += node.alias is not None
                introspects = node.name.value.startswith("__")
                below = self.selections(node.selection_set) if node.selection_set else _Shape()
                # Introspection has a depth of its own, which graphql-core bounds.
                depth = max(depth, 0 if introspects else below.depth + 1)
            elif isinstance(node, InlineFragmentNode):
                below = self.selections(node.selection_set)
                depth = max(depth, below.depth)
            else:
                assert isinstance(node, FragmentSpreadNode)
                below = self.fragment(node.name.value)
                depth = max(depth, below.depth)
            aliases += below.aliases
            directives += below.directives
        # Fragments in fragments multiply: past a bound the exact number says nothing more.
        return _Shape(depth, min(aliases, _ENOUGH), min(directives, _ENOUGH))


def _count(directives: Iterable[DirectiveNode] | None) -> int:
    return len(tuple(directives or ()))


def check_shape(document: DocumentNode, limits: Limits) -> list[GraphQLError]:
    """Return what is too much in a document that has been parsed and need not be valid."""
    measure = _Measure(document)
    errors = []
    for node in document.definitions:
        if not isinstance(node, OperationDefinitionNode):
            continue
        shape = measure.selections(node.selection_set, _count(node.directives))
        for what, found, limit in (
            ("levels of fields", shape.depth, limits.depth),
            ("aliases", shape.aliases, limits.aliases),
            ("directives", shape.directives, limits.directives),
        ):
            if found > limit:
                counted = str(found) if found < _ENOUGH else "far more"
                message = f"The operation has {counted} {what}, fragments written out; {limit} are allowed."
                errors.append(too_complex(message, node))
    return errors


def _nullable(type_: Any) -> Any:
    return type_.of_type if isinstance(type_, GraphQLNonNull) else type_


class NodeCount:
    """Bounds from above how many objects an operation of a valid document can reach.

    A connection multiplies what is below it by its `first` or `last`, any other list by the
    longest list among its arguments. Variables that are not known count as the largest page.
    """

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode
    ) -> None:
        self._schema = schema
        self._operation = operation
        self._fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._defaults = {
            node.variable.name.value: node.default_value for node in operation.variable_definitions or ()
        }
        self._variables: Mapping[str, Any] | None = None
        self._known: dict[str, int] = {}

    def most(self, variables: Mapping[str, Any] | None = None) -> int:
        """Return the bound; for any values of the variables when they are None."""
        self._variables, self._known = variables, {}
        root = self._schema.get_root_type(self._operation.operation)
        return self._below(self._operation.selection_set, root)

    def _below(self, selections: SelectionSetNode, parent: Any) -> int:
        total = 0
        for node in selections.selections:
            if isinstance(node, FieldNode):
                if not node.name.value.startswith("__"):
                    total += self._field(node, parent)
            elif isinstance(node, InlineFragmentNode):
                condition = node.type_condition
                below = self._schema.type_map[condition.name.value] if condition else parent
                total += self._below(node.selection_set, below)
            else:
                assert isinstance(node, FragmentSpreadNode)
                total += self._fragment(node.name.value)
        return min(total, _ENOUGH)

    def _fragment(self, name: str) -> int:
        if name not in self._known:
            fragment = self._fragments[name]
            type_ = self._schema.type_map[fragment.type_condition.name.value]
            self._known[name] = self._below(fragment.selection_set, type_)
        return self._known[name]

    def _field(self, node: FieldNode, parent: GraphQLObjectType | GraphQLInterfaceType) -> int:
        if node.selection_set is None:
            return 0
        field = parent.fields[node.name.value]
        type_ = get_named_type(field.type)
        # A connection counts as its nodes; edges and the page's facts are no objects of their own.
        own = 0 if parent.name.endswith(("Connection", "Edge")) else 1
        return min(self._times(node, field) * (own + self._below(node.selection_set, type_)), _ENOUGH)

    def _times(self, node: FieldNode, field: GraphQLField) -> int:
        given = {argument.name.value: argument.value for argument in node.arguments or ()}
        if "first" in field.args and "last" in field.args:
            sizes = [self._size(given[name]) for name in ("first", "last") if name in given]
            return max((size for size in sizes if size is not None), default=DEFAULT_SIZE)
        if not is_list_type(_nullable(field.type)):
            return 1
        lists = (value for name, value in given.items() if is_list_type(_nullable(field.args[name].type)))
        return max((self._length(value) for value in lists), default=1)

    def _value(self, node: ValueNode) -> Any:
        if not isinstance(node, VariableNode):
            return node
        name = node.name.value
        if self._variables is not None and name in self._variables:
            return self._variables[name]
        default = self._defaults.get(name)
        return None if default is None else value_from_ast_untyped(default)

    def _size(self, node: ValueNode) -> int | None:
        if isinstance(node, VariableNode) and self._variables is None:
            return MAX_SIZE
        value = self._value(node)
        if isinstance(value, IntValueNode):
            value = int(value.value) if len(value.value) <= 9 else MAX_SIZE
        # What is out of range is refused by the resolver: it only must not count for less here.
        return min(max(value, 0), MAX_SIZE) if isinstance(value, int) else None

    def _length(self, node: ValueNode) -> int:
        if isinstance(node, VariableNode) and self._variables is None:
            return MAX_SIZE
        value = self._value(node)
        if isinstance(value, ListValueNode):
            return len(value.values)
        return len(value) if isinstance(value, list) else 1
