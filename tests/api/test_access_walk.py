"""Nobody reaches a field without what its directive says: the whole schema is walked to prove it."""

from collections.abc import Iterable

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
)

from app.access.scopes import PROGRAM_SCOPES, Scope
from tests.api.client import Answer, World
from tests.api.tenants import populate
from tests.api.walk import demands, document, needs, object_types, schema, ways

ALL = frozenset(scope.value for scope in PROGRAM_SCOPES)
WAYS = list(ways())
BY_TYPE = {
    "Program",
    "ApiKey",
    "Member",
    "LedgerEntry",
    "Event",
    "Award",
    "Refund",
    "EarningRule",
    "Store",
    "Tier",
    "Campaign",
    "Reward",
    "Redemption",
    "Referral",
    "Job",
    "FailedJob",
    "Webhook",
    "Message",
}
REFUSED = ("UNAUTHENTICATED", "FORBIDDEN")


def _refusals(answer: Answer) -> list[str]:
    """Return the refusals of access in an answer."""
    return [code for code in answer.codes if code in REFUSED]


def test_walk_reaches_every_field_of_every_object_type() -> None:
    everything = {f"{type_.name}.{name}" for type_ in object_types() for name in type_.fields}
    assert {way.coordinate for way in WAYS} == everything
    assert len(everything) > 150


def test_every_field_that_inherits_nothing_carries_the_directive() -> None:
    """What has no directive can only be reached through something that has one."""
    bare = {(t.name, name) for t in object_types() for name in t.fields if (t.name, name) not in needs()}
    assert all(demands(way) for way in WAYS)
    assert not {name for name, _ in bare} & {"Query", "Mutation", *BY_TYPE}


def _sentence(type_name: str, field: str) -> str | None:
    need = needs().get((type_name, field))
    if need is None:
        return "Needs what the type of the object needs." if type_name == "Node" else None
    if not need.scopes:
        return "Needs any valid credential." if need.member else "Needs an API key."
    return ""


def test_every_description_ends_with_what_the_directive_says() -> None:
    for type_ in schema().type_map.values():
        if not isinstance(type_, GraphQLObjectType | GraphQLInterfaceType) or type_.name.startswith("__"):
            continue
        for name, field in type_.fields.items():
            assert field.description, f"{type_.name}.{name}"
            said = field.description.rsplit(". ", 1)[-1]
            sentence = _sentence(type_.name, name)
            if sentence is None:
                assert not said.startswith("Needs "), f"{type_.name}.{name}"
                continue
            if sentence:
                assert said == sentence, f"{type_.name}.{name}"
                continue
            need = needs()[type_.name, name]
            assert said.startswith("Needs the scope "), f"{type_.name}.{name}"
            assert {part for part in said.split("`") if ":" in part} == need.scopes, f"{type_.name}.{name}"
            assert said.endswith(", or the member's own token.") is need.member, f"{type_.name}.{name}"


def _described() -> Iterable[tuple[str, object]]:
    for name, type_ in schema().type_map.items():
        if name.startswith("__"):
            continue
        yield name, type_
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            for field_name, field in type_.fields.items():
                yield f"{name}.{field_name}", field
                for argument, described in field.args.items():
                    yield f"{name}.{field_name}({argument}:)", described
        elif isinstance(type_, GraphQLInputObjectType):
            for field_name, described in type_.fields.items():
                yield f"{name}.{field_name}", described
        elif isinstance(type_, GraphQLEnumType):
            for value, described in type_.values.items():
                yield f"{name}.{value}", described


def test_every_type_field_argument_and_enum_value_is_described() -> None:
    missing = [place for place, what in _described() if not getattr(what, "description", None)]
    assert missing == []


async def test_nobody_without_a_credential_reaches_any_field(world: World) -> None:
    for way in WAYS:
        answer = await world.api.post(document(way))
        assert (answer.status, answer.codes) == (401, ["UNAUTHENTICATED"]), way
        assert "data" not in answer.body, way


async def test_key_with_every_other_scope_reaches_no_field(world: World) -> None:
    """Each thing that a way needs is taken away by itself: all of them are needed."""
    tried = 0
    for way in WAYS:
        for need in demands(way):
            if not need.scopes or need.scopes == {Scope.PLATFORM_ADMIN}:
                continue
            token = await world.scoped_key(ALL - need.scopes)
            answer = await world.api.post(document(way), token=token)
            assert answer.codes == ["FORBIDDEN"], (str(way), need)
            assert "data" not in answer.body, way
            tried += 1
    assert tried > 300


async def test_key_with_just_one_of_the_scopes_is_let_in(world: World) -> None:
    """What the directive says is enough: one scope of each demand, tried with each of the first one's."""
    for way in WAYS:
        wanted = [need.scopes & ALL for need in demands(way) if need.scopes]
        if not all(wanted):
            continue
        for first in wanted[-1] if wanted else ():
            # A scope that serves two demands serves both, so every set here is as small as can be.
            scopes = {first} | {min(need) for need in wanted if first not in need}
            token = await world.scoped_key(frozenset(scopes))
            answer = await world.api.post(document(way), token=token)
            assert _refusals(answer) == [], (str(way), scopes, answer.body)


async def test_platform_key_reaches_nothing_but_making_programs(world: World) -> None:
    """It belongs to no program: even where any credential will do it finds nothing."""
    for way in WAYS:
        asked = demands(way)
        answer = await world.api.post(document(way), token=world.api.admin)
        if all(Scope.PLATFORM_ADMIN in need.scopes or not need.scopes for need in asked):
            assert _refusals(answer) == [], way
            root = way.steps[0].field if way.steps else way.field
            assert root in ("createProgram", "viewer", "node", "nodes"), way
            if root != "createProgram":
                assert answer.data in ({"viewer": None}, {"node": None}, {"nodes": [None]}), way
        else:
            assert answer.codes == ["FORBIDDEN"], way


async def test_member_token_reaches_exactly_what_the_directives_open_to_members(world: World) -> None:
    for way in WAYS:
        answer = await world.api.post(document(way), token=world.token)
        if all(need.member for need in demands(way)):
            assert _refusals(answer) == [], (str(way), answer.body)
        else:
            assert answer.codes == ["FORBIDDEN"], way
            assert "data" not in answer.body, way


async def test_member_token_opens_no_mutation_but_its_own_and_no_list_of_others() -> None:
    open_to_members = {
        name for (type_name, name), need in needs().items() if type_name == "Query" and need.member
    }
    assert {
        name for (type_name, name), need in needs().items() if type_name == "Mutation" and need.member
    } == {"checkIn", "redeem", "reserve", "capture", "cancelRedemption", "transferPoints"}
    assert open_to_members == {
        "node", "nodes", "program", "viewer", "member", "event", "earningRule", "earningRules",
        "store", "stores", "tiers", "campaign", "campaigns", "catalog", "reward", "redemption",
        "quotePointsPayment",
    }  # fmt: skip


async def test_node_gives_no_object_whose_type_the_key_has_no_scope_for(world: World) -> None:
    objects = (await populate(world)).nodes
    assert objects.keys() == BY_TYPE
    for type_name, global_id in objects.items():
        need = needs()[type_name, "id"]
        # platform:admin is not a scope that a program's key can have.
        token = await world.scoped_key(ALL - need.scopes)
        query = "query ($id: ID!) { node(id: $id) { __typename id } nodes(ids: [$id]) { __typename id } }"
        assert await world.api.call(query, {"id": global_id}, token) == {"node": None, "nodes": [None]}, (
            type_name
        )
        for scope in need.scopes & ALL:
            found = await world.api.call(query, {"id": global_id}, await world.scoped_key(frozenset({scope})))
            assert found["node"] == {"__typename": type_name, "id": global_id}
            assert found["nodes"] == [found["node"]]


@pytest.mark.parametrize("hidden", ["@skip(if: true)", "@include(if: false)"])
async def test_what_a_directive_leaves_out_needs_its_scope_all_the_same(world: World, hidden: str) -> None:
    token = await world.scoped_key(ALL - {"keys:admin"})
    answer = await world.api.post(
        f"{{ program {{ id }} apiKeys {hidden} {{ nodes {{ id }} }} }}", token=token
    )
    assert answer.codes == ["FORBIDDEN"]


@pytest.mark.parametrize(
    "query",
    [
        "{ program { ...F } } fragment F on Program { ... { ...G } } fragment G on Program { pointCost }",
        "{ node(id: \"x\") { ... on Node { ... on Program { debtLimit } } } }",
        "{ p: program { d: debtLimit } }",
        "query A { program { debtLimit } } query B { viewer { id } }",
    ],
)  # fmt: skip
async def test_fragments_and_aliases_hide_nothing_from_the_check(world: World, query: str) -> None:
    body = {"query": query, "operationName": "A" if "query B" in query else None}
    headers = {"authorization": f"Bearer {world.token}"}
    response = await world.api.http.post("/graphql", json=body, headers=headers)
    assert response.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_an_operation_that_is_not_run_needs_no_scope(world: World) -> None:
    body = {"query": "query A { program { debtLimit } } query B { viewer { id } }", "operationName": "B"}
    headers = {"authorization": f"Bearer {world.token}"}
    response = await world.api.http.post("/graphql", json=body, headers=headers)
    assert response.json() == {"data": {"viewer": {"id": world.member}}}
