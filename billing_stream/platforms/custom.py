"""A payment gateway of your own: one request opens a checkout, one webhook reports it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Meta, Struct

from billing_stream.domain.commands import Text, Uuid
from billing_stream.errors import PlatformError, WebhookForged, WebhookMalformed
from billing_stream.platforms.base import (
    ChargeQuery,
    Checkout,
    CheckoutRequest,
    FoundCharge,
    PlatformEvent,
    PlatformEventKind,
)
from billing_stream.platforms.platform_http import LOOKUP_LIMITS, Http, PlatformResponse
from billing_stream.platforms.signatures import find_header, sign, usable, verify
from billing_stream.platforms.webhook_bodies import own_id, read_fields, read_object, text_at
from billing_stream.records.amounts import amount_text
from billing_stream.records.payloads import CurrencyIn
from billing_stream.records.timestamps import utc_now

SIGNATURE = "X-Billing-Signature"

# What requests of every release to the gateway have.
_REQUEST = frozenset(
    [
        "merchant_id",
        "purchase_id",
        "shop_domain",
        "title",
        "credits",
        "amount",
        "currency",
        "return_url",
    ]
)
_STATUS_OF = {
    PlatformEventKind.REFUNDED: "refunded",
    PlatformEventKind.REFUND_FAILED: "failed",
}


class _Opened(Struct):
    charge_id: Text
    checkout_url: str
    test: bool = False


class GatewayWebhook(Struct):
    """The body of a webhook of the gateway."""

    charge_id: Text
    merchant_id: Uuid
    kind: PlatformEventKind = PlatformEventKind.UPDATED
    status: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    purchase_id: Uuid | None = None
    amount: Decimal | None = None
    currency: CurrencyIn | None = None
    charge_amount: Decimal | None = None
    refund_id: Text | None = None
    dispute_id: Text | None = None


class Custom:
    """The gateway at `url`. The first of `secrets` signs what we send; any signs webhooks.

    `lookup_url`, with {charge_id} in it, is where it reports a charge; None: it does not.
    """

    def __init__(
        self,
        url: str,
        *,
        secrets: Sequence[str],
        lookup_url: str | None = None,
        http: Http | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._url = url
        self._lookup_url = lookup_url
        self._secrets = list(secrets)
        self._http = http or Http("the payment gateway")
        self._now = now

    async def create_checkout(self, purchase: CheckoutRequest) -> Checkout:
        """Open a checkout. Raises PlatformError.

        Each attempt has the same Idempotency-Key, by which the gateway knows it again.
        """
        if not usable(self._secrets):
            raise PlatformError(f"{self._http.name} has no secret to sign with")
        body = msgspec.json.encode(purchase)
        return await self._http.send(
            "POST",
            self._url,
            headers={
                "Content-Type": "application/json",
                "Idempotency-Key": f"billing-stream/{purchase.purchase_id}",
                SIGNATURE: sign(self._secrets[0], body, self._now()),
            },
            content=body,
            read=self._read,
        )

    @property
    def looks_up(self) -> bool:
        """Whether the gateway has an address for it."""
        return self._lookup_url is not None

    async def find_charge(self, query: ChargeQuery) -> FoundCharge | None:
        """The charge, from the body that its webhook would have. Raises PlatformError.

        Signed is the path of the request, with what follows it.
        """
        if self._lookup_url is None:
            return None
        if not usable(self._secrets):
            raise PlatformError(f"{self._http.name} has no secret to sign with")
        url = self._lookup_url.replace("{charge_id}", quote(query.charge_id, safe=""))
        path = urlsplit(url)._replace(scheme="", netloc="", fragment="").geturl()
        return await self._http.send(
            "GET",
            url,
            headers={SIGNATURE: sign(self._secrets[0], path.encode(), self._now())},
            read=self._read_found,
            limits=LOOKUP_LIMITS,
        )

    def _read_found(self, answer: PlatformResponse) -> FoundCharge | None:
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._http.refusal(answer)
        try:
            event = read_body(answer.body)
        except (WebhookMalformed, WebhookForged):
            raise self._http.not_understood() from None
        return FoundCharge.of(event, event.amount)

    def read_webhook(self, headers: Mapping[str, str], body: bytes, now: datetime) -> PlatformEvent:
        """The content of a webhook. Raises WebhookForged and WebhookMalformed."""
        return read_webhook(headers, body, now, self._secrets)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    def _read(self, answer: PlatformResponse) -> Checkout:
        if not 200 <= answer.status < 300:
            raise self._http.refusal(answer)
        opened = self._http.decode(answer.body, _Opened)
        page = self._http.page(opened.checkout_url)
        return Checkout(opened.charge_id, page, opened.test)


def read_webhook(
    headers: Mapping[str, str], body: bytes, now: datetime, secrets: Sequence[str]
) -> PlatformEvent:
    """The content of a webhook.

    Raises WebhookForged unless one of `secrets` signed `body` lately, as a webhook, and
    WebhookMalformed.
    """
    verify(find_header(headers, SIGNATURE), body, secrets, now)
    found = read_object(body)
    if found.keys() >= _REQUEST and "charge_id" not in found:
        # One secret signs both ways.
        raise WebhookForged("the body is a request to the gateway and not a webhook")
    return read_body(body)


def read_body(body: bytes, kind: str | None = None) -> PlatformEvent:
    """A webhook that was verified; `kind` is meant where it names none (default: updated).

    Raises WebhookForged where it is not an object, and WebhookMalformed.
    """
    found = read_object(body)
    kinds = list(PlatformEventKind)
    meant = found.get("kind", kind if kind in kinds else PlatformEventKind.UPDATED)
    merchant_id = text_at(found, "merchant_id")
    try:
        webhook = read_fields(body, GatewayWebhook)
        return _event(webhook, PlatformEventKind(meant))
    except ValueError as error:
        raise WebhookMalformed(
            str(error),
            kind=meant if meant in kinds else None,
            merchant_id=own_id(merchant_id),
        ) from None


def _event(webhook: GatewayWebhook, kind: PlatformEventKind) -> PlatformEvent:
    status = webhook.status or _STATUS_OF.get(kind)
    if status is None:
        raise ValueError("`status` is missing")
    amounts = {"amount": webhook.amount, "charge_amount": webhook.charge_amount}
    stated = {name: amount for name, amount in amounts.items() if amount is not None}
    return PlatformEvent(
        kind=kind,
        charge_id=webhook.charge_id,
        status=status,
        merchant_id=webhook.merchant_id,
        purchase_id=webhook.purchase_id,
        currency=webhook.currency and webhook.currency.upper(),
        refund_id=webhook.refund_id,
        dispute_id=webhook.dispute_id,
        **{name: amount_text(amount, name) for name, amount in stated.items()},
    )
