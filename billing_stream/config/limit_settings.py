"""Bounds on what one merchant, and one who has no token at all, may occupy."""

from datetime import timedelta
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings

from billing_stream.config.durations import Duration


class LimitSettings(BaseSettings):
    """The limits per merchant, and those of connections. docs/limits.md says what each is for."""

    open_purchases_max: int = Field(
        validation_alias="BILLING_OPEN_PURCHASES_MAX",
        description="unpaid purchases of one merchant; opening more is refused (429)",
        default=50,
        ge=1,
        le=100_000,
    )
    expired_per_step: int = Field(
        validation_alias="BILLING_EXPIRED_PER_STEP",
        description="overdue purchases of one merchant that expire in one decision; two of these "
        "fit into a transaction",
        default=1_000,
        ge=1,
        le=10_000,
    )
    early_webhooks_max: int = Field(
        validation_alias="BILLING_EARLY_WEBHOOKS_MAX",
        description="webhooks of one merchant that wait for their charge; more are dead letters",
        default=100,
        ge=1,
        le=10_000,
    )
    early_webhook_expiry: Duration | None = Field(
        validation_alias="BILLING_EARLY_WEBHOOK_EXPIRY",
        description="how long a webhook waits for its charge before it is a dead letter; by "
        "default PENDING_PURCHASE_EXPIRY",
        default=None,
    )
    stored_responses_max: int = Field(
        validation_alias="BILLING_STORED_RESPONSES_MAX",
        description="idempotency keys of one merchant within 24 hours; more are refused (429)",
        default=1_000,
        ge=1,
        le=100_000,
    )
    connections_max: int = Field(
        validation_alias="BILLING_CONNECTIONS_MAX",
        description="open HTTP connections of each listener; for one more, the one that waits "
        "longest for a request is closed",
        default=768,
        ge=1,
        le=100_000,
    )
    header_timeout: Duration = Field(
        validation_alias="BILLING_HEADER_TIMEOUT",
        description="a connection is closed when the headers of a request take longer",
        default=timedelta(seconds=10),
    )
    body_timeout: Duration = Field(
        validation_alias="BILLING_BODY_TIMEOUT",
        description="a request is refused when its body takes longer (400)",
        default=timedelta(seconds=5),
    )
    client_token_max_lifetime: Duration | None = Field(
        validation_alias="CLIENT_TOKEN_MAX_LIFETIME",
        description="a client's token must expire within this time from now (401); without it, "
        "whenever its issuer says",
        default=None,
    )
    failed_logins_per_minute: int = Field(
        validation_alias="BILLING_FAILED_LOGINS_PER_MINUTE",
        description="logins to the dashboard that may fail from one address; more are refused "
        "(429)",
        default=10,
        ge=1,
        le=100_000,
    )
    bodies_waiting_max: int = Field(
        validation_alias="BILLING_BODIES_WAITING_MAX",
        description="request bodies received at once; for one more, the one that takes longest "
        "is refused (503)",
        default=256,
        ge=1,
        le=100_000,
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
