"""The schema as it is committed: up to date, valid, and shaped as Relay wants it."""

from pathlib import Path

import graphql
import pytest
from graphql import GraphQLNonNull, GraphQLObjectType, build_schema, validate_schema

import app.web
from graphql_schema.export import FILE
from graphql_schema.root import NODES, laurel_schema
from tests.api.walk import object_types, schema

CONNECTIONS = [type_ for type_ in object_types() if type_.name.endswith("Connection")]


def test_committed_schema_is_the_one_that_runs() -> None:
    """`make schema` writes it anew."""
    assert FILE.read_text() == laurel_schema().as_str() + "\n"


def test_committed_schema_is_valid() -> None:
    built = build_schema(FILE.read_text())
    assert validate_schema(built) == []
    assert graphql.lexicographic_sort_schema(built).query_type


@pytest.mark.parametrize("connection", CONNECTIONS, ids=str)
def test_connection_is_one_of_relay(connection: GraphQLObjectType) -> None:
    assert {"edges", "nodes", "pageInfo"} <= connection.fields.keys()
    assert str(connection.fields["pageInfo"].type) == "PageInfo!"
    edge = schema().type_map[f"{connection.name.removesuffix('Connection')}Edge"]
    assert isinstance(edge, GraphQLObjectType)
    assert str(connection.fields["edges"].type) == f"[{edge.name}!]!"
    assert str(edge.fields["cursor"].type) == "String!"
    assert str(connection.fields["nodes"].type) == f"[{edge.fields['node'].type}]!"


def test_page_info_is_one_of_relay() -> None:
    fields = {name: str(field.type) for name, field in schema().type_map["PageInfo"].fields.items()}  # type: ignore[attr-defined]
    assert fields == {
        "hasNextPage": "Boolean!",
        "hasPreviousPage": "Boolean!",
        "startCursor": "String",
        "endCursor": "String",
    }


def test_every_list_of_objects_that_can_grow_is_a_connection() -> None:
    """What is a plain list is bounded by what it belongs to."""
    found = {
        f"{type_.name}.{name}"
        for type_ in object_types()
        for name, field in type_.fields.items()
        if graphql.is_list_type(_nullable(field.type))
        and isinstance(graphql.get_named_type(field.type), GraphQLObjectType)
        and not type_.name.endswith(("Connection", "Payload"))
    }
    assert found == {
        "Audience.stores", "Audience.tiers", "Award.steps", "Balance.expiring", "Event.awards",
        "Event.explanation", "Event.lines", "Event.refunds", "Query.tiers", "Refund.lines", "Reward.tiers",
        "PointsPaymentQuote.userErrors", "RewardStatement.lines",
        "SimulatedAward.steps", "Simulation.awards",
        "Simulation.explanation", "Simulation.userErrors", "Query.webhooks",
    }  # fmt: skip


def _nullable(type_: object) -> object:
    return type_.of_type if isinstance(type_, GraphQLNonNull) else type_


def test_every_connection_takes_the_four_arguments() -> None:
    for type_ in object_types():
        for name, field in type_.fields.items():
            if graphql.get_named_type(field.type) in CONNECTIONS:
                given = {arg: str(described.type) for arg, described in field.args.items()}
                assert (
                    given | {"first": "Int", "after": "String", "last": "Int", "before": "String"} == given
                ), name


def test_whatever_has_an_id_of_its_own_is_a_node() -> None:
    with_id = {type_.name for type_ in object_types() if "id" in type_.fields}
    nodes = {type_.name for type_ in schema().get_possible_types(schema().type_map["Node"])}  # type: ignore[arg-type]
    assert with_id == nodes == {type_.__name__ for type_ in NODES}
    assert str(schema().query_type.fields["node"].type) == "Node"  # type: ignore[union-attr]
    assert str(schema().query_type.fields["nodes"].type) == "[Node]!"  # type: ignore[union-attr]


def test_every_mutation_answers_with_a_payload_of_its_own_that_tells_what_is_wrong() -> None:
    for name, field in schema().mutation_type.fields.items():  # type: ignore[union-attr]
        assert str(field.type).endswith("Payload!"), name
        payload = graphql.get_named_type(field.type)
        assert isinstance(payload, GraphQLObjectType)
        assert str(payload.fields["userErrors"].type) == "[UserError!]!", name


def test_what_can_be_subscribed_to() -> None:
    subscription = schema().subscription_type
    assert subscription
    assert subscription.fields.keys() == {"balance", "tier", "job"}


QUERIES = sorted((Path(app.web.__file__).parent / "src" / "graphiql" / "queries").glob("*.graphql"))


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_query_that_graphiql_opens_with_fits_the_schema(path: Path) -> None:
    assert graphql.validate(schema(), graphql.parse(path.read_text(encoding="utf-8"))) == []
    assert laurel_schema().documents.prepare(path.read_text(encoding="utf-8")).errors == []
