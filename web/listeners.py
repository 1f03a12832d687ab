"""Which path is served on which listener; on another it is not found (404)."""

from collections.abc import Mapping
from types import MappingProxyType

from aiohttp import web
from aiohttp.typedefs import Handler

from billing_stream.config.listener_settings import Listener
from billing_stream.web.connections import served_here

_PUBLIC = frozenset({Listener.PUBLIC})
_INTERNAL = frozenset({Listener.INTERNAL})

# By the first part of a path; others are served nowhere.
SERVED_ON: Mapping[str, frozenset[Listener]] = MappingProxyType(
    {
        "api": _PUBLIC,
        "webhooks": _PUBLIC,
        "docs": _PUBLIC,
        "openapi.json": _PUBLIC,
        "asyncapi.json": _PUBLIC,
        # The checkout page of development.
        "dev": _PUBLIC,
        "ops": frozenset({Listener.OPS}),
        "internal": _INTERNAL,
        "metrics": _INTERNAL,
        # Whoever sends requests to a listener asks that listener whether it may.
        "health": frozenset(Listener),
        "ready": frozenset(Listener),
    }
)


@web.middleware
async def listener_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 404 where the path belongs to another listener."""
    first = request.path.strip("/").partition("/")[0]
    if served_here(request).isdisjoint(SERVED_ON.get(first, ())):
        raise web.HTTPNotFound
    return await handler(request)
