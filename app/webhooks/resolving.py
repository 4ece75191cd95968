"""Looking names up: on threads of their own, so that a slow name server holds up nobody else."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Returns the IP addresses of a host, the best first. Raises OSError when there are none."""

_AT_ONCE = 32


class Resolver:
    """Asks the system's resolver, up to 32 names at once.

    Not on the loop's own threads, of which uvloop has two for this: asyncpg looks names up there as well.
    They are daemons, because nothing can end a lookup, and a process that stops does not wait for one.
    """

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the IP addresses of a host; whoever waits bounds the wait.

        Raises:
            OSError: there is no such host, or nobody who knows it.
        """
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def done(found: list[str] | None, error: Exception | None) -> None:
            self._slots.release()
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found or [])

        def look_up() -> None:
            found, error = None, None
            try:
                rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                found = list(dict.fromkeys(str(row[4][0]) for row in rows))
            except (OSError, UnicodeError) as failed:
                error = failed if isinstance(failed, OSError) else OSError(str(failed))
            if not loop.is_closed():
                loop.call_soon_threadsafe(done, found, error)

        threading.Thread(target=look_up, name="laurel-resolve", daemon=True).start()
        return await answer
