"""What events earn, a second time: plain, slow, exact, and with nothing of the engine's but the data.

Written from the text of the design: all rules are gone through for every event, amounts are fractions,
and limits are counted by looking at everything that was ever given.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from app.campaigns.campaigns import Campaign
from app.earning.rules import EventKind, Period, ProductFilter, Rule, RuleStacking, RuleStatus
from app.programs.policy import MultiplierStacking, ProgramPolicy, Rounding
from app.tiers.tiers import Tier

MOST_POINTS = 2**53 - 1
HALF = Fraction(1, 2)


class TooMany(Exception):
    """An award would have more points than can be counted."""


@dataclass(frozen=True)
class NaiveLine:
    """One line of a purchase; the nameless one has no SKU."""

    amount: Fraction
    sku: str | None = None
    category: str | None = None
    brand: str | None = None
    quantity: Fraction = Fraction(1)


@dataclass(frozen=True)
class NaiveEvent:
    """Something that happened; a purchase without lines has an amount, one with lines their sum.

    Attributes:
        id: whatever tells it from other events.
        member: whatever tells the member from others.
        zone: of the store where a check-in happened; else its days are the program's.
    """

    id: object
    kind: EventKind
    occurred_at: datetime
    member: object = None
    amount: Fraction = Fraction(0)
    lines: tuple[NaiveLine, ...] = ()
    store: UUID | None = None
    action: str | None = None
    zone: ZoneInfo | None = None


class NaiveRoom(NamedTuple):
    """What the limits of a rule leave: whether it is there at all, and points; None is no limit."""

    there: bool
    day: int | None
    budget: int | None


@dataclass
class NaiveAward:
    """What a rule gave; `remaining` is less what was refunded."""

    rule: Rule
    desired: int
    points: int
    remaining: int


@dataclass
class Receipt:
    """All that decided about an event: what was in force at its time, and what limits left before it."""

    policy: ProgramPolicy
    rules: tuple[Rule, ...]
    tier: UUID | None
    tier_factor: Fraction | None
    campaign_factors: list[Fraction]
    rooms: dict[UUID, NaiveRoom]
    program_room: int | None


@dataclass
class Kept:
    """An event with what it was given, and what came back of it."""

    event: NaiveEvent
    day: date
    receipt: Receipt
    awards: list[NaiveAward]
    returned: dict[int, Fraction] = field(default_factory=dict)
    """Pieces, by the number of the line, counted from 1."""
    refunded: Fraction = Fraction(0)
    """Money that belongs to no line."""
    everything_back: bool = False


@dataclass
class Result:
    """What an event earns, and which multipliers took part in points that were given."""

    awards: list[NaiveAward]
    multiplied: set[UUID]


def in_order(rules: Iterable[Rule]) -> list[Rule]:
    """Return rules by priority, then age."""
    return sorted(rules, key=lambda rule: (-rule.definition.priority, rule.created_at, rule.id.int))


def matches(rule: Rule, line: NaiveLine) -> bool:
    """Tell whether a rule is about a line; the nameless one is for rules without a filter alone."""
    products = rule.definition.products or ProductFilter()
    if products == ProductFilter():
        return True
    if line.sku is None:
        return False
    if line.sku in products.excluded_skus:
        return False
    if line.category is not None and line.category in products.excluded_categories:
        return False
    if not products.skus and not products.categories and not products.brands:
        return True
    return (
        line.sku in products.skus
        or (line.category is not None and line.category in products.categories)
        or (line.brand is not None and line.brand in products.brands)
    )


def rate(rule: Rule) -> Fraction:
    """Return the points for one unit of money."""
    some = rule.definition.points_per_amount
    assert some is not None
    return Fraction(some.points) / Fraction(some.amount)


def replaces(rule: Rule) -> bool:
    """Tell whether a rule pays instead of the others: said, or for points by amount with a filter."""
    some = rule.definition
    if some.points_per_amount is None:
        return False
    if some.stacking is None:
        return some.products is not None and some.products != ProductFilter()
    return some.stacking is RuleStacking.REPLACE


def factor_of(rule: Rule, receipt: Receipt) -> Fraction:
    """Return the factors of tier and campaigns together, as far as the rule takes them."""
    some = rule.definition
    takes_tier = some.tier_multiplier_applies
    if takes_tier is None:
        takes_tier = some.trigger is EventKind.PURCHASE
    # Who is in no tier has no factor of one, not one that is 1.
    factors = [receipt.tier_factor] if takes_tier and receipt.tier_factor is not None else []
    if some.campaign_multiplier_applies is not False:
        factors = factors + receipt.campaign_factors
    stacking = receipt.policy.multiplier_stacking
    if not factors:
        return Fraction(1)
    if stacking is MultiplierStacking.MULTIPLY:
        return math.prod(factors, start=Fraction(1))
    if stacking is MultiplierStacking.ADD:
        # Nothing is taken that is not there.
        return max(Fraction(0), 1 + sum((each - 1 for each in factors), Fraction(0)))
    return max(factors)


def rounded(exact: Fraction, rounding: Rounding) -> int:
    """Return whole points."""
    if rounding is Rounding.FLOOR:
        return math.floor(exact)
    if rounding is Rounding.CEILING:
        return math.ceil(exact)
    return math.floor(exact + HALF)


def calculate(receipt: Receipt, event: NaiveEvent) -> Result:
    """Return what an event earns under a receipt.

    Raises:
        TooMany: an award would have more points than can be counted.
    """
    lines = list(event.lines) or [NaiveLine(event.amount)]
    there: list[tuple[Rule, list[int]]] = []
    for rule in in_order(receipt.rules):
        found = _matching(receipt, rule, event, lines)
        if found:
            there.append((rule, found))
    exact: dict[UUID, Fraction] = {}
    raised: dict[UUID, set[UUID]] = {}
    for n, line in enumerate(lines):
        factor, multiplier = _multiplier(there, n)
        for rule in _payers(there, n):
            exact[rule.id] = exact.get(rule.id, Fraction(0)) + line.amount * rate(rule) * factor
            if multiplier is not None and line.amount:
                raised.setdefault(rule.id, set()).add(multiplier.id)
    for rule, _ in there:
        if rule.definition.fixed_points is not None:
            exact[rule.id] = Fraction(rule.definition.fixed_points)
    result = Result([], set())
    given_today = 0
    for rule, _ in there:
        points = exact.get(rule.id, Fraction(0)) * factor_of(rule, receipt)
        desired = rounded(points, receipt.policy.rounding)
        if desired > MOST_POINTS:
            raise TooMany
        if desired < 1:
            continue
        granted = _trim(receipt, rule, desired, given_today)
        given_today += granted
        result.awards.append(NaiveAward(rule, desired, granted, granted))
        if granted:
            result.multiplied |= raised.get(rule.id, set())
    return result


def _matching(receipt: Receipt, rule: Rule, event: NaiveEvent, lines: Sequence[NaiveLine]) -> list[int]:
    """Return the lines that a rule is about; none when it is not there for the event."""
    some = rule.definition
    found = [n for n, line in enumerate(lines) if matches(rule, line)]
    audience = some.audience
    not_there = (
        rule.status is not RuleStatus.ACTIVE
        or some.trigger is not event.kind
        or (some.trigger is EventKind.ACTION and some.action != event.action)
        or (some.starts_at is not None and event.occurred_at < some.starts_at)
        or (some.ends_at is not None and event.occurred_at >= some.ends_at)
        or (audience is not None and bool(audience.tiers) and receipt.tier not in audience.tiers)
        or (audience is not None and bool(audience.stores) and event.store not in audience.stores)
        or (
            some.minimum_amount is not None
            and sum((lines[n].amount for n in found), Fraction(0)) < Fraction(some.minimum_amount)
        )
        or not receipt.rooms[rule.id].there
    )
    return [] if not_there else found


def _payers(there: Sequence[tuple[Rule, list[int]]], n: int) -> list[Rule]:
    """Return the rules that pay a line by its amount."""
    rules = [rule for rule, lines in there if n in lines and rule.definition.points_per_amount is not None]
    instead = [rule for rule in rules if replaces(rule)]
    if not instead:
        return rules
    return [
        min(instead, key=lambda rule: (-rule.definition.priority, -rate(rule), rule.created_at, rule.id.int))
    ]


def _multiplier(there: Sequence[tuple[Rule, list[int]]], n: int) -> tuple[Fraction, Rule | None]:
    """Return the one factor that applies to what a line earns by its amount."""
    best: tuple[Fraction, Rule | None] = (Fraction(1), None)
    for rule, lines in there:
        some = rule.definition
        if n not in lines or some.multiplier is None:
            continue
        factor = Fraction(some.multiplier)
        # Rules come by priority: one of the same priority is better only where it gives more.
        if best[1] is None or (best[1].definition.priority == some.priority and factor > best[0]):
            best = (factor, rule)
    return best


def _trim(receipt: Receipt, rule: Rule, points: int, given_today: int) -> int:
    """Return what the limits leave of points."""
    limits, room = rule.definition.limits, receipt.rooms[rule.id]
    if limits.max_points_per_transaction is not None:
        points = min(points, limits.max_points_per_transaction)
    if room.day is not None:
        points = min(points, room.day)
    if receipt.program_room is not None:
        points = min(points, max(0, receipt.program_room - given_today))
    if room.budget is not None:
        points = min(points, room.budget)
    return points


class NaiveProgram:
    """A program with everything that ever happened in it.

    Rules, tiers, campaigns and policy can be changed at any time; what happened stays as it was decided.

    Attributes:
        given_tiers: by member, since when which tier was given, in that order; None is the tier in which
            everybody starts.
    """

    def __init__(
        self,
        policy: ProgramPolicy,
        rules: Iterable[Rule],
        tiers: Iterable[Tier] = (),
        campaigns: Iterable[Campaign] = (),
    ) -> None:
        self.policy = policy
        self.rules = list(rules)
        self.tiers = list(tiers)
        self.campaigns = list(campaigns)
        self.given_tiers: dict[object, list[tuple[datetime, UUID | None]]] = {}
        self.kept: dict[object, Kept] = {}

    def record(self, event: NaiveEvent) -> Result:
        """Earn an event, after all that was recorded before.

        Raises:
            TooMany: an award would have more points than can be counted; nothing was given.
        """
        day = self.day_of(event)
        receipt = self._receipt(event, day)
        result = calculate(receipt, event)
        self.kept[event.id] = Kept(event, day, receipt, result.awards)
        return result

    def points(self, member: object) -> int:
        """Return what a member has earned, less what was taken back."""
        return sum(
            award.remaining
            for kept in self.kept.values()
            if kept.event.member == member
            for award in kept.awards
        )

    def day_of(self, event: NaiveEvent) -> date:
        """Return the local day on which an event happened."""
        return event.occurred_at.astimezone(event.zone or ZoneInfo(self.policy.timezone)).date()

    # Refunds

    def refund(
        self,
        event_id: object,
        lines: Collection[tuple[int, Decimal | int]] = (),
        amount: Decimal | None = None,
    ) -> int:
        """Take back what the returned part of a purchase earned; return how many points those are.

        Args:
            lines: numbers of lines, counted from 1, and how many pieces came back.
            amount: money that belongs to no line. Without lines and amount everything came back.
        """
        kept = self.kept[event_id]
        kept.everything_back |= not lines and amount is None
        for number, quantity in lines:
            kept.returned[number] = kept.returned.get(number, Fraction(0)) + Fraction(quantity)
            assert kept.returned[number] <= kept.event.lines[number - 1].quantity
        kept.refunded += Fraction(amount or 0)
        before = sum(award.remaining for award in kept.awards)
        rest = self._rest(kept)
        earned = [] if rest is None else calculate(kept.receipt, rest).awards
        granted = sum(award.points for award in kept.awards)
        target = min(granted, sum(award.points for award in earned))
        self._share(kept, earned, target)
        return before - target

    def _rest(self, kept: Kept) -> NaiveEvent | None:
        """Return what is left of a purchase; None for nothing."""
        event = kept.event
        if kept.everything_back:
            return None
        if not event.lines:
            assert kept.refunded <= event.amount
            left = event.amount - kept.refunded
            return replace(event, amount=left) if left or not kept.refunded else None
        assert not kept.refunded, "which lines miss it is not said"
        lines = []
        for number in self._kept_numbers(kept):
            line = event.lines[number - 1]
            share = line.amount * kept.returned.get(number, Fraction(0)) / line.quantity
            cents = math.floor(share * 100 + HALF)
            lines.append(replace(line, amount=line.amount - min(line.amount, Fraction(cents, 100))))
        total = sum((line.amount for line in lines), Fraction(0))
        free = all(event.lines[number - 1].amount == 0 for number in self._kept_numbers(kept))
        # When all the money is back the goods are, too, but for those that never cost any.
        if not lines or (not total and event.amount and not free):
            return None
        return replace(event, lines=tuple(lines), amount=total)

    def _kept_numbers(self, kept: Kept) -> list[int]:
        return [
            number
            for number, line in enumerate(kept.event.lines, start=1)
            if kept.returned.get(number, Fraction(0)) < line.quantity
        ]

    def _share(self, kept: Kept, earned: Sequence[NaiveAward], target: int) -> None:
        """Leave so many points to a purchase's awards.

        Each keeps what its rule gives for the rest, as far as it was granted; where another rule pays
        now for what it paid for, the first in the rules' order keep what is to be left beyond that.
        """
        now = {award.rule.id: award.points for award in earned}
        for award in kept.awards:
            award.remaining = min(award.points, now.get(award.rule.id, 0))
        for award in kept.awards:
            missing = target - sum(each.remaining for each in kept.awards)
            award.remaining += min(missing, award.points - award.remaining)

    # What is in force, and what limits leave

    def _receipt(self, event: NaiveEvent, day: date) -> Receipt:
        tier = self.tier_of(event.member, event.occurred_at)
        factors = [
            factor_at(campaign.factors, event.occurred_at)
            for campaign in self.campaigns
            if campaign.starts_at <= event.occurred_at < campaign.ends_at
            and event.kind in campaign.applies_to
            and (not campaign.audience.tiers or (tier and tier.id) in campaign.audience.tiers)
            and (not campaign.audience.stores or event.store in campaign.audience.stores)
        ]
        room = None
        if self.policy.max_points_per_day is not None:
            given = sum(points for _, when, points, _ in self._given(event.member) if when == day)
            room = max(0, self.policy.max_points_per_day - given)
        return Receipt(
            self.policy,
            tuple(self.rules),
            None if tier is None else tier.id,
            None if tier is None else factor_at(tier.factors, event.occurred_at),
            factors,
            {rule.id: self._room(rule, event, day) for rule in self.rules},
            room,
        )

    def tier_of(self, member: object, moment: datetime) -> Tier | None:
        """Return a member's tier at a time."""
        given = [tier for since, tier in self.given_tiers.get(member, []) if since <= moment]
        for tier in self.tiers:
            if given and tier.id == given[-1]:
                return tier
        return next((tier for tier in self.tiers if tier.rank == 0), None)

    def _given(self, member: object) -> list[tuple[datetime, date, int, UUID]]:
        """Return when, on which day, how much and by which rule a member was given; nothing is nothing."""
        return [
            (kept.event.occurred_at, kept.day, award.remaining, award.rule.id)
            for kept in self.kept.values()
            if kept.event.member == member
            for award in kept.awards
            if award.remaining
        ]

    def _room(self, rule: Rule, event: NaiveEvent, day: date) -> NaiveRoom:
        limits = rule.definition.limits
        mine = [each for each in self._given(event.member) if each[3] == rule.id]
        there = True
        if limits.max_times_per_member is not None and len(mine) >= limits.max_times_per_member:
            there = False
        if limits.cooldown_minutes is not None:
            pause = timedelta(minutes=limits.cooldown_minutes)
            there = there and all(abs(at - event.occurred_at) >= pause for at, *_ in mine)
        if limits.frequency is not None:
            period = limits.frequency.per
            often = sum(same_period(when, day, period) for _, when, *_ in mine)
            there = there and often < limits.frequency.times
        day_room = budget = None
        if limits.max_points_per_day is not None:
            given = sum(points for _, when, points, _ in mine if when == day)
            day_room = max(0, limits.max_points_per_day - given)
        if limits.budget is not None:
            spent = sum(
                award.remaining
                for kept in self.kept.values()
                for award in kept.awards
                if award.rule.id == rule.id
            )
            budget = max(0, limits.budget - spent)
        return NaiveRoom(there, day_room, budget)


def same_period(one: date, other: date, period: Period) -> bool:
    """Tell whether two local days lie in the same day, ISO week, month or year."""
    if period is Period.DAY:
        return one == other
    if period is Period.WEEK:
        return one.isocalendar()[:2] == other.isocalendar()[:2]
    if period is Period.MONTH:
        return (one.year, one.month) == (other.year, other.month)
    return one.year == other.year


def factor_at(factors: Sequence[tuple[datetime, str, Decimal]], moment: datetime) -> Fraction:
    """Return the factor in force at a time: the last that had begun, the first one before that."""
    begun = [factor for since, _, factor in factors if since <= moment]
    return Fraction(begun[-1] if begun else factors[0][2])
