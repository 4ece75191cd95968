"""`laurel demo`: the demo program, where there is no other."""

import asyncio

import typer


def demo() -> None:
    """Fill an empty database with the demo program, and print its credentials.

    A database that holds programs is left as it is; if the demo is among them, its credentials are
    printed again.
    """
    from app.commands import ready_servers
    from app.demo import ensure_demo

    with ready_servers(redis=False) as settings:
        found = asyncio.run(ensure_demo(settings))
    if found is None:
        typer.echo("The database holds programs already; nothing was changed.", err=True)
        raise typer.Exit(1)
    typer.echo(f"Demo API key       {found.api_key}")
    typer.echo(f"Demo member token  {found.member_token}")
