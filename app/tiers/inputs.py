"""What can be said about a tier, and what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app.text import is_text
from app.validation import Problems

MAX_THRESHOLD = Decimal(10) ** 12
MAX_MULTIPLIER = Decimal(1000)
MAX_DECIMALS = 6
MAX_BENEFITS = 50
LONGEST_NAME = 200
LONGEST_BENEFIT = 200
LONGEST_REASON = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTier:
    """A tier to be made.

    Attributes:
        name: 1 to 200 characters.
        threshold: from 0, which is where everybody starts, to 10^12, with 6 decimal places; unique in
            the program.
        multiplier: more than 0, at most 1,000, with 6 decimal places.
        benefits: at most 50 lines of at most 200 characters.
    """

    name: str
    threshold: Decimal
    multiplier: Decimal = Decimal(1)
    benefits: tuple[str, ...] = ()


def check_tier(values: Mapping[str, Any], problems: Problems) -> None:
    """Note what is wrong with the fields of a tier that are there; the others are not looked at."""
    for name, value in values.items():
        if name == "name":
            problems.line(value, LONGEST_NAME, "name")
        elif name == "threshold":
            _check_threshold(value, problems)
        elif name == "multiplier":
            check_multiplier(value, problems)
        elif name == "benefits":
            _check_benefits(value, problems)
        else:
            raise AssertionError(name)


def _check_threshold(threshold: Decimal, problems: Problems) -> None:
    if not (threshold.is_finite() and 0 <= threshold <= MAX_THRESHOLD):
        problems.add(f"Threshold must be between 0 and {MAX_THRESHOLD:,}.", "threshold")
    elif threshold != round(threshold, MAX_DECIMALS):
        problems.add(f"Threshold can have at most {MAX_DECIMALS} decimal places.", "threshold")


def check_multiplier(multiplier: Decimal, problems: Problems) -> None:
    """Note what is wrong with what points are multiplied by."""
    if not (multiplier.is_finite() and 0 < multiplier <= MAX_MULTIPLIER):
        problems.add(f"Multiplier must be more than 0 and at most {MAX_MULTIPLIER:,}.", "multiplier")
    elif multiplier != round(multiplier, MAX_DECIMALS):
        problems.add(f"Multiplier can have at most {MAX_DECIMALS} decimal places.", "multiplier")


def _check_benefits(benefits: tuple[str, ...], problems: Problems) -> None:
    if len(benefits) > MAX_BENEFITS:
        problems.add(f"A tier can have at most {MAX_BENEFITS} benefits.", "benefits")
        return
    for n, benefit in enumerate(benefits):
        problems.line(benefit, LONGEST_BENEFIT, "benefits", str(n))


def check_reason(reason: str, problems: Problems) -> None:
    """Note what is wrong with the reason for which a member is given a tier."""
    if not reason.strip() or len(reason) > LONGEST_REASON or not is_text(reason):
        problems.add(f"A reason of 1 to {LONGEST_REASON} characters is needed.", "reason")
