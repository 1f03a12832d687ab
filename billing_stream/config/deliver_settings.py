"""Outgoing webhooks: how `billing-stream deliver` sends them."""

from datetime import timedelta

from pydantic_settings import BaseSettings

from billing_stream.config.durations import Duration
from billing_stream.config.setting import Port, setting


class DeliverSettings(BaseSettings):
    """The settings of `billing-stream deliver`; DATABASE_URL is needed as well."""

    deliver_port: Port = setting(
        "BILLING_DELIVER_PORT",
        "HTTP port of `billing-stream deliver`",
        9109,
    )
    deliver_concurrency: int = setting(
        "BILLING_DELIVER_CONCURRENCY",
        "outgoing webhooks in flight per endpoint, each of another merchant",
        16,
        ge=1,
        le=256,
    )
    deliver_timeout: Duration = setting(
        "BILLING_DELIVER_TIMEOUT",
        "time for a complete response to an outgoing webhook",
        timedelta(seconds=15),
    )
    deliver_retry_for: Duration = setting(
        "BILLING_DELIVER_RETRY_FOR",
        "how long a webhook is retried; an endpoint that fails for this time is disabled",
        timedelta(days=3),
    )
    deliver_retention: Duration = setting(
        "BILLING_DELIVER_RETENTION",
        "how long events are kept for redelivery",
        timedelta(days=30),
    )
    webhooks_allow_private: bool = setting(
        "BILLING_WEBHOOKS_ALLOW_PRIVATE",
        "whether outgoing webhooks may go to private addresses and without TLS",
        False,
    )
