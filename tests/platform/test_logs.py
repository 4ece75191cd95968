"""What gets into the logs, and what never does."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from app import http, logs
from app.http import RequestLog
from app.settings import Settings


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Configure JSON logs into a file; call the result to read its lines."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    path = tmp_path / "log"
    with path.open("w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        logs.configure(Settings(log_format="json"))
        # A logger keeps the stream of its first use: the middleware gets one for this test alone.
        monkeypatch.setattr(http, "log", structlog.get_logger("laurel.request"))

        def read() -> list[dict[str, Any]]:
            stream.flush()
            return [json.loads(line) for line in path.read_text().splitlines()]

        yield read
    structlog.configure(**configured)
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_our_events_and_a_librarys_share_one_form(lines: Any) -> None:
    structlog.contextvars.bind_contextvars(request_id="r-1", program="cafe")
    structlog.get_logger("t").info("points.earned", points=3)
    logging.getLogger("arq.worker").warning("queue %s is slow", "ledger")
    for line in lines():
        assert line["request_id"] == "r-1"
        assert line["program"] == "cafe"
        assert line["timestamp"].endswith("Z")
        assert line["level"] in ("info", "warning")
    assert lines()[1]["event"] == "queue ledger is slow"
    assert lines()[1]["logger"] == "arq.worker"


def test_secrets_are_hidden_wherever_they_are(lines: Any) -> None:
    structlog.get_logger("t").warning(
        "call",
        authorization="Bearer hush",
        api_key="hush",
        member_token="hush",
        headers={"Authorization": "hush", "Accept": "json"},
        items=[{"password": "hush"}],
        url="postgresql://laurel:hush@db/laurel",
        tokens=12,
    )
    logging.getLogger("arq").error("cannot reach redis://:hush@cache/0")
    try:
        raise ConnectionError("postgresql://laurel:hush@db/laurel")
    except ConnectionError:
        structlog.get_logger("t").exception("failed")
    text = json.dumps(lines())
    assert "hush" not in text
    assert lines()[0]["headers"]["Accept"] == "json"
    assert lines()[0]["tokens"] == 12
    assert "ConnectionError" in lines()[2]["exception"]


async def call(path: str, headers: list[tuple[bytes, bytes]], status: int = 200) -> list[Any]:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        structlog.contextvars.bind_contextvars(operation="Balance")
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": headers}
    await RequestLog(application)(scope, None, send)  # type: ignore[arg-type]
    return sent


async def test_a_request_is_one_line_with_the_callers_id(lines: Any) -> None:
    sent = await call("/graphql", [(b"x-request-id", b"till-7.42_a")])
    assert (b"x-request-id", b"till-7.42_a") in sent[0]["headers"]
    (line,) = lines()
    assert line["event"] == "request"
    assert (line["request_id"], line["operation"], line["status"]) == ("till-7.42_a", "Balance", 200)
    assert line["duration_ms"] >= 0


@pytest.mark.parametrize("bad", [b"", b"a" * 65, b"two words", b"line\nbreak", "ümlaut".encode()])
async def test_an_id_that_is_not_well_formed_is_replaced(lines: Any, bad: bytes) -> None:
    sent = await call("/graphql", [(b"x-request-id", bad)])
    (value,) = [value for name, value in sent[0]["headers"] if name == b"x-request-id"]
    assert value != bad
    assert len(value) == 32
    assert lines()[0]["request_id"] == value.decode()


async def test_health_checks_stay_out_of_the_log(lines: Any) -> None:
    await call("/healthz", [])
    await call("/readyz", [], status=503)
    assert lines() == []
