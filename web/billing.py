"""The merchant's API: billing on one page, and the free trial. `web.purchases` has the rest.

A request's way is that of every operation (`web.operation`). Then: whose shop it is, and which
worker owns that merchant (`web.owners`); reading is from the owner's committed rows; writing is a
command for the owner's lane, answered when its transaction has committed (`web.commands`).
"""

import uuid
from datetime import datetime
from http import HTTPStatus
from typing import TypeVar

from aiohttp import web
from msgspec import Struct

from billing_stream.domain.commands import Key, ReservePurchase, StartTrial
from billing_stream.domain.model import Merchant
from billing_stream.domain.outcomes import ErrorCode, Reply, TrialGranted
from billing_stream.records.examples import DOMAIN, ENDS_AT, NOW
from billing_stream.web.auth import SCOPE, Client, authenticate
from billing_stream.web.commands import CommandRequest
from billing_stream.web.context import Context
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.models import (
    PURCHASE_EXAMPLE,
    TRIAL_EXAMPLE,
    BillingBody,
    TrialBody,
    TrialStartedBody,
    billing_body,
    trial_body,
)
from billing_stream.web.operation import About, Access, Answer, Call, operation
from billing_stream.web.owners import ReadMerchant
from billing_stream.web.refusals import Credential

Granted = TypeVar("Granted", bound=Reply)

RECENT_PURCHASES = 5

BILLING_PATH = "/api/billing"
TRIALS_PATH = "/api/billing/trials"


async def _client_of(context: Context, request: web.Request) -> Client:
    lifetime = context.client_token_lifetime
    client = authenticate(request.headers, *context.client_secrets, lifetime=lifetime)
    # By what the token says: the platform is only a header.
    context.rate_limit.hit(client.domain)
    return client


# A client on behalf of a shop, which has a merchant.
CLIENT = Access(
    verify=_client_of,
    codes=(
        WebCode.UNAUTHORIZED,
        WebCode.FORBIDDEN,
        ErrorCode.MERCHANT_NOT_FOUND,
        ErrorCode.TOO_MANY_REQUESTS,
    ),
    credential=Credential.CLIENT_TOKEN,
    scheme="clientToken",
    described={
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "HS256, signed with CLIENT_JWT_SECRET; `sub` is the domain of the shop, "
        f"`scope` has `{SCOPE}`, `exp` is needed.",
    },
    headers={
        "X-Shop-Platform": ("The platform of the shop, in any letter case", "shopify"),
        "X-Shop-Domain": ("The domain of the shop: that of the token", DOMAIN),
    },
)


class StartTrialBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api/billing/trials`, which may be left out."""

    idempotency_key: Key | None = None


@operation(
    "GET",
    BILLING_PATH,
    CLIENT,
    about=About(
        id="getBilling",
        tag="billing",
        summary="A merchant's billing on one page",
        example=BillingBody(TRIAL_EXAMPLE, 100, NOW, [PURCHASE_EXAMPLE], -20),
    ),
)
async def get_billing(call: Call[Client]) -> Answer[BillingBody]:
    """Trial, credits and the newest purchases."""
    query = ReadMerchant(await merchant_of(call), take=RECENT_PURCHASES)
    found = await call.context.owners.read(query, call.ids)
    return Answer(billing_body(known(found.merchant), found.purchases, call.context.now()))


@operation(
    "GET",
    TRIALS_PATH,
    CLIENT,
    about=About(id="getTrial", tag="trials", summary="The free trial", example=TRIAL_EXAMPLE),
)
async def get_trial(call: Call[Client]) -> Answer[TrialBody]:
    """The trial."""
    found = await call.context.owners.read(ReadMerchant(await merchant_of(call)), call.ids)
    return Answer(trial_body(known(found.merchant), call.context.now()))


def shop_of(client: Client, _: object) -> str:
    """Within what the idempotency key of a client is unique."""
    return client.shop


@operation(
    "POST",
    TRIALS_PATH,
    CLIENT,
    codes=(ErrorCode.TRIAL_ALREADY_USED,),
    status=HTTPStatus.CREATED,
    key_within=shop_of,
    about=About(
        id="startTrial",
        tag="trials",
        summary="Start the free trial",
        example=TrialStartedBody(True, ENDS_AT, 500),
        body_examples={"plain": StartTrialBody(), "repeatable": StartTrialBody("start-1")},
    ),
)
async def start_trial(
    call: Call[Client], body: StartTrialBody, key: str | None
) -> Answer[TrialStartedBody]:
    """Start the trial: once."""
    command = StartTrial(await merchant_of(call), key, new_command_id())
    granted, at = await carry_out(call, command, TrialGranted)
    return Answer(TrialStartedBody(True, granted.ends_at, granted.credits_granted), at)


OPERATIONS = (get_billing, get_trial, start_trial)


async def merchant_of(call: Call[Client]) -> str:
    """The merchant whose client asks. Raises ApiError when it is none of ours."""
    return await call.context.owners.merchant_of(call.who.shop, call.ids)


async def carry_out(
    call: Call[Client], command: StartTrial | ReservePurchase, kind: type[Granted]
) -> tuple[Granted, datetime]:
    """As `Commands.carry_out`, within what one shop may ask for at once."""
    domain = call.who.domain
    with call.context.shops_in_work.enter(domain):
        asked = CommandRequest(command, domain, call.ids.correlation_id)
        return await call.context.commands.carry_out(asked, call.ids, kind)


def known(merchant: Merchant | None) -> Merchant:
    """The merchant. Raises ApiError (MERCHANT_NOT_FOUND) when there is none."""
    if merchant is None:
        raise ApiError(ErrorCode.MERCHANT_NOT_FOUND, "this shop has no billing record")
    return merchant


def new_command_id() -> str:
    """An id of our own making: what a client chooses must never name a purchase."""
    return f"http/{uuid.uuid4()}"
