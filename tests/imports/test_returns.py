"""Returns among the purchases of a file: what they take back, against a second calculation."""

import csv
import lzma
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.imports.purchases import Order, read_purchases
from app.imports.service import import_purchases
from app.imports.summary import ReturnsSummary, Summary
from tests.helpers import find_differences
from tests.imports.chance import Chance
from tests.imports.data import RICH_COLUMNS, retail_file, slice_of
from tests.imports.independent import Calculation, Result, orders_of
from tests.imports.made_up import made_up_file
from tests.imports.setting_up import books_of, differences, expected_books, set_up, spend_everything
from tests.imports.world import Campaign, Given, Rule, World

_ONE_EACH = World([Rule(name="Points", per=Fraction(1))])


_TELLING = {12457, 12473, 12924, 13208, 13534, 16652}
"""Members with the same goods twice in one order, in two orders of a minute, or in the minute of a return."""


@pytest.fixture(scope="module")
def some_members(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A year of every fortieth member of a real shop, and of a few who tell rules of matching apart."""

    def wanted(row: dict[str, str]) -> bool:
        member = int(float(row["CustomerID"] or 0))
        return bool(member) and (member % 40 == 7 or member in _TELLING)

    return slice_of(retail_file(), tmp_path_factory.mktemp("slice") / "some.csv", wanted)


def _rows(path: Path) -> list[str]:
    if path.suffix == ".xz":
        with lzma.open(path, "rt", newline="", encoding="utf-8") as lines:
            return list(lines)
    with path.open(newline="", encoding="utf-8") as lines:
        return list(lines)


def _orders(path: Path, world: World) -> list[Order]:
    contents = read_purchases(path, RICH_COLUMNS, ZoneInfo(world.zone), 2, return_prefixes=["C"])
    assert all(reject.reason == "The row names no member." for reject in contents.rejects)
    return contents.orders


def _check_summary(summary: Summary, result: Result) -> None:
    purchases = [order for order in result.orders.values() if not order.is_return]
    assert summary.refused == {}
    assert summary.points == sum(sum(order.granted.values()) for order in purchases)
    assert summary.returns == ReturnsSummary(
        orders=len(result.orders) - len(purchases),
        matched=Decimal(int(result.matched)),
        unmatched=Decimal(int(result.unmatched)),
        points=sum(sum(order.granted.values()) - sum(order.kept.values()) for order in purchases)
        - sum(account.written_off for account in result.accounts.values()),
        debt=sum(account.owed for account in result.accounts.values()),
        written_off=sum(account.written_off for account in result.accounts.values()),
    )


async def _compare(path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Import a file into a world, and find that the books say what the second calculation says."""
    result = Calculation(world).run(orders_of(_rows(path), world.zone))
    program_id = await set_up(world, monkeypatch)
    summary = await import_purchases(program_id, _orders(path, world), enroll=True)
    assert differences(await books_of(program_id), expected_books(world, result)) == []
    _check_summary(summary, result)
    assert await find_differences(program_id) == []


@pytest.mark.parametrize("seed", range(5))
async def test_a_year_of_some_members_comes_to_what_a_second_calculation_says(
    some_members: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    world = Chance(seed, orders_of(_rows(some_members), "UTC")).world()
    await _compare(some_members, world, monkeypatch)


@pytest.mark.parametrize("seed", range(8))
async def test_a_shop_where_everything_happens_comes_to_what_a_second_calculation_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    path = made_up_file(tmp_path / "made-up.csv", seed)
    await _compare(path, Chance(seed, orders_of(_rows(path), "UTC")).world(), monkeypatch)


@pytest.mark.parametrize("debt_limit", [0, 50, 1_000_000])
async def test_what_was_spent_before_goods_came_back_is_owed_up_to_the_limit_and_else_written_off(
    some_members: Path, monkeypatch: pytest.MonkeyPatch, debt_limit: int
) -> None:
    world = World([Rule(name="Points", per=Fraction(2))], debt_limit=debt_limit)
    summer = datetime(2011, 7, 1, tzinfo=UTC)
    second, orders = Calculation(world), orders_of(_rows(some_members), world.zone)
    second.run(order for order in orders if order.moment < summer)
    for account in second.result.accounts.values():
        account.spend_all()
    result = second.run(order for order in orders if order.moment >= summer)

    program_id = await set_up(world, monkeypatch)
    told = _orders(some_members, world)
    await import_purchases(program_id, [order for order in told if _before(order, summer)], enroll=True)
    await spend_everything(program_id)
    summary = await import_purchases(program_id, told, enroll=True)

    assert differences(await books_of(program_id), expected_books(world, result)) == []
    assert summary.returns.debt == sum(account.owed for account in result.accounts.values())
    assert summary.returns.written_off == sum(account.written_off for account in result.accounts.values())
    assert (summary.returns.debt > 0, summary.returns.written_off > 0) == (debt_limit > 0, debt_limit < 1000)
    assert await find_differences(program_id) == []


def _before(order: Order, moment: datetime) -> bool:
    assert order.occurred_at
    return order.occurred_at < moment


async def test_an_import_that_is_stopped_and_run_again_comes_to_the_same(
    some_members: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World([Rule(name="Points", per=Fraction(1), per_day=200)], cap=300)
    result = Calculation(world).run(orders_of(_rows(some_members), world.zone))
    orders = _orders(some_members, world)
    program_id = await set_up(world, monkeypatch)

    class Stopped(Exception):
        pass

    def stopper(after: int):
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if done >= after:
                raise Stopped

        return advance

    for after in (1, 90, 250, 300):
        with pytest.raises(Stopped):
            await import_purchases(program_id, orders, enroll=True, advance=stopper(after))
    done = await import_purchases(program_id, orders, enroll=True)
    again = await import_purchases(program_id, orders, enroll=True)

    assert differences(await books_of(program_id), expected_books(world, result)) == []
    assert 0 < done.returns.known_orders < again.returns.known_orders
    assert done.returns.known_orders + done.returns.orders == again.returns.known_orders
    for name in ("matched", "unmatched", "points", "debt", "written_off"):
        assert getattr(done.returns, name) == getattr(again.returns, name)
    assert await find_differences(program_id) == []


# By hand


def _write(path: Path, *rows: str) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["order_id", "member_id", "occurred_at", "sku", "quantity", "unit_price"])
        writer.writerows(row.split() for row in rows)
    return path


async def _import(
    monkeypatch: pytest.MonkeyPatch, path: Path, world: World = _ONE_EACH, enroll: bool = True
) -> tuple[Summary, dict[str, int]]:
    """Import a small file into a new program, and return what members hold."""
    program_id = await set_up(world, monkeypatch)
    contents = read_purchases(path, {}, ZoneInfo("UTC"), 2, return_prefixes=["C"])
    summary = await import_purchases(program_id, contents.orders, enroll=enroll)
    return summary, {name: held for name, (held, *_) in (await books_of(program_id)).members.items()}


async def test_a_return_takes_back_of_the_latest_purchase_before_it_at_that_purchases_price(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = _write(
        tmp_path / "f.csv",
        "C1 m 2026-01-05T10:00 A -3 99",
        "1 m 2026-01-02T10:00 A 5 10",
        "2 m 2026-01-03T10:00 A 2 7",
        "3 m 2026-01-06T10:00 A 9 1",
    )
    summary, held = await _import(monkeypatch, path)
    assert held == {"m": 50 + 14 + 9 - (14 + 10)}
    assert summary.returns == ReturnsSummary(orders=1, matched=Decimal(3), points=24)


@pytest.mark.parametrize("return_first", [True, False])
async def test_a_return_does_not_match_a_purchase_of_the_very_same_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, return_first: bool
) -> None:
    rows = ["1 m 2026-01-02T10:00 A 1 10", "C1 m 2026-01-02T10:00 A -1 10"]
    path = _write(tmp_path / "f.csv", *(reversed(rows) if return_first else rows))
    summary, held = await _import(monkeypatch, path)
    assert held == {"m": 10}
    assert (summary.returns.matched, summary.returns.unmatched) == (0, 1)


@pytest.mark.parametrize(("return_first", "points"), [(True, 20), (False, 0)])
async def test_of_a_return_and_a_purchase_at_one_time_the_first_in_the_file_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, return_first: bool, points: int
) -> None:
    # A cap that the first purchase has used up: the second finds room only where the return came before.
    rows = ["C1 m 2026-01-02T10:00 A -1 30", "2 m 2026-01-02T10:00 B 1 20"]
    rows = rows if return_first else rows[::-1]
    path = _write(tmp_path / "f.csv", "1 m 2026-01-02T09:00 A 1 30", *rows)
    _, held = await _import(monkeypatch, path, World(_ONE_EACH.rules, zone="UTC", cap=30))
    assert held == {"m": points}


async def test_who_comes_with_a_return_first_is_enrolled_by_it_and_nothing_matches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = _write(tmp_path / "f.csv", "C1 m 2026-01-02T10:00 A -1 10", "1 m 2026-01-03T10:00 A 1 10")
    summary, held = await _import(monkeypatch, path)
    assert (summary.enrolled, held) == (1, {"m": 10})
    assert summary.returns == ReturnsSummary(orders=1, unmatched=Decimal(1))


async def test_returns_of_members_who_are_not_there_are_turned_away_with_their_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = ("C1 m 2026-01-02T10:00 A -1 10", "C1 m 2026-01-02T10:00 B -1 10")
    path = _write(tmp_path / "f.csv", *rows)
    summary, _ = await _import(monkeypatch, path, enroll=False)
    assert summary.refused == dict.fromkeys((2, 3), "There is no such member.")
    assert summary.returns == ReturnsSummary()


async def test_a_return_that_came_in_otherwise_before_is_turned_away_and_stays_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bought = "1 m 2026-01-01T10:00 A 5 10"
    program_id = await set_up(_ONE_EACH, monkeypatch)
    summaries = []
    for quantity in ("-1", "-1.0", "-2"):
        path = _write(tmp_path / "f.csv", bought, f"C1 m 2026-01-02T10:00 A {quantity} 10")
        contents = read_purchases(path, {}, ZoneInfo("UTC"), 2, return_prefixes=["C"])
        summaries.append(await import_purchases(program_id, contents.orders, enroll=True))
    assert [(each.returns.orders, each.returns.known_orders) for each in summaries] == [
        (1, 0),
        (0, 1),
        (0, 0),
    ]
    assert "another content" in summaries[2].refused[3]
    assert (await books_of(program_id)).members["m"][0] == 40


# All of it


def _spread(names: Sequence[str], tiers: Sequence[str | None]) -> dict[str, list[Given]]:
    """Give every third member tiers that change over the year."""
    changes = [datetime(2010, 12, 1), datetime(2011, 4, 1), datetime(2011, 8, 15)]
    return {
        name: [Given(tiers[(n + k) % len(tiers)], at.replace(tzinfo=UTC)) for k, at in enumerate(changes)]
        for n, name in enumerate(names[::3])
    }


def _christmas(starts: tuple[int, ...], ends: tuple[int, ...], factor: str, *tiers: str) -> Campaign:
    first, last = (datetime(*each, tzinfo=UTC) for each in (starts, ends))  # type: ignore[arg-type,misc]
    return Campaign(f"Campaign of {first:%B}", first, last, Fraction(factor), frozenset(tiers))


def _whole_worlds(rows: Sequence[str]) -> dict[str, World]:
    orders = orders_of(rows, "UTC")
    names = sorted({order.member for order in orders})
    plain = Rule(name="Plain", per=Fraction("1.5"))
    fixed = Rule(name="Fixed", fixed=25, often=(1, "WEEK"), minimum=Fraction(100))
    abroad = Rule(name="Abroad", per=Fraction(3), categories=frozenset({"France", "Germany"}), replaces=True)
    postage = Rule(name="Goods only", per=Fraction(1), not_skus=frozenset({"POST", "M", "DOT"}))
    hearts = Rule(name="Hearts", times=Fraction(4), skus=frozenset({"85123A", "22423", "47566", "85099B"}))
    return {
        "cap and ceiling": World([plain, fixed], rounding="CEILING", cap=400),
        "rules that replace and multiply, in New York": World(
            [plain, abroad, hearts, postage], zone="America/New_York", rounding="HALF_UP"
        ),
        "tiers and campaigns added up, in Auckland": World(
            [plain, fixed, hearts],
            zone="Pacific/Auckland",
            stacking="ADD",
            tiers={"Bronze": Fraction(1), "Silver": Fraction("1.5"), "Gold": Fraction(2)},
            start="Bronze",
            given=_spread(names, ["Silver", "Gold", None]),
            campaigns=[
                _christmas((2011, 3, 1), (2011, 3, 20), "3"),
                _christmas((2011, 11, 1), (2011, 12, 9), "0.5", "Gold"),
            ],
            cap=5000,
        ),
        "made up": Chance(1001, orders).world(),
    }


@pytest.mark.deep
@pytest.mark.parametrize("number", range(4))
async def test_a_year_of_a_whole_shop_comes_to_what_a_second_calculation_says(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = retail_file()
    world = list(_whole_worlds(_rows(path)).values())[number]
    await _compare(path, world, monkeypatch)
