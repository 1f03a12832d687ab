"""The purchases of a merchant: a page of them, one of them, and how one is opened."""

from http import HTTPStatus
from typing import Annotated

from msgspec import UNSET, Meta, Struct

from billing_stream.domain.commands import Currency, Key, ReservePurchase, Text
from billing_stream.domain.model import PACKS, Platform
from billing_stream.domain.outcomes import ErrorCode, PurchaseOpened
from billing_stream.records.examples import CHECKOUT_URL, EXPIRES_AT, PURCHASE_ID
from billing_stream.web.auth import CLIENT, Client, merchant_of
from billing_stream.web.billing import known
from billing_stream.web.commands import CommandRequest, new_command_id
from billing_stream.web.envelope import ApiError, invalid
from billing_stream.web.models import (
    PURCHASE_EXAMPLE,
    CheckoutBody,
    PackBody,
    PurchaseBody,
    pack_bodies,
)
from billing_stream.web.operation import About, Answer, Call, operation
from billing_stream.web.owners import ReadMerchant, ReadPurchase
from billing_stream.web.pagination import Page
from billing_stream.web.return_urls import CancelUrl, ReturnUrl, require_url

PACKS_PATH = "/api/billing/packs"
PURCHASES_PATH = "/api/billing/purchases"
# Nothing else is an id; so a doubled prefix is no path here, whatever the method.
PURCHASE_PATH = "/api/billing/purchases/{purchase_id:[0-9a-fA-F-]{1,64}}"

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
    await merchant_of(call)
    policy = call.context.policy
    return Answer(pack_bodies(policy.packs, policy.currency))


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
    query = ReadMerchant(await merchant_of(call), skip=page.skip, take=page.limit)
    found = await call.context.owners.read(query, call.ids)
    known(found.merchant)
    purchases = call.context.bodies_of(found.purchases)
    return Answer(purchases, pagination=page.of(found.total))


@operation(
    "POST",
    PURCHASES_PATH,
    CLIENT,
    codes=(
        ErrorCode.INVALID_PACK,
        ErrorCode.TOO_MANY_OPEN_PURCHASES,
        ErrorCode.PLATFORM_ERROR,
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
        raise invalid("platform", f"payment through {body.platform} is not set up here")
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
    return Answer(CheckoutBody(opened.purchase_id, opened.checkout_url, opened.expires_at), given)


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
