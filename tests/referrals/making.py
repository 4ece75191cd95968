"""Makers of what referrals need: rules, friends, and a look at what became of them."""

from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from app.database import connection
from app.earning.events import Incoming
from app.earning.recording import record_now
from app.earning.refunding import EventRef, refund_purchase
from app.earning.rule_service import create_rule
from app.earning.rules import EventKind, ReferralTrigger, Rule, RuleDefinition, RuleStatus
from app.ids import new_id
from app.ledger.verify import Finding
from app.members.inputs import MemberStatus
from app.members.reads import MemberRow
from app.members.service import update_member
from app.programs.models import Program
from tests.helpers import by_id, find_differences, new_member, purchase, work_all

JOINING = ReferralTrigger.REGISTRATION
BUYING = ReferralTrigger.FIRST_PURCHASE


async def friend_rule(
    program: Program,
    fixed: int | None = 100,
    referred: int | None = 30,
    trigger: ReferralTrigger = JOINING,
    **definition: Any,
) -> Rule:
    """Set up a rule that pays for friends."""
    fields = {"name": "Friends", "fixed_points": fixed, "referred_points": referred} | definition
    rule = RuleDefinition(trigger=EventKind.REFERRAL, referral_trigger=trigger, **fields)
    return await create_rule(program.id, rule, RuleStatus.ACTIVE)


async def new_friend(program: Program, of: MemberRow, **profile: Any) -> MemberRow:
    """Enrol somebody with the code of another."""
    return await new_member(program, referral_code=of.referral_code, **profile)


async def buy(program: Program, member: MemberRow, amount: str = "10", **fields: Any) -> UUID:
    """Record a purchase now; return its id."""
    (recorded,) = await record_now(program.id, [Incoming(purchase(Decimal(amount), **fields), by_id(member))])
    assert recorded.event
    return recorded.event.id


async def refund(program: Program, event_id: UUID, amount: str | None = None) -> None:
    """Refund a purchase: all of it, unless told otherwise."""
    part = None if amount is None else Decimal(amount)
    await refund_purchase(program.id, EventRef(id=event_id), f"refund-{new_id()}", amount=part)


async def suspend(program: Program, member: MemberRow) -> None:
    """Suspend a member."""
    await update_member(program.id, by_id(member), {"status": MemberStatus.SUSPENDED})


class Seen(NamedTuple):
    """What has become of a referral: its status, why, and the points that both sides have kept."""

    status: str
    rejection: str | None
    referrer: int
    referred: int


PENDING = Seen("PENDING", None, 0, 0)


def credited(referrer: int, referred: int) -> Seen:
    return Seen("CREDITED", None, referrer, referred)


def rejected(rejection: str) -> Seen:
    return Seen("REJECTED", rejection, 0, 0)


async def seen(member: MemberRow) -> Seen:
    """Return what has become of the referral through which a member came, in the books."""
    async with connection() as sql:
        row = await sql.fetchrow(
            """WITH given AS (SELECT event_id, remaining AS points FROM award
                UNION ALL SELECT event_id, written_off FROM refund_award)
            SELECT r.status, r.rejection,
                (SELECT coalesce(sum(a.points), 0)::int FROM referral_credit c
                    JOIN given a ON a.event_id = c.referrer_event_id WHERE c.referral_id = r.id) AS referrer,
                (SELECT coalesce(sum(a.points), 0)::int FROM referral_credit c
                    JOIN given a ON a.event_id = c.referred_event_id WHERE c.referral_id = r.id) AS referred
            FROM referral r WHERE r.referred_id = $1 AND r.referrer_id <> r.referred_id""",
            member.id,
        )
    return Seen(*row)


async def worked(program: Program, member: MemberRow) -> Seen:
    """Let the workers do everything, prove the books, and return what has become of a member's referral."""
    await work_all(program)
    assert await differences(program) == []
    return await seen(member)


async def differences(program: Program) -> list[Finding]:
    return await find_differences(program.id)


async def available(member: MemberRow) -> int:
    async with connection() as sql:
        points: int = await sql.fetchval("SELECT available FROM account WHERE id = $1", member.id)
    return points


async def told(member: MemberRow, start: str = "referral.") -> list[tuple[str, Any]]:
    """Return the messages of a member, of topics that begin so, in their order."""
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT topic, payload FROM message WHERE member_id = $1 AND starts_with(topic, $2) ORDER BY n",
            member.id,
            start,
        )
    return [(row["topic"], row["payload"]) for row in rows]
