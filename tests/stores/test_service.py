"""Stores: set up once, changed field by field, refused by field."""

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from app import clock
from app.database import connection
from app.errors import ErrorCode, Refused
from app.paging import make_page
from app.programs.models import Program
from app.stores import service
from app.stores.codes import CheckInCodes
from app.stores.inputs import StoreContent
from app.stores.reads import StoreRef, get_store, list_stores
from app.stores.service import create_check_in_code, create_store, update_store
from app.stores.stores import Store
from tests.helpers import set_now
from tests.programs.making import make_program
from tests.programs.test_service import refusal
from tests.stores.making import make_store

MITTE = {
    "external_id": "S-1",
    "name": "Berlin Mitte",
    "timezone": "Europe/Vienna",
    "latitude": 52.52,
    "longitude": 13.405,
    "radius_meters": 150,
}
CODES = CheckInCodes("a secret of the tests")


def content(**fields: Any) -> StoreContent:
    return StoreContent(**(MITTE | fields))


@pytest.fixture
async def program() -> Program:
    return await make_program(timezone="Europe/Berlin")


async def test_a_store_is_read_as_it_was_set_up(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    now = set_now(monkeypatch, 2026, 3, 1, 12, 30, 15, 123456)
    store = await create_store(program.id, content())

    assert store == Store(store.id, program.id, **MITTE, created_at=now, updated_at=now)
    assert await get_store(program.id, StoreRef(id=store.id)) == store
    assert str(store.zone) == "Europe/Vienna"


async def test_a_store_that_says_little_has_the_zone_of_the_program_and_no_position(program: Program) -> None:
    store = await create_store(program.id, StoreContent(external_id="S-1", name="Mitte"))

    assert store.timezone == "Europe/Berlin"
    assert (store.latitude, store.longitude, store.radius_meters) == (None, None, None)


async def test_setting_up_the_same_store_again_answers_with_it(program: Program) -> None:
    store = await create_store(program.id, content())
    little = await create_store(program.id, StoreContent(external_id="S-2", name="Other"))

    assert await create_store(program.id, content()) == store
    assert await create_store(program.id, StoreContent(external_id="S-2", name="Other")) == little
    said = StoreContent(external_id="S-2", name="Other", timezone="Europe/Berlin")
    assert await create_store(program.id, said) == little
    assert len((await list_stores(program.id, make_page())).items) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"name": "Berlin mitte"},
        {"timezone": "Europe/Berlin"},
        {"timezone": None},
        {"latitude": math.nextafter(52.52, 90)},
        {"longitude": 13.4050001},
        {"radius_meters": 151},
        {"radius_meters": None},
        {"latitude": None, "longitude": None, "radius_meters": None},
    ],
)
async def test_an_external_id_is_taken_for_other_content(program: Program, other: dict[str, Any]) -> None:
    store = await create_store(program.id, content())
    wrong = create_store(program.id, content(**other))
    assert await refusal(wrong) == {(ErrorCode.ALREADY_EXISTS, ("external_id",))}
    assert await get_store(program.id, StoreRef(external_id="S-1")) == store


async def test_programs_do_not_take_external_ids_from_each_other(program: Program) -> None:
    other = await make_program(timezone="Asia/Tokyo")
    ours = await create_store(program.id, content())
    theirs = await create_store(other.id, content(name="Another"))

    assert (await get_store(program.id, StoreRef(external_id="S-1"))) == ours
    assert (await get_store(other.id, StoreRef(external_id="S-1"))) == theirs


async def test_the_case_of_an_external_id_counts(program: Program) -> None:
    upper, lower = [await create_store(program.id, content(external_id=each)) for each in ("S-1", "s-1")]
    assert upper.id != lower.id


WRONG: list[tuple[dict[str, Any], set[str]]] = [
    ({"external_id": ""}, {"external_id"}),
    ({"external_id": "x" * 256}, {"external_id"}),
    ({"external_id": " S-1"}, {"external_id"}),
    ({"external_id": "S\n1"}, {"external_id"}),
    ({"external_id": "S\0"}, {"external_id"}),
    ({"external_id": "S\ud800"}, {"external_id"}),
    ({"name": ""}, {"name"}),
    ({"name": "x" * 201}, {"name"}),
    ({"name": "Mitte "}, {"name"}),
    ({"name": "Mit\nte"}, {"name"}),
    ({"name": "Mit\0te"}, {"name"}),
    ({"timezone": ""}, {"timezone"}),
    ({"timezone": "Berlin"}, {"timezone"}),
    ({"timezone": "europe/berlin"}, {"timezone"}),
    ({"timezone": "localtime"}, {"timezone"}),
    ({"timezone": "../etc/passwd"}, {"timezone"}),
    ({"timezone": "UTC+1"}, {"timezone"}),
    ({"timezone": "Europe/Berlin\0"}, {"timezone"}),
    ({"latitude": 90.0000001}, {"latitude"}),
    ({"latitude": -91}, {"latitude"}),
    ({"latitude": math.nan}, {"latitude"}),
    ({"latitude": math.inf}, {"latitude"}),
    ({"latitude": -math.inf}, {"latitude"}),
    ({"longitude": 180.0000001}, {"longitude"}),
    ({"longitude": -181}, {"longitude"}),
    ({"longitude": math.nan}, {"longitude"}),
    ({"longitude": math.inf}, {"longitude"}),
    ({"latitude": None}, {"latitude"}),
    ({"longitude": None}, {"longitude"}),
    ({"radius_meters": 0}, {"radius_meters"}),
    ({"radius_meters": -5}, {"radius_meters"}),
    ({"radius_meters": 100_001}, {"radius_meters"}),
    ({"latitude": None, "longitude": None}, {"radius_meters"}),
    (
        {
            "external_id": "",
            "name": "",
            "timezone": "x",
            "latitude": 91,
            "longitude": 181,
            "radius_meters": 0,
        },
        {"external_id", "name", "timezone", "latitude", "longitude", "radius_meters"},
    ),
]


@pytest.mark.parametrize(("wrong", "fields"), WRONG)
async def test_a_store_that_cannot_be_is_refused_by_field(
    program: Program, wrong: dict[str, Any], fields: set[str]
) -> None:
    expected = {(ErrorCode.INVALID, (field,)) for field in fields}
    assert await refusal(create_store(program.id, content(**wrong))) == expected
    store = await create_store(program.id, content())
    assert await refusal(update_store(program.id, store.id, wrong)) == expected
    assert await get_store(program.id, StoreRef(id=store.id)) == store


@pytest.mark.parametrize(
    "edge",
    [
        {"latitude": 90, "longitude": 180, "radius_meters": 1},
        {"latitude": -90.0, "longitude": -180.0, "radius_meters": 100_000},
        {"latitude": 0, "longitude": 0, "radius_meters": None},
        {"latitude": 48.208174812345679, "longitude": 16.373819123456789},
        {"external_id": "x" * 255, "name": "é" * 200},
        {"external_id": "größe 38", "name": "カフェ 👩\u200d🍳"},
        {"timezone": "UTC"},
        {"timezone": "America/Argentina/Buenos_Aires"},
    ],
)
async def test_what_is_just_allowed_is_kept_exactly(program: Program, edge: dict[str, Any]) -> None:
    store = await create_store(program.id, content(**edge))
    read = await get_store(program.id, StoreRef(id=store.id))
    assert read == store
    assert {name: getattr(read, name) for name in edge} == edge


async def test_a_zone_that_the_database_server_does_not_know_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.programs.inputs.available_timezones", lambda: {"Mars/Olympus", "Europe/Vienna"})
    store = await create_store(program.id, content())
    for wrong in (
        create_store(program.id, content(external_id="S-2", timezone="Mars/Olympus")),
        update_store(program.id, store.id, {"timezone": "Mars/Olympus"}),
    ):
        assert await refusal(wrong) == {(ErrorCode.INVALID, ("timezone",))}


async def test_only_what_is_sent_is_changed(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 3, 1)
    store = await create_store(program.id, content())
    expected = MITTE.copy()
    for day, (name, value) in enumerate(
        {
            "external_id": "S-9", "name": "Mitte II", "timezone": "Europe/Lisbon", "latitude": -33.9,
            "longitude": 151.2, "radius_meters": 20,
        }.items(),
        start=2,
    ):  # fmt: skip
        now = set_now(monkeypatch, 2026, 3, day)
        expected[name] = value
        changed = await update_store(program.id, store.id, {name: value})
        assert changed == Store(store.id, program.id, **expected, created_at=store.created_at, updated_at=now)
        assert await get_store(program.id, StoreRef(id=store.id)) == changed


async def test_none_clears_position_and_radius_and_stands_for_the_zone_of_the_program(
    program: Program,
) -> None:
    store = await create_store(program.id, content())
    assert (await update_store(program.id, store.id, {"radius_meters": None})).radius_meters is None
    cleared = await update_store(program.id, store.id, {"latitude": None, "longitude": None})
    assert (cleared.latitude, cleared.longitude) == (None, None)
    assert (await update_store(program.id, store.id, {"timezone": None})).timezone == "Europe/Berlin"
    for name in ("latitude", "longitude"):
        missing = "longitude" if name == "latitude" else "latitude"
        wrong = update_store(program.id, store.id, {name: 5.0})
        assert await refusal(wrong) == {(ErrorCode.INVALID, (missing,))}
    wrong = update_store(program.id, store.id, {"radius_meters": 100})
    assert await refusal(wrong) == {(ErrorCode.INVALID, ("radius_meters",))}


async def test_a_change_that_changes_nothing_leaves_no_trace(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, 2026, 3, 1)
    store = await create_store(program.id, content())
    set_now(monkeypatch, 2026, 3, 2)
    assert await update_store(program.id, store.id, {}) == store
    assert await update_store(program.id, store.id, MITTE) == store
    assert await get_store(program.id, StoreRef(id=store.id)) == store


async def test_an_external_id_can_be_changed_to_a_free_one_only(program: Program) -> None:
    first, second = await make_store(program.id), await make_store(program.id)
    wrong = update_store(program.id, second.id, {"external_id": first.external_id, "name": "Other"})
    assert await refusal(wrong) == {(ErrorCode.ALREADY_EXISTS, ("external_id",))}
    assert await get_store(program.id, StoreRef(id=second.id)) == second

    await update_store(program.id, first.id, {"external_id": "moved"})
    taken = await update_store(program.id, second.id, {"external_id": first.external_id})
    assert taken.external_id == first.external_id
    assert (await get_store(program.id, StoreRef(external_id=first.external_id))) == taken


async def test_a_store_of_another_program_cannot_be_changed(program: Program) -> None:
    other = await make_program()
    store = await make_store(other.id)
    for store_id in (store.id, uuid4()):
        wrong = update_store(program.id, store_id, {"name": "Ours now"})
        assert await refusal(wrong) == {(ErrorCode.NOT_FOUND, ("id",))}
    assert await get_store(other.id, StoreRef(id=store.id)) == store


async def test_of_many_who_set_up_the_same_store_at_once_all_get_it(program: Program) -> None:
    stores = await asyncio.gather(*(create_store(program.id, content()) for _ in range(8)))
    assert len({store.id for store in stores}) == 1


async def test_of_many_who_want_one_external_id_at_once_one_gets_it(program: Program) -> None:
    made = [await make_store(program.id) for _ in range(3)]
    results = await asyncio.gather(
        *(create_store(program.id, content(name=f"Store {n}")) for n in range(4)),
        *(update_store(program.id, store.id, {"external_id": "S-1"}) for store in made),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, Refused)]
    assert len(refused) == 6
    assert {error.code for each in refused for error in each.errors} == {ErrorCode.ALREADY_EXISTS}


async def test_a_program_has_so_many_stores_at_most(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.MAX_STORES == 10_000
    monkeypatch.setattr(service, "MAX_STORES", 3)
    await create_store(program.id, content())
    results = await asyncio.gather(*(make_store(program.id) for _ in range(6)), return_exceptions=True)
    assert await refusal(make_store(program.id)) == {(ErrorCode.LIMIT_REACHED, None)}
    assert sum(isinstance(each, Refused) for each in results) == 4
    # What is there is answered with, and can be changed.
    again = await create_store(program.id, content())
    assert (await update_store(program.id, again.id, {"name": "Full"})).name == "Full"
    await make_store((await make_program()).id)


async def test_the_database_keeps_what_no_service_would_write(program: Program) -> None:
    columns = "id, program_id, external_id, name, timezone, latitude, longitude, radius_meters, created_at"
    statement = f"INSERT INTO store ({columns}, updated_at) VALUES ($1, $2, $3, '', '', $4, $5, $6, $7, $7)"
    async with connection() as sql:
        for row in (
            ("", None, None, None),
            ("a", 1.0, None, None),
            ("a", None, 1.0, None),
            ("a", 91.0, 1.0, None),
            ("a", math.nan, 1.0, None),
            ("a", 1.0, 181.0, None),
            ("a", None, None, 5),
            ("a", 1.0, 1.0, 0),
        ):
            with pytest.raises(Exception, match="violates check constraint"):
                await sql.execute(statement, uuid4(), program.id, *row, clock.now())


@pytest.mark.parametrize("seconds", [5, 30, 365 * 86_400, None])
async def test_a_code_names_the_store_that_it_is_made_for(program: Program, seconds: int | None) -> None:
    store = await make_store(program.id)
    for ref in (StoreRef(id=store.id), StoreRef(external_id=store.external_id)):
        code = await create_check_in_code(CODES, program.id, ref, seconds)
        said = CODES.read(program.id, code.text, clock.now())
        assert (said.store_id, said.expires_at) == (store.id, code.expires_at)
        if seconds is None:
            assert code.expires_at is None
        else:
            assert code.expires_at is not None
            assert abs(code.expires_at - datetime.now(UTC) - timedelta(seconds=seconds)) < timedelta(
                seconds=5
            )


async def test_a_code_is_made_for_a_store_of_the_program_and_a_time_in_bounds_only(program: Program) -> None:
    other = await make_program()
    store, theirs = await make_store(program.id), await make_store(other.id)
    for ref in (
        StoreRef(id=theirs.id),
        StoreRef(id=uuid4()),
        StoreRef(external_id=theirs.external_id),
        StoreRef(external_id="nul\0"),
    ):
        wrong = create_check_in_code(CODES, program.id, ref, 30)
        assert await refusal(wrong) == {(ErrorCode.NOT_FOUND, ("store", ref.field))}
    for seconds in (4, 0, -1, 365 * 86_400 + 1):
        wrong = create_check_in_code(CODES, program.id, StoreRef(id=store.id), seconds)
        assert await refusal(wrong) == {(ErrorCode.INVALID, ("valid_for_seconds",))}
    assert await refusal(create_check_in_code(CODES, program.id, StoreRef(external_id="none"), 1)) == {
        (ErrorCode.NOT_FOUND, ("store", "external_id")),
        (ErrorCode.INVALID, ("valid_for_seconds",)),
    }
