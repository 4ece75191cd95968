"""Sending once more what was given up, for a person who has put right what was wrong."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from app import clock
from app.catalog.vault import Vault
from app.keyring import codes_key
from app.settings import settings
from app.webhooks.deliveries import find_letter
from app.webhooks.letters import body_of, headers_of
from app.webhooks.sending import Sender


class NotDelivered(Exception):
    """The message was not taken this time either; the text says why."""


async def deliver_again(program_id: UUID, payload: Mapping[str, Any], sender: Sender | None = None) -> None:
    """Send the message of a failed job of the queue "webhooks" once, to where its webhook leads now.

    It goes out although later messages of the member have been delivered, and although the webhook may be
    switched off.

    Args:
        payload: that of the failed job: `webhook`, its id, and `position`, the message's number in the feed.
        sender: one of its own when left out.

    Raises:
        NotDelivered: the receiver did not take it, or there is no such webhook any more.
        SealBroken: the key of the settings is another than the one that sealed the webhook's secret.
        Unavailable: the database is away or busy; nothing was sent.
    """
    found = await find_letter(program_id, UUID(payload["webhook"]), payload["position"])
    if found is None:
        raise NotDelivered("The webhook or the message is not there any more.")
    letter, url, sealed = found
    secret = Vault(codes_key(settings())).open(sealed, UUID(payload["webhook"]))
    body = body_of(letter)
    headers = headers_of(letter, body, secret, clock.now())
    if sender is None:
        async with Sender(allow_private=settings().allow_private_webhooks) as own:
            outcome = await own.send(url, headers, body)
    else:
        outcome = await sender.send(url, headers, body)
    if outcome.error is not None:
        raise NotDelivered(outcome.error)
