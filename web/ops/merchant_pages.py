"""A merchant: found by id or shop, its status, what happened, where each credit came from."""

import asyncio
import re
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

from aiohttp import web
from msgspec import Struct

from billing_stream.domain.commands import UUID_TEXT
from billing_stream.domain.model import Merchant, Platform
from billing_stream.domain.outcomes import ErrorCode
from billing_stream.domain.shop_names import sought_shop
from billing_stream.tables.early_webhooks import EarlyWebhooks
from billing_stream.web.billing import known
from billing_stream.web.envelope import ApiError, Pagination, WebCode
from billing_stream.web.operation import OPS, Call, operation
from billing_stream.web.ops.list_pages import shown_list
from billing_stream.web.ops.lists import MerchantFilter, Order
from billing_stream.web.ops.ops_views import SESSION, page, page_of, see
from billing_stream.web.ops.projected import Projected, TimelineEntry
from billing_stream.web.ops.session import Session
from billing_stream.web.owners import ReadMerchant
from billing_stream.web.pagination import Page

MERCHANTS_PATH = "/ops/merchants"
MERCHANT_PATH = "/ops/merchants/{merchant_id:[0-9a-fA-F-]{36}}"
LIMIT = 20
PURCHASES = 10


class Timeline(Struct, frozen=True):
    """A page of what happened; or why it is missing."""

    entries: list[TimelineEntry]
    pages: Pagination | None
    why: str | None


@operation("GET", MERCHANTS_PATH, SESSION, listeners=OPS, codes=(WebCode.VALIDATION_ERROR,))
async def merchants(call: Call[Session]) -> web.Response:
    """The list and the search of it; where a whole id or shop is asked for, on to the merchant."""
    dashboard, query = call.context.dashboard, call.request.query
    wanted, cursor = MerchantFilter.of(query), query.get("cursor", "")
    if wanted.sought and not cursor:
        merchant_id = await _find(call, wanted.sought)
        if merchant_id is not None:
            return see(f"{MERCHANTS_PATH}/{merchant_id}")
    shown = await shown_list(dashboard, cursor, partial(dashboard.lists.merchants, wanted))
    found = shown.listed is not None and bool(shown.listed.rows)
    status = HTTPStatus.NOT_FOUND if wanted.sought and not found else HTTPStatus.OK
    return page(
        call, "merchants.html", status=status, shown=shown, wanted=wanted, orders=list(Order)
    )


async def _find(call: Call[Session], asked: str) -> str | None:
    owners = call.context.owners
    if re.fullmatch(UUID_TEXT, asked):
        found = await owners.read(ReadMerchant(asked.lower()), call.ids)
        return asked.lower() if found.merchant is not None else None
    platform, colon, domain = asked.partition(":")
    # What is before a colon may be a scheme or a host, too.
    shops = _shops(asked) | ({sought_shop(platform, domain)} if colon else set())
    told = await asyncio.gather(*(owners.find_merchant(shop, call.ids) for shop in shops))
    return next((merchant_id for merchant_id in told if merchant_id is not None), None)


@operation("GET", MERCHANT_PATH, SESSION, listeners=OPS, codes=(ErrorCode.MERCHANT_NOT_FOUND,))
async def merchant(call: Call[Session], merchant_id: str) -> web.Response:
    """Status, purchases, what happened and what each credit came from."""
    merchant_id, query = merchant_id.lower(), call.request.query
    shown, bought = page_of(call, LIMIT), page_of(call, PURCHASES, "bought")
    credits_only = query.get("only") == "credits"
    owners, dashboard = call.context.owners, call.context.dashboard
    found, cluster, timeline = await asyncio.gather(
        owners.read(ReadMerchant(merchant_id, bought.skip, bought.limit), call.ids),
        dashboard.cluster(),
        _timeline(dashboard.projected, merchant_id, shown, credits_only),
    )
    one = known(found.merchant)
    now = datetime.now(UTC)
    return page(
        call,
        "merchant.html",
        merchant=one,
        trial=trial_words(one, now),
        clock=one.time(now) if one.time(now) > now else None,
        purchases=found.purchases,
        early=EarlyWebhooks.together([found.early, cluster.early_of(merchant_id)]),
        bought=bought.of(found.total),
        timeline=timeline,
        credits_only=credits_only,
        partition=owners.partition_of(merchant_id),
        done=query.get("done"),
    )


async def _timeline(
    projected: Projected, merchant_id: str, shown: Page, credits_only: bool
) -> Timeline:
    if not projected.there:
        return Timeline([], None, "needs")
    try:
        entries, total = await projected.timeline(merchant_id, shown, credits_only=credits_only)
    except ApiError:
        return Timeline([], None, "away")
    return Timeline(entries, shown.of(total), None)


def trial_words(merchant: Merchant, now: datetime) -> str:
    """How the trial stands, in a word or two."""
    if merchant.trial_available and merchant.shop_trial and merchant.shop_trial.granted is False:
        return "not used, its shop had one"
    if merchant.trial_available:
        return "not used"
    return "running" if merchant.trial_active(merchant.time(now)) else "over"


def _shops(domain: str) -> set[str]:
    return {sought_shop(platform, domain) for platform in Platform}
