"""Rewards set up, changed and taken off the catalog, and what members find in it."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app import clock
from app.catalog.eligibility import NOTHING_HAD, judge
from app.catalog.inputs import MAX_PIECES, RewardContent
from app.catalog.reads import CatalogFilter, Redeemer, get_rewards, list_rewards
from app.catalog.rewards import Reward, RewardKind, RewardLimits, RewardStatus
from app.catalog.service import create_reward, set_reward_status, update_reward
from app.database import connection
from app.days import start_of_day
from app.errors import Refused
from app.ids import new_id
from app.ledger.operations import MAX_POINTS
from app.paging import Page
from app.programs.models import Program
from app.redemptions.standings import load_had, load_members
from app.redemptions.steps import cancel
from app.tiers.service import set_member_tier
from tests.helpers import by_id, new_member, new_program, set_now
from tests.redemptions.making import (
    VAULT,
    all_at_once,
    ask,
    codes_of,
    load,
    new_reward,
    redeemed,
    refusal,
    rich_member,
    stock_of,
)
from tests.tiers.making import make_tier

CONTENT: dict[str, Any] = {"kind": RewardKind.PRODUCT, "name": "A cup", "points": 100}
FOR_KIND: dict[str, dict[str, Any]] = {
    "DISCOUNT": {"points": None, "points_per_currency_unit": Decimal(100)},
    "GIFT_CARD": {"face_value": Decimal("10.00")},
}


async def create(program: Program, **said: Any) -> Reward:
    return await create_reward(program.id, RewardContent(**(CONTENT | said)), VAULT)


@pytest.mark.parametrize("kind", RewardKind)
async def test_every_kind_is_set_up_and_read_back_as_it_was_said(kind: RewardKind) -> None:
    program = await new_program()
    said = {
        "kind": kind,
        "name": "Ein Becher für Ada",
        "description": "Two\nlines",
        "image_url": "https://example.com/a.png",
        "status": RewardStatus.DRAFT,
        "stock": 7,
        "starts_at": datetime(2026, 1, 1, tzinfo=UTC),
        "ends_at": datetime(2027, 1, 1, tzinfo=UTC),
        "limits": RewardLimits(max_per_member=3, max_per_member_per_month=2, max_total=100),
    }
    reward = await create(program, **(said | FOR_KIND.get(kind, {})))
    assert (await get_rewards(program.id, [reward.id])) == [reward]
    stocked = said.pop("stock")
    assert {name: getattr(reward, name) for name in said} == said
    has_pool = kind in ("VOUCHER", "GIFT_CARD")
    assert (reward.stock.left, reward.stock.capacity) == (0 if has_pool else stocked, 7)
    assert reward.version == 1
    assert (reward.draw_seed is not None) == (reward.draw_seed_hash is not None) == (kind == "GIVEAWAY")


async def test_the_same_again_is_the_same_reward_also_at_once_until_something_was_redeemed() -> None:
    program = await new_program()
    made = await all_at_once([lambda: create(program, stock=5)] * 6)
    assert len({reward.id for reward in made}) == 1
    assert (await create(program, stock=5)).id == made[0].id
    assert (await create(program, stock=6)).id != made[0].id
    assert (await create(program, stock=5, points=101)).id != made[0].id
    await redeemed(program, await rich_member(program), made[0])
    again = await create(program, stock=5)
    assert (again.id != made[0].id, again.stock.left) == (True, 5)
    await set_reward_status(program.id, again.id, RewardStatus.ARCHIVED)
    assert (await create(program, stock=5)).id not in (made[0].id, again.id)


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ({"name": ""}, [("name",)]),
        ({"name": "x" * 201}, [("name",)]),
        ({"description": "x" * 5001}, [("description",)]),
        ({"image_url": "ftp://example.com"}, [("image_url",)]),
        ({"points": None}, [("points",)]),
        ({"points": 0}, [("points",)]),
        ({"points": -1}, [("points",)]),
        ({"points": MAX_POINTS + 1}, [("points",)]),
        ({"points": 2**80}, [("points",)]),
        ({"points_per_currency_unit": Decimal(1)}, [("points_per_currency_unit",)]),
        ({"face_value": Decimal(0)}, [("face_value",)]),
        ({"face_value": Decimal("0.001")}, [("face_value",)]),
        ({"stock": -1}, [("stock",)]),
        ({"stock": MAX_PIECES + 1}, [("stock",)]),
        ({"generate_codes": True}, [("generate_codes",)]),
        ({"limits": RewardLimits(max_per_member=0)}, [("limits", "max_per_member")]),
        ({"limits": RewardLimits(max_total=2**70)}, [("limits", "max_total")]),
        ({"limits": RewardLimits(min_points=1)}, [("limits", "min_points")]),
        ({"limits": RewardLimits(max_share_of_order=Decimal(1))}, [("limits", "max_share_of_order")]),
        ({"kind": RewardKind.GIFT_CARD}, [("face_value",)]),
        ({"kind": RewardKind.DISCOUNT}, [("points",), ("points_per_currency_unit",)]),
        (
            {"kind": RewardKind.DISCOUNT, "points": None, "points_per_currency_unit": Decimal(0)},
            [("points_per_currency_unit",)],
        ),
        (
            {"starts_at": datetime(2026, 1, 1, tzinfo=UTC), "ends_at": datetime(2026, 1, 1, tzinfo=UTC)},
            [("ends_at",)],
        ),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_told_with_its_field(
    said: dict[str, Any], fields: list[tuple[str, ...]]
) -> None:
    program = await new_program()
    with pytest.raises(Refused) as refused:
        await create(program, **said)
    assert [error.field for error in refused.value.errors] == fields
    reward = await create(program)
    if "kind" not in said:
        with pytest.raises(Refused) as refused:
            await update_reward(program.id, reward.id, said)
        assert [error.field for error in refused.value.errors] == fields
        assert await get_rewards(program.id, [reward.id]) == [reward]


async def test_tiers_have_to_be_of_the_program() -> None:
    program, elsewhere = await new_program(), await new_program()
    own, other = await make_tier(program.id), await make_tier(elsewhere.id)
    with pytest.raises(Refused) as refused:
        await create(program, tiers=(own.id, other.id, new_id()))
    assert [(str(each.code), each.field) for each in refused.value.errors] == [
        ("NOT_FOUND", ("tier_ids", "1")),
        ("NOT_FOUND", ("tier_ids", "2")),
    ]
    assert (await create(program, tiers=(own.id, own.id))).tiers == (own.id,)


async def test_a_reward_is_changed_in_part_and_keeps_its_kind() -> None:
    program = await new_program()
    reward = await create(program, description="Blue", stock=3)
    changed = await update_reward(program.id, reward.id, {"points": 150, "description": None})
    assert (changed.version, changed.points, changed.description, changed.name) == (2, 150, None, "A cup")
    assert changed.stock == reward.stock
    again = await update_reward(program.id, reward.id, {"points": 150})
    assert (again.version, again.updated_at) == (2, changed.updated_at)
    assert (await refusal(update_reward(program.id, reward.id, {"kind": RewardKind.SERVICE})))[0] == "INVALID"
    assert (await refusal(update_reward(program.id, new_id(), {"points": 1})))[0] == "NOT_FOUND"
    elsewhere = await new_program()
    assert (await refusal(update_reward(elsewhere.id, reward.id, {"points": 1})))[0] == "NOT_FOUND"


async def test_what_is_archived_stays_so() -> None:
    program = await new_program()
    reward = await create(program)
    for status in (RewardStatus.PAUSED, RewardStatus.ACTIVE, RewardStatus.DRAFT, RewardStatus.ARCHIVED):
        assert (await set_reward_status(program.id, reward.id, status)).status is status
    assert (await set_reward_status(program.id, reward.id, RewardStatus.ARCHIVED)).version == 5
    assert (await refusal(set_reward_status(program.id, reward.id, RewardStatus.ACTIVE)))[0] == "WRONG_STATE"
    assert (await refusal(update_reward(program.id, reward.id, {"points": 5})))[0] == "WRONG_STATE"


async def test_stock_is_what_is_left_from_now_on_whatever_was_redeemed_and_comes_back() -> None:
    program = await new_program()
    reward, member = await create(program, stock=5), await rich_member(program, 10_000)
    first = await redeemed(program, member, reward, quantity=3)
    assert (await stock_of(program, reward)).left == 2
    changed = await update_reward(program.id, reward.id, {"stock": 1})
    assert (changed.stock.left, changed.stock.capacity, changed.stock.taken) == (1, 4, 3)
    # The same number again is no change; what comes back is there beside it.
    assert (await update_reward(program.id, reward.id, {"stock": 1})).version == changed.version
    await cancel(program.id, first.id, "No", "key")
    assert (await stock_of(program, reward)).left == 4
    await update_reward(program.id, reward.id, {"stock": 0})
    assert codes_of(await ask(program, member, reward)) == ["OUT_OF_STOCK"]
    await update_reward(program.id, reward.id, {"stock": None})
    await redeemed(program, member, reward, quantity=50)
    changed = await update_reward(program.id, reward.id, {"stock": MAX_PIECES})
    assert (changed.stock.left, changed.stock.taken) == (MAX_PIECES, 50)


async def test_a_change_of_the_name_leaves_stock_that_is_sold_meanwhile_alone() -> None:
    program = await new_program()
    reward = await create(program, stock=20)
    members = [await rich_member(program, 1000) for _ in range(10)]
    works: list[Any] = [lambda each=each: redeemed(program, each, reward) for each in members]
    works += [lambda n=n: update_reward(program.id, reward.id, {"name": f"Cup {n}"}) for n in range(5)]
    await all_at_once(works[::2] + works[1::2])
    stock = await stock_of(program, reward)
    assert (stock.taken, stock.left) == (10, 10)
    (found,) = await get_rewards(program.id, [reward.id])
    assert found is not None
    assert found.version == 6


async def test_messages_tell_once_of_what_runs_low() -> None:
    program = await new_program()
    member = await rich_member(program, 100_000)
    reward, pool = await new_reward(program, stock=20), await new_reward(program, "VOUCHER")
    await load(program, pool, *(f"C{n}" for n in range(30)))
    for each, quantity in ((reward, 17), (reward, 1), (reward, 1), (pool, 26), (pool, 2), (pool, 1)):
        await redeemed(program, member, each, quantity=quantity)
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT topic, payload FROM message"
            " WHERE program_id = $1 AND starts_with(topic, 'reward.') ORDER BY n",
            program.id,
        )
    assert [(row["topic"], row["payload"]["left"]) for row in rows] == [
        ("reward.stock_low", 2),
        ("reward.codes_low", 2),
    ]


async def test_the_catalog_finds_what_members_can_redeem_as_it_is_decided_when_they_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moment = set_now(monkeypatch, 2026, 5, 5)
    program = await new_program(timezone="Europe/Berlin")
    lowest, highest = await make_tier(program.id), await make_tier(program.id, 500)
    own = [
        RewardLimits(),
        RewardLimits(max_per_member=2),
        RewardLimits(max_per_member_per_month=1),
        RewardLimits(max_total=2),
    ]
    second = timedelta(seconds=1)
    rewards = [
        await create(program, name=f"Reward {n}", **said)
        for n, said in enumerate(
            [{"limits": limits} for limits in own]
            + [{"limits": limits, "stock": 2} for limits in own]
            + [{"points": points} for points in (99, 101, 299, 300, 301, 5000)]
            + [{"status": status} for status in RewardStatus]
            + [{"starts_at": at} for at in (moment, moment + second)]
            + [{"ends_at": at} for at in (moment, moment + second)]
            + [{"tiers": (tier.id,)} for tier in (lowest, highest)]
            + [{"tiers": (lowest.id, highest.id)}, {"stock": 0}, {"stock": 1}]
            + [{"kind": RewardKind.VOUCHER}, {"kind": RewardKind.VOUCHER, "generate_codes": True}]
            + [
                {"kind": RewardKind.DISCOUNT, "limits": RewardLimits(min_points=least)} | FOR_KIND["DISCOUNT"]
                for least in (None, 300, 301)
            ]
        )
    ]
    poor, buyer, regular = (
        await rich_member(program, 0),
        await rich_member(program, 700),
        await rich_member(program, 900),
    )
    set_now(monkeypatch, 2026, 4, 30, 12)
    for reward in rewards[:4]:
        await redeemed(program, regular, reward)
    set_now(monkeypatch, 2026, 5, 5)
    for reward in rewards[:4]:
        await redeemed(program, buyer, reward)
    await redeemed(program, regular, rewards[4])
    await redeemed(program, regular, rewards[5])
    gone = await redeemed(program, regular, rewards[6])
    await cancel(program.id, gone.id, "No", "key")
    members = await load_members(program.id, [poor.id, buyer.id, regular.id])
    since = start_of_day(date(2026, 5, 1), members.grounds.policy.zone)
    found = [reward for reward in await get_rewards(program.id, [each.id for each in rewards]) if reward]
    verdicts = set()
    for member in (poor, buyer, regular):
        standing = members.standings[member.id]
        pairs = [(member.id, reward.id) for reward in found]
        async with connection() as sql:
            had = await load_had(sql, members.grounds.policy, pairs, clock.now())
        expected = {
            reward.id
            for reward in found
            if judge(reward, standing, had.get((member.id, reward.id), NOTHING_HAD), clock.now()).redeemable
        }
        wanted = CatalogFilter(redeemable_by=Redeemer(member.id, standing, since))
        page = await list_rewards(program.id, Page(100), clock.now(), wanted)
        assert {reward.id for reward in page.items} == expected
        verdicts.add(len(expected))
    assert min(verdicts) == 0
    assert len(verdicts) == 3


async def test_a_member_of_another_tier_is_told_and_one_of_the_tier_or_above_is_served() -> None:
    program = await new_program()
    start, silver, gold = [await make_tier(program.id, threshold) for threshold in (0, 100, 500)]
    reward = await create(program, tiers=(silver.id,))
    member = await rich_member(program)
    assert codes_of(await ask(program, member, reward)) == ["NOT_ELIGIBLE"]
    for tier, served in ((start, False), (silver, True), (gold, True)):
        await set_member_tier(program.id, by_id(member), tier.id, None, None, "Test")
        assert ((await ask(program, member, reward)).redemption is not None) is served
    assert (await new_member(program)).status == "ACTIVE"
