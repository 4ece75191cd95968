"""How many points an event earns: values in, awards with their receipts out. No I/O, no clock."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from app.earning.compiled import CompiledRule
from app.earning.exact import Ratio, money, plural
from app.earning.factors import Combined, combine
from app.earning.limit_messages import closed_message
from app.earning.outcomes import (
    UNLIMITED,
    Award,
    Closed,
    Reason,
    Room,
    Rooms,
    Step,
    StepKind,
    TooManyPoints,
    Verdict,
)
from app.earning.rules import EventKind
from app.earning.ruleset import Candidate, Facts, RuleSet, Standing
from app.ledger.operations import MAX_POINTS
from app.programs.policy import Rounding

_ROUNDED = {
    Rounding.FLOOR: "Rounded down to whole points",
    Rounding.HALF_UP: "Rounded to the nearest whole point",
    Rounding.CEILING: "Rounded up to whole points",
}
_FOR_ONE = {
    EventKind.PURCHASE: "At most {} for one purchase by this rule",
    EventKind.ACTION: "At most {} for one action by this rule",
    EventKind.CHECK_IN: "At most {} for one visit by this rule",
    EventKind.REFERRAL: "At most {} for one friend by this rule",
}
_ZERO = Decimal(0)
_ALL_WITH_POINTS = Verdict(
    Reason.ROUNDED_TO_ZERO, "All of the purchase was paid with points, which earn nothing here."
)


def evaluate(
    rule_set: RuleSet,
    facts: Facts,
    standing: Standing,
    rooms: Rooms,
    *,
    candidates: Sequence[Candidate] | None = None,
    verdicts: dict[UUID, Verdict] | None = None,
) -> list[Award]:
    """Return what an event earns, rule by rule in the order of the rules.

    Args:
        facts: what happened; amounts are not negative and in the program's currency.
        standing: the tier and the factors in force at the event's time.
        rooms: what limits leave before the event.
        candidates: what `rule_set.candidates(facts)` returns, where it is known already.
        verdicts: is filled with what became of each candidate, by rule.

    Returns:
        Awards that came to at least one point before limits; limits may have left none of it.

    Raises:
        TooManyPoints: an award would pass MAX_POINTS.
    """
    return _Evaluation(rule_set, facts, standing, rooms, verdicts).run(
        rule_set.candidates(facts) if candidates is None else candidates
    )


def not_meant(
    rule: CompiledRule,
    facts: Facts,
    standing: Standing,
    micros: int,
    currency: str,
    remark: str = "",
) -> Verdict | None:
    """Return why a rule is not meant for an event; None when it is. Limits are another matter.

    Args:
        micros: the amount that its minimum is compared with, in millionths.
        remark: what a sentence that names that amount says of it.
    """
    if rule.starts_at is not None and facts.occurred_at < rule.starts_at:
        return Verdict(Reason.NOT_STARTED, "It happened before the rule starts.")
    if rule.ends_at is not None and facts.occurred_at >= rule.ends_at:
        return Verdict(Reason.ENDED, "It happened after the rule ends.")
    if rule.tiers and standing.tier_id not in rule.tiers:
        return Verdict(Reason.NOT_IN_AUDIENCE, "The rule is for members of other tiers.")
    if rule.stores and facts.store_id not in rule.stores:
        where = "in no store that is known" if facts.store_id is None else "in another store"
        return Verdict(Reason.NOT_IN_AUDIENCE, f"The rule is for certain stores, and this happened {where}.")
    if rule.minimum is not None and micros < rule.minimum:
        minimum = money(rule.minimum, currency)
        came_to = money(micros, currency)
        what = "The purchase" if rule.every_line else "The goods that the rule is for"
        message = f"{what} came to {came_to}{remark}; the rule asks for at least {minimum}."
        return Verdict(Reason.BELOW_MINIMUM, message)
    return None


class _Meant(NamedTuple):
    """A rule that is there for the event, the parts of the purchase that match, and what limits leave."""

    rule: CompiledRule
    parts: Sequence[int]
    room: Room


class _Evaluation:
    """One event on its way through the rules."""

    def __init__(
        self,
        rule_set: RuleSet,
        facts: Facts,
        standing: Standing,
        rooms: Rooms,
        verdicts: dict[UUID, Verdict] | None,
    ) -> None:
        self._policy = rule_set.policy
        self._facts = facts
        self._standing = standing
        self._rooms = rooms
        self._verdicts = verdicts
        # What was paid with points counts for nothing, unless the program lets it: None is all of it counts.
        self._counts = None
        self._remark = ""
        if facts.points_share is not None and not self._policy.earn_on_points_payments:
            paid = facts.points_share
            self._counts = Ratio(paid.denominator - paid.numerator, paid.denominator)
            self._remark = ", without what was paid with points"
        # A purchase without lines is one nameless line; so is one whose lines no rule looks at.
        lines = facts.lines if rule_set.looks_at_lines else ()
        self._parts = [line.micros for line in lines] or [facts.micros]
        self._winners: list[CompiledRule | None] = []
        self._multipliers: list[CompiledRule | None] = []
        self._factors: dict[tuple[bool, bool], Combined] = {}

    def run(self, candidates: Sequence[Candidate]) -> list[Award]:
        meant = [each for each in map(self._meant, candidates) if each is not None]
        self._winners = self._pick(each for each in meant if each.rule.replaces)
        self._multipliers = self._pick(each for each in meant if each.rule.factor is not None)
        awards: list[Award] = []
        program_room = self._rooms.program_day
        used: set[UUID] = set()
        for rule, parts, room in meant:
            if rule.factor is not None:
                continue
            award = self._award(rule, parts, room, program_room, used)
            if award is not None:
                awards.append(award)
                if program_room is not None:
                    program_room -= award.points
        if self._verdicts is not None:
            self._judge_multipliers(meant, used, self._verdicts)
        return awards

    def _meant(self, candidate: Candidate) -> _Meant | None:
        """Return a candidate that is there for the event, or None, and note why not."""
        rule, lines = candidate
        parts: Sequence[int]
        if lines is None:
            parts, micros = range(len(self._parts)), self._facts.micros
        else:
            parts, micros = lines, min(sum(self._parts[n] for n in lines), self._facts.micros)
        if self._counts is not None:
            # A minimum is a whole number of millionths: rounded down an amount is below it just the same.
            micros = micros * self._counts.numerator // self._counts.denominator
        currency = self._policy.currency
        verdict = not_meant(rule, self._facts, self._standing, micros, currency, self._remark)
        if verdict is None and self._counts is not None and not self._counts.numerator:
            verdict = _ALL_WITH_POINTS
        room = UNLIMITED
        if verdict is None and rule.has_limits:
            room = self._rooms.of(rule)
            if room.closed is not None:
                verdict = Verdict(room.closed.reason, self._why_closed(rule, room.closed))
        if verdict is None:
            return _Meant(rule, parts, room)
        self._note(rule, verdict)
        return None

    def _why_closed(self, rule: CompiledRule, closed: Closed) -> str:
        # A sentence that nobody asks for takes longer than the rest of a rule.
        return "" if self._verdicts is None else closed_message(rule, closed)

    def _note(self, rule: CompiledRule, verdict: Verdict) -> None:
        if self._verdicts is not None:
            self._verdicts[rule.id] = verdict

    def _pick(self, rivals: Iterable[_Meant]) -> list[CompiledRule | None]:
        """Return, for each part, the one of several rules that wins it; an empty list without any."""
        winners: list[CompiledRule | None] = []
        for rule, parts, _ in rivals:
            winners = winners or [None] * len(self._parts)
            for n in parts:
                winner = winners[n]
                if winner is None or rule.order < winner.order:
                    winners[n] = rule
        return winners

    def _award(
        self, rule: CompiledRule, parts: Sequence[int], room: Room, program_room: int | None, used: set[UUID]
    ) -> Award | None:
        steps: list[Step] = []
        multiplied: list[UUID] = []
        if rule.rate is None:
            assert rule.fixed is not None
            exact = Ratio(rule.fixed)
            steps.append(Step(StepKind.BASE, rule.base_label, _ZERO, Decimal(rule.fixed)))
        else:
            own = self._own(rule, parts)
            if not own:
                self._note(rule, Verdict(Reason.REPLACED, self._replaced_by(parts)))
                return None
            exact = self._rated(rule, own, steps, multiplied)
        exact = self._factored(rule, exact, steps)
        desired = exact.rounded(self._policy.rounding)
        if desired > MAX_POINTS:
            raise TooManyPoints
        if not exact.is_whole():
            label = _ROUNDED[self._policy.rounding]
            steps.append(Step(StepKind.ROUNDING, label, steps[-1].after, Decimal(desired)))
        if not desired:
            self._note(rule, Verdict(Reason.ROUNDED_TO_ZERO, "It comes to less than one point."))
            return None
        points = self._trimmed(rule, desired, room, program_room, steps)
        if points:
            used.update(multiplied)
        award = Award(rule.id, rule.version, rule.name, desired, points, tuple(steps))
        if self._verdicts is not None:
            self._verdicts[rule.id] = _paid(award)
        return award

    def _own(self, rule: CompiledRule, parts: Sequence[int]) -> Sequence[int]:
        """Return the parts that a rule by amount pays for: a REPLACE rule keeps the others away."""
        winners = self._winners
        if not winners:
            return parts
        if rule.replaces:
            return [n for n in parts if winners[n] is rule]
        return [n for n in parts if winners[n] is None]

    def _replaced_by(self, parts: Sequence[int]) -> str:
        names = [winner.name for n in parts if (winner := self._winners[n]) is not None]
        return f"Another rule counts instead: {_listed(names)}."

    def _rated(
        self, rule: CompiledRule, own: Sequence[int], steps: list[Step], multiplied: list[UUID]
    ) -> Ratio:
        """Return the points for the parts that a rule by amount pays for, product multipliers included."""
        assert rule.rate is not None
        parts, whole = self._parts, self._facts.micros
        micros = sum(parts[n] for n in own) if len(own) < len(parts) else whole
        if rule.every_line and len(own) < len(parts):
            # What was refunded of no line in particular is missing from what is paid by no other rule.
            micros = min(micros, whole - sum(parts) + micros)
        micros = max(0, min(micros, whole))
        exact = self._worth(rule.rate, micros)
        currency = self._policy.currency
        label = rule.base_label + self._shown(micros)
        if micros < whole or self._counts is not None:
            label += f" of {money(whole, currency)}{self._remark}"
        steps.append(Step(StepKind.BASE, label, _ZERO, exact.shown()))
        if not self._multipliers:
            return exact
        shares: dict[UUID, tuple[CompiledRule, int]] = {}
        for n in own:
            multiplier = self._multipliers[n]
            if multiplier is not None:
                share = shares[multiplier.id][1] if multiplier.id in shares else 0
                shares[multiplier.id] = (multiplier, share + parts[n])
        left = micros
        for multiplier, share in sorted(shares.values(), key=_by_number):
            assert multiplier.factor is not None
            taken = min(share, left)
            left -= taken
            more = Ratio(multiplier.factor.numerator - multiplier.factor.denominator, multiplier.factor[1])
            exact = exact.plus(self._worth(rule.rate, taken).times(more))
            if not taken:
                continue
            multiplied.append(multiplier.id)
            factor = multiplier.shown_factor
            label = f"{multiplier.name}: {_times_the_points(factor)} on "
            label += self._shown(taken)
            steps.append(Step(StepKind.PRODUCT_MULTIPLIER, label, steps[-1].after, exact.shown(), factor))
        return exact

    def _worth(self, rate: Ratio, micros: int) -> Ratio:
        """Return the points for an amount, or for as much of it as counts; nothing is rounded."""
        exact = rate.times(Ratio(micros))
        return exact if self._counts is None else exact.times(self._counts)

    def _shown(self, micros: int) -> str:
        """Return for people how much of an amount counts, to at most six decimals."""
        if self._counts is not None:
            micros = Ratio(micros).times(self._counts).rounded(Rounding.HALF_UP)
        return money(micros, self._policy.currency)

    def _factored(self, rule: CompiledRule, exact: Ratio, steps: list[Step]) -> Ratio:
        """Return the points after the tier's and the campaigns' factors."""
        if not exact.numerator:
            return exact
        key = (rule.takes_tier, rule.takes_campaigns)
        combined = self._factors.get(key)
        if combined is None:
            combined = self._factors[key] = combine(
                self._standing.tier if rule.takes_tier else None,
                self._standing.campaigns if rule.takes_campaigns else (),
                self._policy.multiplier_stacking,
            )
        for kind, label, factor, so_far in combined.steps:
            after = exact.times(so_far).shown()
            steps.append(Step(kind, label, steps[-1].after, after, factor))
        return exact.times(combined.factor)

    def _trimmed(
        self, rule: CompiledRule, points: int, room: Room, program_room: int | None, steps: list[Step]
    ) -> int:
        """Return the points that limits leave: the rule's, the program's, and the rule's budget."""

        def trim_to(most: int, kind: StepKind, sentence: str, limit: int | None) -> None:
            nonlocal points
            if points > most:
                label = sentence.format(plural(limit or 0)) + _left(most, limit or 0)
                steps.append(Step(kind, label, Decimal(points), Decimal(most)))
                points = most

        limits = rule.limits
        if limits.max_points_per_transaction is not None:
            most, sentence = limits.max_points_per_transaction, _FOR_ONE[self._facts.kind]
            trim_to(most, StepKind.TRANSACTION_LIMIT, sentence, most)
        if room.day is not None:
            sentence = "At most {} a day by this rule"
            trim_to(room.day, StepKind.DAY_LIMIT, sentence, limits.max_points_per_day)
        if program_room is not None:
            sentence = "At most {} a day in the whole program"
            trim_to(program_room, StepKind.PROGRAM_DAY_LIMIT, sentence, self._policy.max_points_per_day)
        if room.budget is not None:
            trim_to(room.budget, StepKind.BUDGET, "The rule's budget is {}", limits.budget)
        return points

    def _judge_multipliers(
        self, meant: Sequence[_Meant], used: set[UUID], verdicts: dict[UUID, Verdict]
    ) -> None:
        for rule, parts, _ in meant:
            if rule.factor is None:
                continue
            if rule.id in used:
                message = "Multiplies what other rules give."
                if rule.factor.numerator == rule.factor.denominator:
                    message = "Keeps other multipliers away from its goods."
                verdicts[rule.id] = Verdict(Reason.PAID, message)
            elif all(self._multipliers[n] is not rule for n in parts):
                names = [winner.name for n in parts if (winner := self._multipliers[n]) is not None]
                message = f"Another multiplier counts instead: {_listed(names)}."
                verdicts[rule.id] = Verdict(Reason.REPLACED, message)
            else:
                message = "Nothing to multiply: no rule gives points for the amount that it is for."
                verdicts[rule.id] = Verdict(Reason.ROUNDED_TO_ZERO, message)


def _by_number(share: tuple[CompiledRule, int]) -> int:
    return share[0].number


def _times_the_points(factor: Decimal) -> str:
    # A multiplier of 1 keeps another one away from its goods.
    return "no extra points" if factor == 1 else f"{factor:f} times the points"


def _left(points: int, of: int) -> str:
    """Return the end of a sentence that names a limit: what had been left of it, unless that was all."""
    if points >= of:
        return ""
    return (
        f", of which {points:,} {'was' if points == 1 else 'were'} left" if points else ", and none was left"
    )


def _listed(names: Iterable[str]) -> str:
    """Return names as a sentence lists them, each once: "A", "A and B", "A, B and C"."""
    *others, last = dict.fromkeys(names)
    return f"{', '.join(others)} and {last}" if others else last


def _paid(award: Award) -> Verdict:
    if award.points:
        trimmed = "" if award.points == award.desired else f"; without limits it would be {award.desired:,}"
        return Verdict(Reason.PAID, f"Gives {plural(award.points)}{trimmed}.")
    last = award.steps[-1]
    reason = Reason.BUDGET_SPENT if last.kind is StepKind.BUDGET else Reason.DAY_LIMIT_REACHED
    return Verdict(reason, f"{last.label}.")
