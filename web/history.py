"""What happened to a merchant, from the projection in PostgreSQL (`web.projection`)."""

from billing_stream.domain.ids import derived_id
from billing_stream.records import topics
from billing_stream.records.examples import CORRELATION_ID, MERCHANT_ID, NOW, PURCHASE_ID
from billing_stream.web.auth import CLIENT, Client, merchant_of
from billing_stream.web.merchant_view import Origin
from billing_stream.web.operation import About, Answer, Call, operation
from billing_stream.web.pagination import Page
from billing_stream.web.projection import CauseBody, HistoryBody

HISTORY_PATH = "/api/billing/history"

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


@operation(
    "GET",
    HISTORY_PATH,
    CLIENT,
    about=About(
        id="getHistory", tag="billing", summary="What happened to a merchant", example=[_PAID]
    ),
)
async def get_history(call: Call[Client], page: Page) -> Answer[list[HistoryBody]]:
    """All that happened to the merchant, newest first, each with what caused it.

    It comes from the projection, and so a moment after it happened; 503 while there is none.
    """
    entries, total = await call.context.projection.page(await merchant_of(call), page)
    return Answer(entries, pagination=page.of(total))


OPERATIONS = (get_history,)
