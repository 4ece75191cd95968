"""Campaigns: made, changed with a history of their factors, and ended; never deleted."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from app import clock
from app.campaigns.campaigns import Campaign, CampaignStatus
from app.campaigns.checks import NewCampaign, check_audience, check_campaign
from app.campaigns.reads import find_campaigns
from app.database import retrying, transaction
from app.earning.rules import EventKind
from app.errors import ErrorCode, Refused, refuse
from app.ids import new_id
from app.programs.versions import bump
from app.validation import Problems

MAX_CAMPAIGNS = 5000
"""In one program, those that have ended included: what happened then can still come in."""

CHANGEABLE = ("name", "starts_at", "ends_at", "multiplier", "applies_to", "audience")
"""What can be changed of a campaign."""

_COUNT = "SELECT count(*) FROM campaign WHERE program_id = $1"

_TWIN = """
SELECT id FROM campaign
WHERE program_id = $1 AND name = $2 AND starts_at = $3 AND ends_at = $4 AND multiplier = $5
    AND applies_to = $6 AND tier_ids = $7 AND store_ids = $8
ORDER BY id LIMIT 1
"""

_NEW_CAMPAIGN = """
INSERT INTO campaign (id, program_id, name, starts_at, ends_at, multiplier, applies_to, tier_ids, store_ids,
    created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)
"""

_UPDATE_CAMPAIGN = """
UPDATE campaign SET name = $3, starts_at = $4, ends_at = $5, multiplier = $6, applies_to = $7, tier_ids = $8,
    store_ids = $9, updated_at = $10
WHERE program_id = $1 AND id = $2
"""

# Of several changes in one instant the last counts, also where clocks of processes differ a little.
_NEW_FACTOR = """
INSERT INTO campaign_factor (campaign_id, since, name, multiplier)
SELECT c.id, greatest($3, (SELECT max(since) FROM campaign_factor WHERE campaign_id = c.id)), c.name,
    c.multiplier
FROM campaign c WHERE c.program_id = $1 AND c.id = $2
ON CONFLICT (campaign_id, since) DO UPDATE SET name = EXCLUDED.name, multiplier = EXCLUDED.multiplier
"""


def _tidy(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with every kind of event and every id once and in order, so that the same are equal."""
    tidy = dict(fields)
    if "applies_to" in tidy:
        tidy["applies_to"] = tuple(kind for kind in EventKind if kind in tidy["applies_to"])
    if "audience" in tidy:
        tidy["audience"] = tidy["audience"].distinct()
    return tidy


def _columns(fields: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the fields of a campaign as the table has them, in its order."""
    *plain, audience = (fields[name] for name in CHANGEABLE)
    return (*plain, audience.tiers, audience.stores)


async def _check(sql: asyncpg.Connection, program_id: UUID, fields: Mapping[str, Any]) -> None:
    problems = Problems()
    check_campaign(fields, problems)
    errors = [*problems.errors, *await check_audience(sql, program_id, fields["audience"])]
    if errors:
        raise Refused(errors)


async def create_campaign(program_id: UUID, campaign: NewCampaign) -> Campaign:
    """Make a campaign; one that is the same in everything is not made again, but answered with.

    Raises:
        Refused: INVALID with everything that is wrong, NOT_FOUND for tiers and stores of its audience,
            or LIMIT_REACHED where there are MAX_CAMPAIGNS.
    """
    given = {name: getattr(campaign, name) for name in CHANGEABLE}
    columns = _columns(_tidy(given))
    campaign_id = new_id()

    async def create() -> Campaign:
        async with transaction() as sql:
            await bump(sql, program_id)
            # As it was given, so that errors count the ids as the caller does.
            await _check(sql, program_id, given)
            twin = await sql.fetchval(_TWIN, program_id, *columns)
            if twin is None:
                await _insert(sql, program_id, campaign_id, columns)
            return await _find(sql, program_id, twin or campaign_id)

    return await retrying(create)


async def _insert(
    sql: asyncpg.Connection, program_id: UUID, campaign_id: UUID, columns: tuple[Any, ...]
) -> None:
    if await sql.fetchval(_COUNT, program_id) >= MAX_CAMPAIGNS:
        message = f"A program has at most {MAX_CAMPAIGNS:,} campaigns; change one of them."
        raise refuse(ErrorCode.LIMIT_REACHED, message)
    now = clock.now()
    await sql.execute(_NEW_CAMPAIGN, campaign_id, program_id, *columns, now)
    await sql.execute(_NEW_FACTOR, program_id, campaign_id, now)


async def _find(sql: asyncpg.Connection, program_id: UUID, campaign_id: UUID) -> Campaign:
    (campaign,) = await find_campaigns(sql, program_id, [campaign_id])
    if campaign is None:
        raise refuse(ErrorCode.NOT_FOUND, "There is no such campaign.", "id")
    return campaign


async def update_campaign(program_id: UUID, campaign_id: UUID, changes: Mapping[str, Any]) -> Campaign:
    """Change a campaign, and return it; a new name or multiplier counts for events from now on.

    Of one that has ended nothing but the name can change: what it gave is history.

    Args:
        changes: only what is to change, by the names in CHANGEABLE.

    Raises:
        Refused: no such campaign, WRONG_STATE for every field that cannot change any more, INVALID
            with everything that is wrong, or NOT_FOUND for tiers and stores of its audience.
    """
    assert changes.keys() <= set(CHANGEABLE), changes.keys()

    async def update() -> Campaign:
        async with transaction() as sql:
            await bump(sql, program_id)
            now = clock.now()
            campaign = await _find(sql, program_id, campaign_id)
            before = {name: getattr(campaign, name) for name in CHANGEABLE}
            after = before | _tidy(changes)
            changed = {name: value for name, value in after.items() if value != before[name]}
            if not changed:
                return campaign
            if campaign.status_at(now) is CampaignStatus.ENDED:
                _check_history(changed)
            else:
                await _check(sql, program_id, before | dict(changes))
            return await _write(sql, program_id, campaign, after, now)

    return await retrying(update)


def _check_history(changed: Mapping[str, Any]) -> None:
    """Refuse changes of a campaign that has ended, but for its name."""
    problems = Problems()
    check_campaign({name: value for name, value in changed.items() if name == "name"}, problems)
    for name in changed:
        if name != "name":
            message = "The campaign has ended: nothing but its name can change. Make a new one."
            problems.add(message, name, code=ErrorCode.WRONG_STATE)
    problems.refuse_any()


async def _write(
    sql: asyncpg.Connection, program_id: UUID, campaign: Campaign, after: Mapping[str, Any], now: datetime
) -> Campaign:
    await sql.execute(_UPDATE_CAMPAIGN, program_id, campaign.id, *_columns(after), now)
    if (after["name"], after["multiplier"]) != (campaign.name, campaign.multiplier):
        await sql.execute(_NEW_FACTOR, program_id, campaign.id, now)
    return await _find(sql, program_id, campaign.id)


async def end_campaign(program_id: UUID, campaign_id: UUID) -> Campaign:
    """End a campaign now, and return it; one that has not begun never counts, one that has ended stays.

    Raises:
        Refused: no such campaign.
    """

    async def end() -> Campaign:
        async with transaction() as sql:
            await bump(sql, program_id)
            now = clock.now()
            campaign = await _find(sql, program_id, campaign_id)
            if campaign.status_at(now) is CampaignStatus.ENDED:
                return campaign
            ended = {name: getattr(campaign, name) for name in CHANGEABLE}
            return await _write(
                sql, program_id, campaign, ended | {"ends_at": max(now, campaign.starts_at)}, now
            )

    return await retrying(end)
