"""The ledger's vocabulary: operations in, outcomes out."""

from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

MAX_POINTS = 2**53 - 1
"""The most points that one operation or one balance can hold: JSON keeps whole numbers up to here."""


class EntryKind(StrEnum):
    """What an entry is; each but RELEASE and EXPIRE, which happen by themselves, is an operation too."""

    EARN = "EARN"
    RELEASE = "RELEASE"
    ADJUST = "ADJUST"
    RESERVE = "RESERVE"
    REDEEM = "REDEEM"
    RESTORE = "RESTORE"
    CLAWBACK = "CLAWBACK"
    EXPIRE = "EXPIRE"


class Operation(NamedTuple):
    """One movement to make in one account.

    `amount` is positive (of ADJUST signed, not zero). `reference` is the sequence of the entry
    that is captured (REDEEM of a RESERVE), given back (RESTORE of a RESERVE or a REDEEM) or taken
    back (CLAWBACK of an EARN). `matures_on` and `expires_on` belong to EARN and a positive ADJUST:
    the first and the last local day on which the points can be spent. The same `key` with the same
    `request_hash` is applied once.
    """

    account_id: UUID
    kind: EntryKind
    amount: int
    key: UUID
    request_hash: int
    occurred_at: datetime
    reference: int | None = None
    matures_on: date | None = None
    expires_on: date | None = None
    source: str | None = None
    source_id: UUID | None = None
    reason: str | None = None


class Terms(NamedTuple):
    """What holds for every operation of a batch: the moment, and the program's policy."""

    recorded_at: datetime
    today: date
    zone: str
    inactive_months: int | None
    inactive_since: date
    debt_limit: int


class Status(StrEnum):
    APPLIED = "APPLIED"
    REPLAYED = "REPLAYED"
    """The key is known with the same request: the outcome is that of the first time."""
    KEY_REUSED = "KEY_REUSED"
    INSUFFICIENT = "INSUFFICIENT"
    NO_ACCOUNT = "NO_ACCOUNT"
    NO_REFERENCE = "NO_REFERENCE"
    EXCESSIVE = "EXCESSIVE"
    """More than what is left of the entry that is referred to."""
    TOO_MANY = "TOO_MANY"
    """The balance would pass MAX_POINTS."""
    INVALID = "INVALID"


class Outcome(NamedTuple):
    """What became of one operation, and the account's sums right after its entry.

    `taken` and `debt` are set for a clawback: the points that it got, and how many of them are owed
    now; the rest of its amount is written off.
    """

    status: Status
    sequence: int | None
    available: int | None
    pending: int | None
    reserved: int | None
    taken: int | None
    debt: int | None
