"""What commands that import files do with rows that are turned away: keep them, each with its reason."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from app.imports.rows import Reject


def check_writable(target: Path, file: Path) -> None:
    """Find out that rejects cannot be written before anything is recorded; leave what is there as it is.

    Args:
        file: what is imported, which must not be overwritten.

    Raises:
        ImportFileError: they cannot.
    """
    from app.imports.errors import ImportFileError

    try:
        there = target.exists()
        if there and target.samefile(file):
            raise ImportFileError(f"The rejects would overwrite {file}: name another file with --rejects.")
        target.open("ab").close()
        if not there:
            target.unlink()
    except OSError as error:
        raise _unwritable(target, error) from error


def write_rejects(
    target: Path, header: Sequence[str], rejects: Sequence["Reject"], append: bool = False
) -> None:
    """Write the rows that were turned away as they were, with two columns more: which row, and why.

    Without any, a file that an earlier run has left is removed.

    Args:
        append: the file has the header, and rejects of this run, already.

    Raises:
        ImportFileError: the file cannot be written.
    """
    try:
        if rejects:
            # Bytes that are not UTF-8 go back as they came.
            with target.open(
                "a" if append else "w", newline="", encoding="utf-8", errors="surrogateescape"
            ) as file:
                _write_rows(file, header, rejects, append)
        elif not append and target.is_file():
            target.unlink()
    except OSError as error:
        raise _unwritable(target, error) from error


def tell_rejects(rejects: Sequence["Reject"], target: Path) -> None:
    """Print how many rows were turned away, the ten commonest reasons, and where the rows are."""
    from collections import Counter

    typer.echo(f"{'Rows turned away':24}{len(rejects):,}")
    kinds: Counter[str] = Counter()
    for reason, count in Counter(reject.reason for reject in rejects).items():
        kinds[_kind(reason)] += count
    for reason, count in kinds.most_common(10):
        typer.echo(f"  {count:>10,}  {reason}")
    if rejects:
        typer.echo(f"They are in {target}, each with its reason.")


def _write_rows(file: IO[str], header: Sequence[str], rejects: Sequence["Reject"], append: bool) -> None:
    writer = csv.writer(file)
    if not append:
        writer.writerow([*header, "row", "reason"])
    width = len(header)
    writer.writerows(
        (*row, number, reason) if len(row) >= width else (*row, *[""] * (width - len(row)), number, reason)
        for number, row, reason in rejects
    )


def _unwritable(target: Path, error: OSError) -> Exception:
    from app.imports.errors import ImportFileError

    return ImportFileError(f"The rejects cannot be written to {target}: {error.strerror or error}.")


def _kind(reason: str) -> str:
    """Return a reason without what differs from row to row, so that it can be counted."""
    import re

    return re.sub(r"'[^']*'|(?<!\w-)\b\d(?:[\d.,]*\d)?\b", "…", reason)
