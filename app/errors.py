"""What a caller can put right, as values: services raise `Refused`, batches return `UserError`s."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class ErrorCode(StrEnum):
    INVALID = "INVALID"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    INSUFFICIENT_POINTS = "INSUFFICIENT_POINTS"
    NOT_ELIGIBLE = "NOT_ELIGIBLE"
    LIMIT_REACHED = "LIMIT_REACHED"
    OUT_OF_STOCK = "OUT_OF_STOCK"
    WRONG_STATE = "WRONG_STATE"


@dataclass(frozen=True, slots=True)
class UserError:
    """One thing that is wrong with the caller's input.

    `field` is the path of the input field at fault, below the mutation's input, in the names
    of the services (`("lines", "0", "unit_price")`); the API spells it the client's way.
    """

    code: ErrorCode
    message: str
    field: tuple[str, ...] | None = None

    def under(self, *prefix: str) -> "UserError":
        """Return the same error with its field seen from further out."""
        return UserError(self.code, self.message, prefix + (self.field or ()))


class Refused(Exception):
    """A service did nothing, because of what the caller asked for.

    `errors` holds everything that is known to be wrong, at least one.
    """

    def __init__(self, errors: Sequence[UserError]) -> None:
        assert errors
        super().__init__("; ".join(error.message for error in errors))
        self.errors = tuple(errors)


def refuse(code: ErrorCode, message: str, *field: str) -> Refused:
    """Make a refusal with one error: `raise refuse(ErrorCode.INVALID, "…", "amount")`."""
    return Refused([UserError(code, message, field or None)])


class Denied(Exception):
    """The credential does not allow what was asked; nothing was done."""


class Unavailable(Exception):
    """Something that Laurel needs is away or overloaded; the same call may pass later."""
