"""All benchmarks and one table: `python -m tests.benchmarks [names…] [--quick]`.

Each figure is a ratio to a limit that was measured in the same run, in turns. Nothing here fails on
a slow day: the exit code is 0 unless a benchmark itself breaks.
"""

import argparse
import importlib
import os
import platform
import sys
import time
import traceback

from tests.benchmarks.harness import Figure, run, running_servers

NAMES = (
    "importing",
    "ledger",
    "http",
    "redeeming",
    "worker",
    "tiers",
    "sweeping",
    "live",
    "engine",
    "rules",
    "graphql_layer",
)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


def _print(figures: list[Figure]) -> None:
    rows = [("what", "ours", "limit", "", "ratio", "goal", "", "the limit is")]
    for each in figures:
        goal, reached = "", ""
        if each.goal is not None:
            goal = f"{'<=' if each.at_most else '>='} {each.goal:g}"
            reached = "ok" if each.reached else "missed"
        ours, limit = _number(each.ours), _number(each.limit)
        rows.append((each.name, ours, limit, each.unit, f"{each.ratio:.2f}", goal, reached, each.against))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if column in (1, 2, 4) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
        if number:
            for note in figures[number - 1].notes:
                print(f"    {note}")


def main() -> int:
    """Run what was asked for, and print one table of it all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}; all when left out")
    parser.add_argument("--quick", action="store_true", help="shorter and fewer rounds: a first impression")
    parser.add_argument("--file", help="for importing: the file of purchases; else LAUREL_BENCH_FILE")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.names) - set(NAMES))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    if chosen.file:
        os.environ["LAUREL_BENCH_FILE"] = os.path.abspath(chosen.file)
    measured: list[Figure] = []
    broken = []
    with running_servers() as servers:
        version = run(servers.version())
        for name in chosen.names or NAMES:
            print(f"{name} …", file=sys.stderr, flush=True)
            started = time.monotonic()
            try:
                measured += importlib.import_module(f"tests.benchmarks.{name}").figures(servers, chosen.quick)
            except Exception:
                traceback.print_exc()
                broken.append(name)
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(
        f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
        f", PostgreSQL {version}, fsync on, load {os.getloadavg()[0]:.1f}"
    )
    _print(measured)
    if broken:
        print(f"Broken: {', '.join(broken)}.")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
