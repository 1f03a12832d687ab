"""One line for each act of an operator: who, what, and the request that it came with.

They are logged at every level that is set, and are never held back as repeats.
"""

import logging
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from billing_stream.config.settings import Settings
from billing_stream.observability.logs import AUDIT_LOGGER, formatter

logger = logging.getLogger(AUDIT_LOGGER)


def audit(action: str, *, operator: str, request_id: str, **about: object) -> None:
    """Log an act. `about` names what it was done to, by ids; no text that anyone wrote."""
    said = "".join(f" {name}={value}" for name, value in about.items())
    fields = {"action": action, "operator": operator, "request_id": request_id}
    logger.info("%s%s", action, said, extra=fields)


@contextmanager
def audited(
    action: str, *, operator: str, request_id: str, **about: object
) -> Iterator[dict[str, object]]:
    """Log an act when it has ended, with the error that ended it, if one did.

    Entries of the dict are logged, too; `outcome` is "done" until one replaces it.
    """
    said: dict[str, object] = {**about, "outcome": "done"}
    try:
        yield said
    except BaseException as error:
        said["outcome"] = getattr(error, "error_code", type(error).__name__)
        raise
    finally:
        audit(action, operator=operator, request_id=request_id, **said)


@contextmanager
def audited_command(
    settings: Settings, action: str, operator: str, **about: object
) -> Iterator[dict[str, object]]:
    """As `audited`, for a command of the terminal: the line goes to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    handler.setFormatter(
        formatter(settings.log_format, colours=colours, secrets=settings.secret_values())
    )
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        run_id = str(uuid.uuid4())
        with audited(action, operator=operator, request_id=run_id, **about) as said:
            yield said
    finally:
        logger.removeHandler(handler)
