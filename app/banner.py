"""What `laurel run` tells the person who started it; never part of the logs, for it holds secrets."""

import sys
from typing import TYPE_CHECKING

from app.keyring import admin_key_file
from app.settings import Settings

if TYPE_CHECKING:
    from app.demo import Demo

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


def reachable_host(settings: Settings) -> str:
    """Return a host under which this machine reaches the API."""
    return _EVERYWHERE.get(settings.host, settings.host)


def address(settings: Settings) -> str:
    """Return the API's address for a person on this machine."""
    host = reachable_host(settings)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def say(line: str) -> None:
    """Print a line for the person at the terminal; a terminal that is gone is no reason to fail."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        pass


def print_banner(settings: Settings, demo: "Demo | None") -> None:
    """Print where everything is, and the demo's credentials ready to paste.

    Args:
        settings: complete, with the servers' addresses.
        demo: its key and token; None when there is no demo program.
    """
    graphql = f"{address(settings)}/graphql"
    lines = ["", f"Laurel is running.  GraphiQL: {graphql}", ""]
    if demo is not None:
        lines += [
            f"  Demo API key       {demo.api_key}",
            f"  Demo member token  {demo.member_token}",
            "",
            "Try it:",
            f"  curl -s {graphql} \\",
            f"    -H 'Authorization: Bearer {demo.api_key}' -H 'Content-Type: application/json' \\",
            """    -d '{"query": "{ program { name currency } }"}'""",
            "",
        ]
    if key_file := admin_key_file(settings):
        lines.append(f"  Administrator's key  {key_file}")
    lines.append(f"  Data                 {settings.data_dir}")
    if (log_folder := settings.data_dir / "postgres" / "log").exists():
        lines.append(f"  PostgreSQL's log     {log_folder}")
    lines += ["", "Ctrl-C stops it.", ""]
    say("\n".join(lines))
