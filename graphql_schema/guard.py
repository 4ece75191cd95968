"""Whether a caller may run an operation: worked out once for the operation, compared on each request.

`Guard.demand` adds up what an operation selects, whether or not @skip or @include let it run.
The sum stays with the operation; a request then costs a comparison of sets.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import strawberry
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
)

from app.access.principal import Principal, PrincipalKind
from app.access.scopes import Scope
from graphql_schema.access import Policy, Reach, UndeclaredAccess, policy_of

UNAUTHENTICATED = "UNAUTHENTICATED"
FORBIDDEN = "FORBIDDEN"


@dataclass(frozen=True, slots=True)
class Demand:
    """What an operation needs in all, with the first field that needs each part of it."""

    scopes: Mapping[tuple[Scope, ...], str]
    """Of each of these tuples a key needs one."""
    keys_only: str | None
    """The first field that members may not read; None when they may read all."""
    credential: bool
    """Whether a credential is needed at all: only introspection needs none."""


def _refusal(code: str, message: str, **extensions: Any) -> GraphQLError:
    return GraphQLError(message, extensions={"code": code, **extensions})


def check(demand: Demand, principal: Principal) -> GraphQLError | None:
    """Return why a caller may not run an operation; None when nothing speaks against it."""
    if not demand.credential:
        return None
    if principal.kind is PrincipalKind.ANONYMOUS:
        return _refusal(UNAUTHENTICATED, "Send a credential: an API key or a member's token.")
    if principal.kind is PrincipalKind.MEMBER:
        if demand.keys_only is None:
            return None
        return _refusal(FORBIDDEN, f"{demand.keys_only} is not open to a member's token.")
    for scopes, coordinate in demand.scopes.items():
        if principal.scopes.isdisjoint(scopes):
            names = " or ".join(scopes)
            message = f"{coordinate} needs the scope {names}, which the credential lacks."
            return _refusal(FORBIDDEN, message, scope=" | ".join(scopes))
    return None


def readable(info: strawberry.Info[Any, Any], type_name: str) -> bool:
    """Tell whether a resolver may hand out an object of a type that only the object's id tells.

    Raises:
        KeyError: the schema has no such type, or it has no id.
    """
    schema: Any = info.schema
    return check(schema.guard.type_policy(type_name), info.context.principal) is None


class Guard:
    """The policies of one schema.

    Raises:
        UndeclaredAccess: a field of an object type or interface has no policy, a root field
            inherits one, or a field that is no interface's is `BY_TYPE`.
    """

    def __init__(self, schema: GraphQLSchema) -> None:
        roots = {schema.query_type, schema.mutation_type, schema.subscription_type}
        self._schema = schema
        self._policies: dict[tuple[str, str], tuple[Policy, ...]] = {}
        for type_ in schema.type_map.values():
            if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType) and not type_.name.startswith(
                "__"
            ):
                for name in type_.fields:
                    self._policies[type_.name, name] = (_declared(type_, name, type_ in roots),)
        for type_ in schema.type_map.values():
            if isinstance(type_, GraphQLInterfaceType):
                for name in type_.fields:
                    self._policies[type_.name, name] = self._through(type_, name)

    def _through(self, interface: GraphQLInterfaceType, name: str) -> tuple[Policy, ...]:
        """Return what a field of an interface needs: its own, and what it needs on any type behind it."""
        own = self._policies[interface.name, name]
        behind = [
            (type_, self._policies[type_.name, name][0])
            for type_ in self._schema.get_possible_types(interface)
        ]
        if own[0].reach is not Reach.TYPE:
            return tuple(dict.fromkeys((*own, *(policy for _, policy in behind))))
        for type_, policy in behind:
            if policy.reach is not Reach.HERE:
                raise UndeclaredAccess(
                    f"{type_.name}.{name} has to say what the type needs: {interface.name} asks"
                )
        return own

    def type_policy(self, type_name: str) -> Demand:
        """Return what a type as a whole needs: what it takes to read the `id` of one.

        Raises:
            KeyError: the schema has no such type, or it has no id.
        """
        return _add_up([(f"{type_name}.id", self._policies[type_name, "id"])])

    def demand(self, document: DocumentNode, operation: OperationDefinitionNode) -> Demand:
        """Return what a valid operation needs in all."""
        fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        root = self._schema.get_root_type(operation.operation)
        assert root is not None, "only valid operations are looked at"
        return _add_up(self._selected(operation.selection_set, root, fragments, set()))

    def _selected(
        self,
        selections: SelectionSetNode,
        parent: Any,
        fragments: Mapping[str, FragmentDefinitionNode],
        seen: set[str],
    ) -> Iterable[tuple[str, tuple[Policy, ...]]]:
        for node in selections.selections:
            if isinstance(node, FieldNode):
                name = node.name.value
                if name.startswith("__"):
                    continue
                yield f"{parent.name}.{name}", self._policies[parent.name, name]
                if node.selection_set:
                    below = get_named_type(parent.fields[name].type)
                    yield from self._selected(node.selection_set, below, fragments, seen)
            elif isinstance(node, InlineFragmentNode):
                condition = node.type_condition
                below = self._schema.type_map[condition.name.value] if condition else parent
                yield from self._selected(node.selection_set, below, fragments, seen)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
                seen.add(node.name.value)
                fragment = fragments[node.name.value]
                below = self._schema.type_map[fragment.type_condition.name.value]
                yield from self._selected(fragment.selection_set, below, fragments, seen)


def _declared(type_: GraphQLObjectType | GraphQLInterfaceType, name: str, root: bool) -> Policy:
    declared = type_.fields[name].extensions.get("strawberry-definition")
    policy = policy_of(declared)
    if policy is None:
        raise UndeclaredAccess(f"{type_.name}.{name} does not say who may read it")
    if root and policy.reach is not Reach.HERE:
        raise UndeclaredAccess(f"{type_.name}.{name} is a root field, and can inherit from nothing")
    if policy.reach is Reach.TYPE and not isinstance(type_, GraphQLInterfaceType):
        raise UndeclaredAccess(f"{type_.name}.{name} is BY_TYPE, which only fields of interfaces can be")
    return policy


def _add_up(selected: Iterable[tuple[str, tuple[Policy, ...]]]) -> Demand:
    scopes: dict[tuple[Scope, ...], str] = {}
    keys_only: str | None = None
    credential = False
    for coordinate, policies in selected:
        credential = True
        for policy in policies:
            if policy.reach is not Reach.HERE:
                continue
            if policy.scopes:
                scopes.setdefault(policy.scopes, coordinate)
            if not policy.member and keys_only is None:
                keys_only = coordinate
    return Demand(scopes, keys_only, credential)
