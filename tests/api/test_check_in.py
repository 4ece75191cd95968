"""Checking in through the API: by key and by the member, by every kind of code, near and far."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app import clock
from app.keyring import secret_key
from app.stores.codes import CheckInCodes
from tests.api.client import Api, World, make_world, unique, uuid_of
from tests.helpers import find_differences, set_now

CHECK_IN = """mutation ($input: CheckInInput!) { checkIn(input: $input) {
    event { id externalId kind status rejection occurredAt amount points data store { id }
        explanation { reason paid points message rule { name } } }
    member { id balance { available } }
    replayed userErrors { code field message }
} }"""
CODE = """mutation ($input: CheckInCodeInput!) { createCheckInCode(input: $input) {
    code userErrors { code field message }
} }"""
EVENTS = "query ($id: ID!) { member(by: {id: $id}) { events(first: 100) { nodes { id kind points } } } }"
UPDATE = "mutation ($input: UpdateMemberInput!) { updateMember(input: $input) { userErrors { code } } }"
HERE = {"latitude": 52.52, "longitude": 13.405}
DAILY = {"frequency": {"times": 1, "per": "DAY"}}
NOTHING_OF_OURS = "This is not a code of ours, or it was altered."


async def visit_rule(world: World, points: int = 10, **rule: Any) -> dict[str, Any]:
    return await world.rule(trigger="CHECK_IN", fixedPoints=points, **rule)


async def new_code(world: World, store: dict[str, Any], seconds: int | None = 30) -> str:
    """Have a code made; None makes one to print."""
    made = await world.done(CODE, store={"id": store["id"]}, validForSeconds=seconds)
    code: str = made["code"]
    return code


async def as_member(world: World, code: str, **input: Any) -> Any:
    """Check in with the member's own token, and return the payload."""
    answer = await world.api.call(CHECK_IN, {"input": {"code": code} | input}, world.token)
    return answer["checkIn"]


async def as_till(world: World, code: str, **input: Any) -> Any:
    """Check the member in with the program's key, and return the payload."""
    return await world.do(CHECK_IN, member={"id": world.member}, code=code, **input)


def problem(payload: Any) -> tuple[str, list[str], str]:
    """Return the only thing that is wrong with a check-in of which nothing was recorded."""
    assert (payload["event"], payload["member"], payload["replayed"]) == (None, None, False)
    (error,) = payload["userErrors"]
    return error["code"], error["field"], error["message"]


async def visits(world: World) -> list[Any]:
    nodes: list[Any] = (await world.call(EVENTS, {"id": world.member}))["member"]["events"]["nodes"]
    return nodes


async def test_member_checks_in_and_is_told_the_points_and_the_new_balance(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = set_now(monkeypatch, *datetime.now(UTC).timetuple()[:6])
    await visit_rule(world, name="Come by")
    store = await world.store()
    payload = await as_member(world, await new_code(world, store))
    assert payload["userErrors"] == []
    assert payload["replayed"] is False
    assert payload["member"] == {"id": world.member, "balance": {"available": 10}}
    event = payload["event"]
    assert event["externalId"].startswith("laurel:check-in:")
    assert datetime.fromisoformat(event["occurredAt"]) == now
    said = ("kind", "status", "rejection", "amount", "points", "data")
    assert [event[name] for name in said] == ["CHECK_IN", "PROCESSED", None, None, 10, {}]
    assert event["store"] == {"id": store["id"]}
    assert event["explanation"] == [
        {"reason": "PAID", "paid": True, "points": 10, "message": "Gives 10 points.",
         "rule": {"name": "Come by"}},
    ]  # fmt: skip
    assert await visits(world) == [{"id": event["id"], "kind": "CHECK_IN", "points": 10}]


async def test_visit_without_a_rule_is_recorded_without_points(world: World) -> None:
    payload = await as_member(world, await new_code(world, await world.store()))
    assert (payload["event"]["points"], payload["event"]["explanation"]) == (0, [])


@pytest.mark.parametrize("named_by", ["id", "externalId", "email"])
async def test_key_checks_in_the_member_that_it_names(world: World, named_by: str) -> None:
    await visit_rule(world)
    ref = {"id": world.member, "externalId": world.external_id, "email": world.email}[named_by]
    code = await new_code(world, await world.store())
    payload = await world.done(CHECK_IN, member={named_by: ref}, code=code)
    assert payload["member"]["id"] == world.member
    # The member may name themselves, and spends the same code no second time.
    again = await as_member(world, code, member={named_by: ref})
    assert (again["event"]["id"], again["replayed"]) == (payload["event"]["id"], True)


async def test_key_has_to_say_who_checks_in(world: World) -> None:
    code = await new_code(world, await world.store())
    for input in ({"code": code}, {"code": code, "member": None}):
        told = problem(await world.do(CHECK_IN, **input))
        assert told == ("INVALID", ["member"], "Say who checks in: a key belongs to no member.")


async def test_key_needs_the_scope_for_events(world: World) -> None:
    code = await new_code(world, await world.store())
    variables = {"input": {"code": code, "member": {"id": world.member}}}
    query = CHECK_IN.replace("member { id balance { available } }", "").replace("rule { name }", "")
    for scope in ("members:read", "members:write", "rules:write", "ledger:adjust"):
        answer = await world.api.post(query, variables, await world.scoped_key(frozenset({scope})))
        assert answer.codes == ["FORBIDDEN"]
        assert "data" not in answer.body
    assert await visits(world) == []
    key = await world.scoped_key(frozenset({"events:write"}))
    assert (await world.api.call(query, variables, key))["checkIn"]["userErrors"] == []


async def test_member_checks_in_nobody_else_and_cannot_tell_who_there_is(api: Api, world: World) -> None:
    await visit_rule(world)
    code = await new_code(world, await world.store())
    other = await world.enrol(email=f"{unique('bob')}@example.com")
    stranger = await make_world(api)
    refs = [
        {"id": other["id"]},
        {"externalId": other["externalId"]},
        {"email": other["email"]},
        {"email": other["email"].upper()},
        {"id": stranger.member},
        {"email": stranger.email},
        {"id": "none"},
        {"externalId": "\0"},
        {"email": "nobody@example.com"},
    ]
    inputs = [{"code": text, "member": ref} for ref in refs for text in (code, "no code")]
    answers = [await api.post(CHECK_IN, {"input": input}, world.token) for input in inputs]
    assert {(answer.status, *answer.codes) for answer in answers} == {(answers[0].status, "FORBIDDEN")}
    assert len({answer.error["message"] for answer in answers}) == 1
    for member in (world.member, other["id"]):
        found = await world.call(EVENTS, {"id": member})
        assert found["member"]["events"]["nodes"] == []


@pytest.mark.parametrize("ref", [{"id": "none"}, {"externalId": "nobody"}, {"email": "nobody@example.com"}])
async def test_member_whom_a_key_does_not_know_is_not_found(world: World, ref: dict[str, str]) -> None:
    code = await new_code(world, await world.store())
    assert await world.refused(CHECK_IN, member=ref, code=code) == [("NOT_FOUND", ["member", *ref])]


@pytest.mark.parametrize("status", ["SUSPENDED", "CLOSED"])
async def test_member_who_cannot_earn_is_told_so(world: World, status: str) -> None:
    await visit_rule(world)
    store = await world.store()
    spent = await new_code(world, store)
    first = await as_till(world, spent)
    await world.done(UPDATE, member={"id": world.member}, status=status)
    told = problem(await as_till(world, await new_code(world, store)))
    assert told == ("NOT_ELIGIBLE", ["member"], f"The member is {status.lower()} and earns nothing.")
    again = await as_till(world, spent)
    assert (again["event"]["id"], again["replayed"]) == (first["event"]["id"], True)


# --- codes --------------------------------------------------------------------


async def test_code_of_a_screen_counts_once_for_each_member(world: World) -> None:
    await visit_rule(world)
    other = await world.enrol()
    code = await new_code(world, await world.store())
    first = await as_member(world, code)
    again = await as_member(world, code)
    theirs = await world.done(CHECK_IN, member={"id": other["id"]}, code=code)
    assert again == first | {"replayed": True}
    assert (theirs["member"]["id"], theirs["event"]["points"], theirs["replayed"]) == (other["id"], 10, False)
    assert len(await visits(world)) == 1


async def test_code_that_was_altered_anywhere_is_refused(world: World) -> None:
    await visit_rule(world)
    code = await new_code(world, await world.store())
    # One character of each part: prefix, store, end, serial, signature.
    for place in (0, 2, 4, 20, 30, 34, 38, 45, 50, 60, len(code) - 1):
        other = "A" if code[place] != "A" else "B"
        told = problem(await as_member(world, code[:place] + other + code[place + 1 :]))
        assert told == ("INVALID", ["code"], NOTHING_OF_OURS)
    assert await visits(world) == []


@pytest.mark.parametrize(
    "code", ["", " ", "text", "LC1-", "LC1-" + "A" * 72, "LC1-" + "A" * 73, "\0", "ſ" * 76, "x" * 100_000]
)
async def test_text_that_is_no_code_is_refused(world: World, code: str) -> None:
    for payload in (await as_member(world, code), await as_till(world, code)):
        assert problem(payload) == ("INVALID", ["code"], NOTHING_OF_OURS)


async def test_code_of_another_program_or_installation_is_like_any_other_text(api: Api, world: World) -> None:
    other = await make_world(api)
    await visit_rule(world)
    store, theirs = await world.store(), await other.store()
    ours = CheckInCodes(secret_key(api.settings))
    elsewhere = CheckInCodes("the secret of another installation")
    now, key = clock.now(), uuid_of(store["id"])
    for code in (
        await new_code(other, theirs),
        await new_code(other, theirs, None),
        ours.make(other.program_id, key, 30, now).text,
        elsewhere.make(world.program_id, key, 30, now).text,
        elsewhere.make(world.program_id, key, None, now).text,
    ):
        for payload in (await as_member(world, code), await as_till(world, code)):
            assert problem(payload) == ("INVALID", ["code"], NOTHING_OF_OURS)
    # What only we could have signed, for a store that the program has not.
    told = problem(await as_member(world, ours.make(world.program_id, uuid_of(theirs["id"]), 30, now).text))
    assert told[:2] == ("INVALID", ["code"])
    assert theirs["name"] not in told[2]
    assert await visits(world) == []


async def test_code_that_is_over_is_refused_by_the_clock_of_the_store_but_for_who_spent_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make_world(api, timezone="America/New_York")
    await visit_rule(world)
    store = await world.store(timezone="Asia/Tokyo")
    now = set_now(monkeypatch, *datetime.now(UTC).timetuple()[:6])
    code = await new_code(world, store, 30)
    first = await as_member(world, code)
    other = await world.enrol()
    end = now + timedelta(seconds=30)
    monkeypatch.setattr(clock, "now", lambda: end)
    told = problem(await world.do(CHECK_IN, member={"id": other["id"]}, code=code))
    local = end + timedelta(hours=9)
    shown = f"{local.day} {local:%B %Y, %H:%M:%S} (Asia/Tokyo)"
    assert told == ("NOT_ELIGIBLE", ["code"], f"The code was valid until {shown}; scan a fresh one.")
    again = await as_member(world, code)
    assert (again["event"]["id"], again["replayed"]) == (first["event"]["id"], True)


async def test_printed_code_is_good_next_year_and_a_retry_for_a_minute(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = set_now(monkeypatch, *datetime.now(UTC).timetuple()[:6])
    await visit_rule(world)
    code = await new_code(world, await world.store(), None)
    first = await as_till(world, code)
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(seconds=59))
    assert await as_till(world, code) == first | {"replayed": True}
    for later in (timedelta(seconds=60), timedelta(days=400)):
        monkeypatch.setattr(clock, "now", lambda later=later: now + later)
        assert (await as_till(world, code))["replayed"] is False
    assert len(await visits(world)) == 3


async def test_visit_cannot_be_taken_for_a_purchase_of_the_caller(world: World) -> None:
    """Its external id is one that nobody else may use."""
    payload = await as_member(world, await new_code(world, await world.store()))
    refused = await world.refused(
        "mutation ($input: PurchaseInput!) { recordPurchase(input: $input) {"
        " event { id } userErrors { code field message } } }",
        member={"id": world.member}, externalId=payload["event"]["externalId"], amount="10",
    )  # fmt: skip
    assert refused == [("INVALID", ["externalId"])]


# --- distance -----------------------------------------------------------------


async def test_member_near_the_store_checks_in_and_one_far_away_is_told_how_far(world: World) -> None:
    await visit_rule(world)
    store = await world.store(name="Nordhaus Mitte", radiusMeters=100, **HERE)
    far = {"latitude": HERE["latitude"] + 0.0031, "longitude": HERE["longitude"]}
    code = await new_code(world, store)
    assert problem(await as_member(world, code, **far)) == (
        "NOT_ELIGIBLE",
        ["latitude"],
        "You are about 350 m away from Nordhaus Mitte; check-ins count within 100 m.",
    )
    assert problem(await as_member(world, code)) == (
        "INVALID",
        ["latitude"],
        "Nordhaus Mitte asks for your position: it takes check-ins within 100 m.",
    )
    # Having been turned away spends nothing.
    payload = await as_member(world, code, **HERE)
    assert (payload["event"]["points"], payload["replayed"]) == (10, False)
    assert str(HERE["latitude"]) not in json.dumps(payload)


@pytest.mark.parametrize(
    ("position", "field"),
    [
        ({"latitude": 52.5}, "longitude"),
        ({"longitude": 13.4}, "latitude"),
        ({"latitude": None, "longitude": 13.4}, "latitude"),
        ({"latitude": 90.5, "longitude": 13.4}, "latitude"),
        ({"latitude": -1e300, "longitude": 13.4}, "latitude"),
        ({"latitude": 52.5, "longitude": 180.5}, "longitude"),
    ],
)
async def test_position_that_cannot_be_is_refused_by_field(world: World, position: Any, field: str) -> None:
    code = await new_code(world, await world.store())
    assert problem(await as_member(world, code, **position))[:2] == ("INVALID", [field])
    wrong = await as_member(world, "text", **position)
    assert [error["field"] for error in wrong["userErrors"]] == [["code"], [field]]


async def test_number_that_is_too_large_for_any_is_no_position(world: World) -> None:
    """GraphQL takes such a literal for infinite."""
    code = await new_code(world, await world.store(radiusMeters=100, **HERE))
    given = f'code: "{code}", latitude: 1e999, longitude: 1'
    query = f"mutation {{ checkIn(input: {{{given}}}) {{ event {{ id }} userErrors {{ code field }} }} }}"
    payload = (await world.api.call(query, token=world.token))["checkIn"]
    assert payload == {"event": None, "userErrors": [{"code": "INVALID", "field": ["latitude"]}]}


# --- limits -------------------------------------------------------------------


async def test_member_who_comes_too_often_is_told_when_the_next_time_is(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make_world(api, timezone="Asia/Tokyo")
    store = await world.store(timezone="Europe/Berlin")
    await visit_rule(world, limits=DAILY)
    set_now(monkeypatch, 2027, 3, 27, 22, 59)
    codes = [await new_code(world, store, 86_400) for _ in range(4)]
    assert (await as_till(world, codes[0]))["event"]["points"] == 10
    told = problem(await as_till(world, codes[1]))
    until = "28 March 2027, 00:00 (Europe/Berlin)"
    message = f"You have checked in already: the next time is possible from {until} on."
    assert told == ("LIMIT_REACHED", ["code"], message)
    assert (await as_till(world, codes[0]))["replayed"] is True
    # Two minutes later it is the day on which clocks go forward.
    set_now(monkeypatch, 2027, 3, 27, 23, 1)
    assert (await as_till(world, codes[2]))["event"]["points"] == 10
    set_now(monkeypatch, 2027, 3, 27, 23, 2)
    assert "29 March 2027, 00:00 (Europe/Berlin)" in problem(await as_till(world, codes[3]))[2]
    assert await find_differences(world.program_id) == []


async def test_visit_is_recorded_when_any_rule_pays_and_says_why_others_do_not(world: World) -> None:
    store = await world.store()
    await visit_rule(world, 10, name="Daily", limits=DAILY)
    await as_member(world, await new_code(world, store))
    await visit_rule(world, 1, name="Always")
    event = (await as_member(world, await new_code(world, store)))["event"]
    assert event["points"] == 1
    assert {each["rule"]["name"]: each["reason"] for each in event["explanation"]} == {
        "Daily": "FREQUENCY_REACHED",
        "Always": "PAID",
    }


@pytest.mark.parametrize("seconds", [30, None], ids=["screen", "printed"])
async def test_many_clients_at_once_are_one_visit_and_one_payment(world: World, seconds: int | None) -> None:
    await visit_rule(world, limits=DAILY)
    code = await new_code(world, await world.store(), seconds)
    payloads = await asyncio.gather(
        *(as_member(world, code) if n % 2 else as_till(world, code) for n in range(32))
    )
    if seconds is None:
        (first,) = (payload for payload in payloads if payload["event"])
        others = [payload for payload in payloads if payload is not first]
        assert {problem(payload)[0] for payload in others} == {"LIMIT_REACHED"}
    else:
        assert Counter(payload["replayed"] for payload in payloads) == {False: 1, True: 31}
        assert len({payload["event"]["id"] for payload in payloads}) == 1
        assert {payload["member"]["balance"]["available"] for payload in payloads} == {10}
    assert len(await visits(world)) == 1
    assert await find_differences(world.program_id) == []
