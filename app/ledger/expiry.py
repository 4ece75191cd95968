"""When points expire: pure calendar arithmetic on a program's local days."""

import calendar
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

NEVER = date.max
"""The day that does not come; PostgreSQL's infinity."""


class ExpiryKind(StrEnum):
    NEVER = "NEVER"
    ROLLING_MONTHS = "ROLLING_MONTHS"
    END_OF_YEAR = "END_OF_YEAR"
    INACTIVITY_MONTHS = "INACTIVITY_MONTHS"


@dataclass(frozen=True, slots=True)
class ExpiryPolicy:
    """How long points live; `months` (1 to 1200) belongs to the two kinds that count them."""

    kind: ExpiryKind = ExpiryKind.NEVER
    months: int | None = None

    def last_day(self, available_on: date) -> date:
        """Return the last local day on which points that become available on a day can be spent.

        NEVER for inactivity too: there it is the account that falls idle, not the lot that ages.
        """
        if self.kind is ExpiryKind.ROLLING_MONTHS:
            assert self.months
            return add_months(available_on, self.months)
        if self.kind is ExpiryKind.END_OF_YEAR:
            return date(available_on.year, 12, 31)
        return NEVER

    @property
    def inactive_months(self) -> int | None:
        """After how many months without earn or spend everything expires; None for other kinds."""
        return self.months if self.kind is ExpiryKind.INACTIVITY_MONTHS else None


def add_months(day: date, months: int) -> date:
    """Return the same day of a later month, or that month's last day where it is shorter.

    31 January and one month is 28 (29) February, as PostgreSQL counts too.
    """
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if year > date.max.year - 1:
        return NEVER
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
