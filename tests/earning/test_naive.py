"""The engine and its limits against the naive program, in random histories."""

import asyncio
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from app.earning.engine import evaluate
from app.earning.events import Body, Event, PurchaseLine
from app.earning.explain import explain
from app.earning.limits import Book, Waiting
from app.earning.outcomes import Award, Reason, Room, StepKind, TooManyPoints
from app.earning.receipts import KeptRooms
from app.earning.remainders import Remainder, Wish, targets
from app.earning.rules import EventKind, Rule, RuleStatus
from app.earning.ruleset import Facts, RuleSet, Standing
from app.ids import new_id
from app.validation import Problems
from tests.earning.histories import Choose, History, facts_of, make_history
from tests.earning.making import NothingYet
from tests.earning.naive import NaiveProgram
from tests.earning.naive_rules import MOST_POINTS, NaiveEvent, Result, TooMany

T = TypeVar("T")

EXAMPLES = 60
SEEDS = range(600)
DEEP_HISTORIES = int(os.environ.get("EARNING_HISTORIES", "30000"))


@dataclass
class Told:
    """One event as the engine decided it, with what it decided by."""

    facts: Facts
    standing: Standing
    rooms: KeptRooms
    awards: list[Award]


@dataclass
class Programs:
    """A program twice: the engine with its book of limits, and the naive one."""

    history: History
    naive: NaiveProgram = field(init=False)
    rule_set: RuleSet = field(init=False)
    book: Book = field(init=False)

    def __post_init__(self) -> None:
        past = self.history
        self.naive = NaiveProgram(past.policy, past.rules, past.tiers, past.campaigns)
        self.naive.given_tiers = past.given_tiers
        self.rule_set = RuleSet(past.policy, past.rules, past.tiers, past.campaigns)
        self.book = Book(past.policy)
        self.waiting = {
            event.id: Waiting(new_id(), self._member(event), facts_of(event), event.zone)
            for event in past.events
        }
        read = [(each, self.rule_set.candidates(each.facts)) for each in self.waiting.values()]
        asyncio.run(self.book.read(NothingYet(), read))

    def _member(self, event: NaiveEvent) -> UUID:
        assert isinstance(event.member, UUID)
        return event.member

    def earn(self, event: NaiveEvent) -> Told:
        """Earn an event as a batch does; raises TooManyPoints."""
        waiting = self.waiting[event.id]
        tier = self.naive.tier_of(event.member, event.occurred_at)
        standing = self.rule_set.standing(waiting.facts, None if tier is None else tier.id)
        rooms = self.book.rooms(waiting)
        awards = evaluate(self.rule_set, waiting.facts, standing, rooms)
        self.book.take(self.book.place(waiting), waiting.facts.occurred_at, awards)
        return Told(waiting.facts, standing, rooms.kept(), awards)


def play(history: History, choose: Choose) -> None:
    """Let both programs earn a history, and refund parts of it; hold what they say against each other."""
    programs = Programs(history)
    purchases = []
    for event in history.events:
        try:
            expected = programs.naive.record(event)
        except TooMany:
            with pytest.raises(TooManyPoints):
                programs.earn(event)
            continue
        told = programs.earn(event)
        if event.kind is EventKind.PURCHASE:
            purchases.append((event, told))
        assert [(each.rule_id, each.desired, each.points) for each in told.awards] == [
            (each.rule.id, each.desired, each.points) for each in expected.awards
        ]
        for award in told.awards:
            check_award(award)
        check_explanation(programs, told, expected)
        check_wider_rooms(programs, told)
    for event, told in purchases:
        check_refunds(programs, event, told, choose)


def check_award(award: Award) -> None:
    assert 0 <= award.points <= award.desired <= MOST_POINTS
    assert award.desired > 0
    steps = award.steps
    assert steps[0].kind is StepKind.BASE
    assert steps[0].before == 0
    assert steps[-1].after == award.points
    assert all(one.after == other.before for one, other in pairwise(steps))
    assert all(step.after >= 0 and step.label for step in steps)
    # Steps come in the order in which things are done.
    order = list(StepKind)
    assert [order.index(step.kind) for step in steps] == sorted(order.index(step.kind) for step in steps)
    limited = [step for step in steps if order.index(step.kind) > order.index(StepKind.ROUNDING)]
    before = limited[0].before if limited else steps[-1].after
    assert before == award.desired
    assert all(step.after < step.before for step in limited)


def check_explanation(programs: Programs, told: Told, expected: Result) -> None:
    """Every rule for the kind of event says why, and PAID says the truth."""
    explained = explain(programs.rule_set, told.facts, told.standing, told.rooms)
    assert explained.awards == told.awards
    in_order = sorted(explained.outcomes, key=lambda each: programs.rule_set.compiled[each.rule_id].number)
    assert [each.rule_id for each in in_order] == [
        rule.id
        for rule in programs.rule_set.every
        if rule.definition.trigger is told.facts.kind and rule.status is not RuleStatus.ARCHIVED
    ]
    given = {award.rule.id: award.points for award in expected.awards if award.points}
    assert {each.rule_id for each in explained.outcomes if each.paid} == set(given) | expected.multiplied
    trimmed = {award.rule.id for award in expected.awards if not award.points}
    for outcome in explained.outcomes:
        assert outcome.points == given.get(outcome.rule_id, 0)
        assert outcome.message.endswith(".")
        left_nothing = outcome.reason in (Reason.DAY_LIMIT_REACHED, Reason.BUDGET_SPENT)
        assert left_nothing == (outcome.rule_id in trimmed)


def check_wider_rooms(programs: Programs, told: Told) -> None:
    """More room under a limit never lowers an award: its rule's under its own limit, any under the cap."""

    def earned(rules: RuleSet, rooms: KeptRooms) -> dict[UUID, int]:
        return {each.rule_id: each.points for each in evaluate(rules, told.facts, told.standing, rooms)}

    before = {award.rule_id: award.points for award in told.awards}
    for rule in programs.history.rules:
        room = told.rooms.rules.get(rule.id)
        wider = [] if room is None else [_wider(room), Room(None, _wider(room).day, room.budget)]
        for each in wider:
            rooms = KeptRooms(told.rooms.program_day, {**told.rooms.rules, rule.id: each})
            assert earned(programs.rule_set, rooms).get(rule.id, 0) >= before.get(rule.id, 0)
        most = rule.definition.limits.max_points_per_transaction
        if most is not None and rule.id in before:
            rules = RuleSet(
                programs.history.policy, [_higher(each, rule.id) for each in programs.history.rules]
            )
            assert earned(rules, told.rooms)[rule.id] >= before[rule.id]
    if told.rooms.program_day is not None:
        after = earned(programs.rule_set, KeptRooms(told.rooms.program_day + 7, told.rooms.rules))
        assert all(after[rule_id] >= points for rule_id, points in before.items())


def check_refunds(programs: Programs, event: NaiveEvent, told: Told, choose: Choose) -> None:
    """After each of several refunds every award has come down to the same."""
    kept = programs.naive.kept[event.id]
    rest = Remainder(_stored(event), 2)
    for _ in range(choose((0, 1, 2, 3, 5))):
        if rest.is_nothing:
            break
        left = [number for number in range(1, len(event.lines) + 1) if rest.left(number - 1)]
        wishes: list[Wish] = []
        amount = None
        of_lines = choose((True, True, True, False))
        if left and of_lines:
            number = choose(left)
            pieces = Decimal(1 + choose(range(int(rest.left(number - 1)))))
            wishes = [Wish(number, pieces)]
        elif not event.lines and choose((1, 1, 0)):
            amount = min(rest.amount, Decimal(choose((1, 5, 1000)))) or None
        problems = Problems()
        back = rest.part(wishes, amount, "EUR", problems) if wishes or amount else rest.everything()
        assert not problems.errors
        rest.add(back)
        before = programs.naive.points(event.member)
        taken = programs.naive.refund(event.id, [(each.number, each.quantity) for each in wishes], amount)
        assert programs.naive.points(event.member) == before - taken
        earned = rest.would_earn(programs.rule_set, told.standing, told.rooms)
        granted = {award.rule_id: award.points for award in told.awards if award.points}
        expected = {award.rule.id: award.remaining for award in kept.awards if award.points}
        assert targets(granted, earned) == expected
        assert sum(expected.values()) <= sum(earned.values())
        assert all(0 <= expected[rule_id] <= points for rule_id, points in granted.items())
        if rest.is_nothing:
            assert not any(expected.values())


def _stored(event: NaiveEvent) -> Event:
    lines = tuple(
        PurchaseLine(
            line.sku or "", _decimal(line.amount), _decimal(line.quantity), None, line.category, line.brand
        )
        for line in event.lines
    )
    return Event(
        id=new_id(),
        member_id=new_id(),
        external_id="purchase",
        kind=event.kind,
        occurred_at=event.occurred_at,
        recorded_at=event.occurred_at,
        amount=_decimal(event.amount),
        body=Body(lines),
        store_id=event.store,
        points_amount=_decimal(event.amount * event.with_points),
    )


def _decimal(value: Fraction) -> Decimal:
    # Amounts have six decimals at most: none is cut.
    return Decimal(int(value * 10**6)).scaleb(-6)


def _wider(room: Room) -> Room:
    day, budget = (None if each is None else each + 5 for each in (room.day, room.budget))
    return Room(room.closed, day, budget)


def _higher(rule: Rule, rule_id: UUID) -> Rule:
    if rule.id != rule_id:
        return rule
    limits = rule.definition.limits
    most = (limits.max_points_per_transaction or 0) + 3
    limits = msgspec.structs.replace(limits, max_points_per_transaction=most)
    return msgspec.structs.replace(rule, definition=msgspec.structs.replace(rule.definition, limits=limits))


@profile(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(st.data())
def test_the_engine_agrees_with_the_naive_program(data: st.DataObject) -> None:
    choose: Choose = lambda things: data.draw(st.sampled_from(things))  # noqa: E731
    play(make_history(choose), choose)


def test_the_engine_agrees_with_the_naive_program_in_seeded_histories() -> None:
    for seed in SEEDS:
        choose = _seeded(seed)
        play(make_history(choose), choose)


@pytest.mark.deep
def test_the_engine_agrees_with_the_naive_program_in_many_histories() -> None:
    for seed in range(len(SEEDS), len(SEEDS) + DEEP_HISTORIES):
        choose = _seeded(seed)
        try:
            play(make_history(choose, most_events=12), choose)
        except Exception as error:
            error.add_note(f"in the history of seed {seed}")
            raise


def _seeded(seed: int) -> Choose:
    chance = random.Random(seed)

    def choose(things: Sequence[T]) -> T:
        return chance.choice(things)

    return choose
