"""Tiers that are earned, through the API: the policy, the progress, and recalculation as a job."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.api.client import World
from tests.helpers import work_all

UPDATE = """mutation($input: UpdateProgramInput!) { updateProgram(input: $input) {
    program { tierPolicy { basis window months downgrade graceDays } }
    userErrors { code message field } } }"""
PROGRESS = """query($id: ID!) { node(id: $id) { ... on Member { tier { name } tierProgress {
    current { name rank } next { name } qualifying missing keepsUntil } } } }"""
ROLLING = {"basis": "AMOUNT_SPENT", "window": "ROLLING_MONTHS", "months": 6, "graceDays": 14}


async def progress(world: World) -> Any:
    return (await world.call(PROGRESS, {"id": world.member}))["node"]


async def test_a_member_climbs_and_is_told_how_far(world: World) -> None:
    policy = (await world.done(UPDATE, tierPolicy=ROLLING))["program"]["tierPolicy"]
    assert policy == ROLLING | {"downgrade": "TO_QUALIFIED"}
    for name, threshold in (("Base", "0"), ("Silver", "100"), ("Gold", "250.50")):
        await world.tier(threshold, name=name)
    nothing = {"current": {"name": "Base", "rank": 0}, "next": {"name": "Silver"}, "keepsUntil": None}
    found = await progress(world)
    assert found["tierProgress"] == nothing | {"qualifying": "0", "missing": "100"}
    when = datetime.now(UTC) - timedelta(days=3)
    await world.purchase("100.00", occurredAt=when.isoformat())
    await work_all(world)  # type: ignore[arg-type] # anything with the program's id
    found = await progress(world)
    assert found["tier"] == {"name": "Silver"}
    told = found["tierProgress"]
    assert (told["current"], told["next"]) == ({"name": "Silver", "rank": 1}, {"name": "Gold"})
    assert (told["qualifying"], told["missing"]) == ("100", "150.5")
    keeps = datetime.fromisoformat(told["keepsUntil"])
    assert timedelta(days=175) < keeps - when - timedelta(days=14) < timedelta(days=190)


async def test_a_policy_that_cannot_be_is_told_field_by_field(world: World) -> None:
    for sent, field in (
        ({"window": "ROLLING_MONTHS"}, ["tierPolicy", "months"]),
        ({"window": "LIFETIME", "months": 3}, ["tierPolicy", "months"]),
        ({"window": "ROLLING_MONTHS", "months": 0}, ["tierPolicy", "months"]),
        ({"graceDays": -1}, ["tierPolicy", "graceDays"]),
    ):
        assert [where for _, where in await world.refused(UPDATE, tierPolicy=sent)] == [field]
