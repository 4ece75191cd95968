"""The queries that GraphiQL opens with can be sent as they are."""

import json
from pathlib import Path

import pytest
from graphql import OperationDefinitionNode, parse

import app.web

QUERIES = sorted((Path(app.web.__file__).parent / "src" / "graphiql" / "queries").glob("*.graphql"))


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_ready_query_is_one_named_operation_with_all_its_variables(path: Path) -> None:
    [operation] = parse(path.read_text(encoding="utf-8")).definitions
    assert isinstance(operation, OperationDefinitionNode)
    assert operation.name is not None
    wanted = {each.variable.name.value for each in operation.variable_definitions or ()}
    variables = path.with_suffix(".json")
    assert set(json.loads(variables.read_text(encoding="utf-8")) if variables.exists() else {}) == wanted
