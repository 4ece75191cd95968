"""Why each rule paid or did not, told with the event: as it was decided, whatever became of the rules."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app import clock
from app.earning import rulesets
from tests.api.client import RECORD, Api, World, make_world
from tests.api.statements import counting
from tests.api.test_actions import ACT, QUIZ, deed
from tests.api.test_events import UPDATE, sale

OUTCOMES = "explanation { ruleVersion paid reason message points rule { id name version status } }"
EVENT = f"query ($id: ID!) {{ event(by: {{id: $id}}) {{ status points {OUTCOMES} }} }}"
EVENTS = f"""query ($id: ID!, $first: Int!) {{ member(by: {{id: $id}}) {{
    events(first: $first) {{ nodes {{ id {OUTCOMES} }} }}
}} }}"""
CHANGE = """mutation ($id: ID!, $input: EarningRuleInput!) { updateEarningRule(id: $id, input: $input) {
    userErrors { code field }
} }"""
SET = """mutation ($id: ID!, $status: RuleStatus!) { setEarningRuleStatus(id: $id, status: $status) {
    userErrors { code field }
} }"""
PROGRAM = """mutation ($input: UpdateProgramInput!) { updateProgram(input: $input) {
    userErrors { code field }
} }"""
LINES = [
    {"sku": "ESP-1", "category": "Coffee", "brand": "Own", "quantity": "2", "amount": "25.00"},
    {"sku": "CUP", "category": "Dishes", "amount": "17.10"},
]


async def event_of(world: World, event_id: str, token: str | None = None) -> Any:
    data = await world.api.call(EVENT, {"id": event_id}, token or world.key)
    return data["event"]


async def explained(world: World, event_id: str, token: str | None = None) -> list[Any]:
    """Return the explanation without what the rules are called and said to be now."""
    outcomes = (await event_of(world, event_id, token))["explanation"]
    return [outcome | {"rule": outcome["rule"]["id"]} for outcome in outcomes]


async def buy(world: World, **purchase: Any) -> str:
    return (await world.done(RECORD, **sale(world, **purchase)))["event"]["id"]


async def change(world: World, rule: str, **changes: Any) -> None:
    base = {"name": "Changed", "trigger": "PURCHASE"}
    data = await world.call(CHANGE, {"id": rule, "input": base | changes})
    assert data["updateEarningRule"]["userErrors"] == []


async def set_status(world: World, rule: str, status: str) -> None:
    data = await world.call(SET, {"id": rule, "status": status})
    assert data["setEarningRuleStatus"]["userErrors"] == []


async def test_every_rule_is_there_in_the_order_of_the_rules_with_a_reason(world: World) -> None:
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    here = await world.store(name="Here")
    expected = {}
    for reason, rule in {
        "PAID": {"name": "A point a euro"},
        "NOT_ACTIVE": {"fixedPoints": 1, "status": "DRAFT"},
        "NOT_STARTED": {"fixedPoints": 1, "startsAt": soon},
        "ENDED": {"fixedPoints": 1, "endsAt": soon},
        "BELOW_MINIMUM": {"fixedPoints": 1, "minimumAmount": "99"},
        "NO_MATCHING_PRODUCT": {"fixedPoints": 1, "products": {"skus": ["other"]}},
        "NOT_IN_AUDIENCE": {"fixedPoints": 1, "audience": {"storeIds": [here["id"]]}},
        "ROUNDED_TO_ZERO": {"pointsPerAmount": {"points": "0.001"}},
    }.items():
        expected[(await world.rule(**rule))["id"]] = reason
    first = await world.rule(priority=5, fixedPoints=2)
    expected = {first["id"]: "PAID"} | expected
    await world.rule(trigger="CHECK_IN", fixedPoints=1)
    late = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    event = await event_of(world, await buy(world, occurredAt=late))
    # It ends only later, and so it pays.
    ended = next(rule for rule, reason in expected.items() if reason == "ENDED")
    expected[ended] = "PAID"
    assert {each["rule"]["id"]: each["reason"] for each in event["explanation"]} == expected
    assert [each["rule"]["id"] for each in event["explanation"]] == list(expected)
    for each in event["explanation"]:
        assert each["paid"] is (each["reason"] == "PAID") is (each["points"] > 0)
        assert each["message"].endswith(".")
        assert each["ruleVersion"] == each["rule"]["version"] == 1
    assert sum(each["points"] for each in event["explanation"]) == event["points"] == 13


async def test_rule_had_ended_or_not_started_by_the_time_of_the_event(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    ends_at = (now + timedelta(seconds=2)).isoformat()
    rule = await world.rule(fixedPoints=5, startsAt="2026-01-01T00:00:00Z", endsAt=ends_at)
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(seconds=3))
    for when, reason in (
        (None, "ENDED"),
        ("2026-01-05T00:00:00Z", "PAID"),
        ("2025-12-31T00:00:00Z", "NOT_STARTED"),
    ):
        (outcome,) = await explained(world, await buy(world, occurredAt=when))
        assert (outcome["rule"], outcome["reason"]) == (rule["id"], reason)


async def test_messages_name_what_a_marketer_needs_to_know(world: World) -> None:
    coffee = await world.rule(name="Double coffee", products={"categories": ["Coffee"]})
    every = await world.rule(name="Every euro", minimumAmount="100")
    plain = await world.rule(name="Plain")
    await world.rule(name="Quiz night", **QUIZ, fixedPoints=3)
    beans = [{"sku": "ESP-1", "category": "Coffee", "amount": "25"}]
    outcomes = {
        each["rule"]: each for each in await explained(world, await buy(world, amount=None, lines=beans))
    }
    assert (outcomes[coffee["id"]]["points"], outcomes[coffee["id"]]["reason"]) == (25, "PAID")
    assert "25 points" in outcomes[coffee["id"]]["message"]
    assert outcomes[every["id"]]["reason"] == "BELOW_MINIMUM"
    assert "25.00 EUR" in outcomes[every["id"]]["message"]
    assert "100.00 EUR" in outcomes[every["id"]]["message"]
    assert outcomes[plain["id"]]["reason"] == "REPLACED"
    assert "Double coffee" in outcomes[plain["id"]]["message"]
    played = await world.done(ACT, **deed(world, "review"))
    (outcome,) = await explained(world, played["event"]["id"])
    assert (outcome["reason"], "quiz" in outcome["message"]) == ("OTHER_ACTION", True)


async def varied(world: World) -> list[str]:
    """Set up rules of many sorts, and return the ids of events that they decided about."""
    await world.tier(multiplier="1.5")
    await world.campaign(multiplier="3")
    await world.rule(limits={"maxPointsPerDay": 200})
    await world.rule(pointsPerAmount={"points": "3", "amount": "2"}, products={"categories": ["Coffee"]})
    await world.rule(multiplier="2", products={"excludedCategories": ["Vouchers"]}, pointsPerAmount=None)
    await world.rule(fixedPoints=50, limits={"budget": 180, "frequency": {"times": 1, "per": "YEAR"}})
    await world.rule(fixedPoints=20, minimumAmount="90")
    await world.rule(fixedPoints=20, status="DRAFT")
    await world.rule(**QUIZ, fixedPoints=12, limits={"cooldownMinutes": 60})
    bought: list[dict[str, Any]] = [{"lines": LINES}, {"lines": LINES[:1]}, {"amount": "95"}, {}]
    events = [await buy(world, **({"amount": None} if "lines" in each else {}), **each) for each in bought]
    return [*events, *[(await world.done(ACT, **deed(world)))["event"]["id"] for _ in range(2)]]


async def test_explanation_stays_word_for_word_whatever_becomes_of_rules_tiers_and_program(
    api: Api,
) -> None:
    world = await make_world(api, maxPointsPerDay=1000)
    events = await varied(world)
    before = [await explained(world, event) for event in events]
    assert len({each["reason"] for outcomes in before for each in outcomes}) >= 7
    listed = await world.call("{ earningRules(first: 50) { nodes { id trigger } } }")
    rules = [(rule["id"], rule["trigger"]) for rule in listed["earningRules"]["nodes"]]

    async def assert_unchanged() -> None:
        assert [await explained(world, event) for event in events] == before
        # Without what this process remembers, as another one would answer.
        rulesets._past.clear()
        assert [await explained(world, event) for event in events] == before

    await assert_unchanged()
    for rule, trigger in rules:
        await change(world, rule, trigger=trigger, name="Other name", priority=7)
    await assert_unchanged()
    await world.call(
        PROGRAM, {"input": {"rounding": "CEILING", "maxPointsPerDay": 9, "multiplierStacking": "ADD"}}
    )
    await world.tier("10", multiplier="9")
    await world.campaign(multiplier="7")
    await world.rule(fixedPoints=99)
    await buy(world)
    await assert_unchanged()
    for status in ("PAUSED", "ACTIVE", "ARCHIVED"):
        for rule, _ in rules:
            await set_status(world, rule, status)
        await assert_unchanged()
    now = (await event_of(world, events[0]))["explanation"]
    assert {each["rule"]["status"] for each in now} == {"ARCHIVED"}
    assert {each["rule"]["name"] for each in now} == {"Other name"}


async def test_version_that_decided_stays_when_the_rule_moves_on(world: World) -> None:
    rule = await world.rule(fixedPoints=5)
    first = await buy(world)
    await change(world, rule["id"], fixedPoints=9)
    second = await buy(world)
    found = [(await event_of(world, event))["explanation"][0] for event in (first, second)]
    assert [(each["ruleVersion"], each["points"], each["rule"]["version"]) for each in found] == [
        (1, 5, 2),
        (2, 9, 2),
    ]


async def test_archived_rule_is_not_considered(world: World) -> None:
    archived = await world.rule(fixedPoints=5)
    await set_status(world, archived["id"], "ARCHIVED")
    event = await event_of(world, await buy(world))
    assert (event["status"], event["explanation"]) == ("PROCESSED", [])


async def test_what_waits_for_a_worker_has_no_explanation_until_it_is_earned(world: World) -> None:
    rule = await world.rule()
    event = await buy(world, processing="DEFERRED")
    assert await event_of(world, event) == {"status": "QUEUED", "points": 0, "explanation": []}
    await world.work()
    (outcome,) = await explained(world, event)
    assert (outcome["rule"], outcome["reason"], outcome["points"]) == (rule["id"], "PAID", 10)


async def test_what_was_rejected_has_no_explanation(world: World) -> None:
    await world.rule(pointsPerAmount={"points": "1000000", "amount": "0.01"})
    event = await event_of(world, await buy(world, amount="1000000000000"))
    assert (event["status"], event["explanation"]) == ("REJECTED", [])
    other = await world.enrol()
    queued = await buy(world, member={"id": other["id"]}, amount="1", processing="DEFERRED")
    await world.call(UPDATE, {"input": {"member": {"id": other["id"]}, "status": "SUSPENDED"}})
    await world.work()
    event = await event_of(world, queued)
    assert (event["status"], event["explanation"]) == ("REJECTED", [])


async def test_mutation_answers_with_the_explanation_at_once(world: World) -> None:
    await world.rule(name="A point a euro")
    query = """mutation ($input: PurchaseInput!) { recordPurchase(input: $input) {
        event { explanation { reason points rule { name } } } userErrors { code }
    } }"""
    done = await world.done(query, **sale(world))
    assert done["event"]["explanation"] == [
        {"reason": "PAID", "points": 10, "rule": {"name": "A point a euro"}}
    ]


async def test_member_reads_why_without_learning_of_rules_that_are_not_theirs_to_see(world: World) -> None:
    """Drafts and paused rules are the marketer's business, unless the member was paid by them."""
    paid = await world.rule(name="Paid")
    missed = await world.rule(fixedPoints=9, minimumAmount="99")
    secret = await world.rule(fixedPoints=9, status="DRAFT", name="Not announced yet")
    stopped = await world.rule(fixedPoints=9, minimumAmount="99")
    event = await buy(world)
    await set_status(world, paid["id"], "PAUSED")
    await set_status(world, stopped["id"], "PAUSED")
    everything = await explained(world, event)
    assert [each["rule"] for each in everything] == [rule["id"] for rule in (paid, missed, secret, stopped)]
    seen = await explained(world, event, world.token)
    assert seen == [each for each in everything if each["rule"] in (paid["id"], missed["id"])]
    other = await world.token_for((await world.enrol())["id"])
    assert await world.api.call(EVENT, {"id": event}, other) == {"event": None}


@pytest.mark.parametrize("scope", ["members:read", "events:write"])
async def test_whoever_may_read_the_event_may_read_why(world: World, scope: str) -> None:
    await world.rule()
    event = await buy(world)
    key = await world.scoped_key(frozenset({scope}))
    query = "query ($id: ID!) { event(by: {id: $id}) { explanation { reason } } }"
    found = await world.api.call(query, {"id": event}, key)
    assert found["event"]["explanation"] == [{"reason": "PAID"}]


async def test_explanations_of_a_page_of_events_are_read_together(world: World) -> None:
    """The rules of the time are read at once, and remembered: each event is of another version."""
    for n in range(12):
        await world.rule(name=f"Rule {n}")
        await buy(world, amount="1")

    async def cost(first: int, *, remembered: bool) -> tuple[int, int]:
        numbers = []
        # The least of three: a key's last use may be written in the middle of one.
        for _ in range(3):
            if not remembered:
                rulesets._past.clear()
            async with counting() as counted:
                data = await world.call(EVENTS, {"id": world.member, "first": first})
            numbers.append(counted.numbers)
            events = data["member"]["events"]["nodes"]
            assert [len(event["explanation"]) for event in events] == list(range(12, 12 - first, -1))
        return min(numbers)

    for first in (2, 12):
        assert await cost(first, remembered=False) == (5, 0)
        assert await cost(first, remembered=True) == (4, 0)
