"""Calendar periods: days, ISO weeks, months and years."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from app.earning.periods import span
from app.earning.rules import Period

DAY, WEEK, MONTH, YEAR = Period


@pytest.mark.parametrize(
    ("period", "day", "first", "last"),
    [
        (DAY, "2026-03-29", "2026-03-29", "2026-03-29"),
        # Weeks begin on Monday, and pay no heed to months and years.
        (WEEK, "2026-03-02", "2026-03-02", "2026-03-08"),
        (WEEK, "2026-03-08", "2026-03-02", "2026-03-08"),
        (WEEK, "2026-01-01", "2025-12-29", "2026-01-04"),
        (WEEK, "2027-01-03", "2026-12-28", "2027-01-03"),
        (MONTH, "2026-02-28", "2026-02-01", "2026-02-28"),
        (MONTH, "2028-02-01", "2028-02-01", "2028-02-29"),
        (MONTH, "2026-12-31", "2026-12-01", "2026-12-31"),
        (MONTH, "2026-01-31", "2026-01-01", "2026-01-31"),
        (MONTH, "2026-04-30", "2026-04-01", "2026-04-30"),
        (YEAR, "2026-01-01", "2026-01-01", "2026-12-31"),
        (YEAR, "2028-02-29", "2028-01-01", "2028-12-31"),
    ],
)
def test_a_period_has_its_first_and_its_last_day(period: Period, day: str, first: str, last: str) -> None:
    assert span(date.fromisoformat(day), period) == (date.fromisoformat(first), date.fromisoformat(last))


@profile(max_examples=200, deadline=None)
@given(st.dates(date(1970, 1, 1), date(2200, 12, 31)), st.sampled_from(Period))
def test_every_day_lies_in_one_period_and_periods_follow_each_other(day: date, period: Period) -> None:
    first, last = span(day, period)
    assert first <= day <= last
    assert span(first, period) == span(last, period) == (first, last)
    assert span(first - timedelta(days=1), period).last == first - timedelta(days=1)
    assert span(last + timedelta(days=1), period).first == last + timedelta(days=1)


@profile(max_examples=100, deadline=None)
@given(st.dates(date(1970, 1, 1), date(2200, 12, 31)))
def test_weeks_are_those_of_iso_8601(day: date) -> None:
    first, last = span(day, WEEK)
    assert first.isocalendar()[:2] == day.isocalendar()[:2] == last.isocalendar()[:2]
    assert (first.isoweekday(), last.isoweekday()) == (1, 7)
