"""Recording actions through the API: names of one's own, now and later, one by one and in batches."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.earning.rules import Action
from tests.api.client import CREATE_RULE, RECORD, World, unique
from tests.api.test_events import BATCH, UPDATE, ago, sale

DETAILS = """id externalId kind status rejection action amount occurredAt data points
    lines { sku } store { id }
    awards { desired points rule { id } steps { kind label before after } }"""
ACT = f"""mutation ($input: ActionInput!) {{ recordAction(input: $input) {{
    event {{ {DETAILS} }} member {{ id balance {{ available pending }} }}
    replayed userErrors {{ code field message }}
}} }}"""
EVENT = f"query ($by: EventRef!) {{ event(by: $by) {{ {DETAILS} }} }}"
QUIZ = {"trigger": "ACTION", "action": "quiz"}


def deed(world: World, action: str = "quiz", **input: Any) -> dict[str, Any]:
    return {"member": {"id": world.member}, "externalId": unique("deed"), "action": action} | input


async def read(world: World, **by: str) -> Any:
    return (await world.call(EVENT, {"by": by}))["event"]


async def test_action_answers_with_the_points_it_earned_and_the_new_balance(world: World) -> None:
    rule = await world.rule(**QUIZ, fixedPoints=5, name="Quiz")
    done = await world.done(ACT, **deed(world, data={"score": 9}, occurredAt=ago(hours=2)))
    event = done["event"]
    assert (event["kind"], event["action"], event["status"], event["points"]) == (
        "ACTION",
        "quiz",
        "PROCESSED",
        5,
    )
    assert (event["amount"], event["lines"], event["store"], event["data"]) == (None, [], None, {"score": 9})
    (award,) = event["awards"]
    assert (award["rule"], award["desired"], award["points"]) == ({"id": rule["id"]}, 5, 5)
    assert [step["kind"] for step in award["steps"]] == ["BASE"]
    assert "quiz" in award["steps"][0]["label"]
    assert done["member"] == {"id": world.member, "balance": {"available": 5, "pending": 0}}
    assert done["replayed"] is False
    assert await read(world, id=event["id"]) == event


async def test_only_rules_for_this_very_action_pay(world: World) -> None:
    await world.rule(**QUIZ, fixedPoints=1)
    await world.rule(**QUIZ, fixedPoints=10)
    await world.rule(trigger="ACTION", action="review", fixedPoints=100)
    await world.rule(fixedPoints=1000)
    await world.rule(trigger="CHECK_IN", fixedPoints=10_000)
    for action, points in (("quiz", 11), ("review", 100), ("Quiz", 0), ("quiz2", 0), ("nothing known", 0)):
        assert (await world.done(ACT, **deed(world, action)))["event"]["points"] == points, action
    assert (await world.done(RECORD, **sale(world)))["event"]["points"] == 1000


async def test_same_action_again_is_answered_as_the_first_time(world: World) -> None:
    await world.rule(**QUIZ, fixedPoints=5)
    once = deed(world, data={"a": [1, None]}, occurredAt=ago(days=1))
    first = await world.done(ACT, **once)
    for again in (once, once | {"member": {"externalId": world.external_id}}):
        assert await world.done(ACT, **again) == first | {"replayed": True}
    deferred = await world.done(ACT, **once, processing="DEFERRED")
    assert deferred == first | {"replayed": True}


async def test_replay_without_a_time_is_the_same_action(world: World) -> None:
    once = deed(world)
    first = await world.done(ACT, **once)
    assert (await world.done(ACT, **once))["event"] == first["event"]


@pytest.mark.parametrize(
    "other", [{"action": "review"}, {"data": {"a": 1}}, {"occurredAt": "2026-01-01T00:00:00Z"}]
)
async def test_same_id_with_another_content_is_a_conflict(world: World, other: dict[str, Any]) -> None:
    once = deed(world)
    await world.done(ACT, **once)
    assert await world.refused(ACT, **(once | other)) == [("IDEMPOTENCY_CONFLICT", ["externalId"])]
    assert (await read(world, externalId=once["externalId"]))["action"] == "quiz"


async def test_purchase_and_action_share_their_ids(world: World) -> None:
    once = deed(world)
    await world.done(ACT, **once)
    bought = sale(world, externalId=once["externalId"])
    assert await world.refused(RECORD, **bought) == [("IDEMPOTENCY_CONFLICT", ["externalId"])]
    sold = sale(world)
    await world.done(RECORD, **sold)
    refused = await world.refused(ACT, **deed(world, externalId=sold["externalId"]))
    assert refused == [("IDEMPOTENCY_CONFLICT", ["externalId"])]


async def test_same_action_of_another_member_is_a_conflict(world: World) -> None:
    once, other = deed(world), await world.enrol()
    await world.done(ACT, **once)
    refused = await world.refused(ACT, **(once | {"member": {"id": other["id"]}}))
    assert refused == [("IDEMPOTENCY_CONFLICT", ["externalId"])]


async def test_deferred_action_is_stored_and_earned_by_a_worker(world: World) -> None:
    await world.rule(**QUIZ, fixedPoints=5)
    later = deed(world, processing="DEFERRED")
    stored = await world.done(ACT, **later)
    assert (stored["event"]["status"], stored["event"]["points"], stored["event"]["awards"]) == (
        "QUEUED",
        0,
        [],
    )
    assert stored["member"]["balance"]["available"] == 0
    assert (await world.done(ACT, **later))["replayed"] is True
    await world.work()
    done = await world.done(ACT, **later)
    assert (done["event"]["status"], done["event"]["points"], done["replayed"]) == ("PROCESSED", 5, True)
    assert done["event"]["action"] == "quiz"


async def test_null_processing_means_now(world: World) -> None:
    assert (await world.done(ACT, **deed(world, processing=None)))["event"]["status"] == "PROCESSED"


WRONG: list[tuple[dict[str, Any], str, list[str]]] = [
    *(({"action": name.value}, "INVALID", ["action"]) for name in Action),
    ({"action": ""}, "INVALID", ["action"]),
    ({"action": " quiz"}, "INVALID", ["action"]),
    ({"action": "qu\0iz"}, "INVALID", ["action"]),
    ({"action": "x" * 101}, "INVALID", ["action"]),
    ({"externalId": ""}, "INVALID", ["externalId"]),
    ({"externalId": "laurel:birthday:2026"}, "INVALID", ["externalId"]),
    ({"externalId": "x" * 256}, "INVALID", ["externalId"]),
    ({"occurredAt": "2999-01-01T00:00:00Z"}, "INVALID", ["occurredAt"]),
    ({"occurredAt": "1969-12-31T23:59:59Z"}, "INVALID", ["occurredAt"]),
    ({"data": [1]}, "INVALID", ["data"]),
    ({"data": {"a": "x" * 17_000}}, "INVALID", ["data"]),
    ({"member": {"id": "none"}}, "NOT_FOUND", ["member", "id"]),
    ({"member": {"externalId": "nobody"}}, "NOT_FOUND", ["member", "externalId"]),
    ({"member": {"email": "nobody@example.com"}}, "NOT_FOUND", ["member", "email"]),
]


@pytest.mark.parametrize("processing", ["NOW", "DEFERRED"])
@pytest.mark.parametrize(("wrong", "code", "field"), WRONG)
async def test_wrong_action_is_refused_by_field(
    world: World, wrong: dict[str, Any], code: str, field: list[str], processing: str
) -> None:
    assert await world.refused(ACT, **deed(world, processing=processing) | wrong) == [(code, field)]


async def test_prefix_of_own_ids_is_kept_from_purchases_too(world: World) -> None:
    refused = await world.refused(RECORD, **sale(world, externalId="laurel:x"))
    assert refused == [("INVALID", ["externalId"])]
    await world.done(RECORD, **sale(world, externalId=unique("Laurel:x")))


@pytest.mark.parametrize("status", ["SUSPENDED", "CLOSED"])
async def test_member_who_takes_no_part_earns_nothing(world: World, status: str) -> None:
    await world.call(UPDATE, {"input": {"member": {"id": world.member}, "status": status}})
    assert await world.refused(ACT, **deed(world)) == [("NOT_ELIGIBLE", ["member"])]


async def test_batch_takes_purchases_and_actions_together(world: World) -> None:
    await world.rule()
    await world.rule(**QUIZ, fixedPoints=5)
    store = await world.store()
    bought = sale(world, occurredAt=ago(minutes=9), store={"externalId": store["externalId"]})
    played = deed(world, occurredAt=ago(minutes=8))
    inputs = [{"purchase": bought}, {"action": played}]
    answer = (await world.call(BATCH, {"input": inputs}))["recordEvents"]
    assert answer == {"accepted": 2, "replayed": 0, "userErrors": []}
    again = (await world.call(BATCH, {"input": inputs}))["recordEvents"]
    assert again == {"accepted": 0, "replayed": 2, "userErrors": []}
    assert (await read(world, externalId=played["externalId"]))["status"] == "QUEUED"
    await world.work()
    seen = await read(world, externalId=bought["externalId"])
    assert (seen["points"], seen["store"], seen["action"]) == (10, {"id": store["id"]}, None)
    seen = await read(world, externalId=played["externalId"])
    assert (seen["points"], seen["store"], seen["action"]) == (5, None, "quiz")


async def test_wrong_actions_are_turned_away_from_a_batch_by_their_place(world: World) -> None:
    good = [{"purchase": sale(world)}, {"action": deed(world)}]
    bad = [{"action": deed(world) | wrong} for wrong, _, _ in WRONG]
    answer = (await world.call(BATCH, {"input": [*good, *bad]}))["recordEvents"]
    assert (answer["accepted"], answer["replayed"]) == (2, 0)
    assert sorted((e["code"], e["field"]) for e in answer["userErrors"]) == sorted(
        (code, [str(n), "action", *field]) for n, (_, code, field) in enumerate(WRONG, start=2)
    )


async def test_action_and_purchase_of_one_id_in_a_batch_are_a_conflict(world: World) -> None:
    played = deed(world)
    inputs = [{"action": played}, {"purchase": sale(world, externalId=played["externalId"])}]
    answer = (await world.call(BATCH, {"input": inputs}))["recordEvents"]
    assert (answer["accepted"], answer["replayed"]) == (1, 0)
    assert [(e["code"], e["field"]) for e in answer["userErrors"]] == [
        ("IDEMPOTENCY_CONFLICT", ["1", "purchase", "externalId"])
    ]


@pytest.mark.parametrize("input", [{"purchase": None, "action": None}, {"action": None}])
async def test_event_of_a_batch_holds_one_thing(world: World, input: Any) -> None:
    answer = await world.post(BATCH, {"input": [input]})
    assert set(answer.codes) <= {"BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"}
    assert answer.codes
    both = await world.post(BATCH, {"input": [{"purchase": sale(world), "action": deed(world)}]})
    assert both.codes == answer.codes


async def test_frequency_counts_calendar_days_of_the_program(world: World) -> None:
    limits = {"frequency": {"times": 1, "per": "DAY"}}
    await world.rule(**QUIZ, fixedPoints=5, limits=limits)
    # In Berlin the second is of the next day.
    for when, points in (
        ("2026-02-01T22:59:59Z", 5), ("2026-02-01T23:00:00Z", 5), ("2026-02-01T22:00:00Z", 0),
        ("2026-02-02T22:59:59Z", 0), ("2026-02-02T23:00:00Z", 5),
    ):  # fmt: skip
        done = await world.done(ACT, **deed(world, occurredAt=when))
        assert done["event"]["points"] == points, when


async def test_campaign_multiplies_an_action_and_a_tier_does_not_unless_the_rule_says_so(
    world: World,
) -> None:
    await world.tier(multiplier="2")
    await world.campaign(multiplier="3", appliesTo=["ACTION"])
    await world.rule(**QUIZ, fixedPoints=10)
    await world.rule(trigger="ACTION", action="review", fixedPoints=10, tierMultiplierApplies=True)
    await world.rule(trigger="ACTION", action="share", fixedPoints=10, campaignMultiplierApplies=False)
    for action, points in (("quiz", 30), ("review", 60), ("share", 10)):
        assert (await world.done(ACT, **deed(world, action)))["event"]["points"] == points


async def test_points_of_a_rule_wait_and_expire_as_the_rule_says(world: World) -> None:
    await world.rule(**QUIZ, fixedPoints=5, pendingDays=10, expiry={"kind": "ROLLING_MONTHS", "months": 1})
    query = ACT.replace("desired points rule", "desired points availableAt expiresAt rule")
    done = await world.done(query, **deed(world))
    assert done["member"]["balance"] == {"available": 0, "pending": 5}
    (award,) = done["event"]["awards"]
    wait = datetime.fromisoformat(award["availableAt"]) - datetime.now(UTC)
    assert timedelta(days=9) < wait <= timedelta(days=10)
    life = datetime.fromisoformat(award["expiresAt"]) - datetime.fromisoformat(award["availableAt"])
    assert timedelta(days=27) < life < timedelta(days=33)


async def test_rule_of_an_action_needs_no_list_of_actions(world: World) -> None:
    """Any name may be used in a rule before the first such action comes in, and after."""
    name = unique("action")
    assert (await world.done(ACT, **deed(world, name)))["event"]["points"] == 0
    await world.done(CREATE_RULE, name="R", trigger="ACTION", action=name, fixedPoints=2)
    assert (await world.done(ACT, **deed(world, name)))["event"]["points"] == 2
