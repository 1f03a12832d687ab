"""`/metrics`, and what is measured of every request."""

from time import perf_counter

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client.exposition import choose_encoder

from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.web.views import ApiView, route_of

METRICS_PATH = "/metrics"
# A client can send any word.
METHODS = frozenset(hdrs.METH_ALL)


class Metrics(ApiView):
    """`/metrics`: what Prometheus reads. It names nobody, and needs no token."""

    async def get(self, request: web.Request) -> web.Response:
        """All metrics of this worker, in the format that is asked for."""
        encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
        body = encode(self.context.metrics.registry)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})


def measuring_middleware(metrics: WorkerMetrics) -> Middleware:
    """Count and time each request, whoever answers it: outside of all other middlewares."""

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
            method = request.method if request.method in METHODS else "OTHER"
            route = route_of(request)
            metrics.http_requests.labels(method, route, str(code)).inc()
            metrics.http_seconds.labels(method, route).observe(perf_counter() - began)

    return measure
