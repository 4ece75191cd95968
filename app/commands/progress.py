"""Progress bars, for people only: whoever keeps the output wants nothing but what went wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def progress_bars() -> "Iterator[Progress]":
    """Lend bars on the terminal, one for each task that is added; none where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description:8}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bars:
        yield bars
