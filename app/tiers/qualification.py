"""Which tier what a member did has earned them, at every moment, and until when. Pure.

A tier is reached as soon as what counts comes to its threshold, as that was then. It is certain until what
counted at that moment has left the window so far that it would fall below that threshold, and for the days
of grace after that. So a threshold that is raised demotes nobody before their term ends, what is bought
meanwhile makes the term longer, spending plays no part, and a refund counts as if that much had never been
bought.
"""

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from app.days import local_date, start_of_day
from app.ledger.expiry import NEVER, add_months
from app.tiers.policy import TierDowngrade, TierPolicy, TierWindow
from app.tiers.tiers import Tier

_ZERO = Decimal(0)
_ONE_DAY = timedelta(days=1)


class Counted(NamedTuple):
    """Something that counts towards tiers: when it happened, and how much of it is left after refunds."""

    occurred_at: datetime
    value: Decimal


class Stretch(NamedTuple):
    """From when on a member had earned a tier; the rank is 0 where everybody starts."""

    since: datetime | None
    rank: int


class Climb(NamedTuple):
    """What a member has earned.

    Attributes:
        stretches: from the beginning, whose `since` is None, to now; each of another rank than the last.
        keeps_until: the first moment at which the present rank is not certain; None where that never comes.
        qualifying: what counts at present.
        next_at: when the next counts of what lies ahead, by a clock that is fast; None for nothing.
    """

    stretches: Sequence[Stretch]
    keeps_until: datetime | None
    qualifying: Decimal
    next_at: datetime | None = None

    @property
    def rank(self) -> int:
        """The rank that is earned at present."""
        return self.stretches[-1].rank


class Window:
    """How long what happened counts, in a program's zone."""

    def __init__(self, policy: TierPolicy, zone: ZoneInfo) -> None:
        self._policy = policy
        self._zone = zone

    def leaves_on(self, day: date) -> date:
        """Return the first local day on which what happened on a day does not count any more."""
        if self._policy.window is TierWindow.CALENDAR_YEAR:
            return date(day.year + 1, 1, 1) if day.year < NEVER.year else NEVER
        if self._policy.window is TierWindow.ROLLING_MONTHS:
            assert self._policy.months
            last = add_months(day, self._policy.months)
            return last if last == NEVER else last + _ONE_DAY
        return NEVER

    def lost_at(self, leaving: date) -> datetime | None:
        """Return when a tier is lost for which too little counts from a local day on; None for never."""
        if leaving == NEVER or leaving.year > NEVER.year - 20:
            return None
        return start_of_day(leaving + timedelta(days=self._policy.grace_days), self._zone)

    def counts_from(self, today: date) -> date:
        """Return a local day before which nothing counts today."""
        if self._policy.window is TierWindow.CALENDAR_YEAR:
            return date(today.year, 1, 1)
        if self._policy.window is TierWindow.ROLLING_MONTHS:
            assert self._policy.months
            # Months of different lengths: a day more than the day of the earlier month says.
            return add_months(today, -self._policy.months) - timedelta(days=4)
        return date.min


class _Tally:
    """What has counted, as sums from the beginning, in order of occurrence; and when it stops to count."""

    def __init__(self, counted: Sequence[Counted], window: Window, zone: ZoneInfo) -> None:
        self.moments = [each.occurred_at for each in counted]
        self.leaves = [window.leaves_on(local_date(moment, zone)) for moment in self.moments]
        self.sums = [_ZERO]
        for each in counted:
            self.sums.append(self.sums[-1] + each.value)

    def upto(self, moment: datetime) -> int:
        """Return how many had happened by a moment."""
        return bisect_right(self.moments, moment)

    def first_in(self, day: date) -> int:
        """Return the position of the first that counts on a local day."""
        return bisect_right(self.leaves, day)

    def certain_until(self, first: int, count: int, threshold: Decimal) -> date:
        """Return when those from `first` to before `count`, which come to a threshold, do so no longer.

        NEVER, where the threshold asks for nothing.
        """
        if threshold <= 0:
            return NEVER
        # The last that can leave and still the rest comes to the threshold is the one before this.
        position = bisect_right(self.sums, self.sums[count] - threshold, first, count)
        return self.leaves[position - 1]


class Rung(NamedTuple):
    """A tier that has to be reached, with the thresholds it had: (since, threshold), the oldest first."""

    tier_id: UUID
    thresholds: Sequence[tuple[datetime, Decimal]]

    def threshold(self, moment: datetime) -> Decimal:
        """Return the threshold at a moment; the first counts for all time before it, too."""
        position = bisect_right(self.thresholds, moment, key=lambda each: each[0])
        return self.thresholds[max(0, position - 1)][1]


def rungs(tiers: Sequence[Tier]) -> list[Rung]:
    """Return the tiers that have to be reached, the lowest first: rank 1 is at position 0."""
    return [
        Rung(tier.id, tier.thresholds or ((tier.created_at, tier.threshold),)) for tier in tiers if tier.rank
    ]


class _Hold(NamedTuple):
    """A time in which a rank is certain; `until` None is for good."""

    since: datetime
    until: datetime | None


def climb(
    policy: TierPolicy, zone: ZoneInfo, ladder: Sequence[Rung], counted: Sequence[Counted], now: datetime
) -> Climb:
    """Return what a member has earned by a moment.

    Args:
        ladder: what `rungs` returned.
        counted: what counts towards tiers, in order of occurrence; none of it negative.
        now: in UTC; what happens later plays no part.
    """
    window = Window(policy, zone)
    tally = _Tally(counted, window, zone)
    holds = _holds(ladder, tally, window, zone, now)
    count = tally.upto(now)
    first = min(tally.first_in(local_date(now, zone)), count)
    qualifying = tally.sums[count] - tally.sums[first]
    next_at = tally.moments[count] if count < len(tally.moments) else None
    return _walk(policy, window, zone, holds, now, qualifying)._replace(next_at=next_at)


def _holds(
    ladder: Sequence[Rung], tally: _Tally, window: Window, zone: ZoneInfo, now: datetime
) -> list[list[_Hold]]:
    """Return for each rung when it is certain, in order and without overlaps."""
    changes = {since for rung in ladder for since, _ in rung.thresholds[1:]}
    moments = sorted({moment for moment in (*tally.moments, *changes) if moment <= now})
    holds: list[list[_Hold]] = [[] for _ in ladder]
    for moment in moments:
        count = tally.upto(moment)
        first = min(tally.first_in(local_date(moment, zone)), count)
        sum_ = tally.sums[count] - tally.sums[first]
        for rung, own in zip(ladder, holds, strict=True):
            threshold = rung.threshold(moment)
            if sum_ >= threshold:
                _add(own, moment, window.lost_at(tally.certain_until(first, count, threshold)))
    return holds


def _add(holds: list[_Hold], since: datetime, until: datetime | None) -> None:
    last = holds[-1] if holds else None
    if last is None or (last.until is not None and last.until < since):
        holds.append(_Hold(since, until))
    elif last.until is not None and (until is None or until > last.until):
        holds[-1] = _Hold(last.since, until)


def _walk(
    policy: TierPolicy,
    window: Window,
    zone: ZoneInfo,
    holds: Sequence[Sequence[_Hold]],
    now: datetime,
    qualifying: Decimal,
) -> Climb:
    """Walk along the times at which anything begins or ends, and note each change of rank."""
    turns = [turn for own in holds for hold in own for turn in hold if turn is not None and turn <= now]
    heapq.heapify(turns)
    stretches = [Stretch(None, 0)]
    stepped: datetime | None = None
    """Until when a rank is kept that was stepped down to."""
    while turns:
        moment = heapq.heappop(turns)
        rank = stretches[-1].rank
        natural = _held(holds, moment)
        if natural > rank:
            stepped = None
        elif natural < rank:
            if policy.downgrade is TierDowngrade.NEVER or (stepped is not None and moment < stepped):
                continue
            stepped = None
            if policy.downgrade is TierDowngrade.ONE_STEP and natural < rank - 1:
                # Another window, and its grace, for each further step.
                natural = rank - 1
                stepped = window.lost_at(window.leaves_on(local_date(moment, zone)))
                if stepped is not None and stepped <= now:
                    heapq.heappush(turns, stepped)
        if natural != rank:
            stretches.append(Stretch(moment, natural))
    return Climb(stretches, _keeps_until(policy, holds, stretches[-1].rank, stepped, now), qualifying)


def _held(holds: Sequence[Sequence[_Hold]], moment: datetime) -> int:
    """Return the highest rank that is certain at a moment; 0 for none."""
    for rank in range(len(holds), 0, -1):
        if _hold_at(holds[rank - 1], moment) is not None:
            return rank
    return 0


def _hold_at(holds: Sequence[_Hold], moment: datetime) -> _Hold | None:
    position = bisect_right(holds, moment, key=lambda hold: hold.since)
    hold = holds[position - 1] if position else None
    return hold if hold is not None and (hold.until is None or moment < hold.until) else None


def _keeps_until(
    policy: TierPolicy,
    holds: Sequence[Sequence[_Hold]],
    rank: int,
    stepped: datetime | None,
    now: datetime,
) -> datetime | None:
    if rank == 0 or policy.downgrade is TierDowngrade.NEVER:
        return None
    hold = _hold_at(holds[rank - 1], now)
    if hold is None:
        return stepped
    return None if hold.until is None else max(hold.until, stepped or hold.until)
