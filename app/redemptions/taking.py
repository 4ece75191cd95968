"""Redeeming and reserving: a batch of requests of one program in one transaction, each by itself.

The order of locks is always: accounts in the order of their ids, then what is left of rewards in the order
of theirs, then codes. What is left of a reward is locked late and held until the commit that follows, because
everybody who redeems it shares that one row.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.catalog.eligibility import NOTHING_HAD, Had, IneligibleReason, Standing, Verdict, errors_of, judge
from app.catalog.rewards import Reward, RewardKind, RewardStatus
from app.catalog.stock import lock_rewards, tell_low
from app.catalog.vault import Vault
from app.database import retrying, transaction
from app.errors import ErrorCode, Unavailable, UserError
from app.ids import new_id
from app.members.reads import find_states
from app.metrics import POINTS_SPENT, REDEMPTIONS
from app.redemptions.booking import Accepted, KeyLost, book
from app.redemptions.expiring import release_of_members, release_of_rewards, with_reservations_due
from app.redemptions.inputs import Wanted, check_wanted
from app.redemptions.pricing import Price, price
from app.redemptions.reads import find_redemptions
from app.redemptions.redemptions import Redemption, RedemptionStatus
from app.redemptions.standings import Members, load_had, lock_members
from app.validation import Problems

_ATTEMPTS = 5

# One after the other: as a join it would read all keys of the program, wherever the planner takes that for
# few.
_KNOWN = """
SELECT k.* FROM unnest($2::text[], $3::text[]) AS t(operation, key) CROSS JOIN LATERAL (
    SELECT operation, key, request_hash, subject_id FROM idempotency_key
    WHERE program_id = $1 AND operation = t.operation AND key = t.key LIMIT 1
) k
"""


# What a member's points have taken off their orders, whichever reward they went by, and what the orders come
# to as far as that was said.
_PAID = """
SELECT t.member_id, t.order_id, s.amount, s.order_amount
FROM unnest($2::uuid[], $3::text[]) AS t(member_id, order_id) CROSS JOIN LATERAL (
    SELECT coalesce(sum(r.amount), 0) AS amount, max(r.order_amount) AS order_amount FROM redemption r
    WHERE r.program_id = $1 AND r.member_id = t.member_id AND r.order_id = t.order_id AND r.rate IS NOT NULL
        AND r.status NOT IN ('CANCELLED', 'EXPIRED')
) s
"""


class _Order(NamedTuple):
    """What points have taken off an order, and what it comes to; None where nobody has said."""

    paid: Decimal = Decimal(0)
    amount: Decimal | None = None

    def after(self, amount: Decimal | None, order_amount: Decimal | None) -> "_Order":
        """Return the order after one more payment."""
        known = [each for each in (self.amount, order_amount) if each is not None]
        return _Order(self.paid + (amount or 0), max(known, default=None))


_Orders = dict[tuple[UUID, str | None], _Order]


class Taken(NamedTuple):
    """What became of one request: a redemption, or what stands against it."""

    redemption: Redemption | None
    replayed: bool = False
    errors: tuple[UserError, ...] = ()


class _RunOut(Exception):
    """Members have reservations that ran out: they are released first, in a transaction of their own."""

    def __init__(self, members: Sequence[UUID]) -> None:
        super().__init__(members)
        self.members = members


@dataclass
class _Batch:
    """A batch on its way: what is settled so far, and what is to be written."""

    wanted: Sequence[Wanted]
    results: dict[int, Taken] = field(default_factory=dict)
    member_ids: dict[int, UUID] = field(default_factory=dict)
    accepted: list[Accepted] = field(default_factory=list)
    held_up: list[int] = field(default_factory=list)
    """Those that were refused for pieces which reservations hold that ran out."""

    def refuse(self, n: int, *errors: UserError) -> None:
        self.results[n] = Taken(None, errors=errors)

    @property
    def open(self) -> list[int]:
        """Those of which nothing is settled, in their order."""
        return [n for n in range(len(self.wanted)) if n not in self.results]

    def finished(self) -> list[Taken]:
        return [self.results[n] for n in range(len(self.wanted))]


async def take(program_id: UUID, wanted: Sequence[Wanted], vault: Vault) -> list[Taken]:
    """Redeem or reserve, each request by itself, all in one transaction.

    The same key with the same request is answered with the redemption as it is now. Reservations that ran
    out are released first where their points or pieces are needed.

    Args:
        wanted: of one program.

    Returns:
        What became of each, in the same order.

    Raises:
        Unavailable: the database stayed away or busy; nothing was done.
    """
    batch = await _take(program_id, wanted, vault)
    results = batch.finished()
    if batch.held_up:
        await release_of_rewards(program_id, {wanted[n].reward_id for n in batch.held_up})
        again = await _take(program_id, [wanted[n] for n in batch.held_up], vault)
        for n, result in zip(batch.held_up, again.finished(), strict=True):
            results[n] = result
    for result in results:
        if result.redemption is not None and not result.replayed:
            REDEMPTIONS.labels(result.redemption.status.lower()).inc()
            if result.redemption.status is RedemptionStatus.CONFIRMED:
                POINTS_SPENT.inc(result.redemption.points)
    return results


async def _take(program_id: UUID, wanted: Sequence[Wanted], vault: Vault) -> _Batch:
    released = set[UUID]()

    async def work() -> _Batch:
        async with transaction() as sql:
            return await _take_within(sql, program_id, wanted, vault, released)

    for _ in range(_ATTEMPTS):
        try:
            return await retrying(work)
        except _RunOut as found:
            # What is held after this nobody can release.
            await release_of_members(program_id, found.members)
            released.update(found.members)
        except KeyLost:
            continue
    raise Unavailable("Others use the same members or idempotency keys; try again.")


async def _take_within(
    sql: asyncpg.Connection,
    program_id: UUID,
    wanted: Sequence[Wanted],
    vault: Vault,
    released: Collection[UUID],
) -> _Batch:
    batch = _Batch(wanted)
    for n, each in enumerate(wanted):
        if errors := check_wanted(each):
            batch.refuse(n, *errors)
    await _find_members(sql, program_id, batch)
    if not batch.open:
        return batch
    members = await lock_members(sql, program_id, sorted({batch.member_ids[n] for n in batch.open}))
    if run_out := [each for each in members.run_out if each not in released]:
        raise _RunOut(run_out)
    await _answer_known(sql, program_id, batch)
    if batch.open:
        rewards = await lock_rewards(sql, program_id, [wanted[n].reward_id for n in batch.open])
        had, paid = await _had(sql, members, rewards, batch), await _paid(sql, program_id, rewards, batch)
        decision = _Decision(members, rewards, had, paid)
        for n in batch.open:
            decision.decide(n, batch)
        if decision.short:
            short = {wanted[n].reward_id for n in decision.short}
            holding = await with_reservations_due(sql, program_id, short, members.moment)
            batch.held_up = [n for n in decision.short if wanted[n].reward_id in holding]
        await _write(sql, batch, decision, rewards, vault)
    return batch


async def _find_members(sql: asyncpg.Connection, program_id: UUID, batch: _Batch) -> None:
    positions = batch.open
    states = await find_states(sql, program_id, [batch.wanted[n].member for n in positions])
    for n, state in zip(positions, states, strict=True):
        if state is None:
            field = ("member", batch.wanted[n].member.field)
            batch.refuse(n, UserError(ErrorCode.NOT_FOUND, "There is no such member.", field))
        else:
            batch.member_ids[n] = state.id


async def _answer_known(sql: asyncpg.Connection, program_id: UUID, batch: _Batch) -> None:
    """Answer requests whose keys were used before: with the redemption as it is now, or a conflict."""
    asked = [batch.wanted[n] for n in batch.open]
    rows = await sql.fetch(
        _KNOWN, program_id, [each.operation for each in asked], [each.key for each in asked]
    )
    if not rows:
        return
    known = {(row["operation"], row["key"]): row for row in rows}
    subjects = [row["subject_id"] for row in rows]
    found = dict(zip(subjects, await find_redemptions(sql, program_id, subjects), strict=True))
    for n in batch.open:
        each = batch.wanted[n]
        row = known.get((each.operation, each.key))
        if row is not None:
            same = row["request_hash"] == each.hash(batch.member_ids[n])
            batch.results[n] = Taken(found[row["subject_id"]], True) if same else _conflict()


def _conflict() -> Taken:
    message = "The key was used before, for another request."
    error = UserError(ErrorCode.IDEMPOTENCY_CONFLICT, message, ("idempotency_key",))
    return Taken(None, errors=(error,))


async def _had(
    sql: asyncpg.Connection, members: Members, rewards: dict[UUID, Reward], batch: _Batch
) -> dict[tuple[UUID, UUID], Had]:
    """Return what members have had of the rewards whose limits ask."""
    pairs = [
        (batch.member_ids[n], reward_id)
        for n in batch.open
        if (reward_id := batch.wanted[n].reward_id) in rewards and rewards[reward_id].limits.count_members
    ]
    return await load_had(sql, members.grounds.policy, pairs, members.moment)


async def _paid(
    sql: asyncpg.Connection, program_id: UUID, rewards: dict[UUID, Reward], batch: _Batch
) -> _Orders:
    """Return what members have paid with points already of the orders that more is to be paid of."""
    asked = {
        (batch.member_ids[n], each.order_id)
        for n in batch.open
        if (each := batch.wanted[n]).order_id is not None
        and each.reward_id in rewards
        and rewards[each.reward_id].kind is RewardKind.DISCOUNT
    }
    if not asked:
        return {}
    rows = await sql.fetch(_PAID, program_id, *[list(each) for each in zip(*asked, strict=True)])
    return {(row["member_id"], row["order_id"]): _Order(row["amount"], row["order_amount"]) for row in rows}


class _Decision:
    """Requests decided one after the other: each meets what those before it have left."""

    def __init__(
        self,
        members: Members,
        rewards: dict[UUID, Reward],
        had: dict[tuple[UUID, UUID], Had],
        paid: _Orders,
    ) -> None:
        self._moment = members.moment
        self._currency = members.grounds.policy.currency
        self._standings = dict(members.standings)
        self._had = dict(had)
        self._paid = dict(paid)
        self._twins: dict[tuple[str, str], tuple[int, int]] = {}
        self.twins: list[tuple[int, int]] = []
        """Requests with the same key as one before them in the batch, and which one that is."""
        self.short: list[int] = []
        """Requests refused because others have the pieces."""
        self.rewards = dict(rewards)
        """What is left of them after what was decided so far."""
        self.members = members

    def decide(self, n: int, batch: _Batch) -> None:
        """Accept a request, or refuse it with everything that stands against it."""
        wanted, member_id = batch.wanted[n], batch.member_ids[n]
        key, said = (wanted.operation, wanted.key), wanted.hash(member_id)
        if key in self._twins:
            first, said_first = self._twins[key]
            if said == said_first:
                self.twins.append((n, first))
            else:
                batch.results[n] = _conflict()
            return
        reward = self.rewards.get(wanted.reward_id)
        # Who asks for themselves has never seen what is not published yet.
        if reward is None or (wanted.caller is not None and reward.status is RewardStatus.DRAFT):
            batch.refuse(n, UserError(ErrorCode.NOT_FOUND, "There is no such reward.", ("reward_id",)))
            return
        standing, had = self._standings[member_id], self._had.get((member_id, reward.id), NOTHING_HAD)
        problems = Problems()
        key_of_order = (member_id, wanted.order_id)
        order = self._paid.get(key_of_order, _Order())
        # What an order comes to is known from its first payment on.
        amount = order.amount if wanted.order_amount is None else wanted.order_amount
        cost = price(reward, wanted._replace(order_amount=amount), self._currency, problems, order.paid)
        verdict = judge(reward, standing, had, self._moment, wanted.quantity, cost.points)
        errors = [*problems.errors, *errors_of(verdict, reward, standing, had, wanted.quantity)]
        if errors:
            batch.refuse(n, *errors)
            if _is_short(verdict, reward):
                self.short.append(n)
            return
        self._twins[key] = (n, said)
        self._count(member_id, reward, standing, had, wanted.quantity, cost.points)
        if key_of_order in self._paid and reward.kind is RewardKind.DISCOUNT:
            self._paid[key_of_order] = order.after(cost.amount, wanted.order_amount)
        redemption = _new(member_id, reward, wanted, cost, self._moment)
        batch.accepted.append(Accepted(n, wanted, reward, redemption))

    def _count(
        self, member_id: UUID, reward: Reward, standing: Standing, had: Had, quantity: int, points: int
    ) -> None:
        self._standings[member_id] = standing._replace(available=standing.available - points)
        self._had[member_id, reward.id] = Had(had.ever + quantity, had.this_month + quantity)
        left = reward.stock.after(quantity, quantity if reward.has_pool else 0)
        self.rewards[reward.id] = replace(reward, stock=left)


def _is_short(verdict: Verdict, reward: Reward) -> bool:
    """Tell whether pieces that come back could make a difference."""
    return IneligibleReason.OUT_OF_STOCK in verdict.reasons or (
        IneligibleReason.LIMIT_REACHED in verdict.reasons and reward.limits.max_total is not None
    )


def _new(member_id: UUID, reward: Reward, wanted: Wanted, cost: Price, now: datetime) -> Redemption:
    """Return the redemption that a request becomes."""
    reserves = wanted.hold_seconds is not None
    return Redemption(
        id=new_id(),
        program_id=reward.program_id,
        member_id=member_id,
        reward_id=reward.id,
        reward_name=reward.name,
        status=RedemptionStatus.RESERVED if reserves else RedemptionStatus.CONFIRMED,
        quantity=wanted.quantity,
        points=cost.points,
        restored=0,
        rate=reward.points_per_currency_unit,
        face_value=reward.face_value,
        amount=cost.amount,
        order_amount=wanted.order_amount,
        order_id=wanted.order_id,
        reserve_entry=None,
        redeem_entry=None,
        reserved_until=None if wanted.hold_seconds is None else now + timedelta(seconds=wanted.hold_seconds),
        confirmed_at=None if reserves else now,
        fulfilled_at=None,
        used_at=None,
        ended_at=None,
        note=None,
        reason=None,
        source=wanted.source,
        created_at=now,
        updated_at=now,
    )


async def _write(
    sql: asyncpg.Connection,
    batch: _Batch,
    decision: _Decision,
    before: dict[UUID, Reward],
    vault: Vault,
) -> None:
    """Write what was accepted, tell of what runs low, and answer those that asked twice in the batch."""
    if not batch.accepted:
        return
    policy, moment = decision.members.grounds.policy, decision.members.moment
    touched = {each.reward.id for each in batch.accepted}
    after = [decision.rewards[reward_id] for reward_id in sorted(touched)]
    redemptions = await book(sql, policy, batch.accepted, after, vault, moment)
    await tell_low(sql, policy.program_id, [(before[each.id], each.stock) for each in after], moment)
    for accepted, redemption in zip(batch.accepted, redemptions, strict=True):
        batch.results[accepted.n] = Taken(redemption)
    for n, first in decision.twins:
        batch.results[n] = batch.results[first]._replace(replayed=True)
