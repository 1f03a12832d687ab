"""Why the brokers cannot be reached, or refuse us: in words that say what to do next."""

import asyncio
import ssl
from collections.abc import Iterable

from aiokafka import errors as kafka

from billing_stream.config.settings import Settings
from billing_stream.kafka.answering_broker import TRY_SECONDS, connect, failure_text
from billing_stream.kafka.client_options import client_options


def is_connection_failure(error: BaseException | None) -> bool:
    """Whether the error, or what it came from, is that no broker could be reached."""
    while error is not None:
        if isinstance(error, kafka.KafkaConnectionError):
            return True
        error = error.__cause__ or error.__context__
    return False


async def diagnose_connections(settings: Settings) -> list[str]:
    """Connects to each broker: a line for each failure, without secrets."""
    found = await troubles(settings, settings.bootstrap_servers)
    return [f"{server}: {why}" for server, why in found.items() if why]


async def troubles(settings: Settings, servers: Iterable[str]) -> dict[str, str | None]:
    """Of each server, host:port: why it cannot be reached, or None when it can."""
    names = list(servers)
    found = await asyncio.gather(*(_trouble(settings, server) for server in names))
    return dict(zip(names, found, strict=True))


async def _trouble(settings: Settings, server: str) -> str | None:
    try:
        connection = await connect(server, client_options(settings))
    except ssl.SSLCertVerificationError as error:
        return (
            f"its certificate is not trusted ({error.verify_message}): KAFKA_SSL_CAFILE must have "
            "the certificate of who issued it, and the name must be the one we connect to"
        )
    except (ssl.SSLError, ConnectionResetError) as error:
        return f"no TLS came about ({_reason(error)}): {_PORT}"
    except kafka.UnsupportedSaslMechanismError:
        return f"it does not offer KAFKA_SASL_MECHANISM={settings.kafka_sasl_mechanism}"
    except kafka.SaslAuthenticationFailed:
        return "it refuses KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
    except kafka.IllegalSaslStateError:
        return f"it asks for no password there: {_PORT}"
    except TimeoutError:
        return f"no answer within {TRY_SECONDS:g} s: is it there, and {_PORT}"
    except kafka.KafkaConnectionError:
        # The TLS alert that says why can come after the connection was made.
        return f"it closes the connection: {_closed(settings)}"
    except OSError as error:
        return failure_text(error)
    except kafka.KafkaError as error:
        return type(error).__name__
    connection.close()
    return None


_PORT = "is it the listener for KAFKA_SECURITY_PROTOCOL, its port in KAFKA_BOOTSTRAP_SERVERS?"


def _closed(settings: Settings) -> str:
    if not settings.kafka_tls:
        return _PORT
    if settings.kafka_ssl_certfile is None:
        return "perhaps it requires a client certificate (KAFKA_SSL_CERTFILE)"
    return "perhaps it does not trust our certificate (KAFKA_SSL_CERTFILE)"


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error or "it was closed")
