"""A collector of OpenTelemetry: takes OTLP over HTTP, and keeps every span."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Got(Struct):
    """A span as it was received; ids are hex."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    links: list[str]
    attributes: dict[str, str]
    service: str


class Collector:
    """All spans that were sent to `endpoint`."""

    def __init__(self) -> None:
        self.spans: list[Got] = []
        self.endpoint = ""

    async def take(self, request: web.Request) -> web.Response:
        """`POST /v1/traces`"""
        assert request.content_type == "application/x-protobuf"
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        sent = ExportTraceServiceRequest.FromString(body)
        for resource in sent.resource_spans:
            who = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [got(span, who["service.name"]) for span in scope.spans]
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )

    async def until(self, wanted: Callable[[Got], bool], seconds: float = 30.0) -> Got:
        """The first span of which this holds, when it has come."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for span in self.spans:
                if wanted(span):
                    return span
            await asyncio.sleep(0.05)
        raise AssertionError(f"no such span came: {[span.name for span in self.spans]}")


def got(span: Span, service: str) -> Got:
    """The span without protobuf."""
    attributes = {a.key: a.value.string_value or str(a.value.int_value) for a in span.attributes}
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    links = [f"{link.trace_id.hex()}-{link.span_id.hex()}" for link in span.links]
    return Got(span.name, span.kind, *ids, links, attributes, service)


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector that runs."""
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    server = TestServer(app)
    await server.start_server()
    collector.endpoint = str(server.make_url("")).rstrip("/")
    try:
        yield collector
    finally:
        await server.close()
