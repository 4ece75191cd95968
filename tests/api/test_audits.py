"""The endpoint passes all audits of graphql-http, run by Node.js against the application on a real port."""

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn

from app.web.build import BuildError, Node, find_node
from tests.api.client import Api

AUDITS = Path(__file__).parent / "audits"
INSTALL = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")


async def _run(node: Node, folder: Path, *command: str, seconds: float) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=node.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return -1, "", f"{command[0]} took more than {seconds} seconds"
    return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
async def node(tmp_path: Path) -> Node:
    """A Node.js with the audits installed in the test's folder."""
    try:
        node = find_node()
    except BuildError:
        pytest.skip("the audits of graphql-http need Node.js, and there is none")
    for name in (".npmrc", "package.json", "package-lock.json", "audit.js"):
        shutil.copy(AUDITS / name, tmp_path)
    code, out, err = await _run(node, tmp_path, *node.npm, *INSTALL, seconds=90)
    if code:
        pytest.skip(f"the npm package graphql-http cannot be had here: {(err or out).strip()[-300:]}")
    return node


@pytest.fixture
async def address(api: Api) -> AsyncIterator[str]:
    """The application on a free port of this machine."""
    config = uvicorn.Config(
        api.application, lifespan="off", log_config=None, access_log=False, http="httptools", loop="none"
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/graphql"
        server.should_exit = True
        await serving


async def test_endpoint_passes_all_61_audits_of_graphql_http(
    node: Node, address: str, tmp_path: Path
) -> None:
    code, out, err = await _run(node, tmp_path, str(node.executable), "audit.js", address, seconds=60)
    assert code == 0, err
    results = json.loads(out)
    assert [each for each in results if each["status"] != "ok"] == []
    assert len(results) == 61


def test_lock_file_names_no_host() -> None:
    assert "http" not in (AUDITS / "package-lock.json").read_text().replace("graphql-http", "")
