"""Stores and check-in codes through the API."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest

from app import clock
from app.keyring import secret_key
from app.stores import qr
from app.stores.codes import CheckInCodes
from tests.api.client import Api, World, make_world, unique, uuid_of
from tests.helpers import set_now

ALL = "id externalId name timezone latitude longitude radiusMeters"
CREATE = f"""mutation ($input: StoreInput!) {{ createStore(input: $input) {{
    store {{ {ALL} }} userErrors {{ code field message }}
}} }}"""
UPDATE = f"""mutation ($id: ID!, $input: StoreInput!) {{ updateStore(id: $id, input: $input) {{
    store {{ {ALL} }} userErrors {{ code field message }}
}} }}"""
CODE = """mutation ($input: CheckInCodeInput!) { createCheckInCode(input: $input) {
    code svg expiresAt userErrors { code field message }
} }"""
STORE = f"query ($by: StoreRef!) {{ store(by: $by) {{ {ALL} }} }}"
STORES = f"{{ stores {{ nodes {{ {ALL} }} }} }}"
FULL: dict[str, Any] = {
    "name": "Berlin Mitte", "timezone": "Europe/Vienna", "latitude": 52.520008, "longitude": 13.404954,
    "radiusMeters": 150,
}  # fmt: skip


async def create(world: World, **store: Any) -> dict[str, Any]:
    return (await world.done(CREATE, **({"externalId": unique("store"), "name": "Store"} | store)))["store"]


async def update(world: World, store: dict[str, Any], **changes: Any) -> Any:
    base = {"externalId": store["externalId"], "name": store["name"]}
    return (await world.call(UPDATE, {"id": store["id"], "input": base | changes}))["updateStore"]


def wrong_fields(payload: Any) -> list[tuple[str, list[str]]]:
    assert payload["store"] is None
    return [(error["code"], error["field"]) for error in payload["userErrors"]]


async def test_store_comes_back_as_it_was_given_by_every_way(world: World) -> None:
    given = FULL | {"externalId": unique("store")}
    store = await create(world, **given)
    assert store == given | {"id": store["id"]}
    for token in (world.key, world.token):
        for by in ({"id": store["id"]}, {"externalId": store["externalId"]}):
            assert await world.api.call(STORE, {"by": by}, token) == {"store": store}
        assert await world.api.call(STORES, token=token) == {"stores": {"nodes": [store]}}
        node = f"query ($id: ID!) {{ node(id: $id) {{ ... on Store {{ {ALL} }} }} }}"
        assert await world.api.call(node, {"id": store["id"]}, token) == {"node": store}


async def test_store_that_says_little_has_the_zone_of_the_program(world: World) -> None:
    nothing = {"timezone": None, "latitude": None, "longitude": None, "radiusMeters": None}
    for given in ({}, nothing):
        store = await create(world, **given)
        assert {name: store[name] for name in nothing} == nothing | {"timezone": "Europe/Berlin"}


async def test_setting_up_the_same_store_again_answers_with_it(world: World) -> None:
    given = FULL | {"externalId": unique("store")}
    store = await create(world, **given)
    assert await create(world, **given) == store
    assert await world.refused(CREATE, **(given | {"name": "Other"})) == [("ALREADY_EXISTS", ["externalId"])]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"externalId": ""}, "externalId"),
        ({"externalId": "x" * 256}, "externalId"),
        ({"externalId": "a\0b"}, "externalId"),
        ({"externalId": " a"}, "externalId"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"timezone": ""}, "timezone"),
        ({"timezone": "Berlin"}, "timezone"),
        ({"timezone": "a\0b"}, "timezone"),
        ({"latitude": 90.5}, "latitude"),
        ({"latitude": -1e300}, "latitude"),
        ({"longitude": -180.5}, "longitude"),
        ({"latitude": None}, "latitude"),
        ({"longitude": None}, "longitude"),
        ({"radiusMeters": 0}, "radiusMeters"),
        ({"radiusMeters": -1}, "radiusMeters"),
        ({"radiusMeters": 100_001}, "radiusMeters"),
        ({"latitude": None, "longitude": None}, "radiusMeters"),
    ],
)
async def test_store_that_cannot_be_is_refused_by_field(world: World, wrong: Any, field: str) -> None:
    given = FULL | {"externalId": unique("store")}
    assert await world.refused(CREATE, **(given | wrong)) == [("INVALID", [field])]
    store = await create(world, **given)
    assert wrong_fields(await update(world, store, **wrong)) == [("INVALID", [field])]
    assert await world.call(STORE, {"by": {"id": store["id"]}}) == {"store": store}


async def test_everything_that_is_wrong_with_a_store_is_told_at_once(world: World) -> None:
    wrong = {
        "externalId": "",
        "name": "",
        "timezone": "x",
        "latitude": 91,
        "longitude": 181,
        "radiusMeters": 0,
    }
    assert {field[0] for _, field in await world.refused(CREATE, **wrong) if field} == set(wrong)


async def test_field_that_is_left_out_of_an_update_stays_and_null_clears(world: World) -> None:
    store = await create(world, **FULL)
    for name, value in (
        ("externalId", unique("moved")),
        ("name", "Mitte II"),
        ("timezone", "Asia/Tokyo"),
        ("latitude", -33.5),
        ("longitude", 0),
        ("radiusMeters", 20),
        ("radiusMeters", None),
    ):
        payload = await update(world, store, **{name: value})
        assert payload == {"store": store | {name: value}, "userErrors": []}
        store = payload["store"]
    cleared = (await update(world, store, timezone=None, latitude=None, longitude=None))["store"]
    assert cleared == store | {"timezone": "Europe/Berlin", "latitude": None, "longitude": None}
    assert await world.call(STORE, {"by": {"id": store["id"]}}) == {"store": cleared}


async def test_external_id_of_another_store_is_taken(world: World) -> None:
    first, second = await create(world), await create(world)
    payload = await update(world, second, externalId=first["externalId"])
    assert wrong_fields(payload) == [("ALREADY_EXISTS", ["externalId"])]


@pytest.mark.parametrize("store_id", ["", "none", "\0", "U3RvcmU6", "x" * 500])
async def test_unknown_store_is_not_found(world: World, store_id: str) -> None:
    for by in ({"id": store_id}, {"externalId": store_id}):
        assert await world.call(STORE, {"by": by}) == {"store": None}
        expected = [("NOT_FOUND", ["store", *by])]
        assert await world.refused(CODE, store=by) == expected
    payload = await update(world, {"id": store_id, "externalId": "x", "name": "x"})
    assert wrong_fields(payload) == [("NOT_FOUND", ["id"])]


async def test_id_of_something_else_is_no_store(world: World) -> None:
    for other in (world.member, world.program):
        assert await world.call(STORE, {"by": {"id": other}}) == {"store": None}
        assert await world.refused(CODE, store={"id": other}) == [("NOT_FOUND", ["store", "id"])]


@pytest.mark.parametrize("value", ['"52.5"', "true", "NaN"])
async def test_position_is_a_number(world: World, value: str) -> None:
    given = f'externalId: "a", name: "a", latitude: {value}, longitude: 1'
    answer = await world.post(f"mutation {{ createStore(input: {{{given}}}) {{ store {{ id }} }} }}")
    assert answer.codes == ["GRAPHQL_VALIDATION_FAILED"]


async def test_number_that_is_too_large_for_any_is_no_position(world: World) -> None:
    """GraphQL takes such a literal for infinite."""
    given = 'externalId: "a", name: "a", latitude: 1, longitude: -1e999'
    query = f"mutation {{ createStore(input: {{{given}}}) {{ store {{ id }} userErrors {{ code field }} }} }}"
    errors = [{"code": "INVALID", "field": ["longitude"]}]
    assert await world.call(query) == {"createStore": {"store": None, "userErrors": errors}}


async def test_code_is_signed_for_its_store_and_shown_in_its_picture(world: World) -> None:
    store = await create(world)
    codes = CheckInCodes(secret_key(world.api.settings))
    for by in ({"id": store["id"]}, {"externalId": store["externalId"]}):
        made = await world.done(CODE, store=by, validForSeconds=30)
        said = codes.read(world.program_id, made["code"], clock.now())
        assert said.store_id == uuid_of(store["id"])
        assert datetime.fromisoformat(made["expiresAt"]) == said.expires_at
        assert timedelta(seconds=25) < said.expires_at - datetime.now(UTC) <= timedelta(seconds=31)
        assert made["svg"] == qr.svg(made["code"])
        assert ElementTree.fromstring(made["svg"]).get("viewBox") == "0 0 41 41"


@pytest.mark.parametrize("given", [{}, {"validForSeconds": None}])
async def test_code_to_print_has_no_end(world: World, given: dict[str, None]) -> None:
    store = await create(world)
    made = await world.done(CODE, store={"id": store["id"]}, **given)
    assert made["expiresAt"] is None
    codes = CheckInCodes(secret_key(world.api.settings))
    later = clock.now() + timedelta(days=20 * 365)
    assert codes.read(world.program_id, made["code"], later).store_id == uuid_of(store["id"])


async def test_rotating_codes_of_one_second_differ(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await create(world)
    set_now(monkeypatch, *datetime.now(UTC).timetuple()[:6])
    made = await asyncio.gather(
        *(world.done(CODE, store={"id": store["id"]}, validForSeconds=10) for _ in range(5))
    )
    assert len({each["code"] for each in made}) == 5
    assert len({each["expiresAt"] for each in made}) == 1


@pytest.mark.parametrize("seconds", [4, 0, -1, 31_536_001])
async def test_code_for_a_time_out_of_bounds_is_refused(world: World, seconds: int) -> None:
    store = await create(world)
    refused = await world.refused(CODE, store={"id": store["id"]}, validForSeconds=seconds)
    assert refused == [("INVALID", ["validForSeconds"])]


async def test_everything_that_is_wrong_with_a_code_is_told_at_once(world: World) -> None:
    refused = await world.refused(CODE, store={"externalId": "nowhere"}, validForSeconds=1)
    assert sorted(refused) == [("INVALID", ["validForSeconds"]), ("NOT_FOUND", ["store", "externalId"])]


async def test_member_makes_no_codes_and_no_stores(world: World) -> None:
    store = await create(world)
    for query, variables in (
        (CODE, {"input": {"store": {"id": store["id"]}}}),
        (CREATE, {"input": {"externalId": "own", "name": "Own"}}),
        (UPDATE, {"id": store["id"], "input": {"externalId": "own", "name": "Own"}}),
    ):
        answer = await world.api.post(query, variables, world.token)
        assert answer.codes == ["FORBIDDEN"]
        assert "data" not in answer.body
    assert await world.call(STORES) == {"stores": {"nodes": [store]}}


async def test_what_reads_stores_and_what_writes_them(world: World) -> None:
    store = await create(world)
    code = {"input": {"store": {"id": store["id"]}}}
    for scope in ("program:read", "rules:read", "rules:write", "events:write"):
        key = await world.scoped_key(frozenset({scope}))
        assert (await world.api.call(STORES, token=key))["stores"]["nodes"] == [store]
        answer = await world.api.post(CODE, code, key)
        assert answer.codes == ([] if scope == "events:write" else ["FORBIDDEN"])
        answer = await world.api.post(CREATE, {"input": {k: store[k] for k in ("externalId", "name")}}, key)
        assert answer.codes == ([] if scope == "rules:write" else ["FORBIDDEN"])
    for scope in ("members:read", "members:write", "ledger:adjust", "keys:admin"):
        key = await world.scoped_key(frozenset({scope}))
        assert (await world.api.post(STORES, token=key)).codes == ["FORBIDDEN"]


async def test_code_says_nothing_in_another_program(api: Api, world: World) -> None:
    other = await make_world(api)
    store = await create(world)
    assert await other.refused(CODE, store={"id": store["id"]}) == [("NOT_FOUND", ["store", "id"])]
    made = await world.done(CODE, store={"id": store["id"]})
    for secret in (world.program, world.slug, store["id"], store["externalId"]):
        assert secret not in json.dumps(made)
