"""Refunds: taking back what the returned part of a purchase earned, by the purchase's own receipt."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from app import clock
from app.database import connection, transaction
from app.earning.batch import lock
from app.earning.events import EVENT_COLUMNS, EVENT_TABLES, MAX_FUTURE, MAX_LINES, Event, event_from_row
from app.earning.preparing import check_external_id, check_id, check_number, check_occurred_at
from app.earning.processing import earn_member
from app.earning.reads import find_event, get_events
from app.earning.refunds import Refunded, Unmatched, load_request, refunds_of
from app.earning.remainders import Back, Remainder, Wish
from app.earning.rules import EventKind
from app.earning.taking_back import Request, announce, take_back
from app.errors import ErrorCode, Refused, UserError, refuse
from app.ids import content_hash, new_id
from app.members.reads import MemberRef, find_states
from app.metrics import POINTS_TAKEN_BACK
from app.money import MINOR_DIGITS, trim
from app.outbox import service as outbox
from app.outbox.service import Queue
from app.programs.policy import ProgramPolicy
from app.redemptions.expiring import check_run_out, releasing
from app.validation import Problems

# Purchases of the goods that happened before; the latest first, of two at once the one recorded last.
_BOUGHT = f"""
SELECT {EVENT_COLUMNS} FROM {EVENT_TABLES}
WHERE e.program_id = $1 AND e.member_id = $2 AND e.kind = 'PURCHASE' AND e.occurred_at < $3
    AND o.event_id IS NOT NULL AND EXISTS (
        SELECT FROM jsonb_array_elements(e.body->'lines') AS line WHERE line->>'sku' = ANY($4::text[]))
ORDER BY e.occurred_at DESC, e.recorded_at DESC, e.id DESC
"""  # noqa: S608 - nothing but constants

# Of somebody who was brought by a friend: a worker takes back what both got for the purchase.
_LEAVE_BEHIND = """
INSERT INTO outbox (queue, program_id, members, items, created_at)
SELECT 'referrals', $1, ARRAY[$2::uuid], 1, $4
WHERE EXISTS (SELECT FROM referral_credit c
    WHERE c.program_id = $1 AND c.purchase_id = $3 AND c.taken_back_at IS NULL)
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
    request = Request(
        new_id(), program_id, event.member_id, external_id, "PURCHASE", content_hash(content), moment, now
    )

    async def refund(sql: asyncpg.Connection, policy: ProgramPolicy) -> None:
        if moment < event.occurred_at - MAX_FUTURE:
            raise refuse(ErrorCode.INVALID, "The refund lies before its purchase.", "occurred_at")
        rest = await rest_of(sql, policy, event)
        if rest.is_nothing:
            raise refuse(ErrorCode.WRONG_STATE, "All of the purchase has been refunded already.", "purchase")
        if lines is None and amount is None:
            back = rest.everything()
        else:
            problems = Problems()
            back = rest.part(lines or (), amount, policy.currency, problems)
            problems.refuse_any()
        await _take_back(sql, policy, request, event, rest, back)

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
    request = Request(
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
            rest = await rest_of(sql, policy, event)
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
    event = None
    if ref.id is not None:
        (event,) = await get_events(program_id, [ref.id])
    elif ref.external_id is not None and ref.external_id.isprintable():
        event = await find_event(program_id, ref.external_id)
    if event is None or event.kind is not EventKind.PURCHASE:
        raise refuse(ErrorCode.NOT_FOUND, "There is no such purchase.", "purchase", ref.field)
    return event


_Work = Callable[[asyncpg.Connection, ProgramPolicy], Awaitable[None]]


async def _run(request: Request, until: datetime, work: _Work) -> Refunded:
    """Do a refund in one transaction, unless it has been done: then answer with what happened.

    Points of reservations that ran out are the member's again before any are taken.

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
            await check_run_out(sql, request.program_id, request.member_id, clock.now())
            await _announce(sql, request)
            await work(sql, locked.rule_set.policy)
            if locked.rule_set.can_climb:
                await outbox.leave(sql, Queue.TIERS, request.program_id, [request.member_id], clock.now())
            if request.unmatched:
                await sql.execute(
                    "UPDATE refund_request SET unmatched = $3 WHERE program_id = $1 AND id = $2",
                    request.program_id, request.id, msgspec.json.encode(request.unmatched),
                )  # fmt: skip
        return Refunded(request.member_id, list(request.refunds), list(request.unmatched))

    refunded = await releasing(attempt)
    if not refunded.replayed:
        POINTS_TAKEN_BACK.inc(sum(max(0, refund.points) for refund in refunded.refunds))
    return refunded


def _replay(request: Request, known_hash: int, refunded: Refunded) -> Refunded:
    if known_hash != request.hash:
        message = f"A refund or a return was recorded before under the id {request.external_id},"
        message += " with another content; it stays as it was."
        raise Refused([UserError(ErrorCode.IDEMPOTENCY_CONFLICT, message, ("external_id",))])
    return refunded


async def _announce(sql: asyncpg.Connection, request: Request) -> None:
    """Write the request, by whose external id every repetition is known."""
    if not await announce(sql, request):
        # Written meanwhile for another member, whose account is not ours.
        _replay(request, ~request.hash, Refunded(request.member_id))


async def _take_back(
    sql: asyncpg.Connection,
    policy: ProgramPolicy,
    request: Request,
    event: Event,
    rest: Remainder,
    back: Back,
) -> None:
    """Keep one refund of one purchase, and see to the points that a friend got when it is the last of it."""
    await take_back(sql, policy, request, event, rest, back)
    if rest.is_nothing:
        args = (request.program_id, event.member_id, event.id, request.recorded_at)
        await sql.execute(_LEAVE_BEHIND, *args)


async def rest_of(sql: asyncpg.Connection, policy: ProgramPolicy, event: Event) -> Remainder:
    """Return what is left of a purchase."""
    (refunds,) = await refunds_of(sql, policy.program_id, [event.id])
    backs = [Back(refund.amount, refund.lines, refund.whole) for refund in refunds]
    return Remainder(event, MINOR_DIGITS[policy.currency], backs)
