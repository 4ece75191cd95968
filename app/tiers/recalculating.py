"""Recalculating a whole program's tiers."""

import asyncpg

from app.jobs.jobs import Job


async def recalculate(sql: asyncpg.Connection, job: Job) -> bool:
    """Do the next slice."""
    raise NotImplementedError
