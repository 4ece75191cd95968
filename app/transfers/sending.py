"""Sending points to another member: they leave the sender's account at once, and are on their way then."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from app import clock
from app.database import transaction
from app.earning.exact import plural
from app.errors import ErrorCode, refuse
from app.idempotency import check_key, claim
from app.ids import content_hash, key_id, new_id, to_global_id
from app.ledger.operations import MAX_POINTS, EntryKind, Operation, Outcome, Status
from app.ledger.service import apply, terms
from app.live.hints import touch
from app.members.inputs import MemberStatus
from app.members.reads import MemberRef, MemberRow, find_members
from app.messages.leaving import Message
from app.messages.leaving import leave as leave_messages
from app.messages.topics import Topic
from app.outbox import service as outbox
from app.outbox.service import Queue
from app.redemptions.expiring import check_run_out, releasing
from app.redemptions.inputs import operation_of
from app.redemptions.standings import lock_members
from app.validation import Problems

SOURCE = "transfer"
"""What the entries of transfers name as their source."""

_NOBODY = "There is no such member."

# Each lot's last day of use goes along.
_SEND = """
INSERT INTO transfer (id, program_id, sender_id, receiver_id, points, expires_on, amounts, entry, status,
    source, created_at)
SELECT $1, $2, $3, $4, $5, array_agg(expires_on ORDER BY expires_on), array_agg(amount ORDER BY expires_on),
    $6, 'IN_TRANSIT', $7, $8
FROM (SELECT expires_on, sum(amount)::bigint AS amount FROM allocation
    WHERE account_id = $3 AND sequence = $6 GROUP BY expires_on) x
"""


class Sending(NamedTuple):
    """Points to be sent.

    Attributes:
        points: 1 to MAX_POINTS.
        key: of the caller's choice, 1 to 255 characters; it stands for one transfer, for good.
        caller: the member whose own token asks, whose keys are theirs alone; None for a key of the program.
        source: names the credential.
    """

    sender: MemberRef
    receiver: MemberRef
    points: int
    key: str
    caller: UUID | None = None
    source: str = "laurel"

    @property
    def operation(self) -> str:
        """In whose books its key stands."""
        return operation_of("transfer", self.caller)


class Sent(NamedTuple):
    """Points that were sent: where the sender's entry stands, and whether it was there before."""

    sender: MemberRow
    sequence: int
    replayed: bool


async def send(program_id: UUID, sending: Sending) -> Sent:
    """Take points from one member to bring them to another; a worker does that soon.

    The soonest-expiring points go first, as with all that is spent, and keep their last day of use.
    Reservations of the sender that ran out are released first. Only the sender's account is locked: no
    transaction spans two accounts.

    Raises:
        Refused: for `from`, `to`, `points` and `idempotency_key`: bad input (every reason), NOT_FOUND,
            NOT_ELIGIBLE for somebody who is not active, INSUFFICIENT_POINTS, or IDEMPOTENCY_CONFLICT. A
            member's own token is told of a receiver who is not active that there is none, and of neither
            unless the sender has the points.
        Unavailable: the database stayed away or busy; nothing was done.
    """
    problems = Problems()
    problems.whole(sending.points, 1, MAX_POINTS, "points")
    check_key(sending.key, problems)
    problems.refuse_any()

    async def work() -> Sent:
        async with transaction() as sql:
            sender, receiver = await _find(sql, program_id, sending)
            replayed = await _claim(sql, program_id, sending, sender, receiver)
            members = await lock_members(sql, program_id, [sender.id])
            now = members.moment
            if not replayed:
                standing = members.standings[sender.id]
                _check_active("sender", standing.status, "from")
                await check_run_out(sql, program_id, sender.id, now)
                if sending.caller is not None and (receiver is None or _is_hidden(receiver)):
                    # Only who could have sent the points learns that there is nobody to get them.
                    _check_points(standing.available, sending.points)
                    raise refuse(ErrorCode.NOT_FOUND, _NOBODY, "to", sending.receiver.field)
                assert receiver is not None
                _check_active("receiver", receiver.status, "to")
            assert receiver is not None
            operation = _spend(sending, sender, receiver, now)
            (outcome,) = await apply(sql, terms(members.grounds.policy, now), [operation])
            if outcome.status is Status.INSUFFICIENT:
                _check_points(outcome.available or 0, sending.points)
            assert outcome.status in (Status.APPLIED, Status.REPLAYED), outcome
            assert outcome.sequence is not None
            if not replayed:
                await _leave(sql, sending, receiver, operation, outcome)
            return Sent(sender, outcome.sequence, replayed)

    return await releasing(work)


async def _find(
    sql: asyncpg.Connection, program_id: UUID, sending: Sending
) -> tuple[MemberRow, MemberRow | None]:
    """Return the sender and the receiver; where a member's token names nobody as that, None.

    Raises:
        Refused: there is no such member, or they are the same.
    """
    sender, receiver = await find_members(sql, program_id, [sending.sender, sending.receiver])
    problems = Problems()
    if sender is None:
        problems.add(_NOBODY, "from", sending.sender.field, code=ErrorCode.NOT_FOUND)
    if receiver is None and sending.caller is None:
        problems.add(_NOBODY, "to", sending.receiver.field, code=ErrorCode.NOT_FOUND)
    problems.refuse_any()
    assert sender is not None
    if receiver is not None and sender.id == receiver.id:
        raise refuse(ErrorCode.INVALID, "Points go from one member to another.", "to")
    return sender, receiver


async def _claim(
    sql: asyncpg.Connection,
    program_id: UUID,
    sending: Sending,
    sender: MemberRow,
    receiver: MemberRow | None,
) -> bool:
    """Claim the key; return whether the same transfer has it already.

    Raises:
        Refused: another one has it; to nobody there is none.
    """
    request = _request(sending, new_id() if receiver is None else receiver.id)
    return await claim(sql, program_id, sending.operation, sending.key, request, sender.id, clock.now())


def _request(sending: Sending, receiver_id: UUID) -> int:
    return content_hash(msgspec.json.encode((receiver_id, sending.points)))


def _is_hidden(member: MemberRow) -> bool:
    """Tell whether other members must not hear that there is such a member."""
    return member.status != MemberStatus.ACTIVE


def _check_active(who: str, status: str, field: str) -> None:
    if status != MemberStatus.ACTIVE:
        raise refuse(ErrorCode.NOT_ELIGIBLE, f"The {who} is {status.lower()}.", field)


def _spend(sending: Sending, sender: MemberRow, receiver: MemberRow, now: datetime) -> Operation:
    """Return the operation by which the points leave; its source is the transfer to be."""
    return Operation(
        account_id=sender.id,
        kind=EntryKind.REDEEM,
        amount=sending.points,
        key=key_id(SOURCE, sending.operation, sending.key),
        request_hash=_request(sending, receiver.id),
        occurred_at=now,
        source=SOURCE,
        source_id=new_id(),
        reason=f"To {receiver.external_id}",
    )


def _check_points(available: int, points: int) -> None:
    if available < points:
        message = f"The sender has {plural(max(0, available))}, and {points} were to be sent."
        raise refuse(ErrorCode.INSUFFICIENT_POINTS, message, "points")


async def _leave(
    sql: asyncpg.Connection, sending: Sending, receiver: MemberRow, operation: Operation, outcome: Outcome
) -> None:
    """Write the transfer of points that have left, the work that brings them there, and the message."""
    transfer_id, program_id = operation.source_id, receiver.program_id
    assert transfer_id is not None
    sender_id, now = operation.account_id, operation.occurred_at
    await sql.execute(
        _SEND,
        transfer_id, program_id, sender_id, receiver.id, sending.points,
        outcome.sequence, sending.source, now,
    )  # fmt: skip
    await outbox.leave(sql, Queue.TRANSFERS, program_id, [receiver.id], now)
    said = {
        "transferId": to_global_id("Transfer", transfer_id),
        "toMemberId": to_global_id("Member", receiver.id),
        "points": sending.points,
        "available": outcome.available,
    }
    await leave_messages(sql, program_id, [Message(Topic.TRANSFER_SENT, sender_id, said)], now)
    touch([receiver.id])
