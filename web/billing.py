"""The merchant's API. Each request goes: who asks, whose shop, ask the owner, answer."""

from datetime import UTC, datetime

from aiohttp import web

from billing_stream.domain.model import Merchant
from billing_stream.domain.outcomes import ErrorCode
from web.auth import authenticate
from web.envelope import ApiError, ids_of, respond
from web.models import billing_body, purchase_body, trial_body
from web.pagination import parse_page
from web.queries import ReadMerchant, ReadPurchase
from web.views import ApiView

RECENT_PURCHASES = 5

BILLING_PATH = "/api/billing"
TRIALS_PATH = "/api/billing/trials"
PURCHASES_PATH = "/api/billing/purchases"
# Nothing else is an id; so a doubled prefix is no path here, whatever the method.
PURCHASE_PATH = "/api/billing/purchases/{purchase_id:[0-9a-fA-F-]{1,64}}"


class MerchantView(ApiView):
    """A view on behalf of one merchant."""

    async def merchant_id_of(self, request: web.Request) -> str:
        """The merchant whose client asks. Raises ApiError when it is none of ours."""
        client = authenticate(request.headers, self.context.client_secret)
        return await self.context.owners.merchant_of(client.shop, ids_of(request))


class Billing(MerchantView):
    """`/api/billing`"""

    async def get(self, request: web.Request) -> web.Response:
        """Trial, credits and the newest purchases."""
        merchant_id = await self.merchant_id_of(request)
        query = ReadMerchant(merchant_id, take=RECENT_PURCHASES)
        found = await self.context.owners.read(query, ids_of(request))
        merchant = known(found.merchant)
        return respond(request, billing_body(merchant, found.purchases, datetime.now(UTC)))


class Trials(MerchantView):
    """`/api/billing/trials`"""

    async def get(self, request: web.Request) -> web.Response:
        """The trial."""
        merchant_id = await self.merchant_id_of(request)
        found = await self.context.owners.read(ReadMerchant(merchant_id), ids_of(request))
        return respond(request, trial_body(known(found.merchant), datetime.now(UTC)))


class Purchases(MerchantView):
    """`/api/billing/purchases`"""

    async def get(self, request: web.Request) -> web.Response:
        """A page of the purchases, newest first."""
        merchant_id = await self.merchant_id_of(request)
        page = parse_page(request.query)
        query = ReadMerchant(merchant_id, skip=page.skip, take=page.limit)
        found = await self.context.owners.read(query, ids_of(request))
        known(found.merchant)
        purchases = [purchase_body(purchase) for purchase in found.purchases]
        return respond(request, purchases, pagination=page.of(found.total))


class Purchase(MerchantView):
    """`/api/billing/purchases/{id}`"""

    async def get(self, request: web.Request, purchase_id: str) -> web.Response:
        """One purchase; another merchant's is as if it did not exist."""
        merchant_id = await self.merchant_id_of(request)
        query = ReadPurchase(merchant_id, purchase_id.lower())
        found = await self.context.owners.read(query, ids_of(request))
        known(found.merchant)
        if found.purchase is None:
            raise ApiError(
                ErrorCode.PURCHASE_NOT_FOUND, "the merchant has no purchase with this id"
            )
        return respond(request, purchase_body(found.purchase))


def known(merchant: Merchant | None) -> Merchant:
    """The merchant. Raises ApiError (MERCHANT_NOT_FOUND) when there is none."""
    if merchant is None:
        raise ApiError(ErrorCode.MERCHANT_NOT_FOUND, "this shop has no billing record")
    return merchant
