"""A program a second time: it keeps everything that was ever given, and counts limits by looking at it."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

from app.campaigns.campaigns import Campaign
from app.earning.rules import Period, Rule
from app.programs.policy import ProgramPolicy
from app.tiers.tiers import Tier
from tests.earning.naive_rules import (
    HALF,
    Kept,
    NaiveAward,
    NaiveEvent,
    NaiveRoom,
    Receipt,
    Result,
    calculate,
)


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
