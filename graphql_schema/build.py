"""How the schema is put together and run: the same way for the product, the export and the tests."""

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from functools import partial, wraps
from inspect import isawaitable
from typing import Any

from graphql import ExecutionResult as CoreExecutionResult
from graphql import GraphQLError, execute, subscribe
from strawberry import Schema
from strawberry.exceptions import MissingQueryError
from strawberry.execution import optimized_is_awaitable
from strawberry.extensions.runner import SchemaExtensionsRunner
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import ExecutionContext, ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType

from app.access.principal import ANONYMOUS
from app.settings import Settings
from graphql_schema.access import Requires
from graphql_schema.context import Context
from graphql_schema.documents import Documents, Operation, Prepared
from graphql_schema.errors import public_errors, unexpected
from graphql_schema.executor import FastExecutor
from graphql_schema.guard import Guard, check
from graphql_schema.limits import Limits
from graphql_schema.scalars import SCALARS

_OPERATION_TYPES = {
    "query": OperationType.QUERY,
    "mutation": OperationType.MUTATION,
    "subscription": OperationType.SUBSCRIPTION,
}
_ALL_TYPES = frozenset(OperationType)


def _loading_anew(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """Let a mutation see what is then: what the one before it in the document loaded may have changed."""

    @wraps(resolve)
    def resolve_anew(source: Any, info: Any, **arguments: Any) -> Any:
        if isinstance(info.context, Context):
            info.context.loaders.clear()
        return resolve(source, info, **arguments)

    return resolve_anew


class LaurelSchema(Schema):
    """A schema that runs prepared documents: guarded, bounded, and masked in what it gives away."""

    def __init__(
        self,
        query: type,
        mutation: type | None = None,
        subscription: type | None = None,
        types: Iterable[type] = (),
        *,
        limits: Limits | None = None,
        fast_executor: bool = True,
        suggestions: bool = True,
    ) -> None:
        super().__init__(
            query,
            mutation,
            subscription,
            types=[Requires, *types],
            config=StrawberryConfig(scalar_map=SCALARS, disable_field_suggestions=not suggestions),
            execution_context_class=FastExecutor if fast_executor else None,
        )
        for field in self._schema.mutation_type.fields.values() if self._schema.mutation_type else ():
            field.resolve = _loading_anew(field.resolve)
        self._fast = fast_executor
        self.guard = Guard(self._schema)
        self.documents = Documents(self._schema, self.guard, limits or Limits(), suggestions=suggestions)

    async def execute(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any | None = None,
        root_value: Any | None = None,
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> ExecutionResult:
        """Run an operation and return its result, errors included, each with `extensions.code`.

        Raises:
            MissingQueryError: there is no document.
            CannotGetOperationTypeError: the document has no such operation, or several and no name.
            InvalidOperationTypeError: the operation is not of an allowed type.
        """
        if not query:
            raise MissingQueryError
        prepared = self.documents.prepare(query)
        operation, errors = self._admit(
            prepared, operation_name, allowed_operation_types, variable_values, context_value
        )
        if operation is None:
            return PreExecutionError(data=None, errors=errors)
        request_id = getattr(context_value, "request_id", None)
        options: dict[str, Any] = {"plans": operation.plans} if self._fast else {}
        try:
            result = execute(
                self._schema,
                prepared.document,  # type: ignore[arg-type]
                root_value=root_value,
                context_value=context_value,
                variable_values=variable_values,
                operation_name=operation_name,
                executor_class=self.execution_context_class,
                is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]
                operation_extensions=operation_extensions,
                **options,
            )
            if not isinstance(result, CoreExecutionResult):
                result = await result
        except Exception as error:
            masked = unexpected(error, operation=operation.name, request_id=request_id)
            return PreExecutionError(data=None, errors=[masked])
        if not result.errors:
            return ExecutionResult(result.data, None)
        public = public_errors(result.errors, operation=operation.name, request_id=request_id)
        if result.data is None and not any(error.path for error in public):
            return PreExecutionError(data=None, errors=public)
        return ExecutionResult(result.data, public)

    async def events(
        self,
        query: str,
        variable_values: dict[str, Any] | None = None,
        context_value: Any | None = None,
        operation_name: str | None = None,
    ) -> AsyncGenerator[ExecutionResult, None]:
        """Run a subscription and give its results, errors included, each with `extensions.code`.

        Where it cannot begin, or cannot go on, the last thing is a PreExecutionError.

        Raises:
            CannotGetOperationTypeError: the document has no such operation, or several and no name.
            InvalidOperationTypeError: the operation is no subscription.
        """
        prepared = self.documents.prepare(query)
        operation, errors = self._admit(
            prepared, operation_name, (OperationType.SUBSCRIPTION,), variable_values, context_value
        )
        if operation is None:
            yield PreExecutionError(data=None, errors=errors)
            return
        request_id = getattr(context_value, "request_id", None)
        told = partial(public_errors, operation=operation.name, request_id=request_id)
        options: dict[str, Any] = {"plans": operation.plans} if self._fast else {}
        try:
            stream: Any = subscribe(
                self._schema,
                prepared.document,  # type: ignore[arg-type]
                context_value=context_value,
                variable_values=variable_values,
                operation_name=operation_name,
                executor_class=self.execution_context_class,
                is_awaitable=optimized_is_awaitable,
                **options,
            )
            if isawaitable(stream):
                stream = await stream
            if isinstance(stream, CoreExecutionResult):
                yield PreExecutionError(data=None, errors=told(stream.errors or []))
                return
            async with aclosing(stream):
                async for result in stream:
                    yield ExecutionResult(result.data, told(result.errors) if result.errors else None)
                    if isinstance(context_value, Context):
                        # What one event has loaded may have changed by the next.
                        context_value.loaders.clear()
        except Exception as error:
            yield PreExecutionError(data=None, errors=told([GraphQLError(str(error), original_error=error)]))

    def execute_sync(self, *args: Any, **kwargs: Any) -> ExecutionResult:
        """Run an operation without a loop, as introspection needs it; else as `execute`."""
        result = super().execute_sync(*args, **kwargs)
        if result.errors:
            result.errors = public_errors(result.errors)
        return result

    def _admit(
        self,
        prepared: Prepared,
        name: str | None,
        allowed: Iterable[OperationType] | None,
        variables: dict[str, Any] | None,
        context: Any,
    ) -> tuple[Operation | None, list[GraphQLError]]:
        """Return the operation to run, or why it may not be run."""
        if prepared.errors:
            return None, prepared.errors
        operation = prepared.operation(name)
        if operation is None:
            raise CannotGetOperationTypeError(name)
        type_ = _OPERATION_TYPES[operation.node.operation.value]
        if type_ not in (_ALL_TYPES if allowed is None else allowed):
            raise InvalidOperationTypeError(type_)
        error = check(operation.demand, getattr(context, "principal", ANONYMOUS))
        error = error or operation.check_nodes(variables)
        return (None, [error]) if error else (operation, [])

    async def _prepare_operation_async(
        self, context: ExecutionContext, extensions_runner: SchemaExtensionsRunner
    ) -> PreExecutionError | None:
        # Subscriptions come through here, and are admitted like everything else.
        return self._prepare_stream(context)

    def _prepare_operation_sync(
        self, context: ExecutionContext, extensions_runner: SchemaExtensionsRunner
    ) -> ExecutionResult | None:
        return self._prepare_stream(context)

    def _prepare_stream(self, context: ExecutionContext) -> PreExecutionError | None:
        if not context.query:
            raise MissingQueryError
        prepared = self.documents.prepare(context.query)
        operation, errors = self._admit(
            prepared,
            context._provided_operation_name,
            context.allowed_operations,
            context.variables,
            context.context,
        )
        if operation is None:
            context.pre_execution_errors = errors
            return PreExecutionError(data=None, errors=errors)
        context.graphql_document = prepared.document
        return None

    async def _handle_execution_result(self, context: ExecutionContext, *args: Any, **kwargs: Any) -> Any:
        result = await super()._handle_execution_result(context, *args, **kwargs)
        if result.errors:
            request_id = getattr(context.context, "request_id", None)
            result.errors = public_errors(
                result.errors, operation=context.operation_name, request_id=request_id
            )
        return result

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Leave the logging to the masking, which knows the error's id."""


def build_schema(
    query: type,
    mutation: type | None = None,
    subscription: type | None = None,
    types: Iterable[type] = (),
    *,
    settings: Settings | None = None,
    suggestions: bool = True,
) -> LaurelSchema:
    """Return the schema of these root types; `types` are those that only an interface leads to.

    Without settings the limits are the usual ones, and the fast executor is on.

    Raises:
        UndeclaredAccess: a field does not say who may read it.
        ValueError: GraphQL does not allow such a schema.
    """
    return LaurelSchema(
        query,
        mutation,
        subscription,
        types,
        limits=None if settings is None else Limits.of(settings),
        fast_executor=settings is None or settings.fast_executor,
        suggestions=suggestions,
    )
