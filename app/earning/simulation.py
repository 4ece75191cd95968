"""What an event would earn if it were recorded now: the same calculation, and nothing is written."""

from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

import asyncpg

from app import clock, days
from app.database import connection
from app.earning import rulesets
from app.earning.batch import TOO_MANY, check_sum, days_of, peek_held, span_of, standings, why_not
from app.earning.events import Deed, Incoming, OwnDeed, Prepared, facts
from app.earning.exact import Ratio, share_of
from app.earning.explain import RuleOutcome, explain
from app.earning.limits import Book, Rooms, Waiting
from app.earning.outcomes import Award, TooManyPoints
from app.earning.preparing import prepare
from app.earning.rules import Action, EventKind
from app.earning.ruleset import RuleSet, Standing
from app.errors import ErrorCode, Refused, UserError, refuse
from app.ids import new_id
from app.members.reads import find_states
from app.redemptions.payments import find_payments
from app.redemptions.payments import why_not as cannot_pay
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


class Outlook(NamedTuple):
    """What an event would meet: a tier with its factors, and the room that limits leave."""

    standing: Standing
    rooms: Rooms


async def outlook(
    sql: asyncpg.Connection, rule_set: RuleSet, event: Waiting, rules: RuleSet | None = None
) -> Outlook:
    """Return what an event would meet if it were earned now; nothing is locked for it.

    Args:
        rules: those of the event's time, where they are others than those of today.
    """
    (standing,) = await standings(sql, rule_set, [event])
    book = Book(rule_set.policy)
    await book.read(sql, [(event, (rules or rule_set).candidates(event.facts))], lock=False)
    return Outlook(standing, book.rooms(event))


async def simulate(program_id: UUID, incoming: Incoming) -> Simulation:
    """Return what an event would earn now, with the outcome of every rule for events of its kind.

    Limits count what has been earned up to now. Whether the event was recorded before does not matter.
    Actions that only Laurel records, such as BIRTHDAY, are taken as if Laurel had found them out.

    Raises:
        Refused: with everything that is wrong with the event, as recording it would answer.
    """
    now = clock.now()
    async with connection() as sql:
        rule_set = await rulesets.load(sql, program_id)
        prepared = prepare(_as_recorded(incoming, now), rule_set.policy, now, new_id())
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
        share = await _points_share(sql, program_id, prepared, state.id)
        fact = facts(prepared.kind, prepared.occurred_at, prepared.amount, prepared.body, store_id, share)
        (rules,) = await rulesets.then(sql, rule_set, [fact])
        ahead = await outlook(sql, rule_set, Waiting(prepared.id, state.id, fact), rules)
        held = await peek_held(sql, program_id, state.id)
    try:
        awards, outcomes = explain(rules, fact, ahead.standing, ahead.rooms)
        check_sum(held, awards)
    except TooManyPoints:
        raise Refused([UserError(ErrorCode.LIMIT_REACHED, TOO_MANY)]) from None
    today = days.local_date(now, rule_set.policy.zone)
    return Simulation(
        [
            SimulatedAward(
                award,
                *span_of(*days_of(rules, award.rule_id, today), rule_set.policy, now),
            )
            # In the order in which awards are read.
            for award in sorted(awards, key=lambda award: (-award.points, award.rule_id))
        ],
        outcomes,
    )


async def _points_share(
    sql: asyncpg.Connection, program_id: UUID, prepared: Prepared, member_id: UUID
) -> Ratio | None:
    """Return the part of a purchase that a redemption would pay; None for nothing.

    Raises:
        Refused: the redemption cannot pay for it.
    """
    if prepared.redemption_id is None:
        return None
    assert prepared.amount is not None
    (payment,) = await find_payments(sql, program_id, [prepared.redemption_id])
    error = cannot_pay(payment, member_id, prepared.amount, prepared.external_id)
    if error is not None:
        raise Refused([error])
    assert payment is not None
    return share_of(payment.amount, prepared.amount)


def _as_recorded(incoming: Incoming, now: datetime) -> Incoming:
    """Return an event as it would come in: Laurel's own actions from Laurel, the others as they are."""
    if incoming.kind is not EventKind.ACTION:
        return incoming
    deed = cast("Deed | OwnDeed", incoming.content)
    if deed.action not in tuple(Action):
        return incoming
    own = OwnDeed(deed.external_id, deed.action, deed.occurred_at or now, deed.data)
    return incoming._replace(content=own)
