"""Nothing of another program, and nothing of another member, can be seen, changed or told from nothing."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from app.ids import to_global_id
from tests.api.client import (
    CREATE_RULE,
    ENROL,
    REFUND,
    UPLOAD_CODES,
    USE_CODE,
    Answer,
    Api,
    World,
    make_world,
    unique,
)
from tests.api.tenants import LISTS, Objects, everything, populate
from tests.api.walk import Place, places

PLACES = places()
MINE_ALONE = (
    "Member", "LedgerEntry", "Event", "Award", "Refund", "ApiKey", "Redemption", "Referral", "Message",
)  # fmt: skip
SELECT = "{ __typename id ... on Program { name } ... on Member { email } ... on Event { data } }"


def quoted(value: str) -> str:
    return json.dumps(value)


def nothing_like(type_name: str) -> str:
    """Return an id of the same shape as those of a type, which nothing has."""
    if type_name == "Award":
        return to_global_id("Award", f"{uuid4().hex}:{uuid4().hex}")
    if type_name == "LedgerEntry":
        return to_global_id("LedgerEntry", f"{uuid4().hex}:1")
    return to_global_id(type_name, uuid4())


def tries(
    place: Place, owner: World, objects: Objects, types: tuple[str, ...]
) -> Iterator[tuple[str, str, str]]:
    """Return what to try in a place: what it is, how its owner writes it, and the like of nothing."""
    if place.kind == "ID":
        for type_name in types:
            yield type_name, quoted(objects.nodes[type_name]), quoted(nothing_like(type_name))
    if place.kind == "MemberRef":
        for how, own, nobody in (
            ("id", objects.nodes["Member"], nothing_like("Member")),
            ("externalId", owner.external_id, unique("nobody")),
            ("email", owner.email, f"{unique('nobody')}@example.com"),
            ("email", owner.email.upper(), f"{unique('NOBODY')}@EXAMPLE.COM"),
        ):
            yield f"member by {how}", f"{{{how}: {quoted(own)}}}", f"{{{how}: {quoted(nobody)}}}"
    if place.kind == "EventRef":
        for how, own, nobody in (
            ("id", objects.nodes["Event"], nothing_like("Event")),
            ("externalId", objects.event_external_id, unique("nothing")),
        ):
            yield f"event by {how}", f"{{{how}: {quoted(own)}}}", f"{{{how}: {quoted(nobody)}}}"
    if place.kind == "StoreRef":
        for how, own, nowhere in (
            ("id", objects.nodes["Store"], nothing_like("Store")),
            ("externalId", objects.store_external_id, unique("nowhere")),
        ):
            yield f"store by {how}", f"{{{how}: {quoted(own)}}}", f"{{{how}: {quoted(nowhere)}}}"


def told(answer: Answer, literal: str) -> tuple[int, str]:
    """Return an answer without what was sent, which may be repeated in it."""
    text = json.dumps(answer.body, ensure_ascii=False, sort_keys=True)
    for text_sent in (part for part in literal.split('"')[1::2] if part):
        text = text.replace(text_sent, "SENT")
    return answer.status, text


async def assert_like_nothing(
    place: Place, owner: World, objects: Objects, token: str, types: tuple[str, ...]
) -> int:
    """Try everything in a place; whatever the owner has must be answered as what nobody has."""
    tried = 0
    for what, own, nothing in tries(place, owner, objects, types):
        got = await owner.api.post(place.document(own), token=token)
        expected = await owner.api.post(place.document(nothing), token=token)
        assert told(got, own) == told(expected, nothing), f"{what} in {place}"
        # It was the resolver that found nothing, but for what members may not call at all.
        allowed = set() if token.startswith("laurel_") else {"FORBIDDEN"}
        if str(place) in ("catalog.forMember", "messages.member"):
            # Without anybody the list would be the answer to another question.
            allowed.add("BAD_USER_INPUT")
        assert set(got.codes) <= allowed, f"{what} in {place}: {got.body}"
        for mark in objects.marks:
            assert mark not in told(got, own)[1], f"{what} in {place}"
        tried += 1
    return tried


def test_every_way_to_name_something_is_tried() -> None:
    assert {str(place) for place in PLACES if place.kind != "cursor"} == {
        "node.id", "nodes.ids", "member.by", "event.by", "earningRule.id", "revokeApiKey.id",
        "createMemberToken.input.member", "updateMember.input.member", "updateEarningRule.id",
        "setEarningRuleStatus.id", "createEarningRule.input.audience.tierIds",
        "createEarningRule.input.audience.storeIds", "updateEarningRule.input.audience.tierIds",
        "updateEarningRule.input.audience.storeIds", "recordPurchase.input.member",
        "recordPurchase.input.store", "recordAction.input.member", "recordEvents.input.purchase.member",
        "recordEvents.input.purchase.store", "recordEvents.input.action.member",
        "simulate.input.purchase.member", "simulate.input.purchase.store", "simulate.input.action.member",
        "refundPurchase.input.purchase", "returnItems.input.member",
        "adjustPoints.input.member", "store.by", "updateStore.id", "createCheckInCode.input.store",
        "checkIn.input.member", "updateTier.id", "setMemberTier.input.member",
        "setMemberTier.input.tierId", "campaign.id", "createCampaign.input.audience.tierIds",
        "createCampaign.input.audience.storeIds", "updateCampaign.id",
        "updateCampaign.input.audience.tierIds", "updateCampaign.input.audience.storeIds", "endCampaign.id",
        "recordPurchase.input.redemptionId", "recordEvents.input.purchase.redemptionId",
        "simulate.input.purchase.redemptionId", "catalog.forMember", "reward.id", "redemption.id",
        "createReward.input.tierIds", "updateReward.id", "updateReward.input.tierIds", "setRewardStatus.id",
        "uploadRewardCodes.rewardId", "redeem.input.member", "redeem.input.rewardId", "reserve.input.member",
        "reserve.input.rewardId", "capture.input.redemptionId", "cancelRedemption.input.redemptionId",
        "markRedemptionFulfilled.id", "quotePointsPayment.member", "drawGiveaway.rewardId", "messages.member",
        "retryFailedJob.id", "deleteWebhook.id", "enableWebhook.id", "transferPoints.input.from",
        "transferPoints.input.to",
    }  # fmt: skip
    assert {str(place) for place in PLACES if place.kind == "cursor"} == {
        f"{name}.{end}" for name in LISTS for end in ("after", "before")
    }


@pytest.mark.parametrize("credential", ["key", "token"])
async def test_what_another_program_has_is_like_what_nobody_has(api: Api, credential: str) -> None:
    ours, theirs = await make_world(api), await make_world(api)
    await populate(ours)
    objects = await populate(theirs)
    before = await everything(theirs)
    tried = 0
    for place in PLACES:
        tried += await assert_like_nothing(
            place, theirs, objects, getattr(ours, credential), tuple(objects.nodes)
        )
    assert tried > 60
    assert await everything(theirs) == before


@pytest.mark.parametrize("end", ["first: 10, after", "last: 10, before"])
async def test_cursors_of_another_program_show_nothing_of_it(api: Api, end: str) -> None:
    ours, theirs = await make_world(api), await make_world(api)
    await populate(ours)
    objects = await populate(theirs)
    own = json.dumps(await everything(ours))
    for name, cursor in objects.cursors.items():
        listed = (
            f'{name}({end}: "{cursor}") {{ edges {{ cursor node {{ id }} }} pageInfo {{ startCursor }} }}'
        )
        if name in ("ledger", "events"):
            tries = [(ours.key, f'{{ member(by: {{id: "{ours.member}"}}) {{ {listed} }} }}')]
            tries.append((ours.token, f"{{ viewer {{ {listed} }} }}"))
        else:
            tries = [(ours.key, f"{{ {listed} }}")]
        for token, query in tries:
            data = await api.call(query, token=token)
            for node in _ids(data):
                assert node in own or name in ("ledger", "events"), name
                assert node not in objects.marks, name


def _ids(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        if "node" in data:
            yield data["node"]["id"]
        for value in data.values():
            yield from _ids(value)
    elif isinstance(data, list):
        for value in data:
            yield from _ids(value)


async def test_names_of_another_program_are_free(api: Api) -> None:
    """External ids, addresses and keys are counted for each program by itself, and betray nobody."""
    ours, theirs = await make_world(api), await make_world(api)
    objects = await populate(theirs)
    before = await everything(theirs)
    enrolled = await ours.done(ENROL, externalId=theirs.external_id, email=theirs.email)
    assert enrolled["replayed"] is False
    assert enrolled["member"]["id"] != theirs.member
    sale = await ours.purchase("1", externalId=objects.event_external_id)
    assert sale["replayed"] is False
    refunded = await ours.done(
        REFUND, purchase={"id": sale["event"]["id"]}, externalId=objects.refund_external_id
    )
    assert refunded["replayed"] is False
    adjusted = await ours.adjust(10, idempotencyKey=objects.idempotency_key)
    assert adjusted["replayed"] is False
    tried = await ours.call(USE_CODE, {"code": objects.reward_code, "key": objects.idempotency_key})
    assert [each["code"] for each in tried["useRewardCode"]["userErrors"]] == ["NOT_FOUND"]
    reward = await ours.reward("VOUCHER", points=1)
    loaded = await ours.call(UPLOAD_CODES, {"rewardId": reward["id"], "codes": [objects.reward_code]})
    assert (loaded["uploadRewardCodes"]["added"], loaded["uploadRewardCodes"]["duplicates"]) == (1, 0)
    redeemed = await ours.redeem(reward["id"], idempotencyKey=objects.idempotency_key)
    assert (redeemed["replayed"], redeemed["redemption"]["codes"]) == (False, [objects.reward_code])
    used = await ours.call(USE_CODE, {"code": objects.reward_code, "key": objects.idempotency_key})
    assert used["useRewardCode"]["redemption"]["id"] == redeemed["redemption"]["id"]
    assert await everything(theirs) == before


async def test_members_list_and_search_find_nobody_of_another_program(api: Api) -> None:
    ours, theirs = await make_world(api), await make_world(api)
    await populate(theirs)
    query = "query ($search: String) { members(search: $search, first: 100) { nodes { id } } }"
    for search in (theirs.external_id, theirs.email, "Ada", "secret", "", None):
        found = (await ours.call(query, {"search": search}))["members"]["nodes"]
        assert [each["id"] for each in found] in ([], [ours.member])


@pytest.mark.parametrize("place", PLACES, ids=str)
async def test_member_sees_nothing_of_another_member(world: World, place: Place) -> None:
    objects = await populate(world)
    other = await world.enrol()
    token = await world.token_for(other["id"])
    before = await everything(world)
    types = tuple(name for name in MINE_ALONE)
    # Stores are everybody's.
    if place.kind not in ("cursor", "StoreRef"):
        assert await assert_like_nothing(place, world, objects, token, types)
    assert await everything(world) == before


async def test_member_reads_what_is_theirs_by_every_way(world: World) -> None:
    objects = await populate(world)
    query = f"query ($ids: [ID!]!) {{ nodes(ids: $ids) {SELECT} }}"
    wanted = [
        objects.nodes[name] for name in ("Member", "LedgerEntry", "Event", "Award", "Refund", "Program")
    ]
    found = (await world.api.call(query, {"ids": wanted}, world.token))["nodes"]
    assert [each["id"] for each in found] == wanted
    by = "query ($by: EventRef!) { event(by: $by) { id member { id } awards { id rule { name } } } }"
    for ref in ({"externalId": objects.event_external_id}, {"id": objects.nodes["Event"]}):
        event = (await world.api.call(by, {"by": ref}, world.token))["event"]
        assert event["member"]["id"] == world.member
        assert len(event["awards"]) == 3
    for ref in ({"id": world.member}, {"externalId": world.external_id}, {"email": world.email}):
        found = await world.api.call(
            "query ($by: MemberRef!) { member(by: $by) { id } }", {"by": ref}, world.token
        )
        assert found["member"]["id"] == world.member


RULES = """query ($id: ID!, $status: RuleStatus) {
    earningRule(id: $id) { id } node(id: $id) { id } nodes(ids: [$id]) { id }
    earningRules(status: $status) { nodes { id } edges { node { id } } }
}"""


@pytest.mark.parametrize("status", ["DRAFT", "PAUSED", "ARCHIVED"])
async def test_member_sees_no_rule_that_is_not_active(world: World, status: str) -> None:
    hidden = await world.rule(status=status)
    active = await world.rule()
    nothing = {"earningRule": None, "node": None, "nodes": [None]}
    asked = {"id": hidden["id"], "status": status}
    assert await world.api.call(RULES, asked, world.token) == nothing | {
        "earningRules": {"nodes": [], "edges": []}
    }
    everything = await world.api.call(RULES, {"id": hidden["id"]}, world.token)
    assert everything["earningRules"]["nodes"] == [{"id": active["id"]}]
    seen = await world.call(RULES, asked)
    assert seen["node"] == seen["earningRule"] == {"id": hidden["id"]}
    assert seen["earningRules"]["nodes"] == [{"id": hidden["id"]}]


async def test_member_sees_no_rule_before_it_starts(world: World) -> None:
    started = await world.rule(startsAt="2026-01-01T00:00:00Z")
    soon = await world.rule(startsAt="2990-01-01T00:00:00Z", name="Not announced yet")
    found = await world.api.call(RULES, {"id": soon["id"]}, world.token)
    assert found == {"earningRule": None, "node": None, "nodes": [None]} | {
        "earningRules": {"nodes": [{"id": started["id"]}], "edges": [{"node": {"id": started["id"]}}]}
    }
    active = await world.api.call(RULES, {"id": started["id"], "status": "ACTIVE"}, world.token)
    assert active["node"] == active["earningRule"] == {"id": started["id"]}
    assert active["earningRules"] == found["earningRules"]
    event = (await world.purchase())["event"]["id"]
    why = "query ($id: ID!) { event(by: {id: $id}) { explanation { rule { id } reason } } }"
    outcomes = [(started["id"], "PAID"), (soon["id"], "NOT_STARTED")]
    for token, expected in ((world.key, outcomes), (world.token, outcomes[:1])):
        told = (await world.api.call(why, {"id": event}, token))["event"]["explanation"]
        assert [(each["rule"]["id"], each["reason"]) for each in told] == expected
    seen = await world.call(RULES, {"id": soon["id"]})
    assert seen["node"] == seen["earningRule"] == {"id": soon["id"]}
    assert seen["earningRules"]["nodes"] == [{"id": started["id"]}, {"id": soon["id"]}]


async def test_member_reads_the_rule_that_paid_also_while_it_has_not_started_again(world: World) -> None:
    rule = await world.rule()
    event = (await world.purchase())["event"]["id"]
    update = """mutation ($id: ID!, $input: EarningRuleInput!) {
        updateEarningRule(id: $id, input: $input) { userErrors { code } }
    }"""
    later = {"name": "Later", "trigger": "PURCHASE", "startsAt": "2990-01-01T00:00:00Z"}
    assert (await world.call(update, {"id": rule["id"], "input": later}))["updateEarningRule"] == {
        "userErrors": []
    }
    query = """query ($id: ID!) { event(by: {id: $id}) {
        awards { rule { id } } explanation { rule { id } }
    } }"""
    found = (await world.api.call(query, {"id": event}, world.token))["event"]
    assert found == {"awards": [{"rule": {"id": rule["id"]}}], "explanation": [{"rule": {"id": rule["id"]}}]}
    assert (await world.api.call(RULES, {"id": rule["id"]}, world.token))["node"] is None


async def test_member_is_not_told_what_a_rule_may_give_to_all(world: World) -> None:
    rule = await world.rule(limits={"budget": 5000, "maxPointsPerDay": 70})
    event = (await world.purchase())["event"]["id"]
    limits = "limits { budget maxPointsPerDay }"
    query = f"""query ($rule: ID!, $event: ID!) {{
        earningRule(id: $rule) {{ {limits} }} earningRules {{ nodes {{ {limits} }} }}
        node(id: $rule) {{ ... on EarningRule {{ {limits} }} }}
        event(by: {{id: $event}}) {{ awards {{ rule {{ {limits} }} }} explanation {{ rule {{ {limits} }} }} }}
    }}"""
    for token, budget in ((world.key, 5000), (world.token, None)):
        found = await world.api.call(query, {"rule": rule["id"], "event": event}, token)
        told = {"limits": {"budget": budget, "maxPointsPerDay": 70}}
        assert found == {
            "earningRule": told,
            "earningRules": {"nodes": [told]},
            "node": told,
            "event": {"awards": [{"rule": told}], "explanation": [{"rule": told}]},
        }


async def test_member_reads_the_rule_behind_an_award_after_it_was_paused(world: World) -> None:
    """The receipt stays readable, which the description of EarningRule says; the rule alone does not."""
    rule = await world.rule()
    event = (await world.purchase())["event"]["id"]
    pause = "mutation ($id: ID!) { setEarningRuleStatus(id: $id, status: PAUSED) { userErrors { code } } }"
    await world.call(pause, {"id": rule["id"]})
    query = "query ($id: ID!) { event(by: {id: $id}) { awards { rule { id status } } } }"
    found = await world.api.call(query, {"id": event}, world.token)
    assert found["event"]["awards"] == [{"rule": {"id": rule["id"], "status": "PAUSED"}}]
    assert (await world.api.call(RULES, {"id": rule["id"]}, world.token))["node"] is None


async def test_what_went_wrong_names_nothing_of_another_program(api: Api) -> None:
    """A rule's id from elsewhere in an update is refused before its content is looked at."""
    ours, theirs = await make_world(api), await make_world(api)
    rule = await theirs.rule()
    update = (
        "mutation ($id: ID!, $input: EarningRuleInput!) { updateEarningRule(id: $id, input: $input) "
        + (CREATE_RULE.split("createEarningRule(input: $input)")[1])
    )
    wrong = {"name": "", "trigger": "ACTION"}
    data = await ours.call(update, {"id": rule["id"], "input": wrong})
    assert [(e["code"], e["field"]) for e in data["updateEarningRule"]["userErrors"]] == [
        ("NOT_FOUND", ["id"])
    ]
