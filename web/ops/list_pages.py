"""Lists of merchants and purchases, as pages and as CSV, and the page of revenue."""

from functools import partial

from aiohttp import web
from msgspec import Struct

from billing_stream.domain.model import Platform, PurchaseStatus
from billing_stream.web.envelope import WebCode
from billing_stream.web.operation import OPS, Call, operation
from billing_stream.web.ops.dashboard import Dashboard
from billing_stream.web.ops.exports import List, export
from billing_stream.web.ops.lists import Listed, MerchantFilter, PurchaseFilter
from billing_stream.web.ops.ops_views import SESSION, page
from billing_stream.web.ops.projection_state import ProjectionState
from billing_stream.web.ops.revenue import DAYS
from billing_stream.web.ops.session import Session
from billing_stream.web.pagination import Page, parse_page
from billing_stream.web.projection import ProjectionUnreadable

PURCHASES_PATH = "/ops/purchases"
LIMIT = 25
MERCHANT_COLUMNS = (
    "id",
    "platform",
    "domain",
    "created_at",
    "last_purchase_at",
    "balance",
    "purchased",
    "trial_started_at",
    "trial_ends_at",
)
PURCHASE_COLUMNS = (
    "id",
    "merchant_id",
    "domain",
    "status",
    "platform",
    "credits",
    "amount",
    "currency",
    "pack",
    "test",
    "created_at",
    "completed_at",
    "platform_charge_id",
    "refunded_amount",
    "refunded_credits",
    "disputed_credits",
)


class ShownList(Struct, frozen=True):
    """A part of a list, and what it is "as of"; or why it cannot be shown."""

    listed: Listed | None
    state: ProjectionState
    cursor: str


async def shown_list(dashboard: Dashboard, cursor: str, ask: List) -> ShownList:
    """The part of a list after a cursor, from the beginning where that is empty.

    Raises ApiError (VALIDATION_ERROR) for a cursor that is not of the list.
    """
    part = Page(limit=LIMIT, cursor=parse_page({"cursor": cursor}).cursor if cursor else None)
    # Asked for first: the list is that of then or newer.
    state = await dashboard.projection_state()
    if not state.configured:
        return ShownList(None, state, cursor)
    try:
        return ShownList(await ask(part), state, cursor)
    except ProjectionUnreadable as error:
        return ShownList(None, ProjectionState(True, error.why), cursor)


@operation("GET", PURCHASES_PATH, SESSION, listeners=OPS, codes=(WebCode.VALIDATION_ERROR,))
async def purchases(call: Call[Session]) -> web.Response:
    """Purchases, newest first, by state, platform and day."""
    dashboard, query = call.context.dashboard, call.request.query
    wanted = PurchaseFilter.of(query)
    ask = partial(dashboard.lists.purchases, wanted)
    return page(
        call,
        "purchases.html",
        shown=await shown_list(dashboard, query.get("cursor", ""), ask),
        wanted=wanted,
        filtered=any(wanted.query().values()),
        statuses=list(PurchaseStatus),
        platforms=list(Platform),
    )


@operation(
    "GET",
    "/ops/purchases.csv",
    SESSION,
    listeners=OPS,
    codes=(WebCode.VALIDATION_ERROR, WebCode.NOT_READY),
    limited=False,
)
async def purchases_csv(call: Call[Session]) -> web.StreamResponse:
    """All purchases that the filters of the list leave, as CSV."""
    ask = partial(call.context.dashboard.lists.purchases, PurchaseFilter.of(call.request.query))
    return await export(call, "purchases", PURCHASE_COLUMNS, ask)


@operation(
    "GET",
    "/ops/merchants.csv",
    SESSION,
    listeners=OPS,
    codes=(WebCode.NOT_READY,),
    limited=False,
)
async def merchants_csv(call: Call[Session]) -> web.StreamResponse:
    """All merchants that the search of the list finds, as CSV."""
    ask = partial(call.context.dashboard.lists.merchants, MerchantFilter.of(call.request.query))
    return await export(call, "merchants", MERCHANT_COLUMNS, ask)


@operation("GET", "/ops/revenue", SESSION, listeners=OPS)
async def revenue(call: Call[Session]) -> web.Response:
    """Revenue by day, currency and pack; trials that led to a purchase, by week."""
    dashboard = call.context.dashboard
    asked = call.request.query.get("days", "")
    days = int(asked) if asked in map(str, DAYS) else DAYS[0]
    state = await dashboard.projection_state()
    found = await dashboard.revenue(days) if state.configured else None
    return page(call, "revenue.html", found=found, state=state, days=days, periods=DAYS)
