"""Programs and members for tests, each in a world of its own."""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from app.members.inputs import NewMember
from app.members.reads import MemberRow
from app.members.service import enroll_member
from app.programs.inputs import NewProgram
from app.programs.models import Program
from app.programs.service import create_program

HARBOUR = NewProgram(slug="harbour", name="Harbour Coffee", currency="EUR", timezone="Europe/Berlin")


def new_program(**fields: Any) -> NewProgram:
    """Return a program that nobody has yet, but for what the test is about."""
    return replace(HARBOUR, **{"slug": f"harbour-{uuid4().hex[:12]}", **fields})


async def make_program(**fields: Any) -> Program:
    program, _ = await create_program(new_program(**fields))
    return program


async def make_member(program_id: UUID, **fields: Any) -> MemberRow:
    member, _ = await enroll_member(program_id, NewMember(**{"external_id": uuid4().hex, **fields}))
    return member
