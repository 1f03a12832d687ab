"""Between our own workers: the owner's side of a forwarded request. Never forwards again."""

import msgspec
from aiohttp import web

from billing_stream.web.commands import (
    CLIENTS,
    COMMANDS_PATH,
    OPERATORS,
    CommandRequest,
    parse_asked,
)
from billing_stream.web.context import Context
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.limits import read_body
from billing_stream.web.operation import INTERNAL, Access, operation
from billing_stream.web.operation import Call as Request
from billing_stream.web.owners import QUERIES_PATH, parse_query
from billing_stream.web.peer_tokens import Call
from billing_stream.web.refusals import Credential


async def _call_of(context: Context, request: web.Request) -> Call:
    address, body = context.peers.own_url, await read_body(request)
    call = Call(address, request.method, request.raw_path, body)
    return context.peer_calls.verify(request.headers, call)


# A worker, with a token for this request alone.
WORKER = Access(
    verify=_call_of,
    codes=(WebCode.UNAUTHORIZED,),
    credential=Credential.WORKER_TOKEN,
    signs_body=True,
)


def peer_response(found: object) -> web.Response:
    """The answer of one worker to another."""
    return web.Response(body=msgspec.json.encode(found), content_type="application/json")


@operation("GET", QUERIES_PATH, WORKER, listeners=INTERNAL, codes=(WebCode.VALIDATION_ERROR,))
async def get_rows(call: Request[Call]) -> web.Response:
    """Answer a query from the rows of this worker, or say that they are not here."""
    try:
        query = parse_query(call.request.query.get("q", ""))
    except msgspec.DecodeError:
        raise ApiError(WebCode.VALIDATION_ERROR, "no query is understood") from None
    return peer_response(call.context.owners.read_locally(query))


@operation(
    "POST",
    COMMANDS_PATH,
    WORKER,
    listeners=INTERNAL,
    codes=(WebCode.FORBIDDEN, WebCode.VALIDATION_ERROR),
)
async def carry_out(call: Request[Call]) -> web.Response:
    """Carry out what a client asked another worker for, or say that it is not for here."""
    try:
        asked = parse_asked(call.who.body)
    except msgspec.DecodeError:
        raise ApiError(WebCode.VALIDATION_ERROR, "no command is understood") from None
    require_origin(asked, call.who.operator)
    return peer_response(await call.context.commands.carry_out_here(asked))


OPERATIONS = (get_rows, carry_out)


def require_origin(asked: CommandRequest, operator: str | None) -> None:
    """Raise ApiError (FORBIDDEN) unless the caller may give this command and its origin.

    `operator` is the one that the caller has verified; without one it may give clients' commands.
    """
    origin = CLIENTS if operator is None else OPERATORS + operator
    if asked.origin != origin or asked.is_operators != (operator is not None):
        raise ApiError(
            WebCode.FORBIDDEN,
            "this call may not have that command or origin",
            credential=Credential.ORIGIN,
        )
