import asyncio
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from app.access.keys import hash_secret
from app.access.models import ApiKey
from app.access.scopes import PROGRAM_SCOPES, Scope
from app.access.tenancy import scoped
from app.errors import ErrorCode, Refused
from app.ledger.expiry import ExpiryKind, ExpiryPolicy
from app.ledger.operations import MAX_POINTS
from app.programs.policy import MultiplierStacking, Rounding
from app.programs.service import create_program, find_program, get_program, update_program
from tests.programs.making import make_program, new_program


async def refusal(work: Any) -> set[tuple[ErrorCode, tuple[str, ...] | None]]:
    with pytest.raises(Refused) as caught:
        await work
    assert all(error.message.endswith(".") for error in caught.value.errors)
    return {(error.code, error.field) for error in caught.value.errors}


async def test_a_program_comes_with_a_key_that_has_every_scope_of_a_program() -> None:
    program, secret = await create_program(new_program(point_cost=Decimal("0.5")))

    (key,) = await scoped(ApiKey, program.id)
    assert {Scope(name) for name in key.scopes} == PROGRAM_SCOPES
    assert Scope.PLATFORM_ADMIN not in key.scopes
    assert key.secret_hash == hash_secret(secret)
    assert secret.startswith(key.prefix)
    assert (await get_program(program.id)).point_cost == Decimal("0.5")
    assert (await find_program(program.slug)).id == program.id  # type: ignore[union-attr]


async def test_defaults_are_those_of_the_schema() -> None:
    program = await make_program()

    assert program.rounding == "FLOOR"
    assert program.multiplier_stacking == "MULTIPLY"
    assert program.max_points_per_day is None
    assert (program.pending_days, program.debt_limit, str(program.point_cost)) == (0, 0, "0.01")
    assert (program.expiry_kind, program.expiry_months) == ("NEVER", None)


async def test_a_slug_is_given_once_even_when_two_ask_at_the_same_time() -> None:
    program = new_program()

    results = await asyncio.gather(*(create_program(program) for _ in range(4)), return_exceptions=True)

    refused = [result for result in results if isinstance(result, Refused)]
    assert len(refused) == 3
    assert {(e.code, e.field) for r in refused for e in r.errors} == {(ErrorCode.ALREADY_EXISTS, ("slug",))}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("slug", slug) for slug in ("", "-a", "a--b", "A", "ä", "a" * 65, "a_b", "a\n")),
        *(("name", name) for name in ("", "x" * 201, " x", "a\nb", "a\0b", "\ud800")),
        *(("currency", code) for code in ("", "eur", "EUX", "XXX")),
        *(("timezone", zone) for zone in ("", "Berlin", "europe/berlin", "Europe/../Berlin", "localtime")),
        *(("max_points_per_day", points) for points in (0, -1, MAX_POINTS + 1)),
        *(("pending_days", days) for days in (-1, 3651)),
        *(("debt_limit", points) for points in (-1, MAX_POINTS + 1)),
        *(("point_cost", Decimal(c)) for c in ("-1", "1000000.01", "0.0000001", "NaN", "Infinity")),
    ],
)
async def test_what_is_wrong_with_a_new_program_names_its_field(field: str, value: object) -> None:
    assert await refusal(create_program(new_program(**{field: value}))) == {(ErrorCode.INVALID, (field,))}


@pytest.mark.parametrize(
    ("kind", "months"),
    [
        (ExpiryKind.ROLLING_MONTHS, None),
        (ExpiryKind.INACTIVITY_MONTHS, 0),
        (ExpiryKind.ROLLING_MONTHS, 1201),
        (ExpiryKind.NEVER, 12),
        (ExpiryKind.END_OF_YEAR, 1),
    ],
)
async def test_months_belong_to_the_expiries_that_count_them(kind: ExpiryKind, months: int | None) -> None:
    wrong = create_program(new_program(expiry=ExpiryPolicy(kind, months)))
    assert await refusal(wrong) == {(ErrorCode.INVALID, ("expiry", "months"))}


async def test_everything_that_is_wrong_is_told_at_once() -> None:
    wrong = create_program(new_program(slug="-", name="", currency="?", timezone="?", pending_days=-1))
    assert {field for _, field in await refusal(wrong)} == {
        ("slug",),
        ("name",),
        ("currency",),
        ("timezone",),
        ("pending_days",),
    }


async def test_the_widest_values_are_taken() -> None:
    program = await make_program(
        slug=f"{uuid4().hex}{uuid4().hex}",
        name="x" * 200,
        max_points_per_day=MAX_POINTS,
        pending_days=3650,
        expiry=ExpiryPolicy(ExpiryKind.INACTIVITY_MONTHS, 1200),
        debt_limit=MAX_POINTS,
        point_cost=Decimal("1000000.000000"),
    )
    assert str(program.point_cost) == "1000000"


async def test_only_given_fields_change_and_the_rule_sets_become_old() -> None:
    program = await make_program(max_points_per_day=5, expiry=ExpiryPolicy(ExpiryKind.ROLLING_MONTHS, 12))

    changed = await update_program(
        program.id,
        {
            "name": "Other",
            "rounding": Rounding.CEILING,
            "multiplier_stacking": MultiplierStacking.BEST,
            "point_cost": Decimal("0.0250"),
        },
    )

    assert (changed.name, changed.rounding, changed.multiplier_stacking) == ("Other", "CEILING", "BEST")
    assert str(changed.point_cost) == "0.025"
    assert (changed.max_points_per_day, changed.expiry_months) == (5, 12)
    assert changed.expiry_changed_at == program.expiry_changed_at
    assert changed.rules_version == program.rules_version + 1
    assert dict(await get_program(program.id)) == dict(changed)


async def test_null_clears_what_can_be_cleared_and_is_refused_elsewhere() -> None:
    program = await make_program(max_points_per_day=5, expiry=ExpiryPolicy(ExpiryKind.ROLLING_MONTHS, 12))

    cleared = await update_program(program.id, {"max_points_per_day": None, "expiry": None})
    assert (cleared.max_points_per_day, cleared.expiry_kind, cleared.expiry_months) == (None, "NEVER", None)

    others = ("name", "rounding", "multiplier_stacking", "pending_days", "debt_limit", "point_cost")
    wrong = update_program(program.id, dict.fromkeys(others))
    assert await refusal(wrong) == {(ErrorCode.INVALID, (name,)) for name in others}


async def test_only_another_expiry_starts_a_new_period() -> None:
    program = await make_program(expiry=ExpiryPolicy(ExpiryKind.INACTIVITY_MONTHS, 12))

    same = await update_program(program.id, {"expiry": ExpiryPolicy(ExpiryKind.INACTIVITY_MONTHS, 12)})
    assert same.expiry_changed_at == program.expiry_changed_at
    other = await update_program(program.id, {"expiry": ExpiryPolicy(ExpiryKind.INACTIVITY_MONTHS, 6)})
    assert other.expiry_changed_at > program.expiry_changed_at


async def test_two_updates_at_the_same_time_lose_nothing() -> None:
    program = await make_program()

    changes: list[dict[str, Any]] = [{"name": "A"}, {"debt_limit": 7}, {"pending_days": 3}, {"debt_limit": 7}]
    await asyncio.gather(*(update_program(program.id, change) for change in changes))

    row = await get_program(program.id)
    assert (row.name, row.debt_limit, row.pending_days, row.rules_version) == ("A", 7, 3, 5)


async def test_a_program_that_is_not_there_is_not_found() -> None:
    assert await refusal(update_program(uuid4(), {"name": "A"})) == {(ErrorCode.NOT_FOUND, None)}
    assert await refusal(get_program(uuid4())) == {(ErrorCode.NOT_FOUND, None)}
