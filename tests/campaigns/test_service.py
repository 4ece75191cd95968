"""Campaigns: set up once, changed while they have not ended, and ended for good."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from app import clock
from app.campaigns import service
from app.campaigns.audience import EVERYBODY, Audience
from app.campaigns.campaigns import CampaignStatus
from app.campaigns.checks import NewCampaign, check_audience
from app.campaigns.reads import get_campaigns, list_campaigns, load_campaigns
from app.campaigns.service import create_campaign, end_campaign, update_campaign
from app.database import connection
from app.earning.rules import EventKind
from app.errors import ErrorCode
from app.paging import Page
from app.tiers.tiers import Factor
from tests.campaigns.making import DOUBLE, make_campaign
from tests.helpers import set_now
from tests.programs.making import make_program
from tests.programs.test_service import refusal
from tests.stores.making import make_store
from tests.tiers.making import at, make_tier, version_of

HOUR = timedelta(hours=1)


async def count(program_id: UUID) -> int:
    async with connection() as sql:
        return await sql.fetchval("SELECT count(*) FROM campaign WHERE program_id = $1", program_id)


async def test_a_campaign_is_kept_as_it_was_given() -> None:
    program = await make_program()
    gold, mitte = await make_tier(program.id, 1000), await make_store(program.id)
    kinds = (EventKind.PURCHASE, EventKind.CHECK_IN)
    audience = Audience((gold.id,), (mitte.id,))

    made = await make_campaign(program.id, applies_to=kinds, audience=audience)

    assert (made.name, made.starts_at, made.ends_at, made.multiplier) == (
        "Double summer",
        at(2026, 6, 1),
        at(2026, 9, 1),
        2,
    )
    assert (made.applies_to, made.audience) == (kinds, audience)
    assert made.factors == (Factor(made.created_at, "Double summer", Decimal(2)),)
    assert await get_campaigns(program.id, [uuid4(), made.id]) == [None, made]


async def test_a_campaign_that_says_little_is_for_everybody_and_everything() -> None:
    program = await make_program()
    made = await create_campaign(program.id, DOUBLE)
    assert (made.applies_to, made.audience) == (tuple(EventKind), EVERYBODY)


async def test_what_is_named_twice_counts_once() -> None:
    program = await make_program()
    gold, silver = await make_tier(program.id, 1000), await make_tier(program.id, 500)
    made = await make_campaign(
        program.id,
        applies_to=(EventKind.ACTION, EventKind.PURCHASE, EventKind.ACTION),
        audience=Audience((silver.id, gold.id, silver.id)),
    )
    assert made.applies_to == (EventKind.PURCHASE, EventKind.ACTION)
    assert made.audience == Audience((gold.id, silver.id))


WRONG: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"name": ""}, ("name",)),
    ({"name": "x" * 201}, ("name",)),
    ({"name": "a\0b"}, ("name",)),
    ({"ends_at": DOUBLE.starts_at}, ("ends_at",)),
    ({"ends_at": DOUBLE.starts_at - HOUR}, ("ends_at",)),
    ({"starts_at": DOUBLE.ends_at}, ("ends_at",)),
    ({"multiplier": Decimal(1)}, ("multiplier",)),
    ({"multiplier": Decimal("1.000")}, ("multiplier",)),
    ({"multiplier": Decimal(0)}, ("multiplier",)),
    ({"multiplier": Decimal(-2)}, ("multiplier",)),
    ({"multiplier": Decimal("1000.1")}, ("multiplier",)),
    ({"multiplier": Decimal("1.0000001")}, ("multiplier",)),
    ({"multiplier": Decimal("NaN")}, ("multiplier",)),
    ({"applies_to": ()}, ("applies_to",)),
    ({"audience": Audience(tiers=tuple(UUID(int=n) for n in range(101)))}, ("audience", "tier_ids")),
    ({"audience": Audience(stores=tuple(UUID(int=n) for n in range(101)))}, ("audience", "store_ids")),
]


@pytest.mark.parametrize(("wrong", "field"), WRONG)
async def test_a_campaign_that_cannot_be_is_refused_by_field(
    wrong: dict[str, Any], field: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, 2026, 7, 1)
    program = await make_program()
    made = await create_campaign(program.id, DOUBLE)

    assert await refusal(make_campaign(program.id, **wrong)) == {(ErrorCode.INVALID, field)}
    assert await refusal(update_campaign(program.id, made.id, wrong)) == {(ErrorCode.INVALID, field)}
    assert await get_campaigns(program.id, [made.id]) == [made]
    assert await count(program.id) == 1


async def test_everything_that_is_wrong_with_a_campaign_is_told_at_once() -> None:
    program = await make_program()
    wrong = NewCampaign(
        name="", starts_at=at(2026, 2, 1), ends_at=at(2026, 1, 1), multiplier=Decimal(1), applies_to=(),
        audience=Audience((uuid4(),), (uuid4(),)),
    )  # fmt: skip
    assert {field for _, field in await refusal(create_campaign(program.id, wrong))} == {
        ("name",), ("ends_at",), ("multiplier",), ("applies_to",), ("audience", "tier_ids", "0"),
        ("audience", "store_ids", "0"),
    }  # fmt: skip


async def test_an_audience_names_what_the_program_has() -> None:
    program, other = await make_program(), await make_program()
    gold, mitte = await make_tier(program.id, 1000), await make_store(program.id)
    theirs, there = await make_tier(other.id, 1000), await make_store(other.id)
    audience = Audience((gold.id, theirs.id, gold.id, uuid4()), (uuid4(), mitte.id, there.id))
    wrong = {
        (ErrorCode.NOT_FOUND, ("audience", name, place))
        for name, place in (("tier_ids", "1"), ("tier_ids", "3"), ("store_ids", "0"), ("store_ids", "2"))
    }

    assert await refusal(make_campaign(program.id, audience=audience)) == wrong
    async with connection() as sql:
        errors = await check_audience(sql, program.id, audience)
        assert {(error.code, error.field) for error in errors} == wrong
        assert await check_audience(sql, program.id, Audience((gold.id,), (mitte.id,))) == []
        assert await check_audience(sql, program.id, EVERYBODY) == []


async def test_a_campaign_may_lie_in_the_past_because_history_can_still_come_in() -> None:
    program = await make_program()
    made = await make_campaign(program.id, starts_at=at(1990, 1, 1), ends_at=at(1990, 2, 1))
    assert made.status_at(clock.now()) is CampaignStatus.ENDED


async def test_the_same_campaign_is_set_up_once() -> None:
    program, other = await make_program(), await make_program()
    tiers = [(await make_tier(program.id, n)).id for n in range(2)]
    fields: dict[str, Any] = {
        "applies_to": (EventKind.ACTION, EventKind.PURCHASE),
        "audience": Audience(tuple(tiers)),
    }
    first = await make_campaign(program.id, **fields)
    again = await make_campaign(
        program.id,
        multiplier=Decimal("2.00"),
        applies_to=fields["applies_to"][::-1],
        audience=Audience(tuple(reversed(tiers))),
    )
    assert again == first

    for change in (
        {"name": "Other"}, {"starts_at": DOUBLE.starts_at + HOUR}, {"ends_at": DOUBLE.ends_at + HOUR},
        {"multiplier": Decimal(3)}, {"applies_to": (EventKind.ACTION,)}, {"audience": Audience((tiers[0],))},
    ):  # fmt: skip
        assert (await make_campaign(program.id, **(fields | change))).id != first.id
    assert await count(program.id) == 7
    assert (await create_campaign(other.id, DOUBLE)).id != (await create_campaign(program.id, DOUBLE)).id


async def test_the_same_campaign_sent_many_times_at_once_is_set_up_once() -> None:
    program = await make_program()
    made = await asyncio.gather(*(create_campaign(program.id, DOUBLE) for _ in range(10)))
    assert len({each.id for each in made}) == await count(program.id) == 1


async def test_a_program_has_so_many_campaigns_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await make_program()
    monkeypatch.setattr(service, "MAX_CAMPAIGNS", 2)
    for name in ("One", "Two"):
        await make_campaign(program.id, name=name)
    assert await refusal(make_campaign(program.id, name="Three")) == {(ErrorCode.LIMIT_REACHED, None)}
    # One that is there already is no more than there are.
    assert (await make_campaign(program.id, name="Two")).name == "Two"


async def test_an_update_changes_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 7, 1)
    program = await make_program()
    gold, mitte = await make_tier(program.id, 1000), await make_store(program.id)
    made = await create_campaign(program.id, DOUBLE)
    set_now(monkeypatch, 2026, 7, 2)
    for change in (
        {"name": "Triple summer"}, {"starts_at": at(2026, 5, 1)}, {"ends_at": at(2026, 10, 1)},
        {"multiplier": Decimal(3)}, {"applies_to": (EventKind.PURCHASE,)},
        {"audience": Audience((gold.id,), (mitte.id,))}, {"audience": EVERYBODY},
        {"name": "Quadruple", "multiplier": Decimal(4)},
    ):  # fmt: skip
        changed = await update_campaign(program.id, made.id, change)
        assert changed.updated_at == clock.now()
        made = replace(made, **change, updated_at=changed.updated_at, factors=changed.factors)  # type: ignore[arg-type]
        assert changed == made
    assert await get_campaigns(program.id, [made.id]) == [made]


async def test_an_update_that_changes_nothing_writes_nothing() -> None:
    program = await make_program()
    made = await create_campaign(program.id, DOUBLE)
    same = {name: getattr(DOUBLE, name) for name in DOUBLE.__slots__}
    assert await update_campaign(program.id, made.id, same | {"multiplier": Decimal("2.0")}) == made
    kinds = {"applies_to": (*reversed(EventKind), EventKind.ACTION)}
    assert await update_campaign(program.id, made.id, kinds) == made


async def test_a_new_name_or_multiplier_counts_from_its_time_on(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await make_program()
    first = set_now(monkeypatch, 2026, 5, 1)
    made = await create_campaign(program.id, DOUBLE)
    second = set_now(monkeypatch, 2026, 7, 1)
    for multiplier in (3, 4):
        await update_campaign(program.id, made.id, {"multiplier": Decimal(multiplier)})
    set_now(monkeypatch, 2026, 7, 2)
    await update_campaign(program.id, made.id, {"ends_at": at(2026, 8, 1)})
    third = set_now(monkeypatch, 2026, 9, 1)

    made = await update_campaign(program.id, made.id, {"name": "Last summer"})

    assert made.factors == (
        Factor(first, "Double summer", Decimal(2)),
        Factor(second, "Double summer", Decimal(4)),
        Factor(third, "Last summer", Decimal(4)),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"starts_at": at(2026, 5, 1)},
        {"ends_at": at(2027, 1, 1)},
        {"multiplier": Decimal(3)},
        {"applies_to": (EventKind.ACTION,)},
        {"audience": Audience((UUID(int=1),))},
    ],
)
async def test_of_a_campaign_that_has_ended_nothing_but_the_name_can_change(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, 2026, 9, 1)
    program = await make_program()
    made = await create_campaign(program.id, DOUBLE)
    (field,) = change

    wrong = await refusal(update_campaign(program.id, made.id, {"name": "", **change}))

    assert wrong == {(ErrorCode.INVALID, ("name",)), (ErrorCode.WRONG_STATE, (field,))}
    assert await get_campaigns(program.id, [made.id]) == [made]
    same = {"starts_at": made.starts_at, "ends_at": made.ends_at, "multiplier": Decimal("2.0")}
    assert (await update_campaign(program.id, made.id, same | {"name": "Gone"})).name == "Gone"


async def test_a_campaign_that_runs_ends_now(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 7, 1)
    program = await make_program()
    made = await create_campaign(program.id, DOUBLE)
    now = set_now(monkeypatch, 2026, 8, 1)

    ended = await end_campaign(program.id, made.id)

    assert ended == replace(made, ends_at=now, updated_at=now)
    assert ended.status_at(now) is CampaignStatus.ENDED
    set_now(monkeypatch, 2026, 8, 2)
    assert await end_campaign(program.id, made.id) == ended
    assert await get_campaigns(program.id, [made.id]) == [ended]


async def test_a_campaign_that_has_not_begun_never_counts_once_it_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = set_now(monkeypatch, 2026, 5, 1)
    program = await make_program()
    made = await create_campaign(program.id, DOUBLE)

    ended = await end_campaign(program.id, made.id)

    assert (ended.starts_at, ended.ends_at) == (DOUBLE.starts_at, DOUBLE.starts_at)
    assert ended.status_at(now) is CampaignStatus.ENDED
    assert await end_campaign(program.id, made.id) == ended
    # Its name can still be put right, and nothing else.
    assert (await update_campaign(program.id, made.id, {"name": "Never"})).name == "Never"
    again = update_campaign(program.id, made.id, {"ends_at": DOUBLE.ends_at})
    assert await refusal(again) == {(ErrorCode.WRONG_STATE, ("ends_at",))}
    # The same can be set up anew.
    assert (await create_campaign(program.id, DOUBLE)).id != made.id


async def test_a_campaign_that_ended_by_itself_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 9, 1)
    program = await make_program()
    made = await create_campaign(program.id, DOUBLE)
    assert await end_campaign(program.id, made.id) == made


async def test_a_campaign_of_another_program_is_none() -> None:
    program, other = await make_program(), await make_program()
    made = await create_campaign(program.id, DOUBLE)
    nothing = {(ErrorCode.NOT_FOUND, ("id",))}
    for campaign_id in (made.id, uuid4()):
        assert await refusal(update_campaign(other.id, campaign_id, {"name": ""})) == nothing
        assert await refusal(end_campaign(other.id, campaign_id)) == nothing
    assert await get_campaigns(other.id, [made.id]) == [None]
    assert await get_campaigns(program.id, [made.id]) == [made]


async def test_whatever_changes_a_campaign_makes_rule_sets_old(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 7, 1)
    program = await make_program()
    versions = [await version_of(program.id)]
    made = await create_campaign(program.id, DOUBLE)
    versions.append(await version_of(program.id))
    for change in ({"name": "Other"}, {"multiplier": Decimal(3)}, {"applies_to": (EventKind.ACTION,)}):
        await update_campaign(program.id, made.id, change)  # type: ignore[arg-type]
        versions.append(await version_of(program.id))
    await end_campaign(program.id, made.id)
    versions.append(await version_of(program.id))
    assert versions == sorted(set(versions))

    await refusal(make_campaign(program.id, name=""))
    assert await version_of(program.id) == versions[-1]


async def test_all_campaigns_of_a_program_are_loaded_by_their_start() -> None:
    program, other = await make_program(), await make_program()
    late = await make_campaign(program.id, name="Late", starts_at=at(2026, 8, 1))
    early = await make_campaign(program.id, name="Early", starts_at=at(2026, 6, 1))
    same = await make_campaign(program.id, name="Same", starts_at=at(2026, 6, 1))
    await create_campaign(other.id, DOUBLE)
    async with connection() as sql:
        assert await load_campaigns(sql, program.id) == [early, same, late]


async def test_a_list_says_of_each_campaign_what_the_campaign_says() -> None:
    program = await make_program()
    start = at(2026, 6, 1)
    windows = [(start, start + HOUR), (start + HOUR, start + 3 * HOUR), (start - HOUR, start)]
    made = [await make_campaign(program.id, starts_at=begin, ends_at=end) for begin, end in windows]
    made.append(
        await end_campaign(
            program.id, (await make_campaign(program.id, starts_at=at(2900, 1, 1), ends_at=at(2901, 1, 1))).id
        )
    )
    for moment in (start - 2 * HOUR, start - HOUR, start, start + HOUR, start + 2 * HOUR, start + 3 * HOUR):
        for status in CampaignStatus:
            found = await list_campaigns(program.id, Page(), moment, {status})
            assert found.items == [each for each in made if each.status_at(moment) is status]
        everything = await list_campaigns(program.id, Page(), moment, set(CampaignStatus))
        assert everything.items == made
