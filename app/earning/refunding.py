"""Refunds: taking back what the returned part of a purchase earned, by the purchase's own receipt."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from app import clock
from app.clock import local_date
from app.database import connection, retrying, transaction
from app.earning import rulesets
from app.earning.batch import lock
from app.earning.events import (
    EVENT_COLUMNS,
    EVENT_TABLES,
    MAX_FUTURE,
    MAX_LINES,
    Event,
    check_external_id,
    check_id,
    check_number,
    check_occurred_at,
    event_from_row,
)
from app.earning.processing import earn_member
from app.earning.receipts import PLAIN, Context, decode
from app.earning.refunds import Refund, Refunded, Unmatched, load_request, refunds_of
from app.earning.remainders import Back, Remainder, Wish, targets
from app.earning.rules import EventKind
from app.earning.ruleset import RuleSet
from app.errors import ErrorCode, Refused, UserError, refuse
from app.ids import content_hash, key_id, new_id
from app.ledger.operations import EntryKind, Operation, Outcome, Status
from app.ledger.service import MAX_BATCH, apply, terms
from app.members.reads import MemberRef, find_states
from app.metrics import POINTS_TAKEN_BACK
from app.money import MINOR_DIGITS, trim
from app.programs.policy import ProgramPolicy
from app.validation import Problems

_BY_ID = f"SELECT {EVENT_COLUMNS} FROM {EVENT_TABLES} WHERE e.program_id = $1 AND e.id = $2"  # noqa: S608
_BY_EXTERNAL_ID = f"SELECT {EVENT_COLUMNS} FROM {EVENT_TABLES} WHERE e.program_id = $1 AND e.external_id = $2"  # noqa: S608

_DECIDED = """
SELECT o.rules_version, o.context FROM event_outcome o WHERE o.event_id = $1 /* scoped by: event */
"""

_AWARDS = """
SELECT a.rule_id, a.rule_version, a.points, a.remaining, a.entry_sequence, e.matures_on, e.expires_on,
    coalesce(a.day, (v.occurred_at AT TIME ZONE $2)::date) AS day
FROM award a JOIN event v ON v.id = a.event_id
LEFT JOIN ledger_entry e ON e.account_id = v.member_id AND e.sequence = a.entry_sequence
WHERE a.event_id = $1 AND a.points > 0 /* scoped by: event */
"""

_MOVED = """
SELECT rule_id, reference, sum(points)::bigint AS points FROM refund_award
WHERE event_id = $1 GROUP BY rule_id, reference ORDER BY rule_id, reference /* scoped by: event */
"""

# Purchases of the goods that happened before; the latest first, of two at once the one recorded last.
_BOUGHT = f"""
SELECT {EVENT_COLUMNS} FROM {EVENT_TABLES}
WHERE e.program_id = $1 AND e.member_id = $2 AND e.kind = 'PURCHASE' AND e.occurred_at < $3
    AND o.event_id IS NOT NULL AND EXISTS (
        SELECT FROM jsonb_array_elements(e.body->'lines') AS line WHERE line->>'sku' = ANY($4::text[]))
ORDER BY e.occurred_at DESC, e.recorded_at DESC, e.id DESC
"""  # noqa: S608 - nothing but constants

_REQUEST = """
INSERT INTO refund_request (id, program_id, external_id, member_id, kind, request_hash, occurred_at,
    recorded_at, unmatched)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (program_id, external_id) DO NOTHING RETURNING id
"""

_REFUND = """
INSERT INTO refund (id, request_id, program_id, event_id, amount, lines, whole, points, debt, written_off)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""

_KEEP = """
WITH moved AS ( /* scoped by: event */
    INSERT INTO refund_award (refund_id, event_id, rule_id, reference, points)
    SELECT $1, $2, t.* FROM unnest($3::uuid[], $4::bigint[], $5::bigint[]) AS t
), counted AS (
    UPDATE earning_counter c SET points = c.points - t.points
    FROM unnest($6::date[], $7::bigint[]) AS t(day, points)
    WHERE c.member_id = $8 AND c.subject = $9 AND c.day = t.day
)
UPDATE award a SET remaining = t.remaining
FROM unnest($10::uuid[], $11::bigint[]) AS t(rule_id, remaining)
WHERE a.event_id = $2 AND a.rule_id = t.rule_id
"""

_LOCK_BUDGETS = """
SELECT rule_id FROM earning_budget WHERE rule_id = ANY($1::uuid[]) ORDER BY rule_id FOR UPDATE
/* scoped by: rule */
"""

# What was given under versions before the budget's is in its initial sum.
_UNSPEND = """
UPDATE earning_budget b SET spent = b.spent - t.points
FROM unnest($1::uuid[], $2::integer[], $3::bigint[]) AS t(rule_id, version, points)
WHERE b.rule_id = t.rule_id AND t.version >= b.since_version /* scoped by: rule */
"""


class EventRef(NamedTuple):
    """What names an event within a program: exactly one of the two."""

    id: UUID | None = None
    external_id: str | None = None

    @property
    def field(self) -> str:
        """By what it names the event: the field to blame when there is none."""
        return "id" if self.id is not None else "external_id"


class Item(NamedTuple):
    """Goods that came back without a receipt; the amount is what was paid out, which decides nothing."""

    sku: str
    quantity: Decimal
    amount: Decimal


@dataclass
class _Request:
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


async def refund_purchase(
    program_id: UUID,
    purchase: EventRef,
    external_id: str,
    *,
    occurred_at: datetime | None = None,
    lines: Sequence[Wish] | None = None,
    amount: Decimal | None = None,
) -> Refunded:
    """Take back what the returned part of a purchase earned.

    Afterwards the purchase has earned exactly what the rest of it would have earned, by the rules,
    factors and limits of its receipt, and never more than was granted. The same external id with the
    same content answers with what happened the first time.

    Args:
        occurred_at: when the goods or the money went back (UTC); now when left out.
        lines: pieces of lines that were given back.
        amount: a part of the purchase's amount that belongs to no line. Without lines and amount all
            that is left is refunded.

    Raises:
        Refused: everything that is wrong: no such purchase, more than what is left, the external id
            was used for another refund (IDEMPOTENCY_CONFLICT).
        Unavailable: the database stayed away or busy; nothing was done.
    """
    now = clock.now()
    problems = Problems()
    check_external_id(external_id, problems)
    moment = check_occurred_at(occurred_at, "The refund", now, problems)
    if lines is not None and not lines and amount is None:
        # A till that forgot to fill in the lines must not take everything back.
        problems.add("Name a line or an amount; leave out both to refund all that is left.", "lines")
    problems.refuse_any()
    event = await _purchase(program_id, purchase)
    wishes = [Wish(each.number, trim(each.quantity), _trimmed(each.amount)) for each in lines or ()]
    content = msgspec.json.encode((event.id, occurred_at, wishes, _trimmed(amount)))
    request = _Request(
        new_id(), program_id, event.member_id, external_id, "PURCHASE", content_hash(content), moment, now
    )

    async def refund(sql: asyncpg.Connection, policy: ProgramPolicy) -> None:
        found = await sql.fetchrow(_BY_ID, program_id, event.id)
        current = event_from_row(found)
        if moment < current.occurred_at - MAX_FUTURE:
            raise refuse(ErrorCode.INVALID, "The refund lies before its purchase.", "occurred_at")
        rest = await _rest(sql, policy, current)
        if rest.is_nothing:
            raise refuse(ErrorCode.WRONG_STATE, "All of the purchase has been refunded already.", "purchase")
        if lines is None and amount is None:
            back = rest.everything()
        else:
            problems = Problems()
            back = rest.part(lines or (), amount, policy.currency, problems)
            problems.refuse_any()
        await _take_back(sql, policy, request, current, rest, back)

    return await _run(request, max(moment, event.occurred_at), refund)


def _trimmed(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else trim(amount)


async def return_items(
    program_id: UUID,
    member: MemberRef,
    external_id: str,
    items: Sequence[Item],
    *,
    occurred_at: datetime | None = None,
) -> Refunded:
    """Take back what goods earned that came back without a receipt.

    Each is matched to the member's purchases of the same SKU that happened before: the latest first
    (of two at the same time the one recorded last), within a purchase the last line first, each up to
    what has not been returned yet; the purchase's prices count. The same external id with the same
    content answers with what happened the first time.

    Args:
        occurred_at: when the goods came back (UTC); now when left out.
        items: 1 to MAX_LINES; for goods that no purchase was found for `unmatched` tells how many.

    Raises:
        Refused: everything that is wrong: no such member, a bad item, the external id was used for
            another return (IDEMPOTENCY_CONFLICT).
        Unavailable: the database stayed away or busy; nothing was done.
    """
    now = clock.now()
    problems = Problems()
    check_external_id(external_id, problems)
    moment = check_occurred_at(occurred_at, "The return", now, problems)
    _check_items(items, problems)
    problems.refuse_any()
    async with connection() as sql:
        (state,) = await find_states(sql, program_id, [member])
    if state is None:
        raise refuse(ErrorCode.NOT_FOUND, "There is no such member.", "member", member.field)
    same = [(item.sku, trim(item.quantity), trim(item.amount)) for item in items]
    content = msgspec.json.encode((state.id, occurred_at, same))
    request = _Request(
        new_id(), program_id, state.id, external_id, "ITEMS", content_hash(content), moment, now
    )

    async def give_back(sql: asyncpg.Connection, policy: ProgramPolicy) -> None:
        skus = list({item.sku for item in items})
        rows = await sql.fetch(_BOUGHT, program_id, state.id, moment, skus)
        left: dict[str, Decimal] = {}
        for item in items:
            left[item.sku] = left.get(item.sku, Decimal(0)) + item.quantity
        for row in rows:
            if not any(left.values()):
                break
            event = event_from_row(row)
            rest = await _rest(sql, policy, event)
            wishes = _matched(event, rest, left)
            if wishes:
                problems = Problems()
                back = rest.part(wishes, None, policy.currency, problems)
                problems.refuse_any()
                await _take_back(sql, policy, request, event, rest, back)
        request.unmatched += [Unmatched(sku, quantity) for sku, quantity in left.items() if quantity]

    return await _run(request, moment, give_back)


def _check_items(items: Sequence[Item], problems: Problems) -> None:
    if not 1 <= len(items) <= MAX_LINES:
        problems.add(f"A return has between 1 and {MAX_LINES:,} items.", "items")
        return
    for n, item in enumerate(items):
        where = ("items", str(n))
        check_id(item.sku, "An SKU", problems, *where, "sku")
        check_number(item.quantity, "A quantity", problems, *where, "quantity", positive=True)
        check_number(item.amount, "An amount", problems, *where, "amount")


def _matched(event: Event, rest: Remainder, left: dict[str, Decimal]) -> list[Wish]:
    """Return which pieces of a purchase are among goods that came back, and count them off."""
    wishes = []
    for n in reversed(range(len(event.body.lines))):
        sku = event.body.lines[n].sku
        quantity = min(left.get(sku, Decimal(0)), rest.left(n))
        if quantity > 0:
            left[sku] -= quantity
            wishes.append(Wish(n + 1, quantity))
    return wishes


async def _purchase(program_id: UUID, ref: EventRef) -> Event:
    async with connection() as sql:
        if ref.id is not None:
            row = await sql.fetchrow(_BY_ID, program_id, ref.id)
        else:
            known = ref.external_id or ""
            row = await sql.fetchrow(_BY_EXTERNAL_ID, program_id, known) if known.isprintable() else None
    if row is None or row["kind"] != EventKind.PURCHASE:
        raise refuse(ErrorCode.NOT_FOUND, "There is no such purchase.", "purchase", ref.field)
    return event_from_row(row)


_Work = Callable[[asyncpg.Connection, ProgramPolicy], Awaitable[None]]


async def _run(request: _Request, until: datetime, work: _Work) -> Refunded:
    """Do a refund in one transaction, unless it has been done: then answer with what happened.

    Args:
        until: what the member did up to then, and what still waits for a worker, is earned first.
    """

    async def attempt() -> Refunded:
        request.refunds.clear()
        request.unmatched.clear()
        # What happened after it must find the room under limits that the refund gives back.
        await earn_member(request.program_id, request.member_id, until)
        async with transaction() as sql:
            locked = await lock(sql, request.program_id, [request.member_id])
            known = await load_request(sql, request.program_id, request.external_id)
            if known is not None:
                return _replay(request, known.hash, known.refunded)
            await _announce(sql, request)
            await work(sql, locked.rule_set.policy)
            if request.unmatched:
                await sql.execute(
                    "UPDATE refund_request SET unmatched = $3 WHERE program_id = $1 AND id = $2",
                    request.program_id, request.id, msgspec.json.encode(request.unmatched),
                )  # fmt: skip
        return Refunded(request.member_id, list(request.refunds), list(request.unmatched))

    refunded = await retrying(attempt)
    if not refunded.replayed:
        POINTS_TAKEN_BACK.inc(sum(max(0, refund.points) for refund in refunded.refunds))
    return refunded


def _replay(request: _Request, known_hash: int, refunded: Refunded) -> Refunded:
    if known_hash != request.hash:
        message = f"A refund or a return was recorded before under the id {request.external_id},"
        message += " with another content; it stays as it was."
        raise Refused([UserError(ErrorCode.IDEMPOTENCY_CONFLICT, message, ("external_id",))])
    return refunded


async def _announce(sql: asyncpg.Connection, request: _Request) -> None:
    """Write the request, by whose external id every repetition is known."""
    new = await sql.fetchval(
        _REQUEST,
        request.id, request.program_id, request.external_id, request.member_id, request.kind, request.hash,
        request.occurred_at, request.recorded_at, b"[]",
    )  # fmt: skip
    if new is None:
        # Written meanwhile for another member, whose account is not ours.
        _replay(request, ~request.hash, Refunded(request.member_id))


async def _rest(sql: asyncpg.Connection, policy: ProgramPolicy, event: Event) -> Remainder:
    """Return what is left of a purchase."""
    (refunds,) = await refunds_of(sql, policy.program_id, [event.id])
    backs = [Back(refund.amount, refund.lines, refund.whole) for refund in refunds]
    return Remainder(event, MINOR_DIGITS[policy.currency], backs)


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


async def _take_back(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    request: _Request,
    event: Event,
    rest: Remainder,
    back: Back,
) -> None:
    """Keep one refund of one purchase, and bring its awards down to what the rest has earned."""
    rest.add(back)
    decided = await sql.fetchrow(_DECIDED, event.id)
    awards = [_Award(*row) for row in await sql.fetch(_AWARDS, event.id, policy.timezone)]
    refund_id = new_id()
    moves: list[_Move] = []
    if awards:
        rule_set, context = await _receipt(sql, policy, event, decided, awards)
        awards.sort(key=lambda award: rule_set.compiled[award.rule_id].number)
        earned = rest.would_earn(rule_set, context.standing, context.rooms)
        kept = targets({award.rule_id: award.points for award in awards}, earned)
        given = await sql.fetch(_MOVED, event.id)
        entries = {(row["rule_id"], row["reference"]): row["points"] for row in given}
        moves = _moves(awards, kept, entries, local_date(request.recorded_at, policy.zone))
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
    )
    await sql.execute(
        _REFUND,
        refund.id, request.id, request.program_id, event.id, back.amount, msgspec.json.encode(back.lines),
        back.whole, refund.points, debt, written_off,
    )  # fmt: skip
    if moves:
        await _keep(sql, policy, event, refund_id, moves, outcomes)
    request.refunds.append(refund)


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
    return await rulesets.of_versions(sql, policy, versions), PLAIN


class _Move(NamedTuple):
    """Points to be taken from what an entry gave, or, negative, to be given again."""

    award: _Award
    reference: int
    points: int


def _moves(
    awards: Sequence[_Award],
    kept: Mapping[UUID, int],
    moved: Mapping[tuple[UUID, int], int],
    today: date,
) -> list[_Move]:
    """Return what brings awards to what they are to keep.

    Args:
        moved: what refunds took so far, by rule and entry; negative for entries by which points were
            given again.
    """
    moves = []
    for award in awards:
        change = award.remaining - kept[award.rule_id]
        if change < 0:
            # A part of the purchase that earned less than nothing is gone: some comes back, unless it
            # would have expired by now.
            if award.expires_on >= today:
                moves.append(_Move(award, 0, change))
            continue
        # What was given again last is taken first.
        entries = sorted((reference for rule, reference in moved if rule == award.rule_id), reverse=True)
        for reference in [*(each for each in entries if each != award.entry_sequence), award.entry_sequence]:
            so_far = moved.get((award.rule_id, reference), 0)
            left = award.points - so_far if reference == award.entry_sequence else -so_far
            points = min(change, left)
            if points > 0:
                moves.append(_Move(award, reference, points))
                change -= points
    return moves


async def _post(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    request: _Request,
    event: Event,
    refund_id: UUID,
    moves: Sequence[_Move],
) -> list[Outcome]:
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
            reason=f"Refund of {event.external_id}",
        )
        for move in moves
    ]
    outcomes: list[Outcome] = []
    for start in range(0, len(operations), MAX_BATCH):
        chunk = operations[start : start + MAX_BATCH]
        outcomes += await apply(sql, terms(policy, request.recorded_at), chunk)
    if any(outcome.status is not Status.APPLIED for outcome in outcomes):
        # All that a caller can cause was ruled out above, under the same lock.
        raise AssertionError(f"a refund was refused by the ledger: {outcomes}")
    return outcomes


async def _keep(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    event: Event,
    refund_id: UUID,
    moves: Sequence[_Move],
    outcomes: Sequence[Outcome],
) -> None:
    """Note what was moved, and give back the room under limits, in the period that it belongs to."""
    remaining = {move.award.rule_id: move.award.remaining for move in moves}
    days: dict[date, int] = {}
    spent: dict[tuple[UUID, int], int] = {}
    for move in moves:
        remaining[move.award.rule_id] -= move.points
        days[move.award.day] = days.get(move.award.day, 0) + move.points
        key = (move.award.rule_id, move.award.rule_version)
        spent[key] = spent.get(key, 0) + move.points
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
    )
    budgets = await sql.fetch(_LOCK_BUDGETS, [rule for rule, _ in spent])
    if budgets:
        await sql.execute(
            _UNSPEND, [rule for rule, _ in spent], [version for _, version in spent], list(spent.values())
        )
