"""Rewards, and members who burn points on them, made by the real services."""

from decimal import Decimal
from itertools import count
from typing import Any

from app.catalog.inputs import RewardContent
from app.catalog.rewards import Reward, RewardKind
from app.catalog.service import create_reward
from app.catalog.vault import Vault
from app.ids import new_id
from app.ledger.operations import EntryKind
from app.ledger.reads import Balance, get_balances
from app.members.reads import MemberRow
from app.programs.models import Program
from app.redemptions.inputs import Wanted
from app.redemptions.redemptions import Redemption
from app.redemptions.taking import Taken, take
from tests.helpers import by_id, new_member, policy_of, post

VAULT = Vault("a secret of the tests")
_serial = count(1)


async def new_reward(program: Program, kind: str = "PRODUCT", **content: Any) -> Reward:
    """Set up a reward: for 100 points (a DISCOUNT: 100 for one unit of money), unless told otherwise."""
    base: dict[str, Any] = {"kind": RewardKind(kind), "name": f"Reward {next(_serial)}"}
    if kind == "DISCOUNT":
        base["points_per_currency_unit"] = 100
    else:
        base["points"] = 100
    if kind == "GIFT_CARD":
        base["face_value"] = 10
    said = base | content
    for name in ("points_per_currency_unit", "face_value"):
        if said.get(name) is not None:
            said[name] = Decimal(said[name])
    return await create_reward(program.id, RewardContent(**said), VAULT)


async def rich_member(program: Program, points: int = 1000) -> MemberRow:
    """Enrol a member who has points to spend."""
    member = await new_member(program)
    if points:
        await post(program, member, EntryKind.ADJUST, points)
    return member


def wanted(member: MemberRow, reward: Reward, **said: Any) -> Wanted:
    """Return a request with a key of its own: one piece, at once, unless told otherwise."""
    return Wanted(**({"member": by_id(member), "reward_id": reward.id, "key": new_id().hex} | said))


async def ask(program: Program, member: MemberRow, reward: Reward, **said: Any) -> Taken:
    """Redeem or reserve, and return what became of it."""
    (taken,) = await take(program.id, [wanted(member, reward, **said)], VAULT)
    return taken


async def redeemed(program: Program, member: MemberRow, reward: Reward, **said: Any) -> Redemption:
    """Redeem, or with `hold_seconds` reserve, what nothing must stand against."""
    taken = await ask(program, member, reward, **said)
    assert taken.redemption is not None, taken.errors
    return taken.redemption


async def balance_of(program: Program, member: MemberRow) -> Balance:
    """Return a member's balance as of now."""
    (balance,) = await get_balances(await policy_of(program), [member.id])
    assert balance is not None
    return balance


def codes_of(taken: Taken) -> list[str]:
    """Return the codes of the errors of a request that was refused."""
    assert taken.redemption is None
    return [str(error.code) for error in taken.errors]
