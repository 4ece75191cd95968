"""Tiers: what they are called, what they multiply by, and in which order they stand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID


class Factor(NamedTuple):
    """What a tier or a campaign multiplied by from a time on, and what it was called then."""

    since: datetime
    name: str
    multiplier: Decimal


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier as it is stored.

    Attributes:
        rank: 0 is where everybody starts; see `ranked`.
        threshold: what a member must reach within the program's qualification window.
        benefits: lines for people.
        factors: oldest first, at least one; the first counts for all time before it, too.
        thresholds: those it had, and since when, in the same way; none where it always was the same.
    """

    id: UUID
    name: str
    rank: int
    threshold: Decimal
    multiplier: Decimal
    benefits: tuple[str, ...]
    factors: tuple[Factor, ...]
    created_at: datetime
    updated_at: datetime
    thresholds: tuple[tuple[datetime, Decimal], ...] = ()


def ranked(tiers: Sequence[Tier]) -> list[Tier]:
    """Return tiers by threshold, each with its rank, whatever ranks they come with.

    The tier with threshold 0 has rank 0, whether there is one or not: the others count from 1.
    """
    ordered = sorted(tiers, key=lambda tier: tier.threshold)
    first = 0 if ordered and ordered[0].threshold == 0 else 1
    return [replace(tier, rank=rank) for rank, tier in enumerate(ordered, start=first)]


def starting_tier(tiers: Sequence[Tier]) -> Tier | None:
    """Return the tier in which everybody starts; None where a program has none."""
    return next((tier for tier in tiers if tier.rank == 0), None)
