"""Earning rules through the API: set up, changed in versions, archived for good."""

from typing import Any

import pytest

from tests.api.client import World, unique

ALL = """id version name description status trigger pointsPerAmount { points amount } fixedPoints
    minimumAmount startsAt endsAt priority createdAt updatedAt"""
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


async def create(world: World, **rule: Any) -> dict[str, Any]:
    return (await world.done(CREATE, **(BASE | rule)))["earningRule"]


async def update(world: World, rule: str, **changes: Any) -> Any:
    return (await world.call(UPDATE, {"id": rule, "input": BASE | changes}))["updateEarningRule"]


async def test_rule_comes_back_as_it_was_given(world: World) -> None:
    rule = await create(world, **FULL)
    read = (await world.call(RULE, {"id": rule["id"]}))["earningRule"]
    assert read == rule
    own = {name: rule.pop(name) for name in ("id", "version", "createdAt", "updatedAt", "fixedPoints")}
    assert (own["version"], own["fixedPoints"], own["createdAt"]) == (1, None, own["updatedAt"])
    assert rule == FULL


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


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, ["name"]),
        ({"name": "x" * 201}, ["name"]),
        ({"description": "x" * 2001}, ["description"]),
        ({"trigger": "ACTION"}, ["trigger"]),
        ({"trigger": "CHECK_IN"}, ["trigger"]),
        ({"trigger": "REFERRAL"}, ["trigger"]),
        ({"fixedPoints": 0}, ["fixedPoints"]),
        ({"fixedPoints": -1}, ["fixedPoints"]),
        ({"fixedPoints": None}, ["pointsPerAmount"]),
        ({"pointsPerAmount": {"points": "1"}}, ["pointsPerAmount"]),
        ({"fixedPoints": None, "pointsPerAmount": {"points": "0"}}, ["pointsPerAmount", "points"]),
        ({"fixedPoints": None, "pointsPerAmount": {"points": "-1"}}, ["pointsPerAmount", "points"]),
        ({"fixedPoints": None, "pointsPerAmount": {"points": "1000001"}}, ["pointsPerAmount", "points"]),
        (
            {"fixedPoints": None, "pointsPerAmount": {"points": "1", "amount": "0"}},
            ["pointsPerAmount", "amount"],
        ),
        ({"minimumAmount": "-0.01"}, ["minimumAmount"]),
        ({"startsAt": "2026-02-01T00:00:00Z", "endsAt": "2026-02-01T00:00:00Z"}, ["endsAt"]),
        ({"priority": 1_000_001}, ["priority"]),
        ({"priority": None}, ["priority"]),
        ({"status": None}, ["status"]),
    ],
)  # fmt: skip
async def test_rule_that_could_never_pay_is_refused_by_field(
    world: World, wrong: Any, field: list[str]
) -> None:
    assert await world.refused(CREATE, **(BASE | {"fixedPoints": 5} | wrong)) == [("INVALID", field)]


@pytest.mark.parametrize("field", ["name", "description"])
async def test_nul_in_a_text_is_refused_by_field(world: World, field: str) -> None:
    assert await world.refused(CREATE, **(BASE | {"fixedPoints": 5, field: "a\0b"})) == [("INVALID", [field])]


async def test_everything_that_is_wrong_with_a_rule_is_told_at_once(world: World) -> None:
    errors = await world.refused(CREATE, name="", trigger="ACTION", priority=10_000_000)
    assert {field[0] for _, field in errors if field} == {"name", "trigger", "priority", "pointsPerAmount"}


async def test_field_that_is_left_out_of_an_update_stays(world: World) -> None:
    rule = await create(world, **FULL)
    changes = {
        "description": "Other", "status": "PAUSED", "pointsPerAmount": {"points": "9", "amount": "1"},
        "minimumAmount": "7", "startsAt": "2026-02-01T00:00:00Z", "endsAt": "2998-01-01T00:00:00Z",
        "priority": 3,
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
