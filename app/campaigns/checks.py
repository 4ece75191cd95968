"""What can be said about a campaign, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from app.campaigns.audience import EVERYBODY, MAX_IDS, Audience
from app.earning.rules import EventKind
from app.errors import ErrorCode, UserError
from app.tiers.inputs import LONGEST_NAME, check_multiplier
from app.validation import Problems

_TIERS = "SELECT id FROM tier WHERE program_id = $1 AND id = ANY($2::uuid[])"
_STORES = "SELECT id FROM store WHERE program_id = $1 AND id = ANY($2::uuid[])"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCampaign:
    """A campaign to be made.

    Attributes:
        name: 1 to 200 characters.
        starts_at: it counts for what happens from then on; the past is allowed, for what comes in late.
        ends_at: and for what happens before this, which is after `starts_at`.
        multiplier: more than 0, at most 1,000, with 6 decimal places, and not 1.
        applies_to: at least one kind of event.
        audience: tiers and stores of the program.
    """

    name: str
    starts_at: datetime
    ends_at: datetime
    multiplier: Decimal
    applies_to: tuple[EventKind, ...] = tuple(EventKind)
    audience: Audience = EVERYBODY


def check_campaign(values: Mapping[str, Any], problems: Problems) -> None:
    """Note what is wrong with the fields of a campaign that are there; the audience is not looked at."""
    if "name" in values:
        problems.line(values["name"], LONGEST_NAME, "name")
    if "starts_at" in values and "ends_at" in values and values["ends_at"] <= values["starts_at"]:
        problems.add("The campaign has to end after it starts: it would change nothing.", "ends_at")
    if "multiplier" in values:
        check_multiplier(values["multiplier"], problems)
        if values["multiplier"] == 1:
            problems.add("A campaign with the multiplier 1 would change nothing.", "multiplier")
    if "applies_to" in values and not values["applies_to"]:
        message = "A campaign that applies to no kind of event would change nothing."
        problems.add(message, "applies_to")


async def check_audience(sql: asyncpg.Connection, program_id: UUID, audience: Audience) -> list[UserError]:
    """Return everything that is wrong with an audience: too many ids, or such as the program does not have.

    Fields are ("audience", "tier_ids", "0") and ("audience", "store_ids", "0"), by the place of the id.
    """
    return [
        *await _check(sql, program_id, _TIERS, audience.tiers, "tier"),
        *await _check(sql, program_id, _STORES, audience.stores, "store"),
    ]


async def _check(
    sql: asyncpg.Connection, program_id: UUID, statement: str, ids: Sequence[UUID], what: str
) -> list[UserError]:
    field = ("audience", f"{what}_ids")
    if len(ids) > MAX_IDS:
        return [UserError(ErrorCode.INVALID, f"An audience names at most {MAX_IDS} {what}s.", field)]
    if not ids:
        return []
    there = {row["id"] for row in await sql.fetch(statement, program_id, ids)}
    return [
        UserError(ErrorCode.NOT_FOUND, f"There is no such {what}.", (*field, str(n)))
        for n, each in enumerate(ids)
        if each not in there
    ]
