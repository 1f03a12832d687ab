"""Stripe: a Checkout Session per purchase, paid once.

https://docs.stripe.com/api/checkout/sessions/create and https://docs.stripe.com/webhooks
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

import msgspec
from msgspec import Meta, Struct

from billing_stream.domain.commands import UUID_TEXT, Text
from billing_stream.errors import WebhookMalformed
from billing_stream.platforms.base import (
    Checkout,
    CheckoutRequest,
    PlatformEvent,
    PlatformEventKind,
)
from billing_stream.platforms.money import from_minor, to_minor
from billing_stream.platforms.platform_http import Http, PlatformResponse
from billing_stream.platforms.signatures import find_header, verify
from billing_stream.platforms.webhook_text import decode

API_VERSION = "2026-10-28.endive"

_COMPLETED = "checkout.session.completed"
_STATUS_OF = {
    "checkout.session.async_payment_succeeded": "active",
    "checkout.session.async_payment_failed": "declined",
    "checkout.session.expired": "expired",
}
_REFUNDED = "charge.refunded"
_UUID = re.compile(UUID_TEXT)


class _Created(Struct):
    id: Text
    url: str | None = None


class _EventData(Struct):
    object: msgspec.Raw


class _Event(Struct):
    id: Text
    type: str
    data: _EventData


class _Session(Struct):
    id: Text
    payment_status: str | None = None
    client_reference_id: str | None = None
    metadata: dict[str, str] | None = None


class _Charge(Struct):
    id: Text
    amount_refunded: Annotated[int, Meta(ge=0, lt=10**12)]
    currency: Annotated[str, Meta(pattern=r"^[a-zA-Z]{3}\Z")]
    payment_intent: Text | None = None
    metadata: dict[str, str] | None = None


class Stripe:
    """Stripe's API with one secret key; any of `secrets` may have signed a webhook."""

    def __init__(
        self,
        api_key: str,
        *,
        api_url: str,
        secrets: Sequence[str],
        http: Http | None = None,
    ) -> None:
        self._api_key = api_key
        self._url = f"{api_url.rstrip('/')}/v1/checkout/sessions"
        self._secrets = list(secrets)
        self._http = http or Http("stripe")

    async def create_checkout(self, purchase: CheckoutRequest) -> Checkout:
        """Open a session. Raises PlatformError.

        The key of an attempt is the purchase's: one more attempt gives the same session.
        """
        form = _form(purchase)
        return await self._http.send(
            "POST",
            self._url,
            headers={
                "Authorization": f"Bearer {self._api_key}",
                "Content-Type": "application/x-www-form-urlencoded",
                "Idempotency-Key": f"billing-stream/{purchase.purchase_id}",
                "Stripe-Version": API_VERSION,
            },
            content=urlencode(form).encode(),
            read=self._read,
        )

    def read_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> PlatformEvent | None:
        """What the webhook says; None for another event, or one that is not of ours.

        Raises WebhookForged and WebhookMalformed.
        """
        return read_webhook(headers, body, now, self._secrets)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    def _read(self, answer: PlatformResponse) -> Checkout:
        # The attempt before was given up while Stripe still works on it.
        if answer.status == 409:
            raise self._http.busy()
        if answer.status != 200:
            raise self._http.refusal(answer)
        created = self._http.decode(answer.body, _Created)
        return Checkout(created.id, self._http.page(created.url))


def read_webhook(
    headers: Mapping[str, str], body: bytes, now: datetime, secrets: Sequence[str]
) -> PlatformEvent | None:
    """What the webhook says; None for another event, or one without our metadata.

    Raises WebhookForged unless one of `secrets` signed `body` lately, and WebhookMalformed.
    """
    verify(find_header(headers, "Stripe-Signature"), body, secrets, now)
    try:
        event = decode(body, _Event)
        if event.type == _COMPLETED or event.type in _STATUS_OF:
            return _session_event(event, decode(bytes(event.data.object), _Session))
        if event.type == _REFUNDED:
            return _refund_event(event, decode(bytes(event.data.object), _Charge))
    except ValueError as error:
        raise WebhookMalformed(str(error)) from None
    return None


def _session_event(event: _Event, session: _Session) -> PlatformEvent | None:
    metadata = session.metadata or {}
    merchant_id = _uuid(metadata.get("merchant_id"))
    if merchant_id is None:
        return None
    return PlatformEvent(
        kind=PlatformEventKind.UPDATED,
        charge_id=session.id,
        status=_STATUS_OF.get(event.type) or _completed_status(session),
        merchant_id=merchant_id,
        purchase_id=_uuid(metadata.get("purchase_id")) or _uuid(session.client_reference_id),
        delivery_id=event.id,
    )


def _completed_status(session: _Session) -> str:
    """A session is completed before the money is there, with some ways to pay."""
    if session.payment_status is None:
        raise ValueError("payment_status is missing")
    return "pending" if session.payment_status == "unpaid" else "active"


def _refund_event(event: _Event, charge: _Charge) -> PlatformEvent | None:
    metadata = charge.metadata or {}
    merchant_id = _uuid(metadata.get("merchant_id"))
    if merchant_id is None:
        return None
    return PlatformEvent(
        kind=PlatformEventKind.REFUNDED,
        charge_id=charge.payment_intent or charge.id,
        status="refunded",
        merchant_id=merchant_id,
        purchase_id=_uuid(metadata.get("purchase_id")),
        amount=from_minor(charge.amount_refunded, charge.currency),
        delivery_id=event.id,
    )


def _uuid(text: str | None) -> str | None:
    """An account may serve other systems too, with ids of their own in the same places."""
    return text if text is not None and _UUID.match(text) else None


def _form(purchase: CheckoutRequest) -> list[tuple[str, str]]:
    price = "line_items[0][price_data]"
    return [
        ("mode", "payment"),
        ("line_items[0][quantity]", "1"),
        (f"{price}[currency]", purchase.currency.lower()),
        (f"{price}[unit_amount]", str(to_minor(purchase.amount, purchase.currency))),
        (f"{price}[product_data][name]", purchase.title),
        ("success_url", purchase.return_url),
        ("cancel_url", purchase.return_url),
        ("client_reference_id", purchase.purchase_id),
        ("metadata[merchant_id]", purchase.merchant_id),
        ("metadata[purchase_id]", purchase.purchase_id),
        # What a session is given does not reach its charge, and refunds are told of charges.
        ("payment_intent_data[metadata][merchant_id]", purchase.merchant_id),
        ("payment_intent_data[metadata][purchase_id]", purchase.purchase_id),
    ]
