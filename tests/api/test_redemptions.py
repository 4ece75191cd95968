"""Redemptions as the API shows them: to whom, in which order, in which states, and their codes."""

import json
from typing import Any

import pytest

from app.catalog.vault import Vault
from tests.api.burning import (
    LEDGER,
    LISTED,
    OF_MEMBER,
    OWN,
    READ,
    attempt,
    balance,
    called,
    done,
    own,
    pass_by,
    read,
    with_codes,
    wrong,
)
from tests.api.client import (
    CANCEL,
    CAPTURE,
    FULFIL,
    REDEEM,
    RESERVE,
    UPLOAD_CODES,
    USE_CODE,
    Answer,
    World,
    unique,
)


async def test_redemption_comes_back_as_it_was_made_by_every_way(rich: World) -> None:
    reward = (await rich.reward("GIFT_CARD", faceValue="12.5", generateCodes=True))["id"]
    payload = await rich.redeem(reward, quantity=2, orderId="order-1")
    made = payload["redemption"]
    assert payload["member"] == {"id": rich.member, "balance": {"available": 800, "reserved": 0}}
    assert (made["status"], made["quantity"], made["points"], made["amount"]) == (
        "CONFIRMED",
        2,
        200,
        "25.00",
    )
    assert (made["orderId"], made["reservedUntil"], len(set(made["codes"]))) == ("order-1", None, 2)
    assert made["createdAt"] == made["updatedAt"]
    shown = made | {"member": {"id": rich.member}, "reward": {"id": reward}}
    for token in (rich.key, rich.token):
        assert await read(rich, made["id"], token) == shown
    assert await own(rich) == [shown]
    assert (await rich.call(LISTED))["redemptions"]["nodes"] == [shown]
    of_member = await rich.call(OF_MEMBER, {"id": rich.member})
    assert of_member["member"]["redemptions"]["nodes"] == [shown]
    ledger = (await rich.api.call(LEDGER, token=rich.token))["viewer"]["ledger"]["nodes"]
    assert [(each["kind"], each["points"], each["redemption"]) for each in ledger] == [
        ("REDEEM", -200, {"id": made["id"]}),
        ("ADJUST", 1000, None),
    ]


async def test_reservation_that_is_not_captured_comes_back_by_itself(
    rich: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward = (await rich.reward(stock=5))["id"]
    first, second, lasting = [
        (await rich.reserve(reward, holdSeconds=seconds))["redemption"] for seconds in (60, 60, 600)
    ]
    assert await balance(rich) == (700, 300)
    pass_by(monkeypatch, seconds=61)
    assert await balance(rich) == (900, 100)
    assert (await read(rich, first["id"]))["status"] == "EXPIRED"
    assert [each["status"] for each in await own(rich)] == ["RESERVED", "EXPIRED", "EXPIRED"]
    assert [each["id"] for each in await own(rich, status="RESERVED")] == [lasting["id"]]
    stock = await rich.call("query ($id: ID!) { reward(id: $id) { stock } }", {"id": reward})
    assert stock["reward"]["stock"] == 4
    late = {"redemptionId": second["id"], "idempotencyKey": unique("key")}
    assert wrong(await attempt(rich, CAPTURE, **late)) == [("WRONG_STATE", ["redemptionId"])]


async def test_lists_show_no_reservation_whose_time_is_over(
    rich: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward = (await rich.reward())["id"]
    for _ in range(3):
        await rich.reserve(reward, holdSeconds=60)
    pass_by(monkeypatch, seconds=61)
    assert (await rich.call(LISTED, {"status": "RESERVED"}))["redemptions"]["nodes"] == []
    assert len((await rich.call(LISTED, {"status": "EXPIRED"}))["redemptions"]["nodes"]) == 3


async def test_ledger_and_balance_of_one_answer_agree_about_what_ran_out(
    rich: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (await rich.reserve((await rich.reward())["id"], holdSeconds=60))["redemption"]
    pass_by(monkeypatch, seconds=61)
    viewer = (await rich.api.call(LEDGER, token=rich.token))["viewer"]
    assert viewer["balance"] == {"available": 1000, "reserved": 0, "lifetimeSpent": 0}
    assert [
        (each["kind"], each["reservedChange"], each["redemption"]) for each in viewer["ledger"]["nodes"]
    ] == [
        ("RESTORE", -100, {"id": made["id"]}),
        ("RESERVE", 100, {"id": made["id"]}),
        ("ADJUST", 0, None),
    ]


async def test_codes_are_shown_from_the_confirmation_on_and_void_after_a_cancellation(rich: World) -> None:
    reward = await with_codes(rich, "r-1", "r-2")
    reserved = (await rich.reserve(reward))["redemption"]
    assert reserved["codes"] == []

    async def codes() -> list[list[str]]:
        return [(await read(rich, reserved["id"], token))["codes"] for token in (rich.key, rich.token)]

    assert await codes() == [[], []]
    asked = {"redemptionId": reserved["id"], "idempotencyKey": unique("key")}
    assert done(await attempt(rich, CAPTURE, **asked))["codes"] == ["r-1"]
    done(await called(rich, FULFIL, id=reserved["id"]))
    assert await codes() == [["r-1"], ["r-1"]]
    done(await called(rich, USE_CODE, code="r-1", key="k"))
    assert await codes() == [["r-1"], ["r-1"]]
    other = (await rich.redeem(reward))["redemption"]
    asked = {"redemptionId": other["id"], "reason": "x", "idempotencyKey": unique("key")}
    assert done(await attempt(rich, CANCEL, **asked))["codes"] == []
    assert wrong(await called(rich, USE_CODE, code="r-2", key="k2")) == [("WRONG_STATE", ["code"])]


async def test_redemption_of_another_member_is_like_none(rich: World) -> None:
    other = await rich.enrol()
    theirs = await rich.token_for(other["id"])
    await rich.adjust(1000, member={"id": other["id"]})
    reward = await with_codes(rich, "mine-1", "mine-2")
    confirmed = (await rich.redeem(reward))["redemption"]["id"]
    reserved = (await rich.reserve(reward))["redemption"]["id"]
    for each in (confirmed, reserved):
        assert await read(rich, each, theirs) is None
        asked = {"redemptionId": each, "idempotencyKey": "k"}
        assert wrong(await attempt(rich, CAPTURE, theirs, **asked)) == [("NOT_FOUND", ["redemptionId"])]
        refused = await attempt(rich, CANCEL, theirs, **asked, reason="x")
        assert wrong(refused) == [("NOT_FOUND", ["redemptionId"])]
    entry = "{ viewer { ledger(first: 1) { nodes { id } } } }"
    mine = (await rich.api.call(entry, token=rich.token))["viewer"]["ledger"]["nodes"][0]["id"]
    node = "query ($id: ID!) { node(id: $id) { ... on LedgerEntry { redemption { codes } } } }"
    assert (await rich.api.call(node, {"id": mine}, rich.token))["node"] == {"redemption": {"codes": []}}
    assert (await rich.api.call(node, {"id": mine}, theirs))["node"] is None
    found = await rich.api.call(OF_MEMBER, {"id": rich.member}, theirs)
    assert found == {"member": None}
    everything = await rich.api.call(OWN, token=theirs)
    assert everything["viewer"]["redemptions"]["nodes"] == []
    assert "mine-1" not in json.dumps(everything)


async def test_reward_behind_a_redemption_stays_readable_whatever_becomes_of_it(rich: World) -> None:
    reward = await rich.reward()
    made = (await rich.redeem(reward["id"]))["redemption"]["id"]
    query = "query ($id: ID!) { redemption(id: $id) { reward { id eligibility { reasons } } } }"
    status = """mutation ($id: ID!, $status: RewardStatus!) {
        setRewardStatus(id: $id, status: $status) { userErrors { code } }
    }"""
    for each in ("PAUSED", "DRAFT", "ARCHIVED"):
        await rich.call(status, {"id": reward["id"], "status": each})
        found = (await rich.api.call(query, {"id": made}, rich.token))["redemption"]["reward"]
        assert found == {"id": reward["id"], "eligibility": {"reasons": ["NOT_ACTIVE"]}}
    assert (await rich.call(query, {"id": made}))["redemption"]["reward"]["eligibility"] is None


async def test_redemptions_are_listed_by_state_the_latest_first(rich: World) -> None:
    reward = (await rich.reward(points=1))["id"]
    other = (await rich.enrol())["id"]
    await rich.adjust(100, member={"id": other})
    made = [(await rich.redeem(reward, member={"id": rich.member}))["redemption"]["id"] for _ in range(3)]
    held = [(await rich.reserve(reward))["redemption"]["id"] for _ in range(2)]
    theirs = (await rich.redeem(reward, member={"id": other}))["redemption"]["id"]

    async def ids(query: str, **asked: Any) -> list[str]:
        data = await rich.call(query, asked)
        return [each["id"] for each in (data.get("member") or data)["redemptions"]["nodes"]]

    assert await ids(LISTED) == [theirs, *held[::-1], *made[::-1]]
    assert await ids(LISTED, status="RESERVED") == held[::-1]
    assert await ids(LISTED, status="CONFIRMED") == [theirs, *made[::-1]]
    assert await ids(LISTED, status="USED") == []
    assert await ids(OF_MEMBER, id=rich.member) == [*held[::-1], *made[::-1]]
    assert await ids(OF_MEMBER, id=rich.member, status="CONFIRMED") == made[::-1]
    assert await ids(OF_MEMBER, id=other) == [theirs]
    query = """query ($after: String) { redemptions(first: 2, after: $after, status: CONFIRMED) {
        nodes { id } pageInfo { hasNextPage endCursor }
    } }"""
    first = (await rich.call(query))["redemptions"]
    rest = (await rich.call(query, {"after": first["pageInfo"]["endCursor"]}))["redemptions"]
    pages = [each["id"] for each in first["nodes"] + rest["nodes"]]
    assert (pages, rest["pageInfo"]["hasNextPage"]) == ([theirs, *made[::-1]], False)


async def test_pages_of_several_members_in_several_states_stay_apart(rich: World) -> None:
    reward = (await rich.reward(points=1))["id"]
    other = (await rich.enrol())["id"]
    await rich.adjust(100, member={"id": other})
    expected = {}
    for n, member in enumerate((rich.member, other)):
        spent = [(await rich.redeem(reward, member={"id": member}))["redemption"]["id"] for _ in range(n + 1)]
        held = (await rich.reserve(reward, member={"id": member}))["redemption"]["id"]
        expected[member] = {
            "spent": [{"id": each} for each in spent[::-1]],
            "held": [{"id": held}],
            "latest": [{"id": held}],
        }
    query = """{ members { nodes { id
        spent: redemptions(status: CONFIRMED) { nodes { id } }
        held: redemptions(status: RESERVED) { nodes { id } }
        latest: redemptions(first: 1) { nodes { id } }
    } } }"""
    for each in (await rich.call(query))["members"]["nodes"]:
        found = {name: each[name]["nodes"] for name in ("spent", "held", "latest")}
        assert found == expected[each["id"]]


async def test_what_reads_redemptions_and_what_makes_them(rich: World) -> None:
    reward = await with_codes(rich, "s-1", "s-2")
    made = (await rich.redeem(reward))["redemption"]["id"]
    listed = "{ redemptions { nodes { codes } } }"
    for scope in ("redemptions:read", "redemptions:write"):
        key = await rich.scoped_key(frozenset({scope}))
        assert (await rich.api.call(listed, token=key))["redemptions"]["nodes"] == [{"codes": ["s-1"]}]
    for scope in ("catalog:read", "catalog:write", "members:read", "members:write", "ledger:adjust"):
        key = await rich.scoped_key(frozenset({scope}))
        assert (await rich.api.post(listed, token=key)).codes == ["FORBIDDEN"]
        assert (await rich.api.post(READ, {"id": made}, key)).codes == ["FORBIDDEN"]
    assert (await rich.api.post(listed, token=rich.token)).codes == ["FORBIDDEN"]

    def refused(answer: Answer) -> bool:
        return "FORBIDDEN" in answer.codes

    tries: list[tuple[str, dict[str, Any], bool]] = [
        (REDEEM, {"input": rich.wanted("x")}, True),
        (RESERVE, {"input": rich.wanted("x")}, True),
        (CAPTURE, {"input": {"redemptionId": "x", "idempotencyKey": "k"}}, True),
        (CANCEL, {"input": {"redemptionId": "x", "reason": "x", "idempotencyKey": "k"}}, True),
        (FULFIL, {"id": "x"}, False),
        (USE_CODE, {"code": "x", "key": "k"}, False),
    ]
    reading = await rich.scoped_key(frozenset({"redemptions:read", "members:read"}))
    writing = await rich.scoped_key(frozenset({"redemptions:write", "members:read"}))
    for query, variables, open_to_members in tries:
        assert refused(await rich.api.post(query, variables, reading))
        assert not refused(await rich.api.post(query, variables, writing))
        assert refused(await rich.api.post(query, variables, rich.token)) is not open_to_members


async def test_codes_under_another_key_are_a_fault_of_ours_that_tells_nothing(
    rich: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward = await with_codes(rich, "sealed-1", "sealed-2")
    made = (await rich.redeem(reward))["redemption"]["id"]
    monkeypatch.setattr(Vault, "open", Vault("another key of the tests").open)
    for token in (rich.key, rich.token):
        answer = await rich.api.post(
            "query ($id: ID!) { redemption(id: $id) { codes } }", {"id": made}, token
        )
        assert answer.codes == ["INTERNAL"]
        assert answer.error["extensions"]["errorId"]
        text = json.dumps(answer.body)
        assert "sealed" not in text
        assert "LAUREL_CODES_KEY" not in text
    # Whatever else there is of it stays readable.
    status = await rich.call("query ($id: ID!) { redemption(id: $id) { status } }", {"id": made})
    assert status == {"redemption": {"status": "CONFIRMED"}}
    upload = await rich.post(UPLOAD_CODES, {"rewardId": reward, "codes": ["sealed-3"]})
    assert upload.codes == ["INTERNAL"]
