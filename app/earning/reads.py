"""Reading events and their awards."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from app.database import connection
from app.earning import rulesets
from app.earning.events import EVENT_COLUMNS, EVENT_TABLES, Event, event_from_row
from app.earning.explain import RuleOutcome, explain
from app.earning.outcomes import Step
from app.earning.receipts import decode
from app.paging import Page, PageResult, keyset, page_result

# Every column is named: the statement is a constant, whatever is asked for.
_EVENTS = f"SELECT {EVENT_COLUMNS} FROM {EVENT_TABLES} WHERE e.program_id = $1"  # noqa: S608

_AWARDS = """
SELECT a.event_id, a.rule_id, a.rule_version, a.desired, a.points, a.available_at, a.expires_at, a.steps
FROM award a JOIN event e ON e.id = a.event_id
WHERE e.program_id = $1 AND a.event_id = ANY($2::uuid[])
ORDER BY a.event_id, a.points DESC, a.rule_id
"""


_DECIDED = f"""
SELECT {EVENT_COLUMNS}, o.rules_version, o.context FROM {EVENT_TABLES}
WHERE e.program_id = $1 AND e.id = ANY($2::uuid[]) AND o.rules_version IS NOT NULL
"""  # noqa: S608 - nothing but constants


class AwardRecord(msgspec.Struct, frozen=True):
    """An award as it is kept, with its receipt."""

    event_id: UUID
    rule_id: UUID
    rule_version: int
    desired: int
    points: int
    available_at: datetime
    expires_at: datetime | None
    steps: list[Step]


def _award(row: Any) -> AwardRecord:
    steps = msgspec.convert(row["steps"], list[Step])
    return AwardRecord(
        row["event_id"],
        row["rule_id"],
        row["rule_version"],
        row["desired"],
        row["points"],
        row["available_at"],
        row["expires_at"],
        steps,
    )


async def get_events(program_id: UUID, event_ids: Sequence[UUID]) -> list[Event | None]:
    """Return events in the order of the ids given; None where the program has none."""
    async with connection() as sql:
        rows = await sql.fetch(_EVENTS + " AND e.id = ANY($2::uuid[])", program_id, list(event_ids))
    events = {row["id"]: event_from_row(row) for row in rows}
    return [events.get(event_id) for event_id in event_ids]


async def find_event(program_id: UUID, external_id: str) -> Event | None:
    """Return the event that the caller's own systems know by an id."""
    async with connection() as sql:
        row = await sql.fetchrow(_EVENTS + " AND e.external_id = $2", program_id, external_id)
    return None if row is None else event_from_row(row)


async def list_events(program_id: UUID, members: Sequence[UUID], page: Page) -> list[PageResult[Event]]:
    """Return the same page of each member's events, the latest to have happened first.

    One statement for all members.
    """
    part = keyset(("e.occurred_at", "e.id"), descending=True, page=page, first_param=3)
    statement = f"""
        SELECT x.* FROM unnest($2::uuid[]) AS t(member) CROSS JOIN LATERAL (
            {_EVENTS} AND e.member_id = t.member AND {part.where} ORDER BY {part.order_by} LIMIT {part.limit}
        ) x
    """  # noqa: S608 - parts that are constants, values are parameters
    async with connection() as sql:
        rows = await sql.fetch(statement, program_id, members, *part.args)
    events: dict[UUID, list[Event]] = {member: [] for member in members}
    for row in rows:
        events[row["member_id"]].append(event_from_row(row))
    return [page_result(events[member], page) for member in members]


async def get_awards(program_id: UUID, event_ids: Sequence[UUID]) -> list[list[AwardRecord]]:
    """Return the awards of each event, the largest first, in the order of the ids given."""
    async with connection() as sql:
        rows = await sql.fetch(_AWARDS, program_id, list(event_ids))
    awards: dict[UUID, list[AwardRecord]] = {event_id: [] for event_id in event_ids}
    for row in rows:
        awards[row["event_id"]].append(_award(row))
    return [awards[event_id] for event_id in event_ids]


async def get_explanations(program_id: UUID, event_ids: Sequence[UUID]) -> list[list[RuleOutcome]]:
    """Return what became of each rule for each event, in the order of the ids given.

    It is told from what was kept when the event was earned: the versions of the rules, the factors and
    the room that limits left; rules of today play no part. Events that still wait for a worker, and
    those that were turned away, have none.
    """
    async with connection() as sql:
        rows = await sql.fetch(_DECIDED, program_id, list(event_ids))
        events = [event_from_row(row) for row in rows]
        decided = [
            rulesets.Decided(row["rules_version"], event.facts(), decode(row["context"]))
            for row, event in zip(rows, events, strict=True)
        ]
        rule_sets = await rulesets.past(sql, program_id, decided)
    outcomes = {}
    for event, (_, facts, context), rule_set in zip(events, decided, rule_sets, strict=True):
        outcomes[event.id] = explain(rule_set, facts, context.standing, context.rooms).outcomes
        # A thousand rules for a hundred events take most of a second: others get their turn between two.
        await asyncio.sleep(0)
    return [outcomes.get(event_id, []) for event_id in event_ids]
