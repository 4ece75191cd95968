"""Numbering messages as they appear; whoever reads the feed does it for themselves."""

import asyncio

from app.messages.feed import SLICE, number_waiting

_IDLE_SECONDS = 0.1


async def number_forever() -> None:
    """Number what waits, ten times a second while there is little, until cancelled.

    Raises:
        Unavailable: the database is away or busy.
    """
    while True:
        numbered = await number_waiting()
        # A pause gathers what comes one by one: a slice of a few costs as much as one of many.
        await asyncio.sleep(_IDLE_SECONDS if numbered < SLICE else 0)
