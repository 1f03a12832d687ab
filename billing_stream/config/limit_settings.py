"""Bounds on what one merchant, and one who has no token at all, may occupy."""

from datetime import timedelta
from typing import Any

from pydantic_settings import BaseSettings

from billing_stream.config.durations import Duration
from billing_stream.config.setting import Count, setting


class LimitSettings(BaseSettings):
    """The limits per merchant, and those of connections. docs/limits.md says what each is for."""

    open_purchases_max: Count = setting(
        "BILLING_OPEN_PURCHASES_MAX",
        "unpaid purchases of one merchant; opening more is refused (429)",
        50,
    )
    expired_per_step: int = setting(
        "BILLING_EXPIRED_PER_STEP",
        "overdue purchases of one merchant that expire in one decision; two of these fit into"
        " a transaction",
        1_000,
        ge=1,
        le=10_000,
    )
    early_webhooks_max: int = setting(
        "BILLING_EARLY_WEBHOOKS_MAX",
        "webhooks of one merchant that wait for their charge; more are dead letters",
        100,
        ge=1,
        le=10_000,
    )
    early_webhook_expiry: Duration | None = setting(
        "BILLING_EARLY_WEBHOOK_EXPIRY",
        "how long a webhook waits for its charge before it is a dead letter; by default "
        "PENDING_PURCHASE_EXPIRY",
    )
    stored_responses_max: Count = setting(
        "BILLING_STORED_RESPONSES_MAX",
        "idempotency keys of one merchant within 24 hours; more are refused (429)",
        1_000,
    )
    connections_max: Count = setting(
        "BILLING_CONNECTIONS_MAX",
        "open HTTP connections of each listener; for one more, the one that waits longest for"
        " a request is closed",
        768,
    )
    header_timeout: Duration = setting(
        "BILLING_HEADER_TIMEOUT",
        "a connection is closed when the headers of a request take longer",
        timedelta(seconds=10),
    )
    body_timeout: Duration = setting(
        "BILLING_BODY_TIMEOUT",
        "a request is refused when its body takes longer (400)",
        timedelta(seconds=5),
    )
    client_token_max_lifetime: Duration | None = setting(
        "CLIENT_TOKEN_MAX_LIFETIME",
        "a client's token must expire within this time from now (401); without it, whenever "
        "its issuer says",
    )
    failed_logins_per_minute: Count = setting(
        "BILLING_FAILED_LOGINS_PER_MINUTE",
        "logins to the dashboard that may fail from one address; more are refused (429)",
        10,
    )
    bodies_waiting_max: Count = setting(
        "BILLING_BODIES_WAITING_MAX",
        "request bodies received at once; for one more, the one that takes longest is refused"
        " (503)",
        256,
    )

    @property
    def merchant_limits(self) -> dict[str, Any]:
        """The limits of one merchant, as the fields of `Policy`."""
        return {
            "parked_expiry": self.early_webhook_expiry,
            "parked_max": self.early_webhooks_max,
            "answers_max": self.stored_responses_max,
            "open_purchases_max": self.open_purchases_max,
            "expired_per_step": self.expired_per_step,
        }
