"""Stripe: a Checkout Session per purchase, paid once.

https://docs.stripe.com/api/checkout/sessions/create and https://docs.stripe.com/webhooks
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, urlencode
from uuid import uuid4

import msgspec
from msgspec import Meta, Struct

from billing_stream.domain.commands import UUID_TEXT, Text
from billing_stream.errors import WebhookForged, WebhookMalformed
from billing_stream.platforms.base import (
    LOOKED_UP,
    ChargeQuery,
    Checkout,
    CheckoutRequest,
    FoundCharge,
    IgnoredWebhook,
    PlatformEvent,
    PlatformEventKind,
)
from billing_stream.platforms.money import from_minor, to_minor
from billing_stream.platforms.platform_http import (
    LOOKUP_LIMITS,
    AnswerKept,
    Http,
    PlatformResponse,
)
from billing_stream.platforms.signatures import find_header, verify
from billing_stream.platforms.webhook_bodies import read_fields, read_object, text_at
from billing_stream.records.timestamps import utc_now

T = TypeVar("T")

API_VERSION = "2026-10-28.endive"

# Stripe takes 30 minutes to 24 hours from when it makes the session, by its own clock.
_ALLOWANCE = timedelta(minutes=1)
SESSION_MIN = timedelta(minutes=30) + _ALLOWANCE
SESSION_MAX = timedelta(hours=24) - _ALLOWANCE

_SESSION = "checkout.session."
_COMPLETED = "checkout.session.completed"
_EXPIRED = "checkout.session.expired"
# Of a session that is looked up: `payment_status` where nothing is left to be paid.
_TAKEN = ("paid", "no_payment_required")
_STATUS_OF = {
    "checkout.session.async_payment_succeeded": "active",
    "checkout.session.async_payment_failed": "declined",
    _EXPIRED: "expired",
}
_REFUNDED = "charge.refunded"
EVENTS_READ = frozenset({_COMPLETED, *_STATUS_OF, _REFUNDED})
"""The types of events that an endpoint must be sent."""

_TEST_KEYS = ("sk_test_", "rk_test_")
_UUID = re.compile(UUID_TEXT)


class _Created(Struct):
    id: Text
    url: str | None = None
    livemode: bool | None = None


class _Session(Struct):
    id: Text
    payment_status: str | None = None
    client_reference_id: str | None = None
    metadata: dict[str, str] | None = None


class _FoundSession(Struct):
    status: str | None = None
    payment_status: str | None = None
    amount_total: int | None = None
    currency: str | None = None


class _Charge(Struct):
    id: Text
    amount_refunded: Annotated[int, Meta(ge=0, lt=10**12)]
    currency: Annotated[str, Meta(pattern=r"^[a-zA-Z]{3}\Z")]
    payment_intent: Text | None = None
    metadata: dict[str, str] | None = None


class _SessionData(Struct):
    object: _Session


class _SessionEvent(Struct):
    id: Text
    type: str
    data: _SessionData


class _ChargeData(Struct):
    object: _Charge


class _ChargeEvent(Struct):
    id: Text
    data: _ChargeData


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
        self._api_url = f"{api_url.rstrip('/')}/v1"
        self._url = f"{self._api_url}/checkout/sessions"
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

        url = f"{self._api_url}/{path}"
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
        kind = _COMPLETED if found.payment_status in _TAKEN else f"{_SESSION}{found.status}"
        amount = currency = None
        if found.amount_total is not None and found.currency is not None:
            currency = found.currency.upper()
            amount = from_minor(found.amount_total, currency)
        if kind not in (_COMPLETED, _EXPIRED):
            return FoundCharge(amount=amount, currency=currency)
        try:
            event = read_event(_event_of(kind, answer.body))
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


def read_webhook(
    headers: Mapping[str, str], body: bytes, now: datetime, secrets: Sequence[str]
) -> PlatformEvent | IgnoredWebhook:
    """The content of a webhook.

    Raises WebhookForged unless one of `secrets` signed `body` lately, and WebhookMalformed.
    """
    verify(find_header(headers, "Stripe-Signature"), body, secrets, now)
    return read_event(body)


def read_event(body: bytes) -> PlatformEvent | IgnoredWebhook:
    """An event that was verified; ignored are other types, and events without our metadata.

    Raises WebhookForged where it is not an object, and WebhookMalformed.
    """
    event = read_object(body)
    kind = _kind(event.get("type"))
    if kind is None or _is_foreign(event):
        return IgnoredWebhook(text_at(event, "type") or "")
    try:
        return _session_event(body) if kind is PlatformEventKind.UPDATED else _charge_event(body)
    except ValueError as error:
        raise WebhookMalformed(
            str(error),
            kind=kind,
            merchant_id=_uuid(text_at(event, "data", "object", "metadata", "merchant_id")),
            delivery_id=text_at(event, "id"),
        ) from None


def _kind(type_: Any) -> PlatformEventKind | None:
    if type_ == _COMPLETED or (isinstance(type_, str) and type_ in _STATUS_OF):
        return PlatformEventKind.UPDATED
    return PlatformEventKind.REFUNDED if type_ == _REFUNDED else None


def _session_event(body: bytes) -> PlatformEvent | IgnoredWebhook:
    event = read_fields(body, _SessionEvent)
    session = event.data.object
    metadata = session.metadata or {}
    merchant_id = _uuid(metadata.get("merchant_id"))
    if merchant_id is None:
        return IgnoredWebhook(event.type)
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
        raise ValueError("`data.object.payment_status` is missing")
    return "pending" if session.payment_status == "unpaid" else "active"


def _charge_event(body: bytes) -> PlatformEvent | IgnoredWebhook:
    event = read_fields(body, _ChargeEvent)
    charge = event.data.object
    metadata = charge.metadata or {}
    merchant_id = _uuid(metadata.get("merchant_id"))
    if merchant_id is None:
        return IgnoredWebhook(_REFUNDED)
    return PlatformEvent(
        kind=PlatformEventKind.REFUNDED,
        charge_id=charge.payment_intent or charge.id,
        status="refunded",
        merchant_id=merchant_id,
        purchase_id=_uuid(metadata.get("purchase_id")),
        amount=from_minor(charge.amount_refunded, charge.currency),
        delivery_id=event.id,
    )


def _is_foreign(event: Mapping[str, Any]) -> bool:
    """Whether its object is another system's on the account, however its fields look."""
    data = event.get("data")
    found = data.get("object") if isinstance(data, Mapping) else None
    if not isinstance(found, Mapping) or "id" not in found:
        return False
    metadata = found.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        return False
    named = metadata.get("merchant_id")
    return named is None or (isinstance(named, str) and _uuid(named) is None)


def _event_of(kind: str, session: bytes) -> bytes:
    """The event that would report a session as it was looked up."""
    event = {"id": LOOKED_UP, "type": kind, "data": {"object": msgspec.Raw(session)}}
    return msgspec.json.encode(event)


def _uuid(text: str | None) -> str | None:
    """An account may serve other systems too, with ids of their own in the same places."""
    return text if text is not None and _UUID.match(text) else None


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
