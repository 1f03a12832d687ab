"""The security of the connections that Faust opens itself, in Faust's own terms."""

from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from billing_stream.config.settings import Settings


def credentials(settings: Settings) -> CredentialsT | None:
    """What `client_options` says of security, for Faust's own producer; None: nothing."""
    context = settings.kafka_ssl_context() if settings.kafka_tls else None
    if settings.kafka_sasl and settings.kafka_sasl_password is not None:
        return SASLCredentials(
            username=settings.kafka_sasl_username,
            password=settings.kafka_sasl_password.get_secret_value(),
            ssl_context=context,
            mechanism=settings.kafka_sasl_mechanism,
        )
    return SSLCredentials(context) if context is not None else None
