"""The end of the process, when what was written can no longer be known."""

import logging
import os
import sys

from billing_stream.engine.log import Fenced
from billing_stream.errors import EXIT_FATAL, GroupRefused, KafkaNotReady, NewerState, SettingsError
from billing_stream.kafka.error_classes import ErrorClass, authorization_error, class_of

EXIT_FENCED = 75

logger = logging.getLogger(__name__)


def exit_code_of(error: BaseException | None) -> int:
    """The exit code of a worker that this error ends. Of several at once the first counts."""
    error = _first(error)
    if isinstance(error, GroupRefused | KafkaNotReady | NewerState | SettingsError):
        return error.exit_code
    if isinstance(error, Fenced) or class_of(error) is ErrorClass.FENCED:
        return EXIT_FENCED
    return EXIT_FATAL


def die(why: str, error: BaseException | None = None) -> None:
    """Log one line with the cause and end at once; the log has the truth, memory may not.

    No clean-up: a graceful stop would acknowledge what was never committed.
    """
    error = _first(error)
    code = exit_code_of(error)
    if isinstance(error, GroupRefused | KafkaNotReady | NewerState | SettingsError):
        why, error = str(error), None
    refused = authorization_error(error)
    if refused is not None:
        why, error = f"{why}: {refused}", None
    logger.critical("stopping hard: %s", why, exc_info=error)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


def _first(error: BaseException | None) -> BaseException | None:
    return error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
