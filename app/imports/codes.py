"""Reading a file of codes, one batch after the other."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from app.catalog.codes import MAX_CODES, fault
from app.imports.errors import ImportFileError
from app.imports.rows import BROKEN, Reject, is_escaped, open_text, unreadable

_USUAL_NAME = "code"
_USUAL_NAMES = frozenset({_USUAL_NAME, "codes", "voucher", "vouchers", "coupon", "coupons"})


class CodeFile:
    """A file of codes: one in each row, or in one column of a CSV file with a header.

    Attributes:
        header: of the file, or the usual one where it has none; known from the first batch on.
        rejects: bad rows, so far.
    """

    def __init__(self, path: Path, column: str | None = None) -> None:
        """Name a file: plain, or packed with gzip or xz.

        Args:
            column: the name of the column with the codes; None for a file that has codes and nothing
                else, whose first row may say `code`, `voucher` or the like.
        """
        self._path = path
        self._column = column
        self.header: Sequence[str] = (_USUAL_NAME,)
        self.rejects: list[Reject] = []

    def batches(self, advance: Callable[[int], object] = lambda position: None) -> Iterator[list[str]]:
        """Yield the good codes in their order, without the spaces around them, 10,000 at a time.

        Args:
            advance: is told the position in the file, in bytes of the file as it lies on disk.

        Raises:
            ImportFileError: the file is empty, has no such column, or is not what it seems to be. What
                came before may have been yielded.
            OSError: it cannot be read.
        """
        text, raw = open_text(self._path)
        batch: list[str] = []
        with raw, text:
            for number, row, code in self._codes(csv.reader(text)):
                if reason := self._reason(row, code):
                    self.rejects.append(Reject(number, row, reason))
                    continue
                batch.append(code)
                if len(batch) == MAX_CODES:
                    yield batch
                    advance(raw.tell())
                    batch = []
            if batch:
                yield batch
            advance(raw.tell())

    def _codes(self, rows: Iterator[list[str]]) -> Iterator[tuple[int, Sequence[str], str]]:
        """Yield each row that is not blank with its number and what stands where its code should be."""
        at, number = None, 0
        try:
            for number, row in enumerate(rows, start=1):
                if not any(cell.strip() for cell in row):
                    continue
                if at is None:
                    at, is_header = self._begin(row)
                    if is_header:
                        continue
                yield number, row, row[at].strip() if at < len(row) else ""
        except BROKEN as error:
            raise unreadable(number, error) from error
        if at is None:
            raise ImportFileError("The file is empty.")

    def _begin(self, first: Sequence[str]) -> tuple[int, bool]:
        """Return in which column the codes are, and whether the first row is a header."""
        names = [name.strip() for name in first]
        if self._column is None:
            if len(names) > 1:
                raise ImportFileError(
                    f"The file has {len(names)} columns: say with --column which of them holds the codes."
                )
            if is_header := names[0].casefold() in _USUAL_NAMES:
                self.header = first
            return 0, is_header
        if is_escaped(names):
            raise ImportFileError("The first row is not UTF-8: save the file as CSV in UTF-8.")
        if names.count(self._column) > 1:
            raise ImportFileError(f"The file has more than one column {self._column!r}.")
        if self._column not in names:
            raise ImportFileError(f"The file has no column {self._column!r}; it has: {', '.join(names)}.")
        self.header = first
        return names.index(self._column), True

    def _reason(self, row: Sequence[str], code: str) -> str | None:
        """Return why a row is turned away; None for a good one."""
        if len(row) != (width := len(self.header)):
            return f"The row has {len(row)} columns, and the first row has {width}."
        if not code:
            return "The row has no code."
        # A byte that is not UTF-8 is never printable, so that good codes need not be searched for it.
        wrong = fault(code)
        return "The row is not UTF-8." if wrong and is_escaped(row) else wrong
