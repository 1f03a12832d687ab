"""Counts and times the calls of a payment platform, and the webhooks that it sends."""

import re
from collections.abc import Mapping
from datetime import datetime
from time import perf_counter

from billing_stream.domain.model import Platform as PlatformName
from billing_stream.errors import WebhookForged, WebhookMalformed
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.platforms.base import (
    ChargeQuery,
    Checkout,
    CheckoutRequest,
    FoundCharge,
    IgnoredWebhook,
    PaymentFinder,
    Platform,
    PlatformEvent,
    WebhookContent,
)

# Of ignored webhooks, by platform: types are names that others choose.
TYPES_MAX = 30
OTHER = "other"

_TYPE = re.compile(r"[A-Za-z0-9._/-]{1,100}")

CREATE_CHECKOUT = "create_checkout"
FIND_CHARGE = "find_charge"
FIND_OWNER = "find_owner"
READ_WEBHOOK = "read_webhook"


class InstrumentedPlatform:
    """A platform as it was, measured. See `platforms.base.Platform`."""

    def __init__(self, name: PlatformName, platform: Platform, metrics: WorkerMetrics) -> None:
        self._platform = platform
        self._calls = metrics.platform_calls.labels
        self._seconds = metrics.platform_seconds.labels(name, CREATE_CHECKOUT)
        self._lookup_seconds = metrics.platform_seconds.labels(name, FIND_CHARGE)
        self._name = name
        self._ignored = metrics.webhooks_ignored.labels
        self._types: set[str] = set()

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

    @property
    def looks_up(self) -> bool:
        """As the platform does."""
        return self._platform.looks_up

    async def find_charge(self, query: ChargeQuery) -> FoundCharge | None:
        """As the platform does."""
        began = perf_counter()
        outcome = "error"
        try:
            found = await self._platform.find_charge(query)
            outcome = "unknown" if found is None else found.outcome
            return found
        finally:
            self._lookup_seconds.observe(perf_counter() - began)
            self._calls(self._name, FIND_CHARGE, outcome).inc()

    async def find_owner(self, event: PlatformEvent) -> PlatformEvent | IgnoredWebhook:
        """As the platform does; ignored where it is never asked. See `PaymentFinder`."""
        if not isinstance(self._platform, PaymentFinder):
            return IgnoredWebhook(event.kind)
        outcome = "error"
        try:
            found = await self._platform.find_owner(event)
            outcome = "ignored" if isinstance(found, IgnoredWebhook) else "ok"
            return found
        finally:
            self._calls(self._name, FIND_OWNER, outcome).inc()

    def read_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> WebhookContent:
        """As the platform does."""
        outcome = "error"
        try:
            told = self._platform.read_webhook(headers, body, now)
            outcome = "ok"
            if isinstance(told, IgnoredWebhook):
                outcome = "ignored"
                self._ignored(self._name, self._type(told.type)).inc()
            return told
        except WebhookForged:
            outcome = "forged"
            raise
        except WebhookMalformed:
            outcome = "malformed"
            raise
        finally:
            self._calls(self._name, READ_WEBHOOK, outcome).inc()

    def _type(self, named: str) -> str:
        """A label of a bounded set."""
        if named not in self._types:
            if len(self._types) >= TYPES_MAX or not _TYPE.fullmatch(named):
                return OTHER
            self._types.add(named)
        return named

    async def close(self) -> None:
        """As the platform does."""
        await self._platform.close()
