"""Options that every Kafka client is made with: servers and security."""

import ssl
from typing import Any

from aiokafka.helpers import create_ssl_context

from billing_stream.settings import Settings


def client_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for the aiokafka producer, consumer and admin client."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
    }
    if "SSL" in settings.kafka_security_protocol.split("_"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.kafka_sasl_mechanism is not None and settings.kafka_sasl_password is not None:
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password.get_secret_value()
    return options


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    cafile = settings.kafka_ssl_cafile
    context: ssl.SSLContext = create_ssl_context(cafile=str(cafile) if cafile else None)
    return context
