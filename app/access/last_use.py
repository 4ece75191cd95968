"""When each API key was last used: noted without waiting, written now and then."""

import asyncio
import time
from datetime import datetime
from typing import Self
from uuid import UUID

import structlog

from app import clock
from app.access.principal import Principal
from app.database import connection

_NOTE_SECONDS = 60
_WRITE_SECONDS = 5.0
_MOST = 10_000

log = structlog.stdlib.get_logger("laurel.access")

# A row that somebody else is changing is left for the next minute: nobody waits for this statement.
_WRITE = """
UPDATE api_key k SET last_used_at = used.at
FROM (
    SELECT old.id, t.at
    FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS t(program_id, id, at)
    JOIN api_key old ON old.id = t.id AND old.program_id = t.program_id
    WHERE old.last_used_at IS NULL OR old.last_used_at <= t.at - interval '55 seconds'
    ORDER BY old.id
    FOR NO KEY UPDATE OF old SKIP LOCKED
) AS used
WHERE k.id = used.id
"""


class LastUse:
    """Remembers which keys were used, and writes it every five seconds, each key once a minute at most."""

    def __init__(self) -> None:
        self._noted: dict[str, float] = {}
        self._waiting: dict[str, tuple[UUID, datetime]] = {}
        self._writer: asyncio.Task[None] | None = None

    def note(self, principal: Principal) -> None:
        """Remember that a key was used just now; with more than 10,000 waiting, some are let go."""
        moment = time.monotonic()
        if moment - self._noted.get(principal.credential, -_NOTE_SECONDS) < _NOTE_SECONDS:
            return
        assert principal.program_id
        if len(self._noted) >= _MOST:
            self._noted.clear()
        if len(self._waiting) < _MOST:
            self._noted[principal.credential] = moment
            self._waiting[principal.credential] = principal.program_id, clock.now()

    async def write(self) -> None:
        """Write what was noted. An error is logged and goes no further: the next use notes it again."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        programs, moments = zip(*waiting.values(), strict=True)
        keys = [UUID(credential.removeprefix("key:")) for credential in waiting]
        try:
            async with connection() as sql:
                await sql.execute(_WRITE, list(programs), keys, list(moments))
        except Exception as error:
            for credential in waiting:
                self._noted.pop(credential, None)
            log.warning("access.last_use_not_written", keys=len(waiting), error=repr(error))

    async def _write_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_SECONDS)
            await self.write()

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write_again_and_again())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        await self.write()
