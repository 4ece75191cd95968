"""Whether a member can have a reward: every reason, alone and together."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.catalog.eligibility import (
    NOTHING_HAD,
    Had,
    IneligibleReason,
    Standing,
    errors_of,
    judge,
)
from app.catalog.rewards import Reward, RewardLimits, RewardStatus, Stock
from tests.redemptions.making import reward_like

NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)
A_MOMENT = timedelta(microseconds=1)
GOLD, SILVER = UUID(int=2), UUID(int=1)
RICH = Standing("ACTIVE", 1000)


def reasons(reward: Reward, standing: Standing = RICH, had: Had = NOTHING_HAD, **said: Any) -> list[str]:
    return [str(reason) for reason in judge(reward, standing, had, NOW, **said).reasons]


def sentences(
    reward: Reward, standing: Standing = RICH, had: Had = NOTHING_HAD, quantity: int = 1
) -> list[tuple[str, str, str | None]]:
    verdict = judge(reward, standing, had, NOW, quantity)
    return [
        (str(error.code), error.message, error.field[0] if error.field else None)
        for error in errors_of(verdict, reward, standing, had, quantity)
    ]


def test_nothing_stands_against_a_reward_that_is_there_for_a_member_who_can_pay() -> None:
    verdict = judge(reward_like(), RICH._replace(available=100), NOTHING_HAD, NOW)
    assert verdict.redeemable
    assert verdict.points_missing == 0


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"status": RewardStatus.DRAFT}, ["NOT_ACTIVE"]),
        ({"status": RewardStatus.PAUSED}, ["NOT_ACTIVE"]),
        ({"status": RewardStatus.ARCHIVED}, ["NOT_ACTIVE"]),
        ({"starts_at": NOW}, []),
        ({"starts_at": NOW + A_MOMENT}, ["NOT_STARTED"]),
        ({"ends_at": NOW + A_MOMENT}, []),
        ({"ends_at": NOW}, ["ENDED"]),
        ({"drawn_at": NOW}, ["ENDED"]),
        ({"drawn_at": NOW, "ends_at": NOW}, ["ENDED"]),
        ({"stock": Stock(taken=4, capacity=5)}, []),
        ({"stock": Stock(taken=5, capacity=5)}, ["OUT_OF_STOCK"]),
        ({"stock": Stock(codes=1)}, []),
        ({"stock": Stock(codes=0)}, ["OUT_OF_STOCK"]),
        ({"stock": Stock(taken=1, capacity=9, codes=0)}, ["OUT_OF_STOCK"]),
        ({"stock": Stock(taken=9, capacity=9, codes=7)}, ["OUT_OF_STOCK"]),
        ({"stock": Stock(taken=4), "limits": RewardLimits(max_total=5)}, []),
        ({"stock": Stock(taken=5), "limits": RewardLimits(max_total=5)}, ["LIMIT_REACHED"]),
        ({"points": 1001}, ["NOT_ENOUGH_POINTS"]),
        ({"tiers": (GOLD,)}, ["TIER_TOO_LOW"]),
    ],
    ids=str,
)
def test_what_of_a_reward_stands_against_it(fields: dict[str, Any], expected: list[str]) -> None:
    assert reasons(reward_like(**fields)) == expected


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        (Standing("ACTIVE", 100), []),
        (Standing("ACTIVE", 99), ["NOT_ENOUGH_POINTS"]),
        (Standing("ACTIVE", 0), ["NOT_ENOUGH_POINTS"]),
        (Standing("ACTIVE", -1), ["IN_DEBT", "NOT_ENOUGH_POINTS"]),
        (Standing("SUSPENDED", 100), ["MEMBER_NOT_ACTIVE"]),
        (Standing("CLOSED", 100), ["MEMBER_NOT_ACTIVE"]),
    ],
    ids=str,
)
def test_what_of_a_member_stands_against_it(standing: Standing, expected: list[str]) -> None:
    assert reasons(reward_like(), standing) == expected


@pytest.mark.parametrize(
    ("limits", "had", "quantity", "reached"),
    [
        (RewardLimits(max_per_member=3), Had(2, 2), 1, False),
        (RewardLimits(max_per_member=3), Had(3, 0), 1, True),
        (RewardLimits(max_per_member=3), Had(2, 0), 2, True),
        (RewardLimits(max_per_member_per_month=3), Had(30, 2), 1, False),
        (RewardLimits(max_per_member_per_month=3), Had(3, 3), 1, True),
        (RewardLimits(max_per_member=9, max_per_member_per_month=3), Had(9, 0), 1, True),
        (RewardLimits(max_total=2), Had(0, 0), 3, True),
        (RewardLimits(max_per_member=3, max_per_member_per_month=3, max_total=3), Had(0, 0), 3, False),
    ],
    ids=str,
)
def test_limits_count_pieces(limits: RewardLimits, had: Had, quantity: int, reached: bool) -> None:
    assert reasons(reward_like(limits=limits), had=had, quantity=quantity) == ["LIMIT_REACHED"] * reached


@pytest.mark.parametrize(
    ("tiers", "own", "allowed"),
    [
        ((), (), True),
        ((GOLD,), (SILVER, GOLD), True),
        ((GOLD,), (SILVER,), False),
        ((SILVER, GOLD), (SILVER,), True),
    ],
)
def test_a_reward_is_for_its_lowest_tier_and_all_above(
    tiers: Sequence[Any], own: Sequence[Any], allowed: bool
) -> None:
    found = reasons(reward_like(tiers=tuple(tiers)), RICH._replace(tiers=own))
    assert found == ([] if allowed else ["TIER_TOO_LOW"])


def test_the_price_is_that_of_all_pieces_or_what_was_named() -> None:
    reward = reward_like(points=300)
    assert judge(reward, RICH, NOTHING_HAD, NOW, 4).points_missing == 200
    assert judge(reward, RICH, NOTHING_HAD, NOW, 3).redeemable
    assert judge(reward, RICH, NOTHING_HAD, NOW, points=1001).points_missing == 1
    assert judge(reward, RICH._replace(available=-5), NOTHING_HAD, NOW).points_missing == 305


def test_of_a_discount_the_fewest_points_count() -> None:
    discount = reward_like("DISCOUNT", points=None, points_per_currency_unit=100)
    assert reasons(discount, RICH._replace(available=1)) == []
    assert reasons(discount, RICH._replace(available=0)) == ["NOT_ENOUGH_POINTS"]
    with_least = reward_like("DISCOUNT", points=None, limits=RewardLimits(min_points=50))
    assert judge(with_least, RICH._replace(available=49), NOTHING_HAD, NOW).points_missing == 1


def test_all_reasons_are_told_at_once_in_the_same_order() -> None:
    everything = {
        "status": RewardStatus.PAUSED,
        "starts_at": NOW + A_MOMENT,
        "ends_at": NOW,
        "stock": Stock(taken=1, capacity=1),
        "limits": RewardLimits(max_total=1),
        "tiers": (GOLD,),
    }
    worst = Standing("CLOSED", -1)
    order = reasons(reward_like(**everything), worst)
    assert sorted(order) == sorted(IneligibleReason)
    for some in itertools.chain(*(itertools.combinations(everything.items(), n) for n in range(7))):
        for standing in (RICH, worst):
            found = reasons(reward_like(**dict(some)), standing)
            assert found == [each for each in order if each in found]


def test_every_reason_has_its_code_its_sentence_and_its_field() -> None:
    own = RewardLimits(max_per_member=2, max_per_member_per_month=1)
    assert sentences(reward_like(status=RewardStatus.PAUSED)) == [
        ("NOT_ELIGIBLE", "The reward is PAUSED, and cannot be redeemed.", "reward_id")
    ]
    assert sentences(reward_like(starts_at=NOW + timedelta(hours=1))) == [
        ("NOT_ELIGIBLE", "The reward can be redeemed from 2026-05-05 13:00 UTC on.", "reward_id")
    ]
    assert sentences(reward_like(ends_at=NOW)) == [
        ("NOT_ELIGIBLE", "The reward's time is over.", "reward_id")
    ]
    assert sentences(reward_like(drawn_at=NOW)) == [
        ("NOT_ELIGIBLE", "The giveaway is over: its winner has been drawn.", "reward_id")
    ]
    for left, message in (
        (0, "Nothing of it is left."),
        (1, "Only 1 of it is left."),
        (2, "Only 2 of it are left."),
    ):
        assert sentences(reward_like(stock=Stock(codes=left)), quantity=3) == [
            ("OUT_OF_STOCK", message, "reward_id")
        ]
    assert sentences(reward_like(limits=own), had=Had(2, 0)) == [
        ("LIMIT_REACHED", "Each member can have 2 of it, and this one has had 2.", "reward_id")
    ]
    assert sentences(reward_like(limits=own), had=Had(1, 1)) == [
        ("LIMIT_REACHED", "Each member can have 1 of it a month, and this one has had 1.", "reward_id")
    ]
    assert sentences(reward_like(limits=RewardLimits(max_total=7), stock=Stock(taken=7))) == [
        ("LIMIT_REACHED", "All 7 that there are to be have been redeemed.", "reward_id")
    ]
    assert sentences(reward_like(), Standing("SUSPENDED", 500)) == [
        ("NOT_ELIGIBLE", "The member is suspended and redeems nothing.", "member")
    ]
    assert sentences(reward_like(tiers=(GOLD,))) == [
        ("NOT_ELIGIBLE", "The reward is for members of a higher tier.", "member")
    ]
    assert sentences(reward_like(), Standing("ACTIVE", -1)) == [
        ("NOT_ELIGIBLE", "The member owes 1 point; the next points earned pay them first.", "member"),
        ("INSUFFICIENT_POINTS", "The member has 0 points; 101 points more are needed.", "member"),
    ]
    assert sentences(reward_like(), Standing("ACTIVE", 99)) == [
        ("INSUFFICIENT_POINTS", "The member has 99 points; 1 point more is needed.", "member")
    ]
