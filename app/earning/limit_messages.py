"""What is told of a limit that keeps a rule away from an event. Pure."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from app.earning.compiled import CompiledRule
from app.earning.outcomes import Closed, Reason
from app.earning.rules import Period

_PER = {Period.DAY: "a day", Period.WEEK: "a week", Period.MONTH: "a month", Period.YEAR: "a year"}


def closed_message(rule: CompiledRule, closed: Closed) -> str:
    """Return why a rule is not there for an event, and when it will be there again, in sentences."""
    limits, zone = rule.limits, ZoneInfo(closed.zone)
    if closed.reason is Reason.MEMBER_LIMIT_REACHED:
        return (
            f"The rule pays each member {_times(limits.max_times_per_member or 1)} in all, and has done so."
        )
    if closed.reason is Reason.COOLING_DOWN and closed.paid_at is not None:
        waits = _minutes(limits.cooldown_minutes or 0)
        message = f"The rule paid on {local_time(closed.paid_at, zone)}, and waits {waits}."
    else:
        assert limits.frequency
        message = (
            f"The rule pays {_times(limits.frequency.times)} {_PER[limits.frequency.per]}, and has done so."
        )
    if closed.again is None:
        return message
    if rule.ends_at is not None and closed.again >= rule.ends_at:
        return f"{message} It ends before the next time."
    return f"{message} The next time is possible from {local_time(closed.again, zone)} on."


def _times(times: int) -> str:
    return "once" if times == 1 else "twice" if times == 2 else f"{times:,} times"


def _minutes(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    if not rest and hours > 24 and not hours % 24:
        return f"{hours // 24:,} days"
    if rest or not hours:
        return f"{minutes:,} minute{'' if minutes == 1 else 's'}"
    return f"{hours:,} hour{'' if hours == 1 else 's'}"


def local_time(instant: datetime, zone: ZoneInfo) -> str:
    """Return a time as sentences tell it, to the minute, on the clocks of a zone."""
    local = instant.astimezone(zone)
    # Upwards to the minute: a time that is told must not come too early.
    if local.second or local.microsecond:
        local = (instant + timedelta(seconds=60 - local.second)).astimezone(zone)
    return f"{local.day} {local:%B %Y, %H:%M} ({zone.key})"
