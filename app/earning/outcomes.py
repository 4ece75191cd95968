"""What comes of an event: the words in which the engine answers, and what it asks limits for. Pure."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

from app.earning.compiled import CompiledRule


class StepKind(StrEnum):
    BASE = "BASE"
    PRODUCT_MULTIPLIER = "PRODUCT_MULTIPLIER"
    TIER_MULTIPLIER = "TIER_MULTIPLIER"
    CAMPAIGN_MULTIPLIER = "CAMPAIGN_MULTIPLIER"
    ROUNDING = "ROUNDING"
    TRANSACTION_LIMIT = "TRANSACTION_LIMIT"
    DAY_LIMIT = "DAY_LIMIT"
    MEMBER_LIMIT = "MEMBER_LIMIT"
    PROGRAM_DAY_LIMIT = "PROGRAM_DAY_LIMIT"
    BUDGET = "BUDGET"


class Reason(StrEnum):
    """Why a rule paid for an event, or did not."""

    PAID = "PAID"
    NOT_ACTIVE = "NOT_ACTIVE"
    NOT_STARTED = "NOT_STARTED"
    ENDED = "ENDED"
    OTHER_ACTION = "OTHER_ACTION"
    BELOW_MINIMUM = "BELOW_MINIMUM"
    NO_MATCHING_PRODUCT = "NO_MATCHING_PRODUCT"
    NOT_IN_AUDIENCE = "NOT_IN_AUDIENCE"
    REPLACED = "REPLACED"
    FREQUENCY_REACHED = "FREQUENCY_REACHED"
    COOLING_DOWN = "COOLING_DOWN"
    MEMBER_LIMIT_REACHED = "MEMBER_LIMIT_REACHED"
    DAY_LIMIT_REACHED = "DAY_LIMIT_REACHED"
    BUDGET_SPENT = "BUDGET_SPENT"
    ROUNDED_TO_ZERO = "ROUNDED_TO_ZERO"


class Verdict(NamedTuple):
    """Why a rule did not pay, or that it did, as a sentence for people."""

    reason: Reason
    message: str


class Step(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One line of a receipt: points before and after it, shown to at most six decimals."""

    kind: StepKind
    label: str
    before: Decimal
    after: Decimal
    factor: Decimal | None = None


class Award(msgspec.Struct, frozen=True):
    """What one rule gives for one event: `desired` before limits, `points` after them."""

    rule_id: UUID
    rule_version: int
    rule_name: str
    desired: int
    points: int
    steps: tuple[Step, ...]


class Closed(msgspec.Struct, frozen=True, array_like=True):
    """Why a limit keeps a rule away from an event.

    Attributes:
        zone: in which its days are counted, an IANA name.
        again: when that limit ends (UTC); None for never.
        paid_at: of a cooldown the time from which it counts.
    """

    reason: Reason
    zone: str
    again: datetime | None = None
    paid_at: datetime | None = None


class Room(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the limits of one rule leave to one event; None where there is no such limit.

    `closed` tells why the rule is not there for the event at all.
    """

    closed: Closed | None = None
    day: int | None = None
    budget: int | None = None


UNLIMITED = Room()


class Rooms(Protocol):
    """What limits leave, before the event."""

    @property
    def program_day(self) -> int | None:
        """Points that the program's daily cap leaves the member; None without a cap."""

    def of(self, rule: CompiledRule) -> Room:
        """Return what the limits of a rule leave; asked for rules with limits only."""


class TooManyPoints(Exception):
    """An event would earn more points than can be counted."""
