"""What the client is told of what went wrong, and what only the log is told."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from app.errors import ErrorCode, UserError
from app.settings import Settings
from graphql_schema.access import ANY_CREDENTIAL, object_type, resolver
from graphql_schema.build import LaurelSchema, build_schema
from graphql_schema.errors import UserError as PublicError
from graphql_schema.errors import UserErrorCode, user_errors
from tests.graphql_schema import small


@pytest.fixture(scope="module", params=[True, False], ids=["fast", "stock"])
def schema(request: pytest.FixtureRequest) -> LaurelSchema:
    return build_schema(small.Query, types=[small.Rule], settings=Settings(fast_executor=request.param))


async def run(schema: LaurelSchema, query: str, **variables: Any) -> Any:
    return await schema.execute(
        query, variable_values=variables, context_value=small.Caller(small.READER, "request-7")
    )


async def test_the_unexpected_is_masked_and_logged_under_the_same_id(schema: LaurelSchema) -> None:
    with capture_logs() as logs:
        result = await run(schema, 'query Crash { hello fail(how: "crash") }')
    assert result.data == {"hello": "hello you", "fail": None}
    (error,) = result.errors
    assert error.message == "Something went wrong on our side."
    assert error.path == ["fail"]
    assert error.extensions["code"] == "INTERNAL"
    assert "hunter2" not in str(error.formatted)
    (entry,) = logs
    assert entry["event"] == "graphql_error"
    assert entry["error_id"] == error.extensions["errorId"]
    assert entry["operation"] == "Crash"
    assert entry["request_id"] == "request-7"
    assert "hunter2" in str(entry["exc_info"][1])
    assert entry["exc_info"][2] is not None


async def test_a_value_of_ours_that_does_not_fit_its_type_is_our_mistake(schema: LaurelSchema) -> None:
    with capture_logs() as logs:
        result = await run(schema, "{ broken }")
    assert result.data is None
    assert result.errors[0].extensions["code"] == "INTERNAL"
    assert str(2**40) not in result.errors[0].message
    assert len(logs) == 1


async def test_what_the_domain_refuses_says_why(schema: LaurelSchema) -> None:
    with capture_logs() as logs:
        denied = (await run(schema, '{ fail(how: "denied") }')).errors[0]
        away = (await run(schema, '{ fail(how: "away") }')).errors[0]
        refused = (await run(schema, '{ fail(how: "refused") }')).errors[0]
        twice = (await run(schema, '{ fail(how: "twice") }')).errors
    assert logs == []
    assert (denied.message, denied.extensions) == ("Not with this key.", {"code": "FORBIDDEN"})
    assert away.extensions == {"code": "UNAVAILABLE"}
    assert "secret" not in away.message
    assert "try again" in away.message
    assert refused.message == "No such member."
    assert refused.extensions == {
        "code": "BAD_USER_INPUT",
        "field": ["by", "externalId"],
        "reason": "NOT_FOUND",
    }
    assert [error.message for error in twice] == ["One.", "Two."]
    assert [error.path for error in twice] == [["fail"], ["fail"]]


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("query($v: JSON!) { echo(value: $v) }", {}),
        ("query($v: JSON!) { echo(value: $v) }", {"v": {"a": {1: 2}}}),
        ("query($p: Points) { echo(value: 1, points: $p) }", {"p": 1.5}),
        ("query($m: [Int!]) { echo(value: 1, many: $m) }", {"m": [1, "x"]}),
        ("query($m: [Int!]) { echo(value: 1, many: $m) }", {"m": [2**31]}),
    ],
)
async def test_input_that_does_not_fit_is_the_clients_to_mend(
    schema: LaurelSchema, query: str, variables: dict[str, Any]
) -> None:
    with capture_logs() as logs:
        result = await run(schema, query, **variables)
    assert logs == []
    assert result.data is None
    assert [error.extensions["code"] for error in result.errors] == ["BAD_USER_INPUT"]
    assert "Variable '$" in result.errors[0].message


def test_user_errors_name_fields_as_the_client_does() -> None:
    errors = [
        UserError(ErrorCode.INVALID, "Wrong.", ("lines", "0", "unit_price")),
        UserError(ErrorCode.NOT_FOUND, "Gone.", ("address_line_2",)),
        UserError(ErrorCode.WRONG_STATE, "Closed."),
    ]
    assert [error.field for error in user_errors(errors)] == [
        ["lines", "0", "unitPrice"],
        ["addressLine2"],
        None,
    ]
    assert user_errors(errors, "input")[2].field == ["input"]
    assert user_errors(errors, "input", "member_ref")[1].field == ["input", "memberRef", "addressLine2"]
    assert [error.code for error in user_errors(errors)] == [
        UserErrorCode.INVALID, UserErrorCode.NOT_FOUND, UserErrorCode.WRONG_STATE,
    ]  # fmt: skip


async def test_every_code_of_the_domain_is_one_of_the_schema() -> None:
    assert {code.name for code in ErrorCode} == {code.name for code in UserErrorCode}
    for code in ErrorCode:
        (error,) = user_errors([UserError(code, "Message.")])
        assert error.code is UserErrorCode[code.name]


async def test_user_errors_are_answered_with_their_code() -> None:
    @object_type(description="A root.")
    class Query:
        @resolver(description="Errors.", access=ANY_CREDENTIAL)
        def errors(self) -> list[PublicError]:
            return user_errors([UserError(code, "No.") for code in ErrorCode])

    for fast in (True, False):
        schema = build_schema(Query, settings=Settings(fast_executor=fast))
        result = await run(schema, "{ errors { code message field } }")
        assert result.data == {
            "errors": [{"code": c.name, "message": "No.", "field": None} for c in ErrorCode]
        }
        values = schema._schema.type_map["UserErrorCode"].values  # type: ignore[attr-defined]
        assert all(value.description for value in values.values())


def test_strawberry_logs_nothing_of_its_own(schema: LaurelSchema, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="strawberry.execution"), capture_logs():
        result = schema.execute_sync('{ fail(how: "crash") }', context_value=small.Caller(small.READER))
    assert result.errors
    assert result.errors[0].message == "Something went wrong on our side."
    assert [record for record in caplog.records if record.name.startswith("strawberry")] == []
