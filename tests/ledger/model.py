"""One account as plain lists of lots: what the ledger has to do, said without SQL.

It walks the calendar day by day, keeps for every spend which points of which lot are out, and knows
nothing of tables, windows or hints. Slow and simple on purpose: it was written from the design, and
the ledger is held against it.
"""

import calendar
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from uuid import UUID

from app.ledger.operations import MAX_POINTS, EntryKind, Operation, Outcome, Status, Terms

DAY = timedelta(days=1)
FOREVER = date.max


@dataclass
class Lot:
    """What one earn, or one adjustment upwards, left to spend."""

    sequence: int
    matures_on: date
    expires_on: date
    original: int
    left: int
    pending: bool


@dataclass
class Entry:
    """One movement, and how much of it has been captured, given back or taken back since."""

    kind: EntryKind
    amount: int
    key: UUID | None
    request_hash: int | None
    outcome: Outcome
    undone: int = 0
    out: dict[int, int] = field(default_factory=dict)
    """Of a spend: points of each lot that did not come back, to it or for a debt; a capture shares its
    reservation's."""


@dataclass
class Account:
    """The model of one account. `apply` is its face; everything else is there to be compared."""

    opened_on: date
    lots: list[Lot] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    available: int = 0
    pending: int = 0
    reserved: int = 0
    active_on: date = date.min
    earned: int = 0
    spent: int = 0
    expired: int = 0

    def __post_init__(self) -> None:
        self.active_on = self.opened_on

    # What happens by itself

    def settle(self, terms: Terms) -> None:
        """Live through every day from the first on which something is due until today."""
        day = self._first_due(terms)
        while day is not None and day <= terms.today:
            self._dawn(day, terms)
            day = day + DAY if day < terms.today else None

    def _idle_from(self, terms: Terms) -> date | None:
        """Return the first day on which the account is idle for too long."""
        if terms.inactive_months is None or self.available <= 0:
            return None
        return months_later(max(self.active_on, terms.inactive_since), terms.inactive_months) + DAY

    def _first_due(self, terms: Terms) -> date | None:
        days = [lot.matures_on if lot.pending else day_after(lot.expires_on) for lot in self.lots if lot.left]
        idle = self._idle_from(terms)
        return min([*days, idle] if idle else days, default=None)

    def _dawn(self, day: date, terms: Terms) -> None:
        idle = self._idle_from(terms)
        if idle is not None and idle <= day:
            self._expire([lot for lot in self.lots if lot.left and not lot.pending])
        mature = [lot for lot in self.lots if lot.pending and lot.left and lot.matures_on <= day]
        if mature:
            points = sum(lot.left for lot in mature)
            for lot in mature:
                lot.pending = False
            # Points that waited for longer than an idle account lives begin to live on their first day.
            lived = max(self.active_on, terms.inactive_since)
            if terms.inactive_months is not None and months_later(lived, terms.inactive_months) < day:
                self.active_on = day
            self._take(min(points, self.debt), mature, soonest_expiring)
            self.pending -= points
            self.available += points
            self._write(EntryKind.RELEASE, points)
        self._expire([lot for lot in self.lots if lot.left and not lot.pending and lot.expires_on < day])

    def _expire(self, dead: list[Lot]) -> None:
        points = sum(lot.left for lot in dead)
        if points:
            for lot in dead:
                lot.left = 0
            self.available -= points
            self.expired += points
            self._write(EntryKind.EXPIRE, points)

    # What is asked for

    def apply(self, operation: Operation, terms: Terms) -> Outcome:
        """Do what is asked for, or nothing, and say what became of it."""
        for entry in self.entries:
            if entry.key == operation.key:
                same = entry.request_hash == operation.request_hash
                return entry.outcome._replace(status=Status.REPLAYED if same else Status.KEY_REUSED)
        self.settle(terms)
        refusal = self._refusal(operation, terms)
        if refusal is not None:
            return self._outcome(refusal)
        act = {
            EntryKind.EARN: self._gain,
            EntryKind.ADJUST: self._gain if operation.amount > 0 else self._lose,
            EntryKind.RESERVE: self._lose,
            EntryKind.REDEEM: self._lose if operation.reference is None else self._capture,
            EntryKind.RESTORE: self._restore,
            EntryKind.CLAWBACK: self._claw_back,
        }[operation.kind]
        return act(operation, terms)

    def _refusal(self, operation: Operation, terms: Terms) -> Status | None:
        kind, amount = operation.kind, operation.amount
        gives = kind is EntryKind.EARN or (kind is EntryKind.ADJUST and amount > 0)
        undoes = kind in (EntryKind.RESTORE, EntryKind.CLAWBACK) or (
            kind is EntryKind.REDEEM and operation.reference is not None
        )
        if amount == 0 or abs(amount) > MAX_POINTS or (amount < 0 and kind is not EntryKind.ADJUST):
            return Status.INVALID
        if gives:
            assert operation.expires_on
            assert operation.matures_on
            if operation.expires_on < max(operation.matures_on, terms.today):
                return Status.INVALID
            if self.earned + amount > MAX_POINTS:
                return Status.TOO_MANY
        elif undoes:
            entry = self._referred(operation)
            if entry is None:
                return Status.NO_REFERENCE
            if amount > entry.amount - entry.undone:
                return Status.EXCESSIVE
        elif self.available < abs(amount):
            return Status.INSUFFICIENT
        return None

    def _referred(self, operation: Operation) -> Entry | None:
        kinds = {
            EntryKind.REDEEM: {EntryKind.RESERVE},
            EntryKind.RESTORE: {EntryKind.RESERVE, EntryKind.REDEEM},
            EntryKind.CLAWBACK: {EntryKind.EARN},
        }[operation.kind]
        number = operation.reference
        if number is None or not 1 <= number <= len(self.entries):
            return None
        entry = self.entries[number - 1]
        return entry if entry.kind in kinds else None

    def _gain(self, operation: Operation, terms: Terms) -> Outcome:
        assert operation.expires_on
        assert operation.matures_on
        amount, matures_on = operation.amount, max(operation.matures_on, terms.today)
        later = matures_on > terms.today
        pays = 0 if later else min(amount, self.debt)
        number = len(self.entries) + 1
        self.lots.append(Lot(number, matures_on, operation.expires_on, amount, amount - pays, later))
        if later:
            self.pending += amount
        else:
            self.available += amount
        self.earned += amount
        self._be_active(terms)
        return self._write(operation.kind, amount, operation)

    def _lose(self, operation: Operation, terms: Terms) -> Outcome:
        amount = abs(operation.amount)
        out = self._take(amount, [lot for lot in self.lots if not lot.pending], soonest_expiring)
        self.available -= amount
        if operation.kind is EntryKind.ADJUST:
            self.earned -= amount
        else:
            self._be_active(terms)
            if operation.kind is EntryKind.RESERVE:
                self.reserved += amount
            else:
                self.spent += amount
        return self._write(operation.kind, operation.amount, operation, out)

    def _capture(self, operation: Operation, terms: Terms) -> Outcome:
        reservation = self._referred(operation)
        assert reservation
        reservation.undone += operation.amount
        self.reserved -= operation.amount
        self.spent += operation.amount
        self.active_on = max(self.active_on, terms.today)
        return self._write(operation.kind, operation.amount, operation, reservation.out)

    def _restore(self, operation: Operation, terms: Terms) -> Outcome:
        spend, amount = self._referred(operation), operation.amount
        assert spend
        back: list[tuple[Lot, int]] = []
        for lot in sorted(self.lots, key=soonest_expiring, reverse=True):
            points = min(amount - sum(part for _, part in back), spend.out.get(lot.sequence, 0))
            if points:
                spend.out[lot.sequence] -= points
                back.append((lot, points))
        assert sum(part for _, part in back) == amount, "a spend gives back no more than it took"
        owed = self.debt
        for lot, points in reversed(back):
            pays = 0 if lot.expires_on < terms.today else min(owed, points)
            owed -= pays
            lot.left += points - pays
        spend.undone += amount
        self.available += amount
        if spend.kind is EntryKind.RESERVE:
            self.reserved -= amount
        else:
            self.spent -= amount
        outcome = self._write(operation.kind, amount, operation)
        self.settle(terms)
        return outcome

    def _claw_back(self, operation: Operation, terms: Terms) -> Outcome:
        earn, amount = self._referred(operation), operation.amount
        assert earn
        before, waiting = sum(lot.left for lot in self.lots), self.pending
        number = operation.reference
        for lots, order in (
            ([lot for lot in self.lots if lot.sequence == number], soonest_expiring),
            ([lot for lot in self.lots if not lot.pending], soonest_expiring),
            ([lot for lot in self.lots if lot.pending], soonest_maturing),
        ):
            took = before - sum(lot.left for lot in self.lots)
            self._take(min(amount - took, sum(lot.left for lot in lots)), lots, order)
        took = before - sum(lot.left for lot in self.lots)
        owes = min(amount - took, max(0, terms.debt_limit - self.debt))
        self.pending = sum(lot.left for lot in self.lots if lot.pending)
        self.available -= took - (waiting - self.pending) + owes
        self.earned -= took + owes
        earn.undone += amount
        return self._write(operation.kind, amount, operation, taken=took + owes, debt=owes)

    # How it is done

    @property
    def debt(self) -> int:
        """Points that are owed."""
        return max(0, -self.available)

    def _be_active(self, terms: Terms) -> None:
        self.active_on = max(self.active_on, terms.today)

    def _take(
        self, amount: int, lots: Iterable[Lot], order: Callable[[Lot], tuple[date, int]]
    ) -> dict[int, int]:
        out = {}
        for lot in sorted(lots, key=order):
            points = min(amount, lot.left)
            if points:
                lot.left -= points
                out[lot.sequence] = points
                amount -= points
        assert not amount, "the lots hold what the balance says"
        return out

    def _outcome(self, status: Status, taken: int | None = None, debt: int | None = None) -> Outcome:
        return Outcome(status, len(self.entries), self.available, self.pending, self.reserved, taken, debt)

    def _write(
        self,
        kind: EntryKind,
        amount: int,
        operation: Operation | None = None,
        out: dict[int, int] | None = None,
        *,
        taken: int | None = None,
        debt: int | None = None,
    ) -> Outcome:
        outcome = self._outcome(Status.APPLIED, taken, debt)._replace(sequence=len(self.entries) + 1)
        key, request_hash = (operation.key, operation.request_hash) if operation else (None, None)
        self.entries.append(Entry(kind, amount, key, request_hash, outcome, out={} if out is None else out))
        return outcome


def soonest_expiring(lot: Lot) -> tuple[date, int]:
    """Order lots by their last day, never last, and by age."""
    return lot.expires_on, lot.sequence


def soonest_maturing(lot: Lot) -> tuple[date, int]:
    """Order lots by their first day, and by age."""
    return lot.matures_on, lot.sequence


def day_after(day: date) -> date:
    """Return the next day; none comes after never."""
    return day if day == FOREVER else day + DAY


def months_later(day: date, months: int) -> date:
    """Step from month to month; a day that the last of them does not have is its last day."""
    year, month = day.year, day.month
    for _ in range(months):
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))
