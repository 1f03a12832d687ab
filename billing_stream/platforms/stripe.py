"""Stripe: a Checkout Session per purchase, paid once.

https://docs.stripe.com/api/checkout/sessions/create and https://docs.stripe.com/webhooks
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from urllib.parse import quote, urlencode
from uuid import uuid4

from msgspec import Struct

from billing_stream.domain.commands import Text
from billing_stream.errors import WebhookForged, WebhookMalformed
from billing_stream.platforms import stripe_returns
from billing_stream.platforms.base import (
    ChargeQuery,
    Checkout,
    CheckoutRequest,
    FoundCharge,
    IgnoredWebhook,
    PlatformEvent,
)
from billing_stream.platforms.money import to_minor
from billing_stream.platforms.platform_http import (
    LOOKUP_LIMITS,
    AnswerKept,
    Http,
    PlatformResponse,
)
from billing_stream.platforms.stripe_webhooks import (
    COMPLETED,
    EXPIRED,
    SESSION,
    TAKEN,
    Session,
    amount_of,
    event_of,
    read_event,
    read_webhook,
)
from billing_stream.records.timestamps import utc_now

T = TypeVar("T")

API_VERSION = "2026-10-28.endive"

# Stripe takes 30 minutes to 24 hours from when it makes the session, by its own clock.
_ALLOWANCE = timedelta(minutes=1)
SESSION_MIN = timedelta(minutes=30) + _ALLOWANCE
SESSION_MAX = timedelta(hours=24) - _ALLOWANCE

_TEST_KEYS = ("sk_test_", "rk_test_")


class _Created(Struct):
    id: Text
    url: str | None = None
    livemode: bool | None = None


class _FoundSession(Session):
    status: str | None = None


class Stripe:
    """Stripe's API with one secret key; any of `secrets` may have signed a webhook.

    With `adaptive_pricing` merchants may pay in their own currency, at Stripe's rate.
    """

    def __init__(
        self,
        api_key: str,
        *,
        api_url: str,
        secrets: Sequence[str],
        adaptive_pricing: bool = False,
        http: Http | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._api_key = api_key
        self._adaptive_pricing = adaptive_pricing
        self._now = now
        self._api_url = api_url.rstrip("/")
        self._url = f"{self._api_url}/v1/checkout/sessions"
        self._secrets = list(secrets)
        self._http = http or Http("stripe")

    async def create_checkout(self, purchase: CheckoutRequest) -> Checkout:
        """Open a session. Raises PlatformError.

        The key of an attempt is the purchase's: one more attempt gives the same session. After a
        fault, which Stripe would repeat for that key, it is a new one.
        """
        key = f"billing-stream/{purchase.purchase_id}"
        form = [
            *_form(purchase),
            ("expires_at", str(int(session_end(purchase, self._now()).timestamp()))),
            ("adaptive_pricing[enabled]", str(self._adaptive_pricing).lower()),
        ]
        return await self._http.send(
            "POST",
            self._url,
            headers={
                **self._headers,
                "Content-Type": "application/x-www-form-urlencoded",
                "Idempotency-Key": key,
            },
            content=urlencode(form).encode(),
            read=self._read,
            new_key=lambda: f"{key}/{uuid4()}",
        )

    @property
    def looks_up(self) -> bool:
        """Stripe can be asked about each session."""
        return True

    async def find_charge(self, query: ChargeQuery) -> FoundCharge | None:
        """The session, as the event that would report it. Raises PlatformError."""
        return await self._http.send(
            "GET",
            f"{self._url}/{quote(query.charge_id, safe='')}",
            headers=self._headers,
            read=self._read_found,
            limits=LOOKUP_LIMITS,
        )

    async def get(self, path: str, form: type[T]) -> T:
        """What the API has at a path below /v1. Raises PlatformError."""

        def read(answer: PlatformResponse) -> T:
            if answer.status != 200:
                raise self._http.refusal(answer)
            return self._http.decode(answer.body, form)

        url = f"{self._api_url}/v1/{path}"
        return await self._http.send(
            "GET", url, headers=self._headers, read=read, limits=LOOKUP_LIMITS
        )

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._api_key}", "Stripe-Version": API_VERSION}

    def _read_found(self, answer: PlatformResponse) -> FoundCharge | None:
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._http.refusal(answer)
        found = self._http.decode(answer.body, _FoundSession)
        kind = COMPLETED if found.payment_status in TAKEN else f"{SESSION}{found.status}"
        amount, currency = amount_of(found)
        if kind not in (COMPLETED, EXPIRED):
            return FoundCharge(amount=amount, currency=currency)
        try:
            event = read_event(event_of(kind, answer.body))
        except (WebhookMalformed, WebhookForged):
            raise self._http.not_understood() from None
        if isinstance(event, IgnoredWebhook):
            return None
        return FoundCharge.of(event, amount, currency)

    def read_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> PlatformEvent | IgnoredWebhook:
        """The content of a webhook. Raises WebhookForged and WebhookMalformed."""
        return read_webhook(headers, body, now, self._secrets)

    async def find_owner(self, event: PlatformEvent) -> PlatformEvent | IgnoredWebhook:
        """The webhook with its merchant, as the payment says it. Raises PlatformError."""
        return await stripe_returns.find_owner(self._http, self._api_url, self._headers, event)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    def _read(self, answer: PlatformResponse) -> Checkout:
        # The attempt before was given up while Stripe still works on it.
        if answer.status == 409:
            raise self._http.busy()
        if answer.status == 400 and b'"idempotency_error"' in answer.body:
            # An attempt long ago had another end of the session.
            raise AnswerKept("stripe knows this purchase with other parameters")
        if answer.status != 200:
            raise self._http.refusal(answer)
        created = self._http.decode(answer.body, _Created)
        live = created.livemode
        test = self._api_key.startswith(_TEST_KEYS) if live is None else not live
        return Checkout(created.id, self._http.page(created.url), test)


def session_end(purchase: CheckoutRequest, now: datetime) -> datetime:
    """When the session ends: with the purchase, within the bounds of Stripe.

    The same at every attempt where they allow it, as Stripe's idempotency demands.
    """
    longest = min(purchase.created_at, now) + SESSION_MAX
    return max(min(purchase.expires_at, longest), now + SESSION_MIN)


def _form(purchase: CheckoutRequest) -> list[tuple[str, str]]:
    price = "line_items[0][price_data]"
    return [
        ("mode", "payment"),
        ("line_items[0][quantity]", "1"),
        (f"{price}[currency]", purchase.currency.lower()),
        (f"{price}[unit_amount]", str(to_minor(purchase.amount, purchase.currency))),
        (f"{price}[product_data][name]", purchase.title),
        ("success_url", purchase.return_url),
        ("cancel_url", purchase.cancel_url),
        ("client_reference_id", purchase.purchase_id),
        ("metadata[merchant_id]", purchase.merchant_id),
        ("metadata[purchase_id]", purchase.purchase_id),
        # What a session is given does not reach its charge, and refunds are told of charges.
        ("payment_intent_data[metadata][merchant_id]", purchase.merchant_id),
        ("payment_intent_data[metadata][purchase_id]", purchase.purchase_id),
    ]
