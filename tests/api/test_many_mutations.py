"""Several mutations in one document run one after the other, and each answers with what is then."""

from tests.api.client import World, unique

ADJUST_TWICE = """mutation ($a: AdjustPointsInput!, $b: AdjustPointsInput!) {
    first: adjustPoints(input: $a) { member { balance { available } } }
    second: adjustPoints(input: $b) { member { balance { available } } }
}"""
RECORD_TWICE = """mutation ($a: PurchaseInput!, $b: PurchaseInput!) {
    first: recordPurchase(input: $a) { event { points } member { balance { available } } }
    second: recordPurchase(input: $b) { event { points } member { balance { available } } }
}"""
RENAME_BETWEEN = """mutation ($a: PurchaseInput!, $m: UpdateMemberInput!, $b: PurchaseInput!) {
    first: recordPurchase(input: $a) { member { name } event { member { name } } }
    renamed: updateMember(input: $m) { member { name } }
    second: recordPurchase(input: $b) { member { name } event { member { name } } }
}"""
CHANGE_RULE_BETWEEN = """mutation ($a: PurchaseInput!, $id: ID!, $b: PurchaseInput!) {
    first: recordPurchase(input: $a) { event { awards { rule { status } } } }
    paused: setEarningRuleStatus(id: $id, status: PAUSED) { earningRule { status } }
    second: recordPurchase(input: $b) { event { awards { rule { status } } points } }
    again: recordPurchase(input: $a) { event { awards { rule { status } } } }
}"""


def sale(world: World) -> dict[str, object]:
    return {"member": {"id": world.member}, "externalId": unique("sale"), "amount": "10"}


def adjustment(world: World) -> dict[str, object]:
    return {"member": {"id": world.member}, "points": 5, "reason": "x", "idempotencyKey": unique("key")}


async def test_each_adjustment_answers_with_the_balance_after_it(world: World) -> None:
    data = await world.call(ADJUST_TWICE, {"a": adjustment(world), "b": adjustment(world)})
    assert data["first"]["member"]["balance"]["available"] == 5
    assert data["second"]["member"]["balance"]["available"] == 10


async def test_each_purchase_answers_with_the_balance_after_it(world: World) -> None:
    await world.rule()
    data = await world.call(RECORD_TWICE, {"a": sale(world), "b": sale(world)})
    assert data["first"]["member"]["balance"]["available"] == 10
    assert data["second"]["member"]["balance"]["available"] == 20


async def test_member_is_read_anew_after_they_were_changed(world: World) -> None:
    change = {"member": {"id": world.member}, "name": "Ada King"}
    data = await world.call(RENAME_BETWEEN, {"a": sale(world), "m": change, "b": sale(world)})
    assert data["first"] == {"member": {"name": "Ada"}, "event": {"member": {"name": "Ada"}}}
    assert data["second"] == {"member": {"name": "Ada King"}, "event": {"member": {"name": "Ada King"}}}


async def test_rule_is_read_anew_after_it_was_changed(world: World) -> None:
    rule = await world.rule()
    data = await world.call(CHANGE_RULE_BETWEEN, {"a": sale(world), "id": rule["id"], "b": sale(world)})
    assert data["first"]["event"]["awards"] == [{"rule": {"status": "ACTIVE"}}]
    assert data["second"]["event"] == {"awards": [], "points": 0}
    assert data["again"]["event"]["awards"] == [{"rule": {"status": "PAUSED"}}]


async def test_deferred_purchase_that_is_replayed_after_the_worker_shows_its_awards(world: World) -> None:
    await world.rule()
    query = (
        "mutation ($a: PurchaseInput!) { recordPurchase(input: $a) { event { points awards { points } } } }"
    )
    deferred = sale(world) | {"processing": "DEFERRED"}
    assert (await world.call(query, {"a": deferred}))["recordPurchase"]["event"] == {
        "points": 0,
        "awards": [],
    }
    await world.work()
    done = (await world.call(query, {"a": deferred}))["recordPurchase"]["event"]
    assert done == {"points": 10, "awards": [{"points": 10}]}


async def test_a_mutation_that_is_refused_stops_none_of_the_others(world: World) -> None:
    wrong = adjustment(world) | {"points": -50}
    query = ADJUST_TWICE.replace(
        "{ member { balance { available } } }", "{ entry { points } userErrors { code } }"
    )
    data = await world.call(query, {"a": wrong, "b": adjustment(world)})
    assert data["first"] == {"entry": None, "userErrors": [{"code": "INSUFFICIENT_POINTS"}]}
    assert data["second"] == {"entry": {"points": 5}, "userErrors": []}
