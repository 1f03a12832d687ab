"""The merchant's API: billing on one page, and the free trial. `web.purchases` has the rest.

A request's way is that of every operation (`web.operation`). Then: the merchant of the shop, and
the worker that owns it (`web.owners`); reading is from the owner's committed rows; writing is a
command for the owner's lane, answered when its transaction has committed (`web.commands`).
"""

from http import HTTPStatus

from msgspec import Struct

from billing_stream.domain.commands import Key, StartTrial
from billing_stream.domain.model import Merchant
from billing_stream.domain.outcomes import ErrorCode, TrialGranted
from billing_stream.records.examples import ENDS_AT, NOW
from billing_stream.web.auth import CLIENT, Client, merchant_of
from billing_stream.web.commands import CommandRequest, new_command_id
from billing_stream.web.envelope import ApiError
from billing_stream.web.models import (
    PURCHASE_EXAMPLE,
    TRIAL_EXAMPLE,
    BillingBody,
    TrialBody,
    TrialStartedBody,
    billing_body,
    trial_body,
)
from billing_stream.web.operation import About, Answer, Call, operation
from billing_stream.web.owners import ReadMerchant
from billing_stream.web.shop_trials import is_available

RECENT_PURCHASES = 5

BILLING_PATH = "/api/billing"
TRIALS_PATH = "/api/billing/trials"


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
    merchant, recent = known(found.merchant), call.context.bodies_of(found.purchases)
    return Answer(billing_body(merchant, await _trial(call, merchant), recent))


@operation(
    "GET",
    TRIALS_PATH,
    CLIENT,
    about=About(id="getTrial", tag="trials", summary="The free trial", example=TRIAL_EXAMPLE),
)
async def get_trial(call: Call[Client]) -> Answer[TrialBody]:
    """The trial."""
    found = await call.context.owners.read(ReadMerchant(await merchant_of(call)), call.ids)
    return Answer(await _trial(call, known(found.merchant)))


@operation(
    "POST",
    TRIALS_PATH,
    CLIENT,
    codes=(ErrorCode.TRIAL_ALREADY_USED, ErrorCode.MERCHANT_UNINSTALLED),
    status=HTTPStatus.CREATED,
    about=About(
        id="startTrial",
        tag="trials",
        summary="Start the free trial",
        example=TrialStartedBody(True, ENDS_AT, 500),
        location=True,
        body_examples={"plain": StartTrialBody(), "repeatable": StartTrialBody("start-1")},
    ),
)
async def start_trial(
    call: Call[Client], body: StartTrialBody, key: str | None
) -> Answer[TrialStartedBody]:
    """Start the trial: once."""
    command = StartTrial(await merchant_of(call), key, new_command_id())
    asked = CommandRequest(command, call.who.domain, call.ids.correlation_id)
    granted, given = await call.context.commands.carry_out(asked, call.ids, TrialGranted)
    started = TrialStartedBody(True, granted.ends_at, granted.credits_granted)
    return Answer(started, given, location=TRIALS_PATH)


async def _trial(call: Call[Client], merchant: Merchant) -> TrialBody:
    context = call.context
    once_per = context.policy.trial_once_per
    available = await is_available(context.owners, once_per, merchant, call.ids)
    return trial_body(merchant, context.now(), available=available)


OPERATIONS = (get_billing, get_trial, start_trial)


def known(merchant: Merchant | None, whose: str = "this shop") -> Merchant:
    """The merchant. Raises ApiError (MERCHANT_NOT_FOUND) for None."""
    if merchant is None:
        raise ApiError(ErrorCode.MERCHANT_NOT_FOUND, f"{whose} has no billing record")
    return merchant
