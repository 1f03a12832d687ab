"""A payment gateway of your own: one request opens a checkout, one webhook tells of it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from billing_stream.domain.commands import Amount, Text, Uuid
from billing_stream.errors import PlatformError, WebhookMalformed
from billing_stream.platforms.base import (
    Checkout,
    CheckoutRequest,
    PlatformEvent,
    PlatformEventKind,
)
from billing_stream.platforms.platform_http import Http, PlatformResponse
from billing_stream.platforms.signatures import find_header, sign, usable, verify
from billing_stream.platforms.webhook_text import decode

SIGNATURE = "X-Billing-Signature"


def _now() -> datetime:
    return datetime.now(UTC)


class _Opened(Struct):
    charge_id: Text
    checkout_url: str


class GatewayWebhook(Struct):
    """The body of a webhook of the gateway."""

    charge_id: Text
    merchant_id: Uuid
    kind: PlatformEventKind = PlatformEventKind.UPDATED
    status: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    purchase_id: Uuid | None = None
    amount: Amount | None = None


class Custom:
    """The gateway at `url`. The first of `secrets` signs what we send; any signs webhooks."""

    def __init__(
        self,
        url: str,
        *,
        secrets: Sequence[str],
        http: Http | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._url = url
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

    def read_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> PlatformEvent | None:
        """What the webhook says. Raises WebhookForged and WebhookMalformed."""
        return read_webhook(headers, body, now, self._secrets)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    def _read(self, answer: PlatformResponse) -> Checkout:
        if not 200 <= answer.status < 300:
            raise self._http.refusal(answer)
        opened = self._http.decode(answer.body, _Opened)
        return Checkout(opened.charge_id, self._http.page(opened.checkout_url))


def read_webhook(
    headers: Mapping[str, str], body: bytes, now: datetime, secrets: Sequence[str]
) -> PlatformEvent:
    """What the webhook says.

    Raises WebhookForged unless one of `secrets` signed `body` lately, and WebhookMalformed.
    """
    verify(find_header(headers, SIGNATURE), body, secrets, now)
    try:
        said = decode(body, GatewayWebhook)
    except ValueError as error:
        raise WebhookMalformed(str(error)) from None
    status = said.status or ("refunded" if said.kind is PlatformEventKind.REFUNDED else None)
    if status is None:
        raise WebhookMalformed("status is missing")
    return PlatformEvent(
        kind=said.kind,
        charge_id=said.charge_id,
        status=status,
        merchant_id=said.merchant_id,
        purchase_id=said.purchase_id,
        amount=said.amount,
    )
