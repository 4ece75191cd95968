"""The time, in one place, so that a test can move it."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the present instant, in UTC with microseconds."""
    return datetime.now(UTC)
