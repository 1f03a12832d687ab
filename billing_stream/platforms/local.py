"""The stand-in for development and tests: a checkout page of our own, no account needed."""

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import jwt
import msgspec
from msgspec import Struct

from billing_stream.domain.purchases import REFUSES
from billing_stream.errors import CheckoutRefused, PlatformError, WebhookForged
from billing_stream.platforms.base import (
    ChargeQuery,
    Checkout,
    CheckoutRequest,
    FoundCharge,
    WebhookContent,
)
from billing_stream.platforms.webhook_text import is_page
from billing_stream.records.timestamps import utc_now

AUDIENCE = "billing-stream/checkout"
TOKEN_LIFE = timedelta(hours=24)

_ALGORITHM = "HS256"

WebhookReader = Callable[[Mapping[str, str], bytes, datetime], WebhookContent]


class LocalCheckout(Struct, frozen=True, kw_only=True):
    """What a local checkout page shows and pays: `amount` is decimal text in `currency`.

    Without a `cancel_url` it is the `return_url`.
    """

    merchant_id: str
    purchase_id: str
    charge_id: str
    title: str
    amount: str
    currency: str
    credits: int
    return_url: str
    cancel_url: str | None = None

    def back(self, *, paid: bool) -> str:
        """Where the merchant goes afterwards."""
        url = self.return_url if paid else self.cancel_url or self.return_url
        return url.replace("{CHECKOUT_SESSION_ID}", self.charge_id)


class Local:
    """Opens checkouts at `base_url`/dev/checkout/<token>, signed with `secret`.

    `webhooks` reads webhooks by the rules of the platform it stands for; without it, all of
    them are forged. `charges` is how the ids of its charges begin.
    """

    def __init__(
        self,
        base_url: str,
        secret: str,
        webhooks: WebhookReader | None = None,
        *,
        charges: str = "local_",
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._secret = secret
        self._webhooks = webhooks
        self._charges = charges
        self._now = now

    async def create_checkout(self, purchase: CheckoutRequest) -> Checkout:
        """A fresh charge, and the page that pays it for 24 hours. It counts as if it were real.

        Raises CheckoutRefused when the page would have an address of over 2048 characters.
        """
        charge_id = f"{self._charges}{secrets.randbelow(9 * 10**15) + 10**15}"
        checkout = LocalCheckout(
            merchant_id=purchase.merchant_id,
            purchase_id=purchase.purchase_id,
            charge_id=charge_id,
            title=purchase.title,
            amount=purchase.amount,
            currency=purchase.currency,
            credits=purchase.credits,
            return_url=purchase.return_url,
            # The address of the page is not to be longer than it has to.
            cancel_url=purchase.cancel_url if purchase.cancel_url != purchase.return_url else None,
        )
        fields = msgspec.structs.asdict(checkout).items()
        claims = {
            **{name: value for name, value in fields if value is not None},
            "aud": AUDIENCE,
            "exp": self._now() + TOKEN_LIFE,
        }
        token = jwt.encode(claims, self._secret, algorithm=_ALGORITHM)
        url = f"{self._base_url}/dev/checkout/{token}"
        if not is_page(url):
            why = "the return address is too long for the local checkout page"
            raise CheckoutRefused(f"the local page {REFUSES}{why}")
        return Checkout(charge_id, url)

    @property
    def looks_up(self) -> bool:
        """A page that was opened is not stored."""
        return False

    async def find_charge(self, query: ChargeQuery) -> FoundCharge | None:
        """Nothing."""

    def read_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> WebhookContent:
        """What the platform it stands for would say. Raises WebhookForged, WebhookMalformed."""
        if self._webhooks is None:
            raise WebhookForged("there is no secret for these webhooks")
        return self._webhooks(headers, body, now)

    async def close(self) -> None:
        """Nothing is open."""


def read_token(token: str, secret: str) -> LocalCheckout:
    """The checkout that a link opens. Raises PlatformError when it is forged or too old."""
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=[_ALGORITHM],
            audience=AUDIENCE,
            options={"require": ["exp", "aud"]},
        )
        return msgspec.convert(claims, LocalCheckout)
    except jwt.ExpiredSignatureError:
        raise PlatformError("this checkout has expired") from None
    except (
        jwt.PyJWTError,
        msgspec.ValidationError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
    ):
        # PyJWT lets some of the latter through, for tokens made to be odd.
        raise PlatformError("this is not a checkout of this service") from None
