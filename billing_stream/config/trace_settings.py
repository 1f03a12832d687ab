"""Whether a worker sends traces to a collector."""

from enum import StrEnum

from pydantic_settings import BaseSettings

from billing_stream.config.setting import setting


class Traces(StrEnum):
    """Where traces go. With `otlp`, OTEL_EXPORTER_OTLP_ENDPOINT and its kin say where exactly."""

    OFF = "off"
    OTLP = "otlp"


class TraceSettings(BaseSettings):
    """The traces of a worker."""

    traces: Traces = setting(
        "BILLING_TRACES",
        "`off` or `otlp`: traces to OpenTelemetry (docs/traces.md)",
        Traces.OFF,
    )
