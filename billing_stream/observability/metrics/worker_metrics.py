"""The metrics of a worker that are counted as things happen. Names are given here once.

No label has a merchant, a shop or anything else that a caller chooses: each has as many values
as the code has topics, events, codes, routes or platforms, and as there are partitions.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from billing_stream import __version__

TRANSACTION_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TRANSACTION_RECORDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)
RECOVERY_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
HTTP_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
PLATFORM_SECONDS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15)


class WorkerMetrics:
    """The metrics of one worker, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.worker = Info("billing_worker", "The version of this worker", registry=registry)
        self.worker.info({"version": __version__})
        self._engine(registry)
        self._steps(registry)
        self._http(registry)

    def _engine(self, registry: CollectorRegistry) -> None:
        self.records = Counter(
            "billing_records_total",
            "Input records that transactions took, by input topic",
            ["topic"],
            registry=registry,
        )
        self.decisions = Counter(
            "billing_decisions_total",
            "Decisions, by what was asked and what came of it: DONE, FORWARDED to another "
            "partition, or why it was refused",
            ["kind", "outcome"],
            registry=registry,
        )
        self.events = Counter(
            "billing_events_total", "Events published", ["event"], registry=registry
        )
        self.rows = Counter(
            "billing_rows_written_total",
            "Changed rows written to changelogs",
            ["table"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "billing_dead_letters_total",
            "Dead letters, by the input topic they came from (http:PLATFORM for webhooks over "
            "HTTP) and why",
            ["topic", "reason"],
            registry=registry,
        )
        self.internal_errors = Counter(
            "billing_internal_errors_total",
            "Records, requests and timers on which a rule failed: a bug",
            ["source"],
            registry=registry,
        )
        for source in ("record", "request", "timer"):
            self.internal_errors.labels(source)
        self.transaction_seconds = Histogram(
            "billing_transaction_duration_seconds",
            "Time of one transaction, from its first decision until its rows can be read",
            buckets=TRANSACTION_SECONDS,
            registry=registry,
        )
        self.transaction_inputs = Histogram(
            "billing_transaction_input_records",
            "Input records of one transaction; none, when only requests or timers were in it",
            buckets=TRANSACTION_RECORDS,
            registry=registry,
        )
        self.transaction_written = Histogram(
            "billing_transaction_written_records",
            "Records written in one transaction: rows, events, journal, dead letters, positions",
            buckets=TRANSACTION_RECORDS,
            registry=registry,
        )
        self.recovery_seconds = Histogram(
            "billing_recovery_duration_seconds",
            "Time to fence and restore the partitions that came to this worker at once",
            buckets=RECOVERY_SECONDS,
            registry=registry,
        )
        self.recovery_records = Counter(
            "billing_recovery_records_total",
            "Changelog records that were read to restore partitions",
            registry=registry,
        )

    def _steps(self, registry: CollectorRegistry) -> None:
        self.expiry_steps = Counter(
            "billing_expiry_steps_total",
            "Decisions that let a part of a merchant's overdue purchases expire",
            registry=registry,
        )
        self.commands_held = Counter(
            "billing_commands_held_total",
            "Times that a command waited for a later transaction, behind overdue purchases",
            registry=registry,
        )

    def _http(self, registry: CollectorRegistry) -> None:
        self.http_requests = Counter(
            "billing_http_requests_total",
            "HTTP requests answered, by the route as it is registered",
            ["method", "route", "code"],
            registry=registry,
        )
        self.http_seconds = Histogram(
            "billing_http_request_duration_seconds",
            "Time to answer an HTTP request",
            ["method", "route"],
            buckets=HTTP_SECONDS,
            registry=registry,
        )
        self.http_in_progress = Gauge(
            "billing_http_requests_in_progress", "HTTP requests in work", registry=registry
        )
        self.http_connections = Gauge(
            "billing_http_connections", "Open HTTP connections", registry=registry
        )
        self.http_connections_closed = Counter(
            "billing_http_connections_closed_total",
            "HTTP connections closed by the server: headers that took too long, or the limit",
            ["reason"],
            registry=registry,
        )
        self.credentials_refused = Counter(
            "billing_credentials_refused_total",
            "HTTP requests refused for their credentials: tokens, signatures, logins, forms",
            ["credential", "route"],
            registry=registry,
        )
        self.http_bodies_refused = Counter(
            "billing_http_bodies_refused_total",
            "HTTP requests refused for their body: it was slow, or the limit",
            ["reason"],
            registry=registry,
        )
        self.platform_calls = Counter(
            "billing_platform_calls_total",
            "Calls of payment platforms (create_checkout), and webhooks that they sent "
            "(read_webhook)",
            ["platform", "operation", "outcome"],
            registry=registry,
        )
        self.webhooks_ignored = Counter(
            "billing_webhooks_ignored_total",
            "Signed webhooks of other types, by type; `other` for types beyond the first 30",
            ["platform", "type"],
            registry=registry,
        )
        self.platform_seconds = Histogram(
            "billing_platform_call_duration_seconds",
            "Time of a call of a payment platform, with all its attempts",
            ["platform", "operation"],
            buckets=PLATFORM_SECONDS,
            registry=registry,
        )
