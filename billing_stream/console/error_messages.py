"""What a command says when it ends with an error: one clear message, not a traceback."""

import asyncio

from aiokafka.errors import UnknownTopicOrPartitionError

from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.console.quiet import quiet_logs
from billing_stream.errors import BillingError, SettingsError
from billing_stream.kafka.connection_diagnostics import diagnose_connections, is_connection_failure
from billing_stream.kafka.error_classes import ErrorClass, authorization_error, class_of

_WHERE = (
    "KAFKA_BOOTSTRAP_SERVERS says where it is looked for; `billing-stream dev up` starts one here"
)


def error_message(error: Exception) -> str | None:
    """The message for people, with why Kafka does not answer; None for a bug of the program."""
    refused = authorization_error(error)
    if refused is not None:
        return f"{error}\n{refused}" if isinstance(error, BillingError) else refused
    if is_connection_failure(error):
        said = str(error) if isinstance(error, BillingError) else "no Kafka broker answers"
        return "\n".join([f"{said}:", *(f"  {line}" for line in _trouble())])
    if isinstance(error, BillingError):
        return str(error)
    if isinstance(error, UnknownTopicOrPartitionError):
        return "a topic is not there: `billing-stream topics check` says which"
    if class_of(error) is ErrorClass.RETRIABLE:
        return f"Kafka does not answer in time ({error}): `billing-stream doctor` looks at it"
    return None


def _trouble() -> list[str]:
    try:
        settings = BackgroundSettings.from_env()
    except SettingsError:
        return []
    # The client says the same, in its own words.
    quiet_logs("aiokafka")
    trouble = asyncio.run(diagnose_connections(settings))
    return [*trouble, _WHERE] if trouble else ["now it answers: try again"]
