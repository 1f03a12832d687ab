"""Spans of OpenTelemetry. Its provider is private: nothing global is set."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Thread

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from billing_stream import __version__
from billing_stream.observability.tracing.spans import TRACEPARENT, Attributes

SERVER_FAULT = 500
CLOSE_SECONDS_MAX = 3.0


class OtelTransaction:
    """See `spans.TransactionSpan`."""

    def __init__(
        self, tracer: Tracer, propagator: TraceContextTextMapPropagator, partition: int, parent: str
    ) -> None:
        self._tracer = tracer
        self._propagator = propagator
        self._span = tracer.start_span(
            "transaction",
            context=_context(propagator, parent),
            attributes={"messaging.destination.partition.id": str(partition)},
        )

    @contextmanager
    def deciding(self, name: str, parent: str, attributes: Attributes) -> Iterator[str]:
        span = self._tracer.start_span(
            name,
            context=_context(self._propagator, parent),
            kind=SpanKind.CONSUMER,
            attributes=dict(attributes),
            links=[Link(self._span.get_span_context())],
        )
        # Commands of several traces are in one transaction: each finds the other.
        self._span.add_link(span.get_span_context())
        try:
            yield _traceparent(self._propagator, span)
        finally:
            span.end()

    def committed(self) -> None:
        self._span.end()


class OtelTracing:
    """See `spans.Tracing`."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("billing_stream", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def serving(
        self, method: str, route: str, headers: Mapping[str, str]
    ) -> Iterator[Callable[[int], None]]:
        with self._tracer.start_as_current_span(
            f"{method} {route}",
            context=_context(self._propagator, headers.get(TRACEPARENT, "")),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route},
            # The text of an error may be anybody's data.
            record_exception=False,
        ) as span:

            def answered(status: int) -> None:
                span.set_attribute("http.response.status_code", status)
                if status >= SERVER_FAULT:
                    span.set_status(Status(StatusCode.ERROR))

            yield answered

    @contextmanager
    def sending(self, name: str, attributes: Attributes) -> Iterator[str]:
        with self._tracer.start_as_current_span(
            name, kind=SpanKind.PRODUCER, attributes=dict(attributes), record_exception=False
        ) as span:
            yield _traceparent(self._propagator, span)

    def passed_on(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    def transaction(self, partition: int, parent: str) -> OtelTransaction:
        return OtelTransaction(self._tracer, self._propagator, partition, parent)

    def close(self) -> None:
        # It asks a collector that is away again and again, and must not hold up the end.
        closing = Thread(target=self._provider.shutdown, name="close-traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS_MAX)


def _context(propagator: TraceContextTextMapPropagator, traceparent: str) -> Context:
    """A context that continues this traceparent, or a new one; never the present one."""
    return propagator.extract({TRACEPARENT: traceparent}, context=Context())


def _traceparent(propagator: TraceContextTextMapPropagator, span: Span) -> str:
    carrier: dict[str, str] = {}
    propagator.inject(carrier, context=trace.set_span_in_context(span, Context()))
    return carrier[TRACEPARENT]
