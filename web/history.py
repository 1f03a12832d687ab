"""What happened to a merchant, from the projection in PostgreSQL (`web.projection`)."""

from typing import Any

import msgspec
from msgspec import Struct

from billing_stream.domain.commands import Uuid
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Instant, Platform
from billing_stream.domain.outcomes import CreditsPurchased
from billing_stream.records import topics
from billing_stream.records.examples import CORRELATION_ID, MERCHANT_ID, NOW, PURCHASE_ID
from billing_stream.web.auth import CLIENT, Client, merchant_of
from billing_stream.web.merchant_view import Origin, origin_of, shown
from billing_stream.web.operation import About, Answer, Call, operation
from billing_stream.web.pagination import Page, cursor_after

HISTORY_PATH = "/api/billing/history"
_LIST = "history"

_object = msgspec.json.Decoder(dict[str, Any])


class CauseBody(Struct, frozen=True):
    """What caused it. Who the operator is, and which record it was, stays inside."""

    origin: Origin


class HistoryBody(Struct, frozen=True):
    """One thing that happened, as the merchant may see it.

    `sequence` numbers what happened to the merchant without gaps. `credits` is the change of
    the balance, below zero when credits were taken; `balance_after` is the balance with it.
    `correlation_id` is null where an operator acted. Where `complete` is false, earlier events
    are missing from the projection: `balance_after` lacks their credits.
    """

    event_id: Uuid
    type: str
    at: Instant
    sequence: int
    cause: CauseBody
    correlation_id: str | None
    credits: int
    balance_after: int
    purchase_id: Uuid | None
    data: dict[str, Any]
    complete: bool = True


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
    msgspec.to_builtins(
        CreditsPurchased(MERCHANT_ID, PURCHASE_ID, 100, "9.99", Platform.SHOPIFY, "USD", "small")
    ),
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

    It comes from the projection, and so a moment after it happened; 503 without a projection.
    """
    after = page.after(_LIST, "[1-9][0-9]{0,17}")
    found = await call.context.projection.page(
        await merchant_of(call), page, before=None if after is None else int(after)
    )
    entries = [_body(row) for row in found.rows]
    following = cursor_after(_LIST, entries[-1].sequence) if entries else ""
    return Answer(entries, pagination=page.of(found.total, found.skipped, following))


OPERATIONS = (get_history,)


def _body(row: Any) -> HistoryBody:
    data = shown(row["event_type"], _object.decode(row["data"]))
    origin = origin_of(row["cause"], row["event_type"])
    return HistoryBody(
        event_id=str(row["event_id"]),
        type=row["event_type"],
        at=row["at"],
        sequence=row["sequence"],
        cause=CauseBody(origin),
        # An operator may have chosen it, and have put a name or a ticket into it.
        correlation_id=None if origin is Origin.OPERATOR else row["correlation_id"],
        credits=row["credits_delta"],
        balance_after=row["balance_after"],
        purchase_id=data.get("purchase_id"),
        data=data,
        complete=row["complete"],
    )
