"""The factors of a tier and of campaigns, combined as the program says. Pure."""

from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from app.earning.exact import ONE, Ratio
from app.earning.outcomes import StepKind
from app.earning.ruleset import Factor
from app.money import trim
from app.programs.policy import MultiplierStacking


class Combined(NamedTuple):
    """The factors of a tier and campaigns as one, and the steps that lead to it."""

    factor: Ratio
    steps: list[tuple[StepKind, str, Decimal, Ratio]]


def _added(factor: Decimal) -> str:
    """Return how a label tells what a factor adds to others, of the points before all of them."""
    more = trim(factor - 1)
    how = f"adds {more:f}" if more > 0 else f"takes {-more:f}"
    return f", which {how} times the points from before all factors"


@lru_cache(maxsize=4096)
def combine(tier: Factor | None, campaigns: tuple[Factor, ...], stacking: MultiplierStacking) -> Combined:
    """Combine factors as the program says; a factor of 1 is no step of a receipt."""
    named = [] if tier is None else [(StepKind.TIER_MULTIPLIER, "Tier", tier)]
    named += [(StepKind.CAMPAIGN_MULTIPLIER, "Campaign", each) for each in campaigns]
    remark = ""
    if stacking is MultiplierStacking.BEST and named:
        if sum(each.multiplier != 1 for _, _, each in named) > 1:
            remark = ", the best of several factors"
        named = [max(named, key=lambda each: each[2].multiplier)]
    total = ONE
    steps: list[tuple[StepKind, str, Decimal, Ratio]] = []
    for kind, what, each in named:
        factor = Ratio.of(each.multiplier)
        if factor.numerator == factor.denominator:
            continue
        if stacking is MultiplierStacking.ADD:
            remark = _added(each.multiplier) if steps else ""
            total = total.plus(Ratio(factor.numerator - factor.denominator, factor.denominator))
        else:
            total = total.times(factor)
        # Factors below 1 that are added up could take more than there is.
        shown = total if total.numerator > 0 else Ratio(0)
        times = trim(each.multiplier)
        steps.append((kind, f"{what} {each.name}: {times:f} times the points{remark}", times, shown))
    return Combined(total if total.numerator > 0 else Ratio(0), steps)
