"""What is left of a purchase after refunds, and what it has earned then. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID

import msgspec

from app.earning.engine import evaluate
from app.earning.events import MAX_LINES, Body, Event, PurchaseLine, facts
from app.earning.outcomes import Rooms
from app.earning.preparing import check_number
from app.earning.ruleset import RuleSet, Standing
from app.money import format_money, round_half_up, trim
from app.validation import Problems

_ZERO = Decimal(0)
# Enough for every product and quotient of two numbers that the API takes: halves stay halves.
_WIDE = Context(prec=80)


class LineBack(msgspec.Struct, frozen=True):
    """So much of one line that was given back; lines are numbered from 1 on."""

    number: int
    quantity: Decimal
    amount: Decimal


class Wish(NamedTuple):
    """A part of a line that is to be refunded; without an amount it is the part's share of the line's."""

    number: int
    quantity: Decimal
    amount: Decimal | None = None


class Back(NamedTuple):
    """What one refund gives back of a purchase."""

    amount: Decimal
    lines: tuple[LineBack, ...]
    whole: bool


class Remainder:
    """A purchase less its refunds; grows smaller as refunds are added.

    Args:
        event: the purchase as it was recorded.
        digits: of the currency: shares of a line are rounded to it.
    """

    def __init__(self, event: Event, digits: int, refunds: Iterable[Back] = ()) -> None:
        assert event.amount is not None
        self._event = event
        self._digits = digits
        self._lines = event.body.lines
        self._returned = [_ZERO] * len(self._lines)
        self._refunded = [_ZERO] * len(self._lines)
        self._whole = False
        self.amount: Decimal = event.amount
        """What has not been refunded."""
        for refund in refunds:
            self.add(refund)

    def add(self, refund: Back) -> None:
        """Take away what a refund gives back."""
        for line in refund.lines:
            self._returned[line.number - 1] += line.quantity
            self._refunded[line.number - 1] += line.amount
        self.amount -= refund.amount
        self._whole = self._whole or refund.whole

    @property
    def is_nothing(self) -> bool:
        """Tell whether nothing is left: neither money nor goods, or goods that have been paid back.

        Goods that cost nothing are left when all the others were given back; so is an amount that the
        shop kept when all goods were.
        """
        if self._whole:
            return True
        kept = [line for n, line in enumerate(self._lines) if self.left(n)]
        if self.amount or not (self._event.amount or self._lines):
            return False
        return not kept or any(line.amount for line in kept)

    @property
    def refunded_part(self) -> Fraction:
        """Which part of the amount has been refunded, from 0 to 1; 1 as soon as nothing is left."""
        assert self._event.amount is not None
        whole = Fraction(self._event.amount)
        if self.is_nothing:
            return Fraction(1)
        return 1 - Fraction(self.amount) / whole if whole else Fraction(0)

    def left(self, n: int) -> Decimal:
        """Return how many pieces of the line at a position, from 0 on, have not been given back."""
        return _ZERO if self._whole else self._lines[n].quantity - self._returned[n]

    def share(self, n: int, quantity: Decimal) -> Decimal:
        """Return what so many more pieces of a line are worth.

        After q of Q pieces are back, (amount x q / Q) has been refunded, rounded half up to the
        currency's digits, however many refunds that took. What was refunded of no line before is not
        refunded again.
        """
        line, before = self._lines[n], self._returned[n]
        amount = line.amount - self._refunded[n]
        if before + quantity < line.quantity:
            amount = min(amount, self._worth(line, before + quantity) - self._worth(line, before))
        return min(amount, self.amount)

    def _worth(self, line: PurchaseLine, quantity: Decimal) -> Decimal:
        amount = _WIDE.divide(_WIDE.multiply(line.amount, quantity), line.quantity)
        return round_half_up(amount, self._digits)

    def everything(self) -> Back:
        """Return the refund of all that is left."""
        rest, lines = self._copy(), []
        for n in range(len(self._lines)):
            if quantity := self.left(n):
                line = LineBack(n + 1, quantity, rest.share(n, quantity))
                rest.add(Back(line.amount, (line,), False))
                lines.append(line)
        return Back(self.amount, tuple(lines), True)

    def _copy(self) -> "Remainder":
        copy = Remainder(self._event, self._digits)
        copy._returned, copy._refunded = list(self._returned), list(self._refunded)
        copy.amount, copy._whole = self.amount, self._whole
        return copy

    def part(self, wishes: Sequence[Wish], amount: Decimal | None, currency: str, problems: Problems) -> Back:
        """Return the refund of some pieces of lines and of an amount that belongs to no line.

        Notes everything that is wrong, fields below the refund's input; the purchase stays as it is.
        """
        rest, lines = self._copy(), []
        if len(wishes) > MAX_LINES:
            problems.add(f"A refund has at most {MAX_LINES:,} lines.", "lines")
            return Back(_ZERO, (), False)
        for n, wish in enumerate(wishes):
            line = rest._take(n, wish, currency, problems)
            if line is not None:
                lines.append(line)
                rest.add(Back(line.amount, (line,), False))
        if amount is not None and check_number(amount, "The amount", problems, "amount", positive=True):
            if amount > rest.amount:
                left = f"nly {format_money(rest.amount, currency)} of the purchase is left to refund."
                problems.add(f"Beside these lines o{left}" if lines else f"O{left}", "amount")
            rest.add(Back(amount, (), False))
        return Back(self.amount - rest.amount, tuple(lines), False)

    def _take(self, n: int, wish: Wish, currency: str, problems: Problems) -> LineBack | None:
        where = ("lines", str(n))
        if not 1 <= wish.number <= len(self._lines):
            count = len(self._lines)
            has = "no lines" if not count else "one line" if count == 1 else f"lines 1 to {count}"
            problems.add(f"The purchase has {has}; there is no line {wish.number}.", *where, "number")
            return None
        position = wish.number - 1
        if not check_number(wish.quantity, "A quantity", problems, *where, "quantity", positive=True):
            return None
        left = self.left(position)
        if wish.quantity > left:
            bought = f"{trim(self._lines[position].quantity):f}"
            message = f"Of line {wish.number} only {trim(left):f} of {bought} is left to refund."
            if not left:
                message = f"All of line {wish.number} has been refunded already."
            problems.add(message, *where, "quantity")
            return None
        if wish.amount is None:
            return LineBack(wish.number, wish.quantity, self.share(position, wish.quantity))
        if not check_number(wish.amount, "A line's amount", problems, *where, "amount"):
            return None
        unpaid = self._lines[position].amount - self._refunded[position]
        if wish.amount > unpaid:
            message = f"Of line {wish.number} only {format_money(unpaid, currency)} is left to refund."
            problems.add(message, *where, "amount")
            return None
        if wish.amount > self.amount:
            message = f"Only {format_money(self.amount, currency)} of the purchase is left to refund."
            problems.add(message, *where, "amount")
            return None
        return LineBack(wish.number, wish.quantity, wish.amount)

    def would_earn(self, rule_set: RuleSet, standing: Standing, rooms: Rooms) -> dict[UUID, int]:
        """Return what the rest would have earned, by rule, under what decided for the whole."""
        if self.is_nothing:
            return {}
        lines = tuple(
            msgspec.structs.replace(line, amount=line.amount - self._refunded[n])
            for n, line in enumerate(self._lines)
            if self.left(n)
        )
        event = self._event
        # The share that was paid with points is the same for the rest: each refund takes its part of it.
        rest = facts(
            event.kind, event.occurred_at, self.amount, Body(lines), event.store_id, event.points_share
        )
        return {award.rule_id: award.points for award in evaluate(rule_set, rest, standing, rooms)}


def targets(granted: Mapping[UUID, int], earned: Mapping[UUID, int]) -> dict[UUID, int]:
    """Return what each award comes to after a refund.

    A purchase has earned exactly what the rest of it would have earned, and never more than was
    granted: both hold for the purchase as a whole. Each award keeps what its rule would give the rest;
    where other rules would give more than they did, awards keep what makes up for it, in their order.

    Args:
        granted: points of each award as they were given, by rule, in the order of the rules.
        earned: what each rule would have given the rest.
    """
    kept = {rule: min(points, earned.get(rule, 0)) for rule, points in granted.items()}
    missing = min(sum(granted.values()), sum(earned.values())) - sum(kept.values())
    for rule, points in granted.items():
        more = min(missing, points - kept[rule])
        kept[rule] += more
        missing -= more
    return kept
