"""Ranks, which are worked out and never stored."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest

from app.tiers.tiers import Tier, ranked, starting_tier

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def tier(threshold: str, rank: int = 99) -> Tier:
    return Tier(uuid4(), threshold, rank, Decimal(threshold), Decimal(1), (), (), MOMENT, MOMENT)


@pytest.mark.parametrize(
    ("thresholds", "ranks"),
    [
        ([], []),
        (["0"], [("0", 0)]),
        (["0.00"], [("0.00", 0)]),
        (["500"], [("500", 1)]),
        (["1000", "0", "500"], [("0", 0), ("500", 1), ("1000", 2)]),
        (["1000", "0.000001", "500"], [("0.000001", 1), ("500", 2), ("1000", 3)]),
    ],
)
def test_ranks_follow_thresholds_and_zero_is_kept_for_where_everybody_starts(
    thresholds: list[str], ranks: list[tuple[str, int]]
) -> None:
    assert [(each.name, each.rank) for each in ranked([tier(each) for each in thresholds])] == ranks


def test_everybody_starts_in_the_tier_of_rank_zero_if_there_is_one() -> None:
    tiers = ranked([tier("500"), tier("0")])
    assert starting_tier(tiers) == tiers[0]
    assert starting_tier(ranked([tier("500")])) is None
    assert starting_tier([]) is None
