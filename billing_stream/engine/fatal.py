"""The end of the process, when what was written can no longer be known."""

import logging
import os
import sys

from billing_stream.errors import EXIT_FATAL as EXIT_FATAL
from billing_stream.kafka_refusals import refusal

EXIT_FENCED = 75

logger = logging.getLogger(__name__)


def die(why: str, error: BaseException | None = None, code: int = EXIT_FATAL) -> None:
    """Log one line with the cause and end at once; the log has the truth, memory may not.

    No clean-up: a graceful stop would acknowledge what was never committed.
    """
    refused = refusal(error)
    if refused is not None:
        why, error = f"{why}: {refused}", None
    logger.critical("stopping hard: %s", why, exc_info=error)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)
