"""What points are worth at the checkout, through the API."""

from typing import Any

from tests.api.client import Api, World, make_world

QUOTE = """query ($member: MemberRef!, $amount: Decimal!) {
    quotePointsPayment(member: $member, orderAmount: $amount) {
        points amount reward { id eligibility { redeemable } } userErrors { code field message }
    }
}"""
NOTHING = {"points": 0, "reward": None}


async def quote(world: World, amount: str = "50", token: str | None = None, **member: str) -> Any:
    variables = {"member": member or {"id": world.member}, "amount": amount}
    return (await world.api.call(QUOTE, variables, token or world.key))["quotePointsPayment"]


async def test_quote_can_be_redeemed_as_it_is(world: World) -> None:
    await world.adjust(1_234)
    await world.reward("DISCOUNT", pointsPerCurrencyUnit="300")
    best = await world.reward("DISCOUNT", pointsPerCurrencyUnit="100", limits={"maxShareOfOrder": "0.2"})
    for token in (world.key, world.token):
        said = await quote(world, "50.5", token, externalId=world.external_id)
        assert said == {
            "points": 1010,
            "amount": "10.10",
            "reward": {"id": best["id"], "eligibility": {"redeemable": True}},
            "userErrors": [],
        }
    done = await world.redeem(best["id"], points=said["points"], orderAmount="50.5")
    assert (done["redemption"]["points"], done["redemption"]["amount"]) == (1010, "10.10")


async def test_quote_without_a_discount_is_nothing(world: World) -> None:
    assert await quote(world) == NOTHING | {"amount": "0.00", "userErrors": []}


async def test_questions_that_cannot_be_answered_say_why(api: Api, world: World) -> None:
    stranger = await make_world(api)
    await world.reward("DISCOUNT")
    said = await quote(world, "-1", id=stranger.member)
    assert [(each["code"], each["field"]) for each in said["userErrors"]] == [
        ("INVALID", ["orderAmount"]),
        ("NOT_FOUND", ["member", "id"]),
    ]
    (error,) = (await quote(world, email="nobody@example.com"))["userErrors"]
    assert (error["code"], error["field"]) == ("NOT_FOUND", ["member", "email"])
    other = await world.enrol()
    for by in ({"id": other["id"]}, {"externalId": other["externalId"]}, {"id": stranger.member}):
        said = await quote(world, token=world.token, **by)
        assert [each["code"] for each in said["userErrors"]] == ["NOT_FOUND"]
        assert {name: said[name] for name in NOTHING} == NOTHING


async def test_scopes_of_redemptions_quote_and_others_do_not(world: World) -> None:
    query = """query ($member: MemberRef!) {
        quotePointsPayment(member: $member, orderAmount: "1") { points reward { id } }
    }"""
    for scope, allowed in [
        ("redemptions:read", True),
        ("redemptions:write", True),
        ("catalog:read", False),
        ("members:read", False),
    ]:
        key = await world.scoped_key(frozenset({scope}))
        answer = await world.api.post(query, {"member": {"id": world.member}}, key)
        assert (answer.codes == []) is allowed, scope
