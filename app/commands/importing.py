"""`laurel import`: bringing in what a retailer's systems have written into files."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.importing_codes import codes
from app.commands.rejects import check_writable, tell_rejects, write_rejects

if TYPE_CHECKING:
    from rich.progress import Progress

    from app.imports.purchases import Contents
    from app.imports.rows import Reject
    from app.imports.summary import ReturnsSummary, Summary
    from app.programs.policy import ProgramPolicy
    from app.settings import Settings

app = typer.Typer(help="Bring in data from files.", no_args_is_help=True)
app.command()(codes)

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
    return_prefix: Annotated[
        list[str] | None,
        typer.Option(
            help="Orders whose id starts with this are returns: all their quantities are negative."
            " May be given several times; --skip-prefix comes first."
        ),
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
    """Import purchases and returns: lines are grouped by order, and each order counts as if it were told.

    Times without an offset are the program's; line amounts are quantity times unit price, rounded
    half up to the currency's digits. Each member's orders are recorded in the order in which they
    happened, those of the same time in the order of the file. Returns are matched to what the member
    bought of the same SKUs before: the latest purchase first.

    Can be stopped and run again: what is there already is recognised by its order id. An order with
    a bad row is turned away as a whole. Where no row is turned away, the rejects of an earlier run
    are removed.
    """
    import uvloop

    from app.commands import ready_servers
    from app.imports.rows import rejected_rows

    target = rejects or Path(f"{file.name}.rejects.csv")
    names = _columns(columns)
    check_writable(target, file)
    task = _Task(file, program, names, enroll, skip_prefix or (), return_prefix or (), time_format, target)
    with ready_servers(redis=False) as settings:
        contents, summary = uvloop.run(_import(settings, task))
    refused = rejected_rows(file, summary.refused)
    write_rejects(target, contents.header, refused, append=bool(contents.rejects))
    _print(contents, summary, [*contents.rejects, *refused], target, bool(return_prefix))


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


@dataclass(frozen=True)
class _Task:
    """What is to be imported, and how the file is to be read."""

    file: Path
    slug: str
    columns: dict[str, str]
    enroll: bool
    skip: Sequence[str]
    returns: Sequence[str]
    time_format: str | None
    rejects: Path


async def _import(settings: "Settings", task: _Task) -> tuple["Contents", "Summary"]:
    """Read the file, record what it holds, and write its bad rows meanwhile."""
    from app import database
    from app.commands.progress import progress_bars
    from app.programs.policies import recent_policy
    from app.programs.service import named_program

    await database.connect(settings, "laurel-import")
    try:
        policy = await recent_policy((await named_program(task.slug)).id)
        with progress_bars() as bars:
            contents = _read(bars, task, policy)
            # Beside the recording, and there even if that is interrupted.
            writing = asyncio.create_task(
                asyncio.to_thread(write_rejects, task.rejects, contents.header, contents.rejects)
            )
            summary = await _record(bars, task, policy, contents)
            await writing
        return contents, summary
    finally:
        await database.disconnect()


def _read(bars: "Progress", task: _Task, policy: "ProgramPolicy") -> "Contents":
    from app.imports.purchases import read_purchases
    from app.money import MINOR_DIGITS

    size = os.stat(task.file).st_size
    bar = bars.add_task("Reading", total=size)
    contents = read_purchases(
        task.file,
        task.columns,
        policy.zone,
        MINOR_DIGITS[policy.currency],
        task.skip,
        task.time_format,
        lambda position: bars.update(bar, completed=position),
        task.returns,
    )
    bars.update(bar, completed=size)
    return contents


async def _record(bars: "Progress", task: _Task, policy: "ProgramPolicy", contents: "Contents") -> "Summary":
    from app.imports.service import import_purchases

    bar = bars.add_task("Orders", total=len(contents.orders))
    return await import_purchases(
        policy.program_id, contents.orders, enroll=task.enroll, advance=lambda n: bars.advance(bar, n)
    )


def _print(
    contents: "Contents",
    summary: "Summary",
    rejects: Sequence["Reject"],
    target: Path,
    with_returns: bool,
) -> None:
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
        *(_returns(summary.returns) if with_returns else ()),
    ]
    for name, value in rows:
        typer.echo(f"{name:24}{value}")
    tell_rejects(rejects, target)


def _returns(returns: "ReturnsSummary") -> list[tuple[str, str]]:
    """Return the lines about returns; pieces and points are those of earlier runs, too."""
    return [
        ("Returns imported", f"{returns.orders:,}"),
        ("Returns there before", f"{returns.known_orders:,}"),
        ("Pieces taken back", f"{returns.matched:,f}"),
        ("Pieces never bought", f"{returns.unmatched:,f} (no purchase before was found)"),
        ("Points taken back", f"{returns.points:,} ({returns.debt:,} of them are owed)"),
        ("Points written off", f"{returns.written_off:,}"),
    ]
