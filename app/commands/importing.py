"""`laurel import`: bringing in what a retailer's systems have written into files."""

import asyncio
import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.imports.purchases import Contents, Reject
    from app.imports.service import Summary
    from app.settings import Settings

app = typer.Typer(help="Bring in data from files.", no_args_is_help=True)

_COLUMNS_HELP = (
    "Which column of the file holds what, as name=Column,name=Column. The names: order_id, member_id,"
    " occurred_at, sku, quantity, unit_price; optional: name, category, brand, and amount (of the whole line,"
    " in place of quantity times unit_price). A name that is also the column's need not be given."
)

# What people type before they have read the help.
_ALSO_KNOWN_AS = {
    "order": "order_id",
    "external_id": "order_id",
    "member": "member_id",
    "customer": "member_id",
    "customer_id": "member_id",
    "time": "occurred_at",
    "date": "occurred_at",
    "price": "unit_price",
    "description": "name",
}


@app.command()
def purchases(
    file: Annotated[
        Path,
        typer.Argument(help="A CSV file of purchase lines: plain, gzip or xz.", exists=True, dir_okay=False),
    ],
    program: Annotated[str, typer.Option(help="The program's slug.")],
    columns: Annotated[str, typer.Option(help=_COLUMNS_HELP)] = "",
    enroll: Annotated[
        bool, typer.Option("--enroll", help="Enrol members who are not there yet, as of their first order.")
    ] = False,
    skip_prefix: Annotated[
        list[str] | None,
        typer.Option(help="Leave out orders whose id starts with this; may be given several times."),
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option(help="How times are written, such as '%d/%m/%Y %H:%M'. [default: ISO 8601]"),
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(help="Where rows go that are turned away. [default: FILE.rejects.csv in this folder]"),
    ] = None,
) -> None:
    """Import purchases: lines are grouped by order, and each order earns as if it were recorded.

    Times without an offset are the program's; line amounts are quantity times unit price, rounded
    half up to the currency's digits. Can be stopped and run again: what is there already is
    recognised by its order id. An order with a bad row is turned away as a whole. Where no row is
    turned away, the rejects of an earlier run are removed.
    """
    import uvloop

    from app.commands import ready_servers
    from app.imports.purchases import rejected_rows

    target = rejects or Path(f"{file.name}.rejects.csv")
    names = _columns(columns)
    _check_writable(target, file)
    with ready_servers(redis=False) as settings:
        contents, summary = uvloop.run(
            _import(settings, file, program, names, enroll, skip_prefix or [], time_format, target)
        )
    refused = rejected_rows(file, summary.refused)
    _write_rejects(target, contents.header, refused, append=bool(contents.rejects))
    _print(contents, summary, [*contents.rejects, *refused], target)


def _check_writable(target: Path, file: Path) -> None:
    """Find out that rejects cannot be written before anything is recorded; leave what is there as it is."""
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


def _unwritable(target: Path, error: OSError) -> Exception:
    from app.imports.errors import ImportFileError

    return ImportFileError(f"The rejects cannot be written to {target}: {error.strerror or error}.")


def _columns(text: str) -> dict[str, str]:
    from app.imports.purchases import COLUMNS

    columns = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = part.partition("=")
        name = _ALSO_KNOWN_AS.get(name.strip(), name.strip())
        if not equals or name not in COLUMNS:
            message = f"{part!r}: write name=Column, with a name among {', '.join(COLUMNS)}."
            raise typer.BadParameter(message, param_hint="--columns")
        columns[name] = column.strip()
    return columns


async def _import(
    settings: "Settings",
    file: Path,
    slug: str,
    columns: dict[str, str],
    enroll: bool,
    skip: Sequence[str],
    time_format: str | None,
    target: Path,
) -> tuple["Contents", "Summary"]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from app import database
    from app.imports.purchases import read_purchases
    from app.imports.service import import_purchases
    from app.money import MINOR_DIGITS
    from app.programs.policies import recent_policy
    from app.programs.service import named_program

    await database.connect(settings, "laurel-import")
    size = os.stat(file).st_size
    bar = (TextColumn("{task.description:8}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    console = Console(stderr=True)
    try:
        policy = await recent_policy((await named_program(slug)).id)
        # Only for people: whoever keeps the output wants nothing but what went wrong.
        with Progress(
            *bar,
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        ) as progress:
            reading = progress.add_task("Reading", total=size)
            contents = read_purchases(
                file, columns, policy.zone, MINOR_DIGITS[policy.currency], skip, time_format,
                lambda position: progress.update(reading, completed=position),
            )  # fmt: skip
            progress.update(reading, completed=size)
            # Beside the recording, and there even if that is interrupted.
            writing = asyncio.create_task(
                asyncio.to_thread(_write_rejects, target, contents.header, contents.rejects)
            )
            recording = progress.add_task("Orders", total=len(contents.orders))
            summary = await import_purchases(
                policy.program_id,
                contents.orders,
                enroll=enroll,
                advance=lambda n: progress.advance(recording, n),
            )
            await writing
        return contents, summary
    finally:
        await database.disconnect()


def _write_rejects(
    target: Path, header: Sequence[str], rejects: Sequence["Reject"], append: bool = False
) -> None:
    """Write the rows that were turned away as they were, with two columns more: which row, and why.

    Without any, a file that an earlier run has left is removed.
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


def _write_rows(file: IO[str], header: Sequence[str], rejects: Sequence["Reject"], append: bool) -> None:
    writer = csv.writer(file)
    if not append:
        writer.writerow([*header, "row", "reason"])
    width = len(header)
    writer.writerows(
        (*row, number, reason) if len(row) >= width else (*row, *[""] * (width - len(row)), number, reason)
        for number, row, reason in rejects
    )


def _print(contents: "Contents", summary: "Summary", rejects: Sequence["Reject"], target: Path) -> None:
    from collections import Counter

    rows = [
        ("Orders imported", f"{summary.orders:,}"),
        ("Orders there before", f"{summary.known_orders:,}"),
        ("Lines imported", f"{summary.lines:,}"),
        ("Amount imported", f"{summary.amount:,.2f}"),
        ("Members", f"{len(summary.members):,}"),
        ("Members enrolled", f"{summary.enrolled:,}"),
        ("Points of these orders", f"{summary.points:,}"),
        (
            "Orders left out",
            f"{contents.skipped_orders:,} ({contents.skipped_lines:,} lines, by --skip-prefix)",
        ),
        ("Orders not earned", f"{summary.rejected_by_rules:,}"),
        ("Rows turned away", f"{len(rejects):,}"),
    ]
    for name, value in rows:
        typer.echo(f"{name:24}{value}")
    kinds: Counter[str] = Counter()
    for reason, count in Counter(reject.reason for reject in rejects).items():
        kinds[_kind(reason)] += count
    for reason, count in kinds.most_common(10):
        typer.echo(f"  {count:>10,}  {reason}")
    if rejects:
        typer.echo(f"They are in {target}, each with its reason.")


def _kind(reason: str) -> str:
    """Return a reason without what differs from row to row, so that it can be counted."""
    import re

    return re.sub(r"'[^']*'|(?<!\w-)\b\d(?:[\d.,]*\d)?\b", "…", reason)
