"""Between our own workers: the owner's side of a forwarded request. Never forwards again."""

import msgspec
from aiohttp import web

from web.auth import authenticate_internal
from web.envelope import ApiError, WebCode
from web.queries import parse_query
from web.views import ApiView


class Queries(ApiView):
    """`/internal/queries`"""

    async def get(self, request: web.Request) -> web.Response:
        """Answer a query from the rows of this worker, or say that they are not here."""
        authenticate_internal(request.headers, self.context.internal_secret)
        try:
            query = parse_query(request.query.get("q", ""))
        except msgspec.DecodeError:
            raise ApiError(WebCode.VALIDATION_ERROR, "no query is understood") from None
        found = self.context.owners.read_here(query)
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")
