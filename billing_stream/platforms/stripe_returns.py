"""What Stripe reports of disputes and failed refunds, and the merchant of their payment.

Their objects do not have the metadata of the payment, so Stripe is asked for it.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from billing_stream.domain.commands import Text
from billing_stream.platforms.base import IgnoredWebhook, PlatformEvent, PlatformEventKind
from billing_stream.platforms.money import from_minor
from billing_stream.platforms.platform_http import Http, PlatformResponse
from billing_stream.platforms.webhook_bodies import own_id, read_fields, text_at
from billing_stream.records.payloads import CurrencyIn

_WITHDRAWN = "charge.dispute.funds_withdrawn"
_REINSTATED = "charge.dispute.funds_reinstated"
_CLOSED = "charge.dispute.closed"
_REFUNDS = ("refund.failed", "refund.updated", "charge.refund.updated")
EVENTS_READ = (_WITHDRAWN, _REINSTATED, _CLOSED, *_REFUNDS)

Minor = Annotated[int, Meta(ge=0, lt=10**12)]


class _Object(Struct):
    """A dispute or a refund."""

    id: Text
    amount: Minor
    currency: CurrencyIn
    payment_intent: Text | None = None
    charge: Text | None = None
    metadata: dict[str, str] | None = None


class _Data(Struct):
    object: _Object


class _Event(Struct):
    id: Text
    data: _Data


class _Payment(Struct):
    amount: Minor
    currency: CurrencyIn
    metadata: dict[str, str] = {}


def kind_of(type_: object, event: Mapping[str, Any]) -> PlatformEventKind | None:
    """The kind of an event; None where nothing of the money is final by it, as of an inquiry."""
    status = text_at(event, "data", "object", "status")
    if type_ in (_WITHDRAWN, _REINSTATED) or (type_ == _CLOSED and status in ("won", "lost")):
        return PlatformEventKind.DISPUTED
    if type_ in _REFUNDS and (type_ == _REFUNDS[0] or status in ("failed", "canceled")):
        return PlatformEventKind.REFUND_FAILED
    return None


def read(body: bytes, event: Mapping[str, Any], kind: PlatformEventKind) -> PlatformEvent:
    """What it says. Raises ValueError, which names the field."""
    found = read_fields(body, _Event)
    about = found.data.object
    charge_id = about.payment_intent or about.charge
    if charge_id is None:
        raise ValueError("`data.object.payment_intent` is missing")
    metadata, disputed = about.metadata or {}, kind is PlatformEventKind.DISPUTED
    statuses = {_WITHDRAWN: "withdrawn", _REINSTATED: "reinstated"}
    status = statuses.get(event["type"]) or text_at(event, "data", "object", "status")
    return PlatformEvent(
        kind=kind,
        charge_id=charge_id,
        status=status or "failed",
        merchant_id=own_id(metadata.get("merchant_id")),
        purchase_id=own_id(metadata.get("purchase_id")),
        amount=from_minor(about.amount, about.currency),
        currency=about.currency.upper() if disputed else None,
        refund_id=None if disputed else about.id,
        dispute_id=about.id if disputed else None,
        delivery_id=found.id,
    )


async def find_owner(
    http: Http, url: str, headers: Mapping[str, str], event: PlatformEvent
) -> PlatformEvent | IgnoredWebhook:
    """The webhook with what the payment says of it. Raises PlatformError."""

    def read_payment(answer: PlatformResponse) -> _Payment | None:
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise http.refusal(answer)
        return http.decode(answer.body, _Payment)

    kind = "charges" if event.charge_id.startswith(("ch_", "py_")) else "payment_intents"
    address = f"{url}/v1/{kind}/{event.charge_id}"
    payment = await http.send("GET", address, headers=headers, read=read_payment)
    named = None if payment is None else own_id(payment.metadata.get("merchant_id"))
    if payment is None or named is None:
        return IgnoredWebhook(event.kind)
    same = event.currency == payment.currency.upper()
    return replace(
        event,
        merchant_id=named,
        purchase_id=own_id(payment.metadata.get("purchase_id")),
        charge_amount=from_minor(payment.amount, payment.currency) if same else None,
    )
