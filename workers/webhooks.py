"""Delivering webhooks: a loop of the worker, next to the one that numbers the feed."""

import asyncio

from app.catalog.vault import Vault
from app.database import TRANSIENT
from app.errors import Unavailable
from app.keyring import codes_key
from app.settings import settings
from app.webhooks.delivering import Deliverer
from app.webhooks.sending import Sender

_IDLE_SECONDS = 0.1
_IDLE_TIMES = 5
"""Looking takes at most a sixth of the time, however many webhooks there are."""

_AWAY_SECONDS = 1.0


async def deliver_forever() -> None:
    """Look for webhooks that have something to be sent, up to ten times a second, until cancelled.

    When it is cancelled, requests that are under way get some seconds, and the leases are given back.
    """
    own = settings()
    vault = Vault(codes_key(own))
    loop = asyncio.get_running_loop()
    async with (
        Sender(allow_private=own.allow_private_webhooks) as sender,
        Deliverer(sender, vault) as deliverer,
    ):
        while True:
            began = loop.time()
            try:
                begun = await deliverer.begin()
            except (*TRANSIENT, Unavailable):
                # What is being delivered goes on meanwhile; the database's own line says why.
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            if not begun:
                await asyncio.sleep(max(_IDLE_SECONDS, _IDLE_TIMES * (loop.time() - began)))
