"""What becomes of a redemption: captured, cancelled, fulfilled, its codes used. Each step is done once."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from app.catalog.rewards import money_for
from app.catalog.vault import Vault
from app.database import connection, retrying, transaction
from app.earning.exact import plural
from app.errors import ErrorCode, refuse
from app.idempotency import check_key, claim
from app.ids import content_hash, key_id
from app.ledger.operations import EntryKind, Operation
from app.ledger.service import post, terms
from app.members.inputs import MemberStatus
from app.messages.leaving import leave
from app.metrics import POINTS_SPENT, REDEMPTIONS
from app.money import MINOR_DIGITS
from app.programs.policy import ProgramPolicy
from app.redemptions.inputs import check_text, operation_of
from app.redemptions.reads import find_redemptions
from app.redemptions.redemptions import Redemption, RedemptionStatus
from app.redemptions.returning import end
from app.redemptions.standings import Members, lock_members
from app.redemptions.telling import told_of
from app.validation import Problems

# Under the lock of the one row that a draw takes, too.
_DRAWN = """
SELECT c.drawn_at IS NOT NULL FROM reward_stock c JOIN reward r ON r.id = c.reward_id
WHERE r.program_id = $1 AND c.reward_id = $2 AND r.kind = 'GIVEAWAY' FOR NO KEY UPDATE OF c
"""

_DISCOUNT = "SELECT min_points FROM reward WHERE program_id = $1 AND id = $2 AND kind = 'DISCOUNT'"

_USED_CODES = """
SELECT count(*) FROM reward_code WHERE program_id = $1 AND redemption_id = $2 AND used_at IS NOT NULL
"""

_FIND_CODE = "SELECT id, redemption_id, used_at FROM reward_code WHERE program_id = $1 AND digest = $2"

_USE_CODE = """
UPDATE reward_code SET used_at = $3 WHERE program_id = $1 AND id = $2
"""

_UNUSED_CODES = """
SELECT count(*) FROM reward_code WHERE program_id = $1 AND redemption_id = $2 AND used_at IS NULL
"""

_CHANGED = ("status", "points", "amount", "redeem_entry", "confirmed_at", "fulfilled_at", "used_at", "note")
_CHANGE = f"""
UPDATE redemption SET updated_at = $3, {", ".join(f"{name} = ${n}" for n, name in enumerate(_CHANGED, 4))}
WHERE program_id = $1 AND id = $2
"""  # noqa: S608 - nothing but constants


class Stepped(NamedTuple):
    """A redemption after a step, and whether the step was done before."""

    redemption: Redemption
    replayed: bool = False


class Step(NamedTuple):
    """A step that is asked for.

    Attributes:
        name: of the operation, in whose books its key stands.
        done: how a sentence tells that it cannot be: "captured".
        redemption_id: of the program.
        field: of the input, that names the redemption.
        key: the caller's; None for a step that is known again by what it says.
        content: what else the caller said, by which a repetition is told from another request.
        caller: the member whose own token asks; None for a key of the program.
    """

    name: str
    done: str
    redemption_id: UUID
    field: str
    key: str | None = None
    content: Any = None
    caller: UUID | None = None

    @property
    def operation(self) -> str:
        return operation_of(self.name, self.caller)

    @property
    def hash(self) -> int:
        return content_hash(msgspec.json.encode((self.redemption_id, self.content)))


_Act = Callable[[asyncpg.Connection, Redemption, Members], Awaitable[Redemption]]


async def capture(
    program_id: UUID, redemption_id: UUID, key: str, points: int | None = None, *, caller: UUID | None = None
) -> Stepped:
    """Spend the points of a reservation, or fewer: the rest goes back to the lots that it came from.

    Args:
        points: 1 to what is reserved; all of it when left out. Of a DISCOUNT the money shrinks with them.
        caller: the member whose own token asks, who can capture fewer points of a DISCOUNT alone.

    Raises:
        Refused: bad input, NOT_FOUND, WRONG_STATE with the state that it is in (EXPIRED where its time is
            over), NOT_ELIGIBLE for a member who is not active, or IDEMPOTENCY_CONFLICT.
        Unavailable: the database stayed away or busy; nothing was done.
    """

    async def act(sql: asyncpg.Connection, redemption: Redemption, members: Members) -> Redemption:
        _expect(step, redemption, RedemptionStatus.RESERVED)
        _check_active(members, redemption)
        spent = redemption.points if points is None else points
        if not 1 <= spent <= redemption.points:
            message = f"Between 1 and {plural(redemption.points)} can be captured: as many were reserved."
            raise refuse(ErrorCode.INVALID, message, "points")
        discount = await sql.fetchrow(_DISCOUNT, program_id, redemption.reward_id)
        if spent < redemption.points:
            _check_fewer(spent, discount, caller)
        await _check_not_drawn(sql, step, redemption)
        policy, now = members.grounds.policy, members.moment
        entry = await _spend(sql, policy, redemption, spent, now)
        amount = redemption.amount
        if discount is not None and spent < redemption.points:
            assert redemption.rate is not None
            amount = money_for(spent, redemption.rate, MINOR_DIGITS[policy.currency], redemption.amount)
        return redemption.but(
            status=RedemptionStatus.CONFIRMED,
            points=spent,
            amount=amount,
            redeem_entry=entry,
            confirmed_at=now,
        )

    step = Step("capture", "captured", redemption_id, "redemption_id", key, points, caller)
    done = await _run(program_id, step, act)
    if not done.replayed:
        REDEMPTIONS.labels("captured").inc()
        POINTS_SPENT.inc(done.redemption.points)
    return done


def _check_fewer(spent: int, discount: asyncpg.Record | None, caller: UUID | None) -> None:
    """Refuse to capture fewer points than were reserved where that is not for the caller, or too few."""
    if discount is None and caller is not None:
        message = "The reward has a fixed price: capture all of its points."
        raise refuse(ErrorCode.INVALID, message, "points")
    if discount is not None and spent < (discount["min_points"] or 1):
        message = f"At least {plural(discount['min_points'])} can be spent on an order."
        raise refuse(ErrorCode.INVALID, message, "points")


async def _spend(
    sql: asyncpg.Connection, policy: ProgramPolicy, redemption: Redemption, points: int, now: datetime
) -> int:
    """Capture reserved points, give the others back, and return the place of the capture's entry."""
    spend = Operation(
        account_id=redemption.member_id,
        kind=EntryKind.REDEEM,
        amount=points,
        key=key_id("redemption", redemption.id, "capture"),
        request_hash=points,
        occurred_at=now,
        reference=redemption.reserve_entry,
        source="redemption",
        source_id=redemption.id,
        reason=redemption.reward_name,
    )
    operations = [spend]
    if rest := redemption.points - points:
        operations.append(
            spend._replace(
                kind=EntryKind.RESTORE,
                amount=rest,
                key=key_id("redemption", redemption.id, "rest"),
                request_hash=rest,
            )
        )
    outcome, *_ = await post(sql, terms(policy, now), operations)
    assert outcome.sequence is not None
    return outcome.sequence


async def cancel(
    program_id: UUID, redemption_id: UUID, reason: str, key: str, *, caller: UUID | None = None
) -> Stepped:
    """Give a redemption's points back to the lots that they came from, with the expiry that they had.

    What was reserved goes back to the stock and the pool; so does the stock of what was confirmed, but its
    codes have been seen, and are void.

    Args:
        reason: 1 to 500 characters.
        caller: the member whose own token asks, who can cancel what is RESERVED alone.

    Raises:
        Refused: bad input, NOT_FOUND, WRONG_STATE with the state that it is in, NOT_ELIGIBLE for a member's
            token where the program has to decide, or IDEMPOTENCY_CONFLICT.
        Unavailable: the database stayed away or busy; nothing was done.
    """
    problems = Problems()
    check_text(reason, problems, "reason")

    async def act(sql: asyncpg.Connection, redemption: Redemption, members: Members) -> Redemption:
        _expect(step, redemption, RedemptionStatus.RESERVED, RedemptionStatus.CONFIRMED)
        if caller is not None and redemption.status is not RedemptionStatus.RESERVED:
            message = "Points that are spent are given back by the program alone: ask for it there."
            raise refuse(ErrorCode.NOT_ELIGIBLE, message, "redemption_id")
        if await sql.fetchval(_USED_CODES, program_id, redemption.id):
            message = "One of its codes has been USED; the redemption cannot be cancelled."
            raise refuse(ErrorCode.WRONG_STATE, message, "redemption_id")
        if redemption.status is RedemptionStatus.CONFIRMED:
            await _check_not_drawn(sql, step, redemption)
        policy = members.grounds.policy
        (ended,) = await end(sql, policy, [redemption], RedemptionStatus.CANCELLED, reason, members.moment)
        return ended

    step = Step("cancel", "cancelled", redemption_id, "redemption_id", key, reason, caller)
    done = await _run(program_id, step, act, problems)
    if not done.replayed:
        REDEMPTIONS.labels("cancelled").inc()
    return done


async def fulfil(program_id: UUID, redemption_id: UUID, note: str | None = None) -> Stepped:
    """Note that goods were handed over or shipped. With the same note again it is answered as done before.

    Args:
        note: 1 to 500 characters, such as the number of a parcel.

    Raises:
        Refused: bad input, NOT_FOUND, or WRONG_STATE with the state that it is in.
        Unavailable: the database stayed away or busy; nothing was done.
    """
    problems = Problems()
    if note is not None:
        check_text(note, problems, "note")

    async def act(sql: asyncpg.Connection, redemption: Redemption, members: Members) -> Redemption:
        if redemption.fulfilled_at is not None and redemption.note == note:
            return redemption
        _expect(step, redemption, RedemptionStatus.CONFIRMED)
        return redemption.but(status=RedemptionStatus.FULFILLED, fulfilled_at=members.moment, note=note)

    step = Step("fulfil", "fulfilled", redemption_id, "id")
    return await _run(program_id, step, act, problems)


async def use_code(program_id: UUID, code: str, key: str, vault: Vault) -> Stepped:
    """Spend an issued code once; the redemption is USED when the last of its codes is.

    Args:
        code: as the member shows it; spaces around it are nothing.

    Raises:
        Refused: bad input, NOT_FOUND for a code that nobody was given, WRONG_STATE for one that was used
            before or whose redemption is not in force, with its state, or IDEMPOTENCY_CONFLICT.
        Unavailable: the database stayed away or busy; nothing was done.
    """
    digest = vault.digest(program_id, code.strip())
    async with connection() as sql:
        found = await sql.fetchrow(_FIND_CODE, program_id, digest)
    problems = Problems()
    check_key(key, problems)
    if found is None or found["redemption_id"] is None:
        problems.add("No such code has been issued.", "code", code=ErrorCode.NOT_FOUND)
    problems.refuse_any()
    assert found is not None

    async def act(sql: asyncpg.Connection, redemption: Redemption, members: Members) -> Redemption:
        now = members.moment
        fresh = await sql.fetchrow(_FIND_CODE, program_id, digest)
        if fresh is None or fresh["redemption_id"] != redemption.id:
            raise refuse(ErrorCode.NOT_FOUND, "No such code has been issued.", "code")
        if fresh["used_at"] is not None:
            message = f"The code was USED on {fresh['used_at']:%Y-%m-%d %H:%M} UTC, and cannot be used again."
            raise refuse(ErrorCode.WRONG_STATE, message, "code")
        _expect(step, redemption, RedemptionStatus.CONFIRMED, RedemptionStatus.FULFILLED)
        await sql.execute(_USE_CODE, program_id, fresh["id"], now)
        if await sql.fetchval(_UNUSED_CODES, program_id, redemption.id):
            return redemption.but(updated_at=now)
        return redemption.but(status=RedemptionStatus.USED, used_at=now)

    step = Step("use", "used", found["redemption_id"], "code", key, digest.hex())
    done = await _run(program_id, step, act)
    if not done.replayed:
        REDEMPTIONS.labels("used").inc()
    return done


async def _run(program_id: UUID, step: Step, act: _Act, problems: Problems | None = None) -> Stepped:
    """Do a step under the lock of the member's account, unless it has been done under its key."""
    problems = problems or Problems()
    if step.key is not None:
        check_key(step.key, problems)
    problems.refuse_any()

    async def work() -> Stepped | None:
        async with transaction() as sql:
            redemption = await _find(sql, program_id, step)
            members = await lock_members(sql, program_id, [redemption.member_id])
            redemption = await _find(sql, program_id, step)
            if redemption.has_run_out(members.moment):
                policy = members.grounds.policy
                await end(sql, policy, [redemption], RedemptionStatus.EXPIRED, None, members.moment)
                return None
            if step.key is not None and await claim(
                sql, program_id, step.operation, step.key, step.hash, redemption.id, members.moment
            ):
                return Stepped(redemption, replayed=True)
            after = await act(sql, redemption, members)
            if after is redemption:
                return Stepped(redemption, replayed=True)
            if after.ended_at is None:
                after = after.but(updated_at=members.moment)
                values = (getattr(after, name) for name in _CHANGED)
                await sql.execute(_CHANGE, program_id, after.id, after.updated_at, *values)
                # One of several codes that was used is not told yet.
                if after.status is not redemption.status:
                    await leave(sql, program_id, [told_of(after)], members.moment)
            return Stepped(after)

    done = await retrying(work)
    if done is None:
        REDEMPTIONS.labels("expired").inc()
        message = f"The redemption is EXPIRED, and cannot be {step.done}."
        raise refuse(ErrorCode.WRONG_STATE, message, step.field)
    return done


async def _find(sql: asyncpg.Connection, program_id: UUID, step: Step) -> Redemption:
    (redemption,) = await find_redemptions(sql, program_id, [step.redemption_id])
    if redemption is None or step.caller not in (None, redemption.member_id):
        raise refuse(ErrorCode.NOT_FOUND, "There is no such redemption.", step.field)
    return redemption


def _expect(step: Step, redemption: Redemption, *states: RedemptionStatus) -> None:
    if redemption.status not in states:
        message = f"The redemption is {redemption.status}, and cannot be {step.done}."
        raise refuse(ErrorCode.WRONG_STATE, message, step.field)


def _check_active(members: Members, redemption: Redemption) -> None:
    status = members.standings[redemption.member_id].status
    if status != MemberStatus.ACTIVE:
        message = f"The member is {status.lower()} and spends nothing."
        raise refuse(ErrorCode.NOT_ELIGIBLE, message, "redemption_id")


async def _check_not_drawn(sql: asyncpg.Connection, step: Step, redemption: Redemption) -> None:
    """Refuse to change who takes part in a giveaway after its draw."""
    if await sql.fetchval(_DRAWN, redemption.program_id, redemption.reward_id):
        message = f"The giveaway's winner has been drawn: an entry that is {redemption.status} stays so."
        raise refuse(ErrorCode.WRONG_STATE, message, step.field)
