"""How long to wait before the next attempt. Pure."""

import random
from datetime import datetime, timedelta

PATIENCE = timedelta(days=3)
"""So long a message is tried again after it failed first, and a receiver that takes nothing at all."""

PAUSE_AFTER = 10
"""So many messages that fail one after the other, with none that is taken, say that a receiver is down."""

_FIRST_SECONDS = 5.0
_LONGEST_SECONDS = 4 * 3600.0
_LONGEST_PAUSE_SECONDS = 600.0


def next_attempt(attempts: int, first_failed_at: datetime, now: datetime) -> datetime:
    """Return when a message is tried again: after 5 seconds, twice as long each time, and at most 4 hours.

    The last attempt falls to the end of the three days.

    Args:
        attempts: how many have failed, at least one.
    """
    return min(now + _spread(attempts, _LONGEST_SECONDS), max(first_failed_at + PATIENCE, now))


def next_probe(failures: int, now: datetime) -> datetime:
    """Return when a receiver that is down is asked again: after seconds at first, ten minutes at most.

    Args:
        failures: messages that failed one after the other, PAUSE_AFTER or more.
    """
    return now + _spread(1 + failures - PAUSE_AFTER, _LONGEST_PAUSE_SECONDS)


def _spread(times: int, longest: float) -> timedelta:
    # Half as long up to half as long again, so that what failed together does not come back together.
    seconds = min(longest, _FIRST_SECONDS * 2.0 ** min(times - 1, 30))
    return timedelta(seconds=seconds * random.uniform(0.5, 1.5))  # noqa: S311
