"""`laurel import purchases` of a whole file, against reading it with csv and COPYing the same rows.

The file is LAUREL_BENCH_FILE, else `shared/data/online-retail.csv.xz` beside the checkout, else one
that is made up here in the same shape.
"""

import asyncio
import csv
import io
import lzma
import os
import random
import subprocess
import sys
import time
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg

from app.database import connection
from app.earning.rule_service import create_rule
from app.earning.rules import EventKind, PointsPerAmount, RuleDefinition, RuleStatus
from app.programs.inputs import NewProgram
from app.programs.service import create_program
from app.settings import Settings
from tests.benchmarks.harness import (
    ROOT,
    SLUG,
    Figure,
    Servers,
    connected,
    environment,
    in_turns,
    laurel,
    run,
)

_REAL = ROOT.parent / "shared" / "data" / "online-retail.csv.xz"
_BARE = Path(__file__).with_name("bare_import.py")
_COLUMNS = (
    "order_id=InvoiceNo,member_id=CustomerID,occurred_at=InvoiceDate,sku=StockCode,name=Description,"
    "quantity=Quantity,unit_price=UnitPrice"
)
_HEADER = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
]
_KNOWN = (18_536, 397_924, 4_339, 8_902_670)
"""Purchases, their lines, members and points of the real file."""
_ORDERS, _MEMBERS, _LINES = 26_000, 4_300, 540_000
_DATA = (
    *("program", "member", "event", "event_outcome", "award", "account", "ledger_entry", "lot"),
    *("allocation", "earning_counter"),
)

_COUNTS = """
SELECT (SELECT count(*) FROM event), (SELECT sum(jsonb_array_length(body->'lines')) FROM event)::bigint,
    (SELECT count(*) FROM member), (SELECT sum(available) FROM account)::bigint,
    (SELECT count(*) FROM outbox) + (SELECT count(*) FROM event_queue)
"""


def _made_up(folder: Path, lines: int) -> Path:
    """Write a file of the shape of the real one: orders of 1 to 40 lines, a few returns and bad rows."""
    file = folder / "made-up.csv.xz"
    chance = random.Random(7)
    goods = [
        (f"{20000 + n}", f"ARTICLE {n} IN A BOX", f"{chance.randrange(10, 2000) / 100}") for n in range(4000)
    ]
    moment = datetime(2025, 1, 2, 8)
    per_order = 2 * _LINES // _ORDERS
    with lzma.open(file, "wt", preset=1, newline="") as text:
        writer = csv.writer(text)
        writer.writerow(_HEADER)
        written, order = 0, 500_000
        while written < lines:
            order += 1
            moment += timedelta(minutes=20)
            name = f"{'C' if chance.random() < 0.15 else ''}{order}"
            member = "" if chance.random() < 0.25 else f"{12346 + chance.randrange(_MEMBERS)}.0"
            for _ in range(chance.randrange(1, per_order)):
                sku, description, price = chance.choice(goods)
                amount = chance.randrange(1, 25) * (-1 if name[0] == "C" else 1)
                writer.writerow(
                    [name, sku, description, amount, f"{moment}", price, member, "United Kingdom"]
                )
                written += 1
    return file


def _file(folder: Path, quick: bool) -> Path:
    chosen = os.environ.get("LAUREL_BENCH_FILE")
    if chosen:
        return Path(chosen)
    return _REAL if _REAL.exists() else _made_up(folder, 60_000 if quick else _LINES)


class _Import:
    """The two ways to get a file's purchases into a fresh database."""

    def __init__(self, servers: Servers, file: Path) -> None:
        self._servers = servers
        self._file = file
        self._copies: dict[str, bytes] = {}
        self.counts: tuple[int, ...] = ()
        self.seconds: list[float] = []

    async def ours(self) -> float:
        """Return the seconds from the start of the command until every point is earned."""
        settings = await self._servers.new_database()
        async with connected(settings):
            rate = PointsPerAmount(Decimal(1), Decimal(1))
            rule = RuleDefinition("1 point per pound", EventKind.PURCHASE, points_per_amount=rate)
            program, _ = await create_program(
                NewProgram(slug=SLUG, name="Benchmark", currency="GBP", timezone="Europe/London")
            )
            await create_rule(program.id, rule, RuleStatus.ACTIVE)
        command = laurel("import", "purchases", str(self._file), "--program", SLUG, "--enroll")
        command += ["--skip-prefix", "C", "--columns", _COLUMNS]
        command += ["--rejects", str(self._servers.folder / "rejects.csv")]
        started = time.perf_counter()
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment(settings), capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(f"The import failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        await self._check(settings)
        if not self._copies:
            await self._export(settings)
        await self._servers.drop_database(settings)
        return seconds

    async def _check(self, settings: Settings) -> None:
        async with connected(settings), connection() as sql:
            *counts, waiting = await sql.fetchrow(_COUNTS)
        assert not waiting, f"{waiting} are not earned"
        if self._file.name == _REAL.name:
            assert tuple(counts) == _KNOWN, f"{counts} instead of {_KNOWN}"
        assert self.counts in ((), tuple(counts)), "the same file gave another result"
        self.counts = tuple(counts)

    async def _export(self, settings: Settings) -> None:
        sql = await asyncpg.connect(settings.database_url)
        try:
            for table in _DATA:
                target = io.BytesIO()
                await sql.copy_from_table(table, output=target)
                self._copies[table] = target.getvalue()
        finally:
            await sql.close()

    async def limit(self) -> float:
        """Return the seconds of a bare script: read the whole file, then COPY what ours had written."""
        settings = await self._servers.new_database()
        for table, copy in self._copies.items():
            (self._servers.folder / f"{table}.copy").write_bytes(copy)
        started = time.perf_counter()
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-P", str(_BARE), str(self._file), settings.database_url or "",
             str(self._servers.folder), *self._copies],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(f"The bare script failed:\n{done.stderr[-2000:]}")
        await self._check(settings)
        await self._servers.drop_database(settings)
        return seconds


async def _measure(servers: Servers, quick: bool) -> list[Figure]:
    file = _file(servers.folder, quick)
    importing = _Import(servers, file)
    await importing.ours()
    turns = await in_turns(1 if quick else 3, importing.ours, importing.limit)
    figure = turns.figure(f"import of {file.name}", 3.0, "s", "csv and COPY of the same rows", at_most=True)
    purchases, lines, members, points = importing.counts
    figure.notes.append(
        f"{purchases:,} purchases, {lines:,} lines, {members:,} members, {points:,} points;"
        f" {lines / figure.ours:,.0f} lines/s"
    )
    return [figure]


def figures(servers: Servers, quick: bool) -> list[Figure]:
    """Measure (a)."""
    result: list[Figure] = run(_measure(servers, quick))
    return result
