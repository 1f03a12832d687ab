"""`/metrics`, and the measurements and traces of every request."""

from time import perf_counter

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client.exposition import choose_encoder

from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.observability.tracing.spans import Tracing
from billing_stream.web.envelope import route_of
from billing_stream.web.operation import ANYONE, INTERNAL, Call, operation

METRICS_PATH = "/metrics"
# A client can send any word.
METHODS = frozenset(hdrs.METH_ALL)


@operation("GET", METRICS_PATH, ANYONE, listeners=INTERNAL, limited=False)
async def get_metrics(call: Call[None]) -> web.Response:
    """All metrics of this worker, in the format that is asked for.

    Prometheus reads them. They name no merchant, and need no token.
    """
    encode, content_type = choose_encoder(call.request.headers.get(hdrs.ACCEPT, ""))
    body = encode(call.context.metrics.registry)
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})


def measuring_middleware(metrics: WorkerMetrics) -> Middleware:
    """Count and time each request, with any answer: outside of all other middlewares."""

    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = perf_counter()
        # Whoever is gone before the answer gets none: as nginx has it.
        code = 499
        metrics.http_in_progress.inc()
        try:
            response = await handler(request)
            code = response.status
            return response
        finally:
            metrics.http_in_progress.dec()
            method, route = _method(request), route_of(request)
            metrics.http_requests.labels(method, route, str(code)).inc()
            metrics.http_seconds.labels(method, route).observe(perf_counter() - began)

    return measure


def tracing_middleware(tracing: Tracing, untraced: frozenset[str]) -> Middleware:
    """A span for each request but those that are only about this process."""

    @web.middleware
    async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.rstrip("/") in untraced:
            return await handler(request)
        with tracing.serving(_method(request), route_of(request), request.headers) as answered:
            response = await handler(request)
            answered(response.status)
            return response

    return trace


def _method(request: web.Request) -> str:
    return request.method if request.method in METHODS else "OTHER"
