"""`laurel import purchases` as an operator runs it: what it says, what it leaves behind."""

import asyncio
import csv
import lzma
import os
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from app.database import connection
from app.earning.rule_service import create_rule
from app.earning.rules import EventKind, PointsPerAmount, RuleDefinition, RuleStatus
from app.settings import Settings
from tests.programs.making import make_program

HEADER = "order_id,member_id,occurred_at,sku,quantity,unit_price\n"
GOOD = "1,m,2026-01-02 10:00,A,1,1.00\n"


async def _laurel(settings: Settings, folder: Path, arguments: Sequence[str]) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app.cli", "import", "purchases", *arguments),
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "LAUREL_DATABASE_URL": settings.database_url or "",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def _orders(program_id) -> int:
    async with connection() as sql:
        return await sql.fetchval("SELECT count(*) FROM event WHERE program_id = $1", program_id)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a,b\n1,2\n", "order_id, member_id, occurred_at, sku"),
        (b"", "The file is empty."),
        (lzma.compress((HEADER + GOOD * 5000).encode())[:-40], "the file cannot be read"),
    ],
    ids=["missing column", "empty", "cut short"],
)
async def test_a_file_that_cannot_be_imported_is_one_line_on_stderr(settings, tmp_path, content, says):
    program = await make_program()
    (tmp_path / "f.csv").write_bytes(content)
    code, output, errors = await _laurel(settings, tmp_path, ["f.csv", "--program", program.slug])
    assert (code, output) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith("laurel: ")
    assert says in line


async def test_a_program_that_is_not_there_is_one_line_on_stderr(settings, tmp_path):
    (tmp_path / "f.csv").write_text(HEADER + GOOD)
    code, output, errors = await _laurel(settings, tmp_path, ["f.csv", "--program", "nowhere"])
    assert (code, output, errors) == (1, "", "laurel: There is no program 'nowhere'.\n")


@pytest.mark.parametrize("target", ["no/such/folder.csv", ".", "f.csv"])
async def test_rejects_that_cannot_be_written_are_told_before_anything_is_imported(
    settings, tmp_path, target
):
    program = await make_program()
    (tmp_path / "f.csv").write_text(HEADER + GOOD)
    code, output, errors = await _laurel(
        settings, tmp_path, ["f.csv", "--program", program.slug, "--enroll", "--rejects", target]
    )
    assert (code, output) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith("laurel: The rejects ")
    assert await _orders(program.id) == 0
    assert (tmp_path / "f.csv").read_text() == HEADER + GOOD


async def test_rejects_are_written_as_they_came_and_gone_when_there_are_none(settings, tmp_path):
    program = await make_program()
    path, rejects = tmp_path / "f.csv", tmp_path / "f.csv.rejects.csv"
    bad = b"2,m,2026-01-02 10:00,Caf\xe9,1,1.00\n"
    path.write_bytes((HEADER + GOOD).encode() + bad + b"3,a\tb,2026-01-02 10:00,A,1,1.00\n")
    arguments = ["f.csv", "--program", program.slug, "--enroll"]

    code, output, errors = await _laurel(settings, tmp_path, arguments)
    assert (code, errors) == (0, "")
    assert "The row is not UTF-8." in output
    assert bad.strip() + b",3,The row is not UTF-8." in rejects.read_bytes()
    with rejects.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [*HEADER.strip().split(","), "row", "reason"]
    assert [row[6] for row in rows[1:]] == ["3", "4"]
    assert rows[2][7].startswith("The member cannot be enrolled")
    assert await _orders(program.id) == 1

    path.write_text(HEADER + GOOD)
    code, _, errors = await _laurel(settings, tmp_path, arguments)
    assert (code, errors) == (0, "")
    assert not rejects.exists()


async def test_returns_are_told_in_numbers_that_a_second_run_repeats(settings, tmp_path):
    program = await make_program(currency="GBP", timezone="Europe/London")
    rule = RuleDefinition("Points", EventKind.PURCHASE, points_per_amount=PointsPerAmount(Decimal(1)))
    await create_rule(program.id, rule, RuleStatus.ACTIVE)
    (tmp_path / "f.csv").write_text(
        HEADER
        + "1,m,2026-01-02 10:00,A,5,10.00\n"
        + "C1,m,2026-01-03 10:00,A,-2,12.00\n"
        + "C2,m,2026-01-04 10:00,A,-4,10.00\n"
        + "C3,m,2026-01-05 10:00,A,1,10.00\n"
        + "X1,m,2026-01-05 10:00,A,-1,10.00\n"
    )
    arguments = ["f.csv", "--program", program.slug, "--enroll", "--skip-prefix", "X"]
    arguments += ["--return-prefix", "X", "--return-prefix", "C"]
    said = []
    for _ in range(2):
        code, output, errors = await _laurel(settings, tmp_path, arguments)
        assert (code, errors) == (0, "")
        said.append({line[:24].strip(): line[24:] for line in output.splitlines()[:-2]})
    first, again = said
    assert (first["Returns imported"], first["Returns there before"]) == ("2", "0")
    assert (again["Returns imported"], again["Returns there before"]) == ("0", "2")
    for each in said:
        assert each["Points of these orders"] == "50"
        assert each["Pieces taken back"] == "5"
        assert each["Pieces never bought"] == "1 (no purchase before was found)"
        assert each["Points taken back"] == "50 (0 of them are owed)"
        assert each["Points written off"] == "0"
        assert each["Orders left out"].startswith("1 (1 lines")
        assert each["Rows turned away"] == "1"


async def test_without_returns_nothing_is_said_of_them(settings, tmp_path):
    program = await make_program()
    (tmp_path / "f.csv").write_text(HEADER + GOOD)
    _, output, _ = await _laurel(settings, tmp_path, ["f.csv", "--program", program.slug, "--enroll"])
    assert "Returns" not in output
