"""GraphiQL opens in a real browser, takes the key, and asks nobody but its own server."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from app.web.static import DIST
from tests.web.stub import GOOD_KEY, Seen, app

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.skipif(not DIST.is_dir(), reason="the web pages are not built: run `make web`"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # The document is printed after so many milliseconds of the page's own time, which stands
    # still while it waits for an answer.
    "--virtual-time-budget=10000",
    "--timeout=20000",
    # As on a machine without internet: no name can be found.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest.fixture
def server() -> Iterator[tuple[str, Seen]]:
    seen = Seen()
    running = uvicorn.Server(uvicorn.Config(app(seen), port=0, log_level="error", ws="none", lifespan="off"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not running.started:
        assert time.monotonic() < deadline, "the stub server did not start"
        time.sleep(0.02)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/graphql", seen
    running.should_exit = True
    thread.join(10)


def open_page(address: str, profile: Path) -> str:
    """Return the document as it is once the page has come to rest."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_page_opens_with_the_ready_queries_and_asks_only_its_own_server(
    server: tuple[str, Seen], tmp_path: Path
) -> None:
    address, seen = server
    page = open_page(address, tmp_path)
    for title in (
        "YourProgramAndRules",
        "WhatWouldTheyGet",
        "MemberAndWhy",
        "HowFarToTheNextTier",
        "WhatHappened",
        "RecordPurchase",
        "EnrollMember",
        "WatchABalance",
    ):
        assert title in page
    assert "API key or member token" in page
    assert "No key" in page
    assert "monaco-editor" in page
    assert seen.violations == []
    assert [credential for _, credential in seen.credentials] == [None] * len(seen.credentials)
    assert any("__schema" in query and "isOneOf" in query for query, _ in seen.credentials)


def test_key_in_the_fragment_is_taken_checked_and_never_sent_in_an_address(
    server: tuple[str, Seen], tmp_path: Path
) -> None:
    address, seen = server
    page = open_page(f"{address}#key={GOOD_KEY}", tmp_path)
    assert "Accepted · Harbour Coffee" in page
    assert any(credential == f"Bearer {GOOD_KEY}" for _, credential in seen.credentials)
    assert not any("key" in each for each in seen.addresses)
    assert all(credential is None for query, credential in seen.credentials if "__schema" in query)
    assert seen.violations == []


def test_wrong_key_is_shown_as_refused_and_the_documentation_is_still_read(
    server: tuple[str, Seen], tmp_path: Path
) -> None:
    address, seen = server
    page = open_page(f"{address}#key=wrong", tmp_path)
    assert "Refused" in page
    assert any("__schema" in query for query, _ in seen.credentials)
