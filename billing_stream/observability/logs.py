"""Logging of a process: one form for its own lines and those of the libraries.

`log_redaction` takes out what no log may contain, and `RepeatFilter` holds back what repeats.
"""

import logging
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from billing_stream.config.file_modes import warnings_of
from billing_stream.config.log_settings import LogFormat
from billing_stream.config.settings import Settings
from billing_stream.observability.log_redaction import Scrubber

logger = logging.getLogger(__name__)

SUPPRESSED = "suppressed"
AUDIT_LOGGER = "billing_stream.audit"
PLACES_MAX = 1_000

QUIET = (
    "faust",
    "mode",
    "aiokafka",
    "aiohttp",
    "alembic",
    "asyncio",
    # They would log whole addresses.
    "httpx",
    "httpcore",
    # Where mode logs the start and stop of services that we subclass.
    "billing_stream.faust_adapter.recovery",
    "billing_stream.faust_adapter.transport",
    "billing_stream.faust_adapter.consumer_client",
    "billing_stream.faust_adapter.table_facade",
)
FIELDS = (
    *("partition", "correlation_id", "request_id", "route", "status", "count"),
    *("action", "operator", SUPPRESSED),
)
"""What a line can have in addition to timestamp, level, logger and event."""


# What each client and timer makes of a broker that is away: `kafka.silent_brokers` and
# `kafka.kafka_absence` report the cause, once.
CONSEQUENCES = (
    "Unable connect to node with id",
    "Unable to update metadata from",
    "Marking the coordinator dead",
    "Timer commit is overlapping",
)
AWAY_ERRORS = ("NodeNotReadyError", "KafkaConnectionError")


def _matters(record: logging.LogRecord) -> bool:
    """The group's offsets are for display: a failure to commit them is not an error."""
    return not str(record.msg).startswith("OffsetCommit failed")


def _is_a_cause(record: logging.LogRecord) -> bool:
    """Whether a line of the Kafka client or Faust is more than a consequence of a broker away."""
    if not record.name.startswith(("aiokafka", "mode.timers")):
        return True
    text = record.getMessage()
    return not text.startswith(CONSEQUENCES) and not any(name in text for name in AWAY_ERRORS)


def _loud(_: Any, __: str, event: EventDict) -> EventDict:
    event["level"] = str(event.get("level", "")).upper()
    return event


def formatter(form: LogFormat, *, colours: bool, secrets: Sequence[str]) -> logging.Formatter:
    """Writes any record of `logging` in the form; colours are for a terminal only."""
    last: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        Scrubber(secrets),
    ]
    if form is LogFormat.JSON:
        last.append(structlog.processors.JSONRenderer(ensure_ascii=False))
    else:
        last += [_loud, _console(colours)]
    return structlog.stdlib.ProcessorFormatter(
        processors=last,
        foreign_pre_chain=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            # What the task is about: set by the lanes and by the web server, for all below them.
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ExtraAdder(FIELDS),
        ],
        use_get_message=True,
    )


def _console(colours: bool) -> Processor:
    styles = structlog.dev.ConsoleRenderer.get_default_level_styles(colours)
    loud = {level.upper(): style for level, style in styles.items()}
    return structlog.dev.ConsoleRenderer(colors=colours, level_styles=loud, pad_event_to=0)


def set_up_logging(settings: Settings) -> None:
    """Own lines at the set level; the libraries' debug records cost time even unread."""
    stream = sys.stderr
    handler = logging.StreamHandler(stream)
    colours = stream.isatty() and not os.environ.get("NO_COLOR")
    handler.setFormatter(
        formatter(settings.log_format, colours=colours, secrets=settings.secret_values())
    )
    handler.addFilter(_is_a_cause)
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_of_thread
    for ours in ("billing_stream",):
        logging.getLogger(ours).setLevel(settings.log_level)
    # Whatever level is set: who acted is always logged.
    logging.getLogger(AUDIT_LOGGER).setLevel(logging.INFO)
    for theirs in QUIET:
        logging.getLogger(theirs).setLevel(logging.WARNING)
    for warning in warnings_of(settings):
        logger.warning(warning)
    coordinator = logging.getLogger("aiokafka.consumer.group_coordinator")
    coordinator.addFilter(_matters)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """What ends the process is a line of the log, too; Ctrl-C is not an error."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logging.getLogger("billing_stream").critical(
        "the process ends: nothing caught this", exc_info=(kind, error, traceback)
    )


def _log_uncaught_of_thread(found: threading.ExceptHookArgs) -> None:
    """The same for a thread, which ends alone. Its traceback may have a secret in it, too."""
    if found.exc_value is not None:
        error = (found.exc_type, found.exc_value, found.exc_traceback)
        logging.getLogger("billing_stream").critical(
            "a thread ends: nothing caught this", exc_info=error
        )


class RepeatFilter(logging.Filter):
    """Lets a message through once in some seconds; the next one says how many it stands for.

    Of the Kafka client, all texts of one place in its code are one message: while a broker is
    away it says the same of every node, hundreds of times a second. Of billing, the same text is.
    Critical messages are never held back, nor is any act of an operator.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._reported: OrderedDict[tuple[str, int, str], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; `suppressed`: how many of its kind were not."""
        if record.levelno >= logging.CRITICAL or record.name == AUDIT_LOGGER:
            return True
        text = "" if record.name.startswith("aiokafka") else record.getMessage()
        origin = (record.pathname, record.lineno, text)
        reported, kept_back = self._reported.pop(origin, (record.created - self._seconds, 0))
        if record.created - reported < self._seconds:
            self._reported[origin] = (reported, kept_back + 1)
            return False
        self._reported[origin] = (record.created, 0)
        if len(self._reported) > PLACES_MAX:
            self._reported.popitem(last=False)
        if kept_back:
            setattr(record, SUPPRESSED, kept_back)
        return True
