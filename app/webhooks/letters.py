"""What a webhook's receiver is sent: a message as JSON, and the headers that sign it. Pure.

After the Standard Webhooks convention: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import secrets
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from standardwebhooks import Webhook as Signer

from app.cursors import encode_cursor
from app.ids import to_global_id

MESSAGES = "messages"
"""The list of which a message's cursor is: that of the query `messages`."""

_SECRET_BYTES = 32


class Letter(NamedTuple):
    """A message on its way to one receiver: with its number in the feed, and who the member is."""

    position: int
    id: UUID
    topic: str
    member_id: UUID | None
    external_id: str | None
    payload: dict[str, Any]
    created_at: datetime
    attempts: int
    first_failed_at: datetime | None


def new_secret() -> bytes:
    """Return what deliveries of a new webhook are signed with: 256 random bits."""
    return secrets.token_bytes(_SECRET_BYTES)


def spelled(secret: bytes) -> str:
    """Return a secret as receivers are given it."""
    return "whsec_" + base64.b64encode(secret).decode()


def body_of(letter: Letter) -> bytes:
    """Return what is sent: the same bytes in every attempt."""
    member = None
    if letter.member_id is not None:
        member = {"id": to_global_id("Member", letter.member_id), "externalId": letter.external_id}
    cursor = encode_cursor(MESSAGES, (letter.position,))
    return orjson.dumps(
        {
            "type": letter.topic,
            "timestamp": letter.created_at,
            "data": {**letter.payload, "member": member, "cursor": cursor},
        },
        option=orjson.OPT_UTC_Z,
    )


def headers_of(letter: Letter, body: bytes, secret: bytes, now: datetime) -> list[tuple[bytes, bytes]]:
    """Return the three headers by which a receiver knows a message, and that it is ours.

    Args:
        now: the time of the attempt, in UTC.
    """
    name = to_global_id("Message", letter.id)
    signature = Signer(secret).sign(name, now, body.decode())
    return [
        (b"webhook-id", name.encode()),
        (b"webhook-timestamp", str(int(now.timestamp())).encode()),
        (b"webhook-signature", signature.encode()),
    ]
