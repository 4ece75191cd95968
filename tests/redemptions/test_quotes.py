"""What points are worth at the checkout: redeeming the quote is accepted, and takes just what was quoted."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from app.catalog.rewards import Reward, RewardLimits, RewardStatus
from app.catalog.service import set_reward_status
from app.ids import new_id
from app.ledger.operations import EntryKind
from app.members.inputs import MemberStatus
from app.members.reads import MemberRef, MemberRow
from app.members.service import update_member
from app.money import MINOR_DIGITS
from app.programs.models import Program
from app.redemptions.quotes import Quote, quote
from app.redemptions.steps import cancel
from app.tiers.inputs import NewTier
from app.tiers.service import create_tier
from tests.helpers import by_id, new_member, new_program, post, set_now
from tests.redemptions.making import ask, balance_of, new_reward, redeemed, rich_member

CURRENCIES = ("JPY", "EUR", "KWD")
NOTHING = (0, Decimal(0), None)


async def quoted(program: Program, member: MemberRow, amount: Decimal | str | int) -> Quote:
    """Quote for a member of whom nothing stands against it."""
    said = await quote(program.id, by_id(member), Decimal(amount))
    assert said.errors == ()
    return said


def simple(said: Quote) -> tuple[int, str, str | None]:
    return said.points, f"{said.amount:f}", said.reward and said.reward.name


def wrong(said: Quote) -> list[tuple[str, tuple[str, ...] | None]]:
    """Return the codes and fields of the errors of a quote that is nothing."""
    assert (said.points, said.amount, said.reward) == NOTHING
    return [(error.code, error.field) for error in said.errors]


def limits(**said: Any) -> RewardLimits:
    return RewardLimits(**said)


async def test_quote_is_what_the_points_or_the_share_of_the_order_allow() -> None:
    program = await new_program()
    member = await rich_member(program, 1000)
    share = limits(max_share_of_order=Decimal("0.5"))
    await new_reward(program, "DISCOUNT", name="Half", limits=share)
    assert simple(await quoted(program, member, "7.77")) == (388, "3.88", "Half")
    assert simple(await quoted(program, member, 1_000)) == (1000, "10.00", "Half")
    assert simple(await quoted(program, member, 0)) == (0, "0.00", None)
    assert simple(await quoted(program, member, "0.019999")) == (0, "0.00", None)


async def test_quote_rounds_in_the_members_favour_and_never_beyond_the_order() -> None:
    program = await new_program()
    member = await rich_member(program, 10)
    await new_reward(program, "DISCOUNT", name="Dear", points_per_currency_unit="300")
    assert simple(await quoted(program, member, 100)) == (10, "0.04", "Dear")
    assert simple(await quoted(program, member, "0.03")) == (9, "0.03", "Dear")
    assert simple(await quoted(program, member, "0.02")) == (6, "0.02", "Dear")


async def test_fewest_points_have_to_be_there_and_to_fit_the_order() -> None:
    program = await new_program()
    member = await rich_member(program, 500)
    reward = await new_reward(program, "DISCOUNT", name="From 200", limits=limits(min_points=200))
    assert simple(await quoted(program, member, 2)) == (200, "2.00", "From 200")
    assert simple(await quoted(program, member, "1.99")) == (0, "0.00", None)
    await redeemed(program, member, reward, points=301, order_amount=Decimal(10))
    assert simple(await quoted(program, member, 100)) == (0, "0.00", None)


async def test_best_takes_the_most_off_then_costs_the_fewest_points_then_is_the_oldest() -> None:
    program = await new_program()
    member = await rich_member(program, 1000)
    await new_reward(program, "DISCOUNT", name="First", points_per_currency_unit="200")
    await new_reward(program, "DISCOUNT", name="Second", points_per_currency_unit="200")
    assert simple(await quoted(program, member, 4)) == (800, "4.00", "First")
    await new_reward(program, "DISCOUNT", name="Cheaper", points_per_currency_unit="100")
    await new_reward(program, "DISCOUNT", name="Cheaper too", points_per_currency_unit="100")
    assert simple(await quoted(program, member, 4)) == (400, "4.00", "Cheaper")
    share = limits(max_share_of_order=Decimal("0.1"))
    await new_reward(program, "DISCOUNT", name="A tenth", points_per_currency_unit="10", limits=share)
    assert simple(await quoted(program, member, 90)) == (1000, "10.00", "Cheaper")
    assert simple(await quoted(program, member, 200)) == (200, "20.00", "A tenth")


async def test_rewards_that_the_member_cannot_have_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = set_now(monkeypatch, 2999, 3, 15)
    program = await new_program()
    tier = await create_tier(program.id, NewTier(name="Gold", threshold=Decimal(1000)))
    member = await rich_member(program, 1000)
    for name, said in {
        "paused": {"status": RewardStatus.PAUSED},
        "draft": {"status": RewardStatus.DRAFT},
        "not yet": {"starts_at": now + timedelta(days=1)},
        "over": {"ends_at": now},
        "sold out": {"stock": 0},
        "for others": {"tiers": (tier.id,)},
    }.items():
        await new_reward(program, "DISCOUNT", name=name, points_per_currency_unit="1", **said)
    await new_reward(program, "PRODUCT", points=1)
    archived = await new_reward(program, "DISCOUNT", name="archived", points_per_currency_unit="1")
    await set_reward_status(program.id, archived.id, RewardStatus.ARCHIVED)
    assert simple(await quoted(program, member, 10)) == (0, "0.00", None)
    await new_reward(program, "DISCOUNT", name="All")
    assert simple(await quoted(program, member, 10)) == (1000, "10.00", "All")


@pytest.mark.parametrize("limit", ["max_per_member", "max_per_member_per_month", "max_total"])
async def test_limits_are_kept(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    set_now(monkeypatch, 2999, 3, 31, 23, 59)
    program = await new_program()
    member, other = await rich_member(program), await rich_member(program)
    once = await new_reward(program, "DISCOUNT", points_per_currency_unit="10", limits=limits(**{limit: 1}))
    again = await new_reward(program, "DISCOUNT")
    assert (await quoted(program, member, 5)).reward == once
    done = await redeemed(program, member, once, points=10)
    assert (await quoted(program, member, 5)).reward == again
    theirs = (await quoted(program, other, 5)).reward
    assert theirs
    assert theirs.id == (again.id if limit == "max_total" else once.id)
    set_now(monkeypatch, 2999, 4, 1)
    ours = (await quoted(program, member, 5)).reward
    assert ours
    assert ours.id == (once.id if limit == "max_per_member_per_month" else again.id)
    await cancel(program.id, done.id, "No", "key")
    assert (await quoted(program, member, 5)).reward == once


@pytest.mark.parametrize("scarce", [{"stock": 1}, {"limits": limits(max_total=1)}])
async def test_reservations_that_ran_out_hold_nothing_back(
    monkeypatch: pytest.MonkeyPatch, scarce: dict[str, Any]
) -> None:
    set_now(monkeypatch, 2999, 3, 1)
    program = await new_program()
    member, other = await rich_member(program), await rich_member(program)
    reward = await new_reward(program, "DISCOUNT", name="One", **scarce)
    await redeemed(program, other, reward, points=600, hold_seconds=60)
    assert simple(await quoted(program, member, 10)) == (0, "0.00", None)
    set_now(monkeypatch, 2999, 3, 1, 0, 1)
    assert simple(await quoted(program, member, 10)) == (1000, "10.00", "One")
    assert (await balance_of(program, other)).reserved == 0
    held = await redeemed(program, member, reward, points=700, hold_seconds=60)
    assert held.points == 700
    set_now(monkeypatch, 2999, 3, 1, 0, 2)
    assert simple(await quoted(program, member, 10)) == (1000, "10.00", "One")


async def test_members_who_redeem_nothing_hear_what_redeeming_says() -> None:
    program = await new_program(debt_limit=1000)
    reward = await new_reward(program, "DISCOUNT")
    suspended = await rich_member(program)
    await update_member(program.id, by_id(suspended), {"status": MemberStatus.SUSPENDED})
    indebted = await rich_member(program, 0)
    earned = await post(program, indebted, EntryKind.EARN, 70)
    await redeemed(program, indebted, reward, points=70)
    await post(program, indebted, EntryKind.CLAWBACK, 70, reference=earned.sequence)
    for member in (suspended, indebted):
        said = await quote(program.id, by_id(member), Decimal(10))
        assert wrong(said) == [("NOT_ELIGIBLE", ("member",))]
        taken = await ask(program, member, reward, points=1)
        assert said.errors[0] in taken.errors
    assert "suspended" in (await quote(program.id, by_id(suspended), Decimal(1))).errors[0].message
    assert "owes 70 points" in (await quote(program.id, by_id(indebted), Decimal(1))).errors[0].message


async def test_what_is_wrong_with_the_question_is_told_at_once() -> None:
    program, stranger = await new_program(), await new_program()
    member, theirs = await rich_member(program), await rich_member(stranger)
    for ref in (by_id(theirs), MemberRef(external_id="nobody"), MemberRef(email="nobody@example.com")):
        assert wrong(await quote(program.id, ref, Decimal("-0.01"))) == [
            ("INVALID", ("order_amount",)),
            ("NOT_FOUND", ("member", ref.field)),
        ]
    for amount in ("NaN", "Infinity", "1000000000000.01", "0.0000001"):
        said = await quote(program.id, by_id(member), Decimal(amount))
        assert wrong(said) == [("INVALID", ("order_amount",))]
    other = await rich_member(program)
    said = await quote(program.id, by_id(other), Decimal(1), caller=member.id)
    assert wrong(said) == [("NOT_FOUND", ("member", "id"))]
    assert (await quote(program.id, by_id(member), Decimal(1), caller=member.id)).errors == ()


rates = st.decimals(Decimal("0.000001"), Decimal(5000), places=6)
shares = st.none() | st.decimals(Decimal("0.000001"), Decimal(1), places=6)
orders = st.decimals(0, 500, places=3) | st.decimals(0, 1_000_000_000_000, places=6)
rewards = st.tuples(rates, shares, st.none() | st.integers(1, 2000))


@profile(max_examples=80, deadline=None)
@given(
    st.sampled_from(CURRENCIES),
    orders,
    st.integers(1, 5000) | st.integers(1, 10**12),
    st.lists(rewards, min_size=1, max_size=3),
)
async def test_redeeming_the_quote_is_accepted_and_takes_just_what_was_quoted(
    currency: str, order: Decimal, points: int, said: list[tuple[Decimal, Decimal | None, int | None]]
) -> None:
    program = await new_program(currency=currency)
    member = await new_member(program)
    await post(program, member, EntryKind.ADJUST, points)
    made = []
    for rate, share, least in said:
        limited = limits(max_share_of_order=share, min_points=least)
        made.append(await new_reward(program, "DISCOUNT", points_per_currency_unit=rate, limits=limited))
    best = await quoted(program, member, order)
    for reward in made:
        most = min(points, most_points(reward, order, currency))
        taken = await ask(program, member, reward, points=most, order_amount=order, hold_seconds=60)
        if taken.redemption is not None:
            # Nothing that is accepted takes more off.
            assert taken.redemption.amount is not None
            assert taken.redemption.amount <= best.amount
            await cancel(program.id, taken.redemption.id, "Never mind", new_id().hex)
    if best.reward is None:
        assert (best.points, best.amount) == (0, 0)
        return
    check_fair(best, order, currency)
    assert (best.reward.limits.min_points or 1) <= best.points <= points
    done = await redeemed(program, member, best.reward, points=best.points, order_amount=order)
    assert (done.points, done.amount) == (best.points, best.amount)


def most_points(reward: Reward, order: Decimal, currency: str) -> int:
    """Return the most points that a reward takes for an order, in fractions."""
    share, rate = reward.limits.max_share_of_order, reward.points_per_currency_unit
    assert rate is not None
    unit = Fraction(1, 10 ** MINOR_DIGITS[currency])
    money = Fraction(order) * Fraction(1 if share is None else share) // unit * unit
    points = int(money * Fraction(rate))
    # One more where the whole ones, rounded up to the smallest coin, leave something to pay.
    return points if -(-Fraction(points) / Fraction(rate) // unit) * unit >= money else points + 1


def check_fair(best: Quote, order: Decimal, currency: str) -> None:
    """Check that money is what points are worth, in the member's favour, and within what is allowed."""
    assert best.reward is not None
    share, rate = best.reward.limits.max_share_of_order, best.reward.points_per_currency_unit
    assert rate is not None
    unit = Decimal(1).scaleb(-MINOR_DIGITS[currency])
    assert best.amount % unit == 0
    assert 0 < best.amount <= order
    assert Fraction(best.amount) <= Fraction(order) * Fraction(1 if share is None else share)
    worth = Fraction(best.points) / Fraction(rate)
    assert worth - 1 / Fraction(rate) < Fraction(best.amount) < worth + Fraction(unit)
