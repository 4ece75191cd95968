"""What limits leave: read for a batch of events while their accounts are locked, and spent event by event."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg

from app.days import local_date, start_of_day
from app.earning.budgets import spent_by
from app.earning.compiled import CompiledRule
from app.earning.outcomes import Award, Closed, Reason, Room
from app.earning.periods import span
from app.earning.receipts import NO_ROOMS, KeptRooms
from app.earning.refunds import STILL_COUNTED
from app.earning.rules import EventKind, Period
from app.earning.ruleset import Candidate, Facts
from app.programs.policy import ProgramPolicy

# One walk along a member's events for each pair, whatever the planner knows of the tables.
_PAID = f"""
SELECT t.n, x.occurred_at, x.day, x.points /* scoped by: account */
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[])
    WITH ORDINALITY AS t(member_id, rule_id, since, until, n)
CROSS JOIN LATERAL (
    SELECT e.occurred_at, coalesce(a.day, (e.occurred_at AT TIME ZONE $5)::date) AS day,
        {STILL_COUNTED} AS points
    FROM event e JOIN award a ON a.event_id = e.id AND a.rule_id = t.rule_id
    WHERE e.member_id = t.member_id AND e.occurred_at >= t.since AND e.occurred_at < t.until
        AND {STILL_COUNTED} > 0
    ORDER BY e.occurred_at DESC LIMIT 1000000
) x
"""  # noqa: S608 - nothing but constants

# How often a rule for referrals has paid goes by the friends, whichever side it paid.
_BROUGHT = """
SELECT t.n, c.occurred_at, (c.occurred_at AT TIME ZONE $5)::date AS day, 0 /* scoped by: account */
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[])
    WITH ORDINALITY AS t(member_id, rule_id, since, until, n)
JOIN referral_credit c ON c.referrer_id = t.member_id AND c.occurred_at >= t.since AND c.occurred_at < t.until
    AND t.rule_id = ANY(c.rule_ids) AND (c.taken_back_at IS NULL OR EXISTS (
        SELECT FROM refund_award m WHERE m.event_id IN (c.referrer_event_id, c.referred_event_id)
            AND m.rule_id = t.rule_id AND m.written_off > 0))
"""

_COUNTERS = """
SELECT c.member_id, c.day, c.points /* scoped by: account */
FROM unnest($2::uuid[], $3::date[]) AS t(member_id, day)
JOIN earning_counter c ON c.member_id = t.member_id AND c.subject = $1 AND c.day = t.day
"""

_EVER = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))


class Waiting(NamedTuple):
    """An event that is to be earned; its days are those of `zone`, or of the program's when that is None."""

    id: UUID
    member_id: UUID
    facts: Facts
    zone: ZoneInfo | None = None
    external_id: str | None = None
    """By which others know it; what it earns is told under it."""


class _Paid(NamedTuple):
    """What a rule gave a member for one event, less what refunds took back."""

    occurred_at: datetime
    day: date
    points: int


class Place(NamedTuple):
    """Where an event counts: its member and its local day, with the zone that makes it."""

    member_id: UUID
    day: date
    zone: ZoneInfo


class Rooms:
    """What limits leave to one event; remembers what it was asked."""

    def __init__(self, book: "Book", place: Place, moment: datetime) -> None:
        self._book = book
        self.place = place
        """Where the event counts."""
        self._moment = moment
        self._asked: dict[UUID, Room] = {}
        self.program_day = book.program_room(place)

    def of(self, rule: CompiledRule) -> Room:
        """Return what the limits of a rule leave."""
        room = self._asked[rule.id] = self._book.room(rule, self.place, self._moment)
        return room

    def again(self, rule: CompiledRule) -> datetime | None:
        """Return when the limits of a rule that turn the event away will let one be paid; None for never."""
        return self._book.again(rule, self.place, self._moment)

    def kept(self) -> KeptRooms:
        """Return what was asked, to be kept with the event."""
        if self.program_day is None and not self._asked:
            return NO_ROOMS
        return KeptRooms(self.program_day, self._asked)


class Book:
    """What has been given so far, as far as limits of a batch's events need to know it."""

    def __init__(self, policy: ProgramPolicy) -> None:
        self._policy = policy
        self._days: dict[tuple[UUID, date], int] = {}
        self._paid: dict[tuple[UUID, UUID], list[_Paid]] = {}
        self._brought: dict[tuple[UUID, UUID], list[_Paid]] = {}
        self._spent: dict[UUID, int] = {}
        self._places: dict[UUID, Place] = {}
        self.given: dict[tuple[UUID, date], int] = {}
        """Points given by this batch, by member and day."""
        self.by_rule: dict[UUID, int] = {}
        """Points given by this batch, by rule: a rule that ever had a budget counts all that it gives."""

    async def read(
        self,
        sql: asyncpg.Connection,
        events: Iterable[tuple[Waiting, Sequence[Candidate]]],
        *,
        lock: bool = True,
    ) -> None:
        """Read what the limits of the events' candidates go by.

        Args:
            lock: keep budgets to ourselves until the transaction ends; without it they are only looked at.
        """
        windows: dict[tuple[UUID, UUID], tuple[datetime, datetime]] = {}
        bringing: set[tuple[UUID, UUID]] = set()
        budgets: set[UUID] = set()
        days: set[tuple[UUID, date]] = set()
        capped = self._policy.max_points_per_day is not None
        for event, candidates in events:
            if not capped and not any(rule.has_limits for rule, _ in candidates):
                continue
            place = self.place(event)
            days.add((place.member_id, place.day))
            for rule, _ in candidates:
                if rule.limits.budget is not None:
                    budgets.add(rule.id)
                if rule.turns_away or rule.limits.max_points_per_day is not None:
                    key = (event.member_id, rule.id)
                    since, until = _window(rule, place, event.facts.occurred_at)
                    if key in windows:
                        since, until = min(since, windows[key][0]), max(until, windows[key][1])
                    windows[key] = (since, until)
                    if rule.turns_away and event.facts.kind is EventKind.REFERRAL:
                        bringing.add(key)
        if capped and days:
            await self._read_days(sql, days)
        if windows:
            self._paid = await self._read_paid(sql, _PAID, windows)
        if bringing:
            self._brought = await self._read_paid(sql, _BROUGHT, {key: windows[key] for key in bringing})
        if budgets:
            # Last, and in the order of their ids: many members share them.
            self._spent = await spent_by(sql, budgets, lock=lock)

    async def _read_days(self, sql: asyncpg.Connection, days: Iterable[tuple[UUID, date]]) -> None:
        members, dates = zip(*days, strict=True)
        for row in await sql.fetch(_COUNTERS, self._policy.program_id, members, dates):
            self._days[row["member_id"], row["day"]] = row["points"]

    async def _read_paid(
        self,
        sql: asyncpg.Connection,
        statement: str,
        windows: dict[tuple[UUID, UUID], tuple[datetime, datetime]],
    ) -> dict[tuple[UUID, UUID], list[_Paid]]:
        keys = list(windows)
        lists: list[list[_Paid]] = [[] for _ in keys]
        columns = (
            [member for member, _ in keys],
            [rule for _, rule in keys],
            [since for since, _ in windows.values()],
            [until for _, until in windows.values()],
        )
        for n, *paid in await sql.fetch(statement, *columns, self._policy.timezone):
            lists[n - 1].append(_Paid(*paid))
        return dict(zip(keys, lists, strict=True))

    def place(self, event: Waiting) -> Place:
        """Return where an event counts."""
        place = self._places.get(event.id)
        if place is None:
            zone = event.zone or self._policy.zone
            place = Place(event.member_id, local_date(event.facts.occurred_at, zone), zone)
            self._places[event.id] = place
        return place

    def rooms(self, event: Waiting) -> Rooms:
        """Return what limits leave to an event, after all that was taken before."""
        return Rooms(self, self.place(event), event.facts.occurred_at)

    def program_room(self, place: Place) -> int | None:
        """Return what the program's daily cap leaves; None without a cap."""
        cap = self._policy.max_points_per_day
        if cap is None:
            return None
        key = (place.member_id, place.day)
        return max(0, cap - self._days.get(key, 0) - self.given.get(key, 0))

    def room(self, rule: CompiledRule, place: Place, moment: datetime) -> Room:
        """Return what the limits of a rule leave to an event of a moment."""
        limits = rule.limits
        closed = self._closed(rule, place, moment)
        day = budget = None
        if limits.max_points_per_day is not None:
            paid = self._paid.get((place.member_id, rule.id), [])
            given = sum(each.points for each in paid if each.day == place.day)
            day = max(0, limits.max_points_per_day - given)
        if limits.budget is not None:
            spent = self._spent.get(rule.id, 0) + self.by_rule.get(rule.id, 0)
            budget = max(0, limits.budget - spent)
        return Room(closed, day, budget)

    def again(self, rule: CompiledRule, place: Place, moment: datetime) -> datetime | None:
        """Return the first time from a moment on at which a rule is there; None for never."""
        # One limit may end while another one holds, or on a day that a store elsewhere has used up.
        while (closed := self._closed(rule, place, moment)) is not None:
            if closed.again is None:
                return None
            moment = closed.again
            place = place._replace(day=local_date(moment, place.zone))
        return moment

    def _closed(self, rule: CompiledRule, place: Place, moment: datetime) -> Closed | None:
        if not rule.turns_away:
            return None
        paid = self._brought if rule.definition.trigger is EventKind.REFERRAL else self._paid
        return _closed(rule, paid.get((place.member_id, rule.id), []), place, moment)

    def take(self, place: Place, moment: datetime, awards: Sequence[Award]) -> None:
        """Count what an event of a moment (UTC) was given."""
        for award in awards:
            if not award.points:
                # Trimmed to nothing: it uses up no frequency and no member's limit.
                continue
            # Counted without a cap as well: one may be set in the middle of a day.
            day = (place.member_id, place.day)
            self.given[day] = self.given.get(day, 0) + award.points
            paid = self._paid.get((place.member_id, award.rule_id))
            if paid is not None:
                paid.append(_Paid(moment, place.day, award.points))
            self.by_rule[award.rule_id] = self.by_rule.get(award.rule_id, 0) + award.points


def _window(rule: CompiledRule, place: Place, moment: datetime) -> tuple[datetime, datetime]:
    """Return the time in which other events can matter to the limits of a rule, wide enough for any zone."""
    limits = rule.limits
    if limits.max_times_per_member is not None:
        return _EVER
    since = until = moment
    if limits.max_points_per_day is not None or limits.frequency is not None:
        first, last = span(place.day, limits.frequency.per if limits.frequency else Period.DAY)
        # A day of another store's zone begins up to 26 hours away.
        since = start_of_day(first - timedelta(days=2), place.zone)
        until = start_of_day(last + timedelta(days=3), place.zone)
    if limits.cooldown_minutes is not None:
        pause = timedelta(minutes=limits.cooldown_minutes)
        since, until = min(since, moment - pause), max(until, moment + pause)
    return since, until + timedelta(microseconds=1)


def _closed(rule: CompiledRule, paid: Sequence[_Paid], place: Place, moment: datetime) -> Closed | None:
    """Return why a rule is not there for an event of a moment: the limit, and when it will be there again."""
    limits, zone = rule.limits, place.zone.key
    if limits.max_times_per_member is not None and len(paid) >= limits.max_times_per_member:
        return Closed(Reason.MEMBER_LIMIT_REACHED, zone)
    reason, latest, again = None, None, moment
    if limits.cooldown_minutes is not None:
        pause = timedelta(minutes=limits.cooldown_minutes)
        near = [each.occurred_at for each in paid if abs(each.occurred_at - moment) < pause]
        if near:
            reason, latest = Reason.COOLING_DOWN, max(near)
            again = latest + pause
    if limits.frequency is not None:
        first, last = span(place.day, limits.frequency.per)
        if sum(first <= each.day <= last for each in paid) >= limits.frequency.times:
            again = max(again, start_of_day(last + timedelta(days=1), place.zone))
            reason = reason or Reason.FREQUENCY_REACHED
    return None if reason is None else Closed(reason, zone, again, latest)
