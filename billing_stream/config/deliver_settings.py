"""Outgoing webhooks: how `billing-stream deliver` sends them."""

from datetime import timedelta

from pydantic_settings import BaseSettings

from billing_stream.config.durations import Duration
from billing_stream.config.setting import Port, setting


class DeliverSettings(BaseSettings):
    """The settings of `billing-stream deliver`; DATABASE_URL is needed as well."""

    deliver_port: Port = setting(
        "BILLING_DELIVER_PORT",
        "HTTP port of `billing-stream deliver`: /metrics, /health, /ready",
        9109,
    )
    deliver_concurrency: int = setting(
        "BILLING_DELIVER_CONCURRENCY",
        "requests in flight to one endpoint of outgoing webhooks, each of another merchant",
        16,
        ge=1,
        le=256,
    )
    deliver_timeout: Duration = setting(
        "BILLING_DELIVER_TIMEOUT",
        "an outgoing webhook without a complete response after this has failed",
        timedelta(seconds=15),
    )
    deliver_retry_for: Duration = setting(
        "BILLING_DELIVER_RETRY_FOR",
        "how long an outgoing webhook is retried; an endpoint without one success for this time "
        "is disabled",
        timedelta(days=3),
    )
    deliver_retention: Duration = setting(
        "BILLING_DELIVER_RETENTION",
        "how long events are kept for redelivery, and for a disabled endpoint",
        timedelta(days=30),
    )
    webhooks_allow_private: bool = setting(
        "BILLING_WEBHOOKS_ALLOW_PRIVATE",
        "send outgoing webhooks to private, loopback and link-local addresses too, and without TLS",
        False,
    )
