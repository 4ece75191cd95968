"""Points that are on their way to members: they arrive, or go back to where they came from.

Whoever changes a transfer holds an account (the receiver's to have it arrive, the sender's to have it return)
and then the transfer's row, which decides: so it happens once, and no transaction spans two accounts.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.database import TRANSIENT, retrying, transaction
from app.days import local_date
from app.errors import Unavailable
from app.ids import key_id, to_global_id
from app.ledger.operations import MAX_POINTS, EntryKind, Operation
from app.ledger.service import post, terms
from app.live.hints import touch
from app.members.inputs import MemberStatus
from app.messages.leaving import Message, leave
from app.messages.topics import Topic
from app.outbox import service as outbox
from app.redemptions.standings import Members, lock_members
from app.transfers.sending import SOURCE

_BATCH = 100
"""Transfers of one transaction."""

_COLUMNS = "t.id, t.sender_id, t.receiver_id, t.points, t.expires_on, t.amounts, t.entry, t.created_at"

_COMING = f"""
SELECT {_COLUMNS}, m.external_id FROM transfer t JOIN member m ON m.id = t.sender_id
WHERE t.program_id = $1 AND t.receiver_id = $2 AND t.status = 'IN_TRANSIT'
    AND ($3::uuid IS NULL OR t.id > $3)
ORDER BY t.id LIMIT $4 FOR NO KEY UPDATE OF t
"""  # noqa: S608 - nothing but constants
_STILL_COMING = f"""
SELECT {_COLUMNS}, m.external_id FROM transfer t JOIN member m ON m.id = t.receiver_id
WHERE t.program_id = $1 AND t.id = $2 AND t.status = 'IN_TRANSIT' FOR NO KEY UPDATE OF t
"""  # noqa: S608 - nothing but constants
_ACCOUNT = """
SELECT available, pending, greatest(lifetime_earned, available + pending + reserved) AS counted
FROM account WHERE program_id = $1 AND id = $2
"""
_END = """
UPDATE transfer t SET status = $3, expired = x.expired, ended_at = $4
FROM unnest($2::uuid[], $5::bigint[]) AS x(id, expired) WHERE t.program_id = $1 AND t.id = x.id
"""


class _Transfer(NamedTuple):
    """Points on their way; `other` is the external id of the member at its other end."""

    id: UUID
    sender_id: UUID
    receiver_id: UUID
    points: int
    expires_on: list[date]
    amounts: list[int]
    entry: int
    created_at: datetime
    other: str

    def living(self, today: date) -> list[tuple[date, int]]:
        """Return the points that can still be spent, by the last day of that."""
        return [(day, points) for day, points in self._parts if day >= today]

    def dead(self, today: date) -> list[tuple[date, int]]:
        """Return the points that expired on the way, by what was the last day of their use."""
        return [(day, points) for day, points in self._parts if day < today]

    @property
    def _parts(self) -> list[tuple[date, int]]:
        return list(zip(self.expires_on, self.amounts, strict=True))


class _Looked(NamedTuple):
    """What was found on its way to a member, and what of it has to go back."""

    found: Sequence[_Transfer]
    refused: Sequence[_Transfer]


async def arrive_members(program_id: UUID, members: list[UUID], batch: UUID | None) -> int:
    """Bring members the points that are on their way to them.

    They are earned with the last day of use that they had, and pay a debt first; what expired on the way is
    not. A suspended member gets them all the same. What somebody cannot have goes back to its sender: they
    closed their membership, or would have more points than can be counted.

    Safe to run twice, and on two workers at once.

    Returns:
        How many transfers arrived or returned.

    Raises:
        Unavailable: the database stayed away or busy; what is not done stays on its way.
        Exception: the books of an account disagree; all that does not concern it is done.
    """
    done = 0
    failure: Exception | None = None
    for member_id in members:
        after: UUID | None = None
        more = True
        while more:
            looked = await retrying(partial(_arrive, program_id, member_id, after))
            done += len(looked.found) - len(looked.refused)
            for transfer in looked.refused:
                try:
                    done += await retrying(partial(_return, program_id, transfer))
                except (*TRANSIENT, Unavailable):
                    raise
                except Exception as error:
                    # One sender's account must not keep other senders' points away from them.
                    failure = failure or error
            more = len(looked.found) == _BATCH
            after = looked.found[-1].id if looked.found else None
    if failure is not None:
        raise failure
    async with transaction() as sql:
        await outbox.finish(sql, batch)
    return done


async def _arrive(program_id: UUID, member_id: UUID, after: UUID | None) -> _Looked:
    """Have what is on its way to a member arrive, BATCH transfers at the most, those after an id."""
    async with transaction() as sql:
        members = await lock_members(sql, program_id, [member_id])
        rows = await sql.fetch(_COMING, program_id, member_id, after, _BATCH)
        found = [_Transfer._make(row) for row in rows]
        if not found or members.standings[member_id].status == MemberStatus.CLOSED:
            return _Looked(found, found)
        today = local_date(members.moment, members.grounds.policy.zone)
        account = await sql.fetchrow(_ACCOUNT, program_id, member_id)
        room = MAX_POINTS - account["counted"]
        arriving: list[_Transfer] = []
        refused: list[_Transfer] = []
        for transfer in found:
            points = sum(points for _, points in transfer.living(today))
            if points > room:
                refused.append(transfer)
            else:
                arriving.append(transfer)
                room -= points
        await _earn(sql, members, account, arriving, today)
        return _Looked(found, refused)


async def _earn(
    sql: asyncpg.Connection,
    members: Members,
    account: asyncpg.Record,
    arriving: Sequence[_Transfer],
    today: date,
) -> None:
    """Have transfers to one member arrive, and tell of them; the account and their rows are locked."""
    policy, now = members.grounds.policy, members.moment
    operations = [
        Operation(
            account_id=transfer.receiver_id,
            kind=EntryKind.EARN,
            amount=points,
            key=key_id(SOURCE, transfer.id, n),
            request_hash=points,
            occurred_at=transfer.created_at,
            matures_on=today,
            expires_on=day,
            source=SOURCE,
            source_id=transfer.id,
            reason=f"From {transfer.other}",
        )
        for transfer in arriving
        for n, (day, points) in enumerate(transfer.living(today))
    ]
    outcomes = await post(sql, terms(policy, now), operations)
    available, pending = account["available"], account["pending"]
    # After which entry each stands, so that a message tells the balance as it was right then.
    after = {
        operation.source_id: outcome.available
        for operation, outcome in zip(operations, outcomes, strict=True)
    }
    messages: list[Message] = []
    expired: list[int] = []
    for transfer in arriving:
        available = after.get(transfer.id, available)
        ids = {
            "transferId": to_global_id("Transfer", transfer.id),
            "fromMemberId": to_global_id("Member", transfer.sender_id),
        }
        dead = transfer.dead(today)
        expired.append(sum(points for _, points in dead))
        said = ids | {"points": transfer.points - expired[-1], "expired": expired[-1], "available": available}
        messages.append(Message(Topic.TRANSFER_RECEIVED, transfer.receiver_id, said))
        for day, points in dead:
            over = (day + timedelta(days=1)).isoformat()
            sums = {"points": points, "available": available, "pending": pending, "day": over}
            messages.append(Message(Topic.POINTS_EXPIRED, transfer.receiver_id, sums | ids))
    ended = [transfer.id for transfer in arriving]
    await sql.execute(_END, policy.program_id, ended, "ARRIVED", now, expired)
    await leave(sql, policy.program_id, messages, now)


async def _return(program_id: UUID, transfer: _Transfer) -> int:
    """Give the points of a transfer back to the lots they came from; return 0 where it has ended already.

    What would have expired meanwhile comes back expired.
    """
    async with transaction() as sql:
        members = await lock_members(sql, program_id, [transfer.sender_id])
        row = await sql.fetchrow(_STILL_COMING, program_id, transfer.id)
        if row is None:
            return 0
        policy, now = members.grounds.policy, members.moment
        transfer = _Transfer._make(row)
        operation = Operation(
            account_id=transfer.sender_id,
            kind=EntryKind.RESTORE,
            amount=transfer.points,
            key=key_id(SOURCE, transfer.id, "return"),
            request_hash=transfer.points,
            occurred_at=now,
            reference=transfer.entry,
            source=SOURCE,
            source_id=transfer.id,
            reason=f"Back from {transfer.other}",
        )
        (outcome,) = await post(sql, terms(policy, now), [operation])
        await sql.execute(_END, program_id, [transfer.id], "RETURNED", now, [0])
        said = {
            "transferId": to_global_id("Transfer", transfer.id),
            "toMemberId": to_global_id("Member", transfer.receiver_id),
            "points": transfer.points,
            "available": outcome.available,
        }
        await leave(sql, program_id, [Message(Topic.TRANSFER_RETURNED, transfer.sender_id, said)], now)
        touch([transfer.receiver_id])
        return 1
