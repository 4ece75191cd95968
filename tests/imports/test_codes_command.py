"""`laurel import codes` as an operator runs it, and how it reads files."""

import asyncio
import csv
import gzip
import lzma
import os
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.catalog.codes import MAX_CODES
from app.catalog.vault import Vault
from app.database import connection
from app.ids import new_id, to_global_id
from app.imports.codes import CodeFile
from app.imports.errors import ImportFileError
from app.programs.models import Program
from app.settings import Settings
from tests.catalog.making import new_reward
from tests.helpers import new_program

KEY = "the key of this installation"


class Shell:
    """Runs the command for one reward, in a folder of its own."""

    def __init__(self, settings: Settings, folder: Path, program: Program, reward_id: UUID) -> None:
        self.folder, self.program, self.reward_id = folder, program, reward_id
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "LAUREL_DATABASE_URL": settings.database_url or "",
            "LAUREL_DATA_DIR": str(folder / "data"),
            "LAUREL_CODES_KEY": KEY,
        }

    async def run(self, *arguments: str, reward: str | None = None) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app.cli", "import", "codes", *arguments),
            *("--program", self.program.slug, "--reward", reward or str(self.reward_id)),
            cwd=self.folder,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        return process.returncode or 0, output.decode(), errors.decode()

    async def counts(self, *arguments: str, reward: str | None = None) -> tuple[int, int, int]:
        """Run the command, which has to succeed, and return the numbers that it tells."""
        code, output, errors = await self.run(*arguments, reward=reward)
        assert (code, errors) == (0, "")
        said = {line[:24].strip(): line[24:] for line in output.splitlines()}
        added, before, away = (
            int(said[name].replace(",", ""))
            for name in ("Codes added", "Codes there before", "Rows turned away")
        )
        return added, before, away

    async def pool(self) -> list[str]:
        async with connection() as sql:
            rows = await sql.fetch(
                "SELECT id, sealed FROM reward_code WHERE reward_id = $1 ORDER BY id", self.reward_id
            )
        return [Vault(KEY).open(row["sealed"], row["id"]).decode() for row in rows]


@pytest.fixture
async def shell(settings: Settings, tmp_path: Path) -> Shell:
    program = await new_program()
    return Shell(settings, tmp_path, program, await new_reward(program))


def _read(path: Path, content: bytes | str, column: str | None = None) -> tuple[list[str], CodeFile]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    file = CodeFile(path, column)
    return [code for batch in file.batches() for code in batch], file


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
@pytest.mark.parametrize(
    ("content", "column"),
    [
        ("A-1\nB 2\nC-3\n", None),
        ("\ufeff\nCode\r\n\r\n  A-1 \r\nB 2\r\n   \r\nC-3", None),
        ('"code"\n"A-1"\n"B 2"\n"C-3"\n', None),
        ("value,serial code\n10,A-1\n,\n10,B 2\n20, C-3 \n", "serial code"),
        ("code\nA-1\nB 2\nC-3\n", "code"),
    ],
    ids=["lines", "header, BOM, blanks", "quoted", "a column", "the only column"],
)
def test_codes_are_read_from_lines_and_from_columns(
    tmp_path: Path, pack: Any, content: str, column: str | None
) -> None:
    codes, file = _read(tmp_path / "codes", pack(content.encode()), column)
    assert codes == ["A-1", "B 2", "C-3"]
    assert file.rejects == []


def test_a_code_called_code_is_a_header_on_the_first_row_alone(tmp_path: Path) -> None:
    assert _read(tmp_path / "codes", "A\ncode\n")[0] == ["A", "code"]


def test_bad_rows_are_turned_away_each_with_its_reason(tmp_path: Path) -> None:
    content = b"n,code\n1,GOOD\n2,\n3,Caf\xe9\n4,A\tB\n5\n6,A,B\n7," + b"x" * 256 + b"\n\xe9,GOOD TOO\n"
    codes, file = _read(tmp_path / "codes", content, "code")
    assert codes == ["GOOD", "GOOD TOO"]
    assert [(each.number, each.reason) for each in file.rejects] == [
        (3, "The row has no code."),
        (4, "The row is not UTF-8."),
        (5, "A code must have printable characters only."),
        (6, "The row has 1 columns, and the first row has 2."),
        (7, "The row has 3 columns, and the first row has 2."),
        (8, "A code must have between 1 and 255 characters."),
    ]


def test_many_codes_come_in_batches_that_one_call_can_take(tmp_path: Path) -> None:
    path = tmp_path / "codes"
    path.write_text("".join(f"CODE-{n}\n" for n in range(2 * MAX_CODES + 1)))
    told: list[int] = []
    batches = list(CodeFile(path).batches(told.append))
    assert [len(batch) for batch in batches] == [MAX_CODES, MAX_CODES, 1]
    assert told == sorted(told)
    assert told[-1] == path.stat().st_size


@pytest.mark.parametrize(
    ("content", "column", "says"),
    [
        (b"", None, "The file is empty."),
        (b"\n  \n", None, "The file is empty."),
        (b"A,10\nB,20\n", None, "has 2 columns: say with --column"),
        (b"a,b\n1,2\n", "code", "no column 'code'; it has: a, b."),
        (b"code,code\n1,2\n", "code", "more than one column 'code'"),
        (b"code,\xe9\n1,2\n", "code", "The first row is not UTF-8"),
        (gzip.compress(os.urandom(9999).hex().encode() + b"\n")[:-40], None, "the file cannot be read"),
        (b'A\n"B\n' + b"C\n" * 99_999, None, "Row 2 cannot be read as CSV"),
    ],
    ids=["empty", "blank", "columns", "no column", "two", "not UTF-8", "cut short", "open quote"],
)
def test_a_file_that_is_not_one_of_codes_is_told(
    tmp_path: Path, content: bytes, column: str | None, says: str
) -> None:
    with pytest.raises(ImportFileError, match=says):
        _read(tmp_path / "codes", content, column)


async def test_codes_of_a_file_are_in_the_pool_once_however_often_it_is_imported(shell: Shell) -> None:
    codes = [f"CODE-{n}" for n in range(MAX_CODES + 5, 0, -1)]
    (shell.folder / "codes.txt").write_text("\n".join([*codes, "CODE-7"]))
    assert await shell.counts("codes.txt") == (MAX_CODES + 5, 1, 0)
    assert await shell.counts("codes.txt", reward=to_global_id("Reward", shell.reward_id)) == (
        0,
        MAX_CODES + 6,
        0,
    )
    assert await shell.pool() == codes


async def test_rejected_rows_are_kept_until_there_are_none(shell: Shell) -> None:
    path, rejects = shell.folder / "codes.csv", shell.folder / "codes.csv.rejects.csv"
    path.write_bytes(b"serial,value\nA,10\nCaf\xe9,10\n,10\n")
    code, output, errors = await shell.run("codes.csv", "--column", "serial")
    assert (code, errors) == (0, "")
    assert "Rows turned away        2" in output
    assert "They are in codes.csv.rejects.csv, each with its reason." in output
    with rejects.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert list(csv.reader(file)) == [
            ["serial", "value", "row", "reason"],
            ["Caf\udce9", "10", "3", "The row is not UTF-8."],
            ["", "10", "4", "The row has no code."],
        ]
    assert await shell.pool() == ["A"]

    path.write_text("serial,value\nA,10\nB,10\n")
    assert await shell.counts("codes.csv", "--column", "serial") == (1, 1, 0)
    assert not rejects.exists()


async def test_a_reward_that_takes_no_codes_is_one_line_on_stderr(shell: Shell) -> None:
    (shell.folder / "codes.txt").write_text("A\n")
    for reward_id, says in (
        (new_id(), "There is no such reward."),
        (await new_reward(shell.program, "PRODUCT"), "Only vouchers and gift cards have codes."),
    ):
        code, output, errors = await shell.run("codes.txt", reward=str(reward_id))
        assert (code, output, errors) == (1, "", f"laurel: {says}\n")


async def test_an_id_that_is_none_is_told_how_it_was_given(shell: Shell) -> None:
    (shell.folder / "codes.txt").write_text("A\n")
    for wrong in ("summer", to_global_id("Member", shell.reward_id)):
        code, output, errors = await shell.run("codes.txt", reward=wrong)
        assert (code, output) == (2, "")
        assert "is not the id of a reward" in " ".join(errors.replace("│", " ").split())


async def test_no_key_is_made_for_a_database_whose_codes_have_theirs_elsewhere(shell: Shell) -> None:
    (shell.folder / "codes.txt").write_text("A\n")
    del shell.environment["LAUREL_CODES_KEY"]
    code, output, errors = await shell.run("codes.txt")
    assert (code, output) == (1, "")
    assert errors.startswith("laurel: There is no key for codes here: set LAUREL_CODES_KEY")
    assert not (shell.folder / "data").exists()
    assert await shell.pool() == []


async def test_another_key_than_that_of_the_pool_is_told(shell: Shell) -> None:
    (shell.folder / "codes.txt").write_text("A\n")
    await shell.counts("codes.txt")
    shell.environment["LAUREL_CODES_KEY"] = "another key"
    code, output, errors = await shell.run("codes.txt")
    assert (code, output) == (1, "")
    assert errors.startswith("laurel: The reward has codes that were encrypted with another key")
    assert await shell.pool() == ["A"]
