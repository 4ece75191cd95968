"""Recording purchases through the API: at once, deferred and in batches; receipts and refusals."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.api.client import RECORD, Api, World, make_world, unique
from tests.helpers import set_now

BATCH = """mutation ($input: [EventInput!]!) { recordEvents(input: $input) {
    accepted replayed userErrors { code field message }
} }"""
EVENT = """query ($by: EventRef!) { event(by: $by) {
    id externalId kind status rejection member { id } occurredAt recordedAt amount data points
    lines { number sku name category brand quantity amount }
    awards { ruleVersion desired points availableAt expiresAt rule { id name }
        steps { kind label before after } }
} }"""
UPDATE = "mutation ($input: UpdateMemberInput!) { updateMember(input: $input) { userErrors { code } } }"
LINES = [
    {
        "sku": "ESP-1",
        "name": "Espresso beans",
        "category": "Coffee",
        "brand": "Own",
        "quantity": "2",
        "amount": "25.00",
    },
    {"sku": "CUP", "amount": "17.10"},
]


def sale(world: World, **purchase: Any) -> dict[str, Any]:
    return {"member": {"id": world.member}, "externalId": unique("sale"), "amount": "10"} | purchase


async def read(world: World, **by: str) -> Any:
    return (await world.call(EVENT, {"by": by}))["event"]


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat().replace("+00:00", "Z")


async def test_purchase_answers_with_the_points_it_earned_and_the_new_balance(world: World) -> None:
    await world.rule()
    done = await world.purchase("42.90")
    assert done["replayed"] is False
    assert (done["event"]["status"], done["event"]["points"], done["event"]["amount"]) == (
        "PROCESSED",
        42,
        "42.90",
    )
    assert done["member"] == {"id": world.member, "balance": {"available": 42, "pending": 0}}
    again = await world.purchase("10")
    assert again["member"]["balance"]["available"] == 52


async def test_receipt_tells_each_step_of_the_calculation(world: World) -> None:
    rule = await world.rule(name="A point a euro")
    event = (await world.purchase(None, lines=LINES, data={"till": 4}, occurredAt=ago(hours=1)))["event"]
    read_back = await read(world, id=event["id"])
    assert read_back["lines"] == [
        LINES[0] | {"number": 1},
        LINES[1] | {"number": 2, "name": None, "category": None, "brand": None, "quantity": "1"},
    ]
    assert (read_back["amount"], read_back["data"], read_back["kind"]) == ("42.10", {"till": 4}, "PURCHASE")
    assert read_back["member"] == {"id": world.member}
    (award,) = read_back["awards"]
    assert award["rule"] == {"id": rule["id"], "name": "A point a euro"}
    assert (award["desired"], award["points"], award["ruleVersion"], award["expiresAt"]) == (42, 42, 1, None)
    assert award["availableAt"] == read_back["recordedAt"]
    assert award["steps"] == [
        {"kind": "BASE", "label": "1 point per 1.00 EUR on 42.10 EUR", "before": "0", "after": "42.1"},
        {"kind": "ROUNDING", "label": award["steps"][1]["label"], "before": "42.1", "after": "42"},
    ]
    assert "down" in award["steps"][1]["label"].lower()


@pytest.mark.parametrize(
    ("rounding", "amount", "points"),
    [
        ("FLOOR", "9.99", 9), ("FLOOR", "0.99", 0), ("HALF_UP", "9.50", 10), ("HALF_UP", "9.49", 9),
        ("CEILING", "9.01", 10), ("CEILING", "9.00", 9), ("CEILING", "0.01", 1),
    ],
)  # fmt: skip
async def test_award_is_rounded_once_as_the_program_says(
    api: Api, rounding: str, amount: str, points: int
) -> None:
    world = await make_world(api, rounding=rounding)
    await world.rule()
    lines = [{"sku": "a", "amount": amount}, {"sku": "b", "amount": "0"}]
    assert (await world.purchase(None, lines=lines))["event"]["points"] == points


async def test_daily_cap_trims_and_the_receipt_says_so(api: Api) -> None:
    world = await make_world(api, maxPointsPerDay=15)
    await world.rule()
    points = [(await world.purchase("10"))["event"]["points"] for _ in range(3)]
    assert points == [10, 5, 0]
    event = await world.call(
        "query ($id: ID!) { member(by: {id: $id}) { events { nodes {"
        " points awards { desired points steps { kind before after } } } } } }",
        {"id": world.member},
    )
    second = event["member"]["events"]["nodes"][1]["awards"][0]
    assert (second["desired"], second["points"]) == (10, 5)
    assert second["steps"][-1] == {"kind": "PROGRAM_DAY_LIMIT", "before": "10", "after": "5"}


async def test_points_wait_as_long_as_the_program_says(api: Api) -> None:
    world = await make_world(api, pendingDays=3, expiry={"kind": "ROLLING_MONTHS", "months": 1})
    await world.rule()
    done = await world.purchase("10")
    assert done["member"]["balance"] == {"available": 0, "pending": 10}
    assert done["event"]["points"] == 10
    (award,) = (await read(world, id=done["event"]["id"]))["awards"]
    assert datetime.fromisoformat(award["availableAt"]) > datetime.now(UTC) + timedelta(days=2)
    assert award["expiresAt"] > award["availableAt"]


async def test_same_purchase_again_is_answered_as_the_first_time(world: World) -> None:
    await world.rule()
    purchase = sale(world, lines=LINES, amount="42.10", data={"a": [1, {"b": None}]}, occurredAt=ago(days=1))
    first = await world.done(RECORD, **purchase)
    spelt_otherwise = purchase | {
        "amount": "42.100",
        "member": {"email": world.email.upper()},
        "currency": "EUR",
        "occurredAt": purchase["occurredAt"].replace("Z", "+00:00"),
    }
    for again in (purchase, spelt_otherwise):
        answer = await world.done(RECORD, **again)
        assert answer == first | {"replayed": True}
    assert first["member"]["balance"]["available"] == 42


async def test_replay_without_a_time_is_the_same_purchase(world: World) -> None:
    purchase = sale(world)
    first = await world.done(RECORD, **purchase)
    assert (await world.done(RECORD, **purchase))["event"] == first["event"]


@pytest.mark.parametrize(
    "other",
    [
        {"amount": "11"},
        {"data": {"a": 1}},
        {"occurredAt": "2026-01-01T00:00:00Z"},
        {"lines": [{"sku": "a", "amount": "10"}]},
    ],
)
async def test_same_id_with_other_content_is_a_conflict(world: World, other: dict[str, Any]) -> None:
    purchase = sale(world)
    await world.done(RECORD, **purchase)
    assert await world.refused(RECORD, **(purchase | other)) == [("IDEMPOTENCY_CONFLICT", ["externalId"])]


async def test_same_id_for_another_member_is_a_conflict(world: World) -> None:
    purchase = sale(world)
    await world.done(RECORD, **purchase)
    other = await world.enrol()
    refused = await world.refused(RECORD, **(purchase | {"member": {"id": other["id"]}}))
    assert refused == [("IDEMPOTENCY_CONFLICT", ["externalId"])]


async def test_same_purchase_many_times_at_once_earns_once(world: World) -> None:
    await world.rule()
    purchase = sale(world)
    answers = await asyncio.gather(*(world.done(RECORD, **purchase) for _ in range(20)))
    assert len({answer["event"]["id"] for answer in answers}) == 1
    assert sorted(answer["replayed"] for answer in answers) == [False] + [True] * 19
    balance = "query ($id: ID!) { member(by: {id: $id}) { balance { available lifetimeEarned } } }"
    found = await world.call(balance, {"id": world.member})
    assert found["member"]["balance"] == {"available": 10, "lifetimeEarned": 10}


WRONG: list[tuple[dict[str, Any], str, list[str]]] = [
    ({"amount": "-1"}, "INVALID", ["amount"]),
    ({"amount": None}, "INVALID", ["amount"]),
    ({"amount": "1000000000001"}, "INVALID", ["amount"]),
    ({"amount": "10", "lines": LINES}, "INVALID", ["amount"]),
    ({"currency": "USD"}, "INVALID", ["currency"]),
    ({"currency": ""}, "INVALID", ["currency"]),
    ({"occurredAt": "2999-01-01T00:00:00Z"}, "INVALID", ["occurredAt"]),
    ({"occurredAt": "1969-12-31T23:59:59Z"}, "INVALID", ["occurredAt"]),
    ({"externalId": ""}, "INVALID", ["externalId"]),
    ({"externalId": "a\0"}, "INVALID", ["externalId"]),
    ({"externalId": "x" * 256}, "INVALID", ["externalId"]),
    ({"data": []}, "INVALID", ["data"]),
    ({"data": {"a": "\0"}}, "INVALID", ["data"]),
    ({"data": {"a": "x" * 17_000}}, "INVALID", ["data"]),
    ({"amount": "1", "lines": [{"sku": "", "amount": "1"}]}, "INVALID", ["lines", "0", "sku"]),
    ({"amount": None, "lines": [{"sku": "a", "amount": "-1"}]}, "INVALID", ["lines", "0", "amount"]),
    (
        {"amount": None, "lines": [LINES[0], {"sku": "b", "amount": "1", "quantity": "0"}]},
        "INVALID",
        ["lines", "1", "quantity"],
    ),
    (
        {"amount": "1", "lines": [{"sku": "a", "amount": "1", "brand": "\0"}]},
        "INVALID",
        ["lines", "0", "brand"],
    ),
    ({"member": {"externalId": "nobody"}}, "NOT_FOUND", ["member", "externalId"]),
    ({"member": {"email": "nobody@example.com"}}, "NOT_FOUND", ["member", "email"]),
    ({"member": {"id": "none"}}, "NOT_FOUND", ["member", "id"]),
]  # fmt: skip


@pytest.mark.parametrize("processing", ["NOW", "DEFERRED"])
@pytest.mark.parametrize(("wrong", "code", "field"), WRONG)
async def test_wrong_purchase_is_refused_by_field(
    world: World, wrong: dict[str, Any], code: str, field: list[str], processing: str
) -> None:
    assert await world.refused(RECORD, **sale(world, processing=processing, **wrong)) == [(code, field)]


async def test_wrong_purchases_are_turned_away_from_a_batch_by_their_place(world: World) -> None:
    good = [sale(world) for _ in range(3)]
    inputs: list[dict[str, Any]] = []
    expected: list[tuple[str, list[str]]] = []
    for wrong, code, field in WRONG:
        expected.append((code, [str(len(inputs)), "purchase", *field]))
        inputs.append(sale(world, **wrong))
    mixed = [good[0], *inputs[:10], good[1], *inputs[10:], good[2]]
    expected = [
        (code, [str(int(field[0]) + (1 if int(field[0]) < 10 else 2)), *field[1:]])
        for code, field in expected
    ]
    answer = (await world.call(BATCH, {"input": [{"purchase": each} for each in mixed]}))["recordEvents"]
    assert (answer["accepted"], answer["replayed"]) == (3, 0)
    assert sorted((e["code"], e["field"]) for e in answer["userErrors"]) == sorted(expected)


async def test_everything_that_is_wrong_with_a_purchase_is_told_at_once(world: World) -> None:
    wrong = sale(world, amount="-1", currency="USD", occurredAt="2999-01-01T00:00:00Z", externalId="")
    fields = {field[0] for _, field in await world.refused(RECORD, **wrong) if field}
    assert fields == {"amount", "currency", "occurredAt", "externalId"}


@pytest.mark.parametrize("status", ["SUSPENDED", "CLOSED"])
@pytest.mark.parametrize("processing", ["NOW", "DEFERRED"])
async def test_member_who_takes_no_part_earns_nothing_but_old_answers_stay(
    world: World, status: str, processing: str
) -> None:
    before = sale(world)
    first = await world.done(RECORD, **before)
    await world.call(UPDATE, {"input": {"member": {"id": world.member}, "status": status}})
    refused = await world.refused(RECORD, **sale(world, processing=processing))
    assert refused == [("NOT_ELIGIBLE", ["member"])]
    again = await world.done(RECORD, **before)
    assert (again["replayed"], again["event"]["id"]) == (True, first["event"]["id"])


async def test_clock_that_is_a_little_fast_does_no_harm(world: World) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    await world.done(RECORD, **sale(world, occurredAt=soon))
    late = (datetime.now(UTC) + timedelta(minutes=6)).isoformat()
    assert await world.refused(RECORD, **sale(world, occurredAt=late)) == [("INVALID", ["occurredAt"])]


async def test_deferred_purchase_is_stored_and_earned_by_a_worker(world: World) -> None:
    await world.rule()
    purchase = sale(world, processing="DEFERRED")
    stored = await world.done(RECORD, **purchase)
    assert (stored["event"]["status"], stored["event"]["points"], stored["replayed"]) == ("QUEUED", 0, False)
    assert stored["member"]["balance"]["available"] == 0
    assert (await world.done(RECORD, **purchase))["replayed"] is True
    await world.work()
    done = await world.done(RECORD, **purchase)
    assert (done["event"]["status"], done["event"]["points"], done["replayed"]) == ("PROCESSED", 10, True)
    assert done["member"]["balance"]["available"] == 10


async def test_null_processing_means_now(world: World) -> None:
    assert (await world.done(RECORD, **sale(world, processing=None)))["event"]["status"] == "PROCESSED"


async def test_batch_is_stored_at_once_and_earned_later(world: World) -> None:
    await world.rule()
    sales = [sale(world, amount=str(n), occurredAt=ago(minutes=90 - n)) for n in range(1, 31)]
    inputs = [{"purchase": each} for each in sales]
    answer = (await world.call(BATCH, {"input": inputs}))["recordEvents"]
    assert answer == {"accepted": 30, "replayed": 0, "userErrors": []}
    assert (await read(world, externalId=sales[0]["externalId"]))["status"] == "QUEUED"
    again = (await world.call(BATCH, {"input": [*inputs, inputs[0]]}))["recordEvents"]
    assert again == {"accepted": 0, "replayed": 31, "userErrors": []}
    await world.work()
    event = await read(world, externalId=sales[9]["externalId"])
    assert (event["status"], event["points"], event["rejection"]) == ("PROCESSED", 10, None)
    balance = await world.call("{ members { nodes { balance { available } } } }")
    assert balance["members"]["nodes"][0]["balance"]["available"] == sum(range(1, 31))


async def test_batch_that_names_one_event_twice_stores_it_once(world: World) -> None:
    one = sale(world)
    same, other = {"purchase": one}, {"purchase": one | {"amount": "99"}}
    answer = (await world.call(BATCH, {"input": [same, same, other]}))["recordEvents"]
    assert (answer["accepted"], answer["replayed"]) == (1, 1)
    assert [(e["code"], e["field"]) for e in answer["userErrors"]] == [
        ("IDEMPOTENCY_CONFLICT", ["2", "purchase", "externalId"])
    ]


async def test_empty_batch_does_nothing(world: World) -> None:
    answer = await world.call(BATCH, {"input": []})
    assert answer["recordEvents"] == {"accepted": 0, "replayed": 0, "userErrors": []}


async def test_batch_of_1000_is_taken_and_one_of_1001_is_not(world: World) -> None:
    sales = [{"purchase": sale(world, member={"externalId": world.external_id})} for _ in range(1001)]
    over = (await world.call(BATCH, {"input": sales}))["recordEvents"]
    assert (over["accepted"], over["replayed"]) == (0, 0)
    assert [(e["code"], e["field"]) for e in over["userErrors"]] == [("INVALID", ["input"])]
    assert await read(world, externalId=sales[0]["purchase"]["externalId"]) is None
    done = (await world.call(BATCH, {"input": sales[:1000]}))["recordEvents"]
    assert done == {"accepted": 1000, "replayed": 0, "userErrors": []}


@pytest.mark.parametrize("input", [{}, {"purchase": None}])
async def test_event_of_a_batch_is_of_one_kind(world: World, input: Any) -> None:
    answer = await world.post(BATCH, {"input": [input]})
    assert set(answer.codes) <= {"BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"}
    assert answer.codes


async def test_event_is_found_by_either_id(world: World) -> None:
    event = (await world.purchase("1"))["event"]
    by_id = await read(world, id=event["id"])
    assert by_id == await read(world, externalId=event["externalId"])
    assert by_id["id"] == event["id"]
    for nothing in ({"id": "none"}, {"id": world.member}, {"externalId": "nothing"}, {"externalId": "a\0"}):
        assert await read(world, **nothing) is None


async def test_amounts_are_exact_to_the_last_digit(api: Api) -> None:
    world = await make_world(api, rounding="HALF_UP")
    await world.rule(pointsPerAmount={"points": "1", "amount": "0.01"})
    lines = [{"sku": "a", "amount": "0.1"}, {"sku": "b", "amount": "0.2"}]
    done = await world.purchase("0.3", lines=lines)
    assert done["event"]["points"] == 30
    done = await world.purchase("999999999999.999999")
    assert (done["event"]["points"], done["event"]["amount"]) == (100_000_000_000_000, "999999999999.999999")


async def test_points_that_cannot_be_counted_reject_the_event_and_keep_it(world: World) -> None:
    await world.rule(pointsPerAmount={"points": "1000000", "amount": "0.01"})
    done = await world.purchase("1000000000000")
    assert (done["event"]["status"], done["event"]["points"]) == ("REJECTED", 0)
    assert "counted" in done["event"]["rejection"]
    assert done["member"]["balance"]["available"] == 0


async def test_late_purchase_goes_by_the_rules_of_its_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        # A rule whose window is over can no longer be set up.
        set_now(patch, 2026, 1, 1)
        await world.rule(fixedPoints=3, startsAt="2026-01-01T00:00:00Z", endsAt="2026-02-01T00:00:00Z")
    for when, points in (
        ("2026-01-01T00:00:00Z", 3), ("2025-12-31T23:59:59Z", 0), ("2026-02-01T00:00:00Z", 0),
        ("2026-01-31T23:59:59.999999Z", 3), ("2026-02-01T00:59:00+01:00", 3),
    ):  # fmt: skip
        assert (await world.purchase("1", occurredAt=when))["event"]["points"] == points, when


async def test_minimum_is_reached_by_the_whole_amount(world: World) -> None:
    await world.rule(fixedPoints=7, minimumAmount="20")
    for amount, points in (("19.99", 0), ("20", 7), ("20.01", 7)):
        assert (await world.purchase(amount))["event"]["points"] == points


STORE = "query ($by: EventRef!) { event(by: $by) { points store { id externalId name } } }"


async def test_purchase_in_a_store_says_where_it_was(world: World) -> None:
    store = await world.store(name="Berlin")
    for ref in ({"id": store["id"]}, {"externalId": store["externalId"]}):
        event = (await world.purchase(store=ref))["event"]
        found = (await world.call(STORE, {"by": {"id": event["id"]}}))["event"]
        assert found["store"] == {"id": store["id"], "externalId": store["externalId"], "name": "Berlin"}
    event = (await world.purchase(store=None))["event"]
    assert (await world.call(STORE, {"by": {"id": event["id"]}}))["event"]["store"] is None


async def test_rule_for_a_store_pays_there_alone(world: World) -> None:
    here, there = await world.store(), await world.store()
    await world.rule(audience={"storeIds": [here["id"]]})
    for ref, points in (({"id": here["id"]}, 10), ({"id": there["id"]}, 0), (None, 0)):
        assert (await world.purchase(store=ref))["event"]["points"] == points


@pytest.mark.parametrize("processing", ["NOW", "DEFERRED"])
@pytest.mark.parametrize(
    ("ref", "field"),
    [
        ({"id": "none"}, "id"),
        ({"externalId": "nowhere"}, "externalId"),
        ({"externalId": "a\0b"}, "externalId"),
    ],
)
async def test_unknown_store_is_refused(
    world: World, ref: dict[str, str], field: str, processing: str
) -> None:
    refused = await world.refused(RECORD, **sale(world, store=ref, processing=processing))
    assert refused == [("NOT_FOUND", ["store", field])]


async def test_unknown_store_does_not_harm_the_rest_of_a_batch(world: World) -> None:
    inputs = [{"purchase": sale(world)}, {"purchase": sale(world, store={"externalId": "nowhere"})}]
    answer = (await world.call(BATCH, {"input": inputs}))["recordEvents"]
    assert answer["accepted"] == 1
    assert [(e["code"], e["field"]) for e in answer["userErrors"]] == [
        ("NOT_FOUND", ["1", "purchase", "store", "externalId"])
    ]


async def test_same_purchase_in_another_store_is_a_conflict(world: World) -> None:
    here, there = await world.store(), await world.store()
    once = sale(world, store={"id": here["id"]})
    first = await world.done(RECORD, **once)
    again = await world.done(RECORD, **once | {"store": {"externalId": here["externalId"]}})
    assert again == first | {"replayed": True}
    for other in ({"id": there["id"]}, None):
        refused = await world.refused(RECORD, **once | {"store": other})
        assert refused == [("IDEMPOTENCY_CONFLICT", ["externalId"])]


FACTORS = "query ($id: ID!) { event(by: {id: $id}) { awards { steps { kind before after factor } } } }"


async def test_member_who_earns_10_earns_30_in_a_campaign_and_60_as_a_member_of_a_tier(world: World) -> None:
    """What the README promises of factors."""
    await world.rule(pointsPerAmount={"points": "1"})
    assert (await world.purchase("10"))["event"]["points"] == 10
    await world.campaign(name="Black Friday", multiplier="3")
    assert (await world.purchase("10"))["event"]["points"] == 30
    await world.tier()
    gold = await world.tier("500", multiplier="2")
    given = {"member": {"id": world.member}, "tierId": gold["id"], "reason": "A good customer"}
    await world.done(
        "mutation ($input: SetMemberTierInput!) { setMemberTier(input: $input) { userErrors { code } } }",
        **given,
    )
    event = (await world.purchase("10"))["event"]
    assert event["points"] == 60
    (award,) = (await world.call(FACTORS, {"id": event["id"]}))["event"]["awards"]
    assert award["steps"] == [
        {"kind": "BASE", "before": "0", "after": "10", "factor": None},
        {"kind": "TIER_MULTIPLIER", "before": "10", "after": "20", "factor": "2"},
        {"kind": "CAMPAIGN_MULTIPLIER", "before": "20", "after": "60", "factor": "3"},
    ]
    other = await world.enrol()
    assert (await world.purchase("10", member={"id": other["id"]}))["event"]["points"] == 30
