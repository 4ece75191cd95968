"""Whose tier changes."""

from uuid import UUID


async def evaluate_members(program_id: UUID, members: list[UUID], batch: UUID | None) -> int:
    """Look at the tiers of members."""
    raise NotImplementedError
