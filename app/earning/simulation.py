"""What an event would earn if it were recorded now: the same calculation, and nothing is written."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from app import clock
from app.database import connection
from app.earning import rulesets
from app.earning.batch import TOO_MANY, days_of, span_of, standings, why_not
from app.earning.engine import Award, TooManyPoints
from app.earning.events import Incoming, Prepared, facts, prepare
from app.earning.explain import RuleOutcome, explain
from app.earning.limits import Book, Waiting
from app.errors import ErrorCode, Refused, UserError, refuse
from app.ids import new_id
from app.members.reads import find_states
from app.stores.reads import find_stores


class SimulatedAward(NamedTuple):
    """An award that would be given, and the time in which its points could be spent."""

    award: Award
    available_at: datetime
    expires_at: datetime | None


class Simulation(NamedTuple):
    """What an event would earn, and why."""

    awards: list[SimulatedAward]
    outcomes: list[RuleOutcome]

    @property
    def points(self) -> int:
        """The points of all awards, pending ones included."""
        return sum(each.award.points for each in self.awards)


async def simulate(program_id: UUID, incoming: Incoming) -> Simulation:
    """Return what an event would earn now, with the outcome of every rule for events of its kind.

    Limits count what has been earned up to now. Whether the event was recorded before does not matter.

    Raises:
        Refused: with everything that is wrong with the event, as recording it would answer.
    """
    now = clock.now()
    async with connection() as sql:
        rule_set = await rulesets.load(sql, program_id)
        prepared = prepare(incoming, rule_set.policy, now, new_id())
        if not isinstance(prepared, Prepared):
            raise Refused(list(prepared))
        (state,) = await find_states(sql, program_id, [prepared.member])
        if state is None:
            message = why_not(None) or ""
            raise refuse(ErrorCode.NOT_FOUND, message, "member", prepared.member.field)
        if (reason := why_not(state.status)) is not None:
            raise refuse(ErrorCode.NOT_ELIGIBLE, reason, "member")
        store_id = None
        if prepared.store is not None:
            (store,) = await find_stores(sql, program_id, [prepared.store])
            if store is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such store.", "store", prepared.store.field)
            store_id = store.id
        fact = facts(prepared.kind, prepared.occurred_at, prepared.amount, prepared.body, store_id)
        waiting = Waiting(prepared.id, state.id, fact)
        (standing,) = await standings(sql, rule_set, [waiting])
        book = Book(rule_set.policy)
        await book.read(sql, [(waiting, rule_set.candidates(fact))], lock=False)
    try:
        awards, outcomes = explain(rule_set, fact, standing, book.rooms(waiting))
    except TooManyPoints:
        raise Refused([UserError(ErrorCode.LIMIT_REACHED, TOO_MANY)]) from None
    today = clock.local_date(now, rule_set.policy.zone)
    return Simulation(
        [
            SimulatedAward(
                award,
                *span_of(*days_of(rule_set, award.rule_id, today), rule_set.policy, now),
            )
            for award in awards
        ],
        outcomes,
    )
