"""Taking back what an event earned, a returned part of it or all: awards, ledger, counters and budgets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from app.days import local_date
from app.earning import rulesets
from app.earning.budgets import give_back
from app.earning.events import Event
from app.earning.receipts import PLAIN, Context, decode
from app.earning.refunds import Refund, Unmatched
from app.earning.remainders import Back, Remainder, targets
from app.earning.rules import EventKind
from app.earning.ruleset import RuleSet
from app.ids import key_id, new_id, to_global_id
from app.ledger.operations import EntryKind, Operation, Outcome
from app.ledger.service import post, terms
from app.messages.leaving import Message, leave
from app.messages.topics import Topic
from app.programs.policy import ProgramPolicy
from app.redemptions.payments import Return, restore_share

_DECIDED = """
SELECT o.rules_version, o.context FROM event_outcome o WHERE o.event_id = $1 /* scoped by: event */
"""

_AWARDS = """
SELECT a.rule_id, a.rule_version, a.points, a.remaining, a.entry_sequence, e.matures_on, e.expires_on,
    coalesce(a.day, (v.occurred_at AT TIME ZONE $2)::date) AS day
FROM award a JOIN event v ON v.id = a.event_id
LEFT JOIN ledger_entry e ON e.account_id = v.member_id AND e.sequence = a.entry_sequence
WHERE a.event_id = $1 /* scoped by: event */
"""

_MOVED = """
SELECT rule_id, reference, sum(points)::bigint AS points, sum(written_off)::bigint AS written_off
FROM refund_award
WHERE event_id = $1 GROUP BY rule_id, reference ORDER BY rule_id, reference /* scoped by: event */
"""

_REQUEST = """
INSERT INTO refund_request (id, program_id, external_id, member_id, kind, request_hash, occurred_at,
    recorded_at, unmatched)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '[]') ON CONFLICT (program_id, external_id) DO NOTHING RETURNING id
"""

_REFUND = """
INSERT INTO refund (id, request_id, program_id, event_id, amount, lines, whole, points, debt, written_off,
    restored_points)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""

_KEEP = """
WITH moved AS ( /* scoped by: event */
    INSERT INTO refund_award (refund_id, event_id, rule_id, reference, points, written_off)
    SELECT $1, $2, t.* FROM unnest($3::uuid[], $4::bigint[], $5::bigint[], $12::bigint[]) AS t
), counted AS (
    UPDATE earning_counter c SET points = c.points - t.points
    FROM unnest($6::date[], $7::bigint[]) AS t(day, points)
    WHERE c.member_id = $8 AND c.subject = $9 AND c.day = t.day
)
UPDATE award a SET remaining = t.remaining
FROM unnest($10::uuid[], $11::bigint[]) AS t(rule_id, remaining)
WHERE a.event_id = $2 AND a.rule_id = t.rule_id
"""


_NOTHING_BACK = Back(Decimal(0), (), True)


@dataclass
class Request:
    """A refund on its way: who told us of it, and when."""

    id: UUID
    program_id: UUID
    member_id: UUID
    external_id: str
    kind: str
    hash: int
    occurred_at: datetime
    recorded_at: datetime
    refunds: list[Refund] = field(default_factory=list)
    unmatched: list[Unmatched] = field(default_factory=list)


async def announce(sql: asyncpg.Connection, request: Request) -> bool:
    """Write a request, by whose external id every repetition is known; return False for a repetition."""
    new = await sql.fetchval(
        _REQUEST,
        request.id, request.program_id, request.external_id, request.member_id, request.kind, request.hash,
        request.occurred_at, request.recorded_at,
    )  # fmt: skip
    return new is not None


class _Award(NamedTuple):
    """An award as refunds look at it, in the order of the columns of _AWARDS."""

    rule_id: UUID
    rule_version: int
    points: int
    remaining: int
    entry_sequence: int
    matures_on: date
    expires_on: date
    day: date


async def take_back(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    request: Request,
    event: Event,
    rest: Remainder,
    back: Back,
) -> None:
    """Keep one refund of one purchase, and bring its awards down to what the rest has earned.

    Of what was paid with points the same part comes back to the member.
    """
    rest.add(back)
    decided = await sql.fetchrow(_DECIDED, event.id)
    awards = await _awards(sql, policy, event)
    refund_id = new_id()
    moves: list[_Move] = []
    if awards:
        rule_set, context = await _receipt(sql, policy, event, decided, awards)
        awards = [award for award in awards if award.points]
        awards.sort(key=lambda award: rule_set.compiled[award.rule_id].number)
        earned = rest.would_earn(rule_set, context.standing, context.rooms)
        kept = targets({award.rule_id: award.points for award in awards}, earned)
        moves = await _bring_down(sql, policy, request, event, awards, kept)
    # Restored first: what is taken back finds these points, and is neither owed nor written off for nothing.
    restored = await _restore(sql, policy, request, event, refund_id, rest)
    await _refund(sql, policy, request, event, refund_id, back, moves, restored)


async def take_back_whole(
    sql: asyncpg.Connection, policy: ProgramPolicy, request: Request, event: Event
) -> None:
    """Take back all that is left of an event that is no purchase, as `take_back` does."""
    awards = [award for award in await _awards(sql, policy, event) if award.points]
    kept = {award.rule_id: 0 for award in awards}
    moves = await _bring_down(sql, policy, request, event, awards, kept)
    await _refund(sql, policy, request, event, new_id(), _NOTHING_BACK, moves, 0)


async def _awards(sql: asyncpg.Connection, policy: ProgramPolicy, event: Event) -> list[_Award]:
    return [_Award(*row) for row in await sql.fetch(_AWARDS, event.id, policy.timezone)]


async def _bring_down(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    request: Request,
    event: Event,
    awards: Sequence[_Award],
    kept: Mapping[UUID, int],
) -> list["_Move"]:
    """Return what brings awards to what they are to keep, after what refunds took so far."""
    moved = {
        (row["rule_id"], row["reference"]): _Moved(row["points"], row["written_off"])
        for row in await sql.fetch(_MOVED, event.id)
    }
    return _moves(awards, kept, moved, local_date(request.recorded_at, policy.zone))


async def _refund(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    request: Request,
    event: Event,
    refund_id: UUID,
    back: Back,
    moves: Sequence["_Move"],
    restored: int,
) -> None:
    """Write one refund: into the ledger, and beside the awards that it brings down."""
    outcomes = await _post(sql, policy, request, event, refund_id, moves)
    taken = sum(outcome.taken or 0 for outcome in outcomes)
    debt = sum(outcome.debt or 0 for outcome in outcomes)
    again = -sum(move.points for move in moves if move.points < 0)
    written_off = sum(move.points for move in moves if move.points > 0) - taken
    refund = Refund(
        refund_id,
        event.id,
        request.external_id,
        request.occurred_at,
        back.amount,
        back.lines,
        back.whole,
        taken - again,
        debt,
        written_off,
        restored,
    )
    await sql.execute(
        _REFUND,
        refund.id, request.id, request.program_id, event.id, back.amount, msgspec.json.encode(back.lines),
        back.whole, refund.points, debt, written_off, restored,
    )  # fmt: skip
    if moves:
        await _keep(sql, policy, event, refund_id, moves, outcomes)
    if moves or restored:
        await leave(sql, request.program_id, [_told(event, refund)], request.recorded_at)
    request.refunds.append(refund)


def _told(event: Event, refund: Refund) -> Message:
    """Return what others are told of a refund that moved points."""
    payload = {
        "refundId": to_global_id("Refund", refund.id),
        "refundExternalId": refund.external_id,
        "eventId": to_global_id("Event", event.id),
        "externalId": event.external_id,
        "points": refund.points,
        "debt": refund.debt,
        "writtenOff": refund.written_off,
        "restored": refund.restored_points,
    }
    return Message(Topic.POINTS_TAKEN_BACK, event.member_id, payload)


async def _restore(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    request: Request,
    event: Event,
    refund_id: UUID,
    rest: Remainder,
) -> int:
    """Give back the part of a points payment that was refunded by now; return the points that came back."""
    if event.redemption_id is None:
        return 0
    part = rest.refunded_part
    back = Return(refund_id, event.redemption_id, event.id, event.external_id, request.occurred_at, part)
    return await restore_share(sql, policy.program_id, terms(policy, request.recorded_at), back)


async def _receipt(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    event: Event,
    decided: asyncpg.Record,
    awards: Sequence[_Award],
) -> tuple[RuleSet, Context]:
    """Return the rules and the context that decided what a purchase earned."""
    if decided["rules_version"] is not None:
        context = decode(decided["context"])
        by = rulesets.Decided(decided["rules_version"], event.facts(), context)
        (rule_set,) = await rulesets.past(sql, policy.program_id, [by])
        return rule_set, context
    # Recorded before receipts were kept: then the awards' own versions are all that there is to go by.
    versions = [(award.rule_id, award.rule_version) for award in awards]
    context = PLAIN if decided["context"] is None else decode(decided["context"])
    policy = replace(policy, rounding=context.rounding)
    return await rulesets.of_versions(sql, policy, versions), context


class _Moved(NamedTuple):
    """What refunds took so far of what an entry gave, and how much of that they had to write off.

    Negative for an entry by which points were given again.
    """

    points: int = 0
    written_off: int = 0


class _Move(NamedTuple):
    """Points to be taken from what an entry gave, or, negative, to be given again."""

    award: _Award
    reference: int
    points: int


def _moves(
    awards: Sequence[_Award],
    kept: Mapping[UUID, int],
    moved: Mapping[tuple[UUID, int], _Moved],
    today: date,
) -> list[_Move]:
    """Return what brings awards to what they are to keep.

    Args:
        moved: what refunds took so far, by rule and entry.
    """
    moves = []
    for award in awards:
        change = award.remaining - kept[award.rule_id]
        own = {reference: moved[rule, reference] for rule, reference in moved if rule == award.rule_id}
        if change < 0:
            # A part of the purchase that earned less than nothing is gone. What was written off was
            # never taken: only what was comes back, unless it would have expired by now.
            change += sum(each.written_off for each in own.values())
            if change < 0 and award.expires_on >= today:
                moves.append(_Move(award, 0, change))
            continue
        # What was given again last is taken first.
        again = sorted((reference for reference in own if reference != award.entry_sequence), reverse=True)
        for reference in [*again, award.entry_sequence]:
            so_far = own.get(reference, _Moved()).points
            left = award.points - so_far if reference == award.entry_sequence else -so_far
            points = min(change, left)
            if points > 0:
                moves.append(_Move(award, reference, points))
                change -= points
    return moves


async def _post(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    request: Request,
    event: Event,
    refund_id: UUID,
    moves: Sequence[_Move],
) -> list[Outcome]:
    reason = f"Refund of {event.external_id}"
    if event.kind is EventKind.REFERRAL:
        reason = "The friend's first purchase was refunded"
    operations = [
        Operation(
            account_id=event.member_id,
            kind=EntryKind.CLAWBACK if move.points > 0 else EntryKind.EARN,
            amount=abs(move.points),
            key=key_id("refund", refund_id, move.award.rule_id, move.reference),
            request_hash=move.points,
            occurred_at=request.occurred_at,
            reference=move.reference if move.points > 0 else None,
            matures_on=move.award.matures_on if move.points < 0 else None,
            expires_on=move.award.expires_on if move.points < 0 else None,
            source="refund",
            source_id=refund_id,
            reason=reason,
        )
        for move in moves
    ]
    return await post(sql, terms(policy, request.recorded_at), operations)


async def _keep(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    event: Event,
    refund_id: UUID,
    moves: Sequence[_Move],
    outcomes: Sequence[Outcome],
) -> None:
    """Note what was moved, and give back the room under limits, in the period that it belongs to.

    What had to be written off was not taken back, so it frees no room: whoever spends points before the
    purchase is refunded would else earn them again and again.
    """
    remaining = {move.award.rule_id: move.award.remaining for move in moves}
    days: dict[date, int] = {}
    spent: dict[UUID, int] = {}
    written_off = [
        move.points - (outcome.taken or 0) if move.points > 0 else 0
        for move, outcome in zip(moves, outcomes, strict=True)
    ]
    for move, lost in zip(moves, written_off, strict=True):
        remaining[move.award.rule_id] -= move.points
        days[move.award.day] = days.get(move.award.day, 0) + move.points - lost
        spent[move.award.rule_id] = spent.get(move.award.rule_id, 0) + move.points - lost
    await sql.execute(
        _KEEP,
        refund_id,
        event.id,
        [move.award.rule_id for move in moves],
        [move.reference or outcome.sequence for move, outcome in zip(moves, outcomes, strict=True)],
        [move.points for move in moves],
        list(days),
        list(days.values()),
        event.member_id,
        policy.program_id,
        list(remaining),
        list(remaining.values()),
        written_off,
    )
    await give_back(sql, spent)
