"""Options that every Kafka client is made with: servers and security."""

from typing import Any

from billing_stream.config.settings import Settings


def client_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for the aiokafka producer, consumer and admin client."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_tls:
        options["ssl_context"] = settings.kafka_ssl_context()
    if settings.kafka_sasl and settings.kafka_sasl_password is not None:
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password.get_secret_value()
    return options
