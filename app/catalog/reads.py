"""The catalog, read."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unicodedata import normalize
from uuid import UUID

import asyncpg

from app.catalog.eligibility import Standing
from app.catalog.rewards import Reward, RewardKind, RewardLimits, RewardStatus, Stock
from app.database import connection
from app.errors import ErrorCode, refuse
from app.paging import Page, PageResult, keyset, page_result
from app.text import is_line

LONGEST_SEARCH = 200

REWARD_COLUMNS = """
r.id, r.program_id, r.version, r.kind, r.status, r.name, r.description, r.image_url, r.points,
r.points_per_currency_unit, r.face_value, r.generate_codes, r.max_per_member, r.max_per_member_per_month,
r.max_total, r.max_share_of_order, r.min_points, r.starts_at, r.ends_at, r.tier_ids, r.draw_seed,
r.draw_seed_hash, r.created_at, r.updated_at, c.version AS stock_version, c.taken, c.capacity, c.codes,
c.low_stock, c.low_codes, c.drawn_at, c.winner_id
"""
REWARD_TABLES = "reward r JOIN reward_stock c ON c.reward_id = r.id /* scoped by: reward */"

_BY_IDS = f"SELECT {REWARD_COLUMNS} FROM {REWARD_TABLES} WHERE r.program_id = $1 AND r.id = ANY($2::uuid[])"  # noqa: S608

# What the member could have now: eligibility.judge says the same of each reward by itself.
_REDEEMABLE = """
r.status = 'ACTIVE' AND (r.starts_at IS NULL OR r.starts_at <= {now})
AND (r.ends_at IS NULL OR r.ends_at > {now}) AND c.drawn_at IS NULL
AND (c.capacity IS NULL OR c.capacity > c.taken) AND (c.codes IS NULL OR c.codes > 0)
AND (r.max_total IS NULL OR r.max_total > c.taken)
AND coalesce(r.points, r.min_points, 1) <= {available}
AND (r.tier_ids = '{{}}' OR r.tier_ids && {tiers}::uuid[])
AND (coalesce(r.max_per_member, r.max_per_member_per_month) IS NULL OR NOT EXISTS (
    SELECT FROM redemption d
    WHERE d.program_id = $1 AND d.member_id = {member} AND d.reward_id = r.id
        AND d.status NOT IN ('CANCELLED', 'EXPIRED')
    HAVING sum(d.quantity) >= r.max_per_member
        OR sum(d.quantity) FILTER (WHERE d.created_at >= {month}) >= r.max_per_member_per_month))
"""


@dataclass(frozen=True, slots=True)
class Redeemer:
    """A member for whom the catalog is read: how they stand, and when their month began (UTC)."""

    member_id: UUID
    standing: Standing
    month_began: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogFilter:
    """Which rewards are wanted; None is all of them.

    Attributes:
        kinds: of these kinds.
        max_points: that cost no more than this; of a DISCOUNT the fewest points with which it can be had.
        search: with this in the name or the description, whatever the case.
        on_display: only what members find in the catalog: ACTIVE, and not over.
        redeemable_by: only what this member could redeem now.
    """

    kinds: Collection[RewardKind] | None = None
    max_points: int | None = None
    search: str | None = None
    on_display: bool = False
    redeemable_by: Redeemer | None = None


EVERYTHING = CatalogFilter()


def reward_from_row(row: asyncpg.Record) -> Reward:
    """Return a reward from a row with REWARD_COLUMNS."""
    return Reward(
        row["id"], row["program_id"], row["version"], RewardKind(row["kind"]), RewardStatus(row["status"]),
        row["name"], row["description"], row["image_url"], row["points"], row["points_per_currency_unit"],
        row["face_value"], row["generate_codes"],
        RewardLimits(
            row["max_per_member"], row["max_per_member_per_month"], row["max_total"],
            row["max_share_of_order"], row["min_points"],
        ),
        row["starts_at"], row["ends_at"], tuple(row["tier_ids"]), row["draw_seed"], row["draw_seed_hash"],
        row["created_at"], row["updated_at"],
        Stock(row["taken"], row["capacity"], row["codes"], row["low_stock"], row["low_codes"]),
        row["drawn_at"], row["winner_id"],
    )  # fmt: skip


async def find_rewards(
    sql: asyncpg.Connection, program_id: UUID, reward_ids: Sequence[UUID]
) -> list[Reward | None]:
    """Return rewards in the order of the ids given; None where the program has none.

    Args:
        sql: any connection; within a transaction it sees what that has written.
    """
    rows = await sql.fetch(_BY_IDS, program_id, list(reward_ids))
    found = {row["id"]: reward_from_row(row) for row in rows}
    return [found.get(reward_id) for reward_id in reward_ids]


async def get_rewards(program_id: UUID, reward_ids: Sequence[UUID]) -> list[Reward | None]:
    """Return rewards, as `find_rewards` does."""
    async with connection() as sql:
        return await find_rewards(sql, program_id, reward_ids)


async def list_rewards(
    program_id: UUID, page: Page, moment: datetime, wanted: CatalogFilter = EVERYTHING
) -> PageResult[Reward]:
    """Return a page of a program's rewards, the oldest first.

    Args:
        page: its keys are (id,).
        moment: now (UTC), by which it is decided what is over.

    Raises:
        Refused: INVALID for a search that is longer than 200 characters or not a line of text.
    """
    if wanted.redeemable_by is not None and not _can_redeem(wanted.redeemable_by.standing):
        return PageResult([], False, False)
    args: list[Any] = [program_id]
    conditions = ["r.program_id = $1", *_conditions(wanted, moment, args)]
    keys = keyset(["r.id"], page=page, first_param=len(args) + 1)
    statement = f"""
        SELECT {REWARD_COLUMNS} FROM {REWARD_TABLES} WHERE {" AND ".join(conditions)} AND {keys.where}
        ORDER BY {keys.order_by} LIMIT {keys.limit}
    """  # noqa: S608 - parts that are constants, values are parameters
    async with connection() as sql:
        rows = await sql.fetch(statement, *args, *keys.args)
    return page_result([reward_from_row(row) for row in rows], page)


def _can_redeem(standing: Standing) -> bool:
    return standing.status == "ACTIVE" and standing.available > 0


def _conditions(wanted: CatalogFilter, moment: datetime, args: list[Any]) -> list[str]:
    """Return what rewards have to meet, and add the values that it names to the arguments."""

    def param(value: Any) -> str:
        args.append(value)
        return f"${len(args)}"

    conditions = []
    if wanted.kinds is not None:
        conditions.append(f"r.kind = ANY({param(list(wanted.kinds))}::text[])")
    if wanted.max_points is not None:
        conditions.append(f"coalesce(r.points, r.min_points, 1) <= {param(wanted.max_points)}::bigint")
    search = (wanted.search or "").strip()
    if len(search) > LONGEST_SEARCH or not is_line(search):
        message = f"Search must be a line of at most {LONGEST_SEARCH} characters."
        raise refuse(ErrorCode.INVALID, message, "filter", "search")
    if search:
        conditions.append(f"strpos(r.search, {param(searchable(search))}) > 0")
    if wanted.on_display:
        conditions.append(f"r.status = 'ACTIVE' AND (r.ends_at IS NULL OR r.ends_at > {param(moment)})")
    if (redeemer := wanted.redeemable_by) is not None:
        conditions.append(
            _REDEEMABLE.format(
                now=param(moment),
                available=f"{param(redeemer.standing.available)}::bigint",
                tiers=param(list(redeemer.standing.tiers)),
                member=param(redeemer.member_id),
                month=param(redeemer.month_began),
            )
        )
    return conditions


def searchable(*texts: str | None) -> str:
    """Return texts in the form in which a search compares them: one after the other, without regard to
    case, or to how accents are written.
    """
    return "\n".join(normalize("NFC", normalize("NFC", text).casefold()) for text in texts if text)
