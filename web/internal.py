"""Between our own workers: the owner's side of a forwarded request. Never forwards again."""

import msgspec
from aiohttp import web

from billing_stream.web.auth import authenticate_internal
from billing_stream.web.bodies import read_body
from billing_stream.web.command_requests import parse_asked
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.queries import parse_query
from billing_stream.web.refusals import Credential
from billing_stream.web.views import ApiView


def peer_response(found: object) -> web.Response:
    """What one worker tells another."""
    return web.Response(body=msgspec.json.encode(found), content_type="application/json")


class Queries(ApiView):
    """`/internal/queries`"""

    credential = Credential.WORKER_TOKEN

    async def get(self, request: web.Request) -> web.Response:
        """Answer a query from the rows of this worker, or say that they are not here."""
        authenticate_internal(request.headers, *self.context.internal_secrets)
        try:
            query = parse_query(request.query.get("q", ""))
        except msgspec.DecodeError:
            raise ApiError(WebCode.VALIDATION_ERROR, "no query is understood") from None
        found = self.context.owners.read_locally(query)
        return peer_response(found)


class CarryOut(ApiView):
    """`/internal/commands`"""

    credential = Credential.WORKER_TOKEN

    async def post(self, request: web.Request) -> web.Response:
        """Carry out what a client asked another worker for, or say that it is not for here."""
        authenticate_internal(request.headers, *self.context.internal_secrets)
        try:
            asked = parse_asked(await read_body(request))
        except msgspec.DecodeError:
            raise ApiError(WebCode.VALIDATION_ERROR, "no command is understood") from None
        answered = await self.context.commands.carry_out_here(asked)
        return peer_response(answered)
