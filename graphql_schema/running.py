"""Running operations, for whatever brings them: HTTP requests and the messages of a WebSocket."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import orjson
from graphql import GraphQLError, OperationType
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType as AllowedType

from app.access.principal import Principal
from app.settings import Settings
from graphql_schema.build import LaurelSchema
from graphql_schema.context import Context
from graphql_schema.errors import TIMEOUT, unexpected

Observe = Callable[[str | None, str, float], None]
"""Is told of each operation: its name, how it ended, and the seconds that it took."""


class MalformedRequest(Exception):
    """What was sent is no GraphQL request; the message is for its sender."""


def checked(payload: Any) -> dict[str, Any]:
    """Return a GraphQL request that has the parts it must have.

    Raises:
        MalformedRequest: it has not.
    """
    if isinstance(payload, list):
        raise MalformedRequest("Send one operation; batches are not supported.")
    if not isinstance(payload, dict):
        raise MalformedRequest("The body must be a JSON object.")
    for name, types, what in (
        ("query", str, "a string"),
        ("operationName", str, "a string"),
        ("variables", dict, "an object"),
        ("extensions", dict, "an object"),
    ):
        if payload.get(name) is not None and not isinstance(payload[name], types):
            raise MalformedRequest(f"{name} must be {what}.")
    if not payload.get("query"):
        raise MalformedRequest("Send a document as query.")
    return payload


def outcome_of(errors: list[GraphQLError] | None) -> str:
    """Return how an operation ended, for logs and metrics: "ok", or the code of its first error."""
    return "ok" if not errors else str((errors[0].extensions or {}).get("code"))


def dumps(body: dict[str, Any]) -> bytes:
    """Return a result as JSON; what JSON cannot say becomes a masked error."""
    try:
        return orjson.dumps(body)
    except TypeError as error:
        # A scalar gave away what JSON cannot say: ours to mend, so it is masked and logged.
        masked = unexpected(error).formatted
        return orjson.dumps({**body, "data": None, "errors": [masked]})


def told_to_the_log(
    principal: Principal, operation: str | None, outcome: str, data: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what a status does not tell: who asked for what, how it ended, and the errors of its caller."""
    told: dict[str, Any] = {"credential": principal.credential}
    if principal.program_id is not None:
        told["program"] = str(principal.program_id)
    if operation is not None:
        told["operation"] = operation
    if outcome != "ok":
        told["outcome"] = outcome
    payloads = [each for each in (data or {}).values() if isinstance(each, dict)]
    if user_errors := sum(len(payload.get("userErrors") or ()) for payload in payloads):
        told["user_errors"] = user_errors
    return told


class Runner:
    """Runs the operations of one schema, within the time of the settings."""

    def __init__(self, schema: LaurelSchema, settings: Settings | None, observe: Observe) -> None:
        self._schema = schema
        self._observe = observe
        self._timeout_seconds = settings.request_timeout_seconds if settings else 30.0

    def operation_name(self, payload: Mapping[str, Any]) -> str | None:
        """Return the name that the client gave the operation of a request, which has just been prepared."""
        operation = self._schema.documents.prepare(payload["query"]).operation(payload.get("operationName"))
        return None if operation is None else operation.name

    def is_subscription(self, payload: Mapping[str, Any]) -> bool:
        """Tell whether the operation of a checked request is a subscription."""
        operation = self._schema.documents.prepare(payload["query"]).operation(payload.get("operationName"))
        return operation is not None and operation.node.operation is OperationType.SUBSCRIPTION

    async def run(
        self, payload: Mapping[str, Any], context: Context, allowed: frozenset[AllowedType]
    ) -> ExecutionResult:
        """Run a query or mutation, and observe it.

        Raises:
            CannotGetOperationTypeError: the document has no such operation, or several and no name.
            InvalidOperationTypeError: the operation is not of an allowed type.
        """
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                result = await self._schema.execute(
                    payload["query"],
                    variable_values=payload.get("variables"),
                    context_value=context,
                    operation_name=payload.get("operationName"),
                    allowed_operation_types=allowed,
                    operation_extensions=payload.get("extensions"),
                )
        except TimeoutError:
            message = f"The operation took more than {self._timeout_seconds:g} seconds and was stopped."
            result = ExecutionResult(None, [GraphQLError(message, extensions={"code": TIMEOUT})])
        self._observe(self.operation_name(payload), outcome_of(result.errors), time.perf_counter() - started)
        return result

    def events(self, payload: Mapping[str, Any], context: Context) -> AsyncGenerator[ExecutionResult, None]:
        """Run a subscription, as `LaurelSchema.events` does. Close what comes back when it is not needed."""
        return self._schema.events(
            payload["query"],
            variable_values=payload.get("variables"),
            context_value=context,
            operation_name=payload.get("operationName"),
        )
