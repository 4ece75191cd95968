"""`laurel import codes`: filling the pool of a voucher or gift card from a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from app.commands.rejects import check_writable, tell_rejects, write_rejects

if TYPE_CHECKING:
    from app.catalog.codes import Uploaded
    from app.imports.codes import CodeFile
    from app.settings import Settings

_SAME_KEY = "set LAUREL_CODES_KEY, or LAUREL_DATA_DIR, to what the API uses"


def codes(
    file: Annotated[
        Path,
        typer.Argument(
            help="A file with one code in each line, or a CSV file: plain, gzip or xz.",
            exists=True,
            dir_okay=False,
        ),
    ],
    program: Annotated[str, typer.Option(help="The program's slug.")],
    reward: Annotated[str, typer.Option(help="The reward's id, as the API tells it.")],
    column: Annotated[
        str | None,
        typer.Option(
            help="Which column of a CSV file with a header holds the codes. [default: the only one]"
        ),
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(help="Where rows go that are turned away. [default: FILE.rejects.csv in this folder]"),
    ] = None,
) -> None:
    """Load codes of a voucher or gift card, in the order in which they are to be given out.

    Can be stopped and run again: codes that the program has already are left alone. Codes are stored
    encrypted; where the API runs with LAUREL_CODES_KEY, this needs the same one. Where no row is
    turned away, the rejects of an earlier run are removed.
    """
    import uvloop

    from app.commands import ready_servers
    from app.imports.codes import CodeFile
    from app.imports.errors import ImportFileError
    from app.keyring import codes_key, has_codes_key
    from app.settings import settings as process_settings

    reward_id = _reward_id(reward)
    target = rejects or Path(f"{file.name}.rejects.csv")
    check_writable(target, file)
    contents = CodeFile(file, column)
    if (known := process_settings()).database_url and not has_codes_key(known):
        # A key made here would be one that the API does not have: nobody could read the codes.
        raise ImportFileError(f"There is no key for codes here: {_SAME_KEY}.")
    with ready_servers(redis=False) as settings:
        task = _Task(file, program, reward_id, contents, codes_key(settings))
        done = uvloop.run(_import(settings, task))
    write_rejects(target, contents.header, contents.rejects)
    typer.echo(f"{'Codes added':24}{done.added:,}")
    typer.echo(f"{'Codes there before':24}{done.duplicates:,}")
    tell_rejects(contents.rejects, target)


def _reward_id(text: str) -> UUID:
    from app.ids import from_global_id

    if (known := from_global_id(text)) and known[0] == "Reward" and isinstance(known[1], UUID):
        return known[1]
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not the id of a reward.", param_hint="--reward") from None


@dataclass(frozen=True)
class _Task:
    """What is to be imported, and where it goes."""

    file: Path
    slug: str
    reward_id: UUID
    contents: "CodeFile"
    key: str


async def _import(settings: "Settings", task: _Task) -> "Uploaded":
    """Read the file and load its codes, one batch after the other; return what came of all of them."""
    from app import database
    from app.catalog.codes import Uploaded, check_pool, upload_codes
    from app.catalog.vault import SealBroken, Vault
    from app.commands.progress import progress_bars
    from app.imports.errors import ImportFileError
    from app.programs.service import named_program

    vault = Vault(task.key)
    added = duplicates = 0
    await database.connect(settings, "laurel-import")
    try:
        program = await named_program(task.slug)
        await check_pool(program.id, task.reward_id)
        with progress_bars() as bars:
            bar = bars.add_task("Codes", total=task.file.stat().st_size)
            for batch in task.contents.batches(lambda position: bars.update(bar, completed=position)):
                done = await upload_codes(program.id, task.reward_id, batch, vault)
                added, duplicates = added + done.added, duplicates + done.duplicates
        return Uploaded(added, duplicates)
    except SealBroken as error:
        raise ImportFileError(
            f"The reward has codes that were encrypted with another key: {_SAME_KEY}."
        ) from error
    finally:
        await database.disconnect()
