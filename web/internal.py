"""Between our own workers: the owner's side of a forwarded request. Never forwards again."""

from typing import Any

import msgspec
from aiohttp import web

from billing_stream.faust_adapter.faust_web import WebError
from billing_stream.web.bodies import read_body
from billing_stream.web.command_requests import CLIENTS, OPERATORS, CommandRequest, parse_asked
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.peer_tokens import Call, CallRefused
from billing_stream.web.queries import parse_query
from billing_stream.web.refusals import Credential
from billing_stream.web.views import ApiView


def peer_response(found: object) -> web.Response:
    """What one worker tells another."""
    return web.Response(body=msgspec.json.encode(found), content_type="application/json")


class PeerView(ApiView):
    """A view for other workers."""

    credential = Credential.WORKER_TOKEN

    async def authenticated(self, request: web.Request) -> Call:
        """The request, once it is sure that a worker has sent it. Raises ApiError."""
        address, body = self.context.peers.own_url, await read_body(request)
        call = Call(address, request.method, request.raw_path, body)
        return self.context.peer_calls.verify(request.headers, call)

    async def on_request_error(self, request: Any, exc: WebError) -> Any:
        """As of every view; the traces say what was wrong with a call."""
        credential = exc.credential if isinstance(exc, CallRefused) else self.credential
        self.note_refusal(request, exc, credential)
        return self.respond_error(request, exc)


class Queries(PeerView):
    """`/internal/queries`"""

    async def get(self, request: web.Request) -> web.Response:
        """Answer a query from the rows of this worker, or say that they are not here."""
        await self.authenticated(request)
        try:
            query = parse_query(request.query.get("q", ""))
        except msgspec.DecodeError:
            raise ApiError(WebCode.VALIDATION_ERROR, "no query is understood") from None
        found = self.context.owners.read_locally(query)
        return peer_response(found)


class CarryOut(PeerView):
    """`/internal/commands`"""

    async def post(self, request: web.Request) -> web.Response:
        """Carry out what a client asked another worker for, or say that it is not for here."""
        call = await self.authenticated(request)
        try:
            asked = parse_asked(call.body)
        except msgspec.DecodeError:
            raise ApiError(WebCode.VALIDATION_ERROR, "no command is understood") from None
        require_origin(asked, call.operator)
        answered = await self.context.commands.carry_out_here(asked)
        return peer_response(answered)


def require_origin(asked: CommandRequest, operator: str | None) -> None:
    """Raise CallRefused (FORBIDDEN) unless the caller may give this command and its origin.

    `operator` is the one that the caller has verified; without one it may give clients' commands.
    """
    origin = CLIENTS if operator is None else OPERATORS + operator
    if asked.origin != origin or asked.is_operators != (operator is not None):
        raise CallRefused(
            Credential.ORIGIN, WebCode.FORBIDDEN, "this call may not have that command or origin"
        )
