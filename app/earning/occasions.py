"""What Laurel finds out by itself: that somebody joined, told all about themselves, has a day to celebrate.

Each of these occasions is an event under an id of Laurel's own, which makes it happen once: joining and the
profile once for good, birthday and anniversary once in each year, whatever becomes of the member's dates.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg

from app.days import start_of_day
from app.earning import rulesets
from app.earning.batch import Earned
from app.earning.events import MAX_EVENTS, OWN_PREFIX, Incoming, OwnDeed
from app.earning.recording import record_within
from app.earning.rules import Action, EventKind
from app.earning.ruleset import Facts, RuleSet
from app.members.inputs import MemberStatus
from app.members.reads import MemberRef, MemberRow

_FIRST_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)
"""No event lies before; whoever joined earlier is recorded as of then."""

_NAMES = {
    Action.REGISTRATION: "registration",
    Action.PROFILE_COMPLETED: "profile",
    Action.BIRTHDAY: "birthday",
    Action.ANNIVERSARY: "anniversary",
}

_PROFILE = """
SELECT p.rules_version,
    EXISTS (SELECT FROM event e WHERE e.program_id = p.id AND e.external_id = $2) AS recorded
FROM program p WHERE p.id = $1
"""


def paying_rules(rule_set: RuleSet, action: Action, moment: datetime) -> list[UUID]:
    """Return the active rules for an action whose window holds a moment.

    Without any the occasion is not recorded: it would earn nothing, and could never earn anything again.
    """
    return [
        rule.id
        for rule, _ in rule_set.candidates(Facts(EventKind.ACTION, moment, action=action))
        if (rule.starts_at is None or rule.starts_at <= moment)
        and (rule.ends_at is None or moment < rule.ends_at)
    ]


def day_prefix(action: Action, day: date) -> str:
    """Return how the ids begin of the year in which a local day lies; the member's id in hex follows."""
    return f"{OWN_PREFIX}{_NAMES[action]}:{day.year}:"


def day_event(action: Action, day: date, zone: ZoneInfo, member_id: UUID) -> Incoming:
    """Return a birthday or an anniversary, which happens as the local day begins in the program's zone."""
    external_id = f"{day_prefix(action, day)}{member_id.hex}"
    return _event(external_id, action, start_of_day(day, zone), member_id)


def _event(external_id: str, action: Action, occurred_at: datetime, member_id: UUID) -> Incoming:
    deed = OwnDeed(external_id, action, occurred_at)
    return Incoming(deed, MemberRef(id=member_id), kind=EventKind.ACTION)


def _single_id(action: Action, member_id: UUID) -> str:
    return f"{OWN_PREFIX}{_NAMES[action]}:{member_id.hex}"


def _joined(member: MemberRow) -> datetime:
    return max(member.joined_at, _FIRST_MOMENT)


def _is_complete(member: MemberRow) -> bool:
    return None not in (member.email, member.phone, member.name, member.birthday)


async def record_enrolments(
    sql: asyncpg.Connection, program_id: UUID, version: int, members: Sequence[MemberRow], now: datetime
) -> list[Earned]:
    """Record that members joined, and which of them told all about themselves, and earn what that pays.

    Joining happens at `joined_at`, the profile at the time of recording. For a program without rules
    for either nothing is asked of the database.

    Args:
        sql: a connection inside the transaction that added the members and their accounts.
        version: the program's `rules_version` as just read.
        now: the time of recording (UTC).

    Returns:
        What is to be handed to `count` after the commit.
    """
    rule_set = await rulesets.current(sql, program_id, version)
    events: list[Incoming] = []
    if Action.REGISTRATION in rule_set.has_actions:
        action = Action.REGISTRATION
        events += [
            _event(_single_id(action, member.id), action, _joined(member), member.id)
            for member in members
            if paying_rules(rule_set, action, _joined(member))
        ]
    if paying_rules(rule_set, Action.PROFILE_COMPLETED, now):
        events += [_profile(member, now) for member in members if _is_complete(member)]
    earned: list[Earned] = []
    for start in range(0, len(events), MAX_EVENTS):
        _, more = await record_within(sql, program_id, events[start : start + MAX_EVENTS], now)
        earned += more
    return earned


def _profile(member: MemberRow, now: datetime) -> Incoming:
    action = Action.PROFILE_COMPLETED
    return _event(_single_id(action, member.id), action, now, member.id)


async def record_update(sql: asyncpg.Connection, member: MemberRow, now: datetime) -> list[Earned]:
    """Record that a member has told all about themselves, unless that was before, and earn what it pays.

    Of one who is suspended or closed nothing is recorded, so that a later update can still pay.

    Args:
        sql: a connection inside the transaction that changed the member, whose row it has locked:
            accounts come after the member in the order of locks.
        member: as they are after the change.
        now: the time of recording (UTC).

    Returns:
        What is to be handed to `count` after the commit.
    """
    if member.status != MemberStatus.ACTIVE or not _is_complete(member):
        return []
    event = _profile(member, now)
    row = await sql.fetchrow(_PROFILE, member.program_id, event.content.external_id)
    if row["recorded"]:
        return []
    rule_set = await rulesets.current(sql, member.program_id, row["rules_version"])
    if not paying_rules(rule_set, Action.PROFILE_COMPLETED, now):
        return []
    _, earned = await record_within(sql, member.program_id, [event], now)
    return earned
