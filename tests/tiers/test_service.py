"""Tiers: made, changed field by field, with a history of what they multiplied by."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from app.errors import ErrorCode, Refused
from app.tiers import service
from app.tiers.inputs import NewTier
from app.tiers.service import create_tier, get_tiers, update_tier
from app.tiers.tiers import Factor, starting_tier
from tests.helpers import set_now
from tests.programs.making import make_program
from tests.programs.test_service import refusal
from tests.tiers.making import make_tier, version_of

GOLD = NewTier(
    name="Gold", threshold=Decimal("1000.50"), multiplier=Decimal("1.5"), benefits=("Free delivery", "Coffee")
)
LARGEST = Decimal(10) ** 12


async def test_a_tier_is_kept_as_it_was_given() -> None:
    program = await make_program()

    gold = await create_tier(program.id, GOLD)

    assert (gold.name, gold.threshold, gold.multiplier, gold.benefits) == (
        "Gold",
        Decimal("1000.50"),
        Decimal("1.5"),
        ("Free delivery", "Coffee"),
    )
    assert gold.factors == (Factor(gold.created_at, "Gold", Decimal("1.5")),)
    assert gold.created_at == gold.updated_at
    assert await get_tiers(program.id) == [gold]


async def test_a_tier_that_says_little_multiplies_by_one() -> None:
    program = await make_program()
    tier = await make_tier(program.id)
    assert (tier.rank, tier.multiplier, tier.benefits) == (0, 1, ())


async def test_ranks_are_those_of_all_tiers_whenever_they_were_made() -> None:
    program = await make_program()
    gold = await make_tier(program.id, 1000)
    assert gold.rank == 1
    silver = await make_tier(program.id, 500)
    assert silver.rank == 1
    start = await make_tier(program.id, 0)

    tiers = await get_tiers(program.id)

    assert [(tier.id, tier.rank) for tier in tiers] == [(start.id, 0), (silver.id, 1), (gold.id, 2)]
    assert starting_tier(tiers) == start
    # Where the first one moves up, nobody starts anywhere.
    moved = await update_tier(program.id, start.id, {"threshold": Decimal(2000)})
    assert moved.rank == 3
    assert starting_tier(await get_tiers(program.id)) is None


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, ("name",)),
        ({"name": " Gold"}, ("name",)),
        ({"name": "x" * 201}, ("name",)),
        ({"name": "a\0b"}, ("name",)),
        ({"threshold": Decimal(-1)}, ("threshold",)),
        ({"threshold": LARGEST + 1}, ("threshold",)),
        ({"threshold": Decimal("0.0000001")}, ("threshold",)),
        ({"threshold": Decimal("NaN")}, ("threshold",)),
        ({"multiplier": Decimal(0)}, ("multiplier",)),
        ({"multiplier": Decimal("-1")}, ("multiplier",)),
        ({"multiplier": Decimal("1000.000001")}, ("multiplier",)),
        ({"multiplier": Decimal("1.0000001")}, ("multiplier",)),
        ({"multiplier": Decimal("Infinity")}, ("multiplier",)),
        ({"benefits": ("x",) * 51}, ("benefits",)),
        ({"benefits": ("fine", "")}, ("benefits", "1")),
        ({"benefits": ("x" * 201,)}, ("benefits", "0")),
        ({"benefits": ("two\nlines",)}, ("benefits", "0")),
    ],
)
async def test_a_tier_that_cannot_be_is_refused_by_field(wrong: Any, field: tuple[str, ...]) -> None:
    program = await make_program()
    gold = await create_tier(program.id, GOLD)

    assert await refusal(create_tier(program.id, replace(GOLD, **wrong))) == {(ErrorCode.INVALID, field)}
    assert await refusal(update_tier(program.id, gold.id, wrong)) == {(ErrorCode.INVALID, field)}
    assert await get_tiers(program.id) == [gold]


@pytest.mark.parametrize(
    "right",
    [
        {"name": "x" * 200, "threshold": LARGEST, "multiplier": Decimal(1000)},
        {"name": "x", "threshold": Decimal("0.000001"), "multiplier": Decimal("0.000001")},
        {"name": "黄金 👑", "threshold": Decimal(0), "benefits": ("x" * 200,) * 50},
    ],
)
async def test_a_tier_may_go_to_the_limits(right: Any) -> None:
    program = await make_program()
    tier = await create_tier(program.id, NewTier(**right))
    assert {name: getattr(tier, name) for name in right} == right
    assert await get_tiers(program.id) == [tier]


async def test_everything_that_is_wrong_with_a_tier_is_told_at_once() -> None:
    program = await make_program()
    wrong = NewTier(name="", threshold=Decimal(-1), multiplier=Decimal(0), benefits=("",))
    assert {field for _, field in await refusal(create_tier(program.id, wrong))} == {
        ("name",), ("threshold",), ("multiplier",), ("benefits", "0"),
    }  # fmt: skip


async def test_no_two_tiers_of_a_program_have_the_same_threshold() -> None:
    program, other = await make_program(), await make_program()
    gold, silver = await create_tier(program.id, GOLD), await make_tier(program.id, 5)
    taken = {(ErrorCode.ALREADY_EXISTS, ("threshold",))}

    assert await create_tier(program.id, GOLD) == replace(gold, rank=2)
    same = replace(GOLD, name="Another", threshold=Decimal("1000.500"))
    assert await refusal(create_tier(program.id, same)) == taken
    assert await refusal(update_tier(program.id, silver.id, {"threshold": GOLD.threshold})) == taken
    assert await get_tiers(program.id) == [replace(silver, rank=1), replace(gold, rank=2)]
    assert (await create_tier(other.id, GOLD)).threshold == GOLD.threshold
    # Its own is free.
    assert (await update_tier(program.id, gold.id, {"threshold": GOLD.threshold})).rank == 2


async def test_tiers_made_at_once_are_made_once_for_each_threshold() -> None:
    program = await make_program()

    made = await asyncio.gather(
        *(make_tier(program.id, n % 4, name=f"Tier {n}") for n in range(16)), return_exceptions=True
    )

    refused = [each for each in made if isinstance(each, Refused)]
    assert len(refused) == 12
    assert {error.code for each in refused for error in each.errors} == {ErrorCode.ALREADY_EXISTS}
    assert [tier.threshold for tier in await get_tiers(program.id)] == [0, 1, 2, 3]


async def test_a_program_has_so_many_tiers_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await make_program()
    monkeypatch.setattr(service, "MAX_TIERS", 2)
    for threshold in (0, 1):
        await make_tier(program.id, threshold)
    assert await refusal(make_tier(program.id, 2)) == {(ErrorCode.LIMIT_REACHED, None)}


async def test_an_update_changes_what_it_names() -> None:
    program = await make_program()
    gold = await create_tier(program.id, GOLD)
    for change in (
        {"name": "Golden"},
        {"threshold": Decimal(7)},
        {"multiplier": Decimal(3)},
        {"benefits": ()},
        {"benefits": ("Tea",), "name": "Gold"},
    ):
        changed = await update_tier(program.id, gold.id, change)
        assert changed.updated_at > gold.updated_at
        histories = {"factors": changed.factors, "thresholds": changed.thresholds}
        gold = replace(gold, **change, updated_at=changed.updated_at, **histories)  # type: ignore[arg-type]
        assert changed == gold
    assert await get_tiers(program.id) == [gold]


async def test_an_update_that_changes_nothing_writes_nothing() -> None:
    program = await make_program()
    gold = await create_tier(program.id, GOLD)
    same = {"name": "Gold", "threshold": Decimal("1000.5"), "multiplier": Decimal("1.50")}
    assert await update_tier(program.id, gold.id, same) == gold
    assert await update_tier(program.id, gold.id, {}) == gold


async def test_a_new_name_or_multiplier_counts_from_its_time_on(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await make_program()
    first = set_now(monkeypatch, 2026, 1, 1)
    gold = await create_tier(program.id, GOLD)
    second = set_now(monkeypatch, 2026, 2, 1)
    await update_tier(program.id, gold.id, {"multiplier": Decimal(2)})
    set_now(monkeypatch, 2026, 3, 1)
    await update_tier(program.id, gold.id, {"threshold": Decimal(1), "benefits": ()})
    third = set_now(monkeypatch, 2026, 4, 1)

    gold = await update_tier(program.id, gold.id, {"name": "Golden"})

    assert gold.factors == (
        Factor(first, "Gold", Decimal("1.5")),
        Factor(second, "Gold", Decimal(2)),
        Factor(third, "Golden", Decimal(2)),
    )


async def test_of_changes_in_one_instant_or_by_a_clock_behind_the_last_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = await make_program()
    moment = set_now(monkeypatch, 2026, 1, 1)
    gold = await create_tier(program.id, GOLD)
    for multiplier in (2, 3):
        gold = await update_tier(program.id, gold.id, {"multiplier": Decimal(multiplier)})
    assert gold.factors == (Factor(moment, "Gold", Decimal(3)),)

    set_now(monkeypatch, 2025, 12, 31)
    gold = await update_tier(program.id, gold.id, {"multiplier": Decimal(4)})
    assert gold.factors == (Factor(moment, "Gold", Decimal(4)),)


async def test_a_tier_of_another_program_is_none() -> None:
    program, other = await make_program(), await make_program()
    gold = await create_tier(program.id, GOLD)
    nothing = {(ErrorCode.NOT_FOUND, ("id",))}
    # Whatever is wrong with the change: nothing is told of what is not there.
    assert await refusal(update_tier(other.id, gold.id, {"name": ""})) == nothing
    assert await refusal(update_tier(other.id, uuid4(), {"name": ""})) == nothing
    assert await get_tiers(other.id) == []


async def test_whatever_changes_a_tier_makes_rule_sets_old() -> None:
    program = await make_program()
    versions = [await version_of(program.id)]
    gold = await create_tier(program.id, GOLD)
    versions.append(await version_of(program.id))
    for change in ({"name": "Golden"}, {"threshold": Decimal(7)}, {"multiplier": Decimal(3)}):
        await update_tier(program.id, gold.id, change)
        versions.append(await version_of(program.id))
    assert versions == sorted(set(versions))

    await refusal(create_tier(program.id, replace(GOLD, threshold=Decimal(7))))
    assert await version_of(program.id) == versions[-1]
