"""A span for each request, when requests are traced."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from billing_stream.observability.tracing.spans import Tracing
from billing_stream.web.measured import METHODS
from billing_stream.web.views import route_of


def tracing_middleware(tracing: Tracing, untraced: frozenset[str]) -> Middleware:
    """Trace every request but those that are only about this process."""

    @web.middleware
    async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.rstrip("/") in untraced:
            return await handler(request)
        method = request.method if request.method in METHODS else "OTHER"
        with tracing.serving(method, route_of(request), request.headers) as answered:
            response = await handler(request)
            answered(response.status)
            return response

    return trace
