"""Tiers: made, changed with a history of their factors, and given to members by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from app import clock
from app.database import connection, retrying, transaction
from app.errors import ErrorCode, refuse
from app.ids import new_id
from app.jobs.jobs import JobName, queue_within
from app.members.inputs import MemberStatus
from app.members.reads import MemberRef, MemberRow
from app.members.service import lock_member
from app.programs.versions import bump
from app.tiers.inputs import NewTier, check_reason, check_tier
from app.tiers.reads import load_tiers, tiers_at
from app.tiers.standings import evaluate_within
from app.tiers.tiers import Tier
from app.validation import Problems

MAX_TIERS = 100
"""In one program."""

CHANGEABLE = ("name", "threshold", "multiplier", "benefits")
"""What can be changed of a tier."""

_NEW_TIER = """
INSERT INTO tier (id, program_id, name, threshold, multiplier, benefits, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
"""

_UPDATE_TIER = """
UPDATE tier SET name = $3, threshold = $4, multiplier = $5, benefits = $6, updated_at = $7
WHERE program_id = $1 AND id = $2
"""

# Of several changes in one instant the last counts, also where clocks of processes differ a little.
_NEW_FACTOR = """
INSERT INTO tier_factor (tier_id, since, name, multiplier)
SELECT t.id, greatest($3, (SELECT max(since) FROM tier_factor WHERE tier_id = t.id)), t.name, t.multiplier
FROM tier t WHERE t.program_id = $1 AND t.id = $2
ON CONFLICT (tier_id, since) DO UPDATE SET name = EXCLUDED.name, multiplier = EXCLUDED.multiplier
"""

_NEW_THRESHOLD = """
INSERT INTO tier_threshold (tier_id, since, threshold)
SELECT t.id, greatest($3, (SELECT max(since) FROM tier_threshold WHERE tier_id = t.id)), t.threshold
FROM tier t WHERE t.program_id = $1 AND t.id = $2
ON CONFLICT (tier_id, since) DO UPDATE SET threshold = EXCLUDED.threshold
"""

_LAST_GIVEN = """
SELECT tier_id, since, until, reason, recorded_at, automatic FROM member_tier
WHERE program_id = $1 AND member_id = $2 ORDER BY recorded_at DESC, id DESC LIMIT 1
"""

_GIVE = """
INSERT INTO member_tier (id, program_id, member_id, tier_id, since, until, reason, source, recorded_at,
    earned_tier_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""

_INSTANT = timedelta(microseconds=1)


async def create_tier(program_id: UUID, tier: NewTier) -> Tier:
    """Make a tier; one that is the same in everything is not made again, but answered with.

    Raises:
        Refused: INVALID with everything that is wrong, ALREADY_EXISTS for the threshold, or
            LIMIT_REACHED where there are MAX_TIERS.
    """
    problems = Problems()
    check_tier(asdict(tier), problems)
    problems.refuse_any()
    tier_id = new_id()

    async def create() -> Tier:
        async with transaction() as sql:
            await bump(sql, program_id)
            now = clock.now()
            there = await load_tiers(sql, program_id)
            twin = next((each for each in there if _is_the_same(each, tier)), None)
            if twin is not None:
                return twin
            if len(there) >= MAX_TIERS:
                message = f"A program has at most {MAX_TIERS} tiers; change one of them."
                raise refuse(ErrorCode.LIMIT_REACHED, message)
            _check_threshold_free(there, tier.threshold)
            await sql.execute(
                _NEW_TIER,
                tier_id, program_id, tier.name, tier.threshold, tier.multiplier, tier.benefits, now,
            )  # fmt: skip
            await sql.execute(_NEW_FACTOR, program_id, tier_id, now)
            await sql.execute(_NEW_THRESHOLD, program_id, tier_id, now)
            await queue_within(sql, program_id, JobName.RECALCULATE_TIERS, None, new_id())
            return await _reload(sql, program_id, tier_id)

    return await retrying(create)


def _is_the_same(tier: Tier, new: NewTier) -> bool:
    return all(
        getattr(tier, name) == getattr(new, name) for name in ("name", "threshold", "multiplier")
    ) and (tuple(tier.benefits) == tuple(new.benefits))


def _check_threshold_free(tiers: list[Tier], threshold: Decimal, own: UUID | None = None) -> None:
    if any(tier.threshold == threshold and tier.id != own for tier in tiers):
        raise refuse(ErrorCode.ALREADY_EXISTS, "Another tier has this threshold.", "threshold")


async def _reload(sql: asyncpg.Connection, program_id: UUID, tier_id: UUID) -> Tier:
    # The rank depends on all of them.
    return next(tier for tier in await load_tiers(sql, program_id) if tier.id == tier_id)


async def update_tier(program_id: UUID, tier_id: UUID, changes: Mapping[str, Any]) -> Tier:
    """Change a tier, and return it; a new name or multiplier counts for events from now on.

    Args:
        changes: only what is to change, by the names in CHANGEABLE.

    Raises:
        Refused: no such tier, INVALID with everything that is wrong, or ALREADY_EXISTS for the threshold.
    """
    assert changes.keys() <= set(CHANGEABLE), changes.keys()

    async def update() -> Tier:
        async with transaction() as sql:
            await bump(sql, program_id)
            now = clock.now()
            there = await load_tiers(sql, program_id)
            tier = next((each for each in there if each.id == tier_id), None)
            if tier is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such tier.", "id")
            problems = Problems()
            check_tier(changes, problems)
            problems.refuse_any()
            before = {name: getattr(tier, name) for name in CHANGEABLE}
            after = before | dict(changes)
            if after == before:
                return tier
            _check_threshold_free(there, after["threshold"], tier_id)
            await sql.execute(_UPDATE_TIER, program_id, tier_id, *after.values(), now)
            if (after["name"], after["multiplier"]) != (tier.name, tier.multiplier):
                await sql.execute(_NEW_FACTOR, program_id, tier_id, now)
            if after["threshold"] != tier.threshold:
                await sql.execute(_NEW_THRESHOLD, program_id, tier_id, now)
                await queue_within(sql, program_id, JobName.RECALCULATE_TIERS, None, new_id())
            return await _reload(sql, program_id, tier_id)

    return await retrying(update)


async def get_tiers(program_id: UUID) -> list[Tier]:
    """Return all tiers of a program, by threshold."""
    async with connection() as sql:
        return await load_tiers(sql, program_id)


async def get_current_tiers(program_id: UUID, member_ids: Sequence[UUID]) -> list[UUID | None]:
    """Return which tier each member was given for now, in the order of the ids, as `tiers_at` does."""
    now = clock.now()
    async with connection() as sql:
        return await tiers_at(sql, program_id, [(member_id, now) for member_id in member_ids])


async def set_member_tier(
    program_id: UUID,
    ref: MemberRef,
    tier_id: UUID | None,
    since: datetime | None,
    until: datetime | None,
    reason: str,
    source: str = "laurel",
) -> MemberRow:
    """Give a member a tier by hand, or take it away, for a time or for good; return the member.

    Where times overlap, what was recorded last counts. What is the last word already is not written
    again: sent twice, it is done once. While it counts, the member's own tiers change nothing, but for one
    above it that they had not earned yet when it was given; afterwards they have what they have earned.

    Args:
        tier_id: None takes the tier away, so that the member is where everybody starts.
        since: also in the past or the future; None for now.
        until: the first moment at which it does not count any more; None for good.
        reason: 1 to 500 characters.
        source: names the credential.

    Raises:
        Refused: INVALID with everything that is wrong, no such member or tier, or the member is closed.
    """

    async def give() -> MemberRow:
        async with transaction() as sql:
            member = await lock_member(sql, program_id, ref)
            if member is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such member.", "member", ref.field)
            # What others gave the member meanwhile is in the past.
            now = clock.now()
            _check_given(since or now, until, reason)
            await _check_tier_there(sql, program_id, tier_id)
            # What they have earned until now comes first, in the history and in what is told.
            earned = await evaluate_within(sql, program_id, [member.id], now)
            last = await sql.fetchrow(_LAST_GIVEN, program_id, member.id)
            if last is not None and _says_the_same(last, tier_id, since, until, reason, now):
                return member
            if member.status == MemberStatus.CLOSED:
                message = "The member is closed, and can neither be given a tier nor lose one."
                raise refuse(ErrorCode.WRONG_STATE, message, "member")
            # The one written last is the one recorded last, also where clocks of processes differ a little.
            recorded_at = now if last is None else max(now, last["recorded_at"] + _INSTANT)
            await sql.execute(
                _GIVE,
                new_id(), program_id, member.id, tier_id, since or now, until, reason, source, recorded_at,
                earned.get(member.id),
            )  # fmt: skip
            await evaluate_within(sql, program_id, [member.id], max(now, recorded_at))
            return member

    return await retrying(give)


def _check_given(since: datetime, until: datetime | None, reason: str) -> None:
    problems = Problems()
    check_reason(reason, problems)
    if until is not None and until <= since:
        problems.add("Until must be after since, which is now where it is left out.", "until")
    problems.refuse_any()


async def _check_tier_there(sql: asyncpg.Connection, program_id: UUID, tier_id: UUID | None) -> None:
    if tier_id is None:
        return
    there = await sql.fetchval("SELECT TRUE FROM tier WHERE program_id = $1 AND id = $2", program_id, tier_id)
    if not there:
        raise refuse(ErrorCode.NOT_FOUND, "There is no such tier.", "tier_id")


def _says_the_same(
    last: asyncpg.Record,
    tier_id: UUID | None,
    since: datetime | None,
    until: datetime | None,
    reason: str,
    now: datetime,
) -> bool:
    """Tell whether an assignment adds nothing to the one recorded last.

    One without `since` adds nothing to the same one that is in force, or was when it was recorded.
    """
    if last["automatic"]:
        return False
    if (last["tier_id"], last["until"], last["reason"]) != (tier_id, until, reason):
        return False
    return bool(last["since"] <= max(now, last["recorded_at"]) if since is None else last["since"] == since)
