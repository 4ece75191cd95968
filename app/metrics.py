"""What Laurel counts about itself, for Prometheus.

With PROMETHEUS_MULTIPROC_DIR set, as `laurel run` does, one scrape answers for all processes of the
machine that share the folder: API processes and workers.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST

REQUESTS = Counter(
    "laurel_requests_total", "GraphQL requests, by operation and outcome.", ["operation", "outcome"]
)
REQUEST_SECONDS = Histogram(
    "laurel_request_seconds",
    "Time to answer a GraphQL request.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
ERRORS = Counter("laurel_errors_total", "Unexpected errors; each is in the log.", ["where"])
USER_ERRORS = Counter(
    "laurel_user_errors_total", "What callers were told to put right, in userErrors.", ["code"]
)
RATE_LIMITED = Counter("laurel_rate_limited_total", "Requests that were answered with 429.")
POINTS_EARNED = Counter("laurel_points_earned_total", "Points granted by rules, pending ones included.")
POINTS_TAKEN_BACK = Counter("laurel_points_taken_back_total", "Points that refunds took back.")
POINTS_SPENT = Counter("laurel_points_spent_total", "Points spent on rewards, given back or not.")
REDEMPTIONS = Counter("laurel_redemptions_total", "Steps of redemptions that were done.", ["step"])
EVENTS_PROCESSED = Counter("laurel_events_processed_total", "Events that were earned or rejected.")
EVENTS_STORED = Counter("laurel_events_stored_total", "Events that were stored for a worker to earn.")
WEBHOOK_DELIVERIES = Counter(
    "laurel_webhook_deliveries_total",
    "Attempts to deliver messages: delivered, failed (tried again later), given_up (after three days).",
    ["outcome"],
)
WEBHOOKS_DISABLED = Counter(
    "laurel_webhooks_disabled_total", "Webhooks that were switched off because they failed for so long."
)
SOCKETS = Gauge("laurel_sockets", "Open WebSocket connections.", multiprocess_mode="livesum")
SUBSCRIPTIONS = Gauge("laurel_subscriptions", "Subscriptions under way.", multiprocess_mode="livesum")
SOCKETS_CLOSED = Counter(
    "laurel_sockets_closed_total", "WebSocket connections that ended, by the code of the close.", ["code"]
)

_MAX_OPERATIONS = 200
_operations: set[str] = set()


def observe(operation: str | None, outcome: str, seconds: float) -> None:
    """Count one GraphQL request.

    Args:
        operation: the name that the client gave it; beyond 200 names they count as "other", because
            clients can make up as many as they like.
        outcome: "ok", or the code of its first error.
    """
    name = operation or "unnamed"
    if name not in _operations:
        if len(_operations) < _MAX_OPERATIONS:
            _operations.add(name)
        else:
            name = "other"
    REQUESTS.labels(name, outcome).inc()
    REQUEST_SECONDS.observe(seconds)


QUEUES = ("earning", "tiers", "referrals", "transfers", "jobs", "messages", "webhooks")
"""Where work waits; a queue without any says 0."""


WORKERS = ("earning", "tiers", "referrals", "transfers", "jobs", "sweeps", "messages")
"""What workers can be told to do; what nobody does says 0."""

FAILING = ("earning", "tiers", "referrals", "transfers", "jobs", "webhooks")
"""Where work can fail for good; a queue without any says 0."""


class Measured(NamedTuple):
    """What the whole installation has, of all programs.

    Attributes:
        waiting: age in seconds of the oldest work and number of items, by queue.
        workers: worker processes that are alive, by what they do.
        failed: work that failed for good, by queue.
    """

    waiting: Mapping[str, tuple[float, int]]
    workers: Mapping[str, int]
    failed: Mapping[str, int]


class _Installation:
    """What the database says at the moment of the scrape: the same whoever is asked."""

    def __init__(self, measured: Measured) -> None:
        self._waiting = dict.fromkeys(QUEUES, (0.0, 0)) | dict(measured.waiting)
        self._workers = dict.fromkeys(WORKERS, 0) | dict(measured.workers)
        self._failed = dict.fromkeys(FAILING, 0) | dict(measured.failed)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        text = "Age of the oldest stored work that no worker has finished; 0 when there is none."
        age = GaugeMetricFamily("laurel_queue_age_seconds", text, labels=["queue"])
        items = GaugeMetricFamily(
            "laurel_queue_items", "Stored work that no worker has finished.", labels=["queue"]
        )
        for queue, (seconds, count) in self._waiting.items():
            age.add_metric([queue], seconds)
            items.add_metric([queue], count)
        yield from (age, items)
        text = "Worker processes that are alive, by what they do."
        yield _counts("laurel_workers", text, "name", self._workers)
        text = "Work that failed for good, and waits for a person."
        yield _counts("laurel_failed_jobs", text, "queue", self._failed)


def _counts(name: str, text: str, label: str, counts: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _forget_dead(folder: Path) -> None:
    """Forget what processes had open that ended without a word."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            path.unlink(missing_ok=True)


def exposition(measured: Measured | None) -> bytes:
    """Return all metrics in Prometheus' format.

    Args:
        measured: what the database says; None when it is not known.
    """
    registry = REGISTRY
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        _forget_dead(Path(folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    body = generate_latest(registry)
    if measured is not None:
        installation = CollectorRegistry()
        installation.register(_Installation(measured))
        body += generate_latest(installation)
    return body


def serve_metrics(host: str, port: int) -> None:
    """Answer scrapes of this process on a port of its own, for processes that serve nothing else.

    Raises:
        OSError: the port is taken.
    """
    start_http_server(port, host)
