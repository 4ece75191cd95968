"""How a field says who may read it: with its type, or for itself.

Each field says what it needs, and shows it as `@requires` in the schema; graphql_schema/guard.py
checks it, and keeps a schema from being built in which a field says nothing.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar, dataclass_transform

import strawberry
from strawberry.schema_directive import Location
from strawberry.types.field import StrawberryField

from app.access.scopes import Scope

_METADATA = "laurel.policy"
_OR_MEMBER = ", or the member's own token"

Class = TypeVar("Class", bound=type)

Scopes = Scope | tuple[Scope, ...]
"""One scope, or several of which any will do."""


class _NOTHING:
    fields: tuple[()] = ()


class Reach(Enum):
    """Where what a field needs is written down."""

    HERE = "here"
    PARENT = "parent"
    TYPE = "type"


@dataclass(frozen=True, slots=True)
class Policy:
    """What one field needs: a key with any of `scopes`, or any key without; and whether a member will do."""

    scopes: tuple[Scope, ...] = ()
    member: bool = False
    reach: Reach = Reach.HERE

    @property
    def scope(self) -> str:
        """The scopes as @requires shows them; empty when any key will do."""
        return " | ".join(self.scopes)

    @property
    def sentence(self) -> str:
        """The policy as the last sentence of a field's description; none where it is the parent's.

        Most fields need what the field that leads to them needs: to say so on each is noise.
        """
        if self.reach is Reach.PARENT:
            return ""
        if self.reach is Reach.TYPE:
            return "Needs what the type of the object needs."
        if not self.scopes:
            return "Needs any valid credential." if self.member else "Needs an API key."
        *others, last = (f"`{scope}`" for scope in self.scopes)
        names = f"{', '.join(others)} or {last}" if others else last
        return f"Needs the scope {names}{_OR_MEMBER if self.member else ''}."


ANY_CREDENTIAL = Policy(member=True)
"""For keys and members alike; only callers without a credential are turned away."""
INHERITED = Policy(reach=Reach.PARENT)
"""For payloads, edges and plain values: whoever may read the field that leads here may read this."""
BY_TYPE = Policy(reach=Reach.TYPE)
"""For fields of interfaces whose resolver asks `guard.readable` once it knows the object's type."""


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="requires",
    description="What a credential needs for this field: a key's scope, or a member's own token.",
)
class Requires:
    scope: str | None = strawberry.field(
        description="The scope that an API key needs, or several of which one will do; any key without it.",
        default=strawberry.UNSET,
    )
    member: bool = strawberry.field(
        description="Whether a member's own token will do as well.", default=False
    )
    inherited: bool | None = strawberry.field(
        description="Whether what leads to the field, or the object's type, says what it needs.",
        default=strawberry.UNSET,
    )


def _policy(scope: Scopes | None, member: bool, access: Policy | None) -> Policy | None:
    if scope is None and not member:
        return access
    assert access is None, "give a scope or access, not both"
    assert scope, "a member's token alone is ANY_CREDENTIAL"
    return Policy((scope,) if isinstance(scope, Scope) else scope, member)


def _declare(field: StrawberryField, policy: Policy) -> None:
    # dataclasses seal a field's metadata; a new mapping is what its own copies take along.
    field.metadata = {**field.metadata, _METADATA: policy}  # type: ignore[assignment]
    if policy.reach is Reach.HERE:
        required = Requires(scope=policy.scope or strawberry.UNSET, member=policy.member)
    else:
        required = Requires(member=strawberry.UNSET, inherited=True)
    # A type's copy of an interface's field says what the type needs, in place of what the interface said.
    others = [directive for directive in field.directives if not isinstance(directive, Requires)]
    field.directives = [*others, required]
    said = field.description or ""
    said = f"{said}." if said and said[-1] not in ".!?" else said
    field.description = " ".join(filter(None, (said, policy.sentence))) or None


def field(
    *,
    description: str,
    scope: Scopes | None = None,
    member: bool = False,
    access: Policy | None = None,
    **options: Any,
) -> Any:
    """Declare an attribute of a type that needs something of its own.

    Without scope and access it needs what `object_type` says for the whole type. The other
    options are those of `strawberry.field`.
    """
    declared = strawberry.field(description=description, **options)
    if policy := _policy(scope, member, access):
        _declare(declared, policy)
    return declared


def resolver(
    *,
    description: str,
    scope: Scopes | None = None,
    member: bool = False,
    access: Policy | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], Any]:
    """Declare a field that a method resolves, as `field` does; for a decorator.

    `is_subscription=True` makes it a subscription.
    """
    declared: Callable[[Callable[..., Any]], Any] = field(
        description=description, scope=scope, member=member, access=access, **options
    )
    return declared


def _apply(cls: Class, policy: Policy | None) -> Class:
    if policy is None:
        return cls
    definition = cls.__strawberry_definition__  # type: ignore[attr-defined]
    for position, declared in enumerate(definition.fields):
        before: Policy | None = declared.metadata.get(_METADATA)
        if before is not None and before.reach is Reach.HERE:
            continue
        if any(
            declared in getattr(base, "__strawberry_definition__", _NOTHING).fields
            for base in cls.__mro__[1:]
        ):
            # What comes from an interface keeps its policy there; only this type's copy needs the type's.
            own = copy(declared)
            own.name = declared.name
            own.description = (
                (declared.description or "").removesuffix(before.sentence if before else "").rstrip()
            )
            definition.fields[position] = own
            _declare(own, policy)
        elif before is None:
            _declare(declared, policy)
    return cls


@dataclass_transform(
    order_default=False, kw_only_default=True, field_specifiers=(strawberry.field, field, StrawberryField)
)
def object_type(
    *,
    description: str,
    name: str | None = None,
    scope: Scopes | None = None,
    member: bool = False,
    access: Policy | None = None,
) -> Callable[[Class], Class]:
    """Declare an object type, all of whose fields need the same, but for those that say otherwise.

    Without scope and access each field has to say what it needs, as for the root types.
    """
    policy = _policy(scope, member, access)
    return lambda cls: _apply(strawberry.type(cls, name=name, description=description), policy)


@dataclass_transform(
    order_default=False, kw_only_default=True, field_specifiers=(strawberry.field, field, StrawberryField)
)
def interface_type(
    *,
    description: str,
    name: str | None = None,
    scope: Scopes | None = None,
    member: bool = False,
    access: Policy | None = None,
) -> Callable[[Class], Class]:
    """Declare an interface as `object_type` declares a type; its fields may also be `BY_TYPE`."""
    policy = _policy(scope, member, access)
    return lambda cls: _apply(strawberry.interface(cls, name=name, description=description), policy)


class UndeclaredAccess(Exception):
    """A field does not say who may read it, or says something that cannot be."""


def policy_of(field: object) -> Policy | None:
    """Return what a Strawberry field declares; None for one that declares nothing."""
    policy: Policy | None = getattr(field, "metadata", {}).get(_METADATA)
    return policy
