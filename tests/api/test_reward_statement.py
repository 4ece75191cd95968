"""What paid rewards are billed at, through the API."""

from typing import Any

import pytest

from tests.api.client import CANCEL, World, unique
from tests.helpers import set_now

STATEMENT = """query ($month: Date!) { rewardStatement(month: $month) { month total closed lines {
    reward { id name } name redeemed credited count faceValue total
} } }"""


async def statement(world: World, month: str) -> Any:
    return (await world.call(STATEMENT, {"month": month}))["rewardStatement"]


async def test_statement_has_a_line_for_each_reward_and_credits_in_the_month_of_the_cancellation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.adjust(100_000)
    card = await world.reward("GIFT_CARD", name="Card", faceValue="10.5", generateCodes=True)
    book = await world.reward(name="Book", faceValue="3")
    gift = await world.reward(name="Gift")
    # In Berlin it is April already.
    set_now(monkeypatch, 2990, 3, 31, 22, 0, 0)
    first = (await world.redeem(card["id"], quantity=2))["redemption"]
    for reward in (book, gift):
        await world.redeem(reward["id"])
    set_now(monkeypatch, 2990, 5, 1)
    await world.done(CANCEL, redemptionId=first["id"], reason="No", idempotencyKey=unique("key"))
    march, april, may = [await statement(world, f"2990-0{month}-30") for month in (3, 4, 5)]
    assert march == {"month": "2990-03-01", "total": "0.00", "closed": True, "lines": []}
    assert april == {
        "month": "2990-04-01",
        "total": "24.00",
        "closed": True,
        "lines": [
            {
                "reward": {"id": book["id"], "name": "Book"}, "name": "Book", "redeemed": 1, "credited": 0,
                "count": 1, "faceValue": "3.00", "total": "3.00",
            },
            {
                "reward": {"id": card["id"], "name": "Card"}, "name": "Card", "redeemed": 2, "credited": 0,
                "count": 2, "faceValue": "10.50", "total": "21.00",
            },
        ],
    }  # fmt: skip
    assert (may["total"], may["closed"]) == ("-21.00", False)
    assert [(line["count"], line["credited"]) for line in may["lines"]] == [(-2, 2)]


async def test_future_month_is_empty_and_open_and_what_is_no_month_is_refused(world: World) -> None:
    assert await statement(world, "9000-12-31") == {
        "month": "9000-12-01",
        "total": "0.00",
        "closed": False,
        "lines": [],
    }
    answer = await world.post(STATEMENT, {"month": "1969-12-31"})
    assert answer.error["extensions"] == {"code": "BAD_USER_INPUT", "field": ["month"], "reason": "INVALID"}
    assert (await world.post(STATEMENT, {"month": "2026-13-01"})).codes == ["BAD_USER_INPUT"]


async def test_three_scopes_read_statements_and_members_do_not(world: World) -> None:
    query = "query ($month: Date!) { rewardStatement(month: $month) { total lines { reward { id } } } }"
    for scope, allowed in [
        ("redemptions:read", True),
        ("redemptions:write", True),
        ("catalog:read", True),
        ("catalog:write", False),
        ("program:read", False),
    ]:
        answer = await world.api.post(
            query, {"month": "2026-01-01"}, await world.scoped_key(frozenset({scope}))
        )
        assert (answer.codes == []) is allowed, scope
    assert (await world.api.post(query, {"month": "2026-01-01"}, world.token)).codes == ["FORBIDDEN"]
