"""Shopify: a one-time app purchase per checkout, by the GraphQL Admin API.

https://shopify.dev/docs/api/admin-graphql/latest/mutations/appPurchaseOneTimeCreate
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Struct

from billing_stream.domain.commands import Text
from billing_stream.domain.shop_names import shop_domain
from billing_stream.errors import PlatformError, WebhookMalformed
from billing_stream.platforms.base import (
    LOOKED_UP,
    ChargeQuery,
    Checkout,
    CheckoutRequest,
    FoundCharge,
    PlatformEvent,
    PlatformEventKind,
    WebhookContent,
)
from billing_stream.platforms.platform_http import (
    LOOKUP_LIMITS,
    CredentialsRefused,
    Http,
    Limits,
    PlatformResponse,
    TryLater,
)
from billing_stream.platforms.refusal_text import text_of
from billing_stream.platforms.shopify_webhooks import read_body, read_webhook
from billing_stream.platforms.tokens import TokenProvider
from billing_stream.platforms.webhook_text import clean, decode

T = TypeVar("T")

_SHOP = re.compile(r"[a-z0-9][a-z0-9-]{0,100}\.myshopify\.com")

# Codes of errors of GraphQL, which come with HTTP 200.
_FAULTS = {"INTERNAL_SERVER_ERROR", "TIMEOUT"}
_WITHOUT_RIGHTS = {"ACCESS_DENIED", "FORBIDDEN", "UNAUTHORIZED"}

_CREATE = """\
mutation Checkout($name: String!, $price: MoneyInput!, $returnUrl: URL!, $test: Boolean) {
  appPurchaseOneTimeCreate(name: $name, price: $price, returnUrl: $returnUrl, test: $test) {
    appPurchaseOneTime { id test }
    confirmationUrl
    userErrors { field message }
  }
}
"""


_FIND = """\
query Charge($id: ID!) {
  node(id: $id) { ... on AppPurchaseOneTime { id status price { amount currencyCode } } }
}
"""


_SUBSCRIPTIONS = """\
query Subscriptions($topics: [WebhookSubscriptionTopic!]) {
  webhookSubscriptions(first: 10, topics: $topics) { nodes { id } }
}
"""


class _Purchase(Struct):
    id: Text
    test: bool | None = None


class _Price(Struct, rename="camel"):
    amount: str | None = None
    currency_code: str | None = None


class _Node(Struct):
    id: str | None = None
    status: str | None = None
    price: _Price | None = None


class _Created(Struct, rename="camel"):
    app_purchase_one_time: _Purchase | None = None
    confirmation_url: str | None = None
    user_errors: Any = None


class _Subscriptions(Struct):
    nodes: list[Any] = []


class _Data(Struct, rename="camel"):
    app_purchase_one_time_create: _Created | None = None
    node: _Node | None = None
    webhook_subscriptions: _Subscriptions | None = None


class _GraphqlAnswer(Struct):
    data: _Data | None = None
    errors: Any = None


class Shopify:
    """The Admin API of each shop, with that shop's token.

    `api_url` has {shop} where the domain goes; `test` purchases cost nothing. `secrets` are
    those of the app, of which any may have signed a webhook.
    """

    def __init__(
        self,
        tokens: TokenProvider,
        *,
        api_url: str,
        api_version: str,
        test: bool,
        secrets: Sequence[str],
        http: Http | None = None,
    ) -> None:
        self._tokens = tokens
        self._api_url = api_url.rstrip("/")
        self._api_version = api_version
        self._test = test
        self._secrets = list(secrets)
        self._http = http or Http("shopify")

    async def create_checkout(self, purchase: CheckoutRequest) -> Checkout:
        """Open a one-time purchase in the shop. Raises PlatformError.

        A token that is refused is looked up again, once; all of it within one budget.
        """
        # Shopify takes no idempotency key, so an attempt whose answer was lost may leave a
        # purchase behind. It is harmless: only the charge of the answer we read is attached,
        # and nobody ever has the confirmation page of the other one, which then expires.
        variables = {
            "name": purchase.title,
            "price": {"amount": purchase.amount, "currencyCode": purchase.currency},
            "returnUrl": purchase.return_url,
            "test": self._test,
        }
        async with self._http.budget():
            return await self._ask(purchase.shop_domain, _CREATE, variables, self._read)

    @property
    def looks_up(self) -> bool:
        """Shopify can be asked about each purchase."""
        return True

    async def find_charge(self, query: ChargeQuery) -> FoundCharge | None:
        """The purchase, as the webhook that would report it. Raises PlatformError."""
        found = await self._ask(
            query.shop_domain,
            _FIND,
            {"id": query.charge_id},
            lambda answer: self._data(answer).node,
            LOOKUP_LIMITS,
        )
        if found is None or found.status is None or found.id != query.charge_id:
            return None
        webhook = {"admin_graphql_api_id": found.id, "status": found.status}
        body = msgspec.json.encode({"app_purchase_one_time": webhook})
        shop = self._shop(query.shop_domain)
        try:
            event = read_body(body, PlatformEventKind.UPDATED, shop, LOOKED_UP)
        except WebhookMalformed:
            raise self._http.not_understood() from None
        if not isinstance(event, PlatformEvent):
            return None
        price = found.price or _Price()
        return FoundCharge.of(event, price.amount, price.currency_code)

    def known_shops(self) -> list[str]:
        """The shops with a token, where tokens are listed; a service is asked for one only."""
        return self._tokens.shops()

    async def subscriptions(self, shop: str, topic: str) -> int:
        """How many webhook subscriptions to a topic the shop has. Raises PlatformError."""

        def read(answer: PlatformResponse) -> int:
            found = self._data(answer).webhook_subscriptions
            return len(found.nodes) if found else 0

        return await self._ask(shop, _SUBSCRIPTIONS, {"topics": [topic]}, read, LOOKUP_LIMITS)

    def read_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> WebhookContent:
        """The content of a webhook.

        Raises WebhookForged and WebhookMalformed. Shopify signs no time: `now` is not used.
        """
        return read_webhook(headers, body, self._secrets)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()
        await self._tokens.close()

    def _shop(self, domain: str) -> str:
        """The domain, fit to be sent a token. Raises PlatformError otherwise."""
        try:
            shop = shop_domain(domain)
        except ValueError:
            shop = ""
        # With the shop as the host, any other domain would be told a token of ours.
        if not shop or ("{shop}" in urlsplit(self._api_url).netloc and not _SHOP.fullmatch(shop)):
            raise PlatformError("the shop is not one of shopify")
        return shop

    async def _ask(
        self,
        domain: str,
        query: str,
        variables: dict[str, Any],
        read: Callable[[PlatformResponse], T],
        limits: Limits | None = None,
    ) -> T:
        """What `read` makes of the answer. A token that is refused is looked up again, once."""
        shop = self._shop(domain)
        base = self._api_url.replace("{shop}", quote(shop, safe=""))

        async def send(token: str) -> T:
            return await self._http.send(
                "POST",
                f"{base}/admin/api/{self._api_version}/graphql.json",
                headers={"Content-Type": "application/json", "X-Shopify-Access-Token": token},
                content=msgspec.json.encode({"query": query, "variables": variables}),
                read=read,
                limits=limits,
            )

        token = await self._tokens.token_of(shop)
        try:
            return await send(token)
        except CredentialsRefused:
            self._tokens.forget(shop)
            fresh = await self._tokens.token_of(shop)
            if fresh == token:
                raise
        return await send(fresh)

    def _data(self, answer: PlatformResponse) -> _Data:
        if answer.status == 403:
            raise CredentialsRefused(self._without_rights(answer.body))
        if answer.status != 200:
            raise self._http.refusal(answer)
        said = self._http.decode(answer.body, _GraphqlAnswer)
        if said.errors:
            raise self._graphql_error(said.errors)
        return said.data or _Data()

    def _read(self, answer: PlatformResponse) -> Checkout:
        created = self._data(answer).app_purchase_one_time_create
        if created is None:
            raise self._http.not_understood()
        if created.user_errors:
            raise self._http.refused(text_of(created.user_errors))
        opened = created.app_purchase_one_time
        if opened is None:
            raise self._http.not_understood()
        test = self._test if opened.test is None else opened.test
        return Checkout(opened.id, self._http.page(created.confirmation_url), test)

    def _graphql_error(self, errors: Any) -> PlatformError:
        codes = set(_codes(errors))
        if "THROTTLED" in codes:
            return self._http.busy()
        if codes & _FAULTS:
            return TryLater(f"{self._http.name} has a fault of its own")
        if codes & _WITHOUT_RIGHTS:
            return PlatformError(self._without_rights(msgspec.json.encode({"errors": errors})))
        return self._http.refused(text_of(errors))

    def _without_rights(self, body: bytes) -> str:
        """The message where the app lacks rights, with the text of Shopify, which has no token."""
        try:
            text = clean(text_of(decode(body, _GraphqlAnswer).errors))
        except ValueError:
            text = ""
        return f"{self._http.name} refuses our credentials" + (f": {text}" if text else "")


def _codes(errors: Any) -> Iterator[str]:
    for one in errors if isinstance(errors, list) else ():
        extensions = one.get("extensions") if isinstance(one, dict) else None
        code = extensions.get("code") if isinstance(extensions, dict) else None
        if isinstance(code, str):
            yield code
