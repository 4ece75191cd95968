"""The import of a file through the same services as every other event, against a second calculation."""

import csv
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.database import connection
from app.earning.rule_service import create_rule
from app.earning.rules import EventKind, PointsPerAmount, RuleDefinition, RuleStatus
from app.imports.purchases import read_purchases
from app.imports.rows import rejected_rows
from app.imports.service import import_purchases
from app.ledger.verify import verify
from app.programs.policy import Rounding
from tests.imports.data import COLUMNS, retail_file, slice_of
from tests.imports.independent import Calculation, orders_of
from tests.imports.world import Rule, World
from tests.programs.making import make_program

LONDON = ZoneInfo("Europe/London")


async def _program(rate: str, **settings):
    program = await make_program(currency="GBP", timezone="Europe/London", **settings)
    rule = RuleDefinition("Points", EventKind.PURCHASE, points_per_amount=PointsPerAmount(Decimal(rate)))
    await create_rule(program.id, rule, RuleStatus.ACTIVE)
    return program.id


async def _run(program_id, path: Path):
    contents = read_purchases(path, COLUMNS, LONDON, 2, ["C"])
    return contents, await import_purchases(program_id, contents.orders, enroll=True)


async def _balances(program_id) -> dict[str, tuple[int, int]]:
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT m.external_id, a.available, a.pending FROM member m JOIN account a ON a.member_id = m.id"
            " WHERE m.program_id = $1",
            program_id,
        )
    return {row["external_id"]: (row["available"], row["pending"]) for row in rows}


async def _differences(program_id) -> list:
    return [finding async for _, findings in verify(program_id) for finding in findings]


@pytest.mark.parametrize(
    ("rate", "rounding", "pending_days"),
    [("1", Rounding.FLOOR, 0), ("2.5", Rounding.HALF_UP, 14), ("0.333", Rounding.CEILING, 0)],
)
async def test_two_weeks_of_a_real_shop_earn_what_a_second_calculation_says(
    tmp_path, rate, rounding, pending_days
):
    path = slice_of(retail_file(), tmp_path / "weeks.csv", lambda row: row["InvoiceDate"] < "2010-12-15")
    with path.open(newline="") as lines:
        orders = [order for order in orders_of(lines, "Europe/London") if not order.is_return]
    world = World([Rule(name="Points", per=Fraction(rate))], rounding=rounding.value)
    points = {name: each.available for name, each in Calculation(world).run(orders).accounts.items()}
    program_id = await _program(rate, rounding=rounding, pending_days=pending_days)

    _, summary = await _run(program_id, path)

    assert summary.orders == len(orders)
    assert summary.amount == sum(line.amount for order in orders for line in order.lines)
    assert summary.points == sum(points.values())
    side = 1 if pending_days else 0
    assert {member: both[side] for member, both in (await _balances(program_id)).items()} == points
    assert await _differences(program_id) == []

    before = await _balances(program_id)
    _, again = await _run(program_id, path)
    assert (again.orders, again.known_orders, again.enrolled) == (0, summary.orders, 0)
    assert again.points == summary.points
    assert await _balances(program_id) == before


@pytest.mark.deep
async def test_a_year_of_a_real_shop_earns_what_is_known():
    program_id = await _program("1")
    contents, summary = await _run(program_id, retail_file())
    assert summary.orders == 18_536
    assert summary.lines == 397_924
    assert summary.amount == Decimal("8911407.90")
    assert summary.points == 8_902_670
    assert len(summary.members) == summary.enrolled == 4_339
    assert contents.skipped_orders == 3_836
    balances = await _balances(program_id)
    assert [balances[member][0] for member in ("14646", "18102", "17450")] == [280_175, 259_629, 194_531]
    assert await _differences(program_id) == []


def _write(path: Path, *rows: tuple[str, ...]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["order_id", "member_id", "occurred_at", "sku", "quantity", "unit_price"])
        writer.writerows(rows)
    return path


async def test_unknown_members_are_turned_away_with_their_rows_unless_they_may_be_enrolled(tmp_path):
    program_id = await _program("1")
    path = _write(tmp_path / "f.csv", ("1", "nobody", "2026-01-02 10:00", "A", "1", "3.00"))
    contents = read_purchases(path, {}, LONDON, 2)
    summary = await import_purchases(program_id, contents.orders)
    assert summary.orders == 0
    assert summary.refused == {2: "There is no such member."}
    assert [reject.row for reject in rejected_rows(path, summary.refused)] == [
        ["1", "nobody", "2026-01-02 10:00", "A", "1", "3.00"]
    ]
    summary = await import_purchases(program_id, contents.orders, enroll=True)
    assert (summary.orders, summary.enrolled, summary.points) == (1, 1, 3)


async def test_an_order_that_came_in_otherwise_before_is_turned_away_and_stays_as_it_was(tmp_path):
    program_id = await _program("1")
    first = _write(tmp_path / "a.csv", ("1", "m", "2026-01-02 10:00", "A", "1", "3.00"))
    other = _write(tmp_path / "b.csv", ("1", "m", "2026-01-02 10:00", "A", "1", "4.00"))
    await import_purchases(program_id, read_purchases(first, {}, LONDON, 2).orders, enroll=True)
    summary = await import_purchases(program_id, read_purchases(other, {}, LONDON, 2).orders, enroll=True)
    assert (summary.orders, summary.known_orders, summary.points) == (0, 0, 0)
    assert "another content" in summary.refused[2]
    assert await _balances(program_id) == {"m": (3, 0)}


async def test_the_earlier_purchase_is_served_first_where_the_daily_cap_leaves_little(tmp_path):
    program_id = await _program("1", max_points_per_day=100)
    path = _write(
        tmp_path / "f.csv",
        ("late", "m", "2026-01-02 20:00", "A", "1", "80.00"),
        ("early", "m", "2026-01-02 08:00", "A", "1", "70.00"),
    )
    await import_purchases(program_id, read_purchases(path, {}, LONDON, 2).orders, enroll=True)
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT e.external_id, o.points FROM event e JOIN event_outcome o ON o.event_id = e.id"
            " WHERE e.program_id = $1",
            program_id,
        )
    assert {row["external_id"]: row["points"] for row in rows} == {"early": 70, "late": 30}


@pytest.mark.parametrize("member", ["a\x00b", "a\tb", "x" * 256])
async def test_rows_of_a_member_who_cannot_be_enrolled_say_why(tmp_path, member):
    program_id = await _program("1")
    path = _write(
        tmp_path / "f.csv",
        ("1", member, "2026-01-02 10:00", "A", "1", "3.00"),
        ("2", "good", "2026-01-02 10:00", "A", "1", "3.00"),
    )
    orders = read_purchases(path, {}, LONDON, 2).orders
    summary = await import_purchases(program_id, orders, enroll=True)
    assert (summary.orders, summary.enrolled) == (1, 1)
    assert summary.refused.keys() == {2}
    assert summary.refused[2].startswith("The member cannot be enrolled: External id must ")


async def test_an_order_with_a_fault_of_its_own_keeps_that_as_its_reason(tmp_path):
    program_id = await _program("1")
    path = _write(tmp_path / "f.csv", ("1", "m", "1890-01-02 10:00", "A", "1", "3.00"))
    summary = await import_purchases(program_id, read_purchases(path, {}, LONDON, 2).orders, enroll=True)
    assert summary.refused == {2: "The purchase lies before 1970."}
