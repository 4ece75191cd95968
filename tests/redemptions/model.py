"""Members who burn points, as plain lists of lots: what redemptions have to do, said without SQL.

It was written from what Laurel promises, and shares nothing with the ledger or its own model. Only what
notices that a reservation has run out is the same: whoever needs what it holds, reads it, or sweeps.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
OVER = ("CANCELLED", "EXPIRED")


@dataclass
class Lot:
    """Points of one earn, or of one adjustment upwards."""

    number: int
    expires: date
    matures: date
    left: int
    pending: bool


@dataclass
class Purse:
    """What one member has."""

    debt_limit: int
    lots: list[Lot] = field(default_factory=list)
    debt: int = 0
    reserved: int = 0
    earned: int = 0
    spent: int = 0
    expired: int = 0

    @property
    def available(self) -> int:
        return sum(lot.left for lot in self.lots if not lot.pending) - self.debt

    @property
    def pending(self) -> int:
        return sum(lot.left for lot in self.lots if lot.pending)

    def settle(self, today: date) -> None:
        """Live through every day on which something matures or expires, until today."""
        while True:
            days = [
                lot.matures if lot.pending else lot.expires + DAY
                for lot in self.lots
                if lot.left and (lot.pending or lot.expires < date.max)
            ]
            day = min(days, default=date.max)
            if day > today:
                return
            for lot in sorted(self.lots, key=lambda lot: (lot.expires, lot.number)):
                if lot.pending and lot.matures <= day:
                    lot.pending = False
                    self._pay_debt(lot)
            for lot in self.lots:
                if lot.left and not lot.pending and lot.expires < day:
                    self.expired += lot.left
                    lot.left = 0

    def _pay_debt(self, lot: Lot) -> None:
        pays = min(self.debt, lot.left)
        self.debt -= pays
        lot.left -= pays

    def give(self, number: int, points: int, expires: date, matures: date, today: date) -> None:
        lot = Lot(number, expires, matures, points, matures > today)
        self.lots.append(lot)
        self.earned += points
        if not lot.pending:
            self._pay_debt(lot)

    def take(self, points: int) -> dict[int, int]:
        """Take what expires soonest, and return what came from which lot."""
        assert points <= self.available
        return self._from(sorted((lot for lot in self.lots if not lot.pending), key=_soonest), points)

    def _from(self, lots: list[Lot], points: int) -> dict[int, int]:
        out = {}
        for lot in lots:
            part = min(points, lot.left)
            if part:
                lot.left -= part
                out[lot.number] = part
                points -= part
        return out

    def give_back(self, out: dict[int, int], points: int, today: date) -> None:
        """Give back what expires last first: what is dead by now is lost, what lives pays the debt first."""
        living: list[tuple[Lot, int]] = []
        for lot in sorted(self.lots, key=_soonest, reverse=True):
            part = min(points, out.get(lot.number, 0))
            if not part:
                continue
            out[lot.number] -= part
            points -= part
            if lot.expires < today:
                self.expired += part
            else:
                living.insert(0, (lot, part))
        assert not points
        for lot, part in living:
            pays = min(self.debt, part)
            self.debt -= pays
            lot.left += part - pays
        self.settle(today)

    def claw_back(self, number: int, points: int) -> None:
        """Take points back of a lot, then of what else there is, then on credit; what is beyond is lost."""
        order = sorted(
            self.lots,
            key=lambda lot: (
                lot.number != number,
                lot.pending,
                lot.matures if lot.pending else lot.expires,
                lot.number,
            ),
        )
        got = sum(self._from(order, points).values())
        owes = min(points - got, max(0, self.debt_limit - self.debt))
        self.debt += owes
        self.earned -= got + owes


def _soonest(lot: Lot) -> tuple[date, int]:
    return lot.expires, lot.number


@dataclass
class Offer:
    """A reward: its price and what is left of it."""

    id: UUID
    points: int | None
    stock: int | None = None
    codes: list[str] | None = None
    per_member: int | None = None
    per_month: int | None = None
    total: int | None = None


@dataclass
class Burned:
    """A redemption."""

    id: UUID
    member: int
    offer: Offer
    quantity: int
    points: int
    status: str
    until: datetime | None
    out: dict[int, int]
    codes: list[str]
    made_on: date
    restored: int = 0
    used: list[str] = field(default_factory=list)


@dataclass
class Shop:
    """Members, rewards and redemptions of one program."""

    zone: ZoneInfo
    now: datetime
    purses: list[Purse]
    offers: list[Offer]
    burned: list[Burned] = field(default_factory=list)

    @property
    def today(self) -> date:
        return self.now.astimezone(self.zone).date()

    def settle(self, member: int) -> Purse:
        self.purses[member].settle(self.today)
        return self.purses[member]

    def ran_out(self, burned: Burned) -> bool:
        return burned.status == "RESERVED" and burned.until is not None and burned.until <= self.now

    def release_of_member(self, member: int) -> None:
        self._release(each for each in self.burned if each.member == member)

    def release_of_offer(self, offer: Offer) -> bool:
        return self._release(each for each in self.burned if each.offer is offer)

    def sweep(self) -> None:
        self._release(self.burned)

    def _release(self, some: Iterable[Burned]) -> bool:
        """Release what ran out of some, in the order in which it did: the first to come back pays a debt."""
        due = sorted((each for each in some if self.ran_out(each)), key=lambda each: (each.until, each.id))
        for each in due:
            self.end(each, "EXPIRED")
        return bool(due)

    def against(self, member: int, offer: Offer, quantity: int, points: int) -> set[str]:
        """Return the codes of what stands against a redemption."""
        held = [each for each in self.burned if each.offer is offer and each.status not in OVER]
        own = [each for each in held if each.member == member]
        month = [each for each in own if each.made_on >= self.today.replace(day=1)]
        taken, had, had_now = (sum(each.quantity for each in some) for some in (held, own, month))
        found = set()
        if (offer.stock is not None and taken + quantity > offer.stock) or (
            offer.codes is not None and len(offer.codes) < quantity
        ):
            found.add("OUT_OF_STOCK")
        for count, limit in ((taken, offer.total), (had, offer.per_member), (had_now, offer.per_month)):
            if limit is not None and count + quantity > limit:
                found.add("LIMIT_REACHED")
        available = self.purses[member].available
        if available < 0:
            found.add("NOT_ELIGIBLE")
        if available < points:
            found.add("INSUFFICIENT_POINTS")
        return found

    def take(self, member: int, offer: Offer, quantity: int, points: int) -> set[str]:
        """Do what comes before a redemption, and return the codes of what stands against it."""
        self.release_of_member(member)
        self.settle(member)
        found = self.against(member, offer, quantity, points)
        if ("OUT_OF_STOCK" in found or ("LIMIT_REACHED" in found and offer.total)) and self.release_of_offer(
            offer
        ):
            found = self.against(member, offer, quantity, points)
        return found

    def burn(
        self, id: UUID, member: int, offer: Offer, quantity: int, points: int, hold: int | None
    ) -> Burned:
        purse = self.purses[member]
        codes = []
        if offer.codes is not None:
            codes, offer.codes[:] = offer.codes[:quantity], offer.codes[quantity:]
        until = None if hold is None else self.now + timedelta(seconds=hold)
        status = "CONFIRMED" if hold is None else "RESERVED"
        burned = Burned(
            id, member, offer, quantity, points, status, until, purse.take(points), codes, self.today
        )
        if hold is None:
            purse.spent += points
        else:
            purse.reserved += points
        self.burned.append(burned)
        return burned

    def capture(self, burned: Burned, points: int) -> None:
        purse = self.settle(burned.member)
        rest = burned.points - points
        purse.reserved -= burned.points
        purse.spent += points
        burned.status, burned.points = "CONFIRMED", points
        if rest:
            purse.give_back(burned.out, rest, self.today)

    def end(self, burned: Burned, status: str) -> None:
        """Cancel a redemption, or let it run out."""
        purse = self.settle(burned.member)
        if burned.status == "RESERVED":
            purse.reserved -= burned.points
            if burned.offer.codes is not None:
                # The pool is in the order in which it was loaded.
                burned.offer.codes[:] = sorted(burned.offer.codes + burned.codes)
            burned.codes = []
        else:
            purse.spent -= burned.points
            burned.restored = burned.points
        burned.status = status
        purse.give_back(burned.out, burned.points, self.today)
