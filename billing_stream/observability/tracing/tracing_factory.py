"""Tracing of the settings."""

import importlib
import socket
from typing import Any

from billing_stream import __version__
from billing_stream.config.settings import Settings
from billing_stream.config.trace_settings import Traces
from billing_stream.errors import SettingsError
from billing_stream.observability.tracing.spans import Tracing


def new_tracing(settings: Settings) -> Tracing | None:
    """None when it is off. Raises SettingsError when the libraries for it are not installed.

    Where spans go, which are kept, and how many wait, is for OpenTelemetry's own variables.
    """
    if settings.traces is Traces.OFF:
        return None
    try:
        otel = importlib.import_module("billing_stream.observability.tracing.otel")
        exporter = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        batches = importlib.import_module("opentelemetry.sdk.trace.export")
        resources = importlib.import_module("opentelemetry.sdk.resources")
    except ImportError as error:
        raise SettingsError(
            f"BILLING_TRACES=otlp needs what `pip install 'billing-stream[otel]'` installs: {error}"
        ) from error
    provider: Any = sdk.TracerProvider(
        resource=resources.Resource.create(_who(settings)), shutdown_on_exit=False
    )
    # A thread of its own sends; when it cannot keep up, spans are dropped and nobody waits.
    provider.add_span_processor(batches.BatchSpanProcessor(exporter.OTLPSpanExporter()))
    made: Tracing = otel.OtelTracing(provider)
    return made


def _who(settings: Settings) -> dict[str, str]:
    # OTEL_SERVICE_NAME goes before the first.
    return {
        "service.name": settings.app_id,
        "service.version": __version__,
        "service.instance.id": f"{socket.gethostname()}:{settings.api_external_port}",
        "deployment.environment.name": settings.app_env.value,
    }
