"""The metrics of `billing-stream deliver`. Names are given here once."""

from collections.abc import Collection, Mapping
from functools import partial

from prometheus_client import Counter, Gauge, Histogram

from billing_stream.deliver.delivery_rounds import Pending
from billing_stream.deliver.endpoints import Endpoint
from billing_stream.observability.metrics.registry import new_registry

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = registry = new_registry()
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self.active = gauge("billing_deliver_active", "1 while this process delivers, 0 on standby")
        self.database_up = gauge(
            "billing_deliver_database_up", "1 while PostgreSQL can be read and written, else 0"
        )
        self.lag = gauge(
            "billing_deliver_lag_records", "Committed offsets of event topics that are not read"
        )
        self.events = counter("billing_deliver_events_total", "Events read from Kafka")
        self.invalid = counter(
            "billing_deliver_invalid_events_total", "Records of event topics that are not events"
        )
        self.requests = counter(
            "billing_deliver_requests_total",
            "Requests to endpoints: delivered or failed",
            ["endpoint", "result"],
        )
        self.given_up = counter(
            "billing_deliver_given_up_total",
            "Events given up after BILLING_DELIVER_RETRY_FOR, at an endpoint that takes others",
            ["endpoint"],
        )
        self.seconds = Histogram(
            "billing_deliver_request_seconds",
            "Time of one request",
            ["endpoint"],
            buckets=SECONDS,
            registry=registry,
        )
        self.pending = gauge(
            "billing_deliver_pending_events", "Events queued for an endpoint", ["endpoint"]
        )
        self.failing = gauge(
            "billing_deliver_failing_seconds",
            "How long the event that fails longest has failed",
            ["endpoint"],
        )
        self.disabled = gauge(
            "billing_deliver_endpoint_disabled",
            "1 while an endpoint is disabled, else 0",
            ["endpoint"],
        )
        self.missing = gauge(
            "billing_deliver_missing_events",
            "Merchants with events that wait for an earlier one, which was not read",
        )

    def known(self, endpoints: Collection[Endpoint]) -> None:
        """The endpoints, as they are now."""
        self.disabled.clear()
        for endpoint in endpoints:
            self.disabled.labels(endpoint.id).set(endpoint.disabled_at is not None)

    def waiting(self, pending: Mapping[str, Pending]) -> None:
        """The queues, by endpoint."""
        self.pending.clear()
        self.failing.clear()
        for endpoint_id, found in pending.items():
            self.pending.labels(endpoint_id).set(found.deliveries)
            self.failing.labels(endpoint_id).set(found.failing_seconds)
