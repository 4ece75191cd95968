"""The servers that the tests run on: one PostgreSQL and one Valkey for a whole run of pytest."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from app.embedded import EmbeddedPostgres, EmbeddedRedis
from app.migrate import migrate
from app.settings import Settings

TEMPLATE = "laurel_template"
_PLACE = "{database}"


@dataclass(frozen=True)
class Addresses:
    """Where the servers are; plain texts, so that they travel to pytest's worker processes."""

    postgres: str
    redis: str

    def database_url(self, database: str) -> str:
        """Return the address of one database."""
        return self.postgres.replace(_PLACE, database)

    def redis_url(self, number: int) -> str:
        """Return the address of one of Valkey's numbered databases."""
        return f"{self.redis}?db={number}"


@contextmanager
def running_servers() -> Iterator[Addresses]:
    """Start both servers in a temporary folder, with a migrated template database; stop them at the end.

    They end with this process even if it is killed.
    """
    folder = Path(tempfile.mkdtemp(prefix="laurel-tests-"))
    try:
        # Nobody needs this data after a power cut. Tests of durability start servers of their own.
        with EmbeddedPostgres(folder, fsync=False) as postgres, EmbeddedRedis(folder) as redis:
            addresses = Addresses(postgres.url("PLACE").replace("/PLACE?", f"/{_PLACE}?"), redis.url())
            asyncio.run(migrate(Settings(database_url=addresses.database_url(TEMPLATE))))
            yield addresses
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def make_database(addresses: Addresses, database: str) -> str:
    """Make a fresh copy of the template and return its address."""
    connection = await asyncpg.connect(addresses.database_url("postgres"))
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        await connection.execute(f'CREATE DATABASE "{database}" TEMPLATE "{TEMPLATE}"')
    finally:
        await connection.close()
    return addresses.database_url(database)
