"""Earning rules through the API: set up, changed in versions, archived for good."""

from typing import Any

import pytest

from tests.api.client import Api, World, make_world, unique
from tests.helpers import set_now

ALL = """id version name description status trigger action pointsPerAmount { points amount } fixedPoints
    multiplier referredPoints referralTrigger minimumAmount
    products { skus categories brands excludedSkus excludedCategories }
    audience { tiers { id } stores { id } } stacking
    limits { maxPointsPerTransaction maxPointsPerDay frequency { times per } cooldownMinutes
        maxTimesPerMember budget }
    pendingDays expiry { kind months } tierMultiplierApplies campaignMultiplierApplies
    startsAt endsAt priority createdAt updatedAt"""
CREATE = f"""mutation ($input: EarningRuleInput!) {{ createEarningRule(input: $input) {{
    earningRule {{ {ALL} }} userErrors {{ code field message }}
}} }}"""
UPDATE = f"""mutation ($id: ID!, $input: EarningRuleInput!) {{ updateEarningRule(id: $id, input: $input) {{
    earningRule {{ {ALL} }} userErrors {{ code field message }}
}} }}"""
SET = f"""mutation ($id: ID!, $status: RuleStatus!) {{ setEarningRuleStatus(id: $id, status: $status) {{
    earningRule {{ {ALL} }} userErrors {{ code field message }}
}} }}"""
RULE = f"query ($id: ID!) {{ earningRule(id: $id) {{ {ALL} }} }}"
BASE = {"name": "Rule", "trigger": "PURCHASE"}
FULL: dict[str, Any] = BASE | {
    "description": "Two points for every three euros", "status": "DRAFT",
    "pointsPerAmount": {"points": "2", "amount": "3.50"}, "minimumAmount": "5.00",
    "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2999-01-01T00:00:00Z", "priority": -5,
}  # fmt: skip
NO_LIMITS = {
    "maxPointsPerTransaction": None, "maxPointsPerDay": None, "frequency": None, "cooldownMinutes": None,
    "maxTimesPerMember": None, "budget": None,
}  # fmt: skip
UNSAID: dict[str, Any] = {
    "description": None, "status": "ACTIVE", "action": None, "pointsPerAmount": None, "fixedPoints": None,
    "multiplier": None, "referredPoints": None, "referralTrigger": None, "minimumAmount": None,
    "products": None, "audience": None, "stacking": "ADD", "limits": NO_LIMITS, "pendingDays": None,
    "expiry": None, "campaignMultiplierApplies": True, "startsAt": None,
    "endsAt": None, "priority": 0,
}  # fmt: skip
"""What a rule answers with that does not say."""
COFFEE: dict[str, Any] = {
    "skus": ["ESP-1", "ESP-2"], "categories": ["Coffee"], "brands": ["Own"], "excludedSkus": ["ESP-9"],
    "excludedCategories": ["Machines"],
}  # fmt: skip
LIMITS: dict[str, Any] = {
    "maxPointsPerTransaction": 100, "maxPointsPerDay": 150, "frequency": {"times": 2, "per": "WEEK"},
    "cooldownMinutes": 90, "maxTimesPerMember": 7, "budget": 1_000_000,
}  # fmt: skip
KINDS: list[dict[str, Any]] = [
    FULL | {
        "products": COFFEE, "stacking": "ADD", "limits": LIMITS, "pendingDays": 14,
        "expiry": {"kind": "ROLLING_MONTHS", "months": 6}, "tierMultiplierApplies": False,
        "campaignMultiplierApplies": False,
    },
    {"trigger": "PURCHASE", "fixedPoints": 25, "minimumAmount": "50"},
    {"trigger": "PURCHASE", "multiplier": "2.5", "products": COFFEE, "priority": 3},
    {"trigger": "ACTION", "action": "BIRTHDAY", "fixedPoints": 500, "expiry": {"kind": "END_OF_YEAR",
     "months": None}},
    {"trigger": "ACTION", "action": "quiz", "fixedPoints": 5, "limits": LIMITS, "pendingDays": 0,
     "tierMultiplierApplies": True, "campaignMultiplierApplies": False},
    {"trigger": "CHECK_IN", "fixedPoints": 10,
     "limits": NO_LIMITS | {"frequency": {"times": 1, "per": "DAY"}}},
    {"trigger": "REFERRAL", "fixedPoints": 300, "referredPoints": 100, "referralTrigger": "FIRST_PURCHASE",
     "limits": NO_LIMITS | {"maxTimesPerMember": 10}},
    {"trigger": "REFERRAL", "referredPoints": 100, "referralTrigger": "REGISTRATION",
     "expiry": {"kind": "NEVER", "months": None}},
]  # fmt: skip


async def create(world: World, **rule: Any) -> dict[str, Any]:
    return (await world.done(CREATE, **(BASE | rule)))["earningRule"]


async def update(world: World, rule: str, **changes: Any) -> Any:
    return (await world.call(UPDATE, {"id": rule, "input": BASE | changes}))["updateEarningRule"]


@pytest.mark.parametrize("given", KINDS, ids=lambda rule: rule["trigger"])
async def test_rule_of_every_kind_comes_back_as_it_was_given(world: World, given: Any) -> None:
    tier, store = await world.tier(), await world.store()
    # Actions happen in no store.
    stores = [] if given["trigger"] == "ACTION" else [{"id": store["id"]}]
    audience = {"tierIds": [tier["id"]], "storeIds": [each["id"] for each in stores]}
    rule = await create(world, **given, audience=audience)
    read = (await world.call(RULE, {"id": rule["id"]}))["earningRule"]
    assert read == rule
    own = {name: rule.pop(name) for name in ("id", "version", "createdAt", "updatedAt")}
    assert (own["version"], own["createdAt"]) == (1, own["updatedAt"])
    seen = {"audience": {"tiers": [{"id": tier["id"]}], "stores": stores}}
    takes_tier = {"tierMultiplierApplies": given["trigger"] == "PURCHASE"}
    assert rule == UNSAID | takes_tier | BASE | given | seen


@pytest.mark.parametrize(
    ("given", "stacking", "tier_factor"),
    [
        ({"pointsPerAmount": {"points": "1"}}, "ADD", True),
        ({"pointsPerAmount": {"points": "1"}, "products": COFFEE}, "REPLACE", True),
        ({"pointsPerAmount": {"points": "1"}, "products": {}}, "ADD", True),
        ({"pointsPerAmount": {"points": "1"}, "stacking": "REPLACE"}, "REPLACE", True),
        ({"fixedPoints": 1, "products": COFFEE}, "ADD", True),
        ({"multiplier": "2", "products": COFFEE}, "ADD", True),
        ({"trigger": "ACTION", "action": "quiz", "fixedPoints": 1}, "ADD", False),
        ({"trigger": "CHECK_IN", "fixedPoints": 1}, "ADD", False),
    ],
)
async def test_what_a_rule_does_not_say_is_told_as_it_holds(
    world: World, given: Any, stacking: str, tier_factor: bool
) -> None:
    rule = await create(world, **given)
    assert (rule["stacking"], rule["tierMultiplierApplies"]) == (stacking, tier_factor)
    assert rule["campaignMultiplierApplies"] is True


async def test_what_is_named_twice_is_kept_once(world: World) -> None:
    tier, store = await world.tier(), await world.store()
    twice = {"tierIds": [tier["id"]] * 2, "storeIds": [store["id"]] * 3}
    products = {"skus": ["b", "a", "b"], "excludedCategories": ["c", "c"]}
    rule = await create(world, fixedPoints=1, audience=twice, products=products)
    assert rule["audience"] == {"tiers": [{"id": tier["id"]}], "stores": [{"id": store["id"]}]}
    assert (rule["products"]["skus"], rule["products"]["excludedCategories"]) == (["b", "a"], ["c"])
    again = await update(world, rule["id"], audience=twice, products=products)
    assert again["earningRule"]["version"] == 1


@pytest.mark.parametrize("nothing", [None, {}, {"tierIds": None, "storeIds": []}])
async def test_rule_for_nobody_in_particular_is_for_everybody(world: World, nothing: Any) -> None:
    assert (await create(world, fixedPoints=1, audience=nothing))["audience"] is None


@pytest.mark.parametrize("nothing", [None, {}, {"skus": [], "brands": None}])
async def test_filter_that_names_nothing_is_none(world: World, nothing: Any) -> None:
    assert (await create(world, fixedPoints=1, products=nothing))["products"] is None


async def test_rule_that_says_little_is_active_and_pays_always(world: World) -> None:
    for given in ({"pointsPerAmount": {"points": "1"}}, {"pointsPerAmount": {"points": "1", "amount": None}}):
        rule = await create(world, **given)
        assert rule["pointsPerAmount"] == {"points": "1", "amount": "1"}
        assert (rule["status"], rule["priority"], rule["startsAt"], rule["endsAt"]) == (
            "ACTIVE",
            0,
            None,
            None,
        )


async def listed(world: World) -> list[str]:
    """Return the ids of the program's rules, the first twenty."""
    rules = await world.call("{ earningRules { nodes { id } } }")
    return [rule["id"] for rule in rules["earningRules"]["nodes"]]


async def test_rule_that_is_set_up_twice_is_one_rule(world: World) -> None:
    tier, store = await world.tier(), await world.store()
    given = KINDS[0] | {"audience": {"tierIds": [tier["id"]], "storeIds": [store["id"]]}}
    rule = await create(world, **given)
    # What is named twice, or written in another way, says the same.
    twice = {name: [*names, *names] for name, names in COFFEE.items()}
    rate = {"points": "2.0", "amount": "3.5"}
    for repeated in ({}, {"products": twice}, {"pointsPerAmount": rate}):
        assert await create(world, **(given | repeated)) == rule
    assert await listed(world) == [rule["id"]]
    others = [
        await create(world, **(given | other))
        for other in ({"name": "Other"}, {"status": "PAUSED"}, {"pendingDays": 15}, {"audience": None})
    ]
    assert await listed(world) == [rule["id"], *(other["id"] for other in others)]


async def test_twin_is_known_by_what_the_rule_says_now(world: World) -> None:
    """Its status, too: what was paused since pays nobody twice, and a repeat makes a rule of its own."""
    first = await create(world, **FIXED)
    await world.call(SET, {"id": first["id"], "status": "PAUSED"})
    second = await create(world, **FIXED)
    assert (second["version"], second["id"] != first["id"]) == (1, True)
    assert await create(world, **FIXED) == second
    changed = (await update(world, second["id"], name="Changed"))["earningRule"]
    third = await create(world, **FIXED)
    assert third["id"] not in (first["id"], second["id"])
    # As changed, so sent: the answer is the rule with its second version.
    assert await create(world, **FIXED, name="Changed") == changed
    await world.call(SET, {"id": third["id"], "status": "ARCHIVED"})
    assert (await create(world, **FIXED))["id"] not in (first["id"], second["id"], third["id"])
    archived = await create(world, **FIXED, status="ARCHIVED")
    assert archived["id"] != third["id"]


async def test_rules_of_two_programs_are_no_twins(api: Api, world: World) -> None:
    other = await make_world(api)
    assert (await create(world, **FIXED))["id"] != (await create(other, **FIXED))["id"]


RATE = {"pointsPerAmount": {"points": "1"}}
FIXED = {"fixedPoints": 5}
ACTION = {"trigger": "ACTION", "action": "quiz", "fixedPoints": 5}
VISIT = {"trigger": "CHECK_IN", "fixedPoints": 5}
FRIEND = {"trigger": "REFERRAL", "fixedPoints": 5, "referralTrigger": "REGISTRATION"}
WRONG: list[tuple[dict[str, Any], list[str]]] = [
    # Texts, windows, numbers.
    (FIXED | {"name": ""}, ["name"]),
    (FIXED | {"name": "x" * 201}, ["name"]),
    (FIXED | {"description": "x" * 2001}, ["description"]),
    (FIXED | {"startsAt": "2026-02-01T00:00:00Z", "endsAt": "2026-02-01T00:00:00Z"}, ["endsAt"]),
    (FIXED | {"endsAt": "2020-01-01T00:00:00Z"}, ["endsAt"]),
    (FIXED | {"minimumAmount": "-0.01"}, ["minimumAmount"]),
    (FIXED | {"priority": 1_000_001}, ["priority"]),
    (FIXED | {"priority": None}, ["priority"]),
    (FIXED | {"status": None}, ["status"]),
    (FIXED | {"pendingDays": -1}, ["pendingDays"]),
    (FIXED | {"pendingDays": 3651}, ["pendingDays"]),
    (FIXED | {"expiry": {"kind": "INACTIVITY_MONTHS", "months": 3}}, ["expiry", "kind"]),
    (FIXED | {"expiry": {"kind": "ROLLING_MONTHS"}}, ["expiry", "months"]),
    (FIXED | {"expiry": {"kind": "NEVER", "months": 3}}, ["expiry", "months"]),
    # What it gives.
    ({}, ["pointsPerAmount"]),
    ({"fixedPoints": 0}, ["fixedPoints"]),
    ({"fixedPoints": -1}, ["fixedPoints"]),
    (FIXED | RATE, ["fixedPoints"]),
    (FIXED | {"multiplier": "2"}, ["multiplier"]),
    ({"pointsPerAmount": {"points": "0"}}, ["pointsPerAmount", "points"]),
    ({"pointsPerAmount": {"points": "-1"}}, ["pointsPerAmount", "points"]),
    ({"pointsPerAmount": {"points": "1000001"}}, ["pointsPerAmount", "points"]),
    ({"pointsPerAmount": {"points": "1", "amount": "0"}}, ["pointsPerAmount", "amount"]),
    ({"multiplier": "0"}, ["multiplier"]),
    ({"multiplier": "1001"}, ["multiplier"]),
    ({"multiplier": "2", "limits": {"budget": 5}}, ["limits"]),
    ({"multiplier": "2", "pendingDays": 5}, ["pendingDays"]),
    ({"multiplier": "2", "expiry": {"kind": "NEVER"}}, ["expiry"]),
    ({"multiplier": "2", "stacking": "ADD"}, ["stacking"]),
    ({"multiplier": "2", "campaignMultiplierApplies": True}, ["campaignMultiplierApplies"]),
    (FIXED | {"stacking": "REPLACE"}, ["stacking"]),
    # What belongs to another kind.
    (ACTION | RATE, ["pointsPerAmount"]),
    (ACTION | {"multiplier": "2"}, ["multiplier"]),
    (ACTION | {"minimumAmount": "2"}, ["minimumAmount"]),
    (ACTION | {"products": {"skus": ["a"]}}, ["products"]),
    (ACTION | {"stacking": "ADD"}, ["stacking"]),
    (FIXED | {"action": "quiz"}, ["action"]),
    (VISIT | {"action": "quiz"}, ["action"]),
    (VISIT | {"referredPoints": 5}, ["referredPoints"]),
    (FIXED | {"referralTrigger": "REGISTRATION"}, ["referralTrigger"]),
    # What a kind needs.
    (ACTION | {"action": "birthday"}, ["action"]),
    (ACTION | {"action": None}, ["action"]),
    (ACTION | {"action": ""}, ["action"]),
    (ACTION | {"action": " quiz"}, ["action"]),
    (ACTION | {"action": "x" * 101}, ["action"]),
    (ACTION | {"fixedPoints": None}, ["fixedPoints"]),
    (VISIT | {"fixedPoints": None}, ["fixedPoints"]),
    (FRIEND | {"referralTrigger": None}, ["referralTrigger"]),
    (FRIEND | {"fixedPoints": None}, ["fixedPoints"]),
    (FRIEND | {"referredPoints": 0}, ["referredPoints"]),
    # Goods.
    (FIXED | {"products": {"skus": ["a", ""]}}, ["products", "skus", "1"]),
    (FIXED | {"products": {"skus": ["x" * 256]}}, ["products", "skus", "0"]),
    (FIXED | {"products": {"categories": ["a\tb"]}}, ["products", "categories", "0"]),
    (FIXED | {"products": {"excludedCategories": ["a", "b", ""]}}, ["products", "excludedCategories", "2"]),
    (FIXED | {"products": {"brands": ["x"] * 1001}}, ["products", "brands"]),
    (FIXED | {"products": {"skus": ["a"], "excludedSkus": ["a"]}}, ["products"]),
    (FIXED | {"products": {"categories": ["a"], "excludedCategories": ["b", "a"]}}, ["products"]),
    # Limits.
    (FIXED | {"limits": {"maxPointsPerTransaction": 0}}, ["limits", "maxPointsPerTransaction"]),
    (FIXED | {"limits": {"maxPointsPerDay": -1}}, ["limits", "maxPointsPerDay"]),
    (FIXED | {"limits": {"budget": 0}}, ["limits", "budget"]),
    (FIXED | {"limits": {"frequency": {"times": 0, "per": "DAY"}}}, ["limits", "frequency", "times"]),
    (FIXED | {"limits": {"cooldownMinutes": 0}}, ["limits", "cooldownMinutes"]),
    (FIXED | {"limits": {"cooldownMinutes": 527_041}}, ["limits", "cooldownMinutes"]),
    (FIXED | {"limits": {"maxTimesPerMember": 0}}, ["limits", "maxTimesPerMember"]),
]


@pytest.mark.parametrize(("wrong", "field"), WRONG)
async def test_rule_that_makes_no_sense_is_refused_by_field(
    world: World, wrong: Any, field: list[str]
) -> None:
    assert await world.refused(CREATE, **(BASE | wrong)) == [("INVALID", field)]


async def test_audience_that_is_not_of_the_program_is_refused_by_its_place(api: Api, world: World) -> None:
    other = await make_world(api)
    tier, store = await world.tier(), await world.store()
    foreign_tier, foreign_store = await other.tier(), await other.store()
    wrong = {"tierIds": [tier["id"], foreign_tier["id"], "none"], "storeIds": [tier["id"], store["id"]]}
    expected = [
        ("NOT_FOUND", ["audience", "tierIds", "1"]),
        ("NOT_FOUND", ["audience", "tierIds", "2"]),
        ("NOT_FOUND", ["audience", "storeIds", "0"]),
    ]
    assert await world.refused(CREATE, **BASE, **FIXED, audience=wrong) == expected
    rule = await create(world, **FIXED)
    payload = await update(world, rule["id"], audience={"storeIds": [foreign_store["id"]]})
    assert [(e["code"], e["field"]) for e in payload["userErrors"]] == [
        ("NOT_FOUND", ["audience", "storeIds", "0"])
    ]


@pytest.mark.parametrize("action", ["BIRTHDAY", "quiz"])
async def test_action_rule_for_certain_stores_is_refused(world: World, action: str) -> None:
    tier, store = await world.tier(), await world.store()
    rule = {"name": "Rule", "trigger": "ACTION", "action": action, "fixedPoints": 5}
    both = {"tierIds": [tier["id"]], "storeIds": [store["id"]]}
    assert await world.refused(CREATE, **rule, audience=both) == [("INVALID", ["audience", "storeIds"])]
    made = await create(world, **rule, audience={"tierIds": [tier["id"]]})
    payload = await update(world, made["id"], trigger="ACTION", audience=both)
    assert [(e["code"], e["field"]) for e in payload["userErrors"]] == [("INVALID", ["audience", "storeIds"])]


async def test_audience_of_more_than_a_hundred_is_refused(world: World) -> None:
    many = {"tierIds": ["none"] * 101}
    refused = await world.refused(CREATE, **BASE, **FIXED, audience=many)
    assert refused == [("INVALID", ["audience", "tierIds"])]


@pytest.mark.parametrize("field", ["name", "description"])
async def test_nul_in_a_text_is_refused_by_field(world: World, field: str) -> None:
    assert await world.refused(CREATE, **(BASE | {"fixedPoints": 5, field: "a\0b"})) == [("INVALID", [field])]


async def test_everything_that_is_wrong_with_a_rule_is_told_at_once(world: World) -> None:
    wrong = {"audience": {"tierIds": ["none"]}, "limits": {"budget": 0}, "priority": 10_000_000}
    errors = await world.refused(CREATE, name="", trigger="ACTION", **wrong)
    assert {field[0] for _, field in errors if field} == {
        "name", "action", "fixedPoints", "limits", "priority", "audience",
    }  # fmt: skip


async def test_field_that_is_left_out_of_an_update_stays(world: World) -> None:
    rule = await create(world, **FULL, stacking="ADD")
    changes: dict[str, Any] = {
        "description": "Other", "status": "PAUSED", "pointsPerAmount": {"points": "9", "amount": "1"},
        "minimumAmount": "7", "startsAt": "2026-02-01T00:00:00Z", "endsAt": "2998-01-01T00:00:00Z",
        "priority": 3, "products": COFFEE, "stacking": "REPLACE", "limits": LIMITS, "pendingDays": 3,
        "expiry": {"kind": "ROLLING_MONTHS", "months": 6}, "tierMultiplierApplies": False,
        "campaignMultiplierApplies": False,
    }  # fmt: skip
    for version, (name, value) in enumerate(changes.items(), start=2):
        rule |= {name: value, "version": version}
        changed = (await update(world, rule["id"], **{name: value}))["earningRule"]
        rule["updatedAt"] = changed["updatedAt"]
        assert changed == rule, name
    assert (await world.call(RULE, {"id": rule["id"]}))["earningRule"] == rule


async def test_null_clears_what_can_be_empty(world: World) -> None:
    rule = await create(world, **FULL)
    for name in ("description", "minimumAmount", "startsAt", "endsAt"):
        rule |= {name: None, "version": rule["version"] + 1}
        changed = (await update(world, rule["id"], **{name: None}))["earningRule"]
        rule["updatedAt"] = changed["updatedAt"]
        assert changed == rule, name
    changed = (await update(world, rule["id"], pointsPerAmount=None, fixedPoints=4))["earningRule"]
    assert (changed["pointsPerAmount"], changed["fixedPoints"]) == (None, 4)


async def test_null_brings_back_what_holds_when_nothing_is_said(world: World) -> None:
    store = await world.store()
    rule = await create(world, **KINDS[0], audience={"storeIds": [store["id"]]})
    defaults = {
        "products": None, "audience": None, "limits": NO_LIMITS, "pendingDays": None, "expiry": None,
        "tierMultiplierApplies": True, "campaignMultiplierApplies": True, "stacking": "ADD",
    }  # fmt: skip
    for name, default in defaults.items():
        rule |= {name: default, "version": rule["version"] + 1}
        changed = (await update(world, rule["id"], **{name: None}))["earningRule"]
        rule["updatedAt"] = changed["updatedAt"]
        assert changed == rule, name


async def test_object_in_an_update_takes_the_place_of_the_whole_old_one(world: World) -> None:
    tier, store = await world.tier(), await world.store()
    rule = await create(world, **KINDS[0], audience={"storeIds": [store["id"]]})
    changes: dict[str, tuple[Any, Any]] = {
        "limits": ({"budget": 9}, NO_LIMITS | {"budget": 9}),
        "products": ({"brands": ["Own"]}, {name: [] for name in COFFEE} | {"brands": ["Own"]}),
        "audience": ({"tierIds": [tier["id"]]}, {"tiers": [{"id": tier["id"]}], "stores": []}),
        "expiry": ({"kind": "END_OF_YEAR"}, {"kind": "END_OF_YEAR", "months": None}),
        "pointsPerAmount": ({"points": "9"}, {"points": "9", "amount": "1"}),
    }
    for name, (sent, expected) in changes.items():
        rule |= {name: expected, "version": rule["version"] + 1}
        changed = (await update(world, rule["id"], **{name: sent}))["earningRule"]
        rule["updatedAt"] = changed["updatedAt"]
        assert changed == rule, name


async def test_update_is_judged_by_what_the_rule_would_say_then(world: World) -> None:
    rule = await create(world, **RATE, products={"skus": ["a"]})
    for changes, field in (
        ({"products": {"skus": ["a"], "excludedSkus": ["a"]}}, ["products"]),
        ({"multiplier": "2"}, ["multiplier"]),
        ({"action": "quiz"}, ["action"]),
        ({"endsAt": "2020-01-01T00:00:00Z"}, ["endsAt"]),
        ({"limits": {"frequency": {"times": 0, "per": "YEAR"}}}, ["limits", "frequency", "times"]),
    ):
        payload = await update(world, rule["id"], **changes)
        assert [(e["code"], e["field"]) for e in payload["userErrors"]] == [("INVALID", field)]
    assert (await world.call(RULE, {"id": rule["id"]}))["earningRule"] == rule


async def test_rule_whose_window_is_over_can_still_be_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        set_now(patch, 2026, 1, 1)
        rule = await create(world, **FIXED, endsAt="2026-02-01T00:00:00Z")
    changed = (await update(world, rule["id"], description="Over"))["earningRule"]
    assert (changed["version"], changed["description"], changed["endsAt"]) == (2, "Over", rule["endsAt"])


async def test_rule_whose_window_is_over_cannot_be_activated_before_its_end_is_moved(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        set_now(patch, 2026, 1, 1)
        rules = [
            await create(world, fixedPoints=n, status=status, endsAt="2026-02-01T00:00:00Z")
            for n, status in enumerate(("DRAFT", "PAUSED"), start=1)
        ]
    for rule in rules:
        asked = {"id": rule["id"], "status": "ACTIVE"}
        for payload in (
            (await world.call(SET, asked))["setEarningRuleStatus"],
            await update(world, rule["id"], status="ACTIVE"),
        ):
            (error,) = payload["userErrors"]
            assert (error["code"], error["field"]) == ("WRONG_STATE", ["status"])
            assert error["message"].endswith("Move its end first.")
            assert payload["earningRule"] is None
        moved = await update(world, rule["id"], endsAt="2999-01-01T00:00:00Z", status="ACTIVE")
        assert (moved["earningRule"]["status"], moved["earningRule"]["version"]) == ("ACTIVE", 2)


async def test_active_rule_whose_window_is_over_stays_what_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        set_now(patch, 2026, 1, 1)
        rule = await create(world, **FIXED, endsAt="2026-02-01T00:00:00Z")
    for status, version in (("ACTIVE", 1), ("PAUSED", 2)):
        payload = (await world.call(SET, {"id": rule["id"], "status": status}))["setEarningRuleStatus"]
        assert payload["userErrors"] == []
        assert (payload["earningRule"]["status"], payload["earningRule"]["version"]) == (status, version)


@pytest.mark.parametrize("name", ["status", "priority"])
async def test_null_is_refused_where_there_must_be_something(world: World, name: str) -> None:
    rule = await create(world, **FULL)
    payload = await update(world, rule["id"], **{name: None})
    assert [(e["code"], e["field"]) for e in payload["userErrors"]] == [("INVALID", [name])]
    assert (await world.call(RULE, {"id": rule["id"]}))["earningRule"] == rule


async def test_clearing_what_a_rule_pays_is_refused(world: World) -> None:
    rule = await create(world, **FULL)
    payload = await update(world, rule["id"], pointsPerAmount=None)
    assert [(e["code"], e["field"]) for e in payload["userErrors"]] == [("INVALID", ["pointsPerAmount"])]


async def test_update_that_changes_nothing_makes_no_version(world: World) -> None:
    rule = await create(world, **FULL)
    assert (await update(world, rule["id"], description=FULL["description"]))["earningRule"] == rule


async def test_trigger_cannot_change(world: World) -> None:
    rule = await create(world, fixedPoints=1)
    payload = await update(world, rule["id"], trigger="ACTION")
    assert [(e["code"], e["field"]) for e in payload["userErrors"]] == [("INVALID", ["trigger"])]


async def test_status_changes_make_versions_until_the_rule_is_archived(world: World) -> None:
    rule = await create(world, fixedPoints=1)
    for version, status in enumerate(("PAUSED", "ACTIVE", "DRAFT", "ARCHIVED"), start=2):
        changed = (await world.call(SET, {"id": rule["id"], "status": status}))["setEarningRuleStatus"]
        assert (changed["earningRule"]["version"], changed["earningRule"]["status"]) == (version, status)
    again = (await world.call(SET, {"id": rule["id"], "status": "ARCHIVED"}))["setEarningRuleStatus"]
    assert (again["userErrors"], again["earningRule"]["version"]) == ([], 5)
    for payload in (
        (await world.call(SET, {"id": rule["id"], "status": "ACTIVE"}))["setEarningRuleStatus"],
        await update(world, rule["id"], name="Other"),
    ):
        assert [(e["code"], e["field"]) for e in payload["userErrors"]] == [("WRONG_STATE", ["id"])]


@pytest.mark.parametrize("rule_id", ["", "none", "\0", "RWFybmluZ1J1bGU6", "x" * 500])
async def test_unknown_rule_is_not_found(world: World, rule_id: str) -> None:
    assert await world.call(RULE, {"id": rule_id}) == {"earningRule": None}
    payload = (await world.call(SET, {"id": rule_id, "status": "ACTIVE"}))["setEarningRuleStatus"]
    assert [(e["code"], e["field"]) for e in payload["userErrors"]] == [("NOT_FOUND", ["id"])]
    payload = await update(world, rule_id)
    assert [(e["code"], e["field"]) for e in payload["userErrors"]] == [("NOT_FOUND", ["id"])]


async def test_list_can_be_narrowed_by_status_and_trigger(world: World) -> None:
    rules = {
        status: await create(world, fixedPoints=1, status=status, name=unique(status))
        for status in ("DRAFT", "ACTIVE", "PAUSED", "ARCHIVED")
    }
    query = """query ($status: RuleStatus, $trigger: EventKind) {
        earningRules(status: $status, trigger: $trigger) { nodes { id } }
    }"""

    async def ids(**narrowed: Any) -> list[str]:
        return [rule["id"] for rule in (await world.call(query, narrowed))["earningRules"]["nodes"]]

    assert await ids() == [rule["id"] for rule in rules.values()]
    for status, rule in rules.items():
        assert await ids(status=status, trigger="PURCHASE") == [rule["id"]]
    assert await ids(trigger="ACTION") == []


async def test_award_keeps_the_version_that_gave_it(world: World) -> None:
    rule = await create(world, fixedPoints=5)
    first = (await world.purchase("1"))["event"]
    await update(world, rule["id"], fixedPoints=9)
    second = (await world.purchase("1"))["event"]
    assert (first["points"], second["points"]) == (5, 9)
    query = """query ($a: ID!, $b: ID!) {
        a: event(by: {id: $a}) { points awards { ruleVersion points rule { version fixedPoints } } }
        b: event(by: {id: $b}) { points awards { ruleVersion points rule { version fixedPoints } } }
    }"""
    found = await world.call(query, {"a": first["id"], "b": second["id"]})
    now = {"version": 2, "fixedPoints": 9}
    assert found["a"] == {"points": 5, "awards": [{"ruleVersion": 1, "points": 5, "rule": now}]}
    assert found["b"] == {"points": 9, "awards": [{"ruleVersion": 2, "points": 9, "rule": now}]}


async def test_rule_counts_from_the_moment_it_is_there(world: World) -> None:
    """No cache may pay by old rules: the very next purchase goes by what was answered."""
    for fixed in range(1, 6):
        rule = await create(world, fixedPoints=fixed)
        assert (await world.purchase("1"))["event"]["points"] == fixed
        await world.call(SET, {"id": rule["id"], "status": "PAUSED"})
        assert (await world.purchase("1"))["event"]["points"] == 0
