"""Factories that tests share: programs, members, rules and purchases, made by the real services."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from app import clock, days
from app.database import connection, transaction
from app.earning.processing import earn_batch
from app.earning.rule_service import create_rule
from app.earning.rules import EventKind, PointsPerAmount, Rule, RuleDefinition, RuleStatus
from app.ids import key_id, new_id
from app.jobs.running import WORK, run_jobs
from app.ledger.expiry import ExpiryKind, ExpiryPolicy
from app.ledger.operations import EntryKind, Operation, Outcome
from app.ledger.service import apply, terms
from app.ledger.verify import Finding, verify
from app.members.inputs import NewMember
from app.members.reads import MemberRef, MemberRow
from app.members.service import enroll_member
from app.outbox.consuming import consume
from app.outbox.service import Queue, stamp
from app.programs.inputs import NewProgram
from app.programs.models import Program
from app.programs.policies import load_policy
from app.programs.policy import ProgramPolicy
from app.programs.service import create_program

_serial = count(1)


def set_now(monkeypatch: pytest.MonkeyPatch, *moment: int, tz: Any = UTC) -> datetime:
    """Stop the clock at a moment, given as the arguments of `datetime`, and return it in UTC."""
    instant = datetime(*moment, tzinfo=tz).astimezone(UTC)
    monkeypatch.setattr(clock, "now", lambda: instant)
    return instant


def rolling(months: int) -> ExpiryPolicy:
    """Return the policy by which points live so many months."""
    return ExpiryPolicy(ExpiryKind.ROLLING_MONTHS, months)


def inactivity(months: int) -> ExpiryPolicy:
    """Return the policy by which points live until so many months pass without earn or spend."""
    return ExpiryPolicy(ExpiryKind.INACTIVITY_MONTHS, months)


END_OF_YEAR = ExpiryPolicy(ExpiryKind.END_OF_YEAR)


async def new_program(**settings: Any) -> Program:
    """Make a program in which nothing else happens; EUR and UTC unless the settings say otherwise."""
    slug = f"p-{new_id().hex}"
    program, _ = await create_program(
        NewProgram(**({"slug": slug, "name": slug, "currency": "EUR", "timezone": "UTC"} | settings))
    )
    return program


async def new_member(program: Program, **profile: Any) -> MemberRow:
    """Enrol a member with an empty account."""
    member, replayed = await enroll_member(
        program.id, NewMember(**({"external_id": f"member-{next(_serial)}"} | profile))
    )
    assert not replayed
    return member


async def new_rule(
    program: Program,
    points: Decimal | str | int = 1,
    per: Decimal | str | int = 1,
    *,
    fixed: int | None = None,
    status: RuleStatus = RuleStatus.ACTIVE,
    **definition: Any,
) -> Rule:
    """Set up a purchase rule: so many points for every so much money, or fixed points."""
    rate = PointsPerAmount(Decimal(points), Decimal(per)) if fixed is None else None
    fields = {"name": f"Rule {next(_serial)}", "trigger": EventKind.PURCHASE} | definition
    return await create_rule(
        program.id, RuleDefinition(points_per_amount=rate, fixed_points=fixed, **fields), status
    )


@dataclass
class Line:
    """One line of a purchase, as it comes in."""

    sku: str
    amount: Decimal
    quantity: Decimal | None = None
    name: str | None = None
    category: str | None = None
    brand: str | None = None


@dataclass
class Purchase:
    """A purchase, as it comes in."""

    external_id: str
    occurred_at: datetime | None = None
    amount: Decimal | None = None
    currency: str | None = None
    lines: Sequence[Line] | None = None
    data: Any = None


def purchase(
    amount: Decimal | str | int | None = 10, external_id: str | None = None, **fields: Any
) -> Purchase:
    """Return a purchase that nobody has sent before."""
    return Purchase(
        f"purchase-{next(_serial)}" if external_id is None else external_id,
        amount=None if amount is None else Decimal(amount),
        **fields,
    )


def by_id(member: MemberRow) -> MemberRef:
    """Return the reference that names a member by id."""
    return MemberRef(id=member.id)


async def policy_of(program: Program) -> ProgramPolicy:
    """Return a program's policy as it is now."""
    async with connection() as sql:
        return await load_policy(sql, program.id)


async def post(
    program: Program,
    member: MemberRow,
    kind: EntryKind,
    amount: int,
    *,
    reference: int | None = None,
    available_on: date | None = None,
    key: str | None = None,
) -> Outcome:
    """Apply one ledger operation now, by the program's policy, with a key of its own."""
    now = clock.now()
    policy = await policy_of(program)
    gives = kind is EntryKind.EARN or (kind is EntryKind.ADJUST and amount > 0)
    first = available_on or days.local_date(now, policy.zone)
    operation = Operation(
        account_id=member.id,
        kind=kind,
        amount=amount,
        key=key_id(key) if key else new_id(),
        request_hash=amount,
        occurred_at=now,
        reference=reference,
        matures_on=first if gives else None,
        expires_on=policy.expiry.last_day(first) if gives else None,
    )
    async with transaction() as sql:
        (outcome,) = await apply(sql, terms(policy, now), [operation])
    return outcome


async def find_differences(program_id: UUID | None) -> list[Finding]:
    """Return everything that `verify` finds wrong with a program."""
    return [finding async for _, findings in verify(program_id) for finding in findings]


async def stamp_all(program: Program, queue: Queue = Queue.EARNING) -> list[UUID]:
    """Put all work that waits into batches; return the batches of one program and queue, oldest first."""
    while await stamp(list(Queue), clock.now()):
        pass
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT batch FROM outbox WHERE program_id = $1 AND queue = $2 GROUP BY batch ORDER BY min(id)",
            program.id,
            queue,
        )
    return [row["batch"] for row in rows]


async def earn_all(program: Program) -> int:
    """Do what the workers do about events, until none waits; return how many events that were."""
    return sum([await earn_batch(each) for each in await stamp_all(program)])


async def work_all(program: Program) -> None:
    """Do what the workers do, on all queues, until nothing of a program waits."""
    async with asyncio.timeout(60):
        while await _work_once(program):
            pass


async def _work_once(program: Program) -> bool:
    found = False
    for queue in Queue:
        for batch in await stamp_all(program, queue):
            found = True
            await consume(queue, batch, run_jobs if queue is Queue.JOBS else WORK[queue])
    return found
