"""What Stripe's events say of sessions and charges.

https://docs.stripe.com/webhooks
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from billing_stream.domain.commands import Text
from billing_stream.errors import WebhookMalformed
from billing_stream.platforms import stripe_returns
from billing_stream.platforms.base import (
    LOOKED_UP,
    IgnoredWebhook,
    PlatformEvent,
    PlatformEventKind,
)
from billing_stream.platforms.money import from_minor
from billing_stream.platforms.signatures import find_header, verify
from billing_stream.platforms.stripe_returns import Minor
from billing_stream.platforms.webhook_bodies import own_id, read_fields, read_object, text_at
from billing_stream.records.payloads import CurrencyIn

SESSION = "checkout.session."
COMPLETED = "checkout.session.completed"
EXPIRED = "checkout.session.expired"
# Of a session that is looked up: `payment_status` where nothing is left to be paid.
TAKEN = ("paid", "no_payment_required")
_STATUS_OF = {
    "checkout.session.async_payment_succeeded": "active",
    "checkout.session.async_payment_failed": "declined",
    EXPIRED: "expired",
}
_REFUNDED = "charge.refunded"
EVENTS_READ = frozenset({COMPLETED, *_STATUS_OF, _REFUNDED, *stripe_returns.EVENTS_READ})
"""The types of events that an endpoint must be sent."""


class _Conversion(Struct):
    """What was asked for, where a session is in the currency of the merchant's customer."""

    amount_total: Minor
    source_currency: CurrencyIn


class Session(Struct):
    """A Checkout Session, as far as it is read."""

    id: Text
    payment_status: str | None = None
    amount_total: Minor | None = None
    currency: CurrencyIn | None = None
    currency_conversion: _Conversion | None = None
    client_reference_id: str | None = None
    metadata: dict[str, str] | None = None


class _Charge(Struct):
    id: Text
    amount_refunded: Minor
    currency: CurrencyIn
    amount: Minor | None = None
    payment_intent: Text | None = None
    metadata: dict[str, str] | None = None


class _SessionData(Struct):
    object: Session


class _SessionEvent(Struct):
    id: Text
    type: str
    data: _SessionData


class _ChargeData(Struct):
    object: _Charge


class _ChargeEvent(Struct):
    id: Text
    data: _ChargeData


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
    type_ = event.get("type")
    kind = _kind(type_) or stripe_returns.kind_of(type_, event)
    if kind is None or _is_foreign(event, kind):
        return IgnoredWebhook(text_at(event, "type") or "")
    try:
        if kind is PlatformEventKind.UPDATED:
            return _session_event(body)
        if kind is PlatformEventKind.REFUNDED:
            return _charge_event(body)
        return stripe_returns.read(body, event, kind)
    except ValueError as error:
        raise WebhookMalformed(
            str(error),
            kind=kind,
            merchant_id=own_id(text_at(event, "data", "object", "metadata", "merchant_id")),
            delivery_id=text_at(event, "id"),
        ) from None


def _kind(type_: Any) -> PlatformEventKind | None:
    if type_ == COMPLETED or (isinstance(type_, str) and type_ in _STATUS_OF):
        return PlatformEventKind.UPDATED
    return PlatformEventKind.REFUNDED if type_ == _REFUNDED else None


def _session_event(body: bytes) -> PlatformEvent | IgnoredWebhook:
    event = read_fields(body, _SessionEvent)
    session = event.data.object
    metadata = session.metadata or {}
    merchant_id = own_id(metadata.get("merchant_id"))
    if merchant_id is None:
        return IgnoredWebhook(event.type)
    status = _STATUS_OF.get(event.type) or _completed_status(session)
    amount, currency = amount_of(session) if status == "active" else (None, None)
    return PlatformEvent(
        kind=PlatformEventKind.UPDATED,
        charge_id=session.id,
        status=status,
        amount=amount,
        currency=currency,
        merchant_id=merchant_id,
        purchase_id=own_id(metadata.get("purchase_id")) or own_id(session.client_reference_id),
        delivery_id=event.id,
    )


def _completed_status(session: Session) -> str:
    """A session is completed before the money is there, with some ways to pay."""
    if session.payment_status is None:
        raise ValueError("`data.object.payment_status` is missing")
    return "pending" if session.payment_status == "unpaid" else "active"


def amount_of(session: Session) -> tuple[str | None, str | None]:
    """What was to be paid, in the currency that was asked for, where the session states it."""
    amount, currency = session.amount_total, session.currency
    if session.currency_conversion is not None:
        amount = session.currency_conversion.amount_total
        currency = session.currency_conversion.source_currency
    if amount is None or currency is None:
        return None, None
    return from_minor(amount, currency), currency.upper()


def _charge_event(body: bytes) -> PlatformEvent | IgnoredWebhook:
    event = read_fields(body, _ChargeEvent)
    charge = event.data.object
    metadata = charge.metadata or {}
    merchant_id = own_id(metadata.get("merchant_id"))
    if merchant_id is None:
        return IgnoredWebhook(_REFUNDED)
    return PlatformEvent(
        kind=PlatformEventKind.REFUNDED,
        charge_id=charge.payment_intent or charge.id,
        status="refunded",
        merchant_id=merchant_id,
        purchase_id=own_id(metadata.get("purchase_id")),
        amount=from_minor(charge.amount_refunded, charge.currency),
        currency=charge.currency.upper(),
        charge_amount=from_minor(charge.amount, charge.currency) if charge.amount else None,
        delivery_id=event.id,
    )


def _is_foreign(event: Mapping[str, Any], kind: PlatformEventKind) -> bool:
    """Whether its object is another system's on the account, however its fields look.

    Only the payment of a dispute or a failed refund says that, unless they say it themselves.
    """
    data = event.get("data")
    found = data.get("object") if isinstance(data, Mapping) else None
    if not isinstance(found, Mapping) or "id" not in found:
        return False
    metadata = found.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        return False
    named = metadata.get("merchant_id")
    if named is None and kind not in (PlatformEventKind.UPDATED, PlatformEventKind.REFUNDED):
        return False
    return named is None or (isinstance(named, str) and own_id(named) is None)


def event_of(kind: str, session: bytes) -> bytes:
    """The event that would report a session as it was looked up."""
    event = {"id": LOOKED_UP, "type": kind, "data": {"object": msgspec.Raw(session)}}
    return msgspec.json.encode(event)
