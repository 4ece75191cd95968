"""What a document may ask for at most, and what it costs to say so."""

import time
from typing import Any

import pytest
from graphql import get_introspection_query

from graphql_schema.build import LaurelSchema, build_schema
from graphql_schema.documents import MAX_CACHE_WEIGHT
from graphql_schema.limits import Limits
from tests.graphql_schema import small


@pytest.fixture(scope="module")
def schema() -> LaurelSchema:
    return build_schema(small.Query, small.Mutation, types=[small.Rule])


async def refusal(schema: LaurelSchema, query: str, **variables: Any) -> str | None:
    result = await schema.execute(query, variable_values=variables, context_value=small.Caller(small.READER))
    if not result.errors:
        return None
    assert [error.extensions["code"] for error in result.errors] == ["QUERY_TOO_COMPLEX"], result.errors
    return result.errors[0].message


def nested(levels: int) -> str:
    """Return a query with so many levels of fields."""
    assert levels % 2 == 0
    return (
        "{ member "
        + "{ friends(first: 1) { nodes " * (levels // 2 - 1)
        + "{ id }"
        + " } }" * (levels // 2 - 1)
        + " }"
    )


async def test_depth_is_bounded(schema: LaurelSchema) -> None:
    assert await refusal(schema, nested(12)) is None
    assert "14 levels of fields" in str(await refusal(schema, nested(14)))


async def test_fragments_do_not_hide_depth(schema: LaurelSchema) -> None:
    spread = "{ member { ...F0 } } " + " ".join(
        f"fragment F{n} on Member {{ friends(first: 1) {{ nodes {{ ...F{n + 1} }} }} }}" for n in range(6)
    )
    message = await refusal(schema, spread + " fragment F6 on Member { id }")
    assert "14 levels of fields" in str(message)


async def test_introspection_does_not_count_towards_depth(schema: LaurelSchema) -> None:
    assert (
        await refusal(schema, get_introspection_query(descriptions=True, input_value_deprecation=True))
        is None
    )


async def test_aliases_are_bounded(schema: LaurelSchema) -> None:
    assert await refusal(schema, "{" + " ".join(f"a{n}: hello" for n in range(30)) + "}") is None
    message = await refusal(schema, "{" + " ".join(f"a{n}: hello" for n in range(31)) + "}")
    assert "31 aliases" in str(message)


async def test_fragments_that_multiply_aliases_are_written_out_to_be_counted(schema: LaurelSchema) -> None:
    fragments = "fragment F0 on Member { a: id } " + " ".join(
        f"fragment F{n} on Member {{ x: friends {{ ...G{n} }} y: friends {{ ...G{n} }} }} "
        f"fragment G{n} on MemberConnection {{ nodes {{ ...F{n - 1} }} }}"
        for n in range(1, 5)
    )
    assert "aliases" in str(await refusal(schema, "{ member { ...F4 } } " + fragments))


async def test_directives_are_bounded(schema: LaurelSchema) -> None:
    assert await refusal(schema, "{ hello " + "@skip(if: false) " * 1 + "}") is None
    message = await refusal(schema, "{ hello " + "@aa " * 51 + "}")
    assert "51 directives" in str(message)


async def test_tokens_are_bounded_and_counted_before_anything_else(schema: LaurelSchema) -> None:
    start = time.process_time()
    assert "more than 2,000 tokens" in str(await refusal(schema, "{" + "hello " * 15_000 + "}"))
    assert time.process_time() - start < 0.5


async def test_documents_are_bounded_in_length(schema: LaurelSchema) -> None:
    assert "longer than 100,000 characters" in str(await refusal(schema, "{ hello }" + " " * 100_000))


async def test_a_document_nested_beyond_reason_is_refused(schema: LaurelSchema) -> None:
    query = "{ member " + "{ friends { nodes " * 400 + "{ id }" + "} }" * 400 + "}"
    result = await schema.execute(query, context_value=small.Caller(small.READER))
    assert result.errors
    assert result.data is None


async def test_pages_within_pages_multiply(schema: LaurelSchema) -> None:
    query = """{ members(first: 100) { nodes { friends(first: 100) { nodes {
      friends(first: %s) { nodes { id } } } } } } }"""
    assert await refusal(schema, query % 8) is None
    assert "1,010,100 objects" in str(await refusal(schema, query % 100))


async def test_pages_without_a_size_count_as_usual_pages(schema: LaurelSchema) -> None:
    body = "id"
    for _ in range(3):
        body = f"friends {{ edges {{ node {{ {body} }} }} }}"
    assert await refusal(schema, f"{{ members {{ nodes {{ {body} }} }} }}") == (
        "The operation can reach 168,420 objects; 100,000 are allowed. Ask for smaller pages."
    )


async def test_variables_count_with_their_values(schema: LaurelSchema) -> None:
    query = """query($a: Int, $b: Int = 100) {
      members(first: $a) { nodes { friends(last: $b) { nodes {
        friends(first: $b) { nodes { id } } } } } } }"""
    assert await refusal(schema, query, a=5, b=5) is None
    assert "1,010,100" in str(await refusal(schema, query, a=100))
    assert "1,010,100" in str(await refusal(schema, query, a=100, b=2_000_000))


async def test_lists_of_arguments_count_with_their_length(schema: LaurelSchema) -> None:
    limited = LaurelSchema(small.Query, types=[small.Rule], limits=Limits(nodes=3))
    assert await refusal(limited, '{ nodes(ids: ["a", "b", "c"]) { id } }') is None
    assert "4 objects" in str(await refusal(limited, '{ nodes(ids: ["a", "b", "c", "d"]) { id } }'))
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    assert await refusal(limited, query, ids=["a"]) is None
    assert "5 objects" in str(await refusal(limited, query, ids=list("abcde")))


async def test_the_same_document_is_prepared_once_even_when_it_fails(schema: LaurelSchema) -> None:
    for query in ("{ hello }", "{ nothing }", "{ syntax", "{" + "hello " * 5000 + "}"):
        assert schema.documents.prepare(query) is schema.documents.prepare(query)


async def test_what_is_remembered_is_bounded() -> None:
    schema = build_schema(small.Query, types=[small.Rule])
    big = "a" * 99_000
    for number in range(200):
        schema.documents.prepare(f"# {number} {big}\n{{ hello }}")
    documents = schema.documents
    assert documents._weight <= MAX_CACHE_WEIGHT
    assert len(documents._known) <= 102
    assert documents._weight == sum(known.weight for known in documents._known.values())


async def test_errors_have_codes_and_places(schema: LaurelSchema) -> None:
    caller = small.Caller(small.READER)
    failed = (await schema.execute("{ hello(", context_value=caller)).errors
    assert failed
    assert failed[0].extensions == {"code": "GRAPHQL_PARSE_FAILED"}
    failed = (await schema.execute("{\n  helo }", context_value=caller)).errors
    assert failed
    assert failed[0].extensions == {"code": "GRAPHQL_VALIDATION_FAILED"}
    assert "Did you mean 'hello'?" in failed[0].message
    assert failed[0].formatted["locations"] == [{"line": 2, "column": 3}]


async def test_suggestions_can_be_switched_off() -> None:
    schema = build_schema(small.Query, types=[small.Rule], suggestions=False)
    failed = (await schema.execute("{ helo }")).errors
    assert failed
    assert "Did you mean" not in failed[0].message
