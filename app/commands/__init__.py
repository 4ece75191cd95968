"""The commands of `laurel`, one module each, and what they share.

A module has `app = typer.Typer(...)` and imports what its commands need inside them, so that
`laurel --help` answers at once.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.settings import Settings

SUPERVISOR_VARIABLE = "LAUREL_SUPERVISOR_PID"
"""Set by the supervisor for its children: the process without which they have no reason to live."""


def prepared() -> "Settings":
    """Return this process's settings, with its logs configured and its fate tied to its supervisor's.

    Raises:
        pydantic.ValidationError: a setting is something that it cannot be.
    """
    from app import logs
    from app.embedded.process import die_with_parent
    from app.settings import settings

    if supervisor := os.environ.get(SUPERVISOR_VARIABLE):
        die_with_parent(int(supervisor))
    known = settings()
    logs.configure(known)
    return known


def use(resolved: "Settings") -> None:
    """Make settings those of this process and of the processes that it starts."""
    from app.settings import settings

    for name in ("database_url", "redis_url"):
        if value := getattr(resolved, name):
            os.environ[f"LAUREL_{name.upper()}"] = value
    settings.cache_clear()


@contextmanager
def ready_servers(*, redis: bool = True) -> "Iterator[Settings]":
    """Lend the servers to a command that runs for a moment, with a database that it can use.

    They are those of DATABASE_URL and REDIS_URL, else those of the running `laurel run`, else the
    embedded ones, started for this command. A database of Laurel's own is migrated first; one that
    DATABASE_URL names is left as it is: there `laurel migrate` is somebody's decision.

    Args:
        redis: False for a command that needs the database only.

    Raises:
        StartError: a server does not start, or another command has been using the data folder for long.
    """
    import asyncio

    from app.embedded import command_servers

    known = prepared()
    with command_servers(known, redis=redis) as resolved:
        use(resolved)
        if not known.database_url:
            from app.migrate import migrate

            asyncio.run(migrate(resolved))
        yield resolved
