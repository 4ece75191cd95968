"""Who may read what: declared on every field, and not to be got around."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import strawberry
from graphql import build_schema as parse_schema
from graphql import get_introspection_query

from app.access.principal import Principal
from app.access.scopes import Scope
from app.settings import Settings
from graphql_schema.access import (
    ANY_CREDENTIAL,
    BY_TYPE,
    INHERITED,
    UndeclaredAccess,
    field,
    interface_type,
    object_type,
    resolver,
)
from graphql_schema.build import LaurelSchema, build_schema
from tests.graphql_schema import small
from tests.graphql_schema.small import MEMBER, NOBODY, READER, RULER


@pytest.fixture(scope="module", params=[True, False], ids=["fast", "stock"])
def schema(request: pytest.FixtureRequest) -> LaurelSchema:
    settings = Settings(fast_executor=request.param)
    return build_schema(small.Query, small.Mutation, small.Subscription, [small.Rule], settings=settings)


async def run(schema: LaurelSchema, query: str, caller: Principal, **variables: Any) -> Any:
    small.ran.clear()
    return await schema.execute(query, variable_values=variables, context_value=small.Caller(caller))


async def code(schema: LaurelSchema, query: str, caller: Principal, **variables: Any) -> str | None:
    result = await run(schema, query, caller, **variables)
    if not result.errors:
        return None
    assert result.data is None
    assert small.ran == [], "nothing runs of what is refused"
    return str(result.errors[0].extensions["code"])


async def test_anyone_may_introspect_and_ask_for_the_typename(schema: LaurelSchema) -> None:
    assert await code(schema, "{ __typename __schema { queryType { name } } }", NOBODY) is None
    assert await code(schema, get_introspection_query(), NOBODY) is None


async def test_without_a_credential_nothing_else_is_read(schema: LaurelSchema) -> None:
    assert await code(schema, "{ hello }", NOBODY) == "UNAUTHENTICATED"
    assert await code(schema, "{ __typename search { __typename } }", NOBODY) == "UNAUTHENTICATED"


async def test_a_scope_opens_what_names_it_and_nothing_else(schema: LaurelSchema) -> None:
    assert await code(schema, "{ member { name email balance { available } } }", READER) is None
    assert await code(schema, "{ member { name } }", RULER) == "FORBIDDEN"
    assert await code(schema, "mutation { write }", READER) == "FORBIDDEN"
    assert await code(schema, "mutation { write }", RULER) is None


async def test_the_refusal_names_the_field_and_the_scope(schema: LaurelSchema) -> None:
    result = await run(schema, "{ member { notes } }", READER)
    assert (
        result.errors[0].message == "Member.notes needs the scope members:write, which the credential lacks."
    )
    assert result.errors[0].extensions == {"code": "FORBIDDEN", "scope": "members:write"}


async def test_of_several_scopes_one_will_do(schema: LaurelSchema) -> None:
    assert await code(schema, "{ either }", RULER) is None
    assert await code(schema, "{ either }", MEMBER) is None
    result = await run(schema, "{ either }", READER)
    assert result.errors[0].message == (
        "Query.either needs the scope rules:read or members:write, which the credential lacks."
    )
    assert 'either: String! @requires(scope: "rules:read | members:write", member: true)' in schema.as_str()
    assert "Needs the scope `rules:read` or `members:write`, or the member's own token." in schema.as_str()


async def test_a_member_may_read_what_is_marked_for_members(schema: LaurelSchema) -> None:
    assert await code(schema, "{ hello member { name friends { nodes { email } } } }", MEMBER) is None
    assert await code(schema, "{ members { nodes { name } } }", MEMBER) == "FORBIDDEN"
    assert await code(schema, "{ member { notes } }", MEMBER) == "FORBIDDEN"


@pytest.mark.parametrize(
    "query",
    [
        "{ hello alias: member { balance { available } } }",
        "{ ... { ... on Query { member { __typename } } } }",
        "query { ...A } fragment A on Query { ...B } fragment B on Query { member { id } }",
        "query($no: Boolean = false) { hello member @include(if: $no) { id } }",
        "{ hello member @skip(if: true) { id } }",
        "{ hello ... @include(if: false) { member { id } } }",
        "{ hello ...A @skip(if: true) } fragment A on Query { member { id } }",
        "{ search { ... on Member { email } } }",
        "{ search { ... on Named { name } } }",
        "{ search { ...N } } fragment N on Named { ...M } fragment M on Member { id }",
        "{ named { name } }",
        "{ named { ... on Member { name } } }",
        '{ node(id: "Member:1") { ... on Named { name } } }',
        '{ node(id: "Member:1") { ... on Member { balance { available } email } } }',
    ],
)
async def test_no_detour_leads_around_the_guard(schema: LaurelSchema, query: str) -> None:
    assert await code(schema, query, RULER) == "FORBIDDEN"
    assert await code(schema, query, NOBODY) == "UNAUTHENTICATED"


async def test_what_an_operation_leaves_out_does_not_count_against_it(schema: LaurelSchema) -> None:
    query = "query Mine { hello } query Theirs { member { id } }"
    result = await schema.execute(query, operation_name="Mine", context_value=small.Caller(RULER))
    assert result.data == {"hello": "hello you"}
    result = await schema.execute(query, operation_name="Theirs", context_value=small.Caller(RULER))
    assert result.errors


async def test_an_object_found_by_its_id_is_shown_to_those_who_may_see_its_type(schema: LaurelSchema) -> None:
    query = "query($id: ID!) { node(id: $id) { id __typename } }"
    for caller, type_name, seen in (
        (READER, "Member", True), (READER, "Rule", False), (RULER, "Member", False),
        (RULER, "Rule", True), (MEMBER, "Member", True), (MEMBER, "Rule", False),
    ):  # fmt: skip
        result = await run(schema, query, caller, id=f"{type_name}:1")
        assert result.errors is None
        assert (result.data["node"] is not None) == seen, (caller, type_name)


async def test_the_same_document_is_judged_for_each_caller(schema: LaurelSchema) -> None:
    for _ in range(2):
        assert await code(schema, "{ member { id } }", READER) is None
        assert await code(schema, "{ member { id } }", RULER) == "FORBIDDEN"


async def test_subscriptions_are_guarded_before_they_start(schema: LaurelSchema) -> None:
    small.ran.clear()
    results = await schema.subscribe("subscription { count }", context_value=small.Caller(RULER))
    errors = [result.errors async for result in results]
    assert errors[0][0].extensions["code"] == "FORBIDDEN"  # type: ignore[index]
    assert len(errors) == 1
    assert small.ran == []
    results = await schema.subscribe("subscription { count }", context_value=small.Caller(READER))
    assert [result.data async for result in results] == [{"count": 0}, {"count": 1}]


def test_the_schema_shows_what_each_field_needs(schema: LaurelSchema) -> None:
    printed = schema.as_str()
    parse_schema(printed)
    assert (
        "directive @requires(scope: String, member: Boolean! = false, inherited: Boolean) on FIELD_DEFINITION"
        in printed
    )
    assert 'email: String @requires(scope: "members:read", member: true)' in printed
    assert '"""An address. Needs the scope `members:read`, or the member\'s own token."""' in printed
    assert '"""Says hello. Needs any valid credential."""' in printed
    assert 'secret: String! @requires(scope: "rules:read", member: false)' in printed
    assert '"""Its id. Needs the scope `rules:read`."""' in printed
    assert '"""Its id. Needs what the type of the object needs."""' in printed


def test_connections_and_their_parts_have_the_names_and_fields_of_the_contract(schema: LaurelSchema) -> None:
    types = schema._schema.type_map
    assert {name: str(made.type) for name, made in types["MemberConnection"].fields.items()} == {  # type: ignore[attr-defined]
        "edges": "[MemberEdge!]!", "nodes": "[Member!]!", "pageInfo": "PageInfo!",
    }  # fmt: skip
    assert {name: str(made.type) for name, made in types["MemberEdge"].fields.items()} == {  # type: ignore[attr-defined]
        "cursor": "String!", "node": "Member!",
    }  # fmt: skip


def test_a_field_that_says_nothing_keeps_the_schema_from_being_built() -> None:
    @object_type(description="A root.")
    class Root:
        @resolver(description="Open to whom?")
        def thing(self) -> str:
            return "thing"

    with pytest.raises(UndeclaredAccess, match=r"Root.thing does not say"):
        build_schema(Root)


def test_a_plain_strawberry_type_keeps_the_schema_from_being_built() -> None:
    @strawberry.type
    class Plain:
        value: int

    @object_type(description="A root.")
    class Root:
        @resolver(description="Fine.", access=ANY_CREDENTIAL)
        def plain(self) -> Plain:
            return Plain(value=1)

    with pytest.raises(UndeclaredAccess, match=r"Plain.value does not say"):
        build_schema(Root)


def test_a_subscription_that_says_nothing_keeps_the_schema_from_being_built() -> None:
    @object_type(description="A root.")
    class Subscription:
        @resolver(description="Open to whom?", is_subscription=True)
        async def ticks(self) -> AsyncIterator[int]:
            yield 1

    with pytest.raises(UndeclaredAccess, match=r"Subscription.ticks does not say"):
        build_schema(small.Query, subscription=Subscription, types=[small.Rule])


def test_a_root_field_has_nothing_to_inherit_from() -> None:
    @object_type(description="A root.", access=INHERITED)
    class Root:
        @resolver(description="A thing.")
        def thing(self) -> str:
            return "thing"

    with pytest.raises(UndeclaredAccess, match="root field"):
        build_schema(Root)


def test_what_is_found_by_id_says_what_it_needs_as_a_whole() -> None:
    @interface_type(description="Anything.", access=BY_TYPE)
    class Node:
        id: strawberry.ID = strawberry.field(description="Its id.")

    @object_type(description="A thing.", access=INHERITED)
    class Thing(Node):
        name: str = field(description="Its name.", scope=Scope.MEMBERS_READ)

    @object_type(description="A root.")
    class Root:
        @resolver(description="A thing.", access=ANY_CREDENTIAL)
        def node(self) -> Node | None:
            return None

    with pytest.raises(UndeclaredAccess, match=r"Thing.id has to say"):
        build_schema(Root, types=[Thing])


def test_only_fields_of_interfaces_leave_it_to_the_type() -> None:
    @object_type(description="A root.")
    class Root:
        @resolver(description="A thing.", access=BY_TYPE)
        def thing(self) -> str:
            return "thing"

    with pytest.raises(UndeclaredAccess):
        build_schema(Root)
