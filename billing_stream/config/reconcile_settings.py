"""Whether and how often platforms are asked about unpaid purchases."""

from datetime import timedelta

from pydantic_settings import BaseSettings

from billing_stream.config.durations import Duration
from billing_stream.config.setting import setting


class ReconcileSettings(BaseSettings):
    """The look-ups of a worker. docs/reconciliation.md says when each purchase is looked up."""

    reconcile: bool = setting(
        "BILLING_RECONCILE", "whether workers look up unpaid purchases at platforms", True
    )
    reconcile_every: Duration = setting(
        "BILLING_RECONCILE_EVERY",
        "time between look-ups of a purchase in its first two hours",
        timedelta(minutes=5),
    )
    reconcile_concurrency: int = setting(
        "BILLING_RECONCILE_CONCURRENCY", "look-ups at once, per worker", 8, ge=1, le=256
    )
    custom_gateway_lookup_url: str | None = setting(
        "CUSTOM_GATEWAY_LOOKUP_URL",
        "address at which your gateway reports a charge; {charge_id} is replaced",
        pattern=r"^https?://[^\s]*\{charge_id\}[^\s]*$",
    )
