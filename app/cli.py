"""The command line: `laurel run` for everything at once, one command for each part of it."""

import sys
from typing import Annotated

import typer

from app.commands import demo, importing, keys, prepared, use, verify

HELP = """A self-hosted engine for rewards programs.

`laurel run` starts everything on this machine. A deployment sets DATABASE_URL and REDIS_URL and
runs `laurel migrate` once for each version, `laurel serve` and `laurel work` as often as it needs.

Settings are environment variables: DATABASE_URL, REDIS_URL, LAUREL_DATA_DIR, LAUREL_HOST,
LAUREL_PORT, LAUREL_ADMIN_KEY, LAUREL_SECRET_KEY, LAUREL_CODES_KEY, LAUREL_LOG_FORMAT,
LAUREL_LOG_LEVEL and more.
"""

app = typer.Typer(
    name="laurel",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.command()
def run() -> None:
    """Start everything on this machine: PostgreSQL and Redis where none is set, the API, a worker.

    Migrates the database, fills an empty one with a demo program, keeps everything running, and
    stops it in order on Ctrl-C. Data is kept in `.laurel`, or in LAUREL_DATA_DIR.
    """
    from app import supervisor

    raise typer.Exit(supervisor.run(prepared()))


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. [default: LAUREL_HOST, or 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port to listen on. [default: LAUREL_PORT, or 8000]"),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that share the port; one for each core.")
    ] = 1,
) -> None:
    """Serve the API, subscriptions included, on one port. Any number can stand behind a load balancer.

    Uses DATABASE_URL and REDIS_URL, or the servers of a running `laurel run`. On SIGTERM requests under
    way get 20 seconds. What can wait is done by `laurel work`.
    """
    known = prepared()
    from app.embedded import resolve_servers
    from app.serving import serve as serve_api

    resolved = resolve_servers(known)
    use(resolved)
    update = {"host": host or known.host, "port": port or known.port}
    serve_api(resolved.model_copy(update=update), processes=processes)


@app.command()
def work(
    queues: Annotated[
        str,
        typer.Option(
            help="What to do, by the names above, separated by commas: `earning,tiers`. [default: all of it]"
        ),
    ] = "",
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Serve this process's metrics to Prometheus on this port."),
    ] = None,
) -> None:
    """Do what waits, and what goes by the clock. Start as many as you need: each takes its own share.

    Uses DATABASE_URL and REDIS_URL, or the servers of a running `laurel run`. On SIGTERM it finishes what
    is under way, or hands it back, within 30 seconds. The names:

    - **earning**: points for events that were stored to be earned later
    - **tiers**: who has reached a tier, or lost one
    - **referrals**: credits for friends who were brought
    - **transfers**: points that arrive at other members
    - **jobs**: recalculating a program's tiers, and what is retried
    - **sweeps**: what goes by the clock, such as points that mature or expire, birthdays, reservations
    - **messages**: numbers the feed of messages, and delivers webhooks
    """
    known = prepared()
    from app.embedded import resolve_servers
    from app.metrics import serve_metrics
    from workers.main import run as run_worker

    resolved = resolve_servers(known)
    use(resolved)
    if metrics_port is not None:
        serve_metrics(known.host, metrics_port)
    run_worker(resolved, [name.strip() for name in queues.split(",") if name.strip()])


@app.command()
def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with 1 when something is to be done.")
    ] = False,
) -> None:
    """Bring the database's tables up to this version. Safe to run many times and at the same time."""
    import asyncio

    from app.embedded import command_servers
    from app.migrate import migrate as migrate_database
    from app.migrate import pending

    with command_servers(prepared(), redis=False) as resolved:
        if check:
            names = asyncio.run(pending(resolved))
            for name in names:
                print(name)
            raise typer.Exit(1 if names else 0)
        count = asyncio.run(migrate_database(resolved))
    print(f"{count} {'migration' if count == 1 else 'migrations'} applied.")


app.command(name="verify")(verify.verify)
app.command(name="demo")(demo.demo)
app.add_typer(keys.app, name="keys")
app.add_typer(importing.app, name="import")


def main() -> None:
    """Run the command line; what an operator can put right is one line on stderr and exit code 1."""
    try:
        app()
    except Exception as error:
        text = _explain(error)
        if text is None:
            raise
        print(f"laurel: {text}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _explain(error: Exception) -> str | None:
    """Return what to tell an operator about an error; None when it is a defect and needs its traceback."""
    from asyncpg import InvalidAuthorizationSpecificationError, InvalidCatalogNameError
    from asyncpg import PostgresConnectionError as ConnectionLost
    from pydantic import ValidationError
    from redis.exceptions import ConnectionError as RedisAway

    from app.embedded import StartError
    from app.errors import Denied, Refused, Unavailable
    from app.imports.errors import ImportFileError

    if isinstance(error, ValidationError) and error.title == "Settings":
        return "; ".join(
            f"{_variable(str(problem['loc'][0]))}: {problem['msg']}" for problem in error.errors()
        )
    if isinstance(error, (StartError, Refused, Denied, Unavailable, ImportFileError)):
        return str(error)
    if isinstance(error, (InvalidAuthorizationSpecificationError, InvalidCatalogNameError, ConnectionLost)):
        return f"PostgreSQL: {error}"
    if isinstance(error, RedisAway):
        return f"Redis: {error}"
    if isinstance(error, (ConnectionError, PermissionError)):
        return str(error)
    return None


def _variable(field: str) -> str:
    return field if field.isupper() else f"LAUREL_{field.upper()}"


if __name__ == "__main__":
    main()
