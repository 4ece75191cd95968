"""Purchases partly paid with points, through the API: what they earn, and what refunds give back."""

from types import SimpleNamespace
from typing import Any

import pytest

from app.ids import new_id, to_global_id
from tests.api.client import RECORD, World, unique, uuid_of
from tests.api.statements import counting
from tests.api.test_events import BATCH
from tests.earning.paying import pay

REFUND = """mutation ($input: RefundPurchaseInput!) { refundPurchase(input: $input) {
    refunds { id amount points restoredPoints } userErrors { code field message }
} }"""
NODE = "query ($id: ID!) { node(id: $id) { ... on Refund { restoredPoints } } }"
SIMULATE = """query ($input: EventInput!) { simulate(input: $input) {
    points awards { steps { label } } explanation { reason message } userErrors { code field }
} }"""


@pytest.fixture
async def shop(world: World) -> World:
    """A world in which a point is given for every euro, and a member who has points."""
    await world.rule()
    await world.adjust(10_000)
    return world


async def paid(world: World, points: int = 2000, amount: str = "20.00", member: str | None = None) -> str:
    """Spend points of the world's member on money off an order, and return the redemption's id."""
    who: Any = SimpleNamespace(id=uuid_of(member or world.member))
    made = await pay(world, who, points, amount)  # type: ignore[arg-type] # anything with the program's id
    return to_global_id("Redemption", made.id)


def sale(world: World, redemption: str | None, **fields: Any) -> dict[str, Any]:
    base = {"member": {"id": world.member}, "externalId": unique("sale"), "amount": "100.00"}
    return base | {"redemptionId": redemption} | fields


@pytest.mark.parametrize("processing", ["NOW", "DEFERRED"])
async def test_the_part_that_was_paid_with_points_earns_nothing(shop: World, processing: str) -> None:
    bought = sale(shop, await paid(shop), processing=processing)
    assert (await shop.done(RECORD, **bought))["event"]["amount"] == "100.00"
    await shop.work()
    again = await shop.done(RECORD, **bought)
    assert again["replayed"]
    assert again["event"]["points"] == 80
    other = bought | {"redemptionId": None}
    assert await shop.refused(RECORD, **other) == [("IDEMPOTENCY_CONFLICT", ["externalId"])]


async def test_it_earns_in_a_program_that_says_so(shop: World) -> None:
    update = "mutation { updateProgram(input: {earnOnPointsPayments: true}) { userErrors { code } } }"
    await shop.call(update)
    assert (await shop.done(RECORD, **sale(shop, await paid(shop))))["event"]["points"] == 100


async def test_what_is_no_redemption_of_the_member_is_not_found(shop: World) -> None:
    other = await shop.enrol()
    await shop.adjust(100, member={"id": other["id"]})
    strange = [
        await paid(shop, 100, "1", other["id"]),
        to_global_id("Redemption", new_id()),
        shop.member,
        "nonsense",
        "",
    ]
    for redemption in strange:
        payload = await shop.do(RECORD, **sale(shop, redemption))
        assert payload["event"] is None
        assert payload["userErrors"] == [
            {
                "code": "NOT_FOUND",
                "field": ["redemptionId"],
                "message": "The member has no such redemption.",
            }
        ]


async def test_a_batch_goes_on_when_a_redemption_is_named_twice(shop: World) -> None:
    redemption = await paid(shop)
    events = [sale(shop, redemption), sale(shop, redemption), sale(shop, None)]
    batch = {"input": [{"purchase": event} for event in events]}
    payload = (await shop.call(BATCH, batch))["recordEvents"]
    assert payload["accepted"] == 2
    (error,) = payload["userErrors"]
    assert (error["code"], error["field"]) == ("WRONG_STATE", ["1", "purchase", "redemptionId"])


async def test_simulating_tells_what_the_payment_takes_away(shop: World) -> None:
    event = {"purchase": sale(shop, await paid(shop))}
    simulated = (await shop.call(SIMULATE, {"input": event}))["simulate"]
    assert simulated["points"] == 80
    assert simulated["awards"][0]["steps"][0]["label"] == (
        "1 point per 1.00 EUR on 80.00 EUR of 100.00 EUR, without what was paid with points"
    )
    whole = {"purchase": sale(shop, await paid(shop), amount="20.00")}
    simulated = (await shop.call(SIMULATE, {"input": whole}))["simulate"]
    assert simulated["points"] == 0
    assert simulated["explanation"] == [
        {
            "reason": "ROUNDED_TO_ZERO",
            "message": "All of the purchase was paid with points, which earn nothing here.",
        }
    ]
    wrong = {"purchase": sale(shop, "nonsense")}
    simulated = (await shop.call(SIMULATE, {"input": wrong}))["simulate"]
    assert simulated["userErrors"] == [{"code": "NOT_FOUND", "field": ["purchase", "redemptionId"]}]


async def test_a_refund_gives_points_back_and_takes_earnings_each_in_its_proportion(shop: World) -> None:
    event = (await shop.done(RECORD, **sale(shop, await paid(shop))))["event"]
    named = {"purchase": {"id": event["id"]}}
    (part,) = (await shop.done(REFUND, **named, externalId=unique("r"), amount="25.00"))["refunds"]
    assert (part["points"], part["restoredPoints"]) == (20, 500)
    assert (await shop.call(NODE, {"id": part["id"]}))["node"] == {"restoredPoints": 500}
    (rest,) = (await shop.done(REFUND, **named, externalId=unique("r")))["refunds"]
    assert (rest["points"], rest["restoredPoints"]) == (60, 1500)
    plain = (await shop.purchase("10"))["event"]
    (refund,) = (await shop.done(REFUND, purchase={"id": plain["id"]}, externalId=unique("r")))["refunds"]
    assert refund["restoredPoints"] == 0


async def test_all_redemptions_of_a_batch_are_found_by_one_statement(shop: World) -> None:
    async def batch(redemptions: int) -> int:
        """Store twenty purchases of which so many were partly paid with points; count the statements."""
        named = [await paid(shop, 1, "0.01") if n < redemptions else None for n in range(20)]
        events = [{"purchase": sale(shop, each)} for each in named]
        async with counting() as counted:
            await shop.call(BATCH, {"input": events})
        return counted.numbers[0]

    plain, one, many = [min([await batch(size) for _ in range(3)]) for size in (0, 1, 20)]
    assert one == many == plain + 1
