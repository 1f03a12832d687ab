"""What happened to a merchant, from the projection in PostgreSQL (`web.projection`)."""

from aiohttp import web

from billing_stream.web.billing import MerchantView
from billing_stream.web.envelope import respond
from billing_stream.web.pagination import parse_page

HISTORY_PATH = "/api/billing/history"


class History(MerchantView):
    """`/api/billing/history`"""

    async def get(self, request: web.Request) -> web.Response:
        """All that happened to the merchant, newest first, each with what caused it.

        It comes from the projection, and so a moment after it happened; 503 while there is none.
        """
        merchant_id = await self.merchant_id_of(request)
        page = parse_page(request.query)
        entries, total = await self.context.projection.page(merchant_id, page)
        return respond(request, entries, pagination=page.of(total))
