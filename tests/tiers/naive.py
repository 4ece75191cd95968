"""What members have earned, worked out in the plainest way: day by day, adding up everything each time."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from app.days import local_date, start_of_day
from app.tiers.policy import TierDowngrade, TierPolicy, TierWindow
from app.tiers.qualification import Counted

DAY = timedelta(days=1)
FOR_GOOD = date(2999, 1, 1)


def months_later(day: date, months: int) -> date:
    """Return the same day of a later month, or its last."""
    year, month = day.year + (day.month - 1 + months) // 12, (day.month - 1 + months) % 12 + 1
    while True:
        try:
            return day.replace(year=year, month=month)
        except ValueError:
            day -= DAY


def counts(policy: TierPolicy, happened: date, today: date) -> bool:
    """Tell whether what happened on a day counts on another one, not before it."""
    if policy.window is TierWindow.CALENDAR_YEAR:
        return happened.year == today.year
    if policy.window is TierWindow.ROLLING_MONTHS:
        assert policy.months
        return today <= months_later(happened, policy.months)
    return True


def sum_on(
    policy: TierPolicy, zone: ZoneInfo, counted: Sequence[Counted], until: datetime, today: date
) -> Decimal:
    """Return what counts on a day of all that had happened by a moment."""
    return sum(
        (
            each.value
            for each in counted
            if each.occurred_at <= until and counts(policy, local_date(each.occurred_at, zone), today)
        ),
        Decimal(0),
    )


def ranks(
    policy: TierPolicy,
    zone: ZoneInfo,
    thresholds: Sequence[Sequence[tuple[datetime, Decimal]]],
    counted: Sequence[Counted],
    since: datetime,
    now: datetime,
) -> list[tuple[datetime, int]]:
    """Return every change of rank, and when it was, by looking at each day and each thing that happened."""
    moments = {each.occurred_at for each in counted} | {moment for own in thresholds for moment, _ in own[1:]}
    day = local_date(since, zone)
    while start_of_day(day, zone) <= now:
        moments.add(start_of_day(day, zone))
        day += DAY
    rank, safe_until = 0, dict.fromkeys(range(len(thresholds) + 1), date.min)
    safe_until[0] = FOR_GOOD
    changes: list[tuple[datetime, int]] = []
    for moment in sorted(moment for moment in moments if moment <= now):
        today = local_date(moment, zone)
        for n, own in enumerate(thresholds, start=1):
            threshold = [value for start, value in own if start <= moment or start == own[0][0]][-1]
            if sum_on(policy, zone, counted, moment, today) >= threshold:
                end = today
                while end < today + timedelta(days=1200) and (
                    sum_on(policy, zone, counted, moment, end) >= threshold
                ):
                    end += DAY
                lost = FOR_GOOD if end >= today + timedelta(days=1200) else end + timedelta(policy.grace_days)
                safe_until[n] = max(safe_until[n], lost)
        safe = max(n for n, end in safe_until.items() if today < end)
        if safe < rank and today >= safe_until[rank]:
            if policy.downgrade is TierDowngrade.NEVER:
                safe = rank
            elif policy.downgrade is TierDowngrade.ONE_STEP and safe < rank - 1:
                safe = rank - 1
                first = today
                while counts(policy, today, first):
                    first += DAY
                safe_until[safe] = max(safe_until[safe], first + timedelta(policy.grace_days))
        if safe != rank and (safe > rank or today >= safe_until[rank]):
            rank = safe
            changes.append((moment, rank))
    return changes
