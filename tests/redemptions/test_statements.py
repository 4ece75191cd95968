"""What paid rewards are billed at: by months of the program, which never change once they are closed."""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from app import clock
from app.catalog.rewards import Reward
from app.catalog.service import update_reward
from app.database import connection
from app.days import start_of_day
from app.errors import ErrorCode, Refused
from app.ids import new_id
from app.members.reads import MemberRow
from app.programs.models import Program
from app.redemptions import statements
from app.redemptions.expiring import sweep
from app.redemptions.statements import Statement, statement
from app.redemptions.steps import cancel, capture, fulfil
from tests.helpers import new_program, set_now
from tests.redemptions.making import new_reward, redeemed, rich_member

SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
Simple = tuple[list[tuple[str, str, int, int, int, str]], str]


def simple(said: Statement) -> Simple:
    """Return lines and total of a statement as plain texts and numbers."""
    return (
        [
            (line.name, f"{line.face_value:f}", line.redeemed, line.credited, line.count, f"{line.total:f}")
            for line in said.lines
        ],
        f"{said.total:f}",
    )


def at(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    monkeypatch.setattr(clock, "now", lambda: moment)


@dataclass
class Billed:
    """A paid redemption as a bookkeeper notes it."""

    id: UUID
    name: str
    face_value: Decimal
    quantity: int
    confirmed_at: datetime | None
    cancelled_at: datetime | None = None


@dataclass
class Books:
    """What a bookkeeper says about a program, and the program itself."""

    program: Program
    zone: ZoneInfo
    chance: random.Random
    billed: list[Billed] = field(default_factory=list)
    closed: dict[date, Simple] = field(default_factory=dict)

    def expected(self, month: date) -> Simple:
        """Return the statement of a month, worked out redemption by redemption."""
        counts: dict[tuple[str, Decimal], list[int]] = {}
        for each in self.billed:
            for place, moment in enumerate((each.confirmed_at, each.cancelled_at)):
                if moment is not None and each.confirmed_at is not None:
                    local = moment.astimezone(self.zone)
                    if (local.year, local.month) == (month.year, month.month):
                        pieces = counts.setdefault((each.name, each.face_value), [0, 0])
                        pieces[place] += each.quantity
        lines = [
            (name, f"{value:.2f}", plus, minus, plus - minus, f"{(plus - minus) * value:.2f}")
            for (name, value), (plus, minus) in sorted(counts.items())
        ]
        return lines, f"{sum(Decimal(line[5]) for line in lines) or Decimal(0):.2f}"

    async def compare(self, month: date) -> None:
        """Compare a month's statement with the books, and a closed one with what it was before."""
        said = await statement(self.program.id, month)
        assert simple(said) == self.expected(month)
        assert said.month == month.replace(day=1)
        if said.closed:
            assert self.closed.setdefault(said.month, simple(said)) == simple(said)
        else:
            assert said.month not in self.closed

    async def act(self, members: list[MemberRow], rewards: list[Reward]) -> None:
        """Redeem, reserve, capture, cancel, fulfil, or change a face value, by chance, now."""
        now, chance = clock.now(), self.chance
        what = chance.choice(
            ["redeem", "redeem", "reserve", "capture", "cancel", "cancel", "fulfil", "value"]
        )
        n = chance.randrange(len(rewards))
        reward = rewards[n]
        open_ = [each for each in self.billed if each.cancelled_at is None]
        if what == "value" and reward.face_value is not None:
            value = Decimal(chance.randint(1, 4)) / 2
            rewards[n] = await update_reward(self.program.id, reward.id, {"face_value": value})
        elif what in ("redeem", "reserve"):
            hold = 20 * 86400 if what == "reserve" else None
            made = await redeemed(
                self.program,
                chance.choice(members),
                reward,
                quantity=chance.randint(1, 3),
                hold_seconds=hold,
            )
            if reward.face_value is not None:
                when = now if what == "redeem" else None
                self.billed.append(Billed(made.id, reward.name, reward.face_value, made.quantity, when))
        elif open_:
            await self._step(what, chance.choice(open_), now)

    async def _step(self, what: str, each: Billed, now: datetime) -> None:
        try:
            if what == "capture":
                await capture(self.program.id, each.id, new_id().hex)
                each.confirmed_at = now
            elif what == "cancel":
                await cancel(self.program.id, each.id, "No", new_id().hex)
                each.cancelled_at = now
            elif what == "fulfil":
                await fulfil(self.program.id, each.id)
        except Refused as refused:
            assert refused.errors[0].code is ErrorCode.WRONG_STATE  # noqa: PT017


def moments(chance: random.Random, zone: ZoneInfo, first: date, months: int, count: int) -> list[datetime]:
    """Return instants in some months, in order, half of them within a blink of a local midnight."""
    edges = [first]
    for _ in range(months):
        edges.append((edges[-1] + timedelta(days=31)).replace(day=1))
    began, ended = (start_of_day(day, zone) for day in (edges[0], edges[-1]))
    found = []
    for _ in range(count):
        if chance.random() < 0.5:
            edge = start_of_day(chance.choice(edges[1:-1]), zone)
            found.append(edge + chance.choice([-SECOND, -MICROSECOND, 0 * SECOND, MICROSECOND, SECOND]))
        else:
            found.append(began + chance.random() * (ended - began))
    return sorted(found)


@pytest.mark.parametrize(
    ("zone", "first"),
    [
        ("UTC", date(2024, 1, 1)),
        ("Europe/Berlin", date(2024, 1, 1)),
        ("Pacific/Auckland", date(2024, 2, 1)),
        ("America/St_Johns", date(2024, 9, 1)),
        ("America/Asuncion", date(2017, 8, 1)),  # no midnight on the first of October
        ("America/Havana", date(2020, 9, 1)),  # two midnights on the first of November
    ],
)
@pytest.mark.parametrize("seed", range(2))
async def test_statements_are_what_a_bookkeeper_works_out(
    monkeypatch: pytest.MonkeyPatch, zone: str, first: date, seed: int
) -> None:
    chance = random.Random(f"{zone} {seed}")
    months = 5
    times = moments(chance, ZoneInfo(zone), first, months, 110)
    at(monkeypatch, times[0] - timedelta(days=1))
    program = await new_program(timezone=zone)
    books = Books(program, ZoneInfo(zone), chance)
    members = [await rich_member(program, 1_000_000) for _ in range(3)]
    kinds = ["GIFT_CARD", "PRODUCT", "SERVICE", "DONATION", "VOUCHER"]
    rewards = [
        await new_reward(
            program,
            kind,
            face_value="1.5" if kind != "VOUCHER" else None,
            generate_codes=kind in ("GIFT_CARD", "VOUCHER"),
        )
        for kind in kinds
    ]
    wanted = [first.replace(day=17)]
    for _ in range(months):
        wanted.append((wanted[-1].replace(day=1) + timedelta(days=31)).replace(day=17))
    for n, moment in enumerate(times):
        at(monkeypatch, moment)
        await books.act(members, rewards)
        if n % 25 == 0:
            await sweep()
            for month in wanted:
                await books.compare(month)
    at(monkeypatch, times[-1] + timedelta(days=90))
    for month in wanted:
        await books.compare(month)
    assert len(books.closed) == months + 1
    assert any(each.cancelled_at and each.confirmed_at for each in books.billed)


async def test_what_is_redeemed_and_cancelled_in_one_month_stays_as_a_line_of_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2024, 3, 10)
    program = await new_program()
    member = await rich_member(program)
    reward = await new_reward(program, name="Card", face_value="2.5")
    done = await redeemed(program, member, reward, quantity=3)
    await cancel(program.id, done.id, "No", "key")
    said = await statement(program.id, date(2024, 3, 31))
    assert simple(said) == ([("Card", "2.50", 3, 3, 0, "0.00")], "0.00")


async def test_what_is_cancelled_later_is_a_credit_at_the_old_face_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2024, 3, 31, 23, 59, 59)
    program = await new_program()
    member = await rich_member(program)
    reward = await new_reward(program, name="Card", face_value=10)
    done = await redeemed(program, member, reward, quantity=2)
    await update_reward(program.id, reward.id, {"face_value": Decimal(12), "name": "Bigger card"})
    set_now(monkeypatch, 2024, 4, 1)
    await redeemed(program, member, reward)
    await cancel(program.id, done.id, "No", "key")
    march, april = [await statement(program.id, date(2024, month, 1)) for month in (3, 4)]
    assert simple(march) == ([("Card", "10.00", 2, 0, 2, "20.00")], "20.00")
    assert simple(april) == (
        [("Bigger card", "12.00", 1, 0, 1, "12.00"), ("Card", "10.00", 0, 2, -2, "-20.00")],
        "-8.00",
    )


async def test_one_line_has_both_names_of_a_reward_that_was_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2024, 3, 1)
    program = await new_program(currency="JPY")
    member = await rich_member(program)
    reward = await new_reward(program, name="Zebra", face_value=100)
    other = await new_reward(program, name="Mule", face_value=100)
    await redeemed(program, member, other)
    await redeemed(program, member, reward)
    set_now(monkeypatch, 2024, 3, 2)
    await update_reward(program.id, reward.id, {"name": "Ant"})
    await redeemed(program, member, reward, quantity=2)
    said = await statement(program.id, date(2024, 3, 2))
    assert simple(said) == ([("Ant", "100", 3, 0, 3, "300"), ("Mule", "100", 1, 0, 1, "100")], "400")


async def test_reservation_counts_when_it_is_captured_and_never_when_it_runs_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_now(monkeypatch, 2024, 3, 31, 12)
    program = await new_program(currency="KWD")
    member = await rich_member(program)
    reward = await new_reward(program, name="Goods", face_value="1.125")
    held = await redeemed(program, member, reward, hold_seconds=86400)
    await redeemed(program, member, reward, hold_seconds=3600, quantity=2)
    given_up = await redeemed(program, member, reward, hold_seconds=3600)
    await cancel(program.id, given_up.id, "No", "key")
    set_now(monkeypatch, 2024, 4, 1, 11)
    await update_reward(program.id, reward.id, {"face_value": Decimal(9)})
    await sweep()
    await capture(program.id, held.id, "capture")
    assert simple(await statement(program.id, date(2024, 3, 1))) == ([], "0.000")
    april = await statement(program.id, date(2024, 4, 1))
    assert simple(april) == ([("Goods", "1.125", 1, 0, 1, "1.125")], "1.125")


async def test_month_closes_a_minute_after_its_last_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    program = await new_program(timezone="Pacific/Auckland")
    zone = ZoneInfo("Pacific/Auckland")
    month = date(2024, 4, 15)
    for moment, closed in [
        ((2024, 3, 1), False),
        ((2024, 4, 30, 23, 59, 59), False),
        ((2024, 5, 1, 0, 0, 59), False),
        ((2024, 5, 1, 0, 1, 0), True),
    ]:
        set_now(monkeypatch, *moment, tz=zone)
        said = await statement(program.id, month)
        assert (said.month, said.lines, said.total, said.closed) == (date(2024, 4, 1), (), 0, closed)
    assert f"{said.total:f}" == "0.00"


@pytest.mark.parametrize("month", [date(1, 1, 1), date(1969, 12, 31), date(9001, 1, 1), date(9999, 12, 31)])
async def test_months_outside_of_the_calendar_are_refused(month: date) -> None:
    program = await new_program()
    with pytest.raises(Refused) as caught:
        await statement(program.id, month)
    assert [(each.code, each.field) for each in caught.value.errors] == [(ErrorCode.INVALID, ("month",))]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
async def test_first_and_last_months_of_the_calendar_are_there(zone: str) -> None:
    program = await new_program(timezone=zone)
    assert (await statement(program.id, date(1970, 1, 1))).closed
    last = await statement(program.id, date(9000, 12, 31))
    assert (last.month, last.lines, last.closed) == (date(9000, 12, 1), (), False)


async def test_other_programs_are_billed_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2024, 3, 10)
    ours, theirs = await new_program(), await new_program()
    await redeemed(theirs, await rich_member(theirs), await new_reward(theirs, "PRODUCT", face_value=3))
    assert (await statement(ours.id, date(2024, 3, 1))).lines == ()


MANY = """
INSERT INTO redemption (id, program_id, member_id, reward_id, reward_name, status, quantity, points,
    face_value, amount, redeem_entry, confirmed_at, ended_at, source, created_at, updated_at)
SELECT gen_random_uuid(), $1, $1, $1, 'Card', CASE n % 3 WHEN 0 THEN 'CANCELLED' ELSE 'USED' END, 1,
    1, 1, 1, n,
    $2::timestamptz + n * interval '1 hour',
    CASE n % 3 WHEN 0 THEN $2::timestamptz + n * interval '2 hours' END, 'test', $2, $2
FROM generate_series(1, 20000) n
"""


def _nodes(plan: dict[str, Any]) -> Iterable[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


async def test_statement_of_a_month_reads_that_month_alone() -> None:
    program = await new_program()
    since, until = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)
    async with connection() as sql:
        await sql.execute(MANY, program.id, datetime(2024, 1, 1, tzinfo=UTC))
        await sql.execute("ANALYZE redemption")
        explain = f"EXPLAIN (FORMAT JSON) {statements._PIECES}"
        plan = json.loads(await sql.fetchval(explain, program.id, since, until))[0]["Plan"]
        await sql.execute("DELETE FROM redemption WHERE program_id = $1", program.id)
    assert {"redemption_billed", "redemption_credited"} <= {each.get("Index Name") for each in _nodes(plan)}
    assert "Seq Scan" not in {each["Node Type"] for each in _nodes(plan)}
