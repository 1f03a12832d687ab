"""The metrics of a worker that are counted as things happen. Names are given here once.

No label has a merchant, a shop or anything else that a caller chooses: each has as many values
as the code has topics, events, codes, routes or platforms, and as there are partitions.
"""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from billing_stream import __version__
from billing_stream.observability.metrics.registry import new_registry

TRANSACTION_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TRANSACTION_RECORDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)
RECOVERY_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
HTTP_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
PLATFORM_SECONDS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15)


class WorkerMetrics:
    """The metrics of one worker, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = new_registry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.worker = Info("billing_worker", "The version of this worker", registry=registry)
        self.worker.info({"version": __version__})
        self._engine(registry)
        self._http(registry)
        self._lookups(registry)
        self._money(registry)

    def _engine(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.records = counter(
            "billing_records_total",
            "Input records that transactions took",
            ["topic"],
        )
        self.decisions = counter(
            "billing_decisions_total",
            "Decisions by command and outcome: DONE, FORWARDED, or why it was refused",
            ["kind", "outcome"],
        )
        self.events = counter("billing_events_total", "Events published", ["event"])
        self.rows = counter(
            "billing_rows_written_total", "Changed rows written to changelogs", ["table"]
        )
        self.dead_letters = counter(
            "billing_dead_letters_total",
            "Dead letters by input topic (http:PLATFORM for webhooks over HTTP) and reason",
            ["topic", "reason"],
        )
        self.shop_claims = counter(
            "billing_shop_claims_total",
            "Unusual installations: taken, reinstalled, replaced_without_id or older",
            ["outcome"],
        )
        self.internal_errors = counter(
            "billing_internal_errors_total",
            "Records, requests and timers on which a rule failed: a bug",
            ["source"],
        )
        for source in ("record", "request", "timer"):
            self.internal_errors.labels(source)
        self.transaction_seconds = histogram(
            "billing_transaction_duration_seconds",
            "Time from the first decision to the last row of a lane's part of a transaction",
            buckets=TRANSACTION_SECONDS,
        )
        self.transaction_inputs = histogram(
            "billing_transaction_input_records",
            "Input records of a lane's part of a transaction; 0 with requests or timers only",
            buckets=TRANSACTION_RECORDS,
        )
        self.transaction_written = histogram(
            "billing_transaction_written_records",
            "Records that a lane wrote in a transaction",
            buckets=TRANSACTION_RECORDS,
        )
        self.recovery_seconds = histogram(
            "billing_recovery_duration_seconds",
            "Time to restore the partitions that this worker got together",
            buckets=RECOVERY_SECONDS,
        )
        self.recovery_records = counter(
            "billing_recovery_records_total",
            "Changelog records read to restore partitions",
        )
        self.expiry_steps = counter(
            "billing_expiry_steps_total",
            "Decisions that expired a part of a merchant's overdue purchases",
        )
        self.commands_held = counter(
            "billing_commands_held_total",
            "Commands that waited behind overdue purchases for a later transaction",
        )

    def _http(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.http_requests = counter(
            "billing_http_requests_total",
            "HTTP requests answered",
            ["method", "route", "code"],
        )
        self.http_seconds = histogram(
            "billing_http_request_duration_seconds",
            "Time to answer an HTTP request",
            ["method", "route"],
            buckets=HTTP_SECONDS,
        )
        self.http_in_progress = gauge(
            "billing_http_requests_in_progress", "HTTP requests in flight"
        )
        self.http_connections = gauge("billing_http_connections", "Open HTTP connections")
        self.http_connections_closed = counter(
            "billing_http_connections_closed_total",
            "HTTP connections that the server closed: slow headers, or too many",
            ["reason"],
        )
        self.credentials_refused = counter(
            "billing_credentials_refused_total",
            "HTTP requests refused for a token, signature, login or form",
            ["credential", "route"],
        )
        self.http_bodies_refused = counter(
            "billing_http_bodies_refused_total",
            "HTTP requests refused because their body was slow, or too many",
            ["reason"],
        )
        self.platform_calls = counter(
            "billing_platform_calls_total",
            "Calls of payment platforms, and webhooks from them (read_webhook)",
            ["platform", "operation", "outcome"],
        )
        self.webhooks_ignored = counter(
            "billing_webhooks_ignored_total",
            "Signed webhooks that change nothing; `other` for types beyond the first 30",
            ["platform", "type"],
        )
        self.platform_seconds = histogram(
            "billing_platform_call_duration_seconds",
            "Time of a call of a payment platform, with retries",
            ["platform", "operation"],
            buckets=PLATFORM_SECONDS,
        )

    def _lookups(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self.lookups_reported = counter(
            "billing_lookups_reported_total",
            "Unpaid purchases that a platform, when asked, reported as paid or failed",
            ["platform", "outcome"],
        )
        self.lookups_skipped = counter(
            "billing_lookups_skipped_total",
            "Look-ups left out because the platform failed or asked to wait",
            ["platform"],
        )
        self.paid_not_credited = gauge(
            "billing_paid_not_credited",
            "Purchases that a platform reported as paid and that are not credited",
        )
        self.lookup_lag = gauge(
            "billing_lookup_lag_seconds", "How late look-ups of unpaid purchases are queued"
        )

    def _money(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        self.credits_granted = counter(
            "billing_credits_granted_total",
            "Credits added to balances",
            ["event"],
        )
        self.credits_removed = counter(
            "billing_credits_removed_total",
            "Credits taken from balances",
            ["event"],
        )
        self.revenue = counter(
            "billing_revenue_minor_units_total",
            "Revenue in minor units (cents), without test purchases",
            ["currency", "platform"],
        )
        self.refunds = counter(
            "billing_refunds_minor_units_total",
            "Refunds in minor units (cents), without test purchases",
            ["currency"],
        )
