"""What points are worth at the checkout: the most of an order that a member can pay with them."""

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from app.catalog.eligibility import NOTHING_HAD, Verdict, errors_of_member, judge
from app.catalog.reads import CatalogFilter, list_rewards
from app.catalog.rewards import Reward, RewardKind, money_for
from app.catalog.service import MAX_REWARDS
from app.database import connection
from app.errors import ErrorCode, UserError
from app.members.reads import MemberRef, find_states
from app.money import MINOR_DIGITS
from app.paging import Page
from app.redemptions.expiring import release_due
from app.redemptions.inputs import check_order_amount
from app.redemptions.standings import Members, load_had, load_members
from app.validation import Problems

_DISCOUNTS = CatalogFilter(kinds=(RewardKind.DISCOUNT,), on_display=True)
_ALL = Page(size=MAX_REWARDS)


class Quote(NamedTuple):
    """The most of an order that can be paid with points.

    Attributes:
        points: to spend; 0 when nothing can be paid with points.
        amount: what they take off the order, in the program's currency.
        reward: the DISCOUNT to redeem for that; None when there is none.
        member_id: who can redeem it; None where errors say why not.
        errors: what is wrong with the question, or keeps the member from redeeming anything.
    """

    points: int = 0
    amount: Decimal = Decimal(0)
    reward: Reward | None = None
    member_id: UUID | None = None
    errors: tuple[UserError, ...] = ()


async def quote(
    program_id: UUID, ref: MemberRef, order_amount: Decimal, *, caller: UUID | None = None
) -> Quote:
    """Return the most of an order that a member can pay with points now, with one reward.

    Redeeming just that is accepted as long as nothing happens in between, and takes off just that amount.
    Of several rewards it is the one that takes the most off, then the one that costs the fewest points,
    then the oldest. Reservations that ran out are released first.

    Args:
        order_amount: what the order comes to, in the program's currency: 0 to 1,000,000,000,000, with at
            most 6 decimals.
        caller: the member whose own token asks, for whom there is no other member.

    Raises:
        Unavailable: the database stayed away or busy.
    """
    problems = Problems()
    check_order_amount(order_amount, problems)
    async with connection() as sql:
        (state,) = await find_states(sql, program_id, [ref])
    if state is None or caller not in (None, state.id):
        problems.add("There is no such member.", "member", ref.field, code=ErrorCode.NOT_FOUND)
    if problems.errors:
        return Quote(errors=problems.errors)
    assert state is not None
    await release_due(program_id)
    members = await load_members(program_id, [state.id])
    errors = errors_of_member(members.standings[state.id])
    if errors:
        return Quote(errors=tuple(errors))
    offers = await _offers(program_id, members, state.id, order_amount)
    digits = MINOR_DIGITS[members.grounds.policy.currency]
    return _best(offers, Quote(amount=Decimal(0).scaleb(-digits), member_id=state.id))


class _Offer(NamedTuple):
    """What one reward gives for an order, and what stands against it."""

    reward: Reward
    points: int
    amount: Decimal
    verdict: Verdict


async def _offers(program_id: UUID, members: Members, member_id: UUID, order_amount: Decimal) -> list[_Offer]:
    """Return what each reward gives that takes money off orders, the oldest first."""
    policy, standing = members.grounds.policy, members.standings[member_id]
    digits = MINOR_DIGITS[policy.currency]
    rewards = (await list_rewards(program_id, _ALL, members.moment, _DISCOUNTS)).items
    pairs = [(member_id, reward.id) for reward in rewards if reward.limits.count_members]
    async with connection() as sql:
        had = await load_had(sql, policy, pairs, members.moment)
    offers = []
    for reward in rewards:
        points = min(standing.available, reward.most_points(order_amount, digits))
        if points < reward.least_points:
            continue
        assert reward.points_per_currency_unit is not None
        most = reward.most_money(order_amount, digits)
        amount = money_for(points, reward.points_per_currency_unit, digits, most)
        so_far = had.get((member_id, reward.id), NOTHING_HAD)
        verdict = judge(reward, standing, so_far, members.moment, points=points)
        offers.append(_Offer(reward, points, amount, verdict))
    return offers


def _best(offers: Iterable[_Offer], nothing: Quote) -> Quote:
    """Return the offer that takes the most off, for the fewest points, of the oldest reward."""
    possible = [offer for offer in offers if offer.verdict.redeemable]
    if not possible:
        return nothing
    best = max(possible, key=lambda offer: (offer.amount, -offer.points))
    return nothing._replace(points=best.points, amount=best.amount, reward=best.reward)
