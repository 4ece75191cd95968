"""Reservations that ran out, released once for each request, before it reads what they change."""

from uuid import UUID

from app.redemptions.expiring import release_due
from graphql_schema.context import Context


async def released(context: Context) -> None:
    """Release what ran out in the caller's program, once for all resolvers of a request.

    Before the first balance, redemption, reward or eligibility is read: so all parts of one answer agree,
    whoever releases. Each field of a mutation does it again, for its own answer.
    """
    if (program_id := context.principal.program_id) is not None:
        await context.loader(_release).load(program_id)


async def _release(context: Context, keys: list[UUID]) -> list[int]:
    return [await release_due(program_id) for program_id in keys]
