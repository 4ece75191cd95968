"""Calendar days in a zone, and the instants at which they begin and end. Pure."""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo


def local_date(instant: datetime, zone: ZoneInfo) -> date:
    """Return the calendar day on which an instant falls in a zone."""
    return instant.astimezone(zone).date()


@lru_cache(maxsize=4096)
def start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of a calendar day in a zone, in UTC.

    Where daylight saving skips midnight it is the first instant after the gap, where it repeats
    midnight the first of the two: both are what fold=0 means.
    """
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def end_of_day(day: date, zone: ZoneInfo) -> datetime:
    """Return the last whole second of a calendar day in a zone, in UTC."""
    return start_of_day(day + timedelta(days=1), zone) - timedelta(seconds=1)
