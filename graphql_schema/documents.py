"""Documents that have been parsed, validated and measured once, kept for the next request."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    Visitor,
    parse,
    specified_rules,
    validate,
    visit,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from graphql_schema.errors import PARSE_FAILED, VALIDATION_FAILED, told
from graphql_schema.guard import Demand, Guard
from graphql_schema.limits import MAX_DOCUMENT_CHARS, Limits, NodeCount, check_shape, too_complex
from graphql_schema.plans import PlanCache

_RULES = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)

MAX_CACHE_WEIGHT = 100_000
"""In tokens: about 100 MiB of syntax trees at the very worst, and thousands of usual documents."""

_TOO_DEEP = "The document is nested too deeply."


class _FindsConditions(Visitor):
    """Notes whether anything in a document is selected under a directive."""

    found = False

    def enter_directive(self, *_args: Any) -> None:
        self.found = True


class Operation:
    """One operation of a valid document, with all that does not change from request to request."""

    __slots__ = ("_limit", "_most", "_nodes", "demand", "name", "node", "plans")

    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        node: OperationDefinitionNode,
        demand: Demand,
        limits: Limits,
        plans: PlanCache | None,
    ) -> None:
        self.node = node
        self.name = node.name.value if node.name else None
        self.demand = demand
        self.plans = plans
        """None where a directive may select other fields in another request."""
        self._nodes = NodeCount(schema, document, node)
        self._most = self._nodes.most()
        self._limit = limits.nodes

    def check_nodes(self, variables: Mapping[str, Any] | None) -> GraphQLError | None:
        """Return the error for an operation that can reach too many objects with these variables."""
        if self._most <= self._limit:
            return None
        most = self._nodes.most(variables or {})
        if most <= self._limit:
            return None
        return too_complex(
            f"The operation can reach {most:,} objects; {self._limit:,} are allowed. Ask for smaller pages.",
            self.node,
        )


class Prepared:
    """A document as it can be run, or the reasons why it cannot."""

    __slots__ = ("_operations", "document", "errors", "weight")

    def __init__(
        self,
        document: DocumentNode | None,
        operations: list[Operation],
        errors: list[GraphQLError],
        weight: int,
    ) -> None:
        self.document = document
        self.errors = errors
        self.weight = weight
        self._operations = {operation.name: operation for operation in operations}

    def operation(self, name: str | None) -> Operation | None:
        """Return the operation of a name, or the only one; None when that does not tell which."""
        if name is None and len(self._operations) == 1:
            return next(iter(self._operations.values()))
        return self._operations.get(name)


class Documents:
    """Prepares documents for one schema, and remembers the latest, failing ones included."""

    def __init__(
        self, schema: GraphQLSchema, guard: Guard, limits: Limits, *, suggestions: bool = True
    ) -> None:
        self._schema = schema
        self._guard = guard
        self._limits = limits
        self._hide_suggestions = not suggestions
        self._known: OrderedDict[str, Prepared] = OrderedDict()
        self._weight = 0

    def prepare(self, text: str) -> Prepared:
        """Return a document parsed, validated and measured. Never raises: errors are part of it."""
        known = self._known.get(text)
        if known is not None:
            self._known.move_to_end(text)
            return known
        if len(text) > MAX_DOCUMENT_CHARS:
            error = too_complex(f"The document is longer than {MAX_DOCUMENT_CHARS:,} characters.")
            return Prepared(None, [], [error], 0)
        try:
            prepared = self._prepare(text)
        except RecursionError:
            prepared = Prepared(None, [], [too_complex(_TOO_DEEP)], 1)
        self._remember(text, prepared)
        return prepared

    def _remember(self, text: str, prepared: Prepared) -> None:
        # A document's text costs memory as well, of which comments and strings may be most.
        prepared.weight += 1 + len(text) // 100
        self._known[text] = prepared
        self._weight += prepared.weight
        while self._weight > MAX_CACHE_WEIGHT and len(self._known) > 1:
            self._weight -= self._known.popitem(last=False)[1].weight

    def _prepare(self, text: str) -> Prepared:
        try:
            document = parse(text, max_tokens=self._limits.tokens)
        except GraphQLSyntaxError as error:
            if "Document contains more than" in error.message:
                message = f"The document has more than {self._limits.tokens:,} tokens."
                return Prepared(None, [], [too_complex(message)], 1)
            if "nested too deeply" in error.message:
                return Prepared(None, [], [too_complex(_TOO_DEEP)], 1)
            return Prepared(None, [], [told(error, PARSE_FAILED)], 1)
        weight = document.token_count
        errors = check_shape(document, self._limits) or [
            told(error, VALIDATION_FAILED)
            for error in validate(self._schema, document, _RULES, hide_suggestions=self._hide_suggestions)
        ]
        if errors:
            return Prepared(None, [], errors, weight)
        conditions = _FindsConditions()
        visit(document, conditions)
        operations = [
            Operation(
                self._schema,
                document,
                node,
                self._guard.demand(document, node),
                self._limits,
                None if conditions.found else PlanCache(),
            )
            for node in document.definitions
            if isinstance(node, OperationDefinitionNode)
        ]
        return Prepared(document, operations, [], weight)
