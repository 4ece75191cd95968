"""What an import must come to, worked out a second time: from what is promised, and sharing no code with it.

One row after the other and one order after the other, in fractions. A `World` says what counts.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import ceil, floor
from zoneinfo import ZoneInfo

from tests.imports.world import Rule, World


@dataclass(eq=False)
class Line:
    sku: str
    category: str
    brand: str
    pieces: Fraction
    amount: Fraction
    back: Fraction = Fraction(0)

    @property
    def rest(self) -> Fraction:
        """What the pieces that are left are worth."""
        return self.amount - cents(self.amount * self.back / self.pieces)


@dataclass(frozen=True)
class Receipt:
    """What decided for a purchase beside its lines."""

    moment: datetime
    day: date
    tier: str | None
    tier_factor: Sequence[Fraction]
    campaign_factors: Sequence[Fraction]
    room: int | None
    closed: frozenset[str]
    rooms: Mapping[str, int]


@dataclass
class Order:
    id: str
    member: str
    moment: datetime
    lines: list[Line] = field(default_factory=list)
    receipt: Receipt | None = None
    granted: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)

    @property
    def is_return(self) -> bool:
        return self.id.startswith("C")


@dataclass
class Account:
    """One member's points: what a refund cannot take becomes debt, down to the limit."""

    available: int = 0
    spent: int = 0
    owed: int = 0
    """What refunds took of points that had been spent; later earns do not lessen it."""
    written_off: int = 0
    orders: list[Order] = field(default_factory=list)

    def take(self, points: int, debt_limit: int) -> None:
        """Take points away, or give them again where they are negative."""
        taken = min(points, self.available + debt_limit) if points > 0 else points
        self.owed += max(0, taken - max(0, self.available))
        self.available -= taken
        self.written_off += points - taken

    def spend_all(self) -> int:
        """Spend all that is there, and return how much that was."""
        points = max(0, self.available)
        self.available -= points
        self.spent += points
        return points


@dataclass
class Result:
    """What all orders came to."""

    accounts: dict[str, Account]
    orders: dict[str, Order]
    matched: Fraction = Fraction(0)
    unmatched: Fraction = Fraction(0)


def cents(amount: Fraction) -> Fraction:
    """Return an amount rounded half up to the cent."""
    return Fraction(floor(amount * 100 + Fraction(1, 2)), 100)


def rounded(points: Fraction, rounding: str) -> int:
    """Return points as whole ones, as the program's rounding says."""
    return {"FLOOR": floor(points), "CEILING": ceil(points), "HALF_UP": floor(points + Fraction(1, 2))}[
        rounding
    ]


def orders_of(lines: Iterable[str], zone: str) -> list[Order]:
    """Return a retailer's orders in the order in which they happened; those of one time as they stand."""
    orders: dict[str, Order] = {}
    for row in csv.DictReader(lines):
        if not row["CustomerID"]:
            continue
        name = row["InvoiceNo"]
        if name not in orders:
            local = datetime.fromisoformat(row["InvoiceDate"]).replace(tzinfo=ZoneInfo(zone))
            orders[name] = Order(name, str(int(float(row["CustomerID"]))), local.astimezone(UTC))
        pieces = abs(int(row["Quantity"]))
        amount = cents(pieces * Fraction(row["UnitPrice"]))
        line = Line(row["StockCode"], row["Country"], row["Description"].strip(), Fraction(pieces), amount)
        orders[name].lines.append(line)
    return sorted(orders.values(), key=lambda order: order.moment)


class Calculation:
    """Goes through orders, and keeps what each member has."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._zone = ZoneInfo(world.zone)
        # A stable sort: the oldest of the same priority comes first.
        self._rules = sorted(world.rules, key=lambda rule: -rule.priority)
        self.result = Result(defaultdict(Account), {})

    def run(self, orders: Iterable[Order]) -> Result:
        """Let orders happen, one after the other."""
        for order in orders:
            self.result.orders[order.id] = order
            account = self.result.accounts[order.member]
            if order.is_return:
                self._give_back(account, order)
            else:
                order.receipt = self._receipt(account, order)
                order.granted = self._earn(order.receipt, order.lines)
                order.kept = dict(order.granted)
                account.available += sum(order.granted.values())
                account.orders.append(order)
        return self.result

    # What a purchase meets

    def _receipt(self, account: Account, order: Order) -> Receipt:
        world, moment = self._world, order.moment
        tier = world.start
        for given in world.given.get(order.member, ()):
            if given.since <= moment and (given.until is None or moment < given.until):
                tier = given.tier or world.start
        running = [
            campaign.factor
            for campaign in world.campaigns
            if campaign.starts <= moment < campaign.ends and (not campaign.tiers or tier in campaign.tiers)
        ]
        day = self._day(moment)
        today = [other for other in account.orders if other.receipt and other.receipt.day == day]
        room = None
        if world.cap is not None:
            room = max(0, world.cap - sum(sum(other.kept.values()) for other in today))
        return Receipt(
            moment,
            day,
            tier,
            [world.tiers[tier]] if tier else [],
            running,
            room,
            frozenset(rule.name for rule in self._rules if self._is_closed(rule, account, moment)),
            {
                rule.name: max(0, rule.per_day - sum(other.kept.get(rule.name, 0) for other in today))
                for rule in self._rules
                if rule.per_day is not None
            },
        )

    def _day(self, moment: datetime) -> date:
        return moment.astimezone(self._zone).date()

    def _is_closed(self, rule: Rule, account: Account, moment: datetime) -> bool:
        """Tell whether limits turn the purchase away: what the rule gave, and has not taken back, counts."""
        if rule.often is None and rule.pause_minutes is None and rule.at_most is None:
            return False
        paid = [other.moment for other in account.orders if other.kept.get(rule.name)]
        if rule.at_most is not None and len(paid) >= rule.at_most:
            return True
        if rule.pause_minutes is not None:
            pause = timedelta(minutes=rule.pause_minutes)
            if any(abs(each - moment) < pause for each in paid):
                return True
        if rule.often is None:
            return False
        times, period = rule.often
        now = _period(self._day(moment), period)
        return sum(_period(self._day(each), period) == now for each in paid) >= times

    # What it earns

    def _earn(self, receipt: Receipt, lines: Sequence[Line]) -> dict[str, int]:
        """Return what lines earn by each rule, in the order in which limits are spent."""
        meant: list[tuple[Rule, list[Line]]] = []
        for rule in self._rules:
            matching = [line for line in lines if rule.matches(line.sku, line.category, line.brand)]
            if matching and self._is_meant(rule, receipt, matching):
                meant.append((rule, matching))
        winners = self._best([each for each in meant if each[0].replaces])
        factors = self._best([each for each in meant if each[0].times is not None])
        earned: dict[str, int] = {}
        room = receipt.room
        for rule, matching in meant:
            if rule.times is not None:
                continue
            if rule.fixed is not None:
                points = Fraction(rule.fixed)
            else:
                points = Fraction(0)
                for line in matching:
                    if winners.get(line, rule) is rule:
                        factor = factors[line].times if line in factors else None
                        points += line.rest * (rule.per or 0) * (1 if factor is None else factor)
            whole = rounded(points * self._factor(rule, receipt), self._world.rounding)
            if rule.per_purchase is not None:
                whole = min(whole, rule.per_purchase)
            whole = min(whole, receipt.rooms.get(rule.name, whole))
            if room is not None:
                whole = min(whole, room)
                room -= whole
            earned[rule.name] = whole
        return earned

    def _is_meant(self, rule: Rule, receipt: Receipt, matching: Sequence[Line]) -> bool:
        return (
            rule.name not in receipt.closed
            and (rule.starts is None or rule.starts <= receipt.moment)
            and (rule.ends is None or receipt.moment < rule.ends)
            and (not rule.tiers or receipt.tier in rule.tiers)
            and (rule.minimum is None or sum(line.rest for line in matching) >= rule.minimum)
        )

    def _best(self, rivals: Iterable[tuple[Rule, Sequence[Line]]]) -> dict[Line, Rule]:
        """Return each line's rule: the highest priority, then the most generous, then the oldest."""
        best: dict[Line, Rule] = {}
        for rule, matching in rivals:
            for line in matching:
                other = best.get(line)
                if other is None or (rule.priority, rule.per or rule.times) > (
                    other.priority, other.per or other.times
                ):  # fmt: skip
                    best[line] = rule
        return best

    def _factor(self, rule: Rule, receipt: Receipt) -> Fraction:
        factors = [*receipt.tier_factor] if rule.by_tier else []
        factors += receipt.campaign_factors if rule.by_campaign else []
        if self._world.stacking == "BEST":
            return max(factors, default=Fraction(1))
        product, total = Fraction(1), Fraction(1)
        for factor in factors:
            product *= factor
            total += factor - 1
        return product if self._world.stacking == "MULTIPLY" else max(Fraction(0), total)

    # What a return takes back

    def _give_back(self, account: Account, order: Order) -> None:
        wanted: dict[str, Fraction] = defaultdict(Fraction)
        for line in order.lines:
            wanted[line.sku] += line.pieces
        pieces = sum(wanted.values())
        # Those of one time stand in the order in which they were recorded.
        for purchase in reversed(account.orders):
            if purchase.moment >= order.moment:
                continue
            touched = False
            for line in reversed(purchase.lines):
                back = min(wanted.get(line.sku, Fraction(0)), line.pieces - line.back)
                if back:
                    wanted[line.sku] -= back
                    line.back += back
                    touched = True
            if touched:
                self._reduce(account, purchase)
        self.result.unmatched += sum(wanted.values())
        self.result.matched += pieces - sum(wanted.values())

    def _reduce(self, account: Account, purchase: Order) -> None:
        """Bring a purchase down to what its rest would have earned, and to no more than was granted.

        A rule keeps what it would have given the rest; where that is more than it gave, and others'
        would be less, rules keep in their order what makes up for it.
        """
        assert purchase.receipt
        rest = [line for line in purchase.lines if line.back < line.pieces]
        would = self._earn(purchase.receipt, rest) if rest else {}
        kept = {name: min(points, would.get(name, 0)) for name, points in purchase.granted.items()}
        missing = min(sum(purchase.granted.values()), sum(would.values())) - sum(kept.values())
        for name, points in purchase.granted.items():
            more = min(missing, points - kept[name])
            kept[name] += more
            missing -= more
        for name in purchase.granted:
            account.take(purchase.kept[name] - kept[name], self._world.debt_limit)
        purchase.kept = kept


def _period(day: date, period: str) -> tuple[int, ...]:
    if period == "DAY":
        return day.year, day.month, day.day
    if period == "WEEK":
        return tuple(day.isocalendar())[:2]
    return (day.year, day.month) if period == "MONTH" else (day.year,)
