"""`laurel verify`: proving the books."""

import asyncio
from typing import Annotated

import typer


def verify(
    program: Annotated[str | None, typer.Option(help="A program's slug. [default: all programs]")] = None,
) -> None:
    """Compute every balance, lot and award again, and compare with what is kept.

    Reads one snapshot of the database, beside live traffic. Exits with 1 when anything disagrees.
    """
    from app.commands import ready_servers

    with ready_servers(redis=False) as settings:
        differences = asyncio.run(_verify(settings, program))
    if differences:
        typer.echo(f"\n{differences} differences.", err=True)
        raise typer.Exit(1)
    typer.echo("\nNo difference.")


async def _verify(settings: object, slug: str | None) -> int:
    from app import database
    from app.ledger.verify import MAX_FINDINGS
    from app.ledger.verify import verify as verify_books
    from app.programs.service import named_program

    await database.connect(settings, "laurel-verify")  # type: ignore[arg-type]
    try:
        program_id = (await named_program(slug)).id if slug else None
        total = 0
        async for check, findings in verify_books(program_id):
            typer.echo(f"{'ok' if not findings else 'NO':3} {check}")
            for finding in findings:
                typer.echo(f"      account {finding.account_id}: {finding.kept}; {finding.computed}")
            if len(findings) == MAX_FINDINGS:
                typer.echo(f"      … only the first {MAX_FINDINGS} are shown")
            total += len(findings)
        return total
    finally:
        await database.disconnect()
