"""`laurel keys`: API keys for the operator of an installation, who needs no key for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import UUID

import typer

if TYPE_CHECKING:
    from app.access.models import ApiKey
    from app.programs.models import Program

app = typer.Typer(help="Make, list and revoke the API keys of a program.", no_args_is_help=True)

T = TypeVar("T")

_PROGRAM = Annotated[str, typer.Option(help="The program's slug.")]


@app.command()
def create(
    program: _PROGRAM,
    name: Annotated[str, typer.Option(help="What the key is for, 1 to 100 characters.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="A scope, such as members:read; may be given several times. [default: all]"),
    ] = None,
) -> None:
    """Make a key and print its secret, which cannot be shown again."""
    from app.access.keys import create_api_key
    from app.access.scopes import PROGRAM_SCOPES

    async def work() -> tuple["ApiKey", str]:
        owner = await _program(program)
        return await create_api_key(owner.id, name, scope or sorted(PROGRAM_SCOPES))

    key, secret = _run(work)
    typer.echo(secret)
    typer.echo(f"{key.name}: {', '.join(key.scopes)}. Keep the secret: it is not stored.", err=True)


@app.command(name="list")
def list_keys(program: _PROGRAM) -> None:
    """List the keys of a program, oldest first, revoked ones among them."""
    from rich.console import Console
    from rich.table import Table

    from app.ids import to_global_id

    async def work() -> list["ApiKey"]:
        return await _all_keys((await _program(program)).id)

    table = Table(box=None)
    # Ids are copied out of it: they must not be cut to the width of a terminal.
    table.add_column("Id", no_wrap=True)
    for title in ("Begins with", "Name", "Scopes", "Made", "Last used", "Revoked"):
        table.add_column(title, overflow="fold")
    for key in _run(work):
        times = (
            f"{at:%Y-%m-%d %H:%M} UTC" if at else ""
            for at in (key.created_at, key.last_used_at, key.revoked_at)
        )
        table.add_row(to_global_id("ApiKey", key.id), key.prefix, key.name, " ".join(key.scopes), *times)
    console = Console()
    Console(width=console.width if console.is_terminal else 400).print(table)


@app.command()
def revoke(key: Annotated[str, typer.Argument(metavar="ID", help="As `laurel keys list` shows it.")]) -> None:
    """End a key for good; one that has ended stays as it is."""
    from app.access.keys import program_of_key, revoke_api_key
    from app.errors import ErrorCode, refuse

    async def work() -> "ApiKey":
        key_id = _key_id(key)
        program_id = await program_of_key(key_id) if key_id else None
        if key_id is None or program_id is None:
            raise refuse(ErrorCode.NOT_FOUND, f"There is no key {key}.")
        return await revoke_api_key(program_id, key_id)

    revoked = _run(work)
    typer.echo(f"{revoked.prefix}… ({revoked.name}) opens nothing any more.")


def _key_id(text: str) -> UUID | None:
    from app.ids import from_global_id

    known = from_global_id(text)
    if known and known[0] == "ApiKey" and isinstance(known[1], UUID):
        return known[1]
    try:
        return UUID(text)
    except ValueError:
        return None


async def _program(slug: str) -> "Program":
    from app.errors import ErrorCode, refuse
    from app.programs.service import find_program

    found = await find_program(slug)
    if found is None:
        raise refuse(ErrorCode.NOT_FOUND, f"There is no program {slug}.")
    return found


async def _all_keys(program_id: UUID) -> list["ApiKey"]:
    from app.access.keys import list_api_keys
    from app.paging import MAX_SIZE, make_page

    keys: list[ApiKey] = []
    while True:
        page = await list_api_keys(program_id, make_page(MAX_SIZE, after=(keys[-1].id,) if keys else None))
        keys += page.items
        if not page.has_next:
            return keys


def _run(work: Callable[[], Awaitable[T]]) -> T:
    """Do something with the database of this installation, which must be up to date."""
    from app import database, logs
    from app.embedded import command_servers
    from app.errors import Unavailable
    from app.migrate import pending
    from app.settings import Settings, settings

    async def connected(resolved: Settings) -> T:
        if await pending(resolved):
            raise Unavailable("The database is not up to date: run `laurel migrate` first.")
        await database.connect(resolved, "laurel-keys")
        try:
            return await work()
        finally:
            await database.disconnect()

    logs.configure(settings())
    with command_servers(settings()) as resolved:
        return asyncio.run(connected(resolved))
