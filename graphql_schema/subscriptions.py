"""What can be watched: each subscription tells the state at once, and again when it has changed."""

from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import UUID

import strawberry

from app.errors import ErrorCode, refuse
from app.jobs.jobs import JobStatus
from app.live.sources import BALANCES, JOBS, TIERS
from app.members import reads
from graphql_schema.access import object_type, resolver
from graphql_schema.inputs import MemberRef
from graphql_schema.jobs import JOB_READ, Job
from graphql_schema.ledger import Balance
from graphql_schema.members import READ
from graphql_schema.nodes import Info, key_of, program_of
from graphql_schema.tier_progress import TierProgress

_WHOSE = "Whose. A member's token leaves it out, for it sees its own; an API key has to say it."
Whose = Annotated[MemberRef | None, strawberry.argument(description=_WHOSE)]


async def _whose(info: Info, member: MemberRef | None) -> UUID:
    """Return the id of the member that is to be watched.

    Raises:
        Refused: INVALID for a key that names nobody, NOT_FOUND for whom the caller may not see.
    """
    own = info.context.principal.member_id
    if member is None:
        if own is None:
            raise refuse(ErrorCode.INVALID, "An API key has to say whose: name a member.", "member")
        return own
    row = await reads.get_member(program_of(info), member.value())
    if row is None or own not in (None, row.id):
        raise refuse(ErrorCode.NOT_FOUND, "There is no such member.", "member")
    return row.id


@object_type(description="What can be watched, over graphql-transport-ws at the address of the API.")
class Subscription:
    @resolver(
        description="The member's balance, at once and after every change. Changes that come together may"
        " be told together; the last state is always told.",
        scope=READ,
        member=True,
        is_subscription=True,
    )
    async def balance(self, info: Info, member: Whose = None) -> AsyncGenerator[Balance, None]:
        member_id = await _whose(info, member)
        with info.context.services.hub.watch(BALANCES, program_of(info), member_id) as watch:
            while (balance := await watch.next()) is not None:
                yield Balance.of(balance)

    @resolver(
        description="The member's tier and what is missing for the next one, at once and after every change:"
        " a new tier within moments, what else counts within ten seconds.",
        scope=READ,
        member=True,
        is_subscription=True,
    )
    async def tier(self, info: Info, member: Whose = None) -> AsyncGenerator[TierProgress, None]:
        member_id = await _whose(info, member)
        with info.context.services.hub.watch(TIERS, program_of(info), member_id) as watch:
            while (progress := await watch.next()) is not None:
                yield TierProgress.of(progress)

    @resolver(description="Progress of a job until it ends.", scope=JOB_READ, is_subscription=True)
    async def job(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The job's id.")]
    ) -> AsyncGenerator[Job, None]:
        with info.context.services.hub.watch(JOBS, program_of(info), key_of(id, "Job")) as watch:
            job = await watch.next()
            if job is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such job.", "id")
            while job is not None:
                yield Job.of(job)
                if job.status in (JobStatus.SUCCEEDED, JobStatus.FAILED):
                    return
                job = await watch.next()
