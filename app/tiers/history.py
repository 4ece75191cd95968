"""What a member's history of tiers says, and what is to be added to it. Pure.

The history is rows that are never changed: each gives a tier for a time, and of those that cover a moment the
one recorded last counts. Rows by hand and rows that Laurel found out stand in one history.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from app.tiers.qualification import Climb, Stretch


class Given(NamedTuple):
    """A row of the history; the rank is 0 where everybody starts, whether there is a tier for that or not."""

    rank: int
    since: datetime
    until: datetime | None
    automatic: bool
    earned: int
    """Given by hand: the rank that the member had earned then."""

    def covers(self, moment: datetime) -> bool:
        """Tell whether it gives the tier for a moment."""
        return self.since <= moment and (self.until is None or moment < self.until)


class Addition(NamedTuple):
    """A row that is to be added."""

    rank: int
    since: datetime
    until: datetime | None


class Decision(NamedTuple):
    """What a member's history lacks, the rank that they have now, and when time alone may change it."""

    additions: Sequence[Addition]
    rank: int
    due_at: datetime | None


_START = Given(0, datetime.min, None, automatic=True, earned=0)


def rank_of(tier_id: UUID | None, ranks: Mapping[UUID, int]) -> int:
    """Return the rank of a row's tier; 0 for none."""
    return 0 if tier_id is None else ranks[tier_id]


def in_force(history: Sequence[Given], moment: datetime) -> Given:
    """Return the row that counts at a moment: of those that cover it the last, in order of recording."""
    return next((row for row in reversed(history) if row.covers(moment)), _START)


def decide(history: Sequence[Given], climb: Climb, now: datetime, *, never_down: bool) -> Decision:
    """Return what a history lacks of what a member has earned by now.

    What was given by hand stays for its time, but for a tier above it that is newly reached, and is there
    again when that one is lost. A tier that is lost because the window has run out is lost from that moment
    on, however late that is noticed; one that was never earned after all, because of a refund, from now on.
    Where the past is found to have earned more than the history says, it says so from now on: late events
    meet the tier of their time.

    Args:
        history: in order of recording.
        never_down: what was found out once stays, whatever becomes of what earned it.
    """
    present, hand = in_force(history, now), by_hand(history, now)
    additions = _missed(history, climb.stretches, now)
    rank = climb.rank if hand is None or _is_above(climb.rank, hand) else hand.rank
    if never_down and present.automatic:
        rank = max(rank, present.rank)
    if rank < present.rank:
        additions.append(Addition(rank, _lost_at(history, climb.stretches, present, now), None))
    elif rank > present.rank and hand is not None and (not additions or additions[-1].until is not None):
        reached = climb.stretches[-1].since
        additions.append(Addition(rank, now if reached is None else max(reached, present.since), None))
    return Decision(additions, rank, _due_at(history, climb, hand, rank, now))


def by_hand(history: Sequence[Given], moment: datetime) -> Given | None:
    """Return what was given by hand for a moment, whatever was found out since; None for nothing."""
    return next((row for row in reversed(history) if not row.automatic and row.covers(moment)), None)


def kept_until(history: Sequence[Given], climb: Climb, now: datetime) -> datetime | None:
    """Return the first moment at which the present tier is not certain; None where that never comes."""
    hand = by_hand(history, now)
    return climb.keeps_until if hand is None or _is_above(climb.rank, hand) else hand.until


def _is_above(rank: int, hand: Given) -> bool:
    """Tell whether a rank is more than was given by hand, and than had been earned by then."""
    return rank > max(hand.rank, hand.earned)


def _due_at(
    history: Sequence[Given], climb: Climb, hand: Given | None, rank: int, now: datetime
) -> datetime | None:
    times = [row.since for row in history if row.since > now]
    if hand is not None and hand.until is not None:
        times.append(hand.until)
    if climb.keeps_until is not None and (hand is None or rank > hand.rank):
        times.append(climb.keeps_until)
    if climb.next_at is not None:
        times.append(climb.next_at)
    return min(times, default=None)


def _lost_at(
    history: Sequence[Given], stretches: Sequence[Stretch], present: Given, now: datetime
) -> datetime:
    """Return when a rank was lost that is not earned any more: when time took it, or now."""
    lost = stretches[-1].since
    if lost is None or lost < present.since or stretches[-2].rank < present.rank:
        return now
    # What was given by hand until later hid it until then.
    ended = [row.until for row in history if not row.automatic and row.until is not None and row.until <= now]
    return max([lost, *ended])


def _missed(history: Sequence[Given], stretches: Sequence[Stretch], now: datetime) -> list[Addition]:
    """Return the times, up to now, in which more was earned than the history says of itself."""
    turns = {turn for row in history for turn in (row.since, row.until) if turn is not None and turn <= now}
    turns |= {stretch.since for stretch in stretches if stretch.since is not None}
    ordered = sorted(turns)
    missed: list[Addition] = []
    position = 0
    for n, moment in enumerate(ordered):
        while position + 1 < len(stretches) and (stretches[position + 1].since or moment) <= moment:
            position += 1
        earned = stretches[position].rank
        there, hand = in_force(history, moment), by_hand(history, moment)
        if earned <= there.rank or not there.automatic or not (hand is None or _is_above(earned, hand)):
            continue
        until = ordered[n + 1] if n + 1 < len(ordered) else None
        if missed and missed[-1].rank == earned and missed[-1].until == moment:
            missed[-1] = missed[-1]._replace(until=until)
        else:
            missed.append(Addition(earned, moment, until))
    return missed
