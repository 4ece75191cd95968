"""What Laurel counts about itself, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("laurel_requests_total", "GraphQL requests, by operation name and outcome.", ["operation", "outcome"])
REQUEST_SECONDS = Histogram("laurel_request_seconds", "Time to answer a GraphQL request.", buckets=(
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30,
))  # fmt: skip
ERRORS = Counter("laurel_errors_total", "Unexpected errors, each of which is in the log with its id.", ["where"])
RATE_LIMITED = Counter("laurel_rate_limited_total", "Requests that were answered with 429.")
POINTS_EARNED = Counter("laurel_points_earned_total", "Points granted by rules, pending ones included.")
EVENTS_EARNED = Counter("laurel_events_processed_total", "Events that were earned or rejected.")
EVENTS_STORED = Counter("laurel_events_stored_total", "Events that were stored for a worker to earn.")
QUEUE_AGE = Gauge("laurel_queue_age_seconds", "Age of the oldest stored work that no worker has finished; 0 when there is none.")
QUEUE_WAITING = Gauge("laurel_queue_waiting", "Stored events that no worker has finished.")
