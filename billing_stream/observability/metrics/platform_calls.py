"""Counts and times what is asked of a payment platform, and the webhooks that it sends."""

from collections.abc import Mapping
from datetime import datetime
from time import perf_counter

from billing_stream.domain.model import Platform as PlatformName
from billing_stream.errors import WebhookForged, WebhookMalformed
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.platforms.base import Checkout, CheckoutRequest, Platform, PlatformEvent

CREATE_CHECKOUT = "create_checkout"
READ_WEBHOOK = "read_webhook"


class InstrumentedPlatform:
    """A platform as it was, measured. See `platforms.base.Platform`."""

    def __init__(self, name: PlatformName, platform: Platform, metrics: WorkerMetrics) -> None:
        self._platform = platform
        self._calls = metrics.platform_calls.labels
        self._seconds = metrics.platform_seconds.labels(name, CREATE_CHECKOUT)
        self._name = name

    async def create_checkout(self, purchase: CheckoutRequest) -> Checkout:
        """As the platform does."""
        began = perf_counter()
        outcome = "error"
        try:
            checkout = await self._platform.create_checkout(purchase)
            outcome = "ok"
            return checkout
        finally:
            self._seconds.observe(perf_counter() - began)
            self._calls(self._name, CREATE_CHECKOUT, outcome).inc()

    def read_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> PlatformEvent | None:
        """As the platform does."""
        outcome = "error"
        try:
            told = self._platform.read_webhook(headers, body, now)
            outcome = "ignored" if told is None else "ok"
            return told
        except WebhookForged:
            outcome = "forged"
            raise
        except WebhookMalformed:
            outcome = "malformed"
            raise
        finally:
            self._calls(self._name, READ_WEBHOOK, outcome).inc()

    async def close(self) -> None:
        """As the platform does."""
        await self._platform.close()
