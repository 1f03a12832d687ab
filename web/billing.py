"""The merchant's API. A request's way, from top to bottom:

1. who asks (`web.auth`), and not too often (`web.limits`);
2. what is asked: the body, the idempotency key (`web.bodies`);
3. whose shop it is, and which worker owns that merchant (`web.owners`);
4. reading: the owner's committed rows (`web.queries`); writing: a command, given to the
   owner's lane (`web.commands`), which answers when its transaction has committed;
5. the answer (`web.models`, `web.envelope`).
"""

import uuid
from http import HTTPStatus
from typing import TypeVar

from aiohttp import web

from billing_stream.domain.commands import ReservePurchase, StartTrial
from billing_stream.domain.model import Merchant
from billing_stream.domain.outcomes import (
    ErrorCode,
    PurchaseOpened,
    Rejected,
    Reply,
    TimedReply,
    TrialGranted,
)
from billing_stream.web.auth import Client, authenticate
from billing_stream.web.bodies import BuyBody, StartTrialBody, key_of, parse_body
from billing_stream.web.command_requests import CommandRequest
from billing_stream.web.envelope import ApiError, WebCode, ids_of, name_after_key, respond
from billing_stream.web.models import (
    TrialStartedBody,
    billing_body,
    checkout_body,
    purchase_body,
    trial_body,
)
from billing_stream.web.pagination import parse_page
from billing_stream.web.queries import ReadMerchant, ReadPurchase
from billing_stream.web.views import ApiView

Granted = TypeVar("Granted", bound=Reply)

RECENT_PURCHASES = 5

BILLING_PATH = "/api/billing"
TRIALS_PATH = "/api/billing/trials"
PURCHASES_PATH = "/api/billing/purchases"
# Nothing else is an id; so a doubled prefix is no path here, whatever the method.
PURCHASE_PATH = "/api/billing/purchases/{purchase_id:[0-9a-fA-F-]{1,64}}"


class MerchantView(ApiView):
    """A view on behalf of one merchant."""

    def client_of(self, request: web.Request) -> Client:
        """The client that asks. Raises ApiError when it may not, or asks too often."""
        context = self.context
        client = authenticate(
            request.headers, *context.client_secrets, lifetime=context.client_token_lifetime
        )
        # By what the token says: the platform is only a header.
        context.rate_limit.hit(client.domain)
        return client

    async def merchant_id_of(self, request: web.Request) -> str:
        """The merchant whose client asks. Raises ApiError when it is none of ours."""
        client = self.client_of(request)
        return await self.context.owners.merchant_of(client.shop, ids_of(request))

    async def carry_out(
        self, request: web.Request, client: Client, command: StartTrial | ReservePurchase
    ) -> TimedReply:
        """The answer to a command, committed. Raises ApiError, also for a refusal."""
        ids = ids_of(request)
        asked = CommandRequest(command, client.domain, ids.correlation_id)
        with self.context.shops_in_work.enter(client.domain):
            answered = await self.context.commands.carry_out(asked, ids)
        if isinstance(answered.reply, Rejected):
            refused = answered.reply
            raise ApiError(refused.code, refused.message, at=answered.at)
        return answered


class Billing(MerchantView):
    """`/api/billing`"""

    async def get(self, request: web.Request) -> web.Response:
        """Trial, credits and the newest purchases."""
        merchant_id = await self.merchant_id_of(request)
        query = ReadMerchant(merchant_id, take=RECENT_PURCHASES)
        found = await self.context.owners.read(query, ids_of(request))
        merchant = known(found.merchant)
        return respond(request, billing_body(merchant, found.purchases, self.context.now()))


class Trials(MerchantView):
    """`/api/billing/trials`"""

    async def get(self, request: web.Request) -> web.Response:
        """The trial."""
        merchant_id = await self.merchant_id_of(request)
        found = await self.context.owners.read(ReadMerchant(merchant_id), ids_of(request))
        return respond(request, trial_body(known(found.merchant), self.context.now()))

    async def post(self, request: web.Request) -> web.Response:
        """Start the trial: once."""
        client = self.client_of(request)
        body = await parse_body(request, StartTrialBody)
        key = key_of(request, body.idempotency_key)
        if key is not None:
            name_after_key(request, client.shop, key)
        merchant_id = await self.context.owners.merchant_of(client.shop, ids_of(request))
        command = StartTrial(merchant_id, key, new_command_id())
        answered = await self.carry_out(request, client, command)
        granted = expect(answered.reply, TrialGranted)
        started = TrialStartedBody(True, granted.ends_at, granted.credits_granted)
        return respond(request, started, status=HTTPStatus.CREATED, at=answered.at)


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

    async def post(self, request: web.Request) -> web.Response:
        """Open a purchase of a pack, and a checkout for it at the platform."""
        client = self.client_of(request)
        body = await parse_body(request, BuyBody)
        key = key_of(request, body.idempotency_key)
        if key is not None:
            name_after_key(request, client.shop, key)
        if not self.context.checkouts.offers(body.platform):
            raise ApiError(
                WebCode.VALIDATION_ERROR,
                f"payment through {body.platform} is not set up here",
                {"field": "platform"},
            )
        merchant_id = await self.context.owners.merchant_of(client.shop, ids_of(request))
        command = ReservePurchase(
            merchant_id, body.pack, body.platform, body.return_url, key, new_command_id()
        )
        answered = await self.carry_out(request, client, command)
        opened = expect(answered.reply, PurchaseOpened)
        return respond(request, checkout_body(opened), status=HTTPStatus.CREATED, at=answered.at)


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


def new_command_id() -> str:
    """An id of our own making: what a client chooses must never name a purchase."""
    return f"http/{uuid.uuid4()}"


def expect(reply: object, kind: type[Granted]) -> Granted:
    """The reply, which must be of this kind; anything else is a fault of ours."""
    if not isinstance(reply, kind):
        raise TypeError(f"the reply is a {type(reply).__name__}, not a {kind.__name__}")
    return reply
