"""Rewards for tests."""

from typing import Any
from uuid import UUID

from app import clock
from app.database import transaction
from app.ids import new_id
from app.programs.models import Program


async def new_reward(program: Program, kind: str = "VOUCHER", **columns: Any) -> UUID:
    """Write a reward and its stock, with an empty pool where the kind has one; return the reward's id.

    Args:
        columns: of `reward`, in place of what is usual.
    """
    moment = clock.now()
    values = {
        "id": new_id(),
        "program_id": program.id,
        "version": 1,
        "kind": kind,
        "status": "ACTIVE",
        "name": "A reward",
        "search": "a reward",
        "points": 100,
        "generate_codes": False,
        "tier_ids": [],
        "created_at": moment,
        "updated_at": moment,
    } | columns
    names = ", ".join(values)
    places = ", ".join(f"${n}" for n in range(1, len(values) + 1))
    has_pool = kind in {"VOUCHER", "GIFT_CARD"} and not values["generate_codes"]
    async with transaction() as sql:
        await sql.execute(f"INSERT INTO reward ({names}) VALUES ({places})", *values.values())
        await sql.execute(
            "INSERT INTO reward_stock (reward_id, version, taken, codes) VALUES ($1, 1, 0, $2)",
            values["id"],
            0 if has_pool else None,
        )
    return values["id"]
