"""What every concept checks of its inputs, and how it tells what the database refused."""

from collections.abc import Collection

import asyncpg
from tortoise.exceptions import IntegrityError

from app.errors import ErrorCode, Refused, UserError
from app.text import is_line

INTEGRITY_ERRORS = (asyncpg.IntegrityConstraintViolationError, IntegrityError)
"""What a broken constraint raises: asyncpg's own from plain SQL, Tortoise's from models."""


def violated_constraint(error: BaseException) -> str | None:
    """Return the name of the constraint or unique index that one of INTEGRITY_ERRORS is about."""
    cause = error.args[0] if isinstance(error, IntegrityError) and error.args else error
    name: str | None = getattr(cause, "constraint_name", None)
    return name


def label(field: tuple[str, ...]) -> str:
    """Return how a sentence that starts with a field calls it: ("expiry", "months") is "Months of expiry"."""
    parts = [part.replace("_", " ") for part in field if not part.isdecimal() and part != "limits"]
    words = " of ".join(reversed(parts))
    return words[:1].upper() + words[1:]


class Problems:
    """Everything that is wrong with one input, so that its sender hears it all at once."""

    def __init__(self) -> None:
        self._errors: list[UserError] = []

    @property
    def errors(self) -> tuple[UserError, ...]:
        """What was noted so far."""
        return tuple(self._errors)

    def add(self, message: str, *field: str, code: ErrorCode = ErrorCode.INVALID) -> None:
        """Note one thing that is wrong with a field."""
        self._errors.append(UserError(code, message, field or None))

    def whole(self, value: int, low: int, high: int, *field: str) -> None:
        """Check that a whole number is between two bounds, both included."""
        if not low <= value <= high:
            self.add(f"{label(field)} must be between {low:,} and {high:,}.", *field)

    def one_of(self, value: str, allowed: Collection[str], *field: str) -> None:
        """Check that a name is among those that there are."""
        if value not in allowed:
            self.add(f"{label(field)} must be one of {', '.join(allowed)}.", *field)

    def line(self, value: str, longest: int, *field: str) -> None:
        """Check one line of text: 1 to `longest` characters, no control characters, no space at its ends."""
        if not 1 <= len(value) <= longest:
            self.add(f"{label(field)} must have between 1 and {longest} characters.", *field)
        elif not is_line(value):
            self.add(f"{label(field)} must not contain control characters.", *field)
        elif value != value.strip():
            self.add(f"{label(field)} must not start or end with a space.", *field)

    def refuse_any(self) -> None:
        """Raise Refused with everything noted; do nothing when nothing was."""
        if self._errors:
            raise Refused(self._errors)
