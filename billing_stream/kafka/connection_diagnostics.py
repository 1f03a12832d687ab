"""Why the brokers cannot be reached, or refuse us: in words that say what to do next."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import errors as kafka
from aiokafka.conn import create_conn

from billing_stream.config.settings import Settings
from billing_stream.kafka.client_options import client_options

TRY_SECONDS = 5.0


def is_connection_failure(error: BaseException | None) -> bool:
    """Whether the error, or what it came from, is that no broker could be reached."""
    while error is not None:
        if isinstance(error, kafka.KafkaConnectionError):
            return True
        error = error.__cause__ or error.__context__
    return False


async def answering(options: Mapping[str, Any]) -> dict[str, Any]:
    """These client options, with a broker that answers as the only one to start from.

    A client tries them in random order, and waits for each that accepts and does not answer as
    long as for any request. It learns of the others from the first. Raises KafkaConnectionError
    when none answers within 5 seconds.
    """
    servers = options["bootstrap_servers"]
    names: list[str] = servers.split(",") if isinstance(servers, str) else list(servers)
    first = await _first_of(names, options)
    if first is None:
        raise kafka.KafkaConnectionError(f"none of {', '.join(names)} answers")
    return {**options, "bootstrap_servers": [first]}


async def _first_of(servers: Iterable[str], options: Mapping[str, Any]) -> str | None:
    tries = {asyncio.create_task(_connected(server, options)): server for server in servers}
    waiting = set(tries)
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                if one.exception() is None:
                    return tries[one]
        return None
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*tries, return_exceptions=True)


async def _connected(server: str, options: Mapping[str, Any]) -> None:
    (await connect(server, options)).close()


async def connect(server: str, options: Mapping[str, Any]) -> Any:
    """A connection to the broker at host:port, by the security of these client options.

    Raises the error of the connection; TimeoutError after 5 seconds. An answer may take as long.
    """
    security = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    host, _, port = server.rpartition(":")
    async with asyncio.timeout(TRY_SECONDS):
        return await create_conn(
            host, int(port), request_timeout_ms=int(TRY_SECONDS * 1000), **security
        )


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
        return error.strerror or type(error).__name__
    except kafka.KafkaError as error:
        return type(error).__name__
    connection.close()
    return None


_PORT = "is it the listener for KAFKA_SECURITY_PROTOCOL, its port in KAFKA_BOOTSTRAP_SERVERS?"


def _closed(settings: Settings) -> str:
    if not settings.kafka_tls:
        return _PORT
    if settings.kafka_ssl_certfile is None:
        return "perhaps it asks for a certificate of ours (KAFKA_SSL_CERTFILE)"
    return "perhaps it does not trust our certificate (KAFKA_SSL_CERTFILE)"


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error or "it was closed")
