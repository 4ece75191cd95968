"""How what went wrong is told to the client, and how the rest is kept from it."""

import secrets
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import strawberry
import structlog
from graphql import GraphQLError
from strawberry.utils.str_converters import to_camel_case

from app import errors as app_errors
from app.errors import Denied, Refused, Unavailable
from app.metrics import ERRORS, USER_ERRORS
from graphql_schema.access import INHERITED, object_type

log = structlog.stdlib.get_logger("laurel.graphql")

PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
BAD_USER_INPUT = "BAD_USER_INPUT"
FORBIDDEN = "FORBIDDEN"
UNAVAILABLE = "UNAVAILABLE"
INTERNAL = "INTERNAL"
TIMEOUT = "TIMEOUT"

_MASKED = "Something went wrong on our side."
_AWAY = "Something that Laurel needs is not available; try again: what was done is not done twice."


@strawberry.enum(description="What kind of thing is wrong with an input.")
class UserErrorCode(Enum):
    INVALID = strawberry.enum_value("INVALID", description="A value breaks a rule; the message says which.")
    NOT_FOUND = strawberry.enum_value(
        "NOT_FOUND", description="What an id or a reference names is not there."
    )
    ALREADY_EXISTS = strawberry.enum_value(
        "ALREADY_EXISTS", description="Something else has this name or key."
    )
    IDEMPOTENCY_CONFLICT = strawberry.enum_value(
        "IDEMPOTENCY_CONFLICT", description="The key was used before, with other content."
    )
    INSUFFICIENT_POINTS = strawberry.enum_value(
        "INSUFFICIENT_POINTS", description="The member has fewer points available than this takes."
    )
    NOT_ELIGIBLE = strawberry.enum_value("NOT_ELIGIBLE", description="The member does not qualify for this.")
    LIMIT_REACHED = strawberry.enum_value("LIMIT_REACHED", description="A limit allows no more of this.")
    OUT_OF_STOCK = strawberry.enum_value("OUT_OF_STOCK", description="None is left.")
    WRONG_STATE = strawberry.enum_value("WRONG_STATE", description="Its present state does not allow this.")


@object_type(
    description="What the caller can put right. Anything else is a top-level GraphQL error.",
    access=INHERITED,
)
class UserError:
    code: UserErrorCode = strawberry.field(description="For programs: what kind of thing is wrong.")
    message: str = strawberry.field(description="For people: what is wrong, in a sentence.")
    field: list[str] | None = strawberry.field(
        description="Path of the input field at fault, in the client's own spelling.", default=None
    )


def field_path(field: Iterable[str] | None) -> list[str] | None:
    """Return a services' path of an input field as clients spell it; positions stay as they are."""
    return None if field is None else [to_camel_case(part) for part in field]


def user_errors(errors: Sequence[app_errors.UserError], *prefix: str) -> list[UserError]:
    """Return services' errors as a payload gives them, their fields under `prefix`; count them."""
    for error in errors:
        USER_ERRORS.labels(error.code.value).inc()
    return [
        UserError(
            code=UserErrorCode(error.code.value),
            message=error.message,
            field=field_path((*prefix, *(error.field or ())) or None),
        )
        for error in errors
    ]


def told(error: GraphQLError, code: str, message: str | None = None, **extensions: Any) -> GraphQLError:
    """Return an error at the same place, with a code and perhaps another message, without its cause."""
    return GraphQLError(
        error.message if message is None else message,
        error.nodes,
        error.source,
        error.positions,
        error.path,
        extensions={"code": code, **extensions},
    )


def _cause(error: GraphQLError) -> BaseException:
    """Return what was raised; graphql-core wraps it once for each field that it passed through."""
    cause: BaseException = error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    return cause


def _refused(error: GraphQLError, refused: Refused) -> list[GraphQLError]:
    return [
        told(error, BAD_USER_INPUT, one.message, field=field_path(one.field), reason=one.code.value)
        for one in refused.errors
    ]


def public_errors(
    errors: Iterable[GraphQLError], *, operation: str | None = None, request_id: str | None = None
) -> list[GraphQLError]:
    """Return what a client may see of the errors of an execution, each with a code.

    What nobody expected is logged with its traceback under an id; the client gets the id only.
    """
    public: list[GraphQLError] = []
    for error in errors:
        cause = _cause(error)
        if error.extensions and "code" in error.extensions:
            public.append(error)
        elif isinstance(cause, Refused):
            public.extend(_refused(error, cause))
        elif isinstance(cause, Denied):
            public.append(told(error, FORBIDDEN, str(cause)))
        elif isinstance(cause, Unavailable):
            public.append(told(error, UNAVAILABLE, _AWAY))
        elif isinstance(cause, GraphQLError) and (error.path is None or cause.nodes):
            # Only what reads the client's own input names its place in the document by itself.
            public.append(told(error, BAD_USER_INPUT))
        else:
            public.append(_masked(error, cause, operation, request_id))
    return public


def _masked(
    error: GraphQLError, cause: BaseException, operation: str | None, request_id: str | None
) -> GraphQLError:
    error_id = secrets.token_hex(6)
    ERRORS.labels("api").inc()
    # Without an id of its own the line keeps the one that is bound to the request.
    named = {} if request_id is None else {"request_id": request_id}
    log.error(
        "graphql_error",
        error_id=error_id,
        operation=operation,
        path=error.path,
        **named,
        exc_info=(type(cause), cause, cause.__traceback__),
    )
    return told(error, INTERNAL, _MASKED, errorId=error_id)


def unexpected(
    error: Exception, *, operation: str | None = None, request_id: str | None = None
) -> GraphQLError:
    """Return what a client may see of an exception that no field raised, and log it where it must be."""
    wrapped = error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)
    return public_errors([wrapped], operation=operation, request_id=request_id)[0]
