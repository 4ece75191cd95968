"""Structured logs: one pipeline for our own events and for the libraries', one line for each."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor

from app.settings import Settings

_HIDDEN = "[hidden]"
_SECRET_NAME = re.compile(
    r"(?:^|[_.\s-])(?:authorization|cookie|secret|token|password|passwd|(?:api|admin|secret)[_-]?key)$", re.I
)
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@\s/]+@")
_MAX_DEPTH = 4

# What these say at INFO is either said better by our own lines or of no use to anybody.
_QUIET = {
    "uvicorn.access": logging.CRITICAL,
    "uvicorn.error": logging.INFO,
    "tortoise": logging.WARNING,
    "arq.worker": logging.WARNING,
}


def configure(settings: Settings) -> None:
    """Send all logs of this process to stderr: JSON lines, or text for people on a terminal.

    Every line has `timestamp` (ISO, UTC), `level`, `event`, `logger` where it is a library's, and
    whatever is bound to the present request or job (`request_id`, `program`, `operation`).
    Values whose names say that they are secrets are hidden, and passwords in addresses.
    """
    level = logging.getLevelNamesMapping()[settings.log_level]
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        redact,
    ]
    closing: list[Processor] = (
        # Plain tracebacks: the other kind prints what variables hold, tokens among it.
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if console
        else [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer(_dumps)]
    )
    structlog.configure(
        processors=[*shared, *closing],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *closing],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    for name in list(logging.root.manager.loggerDict):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    for name, at_least in _QUIET.items():
        logging.getLogger(name).setLevel(max(at_least, level))


def redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Hide values whose names say that they are secrets, and passwords inside addresses."""
    for name, value in event.items():
        # An exception's triple is what tracebacks are made of, and must stay what it is.
        if name != "exc_info":
            event[name] = _clean(name, value, 0)
    return event


def _clean(name: str, value: Any, depth: int) -> Any:
    if _SECRET_NAME.search(name):
        return _HIDDEN
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\1:{_HIDDEN}@", value) if "://" in value else value
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            return {key: _clean(str(key), inner, depth + 1) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [_clean("", inner, depth + 1) for inner in value]
    return value


def _dumps(event: MutableMapping[str, Any], **_: Any) -> str:
    # A log line is never worth an exception: what JSON cannot say is written as Python would.
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode(errors="replace")
