"""What tests of Laurel's own events share: rules for them, and what was recorded of a member."""

from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple

from app.database import connection
from app.earning.events import Event
from app.earning.reads import list_events
from app.earning.rules import Action, EventKind, Rule
from app.ledger.reads import get_balances
from app.members.reads import MemberRow
from app.paging import Page
from app.programs.models import Program
from tests.helpers import new_rule, policy_of

WHOLE = {"phone": "+49 30 5550 1234", "name": "Ada Lovelace", "birthday": date(1985, 12, 10)}
"""A whole profile but for the e-mail address, which is everybody's own."""


class Told(NamedTuple):
    """An event as a test compares it: its id without the member's, and its points."""

    name: str
    points: int


async def action_rule(program: Program, action: Action | str, points: int = 10, **fields: Any) -> Rule:
    """Set up a rule that pays for an action."""
    return await new_rule(program, fixed=points, trigger=EventKind.ACTION, action=str(action), **fields)


async def own_events(program: Program, member: MemberRow) -> Sequence[Event]:
    """Return what was recorded of a member, the first to have happened first."""
    (result,) = await list_events(program.id, [member.id], Page(size=100))
    return result.items[::-1]


async def told(program: Program, member: MemberRow) -> list[Told]:
    """Return what was recorded of a member and what it earned, the first to have happened first."""
    found = []
    for event in await own_events(program, member):
        assert event.external_id.startswith("laurel:")
        assert event.external_id.endswith(f":{member.id.hex}")
        assert event.kind is EventKind.ACTION
        found.append(Told(event.external_id.removeprefix("laurel:")[: -len(member.id.hex) - 1], event.points))
    return found


async def points_of(program: Program, member: MemberRow) -> int:
    """Return what a member has, pending points included."""
    (balance,) = await get_balances(await policy_of(program), [member.id])
    assert balance
    return balance.available + balance.pending


async def break_books(member: MemberRow) -> None:
    """Give an idle account points that no lot holds; they are due to expire, and cannot."""
    await _account(member, "available = 5, lifetime_earned = 5, next_due = '2000-01-01'")


async def mend_books(member: MemberRow) -> None:
    await _account(member, "available = 0, lifetime_earned = 0, next_due = 'infinity'")


async def _account(member: MemberRow, change: str) -> None:
    async with connection() as sql:
        await sql.execute(f"UPDATE account SET {change} WHERE id = $1", member.id)
