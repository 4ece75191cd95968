"""The rows of a CSV file as they stand there: opening it, and finding rows again. Nothing else."""

import csv
import gc
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

from app.imports.errors import ImportFileError

BROKEN = (csv.Error, EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error)
"""What reading rows raises of a file that is not CSV, or that was packed and is cut short or damaged."""

_ESCAPED = re.compile("[\udc80-\udcff]")
"""What stands for a byte that is not UTF-8, as errors="surrogateescape" puts it."""


class Reject(NamedTuple):
    """A row that was not imported, and why."""

    number: int
    row: Sequence[str]
    reason: str


def is_escaped(row: Sequence[str]) -> bool:
    """Tell whether a row that was read with surrogateescape holds bytes that are not UTF-8."""
    return _ESCAPED.search("".join(row)) is not None


def open_text(path: Path, errors: str = "surrogateescape") -> tuple[io.TextIOWrapper, IO[bytes]]:
    """Open a CSV file that may be packed with gzip or xz, whatever its name says.

    Args:
        errors: what becomes of bytes that are not UTF-8, as `open` takes it.

    Returns:
        The text to read, and the file below it, whose position tells the progress.

    Raises:
        OSError: it cannot be opened.
    """
    raw = path.open("rb")
    magic = raw.read(6)
    raw.seek(0)
    stream: IO[bytes] = raw
    if magic.startswith(b"\x1f\x8b"):
        stream = cast("IO[bytes]", gzip.open(raw))  # noqa: SIM115 - closed by whoever reads the text
    elif magic == b"\xfd7zXZ\x00":
        stream = lzma.open(raw)  # noqa: SIM115
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors=errors, newline=""), raw


def unreadable(number: int, error: Exception) -> ImportFileError:
    """Return what to tell an operator about one of BROKEN.

    Args:
        number: of the last row that could be read; 0 for none.
    """
    if isinstance(error, csv.Error):
        # The reader could go on, but not say what it has swallowed: mostly a quote is not closed.
        return ImportFileError(f"Row {number + 1} cannot be read as CSV: {error}.")
    return ImportFileError(f"After row {number} the file cannot be read: {error}")


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector from going through ever more rows, none of which is garbage.

    It would take half of the time, then and whenever it comes by later.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def rejected_rows(path: Path, reasons: Mapping[int, str]) -> list[Reject]:
    """Return rows of a file that are turned away after all: they are few, and not kept until then.

    Args:
        reasons: why, by number of row.

    Raises:
        OSError: the file cannot be read any more.
    """
    if not reasons:
        return []
    text, raw = open_text(path)
    with raw, text:
        rows = enumerate(csv.reader(text), start=1)
        return [Reject(number, row, reasons[number]) for number, row in rows if number in reasons]
