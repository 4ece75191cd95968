"""Refunds and returns through the API: what comes back, what is refused and where, and who may see it."""

from typing import Any

import pytest

from app.ids import to_global_id
from tests.api.client import REFUND, RETURN, Api, World, make_world, unique

EVENT = """query ($id: ID!) { event(by: {id: $id}) {
    amount refundedAmount refunds { id externalId points event { id } }
} }"""
NODE = "query ($id: ID!) { node(id: $id) { id ... on Refund { externalId points lines { number } } } }"
SHOES = {"sku": "shoes", "amount": "60.00", "quantity": "2"}
SOCKS = {"sku": "socks", "amount": "10.00"}


@pytest.fixture
async def shop(world: World) -> World:
    """A world in which a point is given for every euro."""
    await world.rule()
    return world


async def buy(world: World, *lines: dict[str, str], **fields: Any) -> dict[str, Any]:
    """Record a purchase of shoes and socks, unless told otherwise, and return its event."""
    return (await world.purchase(None, lines=list(lines) or [SHOES, SOCKS], **fields))["event"]


def of(event: dict[str, Any]) -> dict[str, str]:
    return {"id": event["id"]}


async def test_a_returned_line_takes_back_what_it_earned(shop: World) -> None:
    event = await buy(shop)
    refunded = await shop.done(
        REFUND, purchase=of(event), externalId="r1", lines=[{"number": 1, "quantity": "1"}]
    )
    (refund,) = refunded.pop("refunds")
    assert refund.pop("id")
    assert refund == {
        "externalId": "r1",
        "amount": "30.00",
        "points": 30,
        "debt": 0,
        "writtenOff": 0,
        "lines": [{"number": 1, "quantity": "1", "amount": "30.00"}],
        "event": of(event),
    }
    assert refunded == {
        "unmatched": [],
        "member": {"id": shop.member, "balance": {"available": 40, "pending": 0, "debt": 0}},
        "replayed": False,
        "userErrors": [],
    }


async def test_a_purchase_is_named_by_the_callers_own_id_too(shop: World) -> None:
    event = await buy(shop)
    refunded = await shop.done(REFUND, purchase={"externalId": event["externalId"]}, externalId="r1")
    assert refunded["refunds"][0]["event"] == of(event)
    assert (refunded["refunds"][0]["amount"], refunded["refunds"][0]["points"]) == ("70.00", 70)
    assert refunded["member"]["balance"]["available"] == 0


async def test_a_purchase_shows_its_refunds_and_their_sum(shop: World) -> None:
    event = await buy(shop)
    before = (await shop.call(EVENT, of(event)))["event"]
    assert before == {"amount": "70.00", "refundedAmount": "0", "refunds": []}
    for n, amount in enumerate(("10.50", "4")):
        await shop.done(REFUND, purchase=of(event), externalId=f"r{n}", amount=amount)
    after = (await shop.call(EVENT, of(event)))["event"]
    assert after["refundedAmount"] == "14.50"
    assert [(each["externalId"], each["points"]) for each in after["refunds"]] == [("r0", 11), ("r1", 4)]
    assert [each["event"] for each in after["refunds"]] == [of(event)] * 2


async def test_what_is_owed_and_what_is_written_off_is_told(api: Api) -> None:
    shop = await make_world(api, debtLimit=20)
    await shop.rule()
    event = await buy(shop)
    await shop.adjust(-40)
    refunded = await shop.done(REFUND, purchase=of(event), externalId="r1")
    (refund,) = refunded["refunds"]
    assert (refund["points"], refund["debt"], refund["writtenOff"]) == (50, 20, 20)
    assert refunded["member"]["balance"] == {"available": 0, "pending": 0, "debt": 20}


async def test_the_same_refund_again_answers_with_what_happened(shop: World) -> None:
    event = await buy(shop)
    sent = {"purchase": of(event), "externalId": "r1", "lines": [{"number": 2, "quantity": "1"}]}
    first = await shop.done(REFUND, **sent)
    again = await shop.done(REFUND, **sent | {"lines": [{"number": 2, "quantity": "1.00"}]})
    assert again == first | {"replayed": True}
    assert await shop.refused(REFUND, **sent | {"amount": "1"}) == [("IDEMPOTENCY_CONFLICT", ["externalId"])]
    back = {"member": {"id": shop.member}, "items": [{"sku": "socks", "quantity": "1", "amount": "1"}]}
    assert await shop.refused(RETURN, externalId="r1", **back) == [("IDEMPOTENCY_CONFLICT", ["externalId"])]


NO_SUCH = ("NOT_FOUND", ["purchase", "id"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"purchase": {"externalId": "nothing"}}, ("NOT_FOUND", ["purchase", "externalId"])),
        ({"purchase": {"externalId": "nothing\0"}}, ("NOT_FOUND", ["purchase", "externalId"])),
        ({"purchase": {"id": to_global_id("Event", "none")}}, NO_SUCH),
        ({"purchase": {"id": "nonsense"}}, NO_SUCH),
        ({"externalId": ""}, ("INVALID", ["externalId"])),
        ({"externalId": "laurel:mine"}, ("INVALID", ["externalId"])),
        ({"occurredAt": "2999-01-01T00:00:00Z"}, ("INVALID", ["occurredAt"])),
        ({"occurredAt": "2001-01-01T00:00:00Z"}, ("INVALID", ["occurredAt"])),
        ({"lines": []}, ("INVALID", ["lines"])),
        ({"lines": [{"number": 3, "quantity": "1"}]}, ("INVALID", ["lines", "0", "number"])),
        ({"lines": [{"number": 0, "quantity": "1"}]}, ("INVALID", ["lines", "0", "number"])),
        ({"lines": [{"number": 1, "quantity": "2.1"}]}, ("INVALID", ["lines", "0", "quantity"])),
        ({"lines": [{"number": 1, "quantity": "0"}]}, ("INVALID", ["lines", "0", "quantity"])),
        (
            {"lines": [{"number": 1, "quantity": "1", "amount": "60.01"}]},
            ("INVALID", ["lines", "0", "amount"]),
        ),
        ({"lines": [{"number": 1, "quantity": "1", "amount": "-1"}]}, ("INVALID", ["lines", "0", "amount"])),
        ({"amount": "70.01"}, ("INVALID", ["amount"])),
        ({"amount": "0"}, ("INVALID", ["amount"])),
    ],
)
async def test_what_is_wrong_with_a_refund_is_told_by_its_field(
    shop: World, changes: dict[str, Any], expected: tuple[str, list[str]]
) -> None:
    event = await buy(shop)
    assert await shop.refused(REFUND, **{"purchase": of(event), "externalId": "r1"} | changes) == [expected]
    assert (await shop.call(EVENT, of(event)))["event"]["refunds"] == []


async def test_everything_that_is_wrong_is_told_at_once(shop: World) -> None:
    event = await buy(shop)
    wrong = [{"number": 9, "quantity": "1"}, {"number": 2, "quantity": "2"}]
    assert await shop.refused(REFUND, purchase=of(event), externalId="r1", lines=wrong, amount="-5") == [
        ("INVALID", ["lines", "0", "number"]),
        ("INVALID", ["lines", "1", "quantity"]),
        ("INVALID", ["amount"]),
    ]


async def test_what_has_been_refunded_is_not_refunded_again(shop: World) -> None:
    event = await buy(shop)
    await shop.done(REFUND, purchase=of(event), externalId="r1")
    assert await shop.refused(REFUND, purchase=of(event), externalId="r2") == [("WRONG_STATE", ["purchase"])]


async def test_only_purchases_can_be_refunded(shop: World) -> None:
    record = """mutation ($input: ActionInput!) {
        recordAction(input: $input) { event { id refundedAmount refunds { id } } userErrors { code } }
    }"""
    action = {"member": {"id": shop.member}, "action": "quiz", "externalId": unique("quiz")}
    event = (await shop.done(record, **action))["event"]
    assert (event["refundedAmount"], event["refunds"]) == ("0", [])
    assert await shop.refused(REFUND, purchase=of(event), externalId="r1") == [NO_SUCH]


async def test_returned_goods_are_found_in_the_latest_purchases(shop: World) -> None:
    early = await buy(shop, occurredAt="2026-01-01T10:00:00Z")
    late = await buy(shop, SHOES | {"amount": "50.00"}, occurredAt="2026-01-02T10:00:00Z")
    items = [{"sku": "shoes", "quantity": "3", "amount": "1"}, {"sku": "hat", "quantity": "2", "amount": "9"}]
    returned = await shop.done(RETURN, member={"email": shop.email}, externalId="back", items=items)
    assert [(each["event"], each["amount"], each["points"]) for each in returned["refunds"]] == [
        (of(late), "50.00", 50),
        (of(early), "30.00", 30),
    ]
    assert {each["externalId"] for each in returned["refunds"]} == {"back"}
    assert returned["unmatched"] == [{"sku": "hat", "quantity": "2"}]
    assert returned["member"]["balance"]["available"] == 40
    again = await shop.done(RETURN, member={"id": shop.member}, externalId="back", items=items)
    assert again == returned | {"replayed": True}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"member": {"email": "nobody@example.com"}}, ("NOT_FOUND", ["member", "email"])),
        ({"member": {"externalId": "nobody"}}, ("NOT_FOUND", ["member", "externalId"])),
        ({"member": {"id": "nobody"}}, ("NOT_FOUND", ["member", "id"])),
        ({"externalId": " "}, ("INVALID", ["externalId"])),
        ({"occurredAt": "2999-01-01T00:00:00Z"}, ("INVALID", ["occurredAt"])),
        ({"items": []}, ("INVALID", ["items"])),
        ({"items": [{"sku": "", "quantity": "1", "amount": "1"}]}, ("INVALID", ["items", "0", "sku"])),
        (
            {"items": [{"sku": "a", "quantity": "0", "amount": "1"}]},
            ("INVALID", ["items", "0", "quantity"]),
        ),
        (
            {"items": [{"sku": "a", "quantity": "1", "amount": "-1"}]},
            ("INVALID", ["items", "0", "amount"]),
        ),
    ],
)
async def test_what_is_wrong_with_a_return_is_told_by_its_field(
    shop: World, changes: dict[str, Any], expected: tuple[str, list[str]]
) -> None:
    fine = {
        "member": {"id": shop.member},
        "externalId": "back",
        "items": [{"sku": "socks", "quantity": "1", "amount": "10"}],
    }
    event = await buy(shop)
    assert await shop.refused(RETURN, **fine | changes) == [expected]
    assert (await shop.call(EVENT, of(event)))["event"]["refunds"] == []


async def test_a_member_sees_refunds_of_its_own_purchases_alone(shop: World) -> None:
    event = await buy(shop)
    (refund,) = (await shop.done(REFUND, purchase=of(event), externalId="r1"))["refunds"]
    own = await shop.api.call(NODE, {"id": refund["id"]}, shop.token)
    assert own["node"] == {
        "id": refund["id"],
        "externalId": "r1",
        "points": 70,
        "lines": [{"number": 1}, {"number": 2}],
    }
    assert (await shop.api.call(EVENT, of(event), shop.token))["event"]["refunds"][0]["id"] == refund["id"]
    stranger = await shop.token_for((await shop.enrol())["id"])
    assert (await shop.api.call(NODE, {"id": refund["id"]}, stranger))["node"] is None
    assert (
        await shop.api.post(REFUND, {"input": {"purchase": of(event), "externalId": "r2"}}, shop.token)
    ).codes == ["FORBIDDEN"]
