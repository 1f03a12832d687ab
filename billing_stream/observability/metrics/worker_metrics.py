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
        self._http(registry)
        self._lookups(registry)
        self._money(registry)

    def _engine(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.records = counter(
            "billing_records_total",
            "Input records that transactions took, by input topic",
            ["topic"],
        )
        self.decisions = counter(
            "billing_decisions_total",
            "Decisions, by kind of command and outcome: DONE, FORWARDED to another "
            "partition, or why it was refused",
            ["kind", "outcome"],
        )
        self.events = counter("billing_events_total", "Events published", ["event"])
        self.rows = counter(
            "billing_rows_written_total", "Changed rows written to changelogs", ["table"]
        )
        self.dead_letters = counter(
            "billing_dead_letters_total",
            "Dead letters, by the input topic they came from (http:PLATFORM for webhooks over "
            "HTTP) and why",
            ["topic", "reason"],
        )
        self.shop_claims = counter(
            "billing_shop_claims_total",
            "Installations that were not simply the next one of their merchant, and reports of "
            "older ones, by outcome: taken, reinstalled, replaced_without_id or older",
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
            "Time of a lane's part of a transaction, from its first decision to its last row",
            buckets=TRANSACTION_SECONDS,
        )
        self.transaction_inputs = histogram(
            "billing_transaction_input_records",
            "Input records of a lane's part of a transaction; 0 with requests or timers only",
            buckets=TRANSACTION_RECORDS,
        )
        self.transaction_written = histogram(
            "billing_transaction_written_records",
            "Records of a lane in a transaction: rows, events, journal, dead letters, positions",
            buckets=TRANSACTION_RECORDS,
        )
        self.recovery_seconds = histogram(
            "billing_recovery_duration_seconds",
            "Time to restore the partitions that came to this worker at once",
            buckets=RECOVERY_SECONDS,
        )
        self.recovery_records = counter(
            "billing_recovery_records_total",
            "Changelog records that were read to restore partitions",
        )
        self.expiry_steps = counter(
            "billing_expiry_steps_total",
            "Decisions that let a part of a merchant's overdue purchases expire",
        )
        self.commands_held = counter(
            "billing_commands_held_total",
            "Times that a command waited for a later transaction, behind overdue purchases",
        )

    def _http(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.http_requests = counter(
            "billing_http_requests_total",
            "HTTP requests answered, by the route as it is registered",
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
            "HTTP connections closed by the server: headers that took too long, or the limit",
            ["reason"],
        )
        self.credentials_refused = counter(
            "billing_credentials_refused_total",
            "HTTP requests refused for their credentials: tokens, signatures, logins, forms",
            ["credential", "route"],
        )
        self.http_bodies_refused = counter(
            "billing_http_bodies_refused_total",
            "HTTP requests refused for their body: it was slow, or the limit",
            ["reason"],
        )
        self.platform_calls = counter(
            "billing_platform_calls_total",
            "Calls of payment platforms (create_checkout, find_charge, find_owner), and webhooks "
            "that they sent (read_webhook)",
            ["platform", "operation", "outcome"],
        )
        self.webhooks_ignored = counter(
            "billing_webhooks_ignored_total",
            "Signed webhooks that change nothing, by type: of other types, or about a shop that no "
            "merchant has; `other` for types beyond the first 30",
            ["platform", "type"],
        )
        self.platform_seconds = histogram(
            "billing_platform_call_duration_seconds",
            "Time of a call of a payment platform, with all its attempts",
            ["platform", "operation"],
            buckets=PLATFORM_SECONDS,
        )

    def _lookups(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self.lookups_reported = counter(
            "billing_lookups_reported_total",
            "Unpaid purchases that a platform reported as paid or failed when it was asked",
            ["platform", "outcome"],
        )
        self.lookups_skipped = counter(
            "billing_lookups_skipped_total",
            "Look-ups that were left out because the platform failed or asked to wait",
            ["platform"],
        )
        self.paid_not_credited = gauge(
            "billing_paid_not_credited",
            "Purchases that their platform reported as paid and that are not credited",
        )
        self.lookup_lag = gauge(
            "billing_lookup_lag_seconds", "How late look-ups of unpaid purchases are queued"
        )

    def _money(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        self.credits_granted = counter(
            "billing_credits_granted_total",
            "Credits that events of committed transactions added to balances, by event",
            ["event"],
        )
        self.credits_removed = counter(
            "billing_credits_removed_total",
            "Credits that events of committed transactions took from balances, by event",
            ["event"],
        )
        self.revenue = counter(
            "billing_revenue_minor_units_total",
            "Sums of purchases that were credited, in minor units of the currency (cents); without "
            "test purchases",
            ["currency", "platform"],
        )
        self.refunds = counter(
            "billing_refunds_minor_units_total",
            "Sums that were refunded, in minor units of the currency (cents); without test "
            "purchases",
            ["currency"],
        )
