"""What members of the demo program have to do with one another: friends they bring, points they send."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from app.earning.events import Incoming
from app.earning.recording import record_now
from app.imports.purchases import Order, OrderLine
from app.members.inputs import NewMember
from app.members.reads import MemberRef, MemberRow
from app.members.service import enroll_members
from app.programs.models import Program
from app.referrals.working import credit_members
from app.transfers.arriving import arrive_members
from app.transfers.sending import Sending, send

SENT_POINTS = 60

_BOUGHT = (
    OrderLine("TEA-EARL-100", "Earl Grey, 100 g", "Tea", "Nordhaus", Decimal(2), Decimal("15.80")),
    OrderLine("BIS-ALMOND", "Almond biscuits", "Sweets", "Rosa", Decimal(1), Decimal("5.60")),
)


def _friends(program: Program, referrer: MemberRow) -> Sequence[NewMember]:
    """Return who gave a member's code: one who buys, one who has not yet, one who is that member again."""
    joined_at = program.created_at - timedelta(days=9)
    code = referrer.referral_code
    return (
        NewMember(
            external_id="demo-friend-1",
            name="Lotte Nyström",
            email="lotte@example.com",
            joined_at=joined_at,
            referral_code=code,
        ),
        NewMember(
            external_id="demo-friend-2",
            name="Teo Marchetti",
            email="teo@example.com",
            joined_at=joined_at + timedelta(days=4),
            referral_code=code,
        ),
        NewMember(
            external_id="demo-friend-3",
            name=referrer.name,
            # The referrer's own number, as it is dialled at home.
            phone=(referrer.phone or "").replace("+49 ", "0"),
            locale="de-DE",
            joined_at=joined_at + timedelta(days=6),
            referral_code=code,
        ),
    )


async def fill_friends(program: Program, referrer: MemberRow) -> list[UUID]:
    """Let friends of a member join and one of them buy, send that one points, and return the friends' ids.

    What is a worker's to do is done here as well, by the same functions: a demo is complete without one.
    Safe to be broken off and begun again, like all of the demo.

    Args:
        referrer: with a phone number of Germany.
    """
    outcomes = await enroll_members(program.id, _friends(program, referrer))
    friends = [outcome.member for outcome in outcomes if outcome.member is not None]
    assert len(friends) == len(outcomes), outcomes
    buyer = MemberRef(id=friends[0].id)
    order = Order(
        f"{friends[0].external_id}-1",
        friends[0].external_id,
        program.created_at - timedelta(days=7),
        list(_BOUGHT),
        [],
    )
    await record_now(program.id, [Incoming(order, buyer)])
    ids = [friend.id for friend in friends]
    await credit_members(program.id, ids, None)
    await send(program.id, Sending(MemberRef(id=referrer.id), buyer, SENT_POINTS, "demo-present"))
    await arrive_members(program.id, ids, None)
    return ids
