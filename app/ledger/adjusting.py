"""Adjusting a balance by hand, for goodwill and for corrections."""

from typing import NamedTuple
from uuid import UUID

import orjson

from app import clock
from app.database import transaction
from app.days import local_date
from app.errors import ErrorCode, refuse
from app.idempotency import check_key, claim
from app.ids import content_hash, key_id
from app.ledger.operations import MAX_POINTS, EntryKind, Operation, Outcome, Status
from app.ledger.service import apply, terms
from app.members.inputs import MemberStatus
from app.members.reads import MemberRef, MemberRow, find_members
from app.messages.leaving import Message, leave
from app.messages.topics import Topic
from app.programs.policies import load_policy
from app.redemptions.expiring import check_run_out, releasing
from app.text import is_text
from app.validation import Problems


class Adjustment(NamedTuple):
    """An adjustment that is in the books: its entry's place, and whether it was there before."""

    member: MemberRow
    sequence: int
    replayed: bool


def _check(points: int, reason: str, key: str) -> None:
    problems = Problems()
    if not points or abs(points) > MAX_POINTS:
        problems.add("Points are a whole number, and not 0.", "points")
    if not reason.strip() or len(reason) > 500 or not is_text(reason):
        problems.add("A reason of 1 to 500 characters is needed.", "reason")
    check_key(key, problems)
    problems.refuse_any()


async def adjust_points(
    program_id: UUID, ref: MemberRef, points: int, reason: str, key: str, made_by: str = "laurel"
) -> Adjustment:
    """Add points to a member's balance, or take them from it; never below zero.

    What is added expires as the program's policy says, and can be spent at once. A key stands for
    one adjustment in the whole program, for good.

    Args:
        points: signed and not zero, MAX_POINTS at most.
        reason: 1 to 500 characters, which the member can read.
        key: 1 to 255 characters of the caller's choice.
        made_by: names the credential, which the entry keeps as its source.

    Raises:
        Refused: bad input (every reason), no such member, a closed one, too few points, or the key
            stands for another adjustment.
        Unavailable: the database stayed away or busy; nothing was changed.
    """
    _check(points, reason, key)
    request = content_hash(orjson.dumps([points, reason]))

    async def work() -> Adjustment:
        async with transaction() as sql:
            (member,) = await find_members(sql, program_id, [ref])
            if member is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such member.", "member", ref.field)
            now = clock.now()
            replayed = await claim(sql, program_id, "adjust", key, request, member.id, now)
            if not replayed and member.status == MemberStatus.CLOSED:
                message = "The member is closed; a balance that is closed stays."
                raise refuse(ErrorCode.WRONG_STATE, message, "member")
            if points < 0 and not replayed:
                await check_run_out(sql, program_id, member.id, now)
            policy = await load_policy(sql, program_id)
            today = local_date(now, policy.zone)
            operation = Operation(
                account_id=member.id,
                kind=EntryKind.ADJUST,
                amount=points,
                key=key_id("adjust", key),
                request_hash=request,
                occurred_at=now,
                matures_on=today if points > 0 else None,
                expires_on=policy.expiry.last_day(today) if points > 0 else None,
                source=made_by,
                reason=reason,
            )
            (outcome,) = await apply(sql, terms(policy, now), [operation])
            sequence = _sequence(outcome, points)
            if not replayed:
                payload = {"points": points, "reason": reason, "available": outcome.available}
                await leave(sql, program_id, [Message(Topic.POINTS_ADJUSTED, member.id, payload)], now)
            return Adjustment(member, sequence, replayed)

    return await releasing(work)


def _sequence(outcome: Outcome, points: int) -> int:
    """Return the place of an adjustment's entry.

    Raises:
        Refused: there are too few points, or too many.
    """
    if outcome.status is Status.INSUFFICIENT:
        message = f"The member has {max(0, outcome.available or 0)} points, and {-points} were to be taken."
        raise refuse(ErrorCode.INSUFFICIENT_POINTS, message, "points")
    if outcome.status is Status.TOO_MANY:
        message = f"The member would have more points than can be counted ({MAX_POINTS})."
        raise refuse(ErrorCode.LIMIT_REACHED, message, "points")
    assert outcome.status in (Status.APPLIED, Status.REPLAYED), outcome
    assert outcome.sequence
    return outcome.sequence
