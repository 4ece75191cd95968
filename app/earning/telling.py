"""What others are told of points that events earn."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from app.earning.limits import Waiting
from app.earning.outcomes import Award
from app.ids import to_global_id
from app.messages.leaving import Message
from app.messages.topics import Topic


class Given(NamedTuple):
    """An award of an event, and from when until when its points can be spent; None for good."""

    event: Waiting
    award: Award
    available_at: datetime
    expires_at: datetime | None


def points_earned(given: Sequence[Given]) -> list[Message]:
    """Return one message for each event that earned points, in their order.

    Args:
        given: each event's awards one after the other.
    """
    told: list[Message] = []
    rules: dict[UUID, str] = {}
    last: UUID | None = None
    payload: dict[str, Any] = {}
    for event, award, available_at, expires_at in given:
        if not award.points:
            continue
        if event.id != last:
            last = event.id
            payload = {
                "eventId": to_global_id("Event", event.id),
                "externalId": event.external_id,
                "kind": event.facts.kind,
                "points": 0,
                "awards": [],
            }
            told.append(Message(Topic.POINTS_EARNED, event.member_id, payload))
        if award.rule_id not in rules:
            rules[award.rule_id] = to_global_id("EarningRule", award.rule_id)
        payload["points"] += award.points
        payload["awards"].append(
            {
                "ruleId": rules[award.rule_id],
                "rule": award.rule_name,
                "points": award.points,
                "availableAt": available_at,
                "expiresAt": expires_at,
            }
        )
    return told
