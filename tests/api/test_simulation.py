"""Simulating events through the API: what recording would then give, and nothing is written."""

import asyncio
from typing import Any

import pytest

from app.database import connection
from app.earning.rules import Action
from app.ledger.operations import MAX_POINTS
from tests.api.client import Api, World, make_world, unique
from tests.api.statements import counting
from tests.api.test_actions import ACT, QUIZ, deed
from tests.api.test_events import RECORD, UPDATE, ago, sale

OUTCOMES = "explanation { rule { id } ruleVersion paid reason message points }"
AWARDS = (
    "awards { rule { id } desired points availableAt expiresAt steps { kind label factor before after } }"
)
SIMULATE = f"""query ($input: EventInput!) {{ simulate(input: $input) {{
    points {AWARDS} {OUTCOMES} userErrors {{ code field message }}
}} }}"""
EVENT = f"query ($id: ID!) {{ event(by: {{id: $id}}) {{ points {AWARDS} {OUTCOMES} }} }}"
ERRORS = "userErrors { code field message }"
LINES = [
    {"sku": "ESP-1", "category": "Coffee", "brand": "Own", "quantity": "2", "amount": "25.00"},
    {"sku": "CUP", "category": "Dishes", "amount": "17.10"},
    {"sku": "GIFT", "category": "Vouchers", "amount": "50.00"},
]


async def simulate(world: World, **event: Any) -> Any:
    simulated = (await world.call(SIMULATE, {"input": event}))["simulate"]
    assert simulated["userErrors"] == [], simulated
    return simulated


async def refused(world: World, **event: Any) -> list[tuple[str, list[str] | None]]:
    simulated = (await world.call(SIMULATE, {"input": event}))["simulate"]
    assert (simulated["points"], simulated["awards"], simulated["explanation"]) == (0, [], [])
    return [(error["code"], error["field"]) for error in simulated["userErrors"]]


async def row_counts() -> dict[str, int]:
    """Return how many rows every table of the database has."""
    async with connection() as sql:
        names = await sql.fetch(
            "SELECT oid::regclass::text AS name FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        return {name: await sql.fetchval(f"SELECT count(*) FROM {name}") for (name,) in names}


async def retail(world: World) -> dict[str, str]:
    """Set up a rule of every sort, tiers and campaigns; return the stores by name."""
    store, other = await world.store(), await world.store()
    await world.tier(multiplier="1.5")
    gold = await world.tier("100", multiplier="2")
    await world.campaign(multiplier="3", appliesTo=["PURCHASE"])
    await world.campaign(multiplier="1.1", audience={"storeIds": [store["id"]]})
    await world.rule(limits={"maxPointsPerTransaction": 200})
    await world.rule(pointsPerAmount={"points": "3", "amount": "2"}, products={"categories": ["Coffee"]})
    await world.rule(pointsPerAmount={"points": "0.001"}, products={"skus": ["CUP"]})
    await world.rule(fixedPoints=50, products={"brands": ["Own"]}, limits={"budget": 180})
    await world.rule(fixedPoints=20, minimumAmount="90", limits={"frequency": {"times": 1, "per": "YEAR"}})
    await world.rule(multiplier="2", products={"excludedCategories": ["Vouchers"]}, **NOTHING)
    await world.rule(multiplier="4", products={"skus": ["ABSENT"]}, **NOTHING)
    await world.rule(fixedPoints=7, audience={"storeIds": [other["id"]]})
    await world.rule(fixedPoints=8, audience={"tierIds": [gold["id"]]})
    await world.rule(fixedPoints=9, startsAt="2990-01-01T00:00:00Z")
    await world.rule(fixedPoints=10, status="PAUSED")
    await world.rule(fixedPoints=11, status="ARCHIVED")
    await world.rule(**QUIZ, fixedPoints=12, limits={"cooldownMinutes": 60, "maxPointsPerDay": 20})
    await world.rule(**QUIZ, fixedPoints=13, limits={"maxTimesPerMember": 1}, pendingDays=4)
    await world.rule(trigger="ACTION", action="review", fixedPoints=14)
    return {"store": store["id"], "other": other["id"]}


# The World adds a rate to rules that do not say what they give.
NOTHING: dict[str, Any] = {"pointsPerAmount": None}


async def record(world: World, kind: str, event: dict[str, Any]) -> Any:
    """Record an event, and return it as it is read."""
    done = await world.done(ACT if kind == "action" else RECORD, **event)
    return (await world.call(EVENT, {"id": done["event"]["id"]}))["event"]


def timeless(awards: list[Any]) -> list[Any]:
    """Return awards without the moment of recording, which two calls cannot share."""
    return [award | {"availableAt": award["availableAt"][:10]} for award in awards]


async def test_simulation_is_what_recording_then_gives(api: Api) -> None:
    world = await make_world(api, maxPointsPerDay=2000, rounding="HALF_UP")
    stores = await retail(world)
    expiring = {"expiry": {"kind": "END_OF_YEAR"}, "limits": {"maxPointsPerDay": 5}}
    await world.rule(fixedPoints=3, **expiring)
    reasons = set()
    for n in range(3):
        for kind, event in (
            ("purchase", sale(world, amount=None, lines=LINES)),
            ("purchase", sale(world, amount="95", store={"id": stores["store"]})),
            ("purchase", sale(world, amount=None, lines=LINES[:2], store={"id": stores["other"]})),
            ("purchase", sale(world, amount="0.2")),
            ("purchase", sale(world, amount="30", occurredAt=ago(days=400 + n))),
            ("action", deed(world)),
            ("action", deed(world, "review", data={"stars": 5})),
            ("action", deed(world, "nothing known")),
        ):
            simulated = await simulate(world, **{kind: event})
            recorded = await record(world, kind, event)
            assert simulated["points"] == recorded["points"], event
            assert timeless(simulated["awards"]) == timeless(recorded["awards"])
            assert simulated["explanation"] == recorded["explanation"]
            assert sum(each["points"] for each in simulated["explanation"]) == simulated["points"]
            reasons |= {each["reason"] for each in simulated["explanation"]}
    assert reasons == {
        "PAID", "NOT_ACTIVE", "NOT_STARTED", "OTHER_ACTION", "BELOW_MINIMUM", "NO_MATCHING_PRODUCT",
        "NOT_IN_AUDIENCE", "REPLACED", "FREQUENCY_REACHED", "COOLING_DOWN", "MEMBER_LIMIT_REACHED",
        "DAY_LIMIT_REACHED", "BUDGET_SPENT", "ROUNDED_TO_ZERO",
    }  # fmt: skip


async def test_simulation_writes_nothing(world: World) -> None:
    stores = await retail(world)
    await world.purchase("10")
    before = await row_counts()
    assert before["event"] >= 1
    bought = sale(world, amount=None, lines=LINES, store={"id": stores["store"]})
    for _ in range(2):
        first = await simulate(world, purchase=bought)
        assert first["points"] > 0
        await simulate(world, action=deed(world))
        await simulate(world, action=deed(world, "BIRTHDAY"))
        await refused(world, purchase=sale(world, amount="-1"))
    assert await row_counts() == before
    assert timeless((await simulate(world, purchase=bought))["awards"]) == timeless(first["awards"])
    async with counting() as counted:
        await simulate(world, purchase=bought)
    written = [each for each in counted.statements if not each.startswith("SELECT")]
    # That the key was used is noted from time to time.
    assert [each for each in written if "api_key" not in each] == []
    assert counted.transactions == 0


async def test_simulation_needs_no_lock(world: World) -> None:
    """A budget that somebody is spending, and an account that somebody holds, do not keep it waiting."""
    rule = await world.rule(fixedPoints=5, limits={"budget": 100, "frequency": {"times": 9, "per": "DAY"}})
    await world.purchase("1")
    async with connection() as sql, sql.transaction():
        await sql.fetch("SELECT * FROM earning_budget FOR UPDATE")
        await sql.fetch("SELECT * FROM account WHERE program_id = $1 FOR UPDATE", world.program_id)
        async with asyncio.timeout(5):
            simulated = await simulate(world, purchase=sale(world))
    assert simulated["explanation"][0]["rule"] == {"id": rule["id"]}
    assert simulated["points"] == 5


async def test_limits_that_are_used_up_are_told(world: World) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"maxPointsPerDay": 5}, "DAY_LIMIT_REACHED"),
        ({"budget": 5}, "BUDGET_SPENT"),
        ({"frequency": {"times": 1, "per": "MONTH"}}, "FREQUENCY_REACHED"),
        ({"cooldownMinutes": 600}, "COOLING_DOWN"),
        ({"maxTimesPerMember": 1}, "MEMBER_LIMIT_REACHED"),
    ]
    rules = {(await world.rule(**QUIZ, fixedPoints=5, limits=limits))["id"]: why for limits, why in cases}
    assert (await simulate(world, action=deed(world)))["points"] == 25
    await world.done(ACT, **deed(world))
    simulated = await simulate(world, action=deed(world))
    assert simulated["points"] == 0
    assert {each["rule"]["id"]: each["reason"] for each in simulated["explanation"]} == rules
    assert not any(each["paid"] or each["points"] for each in simulated["explanation"])
    assert all(each["message"].endswith(".") for each in simulated["explanation"])
    # An award that was trimmed to nothing shows what it would have been.
    assert [(each["desired"], each["points"]) for each in simulated["awards"]] == [(5, 0), (5, 0)]


async def test_limits_of_a_late_event_are_those_of_its_time(world: World) -> None:
    await world.rule(**QUIZ, fixedPoints=5, limits={"frequency": {"times": 1, "per": "DAY"}})
    await world.done(ACT, **deed(world))
    assert (await simulate(world, action=deed(world)))["points"] == 0
    assert (await simulate(world, action=deed(world, occurredAt=ago(days=3))))["points"] == 5


@pytest.mark.parametrize("action", list(Action))
async def test_actions_that_laurel_finds_out_by_itself_can_be_simulated(world: World, action: Action) -> None:
    await world.rule(trigger="ACTION", action=action.value, fixedPoints=500)
    assert await world.refused(ACT, **deed(world, action.value)) == [("INVALID", ["action"])]
    simulated = await simulate(world, action=deed(world, action.value))
    assert simulated["points"] == 500
    assert len(simulated["awards"]) == 1
    late = await simulate(world, action=deed(world, action.value, occurredAt=ago(days=2)))
    assert late["points"] == 500


async def test_event_that_was_recorded_before_is_simulated_anew(world: World) -> None:
    await world.rule()
    bought = sale(world)
    await world.done(RECORD, **bought)
    assert (await simulate(world, purchase=bought))["points"] == 10
    assert (await simulate(world, purchase=bought | {"amount": "20"}))["points"] == 20
    assert (await simulate(world, purchase=bought | {"processing": "DEFERRED"}))["points"] == 10


async def test_draft_shows_what_would_happen_once_it_is_active(world: World) -> None:
    draft = await world.rule(fixedPoints=5, status="DRAFT")
    (outcome,) = (await simulate(world, purchase=sale(world)))["explanation"]
    assert (outcome["rule"], outcome["reason"], outcome["paid"]) == ({"id": draft["id"]}, "NOT_ACTIVE", False)
    await world.call(
        "mutation ($id: ID!) { setEarningRuleStatus(id: $id, status: ACTIVE) { userErrors { code } } }",
        {"id": draft["id"]},
    )
    simulated = await simulate(world, purchase=sale(world))
    assert (simulated["points"], simulated["explanation"][0]["ruleVersion"]) == (5, 2)


async def test_rules_of_other_kinds_of_event_are_left_out(world: World) -> None:
    await world.rule(trigger="CHECK_IN", fixedPoints=1)
    quiz = await world.rule(**QUIZ, fixedPoints=1)
    bought = await world.rule()
    await world.rule(status="ARCHIVED")
    for event, rule in (({"purchase": sale(world)}, bought), ({"action": deed(world)}, quiz)):
        (outcome,) = (await simulate(world, **event))["explanation"]
        assert outcome["rule"] == {"id": rule["id"]}


@pytest.mark.parametrize(
    ("kind", "wrong", "code", "field"),
    [
        ("purchase", {"amount": "-1"}, "INVALID", ["amount"]),
        ("purchase", {"amount": None}, "INVALID", ["amount"]),
        ("purchase", {"lines": [{"sku": "", "amount": "10"}]}, "INVALID", ["lines", "0", "sku"]),
        ("purchase", {"currency": "USD"}, "INVALID", ["currency"]),
        ("purchase", {"occurredAt": "2999-01-01T00:00:00Z"}, "INVALID", ["occurredAt"]),
        ("purchase", {"externalId": "laurel:x"}, "INVALID", ["externalId"]),
        ("purchase", {"member": {"externalId": "nobody"}}, "NOT_FOUND", ["member", "externalId"]),
        ("purchase", {"store": {"externalId": "nowhere"}}, "NOT_FOUND", ["store", "externalId"]),
        ("purchase", {"store": {"id": "none"}}, "NOT_FOUND", ["store", "id"]),
        ("action", {"action": ""}, "INVALID", ["action"]),
        ("action", {"externalId": ""}, "INVALID", ["externalId"]),
        ("action", {"data": []}, "INVALID", ["data"]),
        ("action", {"member": {"id": "none"}}, "NOT_FOUND", ["member", "id"]),
        (
            "action",
            {"action": "BIRTHDAY", "occurredAt": "2999-01-01T00:00:00Z"},
            "INVALID",
            ["occurredAt"],
        ),
    ],
)
async def test_wrong_event_is_refused_as_recording_it_would_be(
    world: World, kind: str, wrong: dict[str, Any], code: str, field: list[str]
) -> None:
    event = (sale(world) if kind == "purchase" else deed(world)) | wrong
    assert await refused(world, **{kind: event}) == [(code, [kind, *field])]


async def test_everything_that_is_wrong_is_told_at_once(world: World) -> None:
    wrong = sale(world, amount="-1", currency="USD", occurredAt="2999-01-01T00:00:00Z", externalId="")
    fields = {tuple(field or ()) for _, field in await refused(world, purchase=wrong)}
    assert fields == {("purchase", name) for name in ("amount", "currency", "occurredAt", "externalId")}


async def test_member_who_takes_no_part_would_earn_nothing(world: World) -> None:
    await world.call(UPDATE, {"input": {"member": {"id": world.member}, "status": "SUSPENDED"}})
    assert await refused(world, purchase=sale(world)) == [("NOT_ELIGIBLE", ["purchase", "member"])]


async def test_more_points_than_can_be_counted_are_refused(world: World) -> None:
    await world.rule(pointsPerAmount={"points": "1000000", "amount": "0.01"})
    assert await refused(world, purchase=sale(world, amount="1000000000000")) == [
        ("LIMIT_REACHED", ["purchase"])
    ]


async def test_account_that_cannot_count_an_award_is_told_as_recording_would_tell_it(world: World) -> None:
    query = f"query ($input: EventInput!) {{ simulate(input: $input) {{ points {OUTCOMES} {ERRORS} }} }}"
    await world.rule()
    await world.adjust(MAX_POINTS - 15)
    for amount, most in (("15", 15), ("16", 0)):
        bought = sale(world, amount=amount)
        simulated = (await world.call(query, {"input": {"purchase": bought}}))["simulate"]
        assert simulated["points"] == most
    assert simulated["explanation"] == []
    (error,) = simulated["userErrors"]
    assert (error["code"], error["field"]) == ("LIMIT_REACHED", ["purchase"])
    recorded = (await world.done(RECORD, **bought))["event"]
    assert (recorded["status"], recorded["rejection"]) == ("REJECTED", error["message"])


async def test_members_may_not_simulate(world: World) -> None:
    answer = await world.api.post(SIMULATE, {"input": {"purchase": sale(world)}}, world.token)
    assert answer.codes == ["FORBIDDEN"]


@pytest.mark.parametrize("scope", ["rules:read", "events:write"])
async def test_either_scope_lets_a_key_simulate(world: World, scope: str) -> None:
    await world.rule()
    key = await world.scoped_key(frozenset({scope}))
    query = "query ($input: EventInput!) { simulate(input: $input) { points explanation { message } } }"
    data = await world.api.call(query, {"input": {"purchase": sale(world)}}, key)
    assert data["simulate"]["points"] == 10


@pytest.mark.parametrize("rules", [1, 40])
async def test_simulation_costs_the_same_however_many_rules_there_are(world: World, rules: int) -> None:
    for _ in range(rules):
        await world.rule(fixedPoints=1, limits={"frequency": {"times": 5, "per": "DAY"}})
    event = {"purchase": sale(world)}
    numbers = []
    # The least of three: a key's last use may be written in the middle of one.
    for _ in range(3):
        async with counting() as counted:
            simulated = await simulate(world, **event)
        assert simulated["points"] == rules
        numbers.append(counted.numbers)
    assert min(numbers) == (9, 0)


async def test_simulation_of_a_name_that_nobody_has_used_finds_no_rule(world: World) -> None:
    simulated = await simulate(world, action=deed(world, unique("action")))
    assert simulated == {"points": 0, "awards": [], "explanation": [], "userErrors": []}
