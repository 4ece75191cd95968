"""Leaving messages: one row in the transaction of the change that it tells of."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import orjson

from app.ids import new_id
from app.messages.topics import Topic

_LEAVE = """
INSERT INTO message (id, program_id, topic, member_id, payload, created_at)
SELECT t.id, $1, t.topic, t.member_id, t.payload, $6
FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::jsonb[])
    WITH ORDINALITY AS t(id, topic, member_id, payload, n)
ORDER BY t.n
"""


class Message(NamedTuple):
    """What others are to hear of.

    `payload` is plain JSON with names in camelCase: ids as the API gives them, points as whole numbers,
    money as text, times in ISO 8601 with their zone. Who the member is readers are told beside it.
    """

    topic: Topic
    member_id: UUID | None
    payload: Mapping[str, Any]

    @property
    def encoded(self) -> bytes:
        """The payload as JSON; of times in UTC it writes Z, as the API does."""
        return orjson.dumps(self.payload, option=orjson.OPT_UTC_Z)


async def leave(
    sql: asyncpg.Connection, program_id: UUID, messages: Sequence[Message], now: datetime
) -> None:
    """Leave messages, which are numbered and sent when the transaction has been committed; one statement.

    Args:
        sql: a connection inside the transaction of the change, which holds the lock under which the member's
            changes follow one another: so a member's messages are written in the order of what they tell.
        now: the time of recording (UTC).
    """
    if not messages:
        return
    await sql.execute(
        _LEAVE,
        program_id,
        [new_id() for _ in messages],
        [message.topic for message in messages],
        [message.member_id for message in messages],
        [message.encoded for message in messages],
        now,
    )
