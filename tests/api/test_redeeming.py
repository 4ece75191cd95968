"""Redeeming and reserving through the API, and the steps that follow: each done once, or refused by field."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.api.burning import (
    attempt,
    balance,
    called,
    done,
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
    USE_CODE,
    Api,
    World,
    make_world,
    unique,
)


@pytest.mark.parametrize(
    ("kind", "amount"), [("VOUCHER", None), ("GIFT_CARD", "10.00"), ("PRODUCT", None), ("SERVICE", None),
                         ("DONATION", None), ("GIVEAWAY", None)],
)  # fmt: skip
async def test_every_kind_with_a_price_is_redeemed(rich: World, kind: str, amount: str | None) -> None:
    coded = {"generateCodes": True} if kind in ("VOUCHER", "GIFT_CARD") else {}
    made = (await rich.redeem((await rich.reward(kind, **coded))["id"]))["redemption"]
    assert (made["points"], made["amount"], made["quantity"], len(made["codes"])) == (
        100, amount, 1, len(coded),
    )  # fmt: skip


async def test_discount_takes_money_off_an_order(rich: World) -> None:
    limits = {"maxShareOfOrder": "0.5", "minPoints": 50}
    reward = (await rich.reward("DISCOUNT", limits=limits))["id"]
    made = (await rich.redeem(reward, points=250, orderAmount="10", orderId="o"))["redemption"]
    assert (made["points"], made["amount"], made["orderId"]) == (250, "2.50", "o")
    for said, expected in (
        ({"points": 501, "orderAmount": "10"}, [("LIMIT_REACHED", ["points"])]),
        ({"points": 49, "orderAmount": "10"}, [("INVALID", ["points"])]),
        ({"points": 100}, [("INVALID", ["orderAmount"])]),
        ({"orderAmount": "10"}, [("INVALID", ["points"])]),
        ({"points": 100, "orderAmount": "10", "quantity": 2}, [("INVALID", ["quantity"])]),
    ):
        assert wrong(await attempt(rich, REDEEM, **rich.wanted(reward, **said))) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"quantity": 0}, ("INVALID", ["quantity"])),
        ({"quantity": 101}, ("INVALID", ["quantity"])),
        ({"points": 0}, ("INVALID", ["points"])),
        ({"points": 5}, ("INVALID", ["points"])),
        ({"orderAmount": "-1"}, ("INVALID", ["orderAmount"])),
        ({"orderId": ""}, ("INVALID", ["orderId"])),
        ({"idempotencyKey": ""}, ("INVALID", ["idempotencyKey"])),
        ({"idempotencyKey": "x" * 256}, ("INVALID", ["idempotencyKey"])),
        ({"rewardId": "none"}, ("NOT_FOUND", ["rewardId"])),
        ({"member": None}, ("INVALID", ["member"])),
        ({"member": {"externalId": "nobody"}}, ("NOT_FOUND", ["member", "externalId"])),
        ({"member": {"email": "\0"}}, ("NOT_FOUND", ["member", "email"])),
        ({"member": {"id": ""}}, ("NOT_FOUND", ["member", "id"])),
        ({"quantity": 11}, ("INSUFFICIENT_POINTS", ["member"])),
    ],
)
async def test_what_cannot_be_redeemed_is_told_by_field(
    rich: World, said: dict[str, Any], expected: tuple[str, list[str]]
) -> None:
    reward = (await rich.reward())["id"]
    for query in (REDEEM, RESERVE):
        assert wrong(await attempt(rich, query, **(rich.wanted(reward) | said))) == [expected]
    assert await balance(rich) == (1000, 0)


@pytest.mark.parametrize("seconds", [0, -1, 2_592_001])
async def test_hold_out_of_bounds_is_refused(rich: World, seconds: int) -> None:
    wanted = rich.wanted((await rich.reward())["id"], holdSeconds=seconds)
    assert wrong(await attempt(rich, RESERVE, **wanted)) == [("INVALID", ["holdSeconds"])]


async def test_every_reason_is_told_at_once(rich: World) -> None:
    await rich.tier()
    gold = (await rich.tier("100"))["id"]
    reward = (
        await rich.reward(
            status="PAUSED", stock=0, points=2000, tierIds=[gold], startsAt="2990-01-01T00:00:00Z"
        )
    )["id"]
    assert wrong(await attempt(rich, REDEEM, **rich.wanted(reward))) == [
        ("NOT_ELIGIBLE", ["rewardId"]),
        ("NOT_ELIGIBLE", ["rewardId"]),
        ("OUT_OF_STOCK", ["rewardId"]),
        ("NOT_ELIGIBLE", ["member"]),
        ("INSUFFICIENT_POINTS", ["member"]),
    ]


@pytest.mark.parametrize("nothing", [{}, {"quantity": None, "holdSeconds": None, "points": None}])
async def test_reservation_holds_one_piece_for_a_quarter_of_an_hour(
    rich: World, nothing: dict[str, None]
) -> None:
    payload = await rich.reserve((await rich.reward())["id"], **nothing)
    made = payload["redemption"]
    assert (made["status"], made["quantity"], made["points"]) == ("RESERVED", 1, 100)
    until = datetime.fromisoformat(made["reservedUntil"]) - datetime.fromisoformat(made["createdAt"])
    assert until == timedelta(seconds=900)
    assert payload["member"]["balance"] == {"available": 900, "reserved": 100}


async def test_capture_spends_what_was_reserved_once(rich: World) -> None:
    reserved = (await rich.reserve((await rich.reward())["id"]))["redemption"]
    asked = {"redemptionId": reserved["id"], "idempotencyKey": unique("key")}
    payload = await attempt(rich, CAPTURE, **asked)
    assert done(payload)["status"] == "CONFIRMED"
    assert payload["member"]["balance"] == {"available": 900, "reserved": 0}
    assert payload["redemption"]["updatedAt"] > reserved["updatedAt"]
    again = await attempt(rich, CAPTURE, **asked)
    assert again == payload | {"replayed": True}
    conflict = await attempt(rich, CAPTURE, **asked, points=5)
    assert wrong(conflict) == [("IDEMPOTENCY_CONFLICT", ["idempotencyKey"])]
    other = await attempt(rich, CAPTURE, **(asked | {"idempotencyKey": unique("key")}))
    assert wrong(other) == [("WRONG_STATE", ["redemptionId"])]


async def test_fewer_points_may_be_captured_and_the_rest_comes_back(rich: World) -> None:
    reward = (await rich.reward("DISCOUNT"))["id"]
    for token in (rich.key, rich.token):
        before, _ = await balance(rich)
        reserved = (await rich.reserve(reward, points=300, member={"id": rich.member}))["redemption"]
        assert reserved["amount"] == "3.00"
        if token == rich.token:
            # What a key reserved is the member's own all the same.
            assert (await read(rich, reserved["id"], token))["status"] == "RESERVED"
        asked = {"redemptionId": reserved["id"], "points": 120, "idempotencyKey": unique("key")}
        captured = done(await attempt(rich, CAPTURE, token, **asked))
        assert (captured["points"], captured["amount"]) == (120, "1.20")
        assert await balance(rich) == (before - 120, 0)
    for points in (0, 301, -5):
        reserved = (await rich.reserve(reward, points=300))["redemption"]
        asked = {"redemptionId": reserved["id"], "points": points, "idempotencyKey": unique("key")}
        assert wrong(await attempt(rich, CAPTURE, **asked)) == [("INVALID", ["points"])]
        cancelled = {"redemptionId": reserved["id"], "reason": "x", "idempotencyKey": unique("key")}
        done(await attempt(rich, CANCEL, **cancelled))


async def test_cancelling_gives_points_stock_and_limits_back(rich: World) -> None:
    reward = (await rich.reward(stock=1, limits={"maxPerMember": 1}))["id"]
    for make in (rich.redeem, rich.reserve):
        made = (await make(reward))["redemption"]
        asked = {"redemptionId": made["id"], "reason": "Changed my mind", "idempotencyKey": unique("key")}
        payload = await attempt(rich, CANCEL, **asked)
        assert done(payload)["status"] == "CANCELLED"
        assert payload["member"]["balance"] == {"available": 1000, "reserved": 0}
        assert (await attempt(rich, CANCEL, **asked)) == payload | {"replayed": True}
        other = asked | {"idempotencyKey": unique("key")}
        assert wrong(await attempt(rich, CANCEL, **other)) == [("WRONG_STATE", ["redemptionId"])]
        conflict = await attempt(rich, CANCEL, **(asked | {"reason": "Other"}))
        assert wrong(conflict) == [("IDEMPOTENCY_CONFLICT", ["idempotencyKey"])]


@pytest.mark.parametrize("reason", ["", " ", "x" * 501, "a\0b"])
async def test_cancelling_needs_a_reason(rich: World, reason: str) -> None:
    made = (await rich.redeem((await rich.reward())["id"]))["redemption"]
    asked = {"redemptionId": made["id"], "reason": reason, "idempotencyKey": "k"}
    assert wrong(await attempt(rich, CANCEL, **asked)) == [("INVALID", ["reason"])]


async def test_goods_are_marked_fulfilled_once(rich: World) -> None:
    made = (await rich.redeem((await rich.reward())["id"]))["redemption"]
    payload = await called(rich, FULFIL, id=made["id"], note="Parcel 17")
    assert (done(payload)["status"], payload["replayed"]) == ("FULFILLED", False)
    again = await called(rich, FULFIL, id=made["id"], note="Parcel 17")
    assert again == payload | {"replayed": True}
    assert wrong(await called(rich, FULFIL, id=made["id"])) == [("WRONG_STATE", ["id"])]
    assert wrong(await called(rich, FULFIL, id=made["id"], note="")) == [("INVALID", ["note"])]
    reserved = (await rich.reserve((await rich.reward())["id"]))["redemption"]
    assert wrong(await called(rich, FULFIL, id=reserved["id"])) == [("WRONG_STATE", ["id"])]


async def test_code_is_used_once_and_the_redemption_with_its_last_one(rich: World) -> None:
    reward = await with_codes(rich, "u-1", "u-2")
    made = (await rich.redeem(reward, quantity=2))["redemption"]
    first = await called(rich, USE_CODE, code=" u-1 ", key="till-1")
    assert (done(first)["id"], first["redemption"]["status"]) == (made["id"], "CONFIRMED")
    assert await called(rich, USE_CODE, code="u-1", key="till-1") == first | {"replayed": True}
    assert wrong(await called(rich, USE_CODE, code="u-1", key="till-2")) == [("WRONG_STATE", ["code"])]
    conflict = await called(rich, USE_CODE, code="u-2", key="till-1")
    assert wrong(conflict) == [("IDEMPOTENCY_CONFLICT", ["idempotencyKey"])]
    cancelled = {"redemptionId": made["id"], "reason": "x", "idempotencyKey": "c"}
    assert wrong(await attempt(rich, CANCEL, **cancelled)) == [("WRONG_STATE", ["redemptionId"])]
    last = await called(rich, USE_CODE, code="u-2", key="till-2")
    assert done(last)["status"] == "USED"
    assert last["redemption"]["codes"] == ["u-1", "u-2"]


async def test_code_that_nobody_was_given_cannot_be_used(rich: World) -> None:
    await with_codes(rich, "waiting")
    for code in ("waiting", "none", "", "\0", "x" * 5000):
        assert wrong(await called(rich, USE_CODE, code=code, key="k")) == [("NOT_FOUND", ["code"])]
    everything = await called(rich, USE_CODE, code="none", key="")
    assert sorted(wrong(everything)) == [("INVALID", ["idempotencyKey"]), ("NOT_FOUND", ["code"])]


async def test_same_key_redeems_once_for_good(rich: World) -> None:
    reward = (await rich.reward())["id"]
    wanted = rich.wanted(reward, orderId="o")
    for query in (REDEEM, RESERVE):
        payloads = await asyncio.gather(*(attempt(rich, query, **wanted) for _ in range(5)))
        assert sorted(each["replayed"] for each in payloads) == [False, True, True, True, True]
        assert len({done(each)["id"] for each in payloads}) == 1
        by_email = await attempt(rich, query, **(wanted | {"member": {"email": rich.email}}))
        assert by_email["replayed"]
        for changed in ({"quantity": 2}, {"orderId": "p"}, {"rewardId": (await rich.reward())["id"]}):
            conflict = await attempt(rich, query, **(wanted | changed))
            assert wrong(conflict) == [("IDEMPOTENCY_CONFLICT", ["idempotencyKey"])]
    assert await balance(rich) == (800, 100)


async def test_repetition_is_answered_with_the_redemption_as_it_is_now(rich: World) -> None:
    reward = await with_codes(rich, "now-1")
    wanted = rich.wanted(reward)
    reserved = done(await attempt(rich, RESERVE, **wanted))
    asked = {"redemptionId": reserved["id"], "idempotencyKey": "k"}
    done(await attempt(rich, CAPTURE, **asked))
    again = await attempt(rich, RESERVE, **wanted)
    assert (again["replayed"], done(again)["status"], again["redemption"]["codes"]) == (
        True, "CONFIRMED", ["now-1"],
    )  # fmt: skip


async def test_member_spends_for_itself_whether_or_not_it_says_so(rich: World) -> None:
    reward = (await rich.reward())["id"]
    for named in (None, {"id": rich.member}, {"externalId": rich.external_id}, {"email": rich.email.upper()}):
        for query in (REDEEM, RESERVE):
            payload = await attempt(rich, query, rich.token, **rich.wanted(reward, member=named))
            assert done(payload)["points"] == 100
            assert payload["member"]["id"] == rich.member
    left_out = rich.wanted(reward)
    del left_out["member"]
    done(await attempt(rich, REDEEM, rich.token, **left_out))
    assert await balance(rich) == (100, 400)


async def test_member_spends_for_nobody_else(api: Api, rich: World) -> None:
    stranger = await make_world(api)
    other = await rich.enrol(email=f"{unique('bob')}@example.com")
    await rich.adjust(1000, member={"id": other["id"]})
    reward = (await rich.reward())["id"]
    for how, there, nobody in (
        ("id", other["id"], stranger.member),
        ("externalId", other["externalId"], "nobody"),
        ("email", other["email"], "nobody@example.com"),
    ):
        for query in (REDEEM, RESERVE):
            answers = [
                await attempt(rich, query, rich.token, **rich.wanted(reward, member={how: who}))
                for who in (there, nobody)
            ]
            assert answers[0] == answers[1]
            assert wrong(answers[0]) == [("NOT_FOUND", ["member", how])]
    assert await balance(rich, other["id"]) == (1000, 0)


async def test_keys_of_a_member_are_its_own(rich: World) -> None:
    """Neither the program nor another member is in the way of a key, or answered with what it made."""
    other = await rich.enrol()
    theirs = await rich.token_for(other["id"])
    await rich.adjust(1000, member={"id": other["id"]})
    reward = (await rich.reward())["id"]
    made = []
    for token, named in ((rich.key, {"id": rich.member}), (rich.token, None), (theirs, None)):
        wanted = {"rewardId": reward, "idempotencyKey": "the same", "member": named}
        payload = await attempt(rich, REDEEM, token, **wanted)
        assert payload["replayed"] is False
        made.append(done(payload)["id"])
        assert (await attempt(rich, REDEEM, token, **wanted))["replayed"] is True
    assert len(set(made)) == 3


async def test_member_cancels_what_is_reserved_alone_and_captures_fixed_prices_whole(rich: World) -> None:
    reward = (await rich.reward())["id"]
    spent = (await rich.redeem(reward))["redemption"]["id"]
    asked = {"redemptionId": spent, "reason": "x", "idempotencyKey": "k"}
    refused = await attempt(rich, CANCEL, rich.token, **asked)
    assert wrong(refused) == [("NOT_ELIGIBLE", ["redemptionId"])]
    reserved = (await rich.reserve(reward))["redemption"]["id"]
    few = {"redemptionId": reserved, "points": 1, "idempotencyKey": "k"}
    assert wrong(await attempt(rich, CAPTURE, rich.token, **few)) == [("INVALID", ["points"])]
    done(await attempt(rich, CANCEL, rich.token, **(asked | {"redemptionId": reserved})))
    assert await balance(rich) == (900, 0)


async def test_member_redeems_nothing_that_is_a_draft(rich: World) -> None:
    draft = (await rich.reward(status="DRAFT"))["id"]
    for query in (REDEEM, RESERVE):
        refused = await attempt(rich, query, rich.token, **rich.wanted(draft))
        assert wrong(refused) == [("NOT_FOUND", ["rewardId"])]
        seen = await attempt(rich, query, **rich.wanted(draft))
        assert wrong(seen) == [("NOT_ELIGIBLE", ["rewardId"])]


async def test_each_redemption_of_one_request_answers_with_the_balance_after_it(rich: World) -> None:
    reward = (await rich.reward())["id"]
    query = """mutation ($a: RedeemInput!, $b: ReserveInput!) {
        first: redeem(input: $a) { member { balance { available } } redemption { reward { stock } } }
        second: reserve(input: $b) { member { balance { available reserved } } }
    }"""
    data = await rich.call(query, {"a": rich.wanted(reward), "b": rich.wanted(reward)})
    assert data["first"]["member"]["balance"] == {"available": 900}
    assert data["second"]["member"]["balance"] == {"available": 800, "reserved": 100}


async def test_stock_is_never_oversold_however_many_ask_at_once(rich: World) -> None:
    reward = await with_codes(rich, *(f"rush-{n}" for n in range(5)), points=1)
    payloads = await asyncio.gather(
        *(attempt(rich, REDEEM, rich.key, **rich.wanted(reward)) for _ in range(12))
    )
    sold = [each["redemption"]["codes"][0] for each in payloads if each["redemption"]]
    assert sorted(sold) == [f"rush-{n}" for n in range(5)]
    assert {error["code"] for each in payloads for error in each["userErrors"]} == {"OUT_OF_STOCK"}
