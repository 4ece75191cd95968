"""Calendar periods in which limits are counted. Pure."""

from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

from app.earning.rules import Period


class Span(NamedTuple):
    """The first and the last local day of a period."""

    first: date
    last: date


@lru_cache(maxsize=4096)
def span(day: date, period: Period) -> Span:
    """Return the period that a day lies in; weeks are those of ISO 8601, which begin on Monday."""
    if period is Period.DAY:
        return Span(day, day)
    if period is Period.WEEK:
        monday = day - timedelta(days=day.weekday())
        return Span(monday, monday + timedelta(days=6))
    if period is Period.MONTH:
        first = day.replace(day=1)
        following = (first + timedelta(days=31)).replace(day=1)
        return Span(first, following - timedelta(days=1))
    return Span(date(day.year, 1, 1), date(day.year, 12, 31))
