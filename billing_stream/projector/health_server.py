"""Metrics and health of the projector, and of `billing-stream deliver`, over HTTP."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from billing_stream.plain_text import shown
from billing_stream.projector.projector_errors import ProjectionError
from billing_stream.web.limits import Connections


@asynccontextmanager
async def serving(
    host: str,
    port: int,
    connections: Connections,
    registry: CollectorRegistry,
    problems: Callable[[], Sequence[str]],
    warnings: Callable[[], Sequence[str]],
    setting: str = "BILLING_PROJECTOR_PORT",
) -> AsyncIterator[None]:
    """Serve /metrics, /health and /ready, which is 503 while there are problems.

    Raises ProjectionError when the port is taken; `setting` is the variable that gave it.
    """

    async def metrics(request: web.Request) -> web.Response:
        content = generate_latest(registry)
        return web.Response(body=content, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readiness(request: web.Request) -> web.Response:
        found = [shown(problem) for problem in problems()]
        body = {
            "status": "not ready" if found else "ready",
            "problems": found,
            "warnings": [shown(warning) for warning in warnings()],
        }
        return web.json_response(body, status=503 if found else 200)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/health", health)
    app.router.add_get("/ready", readiness)
    runner = connections.runner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ProjectionError(
                f"port {port} cannot be listened on ({error.strerror}): set {setting}"
            ) from None
        yield
    finally:
        await runner.cleanup()
