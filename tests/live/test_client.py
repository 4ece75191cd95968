"""The npm package graphql-ws, run by Node.js, subscribes, comes back with a fresh token, misses nothing."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app import clock
from app.access.tokens import MemberTokens
from app.keyring import secret_key
from app.settings import Settings
from app.web.build import BuildError, Node, find_node
from tests.api.client import World, uuid_of

CLIENT = Path(__file__).parent / "client"
INSTALL = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
INSTALL_SECONDS = 90


@pytest.fixture
async def node(tmp_path: Path) -> Node:
    """A Node.js with graphql-ws installed in the test's folder."""
    try:
        node = find_node()
    except BuildError:
        pytest.skip("graphql-ws needs Node.js, and there is none")
    for file in CLIENT.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    process = await asyncio.create_subprocess_exec(
        *node.npm,
        *INSTALL,
        cwd=tmp_path,
        env=node.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(INSTALL_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        out, _ = await process.communicate()
    if process.returncode:
        pytest.skip(f"the npm package graphql-ws cannot be had here: {out.decode().strip()[-300:]}")
    return node


class Client:
    """The client, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def hear(self) -> list[Any]:
        assert self.process.stdout
        async with asyncio.timeout(10):
            line = await self.process.stdout.readline()
        said: list[Any] = json.loads(line)
        return said

    async def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"\n")
        async with asyncio.timeout(10):
            assert await self.process.wait() == 0


@pytest.fixture
async def tokens(world: World, settings: Settings) -> list[str]:
    """A token that runs out in three seconds, and one that does not."""
    issued = clock.now() - timedelta(seconds=57)
    made = MemberTokens(secret_key(settings)).issue(world.program_id, uuid_of(world.member), 60, issued)
    return [made.token, world.token]


@pytest.fixture
async def client(node: Node, tmp_path: Path, url: str, tokens: list[str]) -> AsyncIterator[Client]:
    said = json.dumps({"url": url.replace("http", "ws", 1) + "/graphql", "tokens": tokens})
    process = await asyncio.create_subprocess_exec(
        str(node.executable),
        "client.js",
        said,
        cwd=tmp_path,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Client(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_client_from_npm_subscribes_and_comes_back_with_a_fresh_token(
    client: Client, world: World
) -> None:
    # Queries of the same connection may be answered before the subscription, or after it.
    first = [await client.hear() for _ in range(4)]
    assert sorted(first, key=str) == [
        ["balance", {"available": 0}],
        ["forbidden", "FORBIDDEN"],
        ["query", {"viewer": {"externalId": world.external_id}}],
        ["syntax", "GRAPHQL_PARSE_FAILED"],
    ]
    await world.adjust(5)
    assert await client.hear() == ["balance", {"available": 5}]
    assert await client.hear() == ["closed", 4403, "The member token has expired"]
    assert await client.hear() == ["balance", {"available": 5}]
    await world.adjust(1)
    assert await client.hear() == ["balance", {"available": 6}]
    await client.end()


def test_lock_file_names_no_host() -> None:
    assert "http" not in (CLIENT / "package-lock.json").read_text()
