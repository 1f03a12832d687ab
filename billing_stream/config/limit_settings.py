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
        "unpaid purchases per merchant; one more gets 429",
        50,
    )
    expired_per_step: int = setting(
        "BILLING_EXPIRED_PER_STEP",
        "overdue purchases of one merchant that expire in one decision",
        1_000,
        ge=1,
        le=10_000,
    )
    early_webhooks_max: int = setting(
        "BILLING_EARLY_WEBHOOKS_MAX",
        "webhooks per merchant that wait for their charge; more are dead letters",
        100,
        ge=1,
        le=10_000,
    )
    early_webhook_expiry: Duration | None = setting(
        "BILLING_EARLY_WEBHOOK_EXPIRY",
        "how long a webhook waits for its charge; by default PENDING_PURCHASE_EXPIRY",
    )
    stored_responses_max: Count = setting(
        "BILLING_STORED_RESPONSES_MAX",
        "idempotency keys per merchant in 24 hours; more get 429",
        1_000,
    )
    connections_max: Count = setting(
        "BILLING_CONNECTIONS_MAX",
        "open HTTP connections per listener; for one more, the longest idle is closed",
        768,
    )
    header_timeout: Duration = setting(
        "BILLING_HEADER_TIMEOUT",
        "time for the headers of a request; then the connection is closed",
        timedelta(seconds=10),
    )
    body_timeout: Duration = setting(
        "BILLING_BODY_TIMEOUT",
        "time for the body of a request; then it gets 400",
        timedelta(seconds=5),
    )
    client_token_max_lifetime: Duration | None = setting(
        "CLIENT_TOKEN_MAX_LIFETIME",
        "longest validity of a client's token from now; others get 401",
    )
    failed_logins_per_minute: Count = setting(
        "BILLING_FAILED_LOGINS_PER_MINUTE",
        "failed dashboard logins per address and minute; more get 429",
        10,
    )
    bodies_waiting_max: Count = setting(
        "BILLING_BODIES_WAITING_MAX",
        "request bodies received at once; for one more, the slowest gets 503",
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
