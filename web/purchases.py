"""The purchases of a merchant: a page of them, one of them, and how one is opened."""

import re
from http import HTTPStatus
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import UNSET, Meta, Struct

from billing_stream.domain.commands import UUID_TEXT, Currency, Key, ReservePurchase, Text
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import ErrorCode, PurchaseOpened
from billing_stream.domain.policy import PACKS
from billing_stream.records.examples import CHECKOUT_URL, EXPIRES_AT, PURCHASE_ID
from billing_stream.records.invalid_fields import Rule
from billing_stream.web.auth import CLIENT, Client, merchant_of
from billing_stream.web.billing import known
from billing_stream.web.commands import CommandRequest, new_command_id
from billing_stream.web.envelope import ApiError, WebCode, invalid
from billing_stream.web.models import (
    PURCHASE_EXAMPLE,
    CheckoutBody,
    PackBody,
    PurchaseBody,
    pack_bodies,
)
from billing_stream.web.operation import About, Answer, Call, operation
from billing_stream.web.owners import ReadMerchant, ReadPacks, ReadPurchase
from billing_stream.web.pagination import Page, cursor_after, wrong_cursor

PACKS_PATH = "/api/billing/packs"
PURCHASES_PATH = "/api/billing/purchases"
# Nothing else is an id; so a doubled prefix is no path here, whatever the method.
PURCHASE_PATH = "/api/billing/purchases/{purchase_id:[0-9a-fA-F-]{1,64}}"

_LIST = "purchases"

SESSION_TEMPLATE = "{CHECKOUT_SESSION_ID}"
"""Stripe puts the id of its session there."""

_MAX = 2048
# What no part of an address has. It is shown in pages and sent in headers.
_ODD = r"\s\x00-\x20\x7f\x22'<>\\^`|"
_CHARACTERS = re.compile(rf"[^{_ODD}{{}}]+")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
HOST_MAX = 253


def _url(description: str) -> Meta:
    return Meta(
        max_length=_MAX,
        description=f"{description}: http or https, with a host and without user info. With "
        f"Stripe it may have `{SESSION_TEMPLATE}`",
        # For readers; `require_url` is what refuses.
        extra_json_schema={"format": "uri", "pattern": rf"^https?://[^{_ODD}]+$"},
    )


ReturnUrl = Annotated[str, _url("Where the merchant goes after the payment")]
CancelUrl = Annotated[
    str, _url("Where the merchant goes who does not pay, by default `return_url`. Not with Shopify")
]


PackName = Annotated[
    Text, Meta(description="One that GET /api/billing/packs lists; the operator names them")
]


class BuyBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api/billing/purchases`.

    Without a `currency` the price is that in the service's own, which GET /api/billing/packs lists
    first.
    """

    pack: PackName
    platform: Platform
    return_url: ReturnUrl
    idempotency_key: Key | None = None
    currency: Currency | None = None
    cancel_url: CancelUrl | None = None


_BUY = ("small", Platform.SHOPIFY, "https://shop.example/billing/done")


@operation(
    "GET",
    PACKS_PATH,
    CLIENT,
    about=About(
        id="listPacks",
        tag="purchases",
        summary="The packs on sale, and their prices",
        example=pack_bodies(PACKS, "USD"),
    ),
)
async def list_packs(call: Call[Client]) -> Answer[list[PackBody]]:
    """Every pack, in each of its currencies."""
    policy, query = call.context.policy, ReadPacks(await merchant_of(call), call.context.now())
    packs = (await call.context.owners.read(query, call.ids)).packs
    return Answer(pack_bodies(policy.packs if packs is None else packs, policy.currency))


@operation(
    "GET",
    PURCHASES_PATH,
    CLIENT,
    about=About(
        id="listPurchases",
        tag="purchases",
        summary="The purchases of a merchant",
        example=[PURCHASE_EXAMPLE],
    ),
)
async def list_purchases(call: Call[Client], page: Page) -> Answer[list[PurchaseBody]]:
    """A page of the purchases, newest first."""
    after = page.after(_LIST, UUID_TEXT)
    query = ReadMerchant(await merchant_of(call), page.skip, page.limit, after)
    found = await call.context.owners.read(query, call.ids)
    known(found.merchant)
    if after is not None and found.skipped is None:
        raise wrong_cursor()
    purchases = call.context.bodies_of(found.purchases)
    following = cursor_after(_LIST, purchases[-1].id) if purchases else ""
    return Answer(purchases, pagination=page.of(found.total, found.skipped, following))


@operation(
    "POST",
    PURCHASES_PATH,
    CLIENT,
    codes=(
        ErrorCode.INVALID_PACK,
        ErrorCode.MERCHANT_UNINSTALLED,
        ErrorCode.TOO_MANY_OPEN_PURCHASES,
        ErrorCode.PLATFORM_ERROR,
        ErrorCode.CHECKOUT_REFUSED,
    ),
    status=HTTPStatus.CREATED,
    about=About(
        id="openPurchase",
        tag="purchases",
        summary="Buy a pack of credits",
        example=CheckoutBody(PURCHASE_ID, CHECKOUT_URL, EXPIRES_AT),
        body_examples={
            "plain": BuyBody(*_BUY),
            "repeatable": BuyBody(*_BUY, "buy-1"),
            "in yen": BuyBody(*_BUY, currency="JPY"),
        },
        location=True,
        links={
            "purchase": {
                "operationId": "getPurchase",
                "parameters": {"purchase_id": "$response.body#/data/purchase_id"},
            }
        },
    ),
)
async def open_purchase(call: Call[Client], body: BuyBody, key: str | None) -> Answer[CheckoutBody]:
    """Open a purchase of a pack, and a checkout for it at the platform."""
    if body.platform not in call.context.platforms:
        known = ", ".join(call.context.platforms)
        why = f"`platform` must be one of {known}: the others are not set up here"
        raise invalid("platform", why, Rule.CHOICE, WebCode.UNKNOWN_PLATFORM)
    require_url("return_url", body.return_url, body.platform)
    require_url("cancel_url", body.cancel_url, body.platform)
    merchant_id, command_id = await merchant_of(call), new_command_id()
    command = ReservePurchase(
        merchant_id,
        body.pack,
        body.platform,
        body.return_url,
        key,
        command_id,
        body.currency,
        body.cancel_url or UNSET,
    )
    asked = CommandRequest(command, call.who.domain, call.ids.correlation_id)
    opened, given = await call.context.commands.carry_out(asked, call.ids, PurchaseOpened)
    if opened.checkout_url is None:
        raise ValueError(f"purchase {opened.purchase_id} has no checkout")
    checkout = CheckoutBody(opened.purchase_id, opened.checkout_url, opened.expires_at)
    return Answer(checkout, given, location=f"{PURCHASES_PATH}/{opened.purchase_id}")


@operation(
    "GET",
    PURCHASE_PATH,
    CLIENT,
    codes=(ErrorCode.PURCHASE_NOT_FOUND,),
    about=About(
        id="getPurchase", tag="purchases", summary="One purchase", example=PURCHASE_EXAMPLE
    ),
)
async def get_purchase(call: Call[Client], purchase_id: str) -> Answer[PurchaseBody]:
    """One purchase; another merchant's is as if it did not exist."""
    query = ReadPurchase(await merchant_of(call), purchase_id.lower())
    found = await call.context.owners.read(query, call.ids)
    known(found.merchant)
    if found.purchase is None:
        raise ApiError(ErrorCode.PURCHASE_NOT_FOUND, "the merchant has no purchase with this id")
    (purchase,) = call.context.bodies_of([found.purchase])
    return Answer(purchase)


OPERATIONS = (list_packs, list_purchases, open_purchase, get_purchase)


def require_url(field: str, url: str | None, platform: Platform) -> None:
    """Raise ApiError (VALIDATION_ERROR), naming the field, unless a browser can be sent there."""
    why = None if url is None else _wrong(url, platform)
    if why is not None:
        raise invalid(field, f"`{field}` {why}")


def _wrong(url: str, platform: Platform) -> str | None:
    filled = url.replace(SESSION_TEMPLATE, "cs") if platform is Platform.STRIPE else url
    if not url.startswith(("http://", "https://")):
        return "must begin with http:// or https://"
    if SESSION_TEMPLATE in filled:
        return f"may have {SESSION_TEMPLATE} with stripe only"
    if _CHARACTERS.fullmatch(filled) is None or not filled.isprintable():
        return "has characters that are not allowed in a URL"
    try:
        parts = urlsplit(filled)
        port, host = parts.port, parts.hostname
    except ValueError:
        return "has a host or a port that is malformed"
    if "@" in parts.netloc:
        return "must have no user name and no password"
    if port == 0 or not host or not _is_host(host, parts.netloc):
        return "has a host or a port that is malformed"
    if SESSION_TEMPLATE in urlsplit(url).netloc:
        return f"must not have {SESSION_TEMPLATE} in its host"
    return None


def _is_host(host: str, netloc: str) -> bool:
    """Whether it is an IP address, or the name of a host in any script."""
    try:
        if netloc.startswith("["):
            return bool(IPv6Address(host))
        labels = host.removesuffix(".").encode("idna").decode().split(".")
        if _NUMBER.fullmatch(labels[-1]):
            # Browsers take it for an IPv4 address.
            return bool(IPv4Address(host))
    except (AddressValueError, UnicodeError):
        return False
    return len(host) <= HOST_MAX and all(_LABEL.fullmatch(label) for label in labels)
