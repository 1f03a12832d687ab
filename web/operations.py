"""The operations of the HTTP API, as `web.openapi` describes them: one row each.

Which codes an operation can answer with is said here, and tested against the real service;
everything else comes from the code that serves it.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from http import HTTPMethod, HTTPStatus
from typing import Any, Literal

from msgspec import Struct

from billing_stream import __version__
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Platform, PurchaseStatus
from billing_stream.domain.outcomes import ErrorCode
from billing_stream.platforms import custom
from billing_stream.platforms.base import PlatformEventKind
from billing_stream.records import topics
from billing_stream.records.examples import (
    ADJUSTMENT_ID,
    CHARGE_ID,
    CHECKOUT_URL,
    CORRELATION_ID,
    ENDS_AT,
    EXPIRES_AT,
    MERCHANT_ID,
    NOW,
    PURCHASE_ID,
)
from billing_stream.web import billing, health, history, operators, webhook_routes
from billing_stream.web.bodies import BuyBody, StartTrialBody
from billing_stream.web.envelope import Code, WebCode
from billing_stream.web.merchant_view import Origin
from billing_stream.web.models import (
    BillingBody,
    CheckoutBody,
    PurchaseBody,
    TrialBody,
    TrialStartedBody,
)
from billing_stream.web.projection import CauseBody, HistoryBody

BEARER = "clientToken"
OPERATOR = "operatorToken"
SIGNATURES = {
    Platform.SHOPIFY: "X-Shopify-Hmac-Sha256",
    Platform.STRIPE: "Stripe-Signature",
    Platform.CUSTOM: custom.SIGNATURE,
}

_PARAMETER = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})*))?\}")


class HealthBody(Struct, frozen=True):
    """The process lives."""

    status: Literal["ok"]
    version: str


class GatewayWebhookBody(custom.GatewayWebhook):
    """What a payment gateway of your own tells of a charge.

    `kind` is updated (then `status` is needed: active, pending, declined, expired …) or
    refunded (then `amount`, text or a number, is all that was refunded; without it, the whole).
    """


class Operation(Struct, frozen=True, kw_only=True):
    """One operation: what it takes, and everything that it can answer.

    `data` is the type of the data of a good answer; `example` is one. `details` is the type
    of the details of its refusals, where it is always the same.
    """

    path: str
    method: HTTPMethod = HTTPMethod.GET
    id: str
    tag: str
    summary: str
    handler: Callable[..., Any]
    data: Any
    example: Any
    codes: tuple[Code, ...]
    status: HTTPStatus = HTTPStatus.OK
    body: Any = None
    body_required: bool = True
    body_examples: dict[str, Any] = {}
    security: str | None = BEARER
    idempotent: bool = False
    paginated: bool = False
    details: Any = None


_OURS = (WebCode.INTERNAL_ERROR, WebCode.NOT_READY)
_CLIENT = (
    WebCode.UNAUTHORIZED,
    WebCode.FORBIDDEN,
    ErrorCode.MERCHANT_NOT_FOUND,
    ErrorCode.TOO_MANY_REQUESTS,
    *_OURS,
)
_COMMAND = (
    *_CLIENT,
    WebCode.BAD_REQUEST,
    WebCode.BODY_TOO_LARGE,
    WebCode.UNSUPPORTED_MEDIA_TYPE,
    WebCode.VALIDATION_ERROR,
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
    WebCode.OUTCOME_UNKNOWN,
)
_OPERATOR = (
    WebCode.UNAUTHORIZED,
    WebCode.FORBIDDEN,
    WebCode.BAD_REQUEST,
    WebCode.BODY_TOO_LARGE,
    WebCode.UNSUPPORTED_MEDIA_TYPE,
    WebCode.VALIDATION_ERROR,
    ErrorCode.MERCHANT_NOT_FOUND,
    WebCode.OUTCOME_UNKNOWN,
    *_OURS,
)
_WEBHOOK = (
    WebCode.UNAUTHORIZED,
    WebCode.NOT_FOUND,
    WebCode.BAD_REQUEST,
    WebCode.BODY_TOO_LARGE,
    ErrorCode.TOO_MANY_REQUESTS,
    *_OURS,
)

_TRIAL = TrialBody(False, True, NOW, ENDS_AT)
_PURCHASE = PurchaseBody(
    PURCHASE_ID,
    MERCHANT_ID,
    100,
    "9.99",
    PurchaseStatus.COMPLETED,
    Platform.SHOPIFY,
    CHARGE_ID,
    NOW,
    NOW,
    EXPIRES_AT,
)
_PAID = HistoryBody(
    derived_id("credits.purchased", PURCHASE_ID),
    topics.event_type("credits.purchased"),
    NOW,
    2,
    CauseBody(Origin.WEBHOOK),
    CORRELATION_ID,
    100,
    100,
    PURCHASE_ID,
    {"merchant_id": MERCHANT_ID, "purchase_id": PURCHASE_ID, "credits": 100, "amount": "9.99"},
)
_BUY = BuyBody("small", Platform.SHOPIFY, "https://shop.example/billing/done")
_GATEWAY = {
    "paid": GatewayWebhookBody(CHARGE_ID, MERCHANT_ID, status="active"),
    "refunded": GatewayWebhookBody(
        CHARGE_ID, MERCHANT_ID, kind=PlatformEventKind.REFUNDED, amount=Decimal("4.99")
    ),
}
_READY = health.ReadyBody(True, [], [], [health.PartitionBody(0, True, 1204, 311)])


def operations() -> list[Operation]:
    """All of them, in the order in which they are described."""
    return [*_billing(), *_trials(), *_purchases(), *_webhooks(), *_operators(), *_health()]


def _billing() -> list[Operation]:
    return [
        Operation(
            path=billing.BILLING_PATH,
            id="getBilling",
            tag="billing",
            summary="A merchant's billing on one page",
            handler=billing.Billing.get,
            data=BillingBody,
            example=BillingBody(_TRIAL, 100, NOW, [_PURCHASE], -20),
            codes=_CLIENT,
        ),
        Operation(
            path=history.HISTORY_PATH,
            id="getHistory",
            tag="billing",
            summary="What happened to a merchant",
            handler=history.History.get,
            data=list[HistoryBody],
            example=[_PAID],
            codes=(*_CLIENT, WebCode.VALIDATION_ERROR),
            paginated=True,
        ),
    ]


def _trials() -> list[Operation]:
    return [
        Operation(
            path=billing.TRIALS_PATH,
            id="getTrial",
            tag="trials",
            summary="The free trial",
            handler=billing.Trials.get,
            data=TrialBody,
            example=_TRIAL,
            codes=_CLIENT,
        ),
        Operation(
            path=billing.TRIALS_PATH,
            method=HTTPMethod.POST,
            id="startTrial",
            tag="trials",
            summary="Start the free trial",
            handler=billing.Trials.post,
            data=TrialStartedBody,
            example=TrialStartedBody(True, ENDS_AT, 500),
            codes=(*_COMMAND, ErrorCode.TRIAL_ALREADY_USED),
            status=HTTPStatus.CREATED,
            body=StartTrialBody,
            body_required=False,
            body_examples={"plain": StartTrialBody(), "repeatable": StartTrialBody("start-1")},
            idempotent=True,
        ),
    ]


def _purchases() -> list[Operation]:
    return [
        Operation(
            path=billing.PURCHASES_PATH,
            id="listPurchases",
            tag="purchases",
            summary="The purchases of a merchant",
            handler=billing.Purchases.get,
            data=list[PurchaseBody],
            example=[_PURCHASE],
            codes=(*_CLIENT, WebCode.VALIDATION_ERROR),
            paginated=True,
        ),
        Operation(
            path=billing.PURCHASES_PATH,
            method=HTTPMethod.POST,
            id="openPurchase",
            tag="purchases",
            summary="Buy a pack of credits",
            handler=billing.Purchases.post,
            data=CheckoutBody,
            example=CheckoutBody(PURCHASE_ID, CHECKOUT_URL, EXPIRES_AT),
            codes=(
                *_COMMAND,
                ErrorCode.INVALID_PACK,
                ErrorCode.TOO_MANY_OPEN_PURCHASES,
                ErrorCode.PLATFORM_ERROR,
            ),
            status=HTTPStatus.CREATED,
            body=BuyBody,
            body_examples={
                "plain": _BUY,
                "repeatable": BuyBody(_BUY.pack, _BUY.platform, _BUY.return_url, "buy-1"),
            },
            idempotent=True,
        ),
        Operation(
            path=billing.PURCHASE_PATH,
            id="getPurchase",
            tag="purchases",
            summary="One purchase",
            handler=billing.Purchase.get,
            data=PurchaseBody,
            example=_PURCHASE,
            codes=(*_CLIENT, ErrorCode.PURCHASE_NOT_FOUND, WebCode.NOT_FOUND),
        ),
    ]


def _webhooks() -> list[Operation]:
    return [
        Operation(
            path=webhook_routes.WEBHOOKS_PATH.partition("{")[0] + platform,
            method=HTTPMethod.POST,
            id=f"{platform}Webhook",
            tag="webhooks",
            summary=f"What {platform.capitalize()} tells us of a charge",
            handler=webhook_routes.Webhooks.post,
            data=webhook_routes.WebhookBody,
            example=webhook_routes.WebhookBody(True),
            codes=_WEBHOOK,
            body=GatewayWebhookBody if platform is Platform.CUSTOM else dict[str, Any],
            body_examples=_GATEWAY if platform is Platform.CUSTOM else {},
            security=platform,
        )
        for platform in SIGNATURES
    ]


def _operators() -> list[Operation]:
    adjust = operators.AdjustBody(
        MERCHANT_ID, -20, "ticket 4711", "ticket-4711", "Bought by mistake"
    )
    return [
        Operation(
            path=operators.ADJUSTMENTS_PATH,
            method=HTTPMethod.POST,
            id="adjustCredits",
            tag="operators",
            summary="Give a merchant credits, or take some away",
            handler=operators.Adjustments.post,
            data=operators.AdjustedBody,
            example=operators.AdjustedBody(ADJUSTMENT_ID, MERCHANT_ID, -20, 80),
            codes=(
                *_OPERATOR,
                ErrorCode.IDEMPOTENCY_KEY_REUSED,
                ErrorCode.INSUFFICIENT_CREDITS,
            ),
            status=HTTPStatus.CREATED,
            body=operators.AdjustBody,
            body_examples={"down": adjust},
            security=OPERATOR,
            idempotent=True,
        ),
        Operation(
            path=operators.CLOCK_PATH,
            method=HTTPMethod.POST,
            id="moveClock",
            tag="operators",
            summary="Move one merchant's time forward (development and test)",
            handler=operators.Clock.post,
            data=operators.ClockMovedBody,
            example=operators.ClockMovedBody(MERCHANT_ID, ENDS_AT),
            codes=(*_OPERATOR, WebCode.NOT_FOUND, ErrorCode.CLOCK_REFUSED),
            body=operators.ClockBody,
            body_examples={
                "by": operators.ClockBody(MERCHANT_ID, forward="14d"),
                "to": operators.ClockBody(MERCHANT_ID, ENDS_AT),
            },
            security=OPERATOR,
        ),
    ]


def _health() -> list[Operation]:
    return [
        Operation(
            path=health.HEALTH_PATH,
            id="getHealth",
            tag="health",
            summary="Whether the process lives",
            handler=health.Health.get,
            data=HealthBody,
            example=HealthBody("ok", __version__),
            codes=(WebCode.INTERNAL_ERROR,),
            security=None,
        ),
        Operation(
            path=health.READY_PATH,
            id="getReady",
            tag="health",
            summary="Whether this worker should get requests",
            handler=health.Ready.get,
            data=health.ReadyBody,
            example=_READY,
            codes=_OURS,
            security=None,
            details=health.ReadyBody,
        ),
    ]


def templates(route: str) -> list[str]:
    """The paths of a route as OpenAPI writes them; a choice of words is as many paths.

    >>> templates("/a/{id:[0-9]{1,9}}"), templates("/b/{kind:x|y}")
    (['/a/{id}'], ['/b/x', '/b/y'])
    """
    found = _PARAMETER.search(route)
    if found is None:
        return [route]
    begin, end = route[: found.start()], route[found.end() :]
    form = found[2] or ""
    choices = form.split("|") if re.fullmatch(r"\w+(\|\w+)+", form) else [f"{{{found[1]}}}"]
    return [begin + choice + rest for choice in choices for rest in templates(end)]


def path_parameters(route: str) -> dict[str, str]:
    """The parameters in a route's path, each with the pattern of its values."""
    return {name: f"^(?:{form})$" if form else "" for name, form in _PARAMETER.findall(route)}
